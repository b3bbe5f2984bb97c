//! `cairn check`: every checksum of a stopped store, and the index against the extents, both ways.
//!
//! ```text
//!   extents ── walk: every needle read and verified ──▶ what is there
//!   index   ── walk: every record, part, garbage row ─▶ what is named
//!   there and named: fine · named, not there: LOST · there, not named: an orphan (gc's work, not damage)
//! ```
//! The comparison is pure ([`Ledger`]); [`run`] only carries pages to it.

use bytes::Bytes;
use std::collections::BTreeMap;
use types::{BlobId, ExtentId, NeedleId};
use wire::Fault;
use wire::control::Control;
use wire::index::{Index, Named};
use wire::node::{Node, Walked};
use wire::records::{Chunk, object_record::Data};

const WALK_PAGE: usize = 256;

/// What a check found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Extents walked.
    pub extents: u64,
    /// Needles read and verified, damaged ones among them.
    pub needles: u64,
    /// Bytes they take.
    pub needle_bytes: u64,
    /// Objects named.
    pub objects: u64,
    /// Parts of open uploads named.
    pub parts: u64,
    /// Blobs booked as garbage.
    pub garbage: u64,
    /// Needles that nothing names: uploads that never ended, work for gc.
    pub orphans: u64,
    /// What is wrong, a sentence with its place each.
    pub damage: Vec<String>,
}

struct Needle {
    blob: BlobId,
    bucket: u64,
    key_bytes: usize,
    length: u64,
    good: bool,
    named: bool,
}

/// Needles there against chunks named.
#[derive(Default)]
pub struct Ledger {
    needles: BTreeMap<(ExtentId, NeedleId), Needle>,
    report: Report,
}

impl Ledger {
    /// A needle that a node walked over.
    pub fn there(&mut self, extent: ExtentId, walked: &Walked) {
        self.report.needles += 1;
        self.report.needle_bytes += walked.stored_length;
        if let Some(damage) = &walked.damage {
            self.report.damage.push(format!(
                "extent {extent} offset {} needle {}: {damage}",
                walked.offset, walked.needle.0
            ));
        }
        let Some(head) = &walked.head else { return };
        let needle = Needle {
            blob: head.blob,
            bucket: head.owner.bucket.0,
            key_bytes: head.owner.key.len(),
            length: head.length,
            good: walked.damage.is_none(),
            named: false,
        };
        if self.needles.insert((extent, walked.needle), needle).is_some() {
            self.report.damage.push(format!(
                "extent {extent} offset {}: needle {} is there twice",
                walked.offset, walked.needle.0
            ));
        }
    }

    /// Something the index names.
    pub fn named(&mut self, named: &Named) {
        match named {
            Named::Object { bucket, key, found } => {
                self.report.objects += 1;
                let what = format!("object {bucket}/{key:?}");
                let mut chunks: Vec<&Chunk> = Vec::new();
                match &found.record.data {
                    Some(Data::Chunks(c)) => chunks.extend(&c.chunks),
                    Some(Data::Manifest(_)) => chunks.extend(found.manifest.iter().flat_map(|p| &p.chunks)),
                    Some(Data::Inline(i)) => {
                        let held = found.inline.as_ref().map(Bytes::len);
                        if held != Some(i.length as usize) || found.record.size != u64::from(i.length) {
                            self.report.damage.push(format!(
                                "{what}: inline bytes are {held:?}, should be {}",
                                i.length
                            ));
                        }
                        return;
                    }
                    Some(Data::Shared(_)) => self
                        .report
                        .damage
                        .push(format!("{what}: a shared blob, which this format has not")),
                    None => {}
                }
                let length: u64 = chunks.iter().map(|c| c.length).sum();
                if length != found.record.size {
                    self.report.damage.push(format!(
                        "{what}: chunks hold {length} bytes of {}",
                        found.record.size
                    ));
                }
                self.chunks(&what, bucket.0, key.len(), &chunks, true);
            }
            Named::Part {
                bucket,
                key,
                upload,
                part,
            } => {
                self.report.parts += 1;
                let what = format!("part {} of upload {upload} of {bucket}/{key:?}", part.number);
                self.chunks(
                    &what,
                    bucket.0,
                    key.len(),
                    &part.chunks.iter().collect::<Vec<_>>(),
                    true,
                );
            }
            Named::Garbage { bucket, key, garbage } => {
                self.report.garbage += 1;
                let what = format!("garbage of {bucket}/{key:?}");
                self.chunks(
                    &what,
                    bucket.0,
                    key.len(),
                    &garbage.chunks.iter().collect::<Vec<_>>(),
                    false,
                );
            }
        }
    }

