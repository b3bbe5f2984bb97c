//! S3 requests through every role of one process: what a client sees.

mod face;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use face::{Answer, Face, face};

/// Status and code of a refusal.
fn code(answer: &Answer) -> (u16, String) {
    (answer.status, answer.element("Code"))
}

fn is(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

async fn with_bucket() -> Face {
    let face = face().await;
    assert_eq!(face.put("/bucket", "").await.status, 200);
    face
}

#[tokio::test]
async fn buckets_live_and_die() {
    let face = face().await;
    assert_eq!(code(&face.get("/bucket").await), is(404, "NoSuchBucket"));
    let made = face.put("/bucket", "").await;
    assert_eq!((made.status, made.header("location")), (200, "/bucket"));
    assert_eq!(
        face.put("/bucket", "").await.status,
        200,
        "one's own again, in the first region"
    );
    let head = face.ask("HEAD", "/bucket").send().await;
    assert_eq!(
        (head.status, head.header("x-amz-bucket-region")),
        (200, "us-east-1")
    );
    assert!(
        face.get("/bucket?location")
            .await
            .text()
            .ends_with("2006-03-01/\"></LocationConstraint>")
    );
    let listed = face.get("/").await;
    assert_eq!(
        (listed.elements("Name"), listed.element("DisplayName")),
        (vec!["bucket".into()], "root".into())
    );

    // Another account neither sees it nor may take its name.
    assert_eq!(
        face.ask("GET", "/")
            .account(2)
            .send()
            .await
            .elements("Name")
            .len(),
        0
    );
    assert_eq!(
        code(&face.ask("PUT", "/bucket").account(2).send().await),
        is(409, "BucketAlreadyExists")
    );
    assert_eq!(
        code(&face.ask("GET", "/bucket/k").account(2).send().await),
        is(403, "AccessDenied")
    );

    face.put("/bucket/k", "x").await;
    let full = face.ask("DELETE", "/bucket").send().await;
    assert_eq!(
        (code(&full), full.element("BucketName")),
        (is(409, "BucketNotEmpty"), "bucket".into())
    );
    assert_eq!(face.ask("DELETE", "/bucket/k").send().await.status, 204);
    assert_eq!(face.ask("DELETE", "/bucket").send().await.status, 204);
    assert_eq!(
        code(&face.ask("DELETE", "/bucket").send().await),
        is(404, "NoSuchBucket")
    );
    assert_eq!(face.ask("HEAD", "/bucket").send().await.status, 404);
    assert_eq!(
        code(&face.put("/Bucket_", "").await),
        is(400, "InvalidBucketName")
    );
}

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
            "%20" => "+".to_owned(),
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
async fn who_asks() {
    let face = with_bucket().await;
    let anonymous = face.ask("GET", "/bucket/k").send_as_it_is().await;
    assert_eq!(code(&anonymous), is(403, "AccessDenied"));
    let elsewhere = face.ask("GET", "/bucket/k").region("eu-west-1").send().await;
    assert_eq!(
        (code(&elsewhere), elsewhere.element("Region")),
        (is(400, "AuthorizationHeaderMalformed"), "us-east-1".into())
    );
    let operator = face.ask("GET", "/-/health/live").send_as_it_is().await;
    assert_eq!(
        (operator.status, operator.text()),
        (200, "operator /-/health/live".into())
    );
    assert!(!operator.header("x-amz-request-id").is_empty());
    // Who may not ask is not told what there is.
    let unknown = face.ask("PUT", "/bucket?frobnicate").send_as_it_is().await;
    assert_eq!(code(&unknown), is(403, "AccessDenied"));
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
        is(501, "NotImplemented")
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
        is(400, "InvalidRequest")
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

#[tokio::test]
async fn listings() {
    let face = with_bucket().await;
    for key in ["a", "b/1", "b/2", "c d", "e/1"] {
        assert_eq!(
            face.put(&format!("/bucket/{}", key.replace(' ', "%20")), "x")
                .await
                .status,
            200
        );
    }
    let all = face.get("/bucket?list-type=2").await;
    assert_eq!(all.elements("Key"), ["a", "b/1", "b/2", "c d", "e/1"]);
    assert_eq!(
        (
            all.element("KeyCount"),
            all.element("IsTruncated"),
            all.element("MaxKeys")
        ),
        ("5".into(), "false".into(), "1000".into())
    );
    assert!(
        !all.text().contains("<Owner>")
            && face
                .get("/bucket?list-type=2&fetch-owner=true")
                .await
                .text()
                .contains("<Owner>")
    );
    assert!(face.get("/bucket").await.text().contains("<Owner>"));
    let rolled = face.get("/bucket?list-type=2&delimiter=/").await;
    assert_eq!(
        (rolled.elements("Key"), rolled.element("KeyCount")),
        (vec!["a".into(), "c d".into()], "4".into())
    );
    assert!(
        rolled.text().contains(
            "<CommonPrefixes><Prefix>b/</Prefix></CommonPrefixes><CommonPrefixes><Prefix>e/</Prefix>"
        )
    );
    let within = face
        .get("/bucket?list-type=2&prefix=b/&delimiter=/&encoding-type=url")
        .await;
    assert_eq!(
        (within.elements("Key"), within.element("Prefix")),
        (vec!["b/1".into(), "b/2".into()], "b/".into())
    );
    assert_eq!(
        face.get("/bucket?list-type=2&start-after=b/2")
            .await
            .elements("Key"),
        ["c d", "e/1"]
    );

    // Pages of one, both ways, with and without common prefixes.
    for delimiter in ["", "&delimiter=/"] {
        let (mut v1, mut v2) = (Vec::new(), Vec::new());
        let (mut marker, mut token) = (String::new(), String::new());
        loop {
            let page = face
                .get(&format!("/bucket?list-type=2&max-keys=1{delimiter}{token}"))
                .await;
            v2.extend(
                page.elements("Key")
                    .into_iter()
                    .chain(page.text().contains("<CommonPrefixes>").then(|| "p".into())),
            );
            if page.element("IsTruncated") == "false" {
                break;
            }
            token = format!("&continuation-token={}", page.element("NextContinuationToken"));
        }
        loop {
            let page = face
                .get(&format!("/bucket?max-keys=1{delimiter}&marker={marker}"))
                .await;
            v1.extend(
                page.elements("Key")
                    .into_iter()
                    .chain(page.text().contains("<CommonPrefixes>").then(|| "p".into())),
            );
            if page.element("IsTruncated") == "false" {
                break;
            }
            let next = if delimiter.is_empty() {
                page.element("Key")
            } else {
                page.element("NextMarker")
            };
            marker = next.replace(' ', "%20");
        }
        assert_eq!(v1, v2);
        assert_eq!(v1.len(), if delimiter.is_empty() { 5 } else { 4 });
    }
    let none = face.get("/bucket?list-type=2&max-keys=0").await;
    assert_eq!(
        (none.element("KeyCount"), none.element("IsTruncated")),
        ("0".into(), "false".into())
    );
    for bad in [
        "max-keys=-1",
        "max-keys=x",
        "encoding-type=base64",
        "continuation-token=a",
    ] {
        assert_eq!(
            code(&face.get(&format!("/bucket?list-type=2&{bad}")).await),
            is(400, "InvalidArgument"),
            "{bad}"
        );
    }
}

#[tokio::test]
async fn many_are_deleted_at_once() {
    let face = with_bucket().await;
    for key in ["a", "b", "%01"] {
        face.put(&format!("/bucket/{key}"), "x").await;
    }
    let document = "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Object><Key>a</Key></Object>\
                    <Object><Key>&#x1;</Key></Object><Object><Key>absent</Key></Object></Delete>";
    let bare = face.ask("POST", "/bucket?delete").body(document).send().await;
    assert_eq!(code(&bare), is(400, "InvalidRequest"));
    let crc = {
        let table = |mut c: u32| {
            for _ in 0..8 {
                c = if c & 1 == 1 {
                    0xedb8_8320 ^ (c >> 1)
                } else {
                    c >> 1
                };
            }
            c
        };
        !document
            .bytes()
            .fold(!0u32, |crc, b| table((crc ^ u32::from(b)) & 0xff) ^ (crc >> 8))
    };
    let crc = BASE64.encode(crc.to_be_bytes());
    let wrong = face
        .ask("POST", "/bucket?delete")
        .header("x-amz-checksum-crc32", "AAAAAA==")
        .body(document)
        .send()
        .await;
    assert_eq!(code(&wrong), is(400, "BadDigest"));
    let done = face
        .ask("POST", "/bucket?delete")
        .header("x-amz-checksum-crc32", &crc)
        .body(document)
        .send()
        .await;
    assert_eq!(
        (done.status, done.elements("Key")),
        (200, vec!["a".into(), "&#x1;".into(), "absent".into()])
    );
    assert_eq!(done.elements("Deleted").len(), 3);
    assert_eq!(face.get("/bucket?list-type=2").await.elements("Key"), ["b"]);
}

#[tokio::test]
async fn uploads_in_parts() {
    let face = with_bucket().await;
    let begun = face
        .ask("POST", "/bucket/big?uploads")
        .header("content-type", "a/b")
        .header("x-amz-meta-a", "1")
        .send()
        .await;
    assert_eq!(
        (begun.status, begun.element("Key")),
        (200, "big".into()),
        "{}",
        begun.text()
    );
    let upload = begun.element("UploadId");
    let part = |number: u32, byte: u8, size: usize| {
        let target = format!("/bucket/big?partNumber={number}&uploadId={upload}");
        face.ask("PUT", &target).body(vec![byte; size]).send()
    };
    let five = 5 << 20;
    let one = part(1, b'1', five).await;
    assert_eq!(one.status, 200, "{}", one.text());
    let three = part(3, b'3', 10).await;
    let listed = face
        .get(&format!("/bucket/big?uploadId={upload}&max-parts=1"))
        .await;
    assert_eq!(
        (listed.elements("PartNumber"), listed.element("IsTruncated")),
        (vec!["1".into()], "true".into())
    );
    assert_eq!(
        face.get("/bucket?uploads").await.elements("UploadId"),
        [upload.clone()]
    );
    assert_eq!(face.get("/bucket?list-type=2").await.elements("Key").len(), 0);

    let complete = |parts: &[(u32, &str)]| {
        let parts: String = parts
            .iter()
            .map(|(n, e)| format!("<Part><PartNumber>{n}</PartNumber><ETag>{e}</ETag></Part>"))
            .collect();
        let document = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
        face.ask("POST", &format!("/bucket/big?uploadId={upload}"))
            .body(document)
            .send()
    };
    let (e1, e3) = (one.header("etag"), three.header("etag"));
    assert_eq!(
        code(&complete(&[(3, e3), (1, e1)]).await),
        is(400, "InvalidPartOrder")
    );
    assert_eq!(code(&complete(&[(1, e3)]).await), is(400, "InvalidPart"));
    assert_eq!(code(&complete(&[(2, e1)]).await), is(400, "InvalidPart"));
    let done = complete(&[(1, e1), (3, e3)]).await;
    assert_eq!(done.status, 200, "{}", done.text());
    assert!(
        done.element("ETag").ends_with("-2&quot;") && done.element("Location").ends_with("/bucket/big"),
        "{}",
        done.text()
    );
    let got = face.get("/bucket/big").await;
    assert!(got.whole && got.body.len() == five + 10 && got.body[five - 1] == b'1' && got.body[five] == b'3');
    assert_eq!(
        (got.header("content-type"), got.header("x-amz-meta-a")),
        ("a/b", "1")
    );
    assert_eq!(face.get("/bucket?uploads").await.elements("UploadId").len(), 0);

    let again = face
        .ask("POST", "/bucket/x?uploads")
        .send()
        .await
        .element("UploadId");
    let target = format!("/bucket/x?uploadId={again}");
    assert_eq!(face.ask("DELETE", &target).send().await.status, 204);
    for method in ["DELETE", "GET"] {
        let gone = face.ask(method, &target).send().await;
        assert_eq!(
            (code(&gone), gone.element("UploadId")),
            (is(404, "NoSuchUpload"), again.clone())
        );
    }
    let bad = face
        .put(&format!("/bucket/x?partNumber=0&uploadId={again}"), "x")
        .await;
    assert_eq!(code(&bad), is(400, "InvalidArgument"));
    assert_eq!(
        code(&face.put("/bucket/x?partNumber=1&uploadId=never", "x").await),
        is(404, "NoSuchUpload")
    );
}

#[tokio::test]
async fn what_is_not_there_is_refused_by_name() {
    let face = with_bucket().await;
    face.put("/bucket/k", "x").await;
    let cases = [
        ("PUT", "/bucket/k?retention", 501, "NotImplemented"),
        ("PUT", "/bucket/k?frobnicate", 501, "NotImplemented"),
        ("DELETE", "/bucket/k?frobnicate", 501, "NotImplemented"),
        ("DELETE", "/bucket?policy", 501, "NotImplemented"),
        ("GET", "/bucket?encryption", 501, "NotImplemented"),
        ("POST", "/bucket/k", 405, "MethodNotAllowed"),
        ("GET", "/bucket?policy", 404, "NoSuchBucketPolicy"),
        ("GET", "/bucket?lifecycle", 404, "NoSuchLifecycleConfiguration"),
        ("GET", "/bucket?cors", 404, "NoSuchCORSConfiguration"),
        ("GET", "/bucket?tagging", 404, "NoSuchTagSet"),
        ("GET", "/bucket?versioning", 200, ""),
        ("GET", "/bucket?acl", 200, ""),
        ("GET", "/bucket/k?acl", 200, ""),
        ("GET", "/bucket/k?tagging", 200, ""),
        ("GET", "/bucket/absent?acl", 404, "NoSuchKey"),
        ("GET", "/absent?versioning", 404, "NoSuchBucket"),
    ];
    for (method, target, status, name) in cases {
        let answer = face.ask(method, target).send().await;
        assert_eq!(code(&answer), is(status, name), "{method} {target}");
    }
    for (name, value) in [
        ("x-amz-server-side-encryption", "AES256"),
        ("x-amz-acl", "public-read"),
        ("x-amz-copy-source", "/bucket/k"),
    ] {
        let answer = face
            .ask("PUT", "/bucket/k")
            .header(name, value)
            .body("changed")
            .send()
            .await;
        assert_eq!(code(&answer), is(501, "NotImplemented"), "{name}");
    }
    assert_eq!(
        face.get("/bucket/k").await.text(),
        "x",
        "nothing refused had an effect"
    );
    assert!(
        face.get("/bucket?acl")
            .await
            .text()
            .contains("<Permission>FULL_CONTROL</Permission>")
    );
}
