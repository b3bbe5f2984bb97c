//! Listings: pages, prefixes, tokens, markers; and batch deletes.

use crate::face::{Answer, Face};
use crate::{code, is, with_bucket};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

async fn with_keys() -> Face {
    let face = with_bucket().await;
    for key in ["a", "b/1", "b/2", "c%20d", "e/1"] {
        assert_eq!(face.put(&format!("/bucket/{key}"), "x").await.status, 200);
    }
    face
}

#[tokio::test]
async fn keys_and_common_prefixes() {
    let face = with_keys().await;
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
}

/// The lines of a page, common prefixes as `p`.
fn lines(page: &Answer) -> Vec<String> {
    let mut lines = page.elements("Key");
    lines.extend(page.text().contains("<CommonPrefixes>").then(|| "p".to_owned()));
    lines
}

#[tokio::test]
async fn pages_of_one_both_ways() {
    let face = with_keys().await;
    for (delimiter, expected) in [("", 5), ("&delimiter=/", 4)] {
        let (mut v1, mut v2) = (Vec::new(), Vec::new());
        let (mut marker, mut token) = (String::new(), String::new());
        loop {
            let page = face
                .get(&format!("/bucket?list-type=2&max-keys=1{delimiter}{token}"))
                .await;
            v2.extend(lines(&page));
            if page.element("IsTruncated") == "false" {
                break;
            }
            token = format!("&continuation-token={}", page.element("NextContinuationToken"));
        }
        loop {
            let page = face
                .get(&format!("/bucket?max-keys=1{delimiter}&marker={marker}"))
                .await;
            v1.extend(lines(&page));
            if page.element("IsTruncated") == "false" {
                break;
            }
            let next = if delimiter.is_empty() { "Key" } else { "NextMarker" };
            marker = page.element(next).replace(' ', "%20");
        }
        assert_eq!((v1.len(), &v1), (expected, &v2));
    }
}

#[tokio::test]
async fn bounds_of_pages() {
    let face = with_bucket().await;
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
