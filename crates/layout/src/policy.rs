//! How an extent is kept.

/// How many copies, or data and parity shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Whole copies on this many disks.
    Replicated(u32),
    /// Shards on `data + parity` disks. Reserved: this build writes none.
    Coded {
        /// Shards that suffice to read.
        data: u32,
        /// Shards that may be lost.
        parity: u32,
    },
}

impl Policy {
    /// How many disks it asks for.
    pub fn width(self) -> usize {
        match self {
            Self::Replicated(copies) => copies as usize,
            Self::Coded { data, parity } => data as usize + parity as usize,
        }
    }
}
