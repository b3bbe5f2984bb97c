//! Bodies without framing, and documents.

use super::fixture::*;
use crate::body::{BodyPlan, BodyRefusal, collect};
use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use proptest::prelude::*;

fn hashed(data: &[u8], length: usize) -> BodyPlan {
    let sha256 = hex::encode(digest(&SHA256, data));
    planned(&head(&sha256, &[("content-length", &length.to_string())])).unwrap()
}

fn document(plan: BodyPlan, data: &[u8], max: usize) -> Result<Bytes, BodyRefusal> {
    let (connection, clock) = connection(pieces(data, &[3]));
    block_on(collect(plan, connection, clock, max)).map(|(document, _)| document)
}

proptest! {
    #[test]
    fn the_hash_is_of_every_byte(
        data in prop::collection::vec(any::<u8>(), 1..5000), cuts in prop::collection::vec(0..2000usize, 0..8),
        at: prop::sample::Index, flip in 1..=255u8,
    ) {
        let plan = hashed(&data, data.len());
        prop_assert_eq!(read(plan.clone(), pieces(&data, &cuts)), (data.clone(), Ok(vec![])));
        let mut other = data.clone();
        other[at.index(data.len())] ^= flip;
        let refusal = read(plan, pieces(&other, &cuts)).1.unwrap_err();
        prop_assert_eq!(refusal, BodyRefusal::XAmzContentSHA256Mismatch {
            client: hex::encode(digest(&SHA256, &data)),
            server: hex::encode(digest(&SHA256, &other)),
        });
    }
}

#[test]
fn lengths_are_exact() {
    let data = b"0123456789";
    for (length, provided) in [(11, 10), (9, 10)] {
        let refusal = read(hashed(data, length), pieces(data, &[])).1.unwrap_err();
        assert_eq!(
            refusal,
            BodyRefusal::IncompleteBody {
                expected: length as u64,
                provided
            }
        );
    }
    let broken = read(
        hashed(data, 10),
        [Event::Bytes(Bytes::from_static(b"0123")), Event::Break],
    );
    assert_eq!(
        broken.1.unwrap_err(),
        BodyRefusal::IncompleteBody {
            expected: 10,
            provided: 4
        }
    );
    assert_eq!(read(hashed(b"", 0), []), (vec![], Ok(vec![])));
}

#[test]
fn an_object_needs_a_length() {
    let plan = planned(&head(UNSIGNED, &[("transfer-encoding", "chunked")])).unwrap();
    assert_eq!(
        read(plan, pieces(b"abc", &[])).1,
        Err(BodyRefusal::MissingContentLength)
    );
}

#[test]
fn documents_are_bounded_and_checked() {
    let data = b"<Delete/>";
    assert_eq!(document(hashed(data, 9), data, 9).unwrap(), &data[..]);
    let too_big = Err(BodyRefusal::MaxMessageLengthExceeded { max: 8 });
    assert_eq!(document(hashed(data, 9), data, 8), too_big);
    let chunked = planned(&head(UNSIGNED, &[("transfer-encoding", "chunked")])).unwrap();
    assert_eq!(document(chunked.clone(), data, 8), too_big);
    assert_eq!(document(chunked, data, 9).unwrap(), &data[..]);
    let refusal = document(hashed(b"<Delete>/", 9), data, 9);
    assert!(
        matches!(refusal, Err(BodyRefusal::XAmzContentSHA256Mismatch { .. })),
        "{refusal:?}"
    );
    let bodiless = planned(&head(UNSIGNED, &[])).unwrap();
    assert_eq!(document(bodiless, b"", 9).unwrap(), &b""[..]);
    let framed = framed(SIGNED, 9, None);
    let wire = encode(&framed, data, 8192, None);
    assert_eq!(document(framed.clone(), &wire, 9).unwrap(), &data[..]);
    assert_eq!(document(framed, &wire, 8), too_big);
}
