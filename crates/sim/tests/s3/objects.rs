//! Objects: their bytes, keys, metadata, conditions and digests.

use crate::face::Answer;
use crate::{code, is, with_bucket};

#[tokio::test]
async fn bytes_come_back() {
    let face = with_bucket().await;
    for size in [0, 1, 512, 513, 4096, 65_536, 200_000, 3_000_000] {
        let body: Vec<u8> = (0..size)
            .map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        let put = face.put("/bucket/k", body.clone()).await;
        assert_eq!(put.status, 200, "{}", put.text());
        assert!(!put.header("x-amz-checksum-crc64nvme").is_empty());
        assert_eq!(put.header("x-amz-checksum-type"), "FULL_OBJECT");
        let got = face.get("/bucket/k").await;
        assert!(got.status == 200 && got.whole && got.body == body, "{size}");
        assert_eq!(got.header("etag"), put.header("etag"));
        assert_eq!(got.header("content-type"), "binary/octet-stream");
        assert_eq!(got.header("x-amz-checksum-crc64nvme"), "", "only when asked for");
        let head = face
            .ask("HEAD", "/bucket/k")
            .header("x-amz-checksum-mode", "ENABLED")
            .send()
            .await;
        assert_eq!(
            (head.status, head.header("content-length")),
            (200, size.to_string().as_str())
        );
        assert_eq!(
            head.header("x-amz-checksum-crc64nvme"),
            put.header("x-amz-checksum-crc64nvme")
        );
        if size > 100 {
            let (from, to) = (size as usize / 3, size as usize / 2);
            let part = face
                .ask("GET", "/bucket/k")
                .header("range", &format!("bytes={from}-{to}"))
                .send()
                .await;
            assert_eq!((part.status, &part.body[..]), (206, &body[from..=to]));
            assert_eq!(part.header("content-range"), format!("bytes {from}-{to}/{size}"));
            let end = face
                .ask("GET", "/bucket/k")
                .header("range", "bytes=-7")
                .send()
                .await;
            assert_eq!((end.status, &end.body[..]), (206, &body[size as usize - 7..]));
        }
        let past = face
            .ask("GET", "/bucket/k")
            .header("range", &format!("bytes={size}-"))
            .send()
            .await;
        assert_eq!(
            (code(&past), past.element("ActualObjectSize")),
            (is(416, "InvalidRange"), size.to_string())
        );
    }
    let missing = face.get("/bucket/absent").await;
    assert_eq!(
        (code(&missing), missing.element("Key")),
        (is(404, "NoSuchKey"), "absent".into())
    );
    assert_eq!(missing.element("RequestId"), missing.header("x-amz-request-id"));
    assert_eq!(
        (missing.element("Resource"), missing.element("HostId")),
        ("/bucket/absent".into(), missing.header("x-amz-id-2").into())
    );
    let head = face.ask("HEAD", "/bucket/absent").send().await;
    assert!(head.status == 404 && head.body.is_empty());
}

#[tokio::test]
async fn keys_are_not_paths() {
    let face = with_bucket().await;
    let keys = [
        "a",
        "a/",
        "a/b",
        "../x",
        "//",
        "%2F",
        "+",
        "%20",
        "a%2Fb%2F..%2Fc",
        "%F0%9F%AA%A8",
        "%01%00%0D%0A",
        "%3F%23",
        ".",
        "%25",
    ];
    for key in keys {
        assert_eq!(
            face.put(&format!("/bucket/{key}"), key).await.status,
            200,
            "{key}"
        );
    }
    for key in keys {
        assert_eq!(face.get(&format!("/bucket/{key}")).await.text(), key);
    }
    let listed = face.get("/bucket?list-type=2&encoding-type=url").await;
    let mut expected: Vec<String> = keys
        .iter()
        .map(|k| match *k {
            "+" => "%2B".to_owned(),
            k => k.replace("%2F", "/"),
        })
        .collect();
    let mut listed = listed.elements("Key");
    expected.sort();
    listed.sort();
    assert_eq!(listed, expected);
    let raw = face.get("/bucket?prefix=%01").await;
    assert_eq!(raw.element("Key"), "&#x1;&#x0;&#xd;\n");

    // Virtual-host style finds the same.
    let host = face
        .ask("GET", "/a/b")
        .header("host", "bucket.s3.test:9000")
        .send()
        .await;
    assert_eq!(host.text(), "a/b");
    for bad in ["/bucket/%ff", "/bucket/%zz"] {
        assert_eq!(
            code(&face.ask("GET", bad).send_as_it_is().await),
            is(400, "InvalidURI")
        );
    }
    assert_eq!(
        code(&face.put(&format!("/bucket/{}", "k".repeat(1025)), "").await),
        is(400, "KeyTooLongError")
    );
}

