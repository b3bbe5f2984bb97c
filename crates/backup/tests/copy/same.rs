//! Copies that are taken over: only for their bytes, whatever their numbers, and whatever of the store's own cannot be read any more.

use crate::rig::{E1, PutBack, X, compact, put, put_at, rig, wait};
use backup::{ExtentCopy, Known};
use extent::{DataDir, Status};
use std::path::Path;

fn nothing(_: &Path) {}

fn one(dir: &DataDir) {
    put(dir, 1);
}

fn seal(dir: &DataDir) -> Status {
    wait(|done| dir.seal(X, E1.next(), done))
}

/// Turns a bit of the header of the needle that is the last in a file but so many.
fn flip_header(path: &Path, but: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    let magic = |at: &usize| bytes[*at..].starts_with(b"CNDL");
    let headers: Vec<usize> = (4096..bytes.len()).step_by(8).filter(magic).collect();
    bytes[headers[headers.len() - 1 - but] + 40] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

/// The directory is put back, and as many bytes are written anew.
#[test]
fn a_copy_is_taken_over_for_its_bytes_and_not_for_its_numbers() {
    let store = PutBack::to(one);
    let write = |hlc| {
        move |dir: &DataDir| {
            put_at(dir, 2, hlc);
            seal(dir)
        }
    };
    let first = store.anew(write(700), nothing, &Known::default());
    let second = store.anew(write(800), nothing, &store.known(&first));
    assert!(first.is_new && second.is_new);
    assert_eq!(first.copy.end, second.copy.end);
    assert_eq!((store.has(&first).2, store.has(&second).2), (700, 800));
}

/// Its last needle is the same, and salt and numbers are: what stayed of those before is another.
#[test]
fn a_copy_of_another_compaction_is_another() {
    let store = PutBack::to(|dir| {
        for serial in 1..4 {
            put_at(dir, serial, 100 - serial);
        }
        seal(dir);
    });
    let first = store.anew(|dir| compact(dir, &[1]), nothing, &Known::default());
    let again = store.copy(&wanted_of(&first.copy), &store.known(&first));
    assert!(!again.is_new && again.copy == first.copy);
    let second = store.anew(|dir| compact(dir, &[2]), nothing, &store.known(&first));
    assert_eq!(
        (first.copy.generation, first.copy.end),
        (second.copy.generation, second.copy.end)
    );
    assert!(second.is_new, "needle 1 is not in the first");
    assert_eq!((store.has(&first).2, store.has(&second).2), (98, 99));
    // Neither where the map cannot be read.
    let cut = |path: &Path| {
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        file.set_len(second.copy.end).unwrap();
    };
    let third = store.anew(|dir| compact(dir, &[2]), cut, &store.known(&first));
    assert!(!third.is_new && third.copy.file("d") == second.copy.file("d"));
    assert!(third.damage.is_empty());
}

fn wanted_of(copy: &ExtentCopy) -> backup::Wanted {
    backup::Wanted {
        extent: copy.id(),
        generation: copy.generation(),
        epoch: types::Epoch(copy.epoch),
        end: copy.end,
        salt: copy.mark.unwrap().salt,
    }
}

/// The store has it no more, the backup does: nothing is copied over it, or beside it.
#[test]
fn a_whole_copy_stays_where_the_last_header_rotted() {
    let rig = rig();
    let first = rig.copy(None, false);
    flip_header(&rig.files[0], 0);
    for verify in [false, true, false] {
        let again = rig.copy(Some(&first.copy), verify);
        assert!(!again.is_new);
        assert_eq!(again.copy, first.copy, "three needles, whole");
        assert_eq!(again.damage.len(), 1, "{:?}", again.damage);
        assert!(again.damage[0].contains("earlier backup"), "{:?}", again.damage);
        assert_eq!(rig.copies().len(), 1);
    }
    // More of it rots: what was there is still there.
    flip_header(&rig.files[0], 1);
    let again = rig.copy(Some(&first.copy), false);
    assert!(!again.is_new && again.copy == first.copy);
}

/// A whole copy of other bytes is none, however much of the store's own rotted.
#[test]
fn rot_at_the_end_makes_no_other_copy_its_own() {
    let store = PutBack::to(one);
    let write = |hlc| {
        move |dir: &DataDir| {
            put_at(dir, 2, hlc);
            put_at(dir, 3, hlc);
            seal(dir)
        }
    };
    let first = store.anew(write(700), nothing, &Known::default());
    let rotten = store.anew(write(800), |path| flip_header(path, 0), &store.known(&first));
    assert!(rotten.is_new);
    assert_eq!(store.has(&rotten), (2, 1, 800), "what can be read is in it");
    // It is taken over as it is, and told, by the next.
    let again = store.copy(&wanted_of(&rotten.copy), &store.known(&rotten));
    assert!(!again.is_new && again.copy == rotten.copy);
    assert_eq!(again.damage, rotten.damage);
    // Without anything known, too.
    let other = store.anew(write(900), |path| flip_header(path, 0), &Known::default());
    assert!(other.is_new);
    assert_eq!(store.has(&other).2, 900);
}

/// An earlier build's manifest knew numbers alone: where the bytes are the store's they are not copied a second time, which a backup's disk may
/// have no room for.
#[test]
fn a_copy_of_format_1_is_taken_over_where_it_is_one() {
    let store = PutBack::to(one);
    let write = |hlc| {
        move |dir: &DataDir| {
            put_at(dir, 2, hlc);
            seal(dir)
        }
    };
    let disk = store.disk.to_string();
    let mut first = store.anew(write(700), nothing, &Known::default());
    let path = |copy: &ExtentCopy| store.tmp.path().join("backups").join(copy.file(&disk));
    let wanted = wanted_of(&first.copy);
    let mark = first.copy.mark;
    let now = path(&first.copy);
    first.copy.mark = None;
    std::fs::rename(now, path(&first.copy)).unwrap();
    let taken = store.copy(&wanted, &store.known(&first));
    assert!(!taken.is_new && taken.damage.is_empty());
    assert_eq!((path(&taken.copy), taken.copy.mark), (path(&first.copy), mark));
    assert_eq!(store.has(&taken), (2, 0, 700));
    // From here on it is known by its mark.
    let again = store.copy(&wanted, &store.known(&taken));
    assert!(!again.is_new && again.copy == taken.copy);
    // Other bytes of the same numbers.
    let other = store.anew(write(800), nothing, &store.known(&first));
    assert!(other.is_new);
    assert_eq!(store.has(&other), (2, 0, 800));
    assert_eq!(
        store.has(&first),
        (2, 0, 700),
        "what another manifest names stays"
    );
}
