//! Between the words of `wire::node` and those of the `extent` room.

use extent::{Appended, DataDir, Done, ExtentError, Head, Status, Walked};
use tokio::sync::oneshot;
use types::{ErrorKind, Kind};
use wire::Fault;
use wire::node::{self, Ack, ExtentStatus, NeedleHead, Ordered, OwnerRef};

pub(crate) fn fault(e: &ExtentError) -> Fault {
    Fault::new(e.kind(), e.to_string())
}

pub(crate) fn head(head: NeedleHead) -> Head {
    Head {
        blob: head.blob,
        bucket: head.owner.bucket,
        key: head.owner.key,
        upload: head.owner.upload,
        ordinal: head.ordinal,
        logical_offset: head.logical_offset,
        last: head.last,
        length: head.length,
        append_hlc: head.append_hlc,
        session: head.session,
    }
}

fn needle_head(head: Head) -> NeedleHead {
    NeedleHead {
        blob: head.blob,
        owner: OwnerRef {
            bucket: head.bucket,
            key: head.key,
            upload: head.upload,
        },
        ordinal: head.ordinal,
        logical_offset: head.logical_offset,
        last: head.last,
        length: head.length,
        append_hlc: head.append_hlc,
        session: head.session,
    }
}

pub(crate) fn walked(w: Walked) -> node::Walked {
    node::Walked {
        needle: w.needle,
        offset: w.offset,
        stored_length: w.stored_length,
        head: w.head.map(needle_head),
        crc32c: w.crc32c,
        damage: w.damage,
    }
}

pub(crate) fn status(s: Status) -> ExtentStatus {
    ExtentStatus {
        extent: s.extent,
        epoch: s.epoch,
        sealed: s.sealed,
        end: s.end,
        needles: s.needles,
        generation: s.generation,
        salt: s.salt,
    }
}

/// An append's answer: `ordered` unless its record is known synced by now.
pub(crate) fn appended(dir: &DataDir, a: Appended) -> node::Appended {
    let pending = a.sequence > dir.journal().synced();
    node::Appended {
        needle: a.needle,
        offset: a.offset,
        generation: a.generation,
        stored_length: a.stored_length,
        ordered: pending.then(|| Ordered {
            disk: dir.disk_id(),
            sequence: a.sequence,
        }),
    }
}

/// Waits for a record's sync.
pub(crate) struct Synced(Option<oneshot::Receiver<Result<(), ExtentError>>>);

impl Synced {
    /// What to hand to the journal, and what to wait for.
    pub(crate) fn new(ack: Ack) -> (Option<Done>, Self) {
        match ack {
            Ack::Ordered => (None, Self(None)),
            Ack::Durable => {
                let (done, synced) = Self::durable();
                (Some(done), synced)
            }
        }
    }

    pub(crate) fn durable() -> (Done, Self) {
        let (tx, rx) = oneshot::channel();
        // A caller that went away does not want to know.
        let done = Box::new(move |result| drop(tx.send(result)));
        (done, Self(Some(rx)))
    }

    pub(crate) async fn wait(self) -> Result<(), Fault> {
        match self.0 {
            None => Ok(()),
            Some(rx) => match rx.await {
                Ok(result) => result.map_err(|e| fault(&e)),
                Err(_gone) => Err(Fault::new(ErrorKind::Unknown, "the journal's loop has ended")),
            },
        }
    }
}
