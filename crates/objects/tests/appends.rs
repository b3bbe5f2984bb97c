//! Appends as the gateway asks for them: the form of the bytes, and what is refused before a byte is read.

#[allow(dead_code, reason = "shared with the other tests")]
mod support;

use objects::{BodyError, Expect, ObjectsError};
use support::*;
use types::limits::INLINE_BYTES_MAX;
use types::{BlobId, Checksum, ChecksumAlgorithm, ExtentId, Generation, NeedleId};
use wire::index::{AppendData, Command, Reason, StoredData, VersionRef};
use wire::node::{Node as _, ReadNeedle};
use wire::records::Pair;

/// What the last append asked for. The index of these tests refuses it.
async fn asked(b: &Bench, offset: u64, length: usize) -> AppendData {
    let put = put_of("k", length as u64, pieces(&bytes(length)));
    let refused = b.objects.append(&CALLER, put, offset).await.unwrap_err();
    assert_eq!(refused.reason(), Some(Reason::AppendRaced));
    match b.index.state().calls.last().map(|c| c.command.clone()) {
        Some(Command::Append { data, piece, .. }) => {
            assert_eq!(piece.size, length as u64, "the piece is the new bytes alone");
            *data
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn bytes_come_in_the_form_that_joins() {
    let b = bench().await;
    let length = |data: &AppendData| match &data.data {
        StoredData::Inline(bytes) => (true, bytes.len()),
        StoredData::Chunks(c) => (false, c.chunks.iter().map(|c| c.length as usize).sum()),
        StoredData::Empty => panic!("an append of nothing"),
    };
    for (there, new, form) in [
        (None, 10, (true, 10, false)),
        (None, INLINE_BYTES_MAX + 1, (false, INLINE_BYTES_MAX + 1, false)),
        (Some(0), 10, (true, 10, false)),
        (
            Some(10),
            INLINE_BYTES_MAX - 10,
            (true, INLINE_BYTES_MAX - 10, false),
        ),
        (
            Some(10),
            INLINE_BYTES_MAX - 9,
            (false, INLINE_BYTES_MAX + 1, true),
        ),
        (Some(10), 200_000, (false, 200_010, true)),
        (Some(2000), 1, (false, 1, false)),
    ] {
        if let Some(size) = there {
            b.put("k", &bytes(size)).await.unwrap();
        }
        let data = asked(&b, there.unwrap_or(0) as u64, new).await;
        let (inline, stored) = length(&data);
        assert_eq!((inline, stored, data.whole), form, "{new} onto {there:?}");
    }
}

#[tokio::test]
async fn what_joins_an_object_says_so() {
    let b = bench().await;
    b.put("k", &bytes(2000)).await.unwrap();
    let opened = b
        .objects
        .get(&CALLER, &name(), &key("k"), VersionRef::Current)
        .await
        .unwrap();
    let blob = BlobId::from_slice(&opened.record.blob).unwrap();
    let StoredData::Chunks(stored) = asked(&b, 2000, 3000).await.data else {
        panic!("needles")
    };
    assert_ne!(stored.blob, blob);
    // I5: a reader of the object's blob is given these bytes, a reader of another is not.
    let chunk = &stored.chunks[0];
    let read = |blob| ReadNeedle {
        extent: ExtentId(chunk.place),
        needle: NeedleId(chunk.needle),
        blob,
        hint: (Generation(chunk.hint_generation), chunk.hint_offset),
        length: chunk.length,
        first_block: 0,
        block_count: 1,
    };
    b.node.read(read(blob)).await.unwrap();
    b.node.read(read(BlobId(7))).await.unwrap_err();
}

#[tokio::test]
async fn what_cannot_join_is_not_read() {
    let b = bench().await;
    b.put("k", &bytes(2000)).await.unwrap();
    let put = |expect: Expect| {
        let mut body = pieces(b"");
        body.error = Some(BodyError::Refused("it was read".into()));
        let mut put = put_of("k", 10, body);
        put.expect = expect;
        put
    };
    let refused = b.objects.append(&CALLER, put(Expect::default()), 1999).await;
    assert_eq!(refused.unwrap_err().reason(), Some(Reason::InvalidWriteOffset));
    let other = Expect {
        checksums: vec![Checksum {
            algorithm: ChecksumAlgorithm::Sha256,
            value: vec![0; 32],
        }],
        ..Expect::default()
    };
    assert!(matches!(
        b.objects.append(&CALLER, put(other), 2000).await,
        Err(ObjectsError::OtherChecksum {
            expected: ChecksumAlgorithm::Crc64Nvme,
            actual: ChecksumAlgorithm::Sha256
        })
    ));
    let mut with_metadata = put(Expect::default());
    with_metadata.metadata = vec![Pair::default()];
    let refused = b.objects.append(&CALLER, with_metadata, 2000).await;
    assert_eq!(refused, Err(ObjectsError::MetadataOfAppend));
}
