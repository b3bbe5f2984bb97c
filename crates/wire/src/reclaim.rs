//! What gc asks the index: which bytes lost their name, and whether a needle has one.
//!
//! ```text
//!   garbage:  garbage() ── pages of needles ──▶ dropped list, durable ──▶ ForgetGarbage (row and manifest pages go)
//!   orphans:  reached() ── Unnamed ──▶ Condemn ── Condemned ──▶ dropped list … session ended ──▶ ForgetCondemned
//!                      └── Condemned (its session has ended: nothing can name it any more) ──▶ dropped list
//! ```
//! Every step may be done twice. A row that names needles goes after the dropped list has them, so what dies in between is
//! handed over again, never lost.

use crate::Fault;
use crate::index::Index;
use crate::node::OwnerRef;
use crate::records::Chunk;
use bytes::Bytes;
use types::{BlobId, BucketId, ExtentId, Hlc, NeedleId, ObjectKey, UploadId};

/// A booking, to be forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BookedRef {
    /// Home bucket.
    pub bucket: BucketId,
    /// Object key.
    pub key: String,
    /// Which bytes.
    pub blob: BlobId,
    /// When it was booked: another booking is not meant.
    pub booked: Hlc,
}

/// Needles of a blob that nothing names any more. A blob with a manifest comes as one of these a page, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Booked {
    /// Which booking.
    pub row: BookedRef,
    /// Which page of it, from 0.
    pub page: u32,
    /// Whether it is the booking's last page: once that and all before were handed over, the booking may be forgotten.
    pub is_last: bool,
    /// The needles.
    pub chunks: Vec<Chunk>,
}

/// A needle of which gc does not know whether anything names it, as its header says whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// Whom it says it belongs to.
    pub owner: OwnerRef,
    /// Whose bytes it says it has. The session in it is the one that may name it.
    pub blob: BlobId,
    /// Where it is.
    pub extent: ExtentId,
    /// Which needle of that.
    pub needle: NeedleId,
}

/// Whether a needle can be reached. The numbers are stored in `done` rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Reach {
    /// An object, a version or a part of an upload names it, or may: it stays.
    Named = 1,
    /// It is booked as garbage: `Reclaim::garbage` brings it.
    Booked = 2,
    /// Nothing names it, and nothing ever will: it may be dropped.
    Condemned = 3,
    /// Nothing names it now. To make sure that it stays so it is to be condemned.
    Unnamed = 4,
}

impl Reach {
    /// The stored number back.
    pub fn from_number(n: u8) -> Option<Self> {
        [Self::Named, Self::Booked, Self::Condemned, Self::Unnamed]
            .into_iter()
            .find(|r| *r as u8 == n)
    }
}

/// What is known of needles at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// One a doubt, in their order.
    pub each: Vec<Reach>,
    /// Those that nothing names.
    pub unnamed: Unnamed,
}

impl Reached {
    /// What was found of `doubts` as of a moment.
    ///
    /// # Panics
    /// Unless there is one answer each.
    pub fn new(as_of: Hlc, doubts: Vec<Doubt>, each: Vec<Reach>) -> Self {
        assert_eq!(doubts.len(), each.len(), "one answer a doubt");
        let unnamed = doubts.into_iter().zip(&each);
        let doubts = unnamed.filter(|(_, r)| **r == Reach::Unnamed).map(|(d, _)| d);
        Self {
            unnamed: Unnamed {
                doubts: doubts.collect(),
                as_of,
            },
            each,
        }
    }
}

/// Needles that nothing named at a moment: what comes after it is for [`crate::index::Command::Condemn`] to see. They cannot be had
/// without having been looked for, because the commit trusts that they were.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unnamed {
    doubts: Vec<Doubt>,
    as_of: Hlc,
}

impl Unnamed {
    /// Of which nothing is known: the commit looks at all there is, and takes more for named than is.
    pub fn unknown(doubts: Vec<Doubt>) -> Self {
        Self {
            doubts,
            as_of: Hlc(0),
        }
    }

    /// Only those of them that `keep` keeps.
    #[must_use]
    pub fn only(mut self, keep: impl FnMut(&Doubt) -> bool) -> Self {
        self.doubts.retain(keep);
        self
    }

    /// Which, in the order they were asked about.
    pub fn doubts(&self) -> &[Doubt] {
        &self.doubts
    }

    /// The moment.
    pub fn as_of(&self) -> Hlc {
        self.as_of
    }
}

/// An upload that nobody has worked on for long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdleUpload {
    /// Where.
    pub bucket: BucketId,
    /// Under which key.
    pub key: ObjectKey,
    /// Which upload.
    pub upload: UploadId,
}

/// What the index does for gc, beside its commands.
#[async_trait::async_trait]
pub trait Reclaim: Index {
    /// A page of bookings from an opaque cursor (empty: the start); the next cursor, empty at the end. At most `count_max`
    /// entries, and about `limits::GARBAGE_PAGE_CHUNKS` chunks however long a manifest is. Bookings made meanwhile may or may not
    /// come; a pass that was broken off begins again at the start.
    async fn garbage(&self, cursor: Bytes, count_max: usize) -> Result<(Vec<Booked>, Bytes), Fault>;
    /// Whether these needles can be reached, exactly, at one moment; without a commit. At most `limits::DOUBTS_MAX`; those of one key
    /// together cost less.
    async fn reached(&self, doubts: Vec<Doubt>) -> Result<Reached, Fault>;
    /// A page of uploads that were begun, and whose newest part and last step of a completion were, before `before_ms`
    /// of the wall clock; the next cursor, empty at the end. A page reads a bounded number of rows, and may be empty.
    async fn uploads_idle(&self, cursor: Bytes, before_ms: u64) -> Result<(Vec<IdleUpload>, Bytes), Fault>;
}
