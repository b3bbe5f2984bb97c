//! Bodies: frames that are broken, hashes and lengths that lie, clients that leave.

use crate::chance::Chance;
use crate::client::{Bench, signed, written};
use crate::{ROUNDS, block_on, fresh, unharmed};
use auth::signer;
use aws_lc_rs::digest::{SHA256, digest};
use http::request::Parts;
use md5::Digest as _;

const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
const FORMS: [&str; 3] = [
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
    "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
];
const ADDRESSES: [&str; 2] = [
    "/bucket/k",
    "/bucket/k?partNumber=1&uploadId=0000000000000000000000000000004d",
];

/// A head and the frames that fit it. The frames' length is not known before the head signs them, so both are made
/// twice: the first time for the length alone.
fn framed(bench: &Bench, form: &str, uri: &str, data: &[u8]) -> (Parts, Vec<u8>) {
    let now_ms = bench.now_ms();
    let decoded = data.len().to_string();
    let mut headers = vec![
        ("x-amz-decoded-content-length", decoded.as_str()),
        ("content-encoding", "aws-chunked"),
    ];
    if form.ends_with("TRAILER") {
        headers.push(("x-amz-trailer", "x-amz-checksum-crc32c"));
    }
    let make = |length: &str| {
        let all: Vec<_> = headers
            .iter()
            .copied()
            .chain([("content-length", length)])
            .collect();
        let mut parts = crate::client::head("PUT", uri, &all);
        let mut signing = signer::sign(&mut parts, &crate::client::key(), "us-east-1", now_ms, form).unwrap();
        let mut out = Vec::new();
        for frame in data.chunks(8192).chain([&[][..]]) {
            let mut line = format!("{:x}", frame.len());
            if form.starts_with("STREAMING-AWS4") {
                let signature = signing.frame(digest(&SHA256, frame).as_ref()).as_str().to_owned();
                line += &format!(";chunk-signature={signature}");
            }
            out.extend_from_slice(line.as_bytes());
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(frame);
            if !frame.is_empty() {
                out.extend_from_slice(b"\r\n");
            }
        }
        if form.ends_with("TRAILER") {
            let line = format!("x-amz-checksum-crc32c:{}", crc32c(data));
            out.extend_from_slice(format!("{line}\r\n").as_bytes());
            if form.starts_with("STREAMING-AWS4") {
                let signature = signing
                    .trailer(format!("{line}\n").as_bytes())
                    .as_str()
                    .to_owned();
                out.extend_from_slice(format!("x-amz-trailer-signature:{signature}\r\n").as_bytes());
            }
        }
        out.extend_from_slice(b"\r\n");
        (parts, out)
    };
    let length = make("0").1.len().to_string();
    make(&length)
}

fn crc32c(data: &[u8]) -> String {
    use base64::Engine as _;
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, data) as u32;
    base64::engine::general_purpose::STANDARD.encode(crc.to_be_bytes())
}

fn md5_of(data: &[u8]) -> Vec<u8> {
    md5::Md5::digest(data).to_vec()
}

#[test]
fn frames() {
    block_on(async {
        let (bench, tasks) = fresh().await;
        let mut chance = Chance(6);
        let mut refused = 0;
        for round in 0..ROUNDS * 2 {
            let data = {
                let len = 1 + chance.below(20_000);
                chance.bytes(len)
            };
            let (parts, good) = framed(&bench, FORMS[round % 3], ADDRESSES[round % 2], &data);
            let mut wire = good.clone();
            if round >= 6 {
                for _ in 0..1 + chance.below(3) {
                    if !wire.is_empty() {
                        chance.wound(&mut wire);
                    }
                }
                // What was cut off is made good by length, so that the frames themselves must tell.
                wire.resize(good.len(), b'x');
            }
            let answer = bench.send(&[&written(&parts)[..], &wire].concat()).await;
            let named = bench.index.take_named();
            if answer.status == Some(200) {
                // What says the same is taken; what was named is what was meant.
                assert_eq!(named, Some(md5_of(&data)), "round {round}");
            } else {
                assert!(round >= 6 && answer.refused(), "round {round}: {answer:?}");
                assert_eq!(named, None, "round {round}");
                refused += 1;
            }
        }
        assert!(refused > ROUNDS, "only {refused} were refused");
        unharmed(&bench, tasks).await;
    });
}

#[test]
fn clients_that_leave() {
    block_on(async {
        let (bench, tasks) = fresh().await;
        let mut chance = Chance(7);
        for round in 0..ROUNDS {
            let data = {
                let len = 1 + chance.below(20_000);
                chance.bytes(len)
            };
            let uri = ADDRESSES[round % 2];
            let (parts, wire) = if round % 4 == 3 {
                let length = data.len().to_string();
                (
                    signed(
                        bench.now_ms(),
                        "PUT",
                        uri,
                        &[("content-length", &length)],
                        UNSIGNED,
                    ),
                    data,
                )
            } else {
                framed(&bench, FORMS[round % 3], uri, &data)
            };
            let cut = chance.below(wire.len());
            let answer = bench
                .send_and_leave(&[&written(&parts)[..], &wire[..cut]].concat())
                .await;
            // Nobody may be there to read it, but if somebody is, it is no success.
            assert!(
                answer.status.is_none() || answer.refused(),
                "round {round}, cut at {cut}: {answer:?}"
            );
            assert_eq!(bench.index.take_named(), None, "round {round}, cut at {cut}");
        }
        unharmed(&bench, tasks).await;
    });
}

#[test]
fn hashes_and_lengths_that_lie() {
    block_on(async {
        let (bench, tasks) = fresh().await;
        let mut chance = Chance(8);
        for round in 0..ROUNDS {
            let data = {
                let len = 1 + chance.below(2000);
                chance.bytes(len)
            };
            let length = data.len().to_string();
            let mut other = data.clone();
            other[0] ^= 1;
            let sha256 = hex::encode(digest(&SHA256, &other));
            let (mut headers, mut payload) = (vec![("content-length", length.as_str())], UNSIGNED);
            let decoded = (data.len() + 1 + chance.below(9)).to_string();
            let crc = crc32c(&other);
            match round % 5 {
                0 => payload = &sha256,
                1 => headers.push(("x-amz-checksum-crc32c", &crc)),
                2 => {
                    payload = FORMS[round % 3];
                    headers.push(("x-amz-decoded-content-length", &decoded));
                }
                3 => payload = FORMS[round % 3],
                _ => headers = vec![("x-amz-meta-no", "length")],
            }
            let parts = signed(bench.now_ms(), "PUT", ADDRESSES[round % 2], &headers, payload);
            let answer = bench.send(&[&written(&parts)[..], &data].concat()).await;
            assert!(answer.refused(), "round {round}: {answer:?}");
            assert_eq!(bench.index.take_named(), None, "round {round}");
        }
        unharmed(&bench, tasks).await;
    });
}
