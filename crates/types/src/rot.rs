//! What stored bytes were, that are not what was written.

/// What is damaged: the label `where` of `cairn_corruption_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rot {
    /// A data directory's superblock.
    Superblock,
    /// Records of a disk's journal.
    Journal,
    /// The table of extents.
    ExtentTable,
    /// An extent's file, its header block, or needles that recovery met.
    Extent,
    /// A sealed extent's map of needles.
    NeedleMap,
    /// A needle, its header or its bytes.
    Needle,
    /// An index file that cannot be opened, or its log.
    IndexFile,
    /// A page or row of an index file.
    IndexPage,
    /// The catalogue of index files.
    Catalogue,
}

impl Rot {
    /// As metrics and the log say it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Superblock => "superblock",
            Self::Journal => "journal",
            Self::ExtentTable => "extent table",
            Self::Extent => "extent",
            Self::NeedleMap => "needle map",
            Self::Needle => "needle",
            Self::IndexFile => "index file",
            Self::IndexPage => "index page",
            Self::Catalogue => "index catalogue",
        }
    }
}
