//! Request documents: XML that is broken, wrong, deep, huge, or of another meaning.

use crate::chance::Chance;
use crate::client::{Bench, signed, written};
use crate::{ROUNDS, block_on, fresh, unharmed};
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;

const DELETE: (&str, &str) = (
    "/bucket?delete",
    "<Delete><Object><Key>a</Key></Object><Quiet>true</Quiet></Delete>",
);
const COMPLETE: (&str, &str) = (
    "/bucket/k?uploadId=0000000000000000000000000000004d",
    "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>d41d8cd98f00b204e9800998ecf8427e</ETag></Part>\
     </CompleteMultipartUpload>",
);

/// Something that is no such document, whatever the good one says.
fn broken(chance: &mut Chance, good: &str) -> Vec<u8> {
    let cut = 1 + chance.below(good.len() - 1);
    let junk = chance.text(b"<>&;\"'/!?[]-= abcDEF", 40);
    match chance.below(10) {
        0 => good.as_bytes()[..cut].to_vec(),
        1 => good.as_bytes()[cut..].to_vec(),
        2 => format!("{good}{good}").into_bytes(),
        3 => format!("<!DOCTYPE x [<!ENTITY a \"{}\">]>{good}", "b".repeat(100)).into_bytes(),
        4 => format!("<{}>{good}</{}>", "Other", "Other").into_bytes(),
        5 => format!("{}{good}", "<a>".repeat(1 + chance.below(100_000))).into_bytes(),
        6 => [good.as_bytes(), &chance.bytes(20), b"<"].concat(),
        7 => format!("x{junk}").into_bytes(),
        8 => good.replace("</", "<").into_bytes(),
        _ => good
            .replacen('>', &format!(">&{};", chance.text(b"abcdefghij", 9)), 1)
            .into_bytes(),
    }
}

async fn post(bench: &Bench, uri: &str, document: &[u8]) -> crate::client::Answer {
    let sha256 = digest(&SHA256, document);
    let checksum = base64::engine::general_purpose::STANDARD.encode(sha256);
    let length = document.len().to_string();
    let mut headers = vec![("content-length", length.as_str())];
    if uri.contains("delete") {
        headers.push(("x-amz-checksum-sha256", &checksum));
    }
    let parts = signed(bench.now_ms(), "POST", uri, &headers, &hex::encode(sha256));
    bench.send(&[&written(&parts)[..], document].concat()).await
}

#[test]
fn documents() {
    block_on(async {
        let (bench, tasks) = fresh().await;
        assert_eq!(
            post(&bench, DELETE.0, DELETE.1.as_bytes()).await.status,
            Some(200),
            "the good one is good"
        );
        assert_eq!(
            post(&bench, COMPLETE.0, COMPLETE.1.as_bytes())
                .await
                .code
                .as_deref(),
            Some("InvalidPart")
        );
        let mut chance = Chance(5);
        for round in 0..ROUNDS {
            let (uri, good) = if round % 2 == 0 { DELETE } else { COMPLETE };
            let document = broken(&mut chance, good);
            let answer = post(&bench, uri, &document).await;
            let shown = String::from_utf8_lossy(&document[..document.len().min(300)]).into_owned();
            assert!(answer.refused(), "{uri} {shown}: {answer:?}");
            assert_ne!(
                answer.code.as_deref(),
                Some("InvalidPart"),
                "{shown} was read as the good one"
            );
        }
        unharmed(&bench, tasks).await;
    });
}

#[test]
fn documents_of_wrong_sizes() {
    block_on(async {
        let (bench, tasks) = fresh().await;
        let object = "<Object><Key>k</Key></Object>";
        let long_key = format!("<Object><Key>{}</Key></Object>", "k".repeat(3 << 20));
        for inside in [
            String::new(),
            object.repeat(1001),
            "<Object/>".to_owned(),
            long_key,
            "\n".repeat(3 << 20),
        ] {
            let answer = post(&bench, DELETE.0, format!("<Delete>{inside}</Delete>").as_bytes()).await;
            assert!(answer.refused(), "{} bytes: {answer:?}", inside.len());
        }
        unharmed(&bench, tasks).await;
    });
}

#[test]
fn a_document_may_be_left_out_or_come_without_a_length() {
    block_on(async {
        let (bench, tasks) = fresh().await;
        // The index says that any other bucket is somebody else's: the request got that far.
        let bare = signed(bench.now_ms(), "PUT", "/another", &[], "UNSIGNED-PAYLOAD");
        let answer = bench.send(&written(&bare)).await;
        assert_eq!(answer.code.as_deref(), Some("BucketAlreadyExists"));
        let chunked = [("transfer-encoding", "chunked")];
        let parts = signed(bench.now_ms(), "PUT", "/another", &chunked, "UNSIGNED-PAYLOAD");
        for (wire, code) in [
            ("0\r\n\r\n", "BucketAlreadyExists"),
            ("4\r\n<a/>\r\n0\r\n\r\n", "MalformedXML"),
        ] {
            let answer = bench
                .send(&[&written(&parts)[..], wire.as_bytes()].concat())
                .await;
            assert_eq!(answer.code.as_deref(), Some(code));
        }
        unharmed(&bench, tasks).await;
    });
}
