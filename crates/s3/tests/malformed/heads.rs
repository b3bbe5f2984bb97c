//! Heads: addresses, parameters and headers that are wrong, and signatures that are.

use crate::chance::Chance;
use crate::client::{head, key, signed, written};
use crate::{ROUNDS, block_on, fresh, unharmed};
use auth::signer;
use http::HeaderValue;

const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz";
const UPLOAD: &str = "0000000000000000000000000000004d";

/// A number that is none, or none that fits.
fn bad_number(chance: &mut Chance) -> String {
    let junk = chance.text(LETTERS, 5);
    chance
        .of(&[
            "-1",
            "99999999999999999999",
            "1.5",
            "0x10",
            "%20",
            "1e3",
            "%F0%9F%AA%A8",
            junk.as_str(),
        ])
        .to_owned()
}

/// An address that no operation has.
fn bad_address(chance: &mut Chance) -> (&'static str, String) {
    let junk = chance.text(LETTERS, 6);
    let number = bad_number(chance);
    let upper = junk.to_uppercase();
    match chance.below(16) {
        0 => ("PUT", format!("/bucket/k?partNumber={number}&uploadId={UPLOAD}")),
        1 => (
            "PUT",
            format!(
                "/bucket/k?partNumber={}&uploadId={UPLOAD}",
                chance.of(&["0", "10001", ""])
            ),
        ),
        2 => ("PUT", format!("/bucket/k?partNumber=1&uploadId={junk}")),
        3 => ("GET", format!("/bucket?list-type=2&max-keys={number}")),
        4 => ("GET", format!("/bucket?list-type=2&encoding-type={junk}")),
        5 => ("GET", format!("/bucket/k?uploadId={UPLOAD}&max-parts={number}")),
        6 => ("GET", format!("/bucket?uploads&max-uploads={number}")),
        7 => (
            ["PUT", "GET", "DELETE", "POST"][chance.below(4)],
            format!("/bucket/k?{junk}"),
        ),
        8 => ("GET", format!("/bucket?prefix={junk}&prefix=b")),
        9 => (
            "PUT",
            format!(
                "/{}/k",
                chance.of(&[
                    "ab",
                    "Bucket",
                    "a..b",
                    "b_b",
                    "-ab",
                    upper.as_str(),
                    "%E2%80%AEabc"
                ])
            ),
        ),
        10 => ("PUT", format!("/bucket/{}", "k".repeat(1025 + chance.below(200)))),
        11 => (
            "PUT",
            format!("/bucket/{}", "%C3%A9".repeat(513 + chance.below(10))),
        ),
        // Not UTF-8: a lone byte, a surrogate, an overlong slash.
        12 => (
            "PUT",
            format!(
                "/bucket/{junk}{}",
                chance.of(&["%FF", "%ED%A0%80", "%C0%AF", "%C3", "%F5%80%80%80"])
            ),
        ),
        13 => ("GET", format!("/no-{junk}/k")),
        14 => (
            ["PATCH", "TRACE", "LINK", "get"][chance.below(4)],
            "/bucket/k".to_owned(),
        ),
        _ => ("GET", format!("/bucket/k?versionId={junk}")),
    }
}

/// A header that no put may have.
fn bad_header(chance: &mut Chance) -> (String, String) {
    let junk = chance.text(LETTERS, 6);
    let (name, value) = match chance.below(14) {
        0 => (
            "content-md5",
            chance.of(&["", "?", "AAAA", "1B2M2Y8AsgTpgAmY7PhCfQ=="]),
        ),
        1 => (
            "x-amz-checksum-crc32",
            chance.of(&["", "?", "AAAA", "AAAAAA", "AAAAAAA="]),
        ),
        2 => ("x-amz-checksum-sha256", chance.of(&["x", "AAAAAA=="])),
        3 => ("x-amz-sdk-checksum-algorithm", chance.of(&["CRC32", "MD4", ""])),
        4 => (
            "x-amz-acl",
            chance.of(&["public-read", "public-read-write", "", "x", "\u{e9}"]),
        ),
        5 => ("x-amz-storage-class", chance.of(&["GLACIER", "standard", ""])),
        6 => (
            "x-amz-server-side-encryption",
            chance.of(&["AES256", "aws:kms", ""]),
        ),
        7 => ("x-amz-object-lock-mode", "GOVERNANCE"),
        8 => (
            "x-amz-expected-bucket-owner",
            chance.of(&["", "1", "999999999999"]),
        ),
        9 => ("x-amz-trailer", chance.of(&["x-amz-checksum-crc32", "x"])),
        10 => ("x-amz-tagging", "a=1&a=2"),
        11 => ("x-amz-security-token", "t"),
        12 => return (format!("x-amz-{junk}"), "1".to_owned()),
        _ => return (format!("x-amz-meta-{junk}"), "v".repeat(2043 + chance.below(500))),
    };
    (name.to_owned(), value.to_owned())
}