#[tokio::test]
async fn what_is_said_of_an_object_is_kept() {
    let face = with_bucket().await;
    let put = face
        .ask("PUT", "/bucket/k")
        .header("content-type", "text/plain")
        .header("content-encoding", "aws-chunked,gzip")
        .header("cache-control", "no-store")
        .header("x-amz-meta-color", "blue")
        .header("x-amz-meta-empty", "")
        .body("x")
        .send()
        .await;
    assert_eq!(put.status, 200);
    let got = face.get("/bucket/k?response-cache-control=max-age%3D1").await;
    assert_eq!(
        (got.header("content-type"), got.header("content-encoding")),
        ("text/plain", "gzip")
    );
    assert_eq!(
        (
            got.header("x-amz-meta-color"),
            got.headers.get("x-amz-meta-empty")
        ),
        ("blue", Some(&String::new()))
    );
    assert_eq!(
        (got.header("cache-control"), got.header("accept-ranges")),
        ("max-age=1", "bytes")
    );
    let large = face
        .ask("PUT", "/bucket/k")
        .header("x-amz-meta-a", &"v".repeat(2048))
        .send()
        .await;
    assert_eq!(code(&large), is(400, "MetadataTooLarge"));
}

#[tokio::test]
async fn conditions_hold() {
    let face = with_bucket().await;
    let put = |name: &'static str, value: String| {
        face.ask("PUT", "/bucket/k").header(name, &value).body("x").send()
    };
    let tag = |a: &Answer| a.header("etag").to_owned();
    assert_eq!(code(&put("if-match", "*".into()).await), is(404, "NoSuchKey"));
    let first = put("if-none-match", "*".into()).await;
    assert_eq!(first.status, 200);
    assert_eq!(
        code(&put("if-none-match", "*".into()).await),
        is(412, "PreconditionFailed")
    );
    assert_eq!(
        code(&put("if-none-match", tag(&first)).await),
        is(412, "PreconditionFailed")
    );
    assert_eq!(put("if-match", tag(&first)).await.status, 200);
    assert_eq!(
        code(&put("if-match", format!("\"{}\"", "0".repeat(32))).await),
        is(412, "PreconditionFailed")
    );
    let read = |name: &'static str, value: String| face.ask("GET", "/bucket/k").header(name, &value).send();
    let same = read("if-none-match", tag(&first)).await;
    assert_eq!(
        (same.status, same.header("etag"), same.body.len()),
        (304, tag(&first).as_str(), 0)
    );
    let failed = read("if-match", "\"x\"".into()).await;
    assert_eq!(
        (code(&failed), failed.element("Condition")),
        (is(412, "PreconditionFailed"), "If-Match".into())
    );
    let now = face.get("/bucket/k").await.header("last-modified").to_owned();
    assert_eq!(read("if-modified-since", now.clone()).await.status, 304);
    assert_eq!(read("if-unmodified-since", now).await.status, 200);
}

#[tokio::test]
async fn digests_are_checked() {
    let face = with_bucket().await;
    let put = |name: &'static str, value: &'static str| {
        face.ask("PUT", "/bucket/k")
            .header(name, value)
            .body("123456789")
            .send()
    };
    assert_eq!(put("content-md5", "JfnnlDI7RTiF9RgfG2JNCw==").await.status, 200);
    assert_eq!(
        code(&put("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==").await),
        is(400, "BadDigest")
    );
    assert_eq!(
        code(&put("content-md5", "nonsense").await),
        is(400, "InvalidDigest")
    );
    let crc = put("x-amz-checksum-crc32", "y/Q5Jg==").await;
    assert_eq!(
        (crc.status, crc.header("x-amz-checksum-crc32")),
        (200, "y/Q5Jg==")
    );
    assert_eq!(
        code(&put("x-amz-checksum-crc32", "AAAAAA==").await),
        is(400, "BadDigest")
    );
    assert_eq!(
        code(&put("x-amz-checksum-crc32", "AAAA").await),
        is(400, "BadDigest")
    );
    assert_eq!(
        code(&put("x-amz-sdk-checksum-algorithm", "CRC32").await),
        is(400, "InvalidRequest")
    );
    let endless = face
        .ask("PUT", "/bucket/k")
        .header("transfer-encoding", "chunked")
        .body("0\r\n\r\n")
        .send()
        .await;
    assert_eq!(code(&endless), is(411, "MissingContentLength"));
    let kept = face
        .ask("GET", "/bucket/k")
        .header("x-amz-checksum-mode", "enabled")
        .send()
        .await;
    assert_eq!(
        (kept.header("x-amz-checksum-crc32"), kept.text().as_str()),
        ("y/Q5Jg==", "123456789")
    );
}
