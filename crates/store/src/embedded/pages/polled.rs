//! Pages that clients poll while a slow device does not give them. // I9

use super::super::reading::{GivenUp, attempt};
use super::*;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use types::limits::INDEX_REFUSED_MS_MAX;
use world::Clock;

const TOOK_MS: u64 = 60_000;
const PAGES: u64 = 300;

#[derive(Default)]
struct Hands(AtomicU64);

impl Clock for Hands {
    fn wall_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
    fn mono(&self) -> Duration {
        Duration::from_millis(self.wall_ms())
    }
    fn sleep(&self, _: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        unreachable!("nobody sleeps here")
    }
}

type Meanwhile = Box<dyn Fn() + Send>;

/// A file that is slow to refuse what is read of it; what happens meanwhile.
#[derive(Default)]
struct Slow {
    bytes: Mutex<Vec<u8>>,
    clock: Arc<Hands>,
    refuses: AtomicBool,
    asked: AtomicU64,
    meanwhile: Mutex<Option<Meanwhile>>,
}

impl DiskFile for Slow {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        if self.refuses.load(Ordering::Relaxed) {
            self.asked.fetch_add(1, Ordering::Relaxed);
            // Those who come meanwhile find nobody who lets them in again.
            let meanwhile = self.meanwhile.lock().unwrap().take();
            for _ in 0..4 {
                self.clock.0.fetch_add(TOOK_MS / 4, Ordering::Relaxed);
                meanwhile.iter().for_each(|come| come());
            }
            return Err(io::Error::from_raw_os_error(5)); // EIO
        }
        let bytes = self.bytes.lock().unwrap();
        buf.copy_from_slice(&bytes[offset as usize..][..buf.len()]);
        Ok(())
    }
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let mut bytes = self.bytes.lock().unwrap();
        let end = offset as usize + buf.len();
        let len = bytes.len().max(end);
        bytes.resize(len, 0);
        bytes[offset as usize..end].copy_from_slice(buf);
        Ok(())
    }
    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().unwrap().len() as u64)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.bytes.lock().unwrap().resize(len as usize, 0);
        Ok(())
    }
    fn allocate(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }
}

fn written() -> (Arc<Pages>, Arc<Slow>) {
    let file = Arc::<Slow>::default();
    let place = Place {
        owner: Owner {
            disk: types::DiskId(7),
            partition: types::PartitionId::FIRST_DATA,
            file: 0,
        },
        path: "index/polled".into(),
        retired: Retired::default(),
        cache_bytes: 0,
        clock: StartClock::default(),
    };
    place.clock.start(file.clock.clone());
    let pages = Arc::new(Pages::create(file.clone(), &place));
    pages.set_len((PAGES + 1) * PAGE_BYTES as u64).unwrap();
    for page in 1..=PAGES {
        write(&pages, page);
    }
    pages.sync().unwrap();
    (pages, file)
}

fn write(pages: &Pages, page: u64) {
    let bytes = [page as u8; PAGE_BYTES];
    pages.write(page * PAGE_BYTES as u64, &bytes).unwrap();
}

/// As a reader of rows does.
fn is_read(pages: &Pages, page: u64) -> bool {
    let mut bytes = [0; PAGE_BYTES];
    match attempt::<_, Trouble>(|| pages.read(page * PAGE_BYTES as u64, &mut bytes)) {
        Ok(read) => read.map(|()| assert_eq!(bytes[0], page as u8)).is_ok(),
        Err(GivenUp::Told(Trouble::Corrupt(_))) => false,
        Err(_) => panic!("another trouble"),
    }
}

/// Sees what those are told who come while the device takes its time, and how often it is asked in all.
fn asks_while_others_come(pages: &Arc<Pages>, file: &Slow) -> u64 {
    let others = pages.clone();
    *file.meanwhile.lock().unwrap() = Some(Box::new(move || assert!(!is_read(&others, 7))));
    file.asked.store(0, Ordering::Relaxed);
    assert!(!is_read(pages, 7));
    file.asked.swap(0, Ordering::Relaxed)
}

#[test]
fn one_reader_asks_a_slow_device_however_long_it_takes() {
    let (pages, file) = written();
    assert!(is_read(&pages, 7));
    file.refuses.store(true, Ordering::Relaxed);
    // The first who come ask at once, for nothing is known yet: one of them goes on.
    assert_eq!(
        asks_while_others_come(&pages, &file),
        2 + 2,
        "one each, and two more"
    );
    file.clock.0.fetch_add(INDEX_REFUSED_MS_MAX, Ordering::Relaxed);
    assert_eq!(asks_while_others_come(&pages, &file), 1);
    file.refuses.store(false, Ordering::Relaxed);
    assert!(!is_read(&pages, 7));
    file.clock.0.fetch_add(INDEX_REFUSED_MS_MAX, Ordering::Relaxed);
    assert!(is_read(&pages, 7) && is_read(&pages, 7));
}

#[test]
fn many_bad_pages_do_not_drive_each_other_out() {
    let (pages, file) = written();
    file.refuses.store(true, Ordering::Relaxed);
    let before = file.clock.mono();
    for page in (1..=PAGES).chain(1..=PAGES) {
        // Polled at once: of how long the device takes the other test tells.
        file.clock.0.store(before.as_millis() as u64, Ordering::Relaxed);
        assert!(!is_read(&pages, page));
    }
    assert_eq!(file.asked.load(Ordering::Relaxed), 3 * PAGES);
}

/// What was refused is not there any more where a page is written anew, or cut off.
#[test]
fn a_page_that_is_written_anew_is_read_at_once() {
    let (pages, file) = written();
    file.refuses.store(true, Ordering::Relaxed);
    assert!(!is_read(&pages, 7) && !is_read(&pages, PAGES));
    file.refuses.store(false, Ordering::Relaxed);
    file.clock.0.store(0, Ordering::Relaxed);
    assert!(!is_read(&pages, 7) && !is_read(&pages, PAGES));
    write(&pages, 7);
    assert!(is_read(&pages, 7));
    pages.set_len(PAGES * PAGE_BYTES as u64).unwrap();
    pages.set_len((PAGES + 1) * PAGE_BYTES as u64).unwrap();
    write(&pages, PAGES);
    assert!(is_read(&pages, PAGES));
}