#[test]
fn addresses() {
    block_on(async {
        let (bench, tasks) = fresh().await;
        let mut chance = Chance(1);
        for _ in 0..ROUNDS {
            let (method, uri) = bad_address(&mut chance);
            let parts = signed(bench.now_ms(), method, &uri, &[("content-length", "0")], UNSIGNED);
            let answer = bench.send(&written(&parts)).await;
            assert!(answer.refused(), "{method} {uri}: {answer:?}");
            assert_eq!(bench.index.take_named(), None, "{method} {uri}");
        }
        unharmed(&bench, tasks).await;
    });
}

#[test]
fn headers() {
    block_on(async {
        let (bench, tasks) = fresh().await;
        let mut chance = Chance(2);
        for round in 0..ROUNDS {
            let (name, value) = bad_header(&mut chance);
            let mut given = vec![("content-length", "4"), (name.as_str(), value.as_str())];
            if round % 4 == 0 {
                // The good one first: whoever reads only one of two must not read the good one.
                given = vec![
                    ("content-length", "4"),
                    ("x-amz-acl", "private"),
                    ("x-amz-acl", "public-read"),
                ];
            }
            let parts = signed(bench.now_ms(), "PUT", "/bucket/k", &given, UNSIGNED);
            let answer = bench.send(&[&written(&parts)[..], b"good"].concat()).await;
            assert!(answer.refused(), "{given:?}: {answer:?}");
            assert_eq!(bench.index.take_named(), None, "{given:?}");
        }
        unharmed(&bench, tasks).await;
    });
}

#[test]
fn headers_in_the_query() {
    block_on(async {
        let (bench, tasks) = fresh().await;
        for parameter in [
            "x-amz-server-side-encryption=AES256",
            "X-Amz-Server-Side-Encryption=AES256",
            "x-amz-acl=public-read",
            "x-amz-object-lock-mode=GOVERNANCE",
            "x-amz-copy-source=%2Fbucket%2Fother",
            "x-amz-tagging=a%3D%3C",
            "x-amz-meta-a=%0A",
        ] {
            let mut parts = head("PUT", &format!("/bucket/k?{parameter}"), &[]);
            signer::presign(&mut parts, &key(), "us-east-1", bench.now_ms(), 60).unwrap();
            parts
                .headers
                .insert("content-length", HeaderValue::from_static("4"));
            let answer = bench.send(&[&written(&parts)[..], b"good"].concat()).await;
            assert!(answer.refused(), "{parameter}: {answer:?}");
            assert_eq!(bench.index.take_named(), None, "{parameter}");
        }
        unharmed(&bench, tasks).await;
    });
}

