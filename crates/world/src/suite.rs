//! What every [`Disk`] must do, as code: run for the real disk, the overlay and the simulated disk by their tests.
//!
//! What survives a power cut is not here: only the simulated disk can be cut.

use crate::{Aligned, Disk};
use std::io::ErrorKind;
use std::sync::Arc;
use types::limits::DIRECT_BYTES;

/// Runs every case, each on a fresh, empty disk.
///
/// # Panics
/// When the disk does not do what the trait promises.
pub fn disk(fresh: &dyn Fn() -> Arc<dyn Disk>) {
    for case in [
        files_are_made_once,
        bytes_come_back,
        pages_come_back_between_other_bytes,
        reads_do_not_pass_the_end,
        lengths_cut_and_grow_with_zeroes,
        allocation_grows_and_keeps,
        names_move_and_go,
        directories_list_their_own,
        locks_are_held_by_one,
        open_files_outlive_their_names,
    ] {
        case(fresh().as_ref());
    }
}

fn kind<T>(result: std::io::Result<T>) -> Option<ErrorKind> {
    result.err().map(|e| e.kind())
}

fn files_are_made_once(disk: &dyn Disk) {
    assert_eq!(disk.exists("a").ok(), Some(false));
    assert_eq!(kind(disk.open("a")), Some(ErrorKind::NotFound));
    let file = disk.create("a").expect("a new file");
    assert!(file.is_empty().expect("a length"));
    assert_eq!(disk.exists("a").ok(), Some(true));
    assert_eq!(kind(disk.create("a")), Some(ErrorKind::AlreadyExists));
    assert_eq!(kind(disk.create("no/a")), Some(ErrorKind::NotFound));
    disk.sync_dir("").expect("the root syncs");
}

fn bytes_come_back(disk: &dyn Disk) {
    let file = disk.create("a").expect("a new file");
    let bytes: Vec<u8> = (0..20_000_u32).map(|n| (n % 251) as u8).collect();
    file.write_all_at(&bytes, 0).expect("a write");
    file.write_all_at(&[7; 1000], 4000).expect("a write over it");
    file.write_all_at(&[9; 3], 30_001).expect("a write past the end");
    file.write_all_at(&[], 90_000).expect("an empty write");
    file.sync_data().expect("a sync");
    assert_eq!(file.len().ok(), Some(30_004));
    let mut back = vec![1; 30_004];
    disk.open("a")
        .expect("it opens")
        .read_exact_at(&mut back, 0)
        .expect("a read");
    assert_eq!(back[..4000], bytes[..4000]);
    assert_eq!(back[4000..5000], [7; 1000]);
    assert_eq!(back[5000..20_000], bytes[5000..]);
    assert!(back[20_000..30_001].iter().all(|b| *b == 0));
    assert_eq!(back[30_001..], [9; 3]);
}

/// Whatever was in memory of these pages before, whoever looks sees what was written last.
fn pages_come_back_between_other_bytes(disk: &dyn Disk) {
    const PAGE: usize = DIRECT_BYTES;
    let file = disk.create("a").expect("a new file");
    file.allocate(0, 8 * PAGE as u64).expect("room");
    let mut pages = Aligned::default();
    for byte in [1, 2] {
        file.write_all_at(&[byte; 3 * PAGE], 100)
            .expect("bytes around them");
        pages.hold([&[byte + 2; 5], &[byte + 4; 2 * PAGE - 5]]);
        file.write_pages_at(&pages, PAGE as u64).expect("pages");
        file.write_all_at(&[byte + 6; PAGE], 3 * PAGE as u64)
            .expect("bytes behind them");
        if byte == 2 {
            file.sync_data().expect("a sync");
        }
        let mut back = vec![9; 8 * PAGE];
        file.read_exact_at(&mut back, 0).expect("a read");
        assert_eq!(back[..100], [0; 100]);
        assert!(back[100..PAGE].iter().all(|b| *b == byte));
        assert_eq!(back[PAGE..PAGE + 5], [byte + 2; 5]);
        assert!(back[PAGE + 5..3 * PAGE].iter().all(|b| *b == byte + 4));
        assert!(back[3 * PAGE..4 * PAGE].iter().all(|b| *b == byte + 6));
        assert!(back[4 * PAGE..].iter().all(|b| *b == 0));
    }
    assert_eq!(file.len().ok(), Some(8 * PAGE as u64));
}