    /// `live` chunks must be there, whole and of this owner; garbage may be gone already.
    fn chunks(&mut self, what: &str, bucket: u64, key_len: usize, chunks: &[&Chunk], live: bool) {
        for chunk in chunks {
            let place = (ExtentId(chunk.place), NeedleId(chunk.needle));
            let at = format!("extent {} needle {}", place.0, chunk.needle);
            let Some(needle) = self.needles.get_mut(&place) else {
                if live {
                    self.report
                        .damage
                        .push(format!("{what}: LOST, {at} is not there"));
                }
                continue;
            };
            if needle.named && live {
                self.report
                    .damage
                    .push(format!("{what}: {at} is named twice (blob {})", needle.blob));
            }
            needle.named = true;
            if !live {
                continue;
            }
            if !needle.good {
                self.report.damage.push(format!("{what}: damaged at {at}"));
            }
            if needle.length != chunk.length || needle.bucket != bucket || needle.key_bytes != key_len {
                self.report
                    .damage
                    .push(format!("{what}: {at} belongs to another object"));
            }
        }
    }

    /// The whole finding.
    pub fn close(mut self) -> Report {
        self.report.orphans = self.needles.values().filter(|n| !n.named).count() as u64;
        self.report
    }
}

/// Walks a store's extents and index and compares them.
///
/// # Errors
/// Only where a role cannot be asked at all; what it says is damaged is in the report.
pub async fn run(node: &dyn Node, control: &dyn Control, index: &dyn Index) -> Result<Report, Fault> {
    let mut ledger = Ledger::default();
    let known = control.locations().await?;
    for status in node.extents().await? {
        ledger.report.extents += 1;
        if !known.iter().any(|l| l.extent == status.extent) {
            ledger.report.damage.push(format!(
                "extent {}: the control plane does not know it",
                status.extent
            ));
        }
        let mut offset = 0;
        loop {
            let page = node.walk(status.extent, offset, WALK_PAGE).await?;
            let Some(last) = page.last() else { break };
            let next = last.offset + last.stored_length;
            assert!(next > offset, "a walk moves on");
            for walked in &page {
                ledger.there(status.extent, walked);
            }
            offset = next;
        }
    }
    let mut cursor = Bytes::new();
    loop {
        match index.walk(cursor).await {
            Ok((page, next)) => {
                for named in &page {
                    ledger.named(named);
                }
                if next.is_empty() {
                    break;
                }
                cursor = next;
            }
            Err(fault) if fault.kind == types::ErrorKind::Corrupt => {
                ledger.report.damage.push(format!("index: {}", fault.what));
                break;
            }
            Err(fault) => return Err(fault),
        }
    }
    Ok(ledger.close())
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{BucketId, SessionId};
    use wire::index::Found;
    use wire::node::{NeedleHead, OwnerRef};
    use wire::records::{Chunks, ObjectRecord};

    fn walked(needle: u64, damage: Option<&str>) -> Walked {
        Walked {
            needle: NeedleId(needle),
            offset: needle * 100,
            stored_length: 100,
            head: Some(NeedleHead {
                blob: BlobId(1),
                owner: OwnerRef {
                    bucket: BucketId(1),
                    key: "k".into(),
                    upload: None,
                },
                ordinal: 0,
                logical_offset: 0,
                last: true,
                length: 10,
                append_hlc: 0,
                session: SessionId(1),
            }),
            damage: damage.map(str::to_owned),
        }
    }

    fn object(needle: u64) -> Named {
        let chunk = Chunk {
            place: 7,
            needle,
            length: 10,
            ..Chunk::default()
        };
        let record = ObjectRecord {
            size: 10,
            data: Some(Data::Chunks(Chunks { chunks: vec![chunk] })),
            ..ObjectRecord::default()
        };
        Named::Object {
            bucket: BucketId(1),
            key: "k".into(),
            found: Box::new(Found {
                record,
                inline: None,
                manifest: vec![],
            }),
        }
    }

    fn report(there: &[Walked], named: &[Named]) -> Report {
        let mut ledger = Ledger::default();
        there.iter().for_each(|w| ledger.there(ExtentId(7), w));
        named.iter().for_each(|n| ledger.named(n));
        ledger.close()
    }

    #[test]
    fn a_whole_store_is_clean() {
        let r = report(&[walked(1, None), walked(2, None)], &[object(1)]);
        assert!(r.damage.is_empty(), "{:?}", r.damage);
        assert_eq!((r.needles, r.objects, r.orphans), (2, 1, 1));
    }

    // I3, I5
    #[test]
    fn damage_and_loss_are_named() {
        assert!(report(&[], &[object(1)]).damage[0].contains("LOST"));
        assert_eq!(
            report(&[walked(1, Some("block 0: crc"))], &[object(1)])
                .damage
                .len(),
            2
        );
        assert!(report(&[walked(1, None)], &[object(1), object(1)]).damage[0].contains("twice"));
        let mut other = walked(1, None);
        other.head.as_mut().unwrap().owner.bucket = BucketId(9);
        assert!(report(&[other], &[object(1)]).damage[0].contains("another"));
    }
}