#[test]
fn forgeries() {
    block_on(async {
        let (bench, tasks) = fresh().await;
        let mut chance = Chance(3);
        for round in 0..ROUNDS {
            let mut parts = signed(
                bench.now_ms(),
                "PUT",
                "/bucket/k",
                &[("content-length", "4")],
                UNSIGNED,
            );
            let what = match round % 4 {
                0 => {
                    let name = format!("x-amz-meta-{}", chance.text(LETTERS, 4));
                    parts.headers.insert(
                        name.parse::<http::HeaderName>().unwrap(),
                        HeaderValue::from_static("1"),
                    );
                    name
                }
                1 => {
                    let uri = format!("/bucket/{}", chance.text(LETTERS, 3));
                    parts.uri = uri.parse().unwrap();
                    uri
                }
                2 => {
                    let uri = "http://bucket.other:9000/bucket/k";
                    parts.uri = uri.parse().unwrap();
                    uri.to_owned()
                }
                _ => {
                    let old = parts.headers["authorization"].to_str().unwrap().to_owned();
                    let mut bytes = old.into_bytes();
                    chance.wound(&mut bytes);
                    let Ok(value) = HeaderValue::from_bytes(&bytes) else {
                        continue;
                    };
                    if value == parts.headers["authorization"] {
                        continue;
                    }
                    parts.headers.insert("authorization", value);
                    String::from_utf8_lossy(&bytes).into_owned()
                }
            };
            let answer = bench.send(&[&written(&parts)[..], b"good"].concat()).await;
            // A space more or less between the parts of the header says the same.
            let same = answer.status == Some(200) && what.starts_with("AWS4") && what.contains("  ");
            assert!(answer.refused() || same, "{what}: {answer:?}");
            assert!(bench.index.take_named().is_none() || same, "{what}");
        }
        unharmed(&bench, tasks).await;
    });
}

#[test]
fn what_is_no_http() {
    block_on(async {
        let (bench, tasks) = fresh().await;
        let mut chance = Chance(4);
        let parts = signed(
            bench.now_ms(),
            "PUT",
            "/bucket/k",
            &[("content-length", "4")],
            UNSIGNED,
        );
        let good = [&written(&parts)[..], b"good"].concat();
        for round in 0..ROUNDS * 2 {
            let mut wire = good.clone();
            match round % 4 {
                0 => {
                    wire = {
                        let len = 1 + chance.below(300);
                        chance.bytes(len)
                    }
                }
                1 => {
                    let junk = {
                        let len = 1 + chance.below(30);
                        chance.bytes(len)
                    };
                    let at = chance.below(wire.len());
                    wire.splice(at..at, junk);
                }
                _ => (0..1 + chance.below(3)).for_each(|_| {
                    if !wire.is_empty() {
                        chance.wound(&mut wire)
                    }
                }),
            }
            let answer = bench.send_and_leave(&wire).await;
            let own_fault = answer.status.is_some_and(|s| s >= 500 && s != 501 && s != 505);
            assert!(!own_fault, "{}: {answer:?}", String::from_utf8_lossy(&wire));
        }
        unharmed(&bench, tasks).await;
    });
}

#[test]
fn what_looks_like_the_operators() {
    block_on(async {
        let (bench, tasks) = fresh().await;
        let get = |host| signed(bench.now_ms(), "GET", "/-/metrics", &[("host", host)], UNSIGNED);
        for host in ["localhost:9000", "s3.test", "s3.test:9000"] {
            assert_eq!(bench.send(&written(&get(host))).await.code, None, "{host}");
        }
        // Here it is a key.
        let answer = bench.send(&written(&get("bucket.s3.test"))).await;
        assert_eq!(answer.code.as_deref(), Some("NoSuchKey"));
        unharmed(&bench, tasks).await;
    });
}

#[test]
fn too_much() {
    block_on(async {
        let (bench, tasks) = fresh().await;
        let many: Vec<_> = (0..300).map(|i| (format!("x-{i}"), "1".to_owned())).collect();
        let large: Vec<_> = (0..70).map(|i| (format!("x-{i}"), "v".repeat(1000))).collect();
        let huge = vec![("x-0".to_owned(), "v".repeat(1 << 20))];
        for headers in [many, large, huge] {
            let given: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            let answer = bench
                .send(&written(&signed(
                    bench.now_ms(),
                    "GET",
                    "/bucket",
                    &given,
                    UNSIGNED,
                )))
                .await;
            assert!(
                answer.status.is_some_and(|s| (400..500).contains(&s)),
                "{} headers: {answer:?}",
                given.len()
            );
        }
        let names: Vec<_> = (0..12_000).map(|i| format!("{i:x}")).collect();
        let answer = bench
            .send(&written(&head(
                "GET",
                &format!("/bucket?{}", names.join("&")),
                &[],
            )))
            .await;
        assert!(answer.refused(), "{answer:?}");
        unharmed(&bench, tasks).await;
    });
}
