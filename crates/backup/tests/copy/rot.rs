//! Copies of an extent that rotted, here or there: what each run says of it, and which bytes stay.

use crate::rig::{X, close, open, pace, rig, wait};
use extent::{Said, examine, extent_path};
use std::io;
use types::Epoch;
use world::real::RealDisk;
use world::{Disk as _, DiskFile};

#[test]
fn a_copy_that_is_taken_over_is_as_whole_as_it_was() {
    let rig = rig();
    let first = rig.copy(None, false);
    assert_eq!((first.copy.needles, first.copy.damaged), (3, 0));
    let second = rig.copy(Some(&first.copy), false);
    assert!(!second.is_new);
    assert_eq!(second.copy, first.copy);
    // What an earlier backup that was broken off left, too: no manifest says anything of it.
    let unknown = rig.copy(None, false);
    assert!(!unknown.is_new);
    assert_eq!(unknown.copy, first.copy);
}

#[test]
fn damage_is_told_by_every_backup_that_has_it() {
    let rig = rig();
    rig.flip(0, 1);
    let first = rig.copy(None, false);
    assert_eq!(
        (first.copy.needles, first.copy.damaged, first.damage.len()),
        (3, 1, 1)
    );
    for known in [Some(&first.copy), None] {
        let again = rig.copy(known, false);
        assert!(!again.is_new);
        assert_eq!((&again.copy, &again.damage), (&first.copy, &first.damage));
    }
}

#[test]
fn a_copy_is_replaced_by_a_whole_one_and_by_nothing_less() {
    let rig = rig();
    let first = rig.copy(None, false);
    let whole = rig.bytes(1);
    // One needle is good in the copy alone, another in the store alone.
    rig.flip(1, 0);
    rig.flip(0, 2);
    let before = rig.bytes(1);
    let verified = rig.copy(Some(&first.copy), true);
    assert_eq!((verified.is_new, verified.copy.damaged), (false, 1));
    assert!(
        rig.bytes(1) == before,
        "what the store has no more is still there"
    );
    // The store's bytes are read right again.
    rig.flip(0, 2);
    let verified = rig.copy(Some(&verified.copy), true);
    assert_eq!((verified.is_new, verified.copy.damaged), (true, 0));
    assert!(rig.bytes(1) == whole);
}

#[test]
fn an_extent_that_is_cut_or_has_lost_its_head_is_damage_and_no_end() {
    let rig = rig();
    let end = rig.needles[2].offset + 8;
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(&rig.files[0])
        .unwrap();
    file.set_len(end).unwrap();
    let cut = rig.copy(None, false);
    assert_eq!((cut.copy.needles, cut.damage.len()), (2, 1), "{:?}", cut.damage);
    std::fs::remove_file(rig.file(1)).unwrap();
    let mut bytes = std::fs::read(&rig.files[0]).unwrap();
    bytes[8] ^= 1;
    std::fs::write(&rig.files[0], bytes).unwrap();
    for _ in 0..2 {
        let headless = rig.copy(None, false);
        assert_eq!((headless.copy.needles, headless.copy.damaged), (2, 2));
        assert!(headless.damage[1].contains("head"), "{:?}", headless.damage);
    }
}

#[test]
fn a_copy_without_its_head_has_all_its_needles() {
    let rig = rig();
    let whole = rig.copy(None, false);
    let path = rig.file(1);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[..4096].fill(0);
    std::fs::write(&path, bytes).unwrap();
    let file = rig
        .dest
        .disk()
        .open(&whole.copy.file(&rig.disk.to_string()))
        .unwrap();
    let examined = examine(&file, rig.disk, &whole.copy.said()).unwrap();
    assert_eq!(
        (examined.needles, examined.damaged),
        (3, 1),
        "{:?}",
        examined.damage
    );
    let salt = whole.copy.said().salt.unwrap();
    let said = |salt| Said {
        salt,
        ..whole.copy.said()
    };
    // Neither with another's salt nor without any.
    assert!(examine(&file, rig.disk, &said(None)).is_err());
    assert_eq!(
        examine(&file, rig.disk, &said(Some(salt ^ 1))).unwrap().needles,
        0
    );
}

#[test]
fn what_damage_hides_counts_where_a_copy_is_adopted() {
    // Of three needles the headers of some hold.
    for (bad, at_least) in [(&[0, 1, 2][..], 1), (&[1], 3), (&[2], 3), (&[0, 1], 3)] {
        let rig = rig();
        let whole = rig.copy(None, false);
        let mut bytes = rig.bytes(1);
        for needle in bad {
            bytes[rig.needles[*needle].offset as usize + 40] ^= 1;
        }
        let tmp = tempfile::tempdir().unwrap();
        let dir = open(tmp.path());
        let path = tmp.path().join(extent_path(X, whole.copy.generation()));
        std::fs::write(&path, bytes).unwrap();
        let file = RealDisk::open(tmp.path())
            .unwrap()
            .open(&extent_path(X, whole.copy.generation()));
        let examined = examine(&file.unwrap(), rig.disk, &whole.copy.said()).unwrap();
        assert_eq!(examined.needles, 3 - bad.len() as u64);
        wait(|done| dir.adopt(&examined, Epoch(2), done));
        let needles = dir.status(X).unwrap().needles;
        assert!((at_least..=3).contains(&needles), "{bad:?}: {needles}");
        close(dir);
    }
}

/// A file of which some bytes cannot be read.
struct Unreadable(std::ops::Range<u64>);

impl DiskFile for Unreadable {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        buf.fill(7);
        match offset < self.0.end && self.0.start < offset + buf.len() as u64 {
            true => Err(io::Error::other("the disk cannot read it")),
            false => Ok(()),
        }
    }
    fn write_all_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        unreachable!("it is read only")
    }
    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
    fn len(&self) -> io::Result<u64> {
        Ok(1 << 30)
    }
    fn set_len(&self, _: u64) -> io::Result<()> {
        unreachable!("it is read only")
    }
    fn allocate(&self, _: u64, _: u64) -> io::Result<()> {
        unreachable!("it is read only")
    }
}

#[test]
fn what_cannot_be_read_is_zeroes_and_the_rest_is_copied() {
    let tmp = tempfile::tempdir().unwrap();
    let to = RealDisk::open(tmp.path()).unwrap().create("to").unwrap();
    let from = Unreadable(3_000_000..3_005_000);
    let length = 5_000_000;
    pace().copy_past_damage(&from, &*to, length).unwrap();
    let mut bytes = vec![0; length as usize];
    to.read_exact_at(&mut bytes, 0).unwrap();
    let zeroes = bytes.iter().filter(|byte| **byte == 0).count();
    assert!((5_000..5_000 + 2 * 4096).contains(&zeroes), "{zeroes}");
    assert!(bytes[3_000_000..3_005_000].iter().all(|byte| *byte == 0));
    assert!(bytes.iter().all(|byte| [0, 7].contains(byte)));
}
