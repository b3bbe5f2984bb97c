//! A directory with extents to compact, and what is known of them outside.

pub(crate) use crate::needles::{acked, body, done, head, life, world};
use extent::{Appended, Body, DataDir, DataDirConfig, ExtentError, Opened, Read, Status};
use sim::SimDisk;
use std::collections::BTreeMap;
use std::sync::Arc;
use types::limits::{BLOCK_BYTES, FRAME_BYTES_MAX};
use types::{Epoch, ExtentId, Generation, NeedleId};
use world::Disk;

/// Most of what happens, happens here.
pub(crate) const X: ExtentId = ExtentId(0x1_0000_0000_0001);
/// It stays open.
pub(crate) const Y: ExtentId = ExtentId(0x1_0000_0000_0002);
/// All of it is dropped, then it is removed.
pub(crate) const Z: ExtentId = ExtentId(0x1_0000_0000_0003);
pub(crate) const E1: Epoch = Epoch(1);
pub(crate) const BALLAST_BYTES: u64 = 256 << 10;

pub(crate) fn config() -> DataDirConfig {
    DataDirConfig {
        journal_bytes: Some(256 << 10),
        extent_bytes: Some(4 << 20),
        extent_step_bytes: Some(64 << 10),
        ballast_bytes: Some(BALLAST_BYTES),
        ..DataDirConfig::default()
    }
}

pub(crate) fn open(seed: u64, disk: Arc<dyn Disk>) -> Result<Opened, ExtentError> {
    DataDir::open(&world(seed), disk, config())
}

/// Opens, or says why not; damage is a reason.
pub(crate) fn open_whole(seed: u64, disk: &SimDisk) -> Result<DataDir, String> {
    let opened = open(seed, Arc::new(disk.clone())).map_err(|e| e.to_string())?;
    if opened.report.damage.is_empty() && opened.report.lost.is_empty() {
        Ok(opened.dir)
    } else {
        Err(format!("damage without cause: {:?}", opened.report))
    }
}

/// A needle that was acked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Needle {
    pub(crate) extent: ExtentId,
    pub(crate) appended: Appended,
    pub(crate) serial: u64,
    pub(crate) length: usize,
    /// It may go, or has gone.
    pub(crate) dropped: bool,
}

/// What the world outside the machine knows.
#[derive(Clone, Default)]
pub(crate) struct Outside {
    pub(crate) needles: Vec<Needle>,
    /// The generation last answered, by extent.
    pub(crate) answered: BTreeMap<ExtentId, Generation>,
    /// The highest asked for.
    pub(crate) asked: BTreeMap<ExtentId, Generation>,
    /// Removal of Z was asked for, and answered.
    pub(crate) removing: bool,
    pub(crate) removed: bool,
    serial: u64,
}

pub(crate) async fn open_extent(dir: &DataDir, id: ExtentId) -> Result<(), ExtentError> {
    let (done, outcome) = done();
    dir.open_extent(id, E1, 4 << 20, done)?;
    acked(outcome).await
}

pub(crate) async fn seal(dir: &DataDir, id: ExtentId) -> Result<(), ExtentError> {
    let (done, outcome) = done();
    dir.seal(id, E1, done)?;
    acked(outcome).await
}

pub(crate) async fn close(dir: &DataDir) {
    let (done, outcome) = done();
    dir.close(done);
    acked(outcome).await.unwrap();
}

/// A compaction from its beginning to its end.
pub(crate) async fn compact(
    dir: &DataDir,
    id: ExtentId,
    to: u64,
    dropped: &[NeedleId],
) -> Result<Status, ExtentError> {
    let Some(mut compaction) = dir.begin_compaction(id, Generation(to), dropped)? else {
        return dir.status(id);
    };
    while !compaction.step(64 << 10)? {
        tokio::task::yield_now().await;
    }
    let (done, outcome) = done();
    let (status, _) = compaction.finish(done)?;
    acked(outcome).await?;
    assert_eq!(dir.status(id), Ok(status), "readers have switched");
    dir.sweep()?;
    Ok(status)
}

