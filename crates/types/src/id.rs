//! Ids. Every id is a newtype; the ones that could meet another cluster's carry the stamp in their top 16 bits.
//! Bytes on disk are big-endian wherever order matters (row keys) and little-endian elsewhere (docs/formats/ids.md).

use std::fmt;

macro_rules! id64 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u64);
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:x})"), self.0)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:016x}", self.0)
            }
        }
        impl From<u64> for $name {
            fn from(v: u64) -> Self { Self(v) }
        }
    };
}

/// One cluster. 0 is never used, so an all-zero id is always invalid.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct StampId(pub u16);

impl StampId {
    /// The stamp of a store that no location service has numbered yet.
    pub const FIRST: Self = Self(1);

    /// An id of this stamp: stamp in bits 63..48, `serial` below.
    ///
    /// # Panics
    /// When `serial` does not fit 48 bits: ids are never reused, so running out is a bug.
    pub fn id(self, serial: u64) -> u64 {
        assert!(serial < 1 << 48, "id serials are 48 bits");
        (u64::from(self.0) << 48) | serial
    }
}

id64!(/** A tenant: owns buckets and access keys. 1 is the root account. */ AccountId);
id64!(/** A bucket's number: stamp and serial, never reused. */ BucketId);
id64!(/** An extent's number: stamp and serial, never reused. */ ExtentId);
id64!(/** A needle's number inside its extent, from 1, in append order; it survives compaction. */ NeedleId);
id64!(/** A storage node. */ NodeId);
id64!(/** A range of the index. */ PartitionId);
id64!(/** A gateway's life, from its lease row; higher is later. 0 is nobody. */ SessionId);
id64!(/** Fencing number of an owner of a partition or a writer of an extent; higher is newer. */ Epoch);
id64!(/** A record's place in one disk's journal, from 1, never reused. */ JournalSeq);
id64!(/** A batch's place in one partition's log, from 1, dense. */ LogSeq);
id64!(/** Which compaction of an extent: 0 is as written. */ Generation);

impl AccountId {
    /// The account of the root access key.
    pub const ROOT: Self = Self(1);
}

impl PartitionId {
    /// System tables: buckets, accounts, access keys.
    pub const DIRECTORY: Self = Self(1);
    /// System tables: sessions, nodes, disks, extents, copies.
    pub const CONTROL: Self = Self(2);
    /// The first partition of objects; until partitions split it is the only one.
    pub const FIRST_DATA: Self = Self(16);
}

impl Epoch {
    /// The next epoch.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("epochs do not run out"))
    }
}

/// Hybrid logical time: milliseconds since 1970 in bits 63..16, a counter in bits 15..0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Hlc(pub u64);

impl Hlc {
    /// The time `wall_ms` with counter 0.
    pub fn at(wall_ms: u64) -> Self {
        Self((wall_ms & ((1 << 48) - 1)) << 16)
    }

    /// The milliseconds since 1970 in it.
    pub fn wall_ms(self) -> u64 {
        self.0 >> 16
    }

    /// The least time that is after `self` and not before `wall_ms`.
    #[must_use]
    pub fn after(self, wall_ms: u64) -> Self {
        Self::at(wall_ms).max(Self(self.0.checked_add(1).expect("hybrid time does not run out")))
    }
}

macro_rules! id128 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u128);
        impl $name {
            /// Big-endian bytes: their order is the id's order.
            pub fn to_bytes(self) -> [u8; 16] { self.0.to_be_bytes() }
            /// From big-endian bytes; `None` unless there are exactly 16.
            pub fn from_slice(b: &[u8]) -> Option<Self> {
                Some(Self(u128::from_be_bytes(b.try_into().ok()?)))
            }
            /// From the 32 hexadecimal digits that `Display` writes.
            pub fn parse(s: &str) -> Option<Self> {
                if s.len() != 32 || !s.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) { return None; }
                u128::from_str_radix(s, 16).ok().map(Self)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:032x})"), self.0)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { write!(f, "{:032x}", self.0) }
        }
    };
}

id128!(/** A disk, random, in its superblock. */ DiskId);
id128!(/** An object's bytes: session (64 bits) and serial within it (64 bits). */ BlobId);
id128!(/** A multipart upload: initiation time (HLC, 64), stamp (16), sequence (48); ids of one key sort by initiation. */ UploadId);
id128!(/**
    A version of an object: inverted time (HLC, 64), stamp (16), inverted sequence (48), so the newest sorts first.
    Given in the commit, always before (newer than) every version its key ever had.
*/ VersionId);
id128!(/** A mutating command: session (64 bits) and serial within it (64 bits). */ CommandId);

impl BlobId {
    /// The blob `serial` of `session`.
    pub fn new(session: SessionId, serial: u64) -> Self {
        Self((u128::from(session.0) << 64) | u128::from(serial))
    }
    /// The session that wrote it.
    pub fn session(self) -> SessionId {
        SessionId((self.0 >> 64) as u64)
    }
    /// Whether it is an upload's id, under which an object of parts is named: those begin with a time, blobs with the number of a session.
    pub fn is_upload(self) -> bool {
        self.0 >> 64 >= 1 << 40
    }
}

impl CommandId {
    /// The command `serial` of `session`.
    pub fn new(session: SessionId, serial: u64) -> Self {
        Self((u128::from(session.0) << 64) | u128::from(serial))
    }
    /// The session that sent it.
    pub fn session(self) -> SessionId {
        SessionId((self.0 >> 64) as u64)
    }
    /// Its place in the session, from 1.
    pub fn serial(self) -> u64 {
        self.0 as u64
    }
}

impl VersionId {
    /// The version made at `time` by `stamp` as its `sequence`-th.
    pub fn new(time: Hlc, stamp: StampId, sequence: u64) -> Self {
        assert!(sequence < 1 << 48, "version sequences are 48 bits");
        let low = (!sequence) & ((1 << 48) - 1);
        Self((u128::from(!time.0) << 64) | (u128::from(stamp.0) << 48) | u128::from(low))
    }
    /// When it was made.
    pub fn time(self) -> Hlc {
        Hlc(!((self.0 >> 64) as u64))
    }
}

impl UploadId {
    /// The upload begun at `time` on `stamp` as its `sequence`-th.
    pub fn new(time: Hlc, stamp: StampId, sequence: u64) -> Self {
        assert!(sequence < 1 << 48, "upload sequences are 48 bits");
        Self((u128::from(time.0) << 64) | (u128::from(stamp.0) << 48) | u128::from(sequence))
    }
    /// When it was begun.
    pub fn time(self) -> Hlc {
        Hlc((self.0 >> 64) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_versions_sort_first() {
        let a = VersionId::new(Hlc::at(1000), StampId::FIRST, 1);
        let b = VersionId::new(Hlc::at(1001), StampId::FIRST, 1);
        let c = VersionId::new(Hlc::at(1001), StampId::FIRST, 2);
        assert!(c < b && b < a);
        assert_eq!(c.time().wall_ms(), 1001);
    }

    #[test]
    fn hybrid_time_never_goes_back() {
        let t = Hlc::at(5000);
        assert!(t.after(1) > t);
        assert_eq!(t.after(6000).wall_ms(), 6000);
    }

    #[test]
    fn ids_parse_what_they_print() {
        let v = VersionId::new(Hlc::at(77), StampId::FIRST, 9);
        assert_eq!(VersionId::parse(&v.to_string()), Some(v));
        assert_eq!(VersionId::parse("null"), None);
        assert_eq!(VersionId::parse(&"G".repeat(32)), None);
        assert_eq!(VersionId::from_slice(&v.to_bytes()), Some(v));
    }
}
