//! The real disk and the overlay pass the disks' suite.

use std::sync::Arc;
use world::real::RealDisk;
use world::{Disk, Overlay};

#[test]
fn the_real_disk_conforms() {
    let dir = tempfile::tempdir().unwrap();
    let count = std::cell::Cell::new(0);
    world::suite::disk(&|| {
        count.set(count.get() + 1);
        Arc::new(RealDisk::open(&dir.path().join(count.get().to_string())).unwrap())
    });
}

#[test]
fn an_overlay_conforms_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let below: Arc<dyn Disk> = Arc::new(RealDisk::open(dir.path()).unwrap());
    world::suite::disk(&|| Arc::new(Overlay::new(below.clone())));
    let left = below.list("").unwrap();
    assert!(left.iter().all(|name| name == "lock"), "{left:?}");
}