impl Outside {
    pub(crate) async fn put(
        &mut self,
        dir: &DataDir,
        extent: ExtentId,
        length: usize,
    ) -> Result<(), ExtentError> {
        self.serial += 1;
        let serial = self.serial;
        let (bytes, crcs) = body(serial, length);
        let (done, outcome) = done();
        let appended = if length <= 8000 {
            let body = Body {
                bytes: &bytes,
                crcs: &crcs,
            };
            dir.append((extent, E1), head(serial, length), body, Some(done))?
        } else {
            let mut large = dir.begin(extent, E1, head(serial, length))?;
            for (frame, crcs) in
                (bytes.chunks(FRAME_BYTES_MAX)).zip(crcs.chunks(FRAME_BYTES_MAX / BLOCK_BYTES))
            {
                large.frame(frame, crcs)?;
            }
            large.finish(Some(done))?
        };
        acked(outcome).await?;
        self.needles.push(Needle {
            extent,
            appended,
            serial,
            length,
            dropped: false,
        });
        Ok(())
    }

    /// A void.
    pub(crate) fn give_up(&mut self, dir: &DataDir, extent: ExtentId) {
        self.serial += 1;
        let (bytes, crcs) = body(self.serial, BLOCK_BYTES);
        let mut large = dir.begin(extent, E1, head(self.serial, 90_000)).unwrap();
        large.frame(&bytes, &crcs).unwrap();
    }

    /// X and Z sealed with footers, Y open. A large needle, one of two frames, a void.
    pub(crate) async fn set_up(&mut self, dir: &DataDir) {
        self.fill(dir).await;
        while dir.map_extents(1 << 20).unwrap() {}
        dir.checkpoint().unwrap();
    }

    /// The same without a checkpoint: no footers, and all of it is replayed after a crash.
    pub(crate) async fn fill(&mut self, dir: &DataDir) {
        for id in [X, Y, Z] {
            open_extent(dir, id).await.unwrap();
        }
        for n in 0..10 {
            self.put(dir, X, 200 + n * 611).await.unwrap();
            if n == 3 {
                self.give_up(dir, X);
            }
            if n == 5 {
                self.put(dir, X, 70_000).await.unwrap();
            }
            if n % 3 == 0 {
                self.put(dir, Y, 500 + n).await.unwrap();
                self.put(dir, Z, 700 + n).await.unwrap();
            }
        }
        self.put(dir, X, 1_060_000).await.unwrap();
        self.put(dir, X, 5).await.unwrap();
        seal(dir, X).await.unwrap();
        seal(dir, Z).await.unwrap();
    }

    /// Marks needles of an extent as dropped: each whose place among those left is a multiple of `every`.
    pub(crate) fn drop_some(&mut self, extent: ExtentId, every: usize) -> Vec<NeedleId> {
        let left = (self.needles.iter_mut()).filter(|n| n.extent == extent && !n.dropped);
        for needle in left.step_by(every) {
            needle.dropped = true;
        }
        self.dropped(extent)
    }

    pub(crate) fn dropped(&self, extent: ExtentId) -> Vec<NeedleId> {
        let of = self.needles.iter().filter(|n| n.extent == extent && n.dropped);
        of.map(|n| n.appended.needle).collect()
    }

    /// Asks for a generation, and notes what was answered.
    pub(crate) async fn compact(
        &mut self,
        dir: &DataDir,
        extent: ExtentId,
        to: u64,
        every: usize,
    ) -> Result<(), ExtentError> {
        // Asked again after a crash, it is the same list.
        let before = self.asked.insert(extent, Generation(to));
        let dropped = if before == Some(Generation(to)) {
            self.dropped(extent)
        } else {
            self.drop_some(extent, every)
        };
        let status = compact(dir, extent, to, &dropped).await?;
        assert_eq!(status.generation, Generation(to));
        self.answered.insert(extent, status.generation);
        Ok(())
    }

    pub(crate) async fn remove_z(&mut self, dir: &DataDir) -> Result<(), ExtentError> {
        self.removing = true;
        let (done, outcome) = done();
        dir.remove(Z, done)?;
        acked(outcome).await?;
        self.removed = true;
        dir.sweep()
    }

