//! Bugs planted on purpose: the tests that must catch a class of bug are shown one.
//!
//! Without the cargo feature `plant`, which only the simulation and the crash tests' binary are built with,
//! [`is_planted`] is the constant `false` and the planted code is gone from the program.

/// A bug that can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Plant {
    /// The journal answers without its sync.
    SkipSync = 1,
    /// A put is answered before the index has committed it.
    AckBeforeIndex = 2,
    /// Recovery takes records of an earlier lap for new ones.
    ReplayPreviousLap = 4,
    /// Recovery cuts the journal at a corrupt record as if it were a torn tail.
    CutAtCorruption = 8,
    /// A known command is decided again instead of getting its old answer.
    ForgetDone = 16,
    /// A bucket's second deleter finishes though the first has reopened the bucket.
    SecondDeleter = 32,
    /// A compaction gives a needle that does not verify new checksums instead of stopping.
    CompactOverBad = 64,
    /// gc drops what lost its name without asking who reads it.
    DropUnderReader = 128,
    /// gc drops orphans without the commit which promises that nothing will name them.
    CondemnWithoutCommit = 256,
    /// An index is restored and reclaim is not held.
    ReclaimAfterRestore = 512,
    /// A checkpoint lets the journal go before what it fed is synced.
    RecycleEarly = 1024,
    /// Reclaim goes on while it is held.
    ReclaimWhileHeld = 2048,
    /// An extent is not given back when the client of a large append goes away.
    KeepSlot = 4096,
    /// A copy of the index has its partitions as of different moments.
    SnapshotByPartition = 8192,
    /// A put that fails does not give back its memory.
    KeepMemory = 16384,
    /// The scrub takes every other extent for read.
    ScrubSkips = 32768,
    /// The scrub takes needles that do not verify for good ones.
    ScrubOverBad = 65536,
    /// The scrub tells nobody what it found.
    ScrubSilent = 131_072,
    /// A large needle is named before its bytes are synced.
    SkipExtentSync = 262_144,
    /// The index's pages are not synced at the end of a turn.
    SkipPageSync = 524_288,
    /// No bug, a way: every file system refuses to write past the page cache.
    RefuseDirect = 1_048_576,
}

impl Plant {
    /// All of them.
    pub const ALL: [Self; 21] = [
        Self::SkipSync,
        Self::AckBeforeIndex,
        Self::ReplayPreviousLap,
        Self::CutAtCorruption,
        Self::ForgetDone,
        Self::SecondDeleter,
        Self::CompactOverBad,
        Self::DropUnderReader,
        Self::CondemnWithoutCommit,
        Self::ReclaimAfterRestore,
        Self::RecycleEarly,
        Self::ReclaimWhileHeld,
        Self::KeepSlot,
        Self::SnapshotByPartition,
        Self::KeepMemory,
        Self::ScrubSkips,
        Self::ScrubOverBad,
        Self::ScrubSilent,
        Self::SkipExtentSync,
        Self::SkipPageSync,
        Self::RefuseDirect,
    ];

    /// Its name on a command line: `skip-sync`, `ack-before-index`, `replay-previous-lap`, `cut-at-corruption`,
    /// `forget-done`, `second-deleter`, `compact-over-bad`, `drop-under-reader`, `condemn-without-commit`, `reclaim-after-restore`,
    /// `recycle-early`, `reclaim-while-held`, `keep-slot`, `snapshot-by-partition`, `keep-memory`, `scrub-skips`,
    /// `scrub-over-bad`, `scrub-silent`, `skip-extent-sync`, `skip-page-sync`, `refuse-direct`.
    pub fn name(self) -> &'static str {
        match self {
            Self::SkipSync => "skip-sync",
            Self::AckBeforeIndex => "ack-before-index",
            Self::ReplayPreviousLap => "replay-previous-lap",
            Self::CutAtCorruption => "cut-at-corruption",
            Self::ForgetDone => "forget-done",
            Self::SecondDeleter => "second-deleter",
            Self::CompactOverBad => "compact-over-bad",
            Self::DropUnderReader => "drop-under-reader",
            Self::CondemnWithoutCommit => "condemn-without-commit",
            Self::ReclaimAfterRestore => "reclaim-after-restore",
            Self::RecycleEarly => "recycle-early",
            Self::ReclaimWhileHeld => "reclaim-while-held",
            Self::KeepSlot => "keep-slot",
            Self::SnapshotByPartition => "snapshot-by-partition",
            Self::KeepMemory => "keep-memory",
            Self::ScrubSkips => "scrub-skips",
            Self::ScrubOverBad => "scrub-over-bad",
            Self::ScrubSilent => "scrub-silent",
            Self::SkipExtentSync => "skip-extent-sync",
            Self::SkipPageSync => "skip-page-sync",
            Self::RefuseDirect => "refuse-direct",
        }
    }

    /// The one of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|plant| plant.name() == name)
    }
}

/// Whether `plant` is planted here.
#[cfg(not(feature = "plant"))]
#[inline(always)]
pub const fn is_planted(_plant: Plant) -> bool {
    false
}

#[cfg(feature = "plant")]
pub use planted::{is_planted, plant_process, plant_thread};

#[cfg(feature = "plant")]
mod planted {
    use super::Plant;
    use std::cell::Cell;
    use std::sync::atomic::{AtomicU32, Ordering};

    static PROCESS: AtomicU32 = AtomicU32::new(0);
    thread_local! {
        static THREAD: Cell<u32> = const { Cell::new(0) };
    }

    /// Whether `plant` is planted here.
    pub fn is_planted(plant: Plant) -> bool {
        (THREAD.get() | PROCESS.load(Ordering::Relaxed)) & plant as u32 != 0
    }

    /// Plants a bug in this thread, where a whole simulation runs; `None` takes all out.
    pub fn plant_thread(plant: Option<Plant>) {
        THREAD.set(plant.map_or(0, |plant| plant as u32));
    }

    /// Plants a bug in every thread, for good.
    pub fn plant_process(plant: Plant) {
        PROCESS.fetch_or(plant as u32, Ordering::Relaxed);
    }
}