fn reads_do_not_pass_the_end(disk: &dyn Disk) {
    let file = disk.create("a").expect("a new file");
    file.write_all_at(&[5; 100], 0).expect("a write");
    let mut buf = [0; 50];
    assert_eq!(
        kind(file.read_exact_at(&mut buf, 51)),
        Some(ErrorKind::UnexpectedEof)
    );
    assert_eq!(
        kind(file.read_exact_at(&mut buf, 5000)),
        Some(ErrorKind::UnexpectedEof)
    );
    file.read_exact_at(&mut buf, 50).expect("the last bytes");
    assert_eq!(buf, [5; 50]);
}

fn lengths_cut_and_grow_with_zeroes(disk: &dyn Disk) {
    let file = disk.create("a").expect("a new file");
    file.write_all_at(&[5; 10_000], 0).expect("a write");
    file.set_len(4_100).expect("a cut");
    file.set_len(10_000).expect("a growth");
    let mut back = vec![1; 10_000];
    file.read_exact_at(&mut back, 0).expect("a read");
    assert!(back[..4_100].iter().all(|b| *b == 5));
    assert!(back[4_100..].iter().all(|b| *b == 0));
    file.set_len(0).expect("a cut");
    file.set_len(8_192).expect("a growth");
    file.read_exact_at(&mut back[..8_192], 0).expect("a read");
    assert!(back[..8_192].iter().all(|b| *b == 0));
}

fn allocation_grows_and_keeps(disk: &dyn Disk) {
    let file = disk.create("a").expect("a new file");
    file.write_all_at(&[5; 100], 0).expect("a write");
    file.allocate(0, 50_000).expect("room");
    assert_eq!(file.len().ok(), Some(50_000));
    file.allocate(0, 10).expect("room that is there");
    assert_eq!(file.len().ok(), Some(50_000));
    let mut back = vec![1; 50_000];
    file.read_exact_at(&mut back, 0).expect("a read");
    assert!(back[..100].iter().all(|b| *b == 5) && back[100..].iter().all(|b| *b == 0));
    let space = disk.space().expect("an answer");
    assert!(space.free <= space.total && space.total > 0);
}

fn names_move_and_go(disk: &dyn Disk) {
    assert_eq!(kind(disk.rename("a", "b")), Some(ErrorKind::NotFound));
    assert_eq!(kind(disk.remove("a")), Some(ErrorKind::NotFound));
    for (name, byte) in [("a", 1), ("b", 2)] {
        disk.create(name)
            .expect("a new file")
            .write_all_at(&[byte], 0)
            .expect("a write");
    }
    disk.rename("a", "b").expect("a rename over another");
    let mut byte = [0];
    disk.open("b")
        .expect("the new name")
        .read_exact_at(&mut byte, 0)
        .expect("a read");
    assert_eq!(byte, [1]);
    assert_eq!(kind(disk.open("a")), Some(ErrorKind::NotFound));
    disk.create("a").expect("the old name is free");
    disk.remove("b").expect("a removal");
    assert_eq!(disk.list("").expect("names"), ["a"]);
    let again = disk.create("b").expect("the removed name is free");
    assert!(
        again.is_empty().expect("a length"),
        "nothing of the removed file shows"
    );
}

fn directories_list_their_own(disk: &dyn Disk) {
    assert_eq!(kind(disk.list("d")), Some(ErrorKind::NotFound));
    disk.create_dir("d/e").expect("two directories");
    disk.create_dir("d/e").expect("done already is fine");
    for name in ["d/e/2", "d/e/10", "d/z", "d/y", "x"] {
        disk.create(name).expect("a new file");
    }
    disk.rename("d/z", "d/e/z").expect("a move between directories");
    disk.sync_dir("d/e").expect("a sync");
    assert_eq!(disk.list("").expect("names"), ["d", "x"]);
    assert_eq!(disk.list("d").expect("names"), ["e", "y"]);
    assert_eq!(disk.list("d/e").expect("names"), ["10", "2", "z"]);
    assert_eq!(disk.exists("d").ok(), Some(true));
}

fn locks_are_held_by_one(disk: &dyn Disk) {
    let held = disk.lock("lock").expect("a free lock");
    assert_eq!(kind(disk.lock("lock")), Some(ErrorKind::WouldBlock));
    drop(held);
    drop(disk.lock("lock").expect("free again"));
}

fn open_files_outlive_their_names(disk: &dyn Disk) {
    let file = disk.create("a").expect("a new file");
    file.write_all_at(&[3; 10], 0).expect("a write");
    disk.rename("a", "b").expect("a rename");
    file.write_all_at(&[4; 10], 10).expect("a write after the rename");
    assert_eq!(disk.open("b").expect("the new name").len().ok(), Some(20));
    disk.remove("b").expect("a removal");
    let mut back = [0; 20];
    file.read_exact_at(&mut back, 0)
        .expect("a read after the removal");
    assert_eq!(back[..10], [3; 10]);
}