    /// Holds a directory against what is known.
    pub(crate) fn check(&self, dir: &DataDir) -> Result<(), String> {
        for id in [X, Y, Z] {
            self.check_extent(dir, id)?;
        }
        for needle in &self.needles {
            if needle.extent == Z && self.removing && dir.status(Z).is_err() {
                continue;
            }
            check_needle(dir, needle)?;
        }
        Ok(())
    }

    fn check_extent(&self, dir: &DataDir, id: ExtentId) -> Result<(), String> {
        let status = match dir.status(id) {
            Err(ExtentError::NoExtent(Z)) if self.removing => return Ok(()),
            Ok(_) if id == Z && self.removed => return Err("a removed extent is back".into()),
            other => other.map_err(|e| e.to_string())?,
        };
        let of = |map: &BTreeMap<ExtentId, Generation>| map.get(&id).copied().unwrap_or_default();
        let (answered, asked) = (of(&self.answered), of(&self.asked));
        if status.generation != answered && status.generation != asked {
            return Err(format!("{status:?}, answered {answered}, asked for {asked}"));
        }
        if status.generation == asked {
            let mut kept = self.needles.iter().filter(|n| n.extent == id && !n.dropped);
            // I7
            if asked > Generation(0) && status.needles != kept.by_ref().count() as u64 {
                return Err(format!("{status:?} has not the needles that were kept"));
            }
        }
        let (walked, next) = dir
            .walk(id, extent::Cursor::default(), true, 10_000)
            .map_err(|e| e.to_string())?;
        let bad = walked.iter().find(|w| w.damage.is_some());
        if let Some(bad) = bad.or(walked.first().filter(|_| next.is_some())) {
            return Err(format!("{bad:?} of {status:?}"));
        }
        Ok(())
    }
}

/// Reads a needle by the hints it has had, and by wrong ones. // I3, I5
pub(crate) fn check_needle(dir: &DataDir, needle: &Needle) -> Result<(), String> {
    let generation = dir.status(needle.extent).map_err(|e| e.to_string())?.generation;
    let Appended { offset, .. } = needle.appended;
    let hints = [
        (needle.appended.generation, offset),
        (Generation(generation.0 + 1), 4096),
        (generation, 8),
    ];
    let whole = body(needle.serial, needle.length);
    for hint in hints {
        match read_needle(dir, needle, &whole, hint) {
            Ok(()) => {}
            Err(ExtentError::Corrupt(what)) if needle.dropped && what.ends_with("is not there") => {}
            Err(e) => return Err(format!("{needle:?} by {hint:?}: {e}")),
        }
    }
    Ok(())
}

/// Reads all of a needle.
///
/// # Panics
/// Wrong bytes.
pub(crate) fn read_needle(
    dir: &DataDir,
    needle: &Needle,
    (bytes, crcs): &(Vec<u8>, Vec<u32>),
    hint: (Generation, u64),
) -> Result<(), ExtentError> {
    let blocks = FRAME_BYTES_MAX / BLOCK_BYTES;
    for first in (0..crcs.len()).step_by(blocks) {
        let count = (crcs.len() - first).min(blocks);
        let read = Read {
            extent: needle.extent,
            needle: needle.appended.needle,
            blob: head(needle.serial, needle.length).blob,
            hint,
            length: needle.length as u64,
            first_block: first as u32,
            block_count: count as u32,
        };
        let (got, got_crcs) = dir.read(&read)?;
        let to = needle.length.min((first + count) * BLOCK_BYTES);
        assert!(
            got == bytes[first * BLOCK_BYTES..to],
            "wrong bytes for {needle:?} by {hint:?}"
        );
        assert_eq!(got_crcs, crcs[first..first + count]);
    }
    Ok(())
}

/// The files of extents are those that the extents say.
pub(crate) fn check_files(disk: &SimDisk, dir: &DataDir) -> Result<(), String> {
    let there = disk.without_faults(|| disk.list("extents")).unwrap();
    let mut wanted: Vec<String> = (dir.extents().iter())
        .map(|e| match e.generation {
            Generation(0) => e.extent.to_string(),
            generation => format!("{}.{generation}", e.extent),
        })
        .collect();
    wanted.sort();
    if there == wanted {
        Ok(())
    } else {
        Err(format!("files {there:?}, wanted {wanted:?}"))
    }
}
