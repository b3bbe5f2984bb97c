//! The directory that a backup is restored into: a store only once it is whole.
//!
//! ```text
//!   empty ─▶ extents/restoring: no build takes it for a new store ─▶ restoring/…: a data directory is made there
//!         ─▶ its files move up, the superblock last ─▶ a store
//! ```
//! What a crash leaves before the last step is refused by every build, for it holds extents and no superblock; it is to be removed.

use crate::{BackupError, io};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use world::Disk;
use world::real::RealDisk;

const BUILD: &str = "restoring";
const MARKER: &str = "extents/restoring";
const SUPERBLOCK: &str = "superblock";

/// A directory being restored into.
pub struct Target {
    disk: Arc<dyn Disk>,
    root: PathBuf,
}

impl Target {
    /// Begins in a directory that is empty or not there.
    ///
    /// # Errors
    /// It is not empty.
    pub fn begin(root: &Path) -> Result<Self, BackupError> {
        let what = root.display().to_string();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(root).map_err(io(&what))?);
        let names = disk.list("").map_err(io(&what))?;
        if names.iter().any(|name| name != "lost+found") {
            let cut = disk.exists(MARKER).unwrap_or(false);
            return Err(BackupError::Refused(if cut {
                format!("{what}: a restore was broken off here; remove what is in it and restore again")
            } else {
                format!("{what} is not empty; nothing was changed")
            }));
        }
        disk.create_dir("extents").map_err(io(&what))?;
        let marker = disk.create(MARKER).map_err(io(MARKER))?;
        marker.sync_data().map_err(io(MARKER))?;
        disk.sync_dir("extents").map_err(io(&what))?;
        disk.sync_dir("").map_err(io(&what))?;
        disk.create_dir(BUILD).map_err(io(BUILD))?;
        Ok(Self {
            disk,
            root: root.to_path_buf(),
        })
    }

    /// Where the data directory is made.
    ///
    /// # Errors
    /// The file system's.
    pub fn build(&self) -> Result<Arc<dyn Disk>, BackupError> {
        Ok(Arc::new(
            RealDisk::open(&self.root.join(BUILD)).map_err(io(BUILD))?,
        ))
    }

    /// It is whole, closed and synced: from here on the directory is a store.
    ///
    /// # Errors
    /// The file system's.
    pub fn end(self) -> Result<(), BackupError> {
        let names = self.disk.list(BUILD).map_err(io(BUILD))?;
        let up = |name: &str| {
            let moved = self.disk.rename(&format!("{BUILD}/{name}"), name);
            moved.map_err(io(name))
        };
        // Others first: any of them keeps builds from taking the directory for a new one.
        for name in names
            .iter()
            .filter(|name| ![SUPERBLOCK, "extents"].contains(&name.as_str()))
        {
            up(name)?;
        }
        self.disk.sync_dir("").map_err(io(""))?;
        for name in self
            .disk
            .list(&format!("{BUILD}/extents"))
            .map_err(io("extents"))?
        {
            up(&format!("extents/{name}"))?;
        }
        self.disk.remove(MARKER).map_err(io(MARKER))?;
        self.disk.sync_dir("extents").map_err(io("extents"))?;
        up(SUPERBLOCK)?;
        self.disk.sync_dir("").map_err(io(""))?;
        for dir in [format!("{BUILD}/extents"), BUILD.to_owned()] {
            remove_dir(&self.root.join(dir));
        }
        Ok(())
    }
}

/// Empty ones that stay hinder nobody.
fn remove_dir(path: &Path) {
    match std::fs::remove_dir(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => {
            tracing::debug!(path = %path.display(), error = %e, "stays")
        }
        _ => {}
    }
}
