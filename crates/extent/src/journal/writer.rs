//! The journal's loop: the one writer of the ring.

use super::record::{HEADER_BYTES, Header, RecordType, record_bytes};
use super::ring::Ring;
use super::zeroes::Ahead;
use super::{Pending, Shared};
use crate::ExtentError;
use crate::fields::{crc32c, round_up};
use bytes::Bytes;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use types::limits::{JOURNAL_BLOCK_BYTES, JOURNAL_DRIVE_BYTES_MAX, JOURNAL_GROUP_BYTES_MAX};
use world::plant::{Plant, is_planted};
use world::{Aligned, DiskFile, JobSender, Loop};

const BLOCK: u64 = JOURNAL_BLOCK_BYTES as u64;

/// Where the writer goes on.
pub(crate) struct Position {
    pub(crate) ring: Ring,
    pub(crate) incarnation: u32,
    pub(crate) begun: u64,
    pub(crate) continues: u64,
    pub(crate) previous_crc: u32,
    pub(crate) known_synced: u64,
    /// A low-water that stands in a synced record.
    pub(crate) low_water: u64,
}

pub(crate) struct Writer {
    shared: Arc<Shared>,
    file: Arc<dyn DiskFile>,
    salt: u64,
    at: Position,
    /// Zeroes in front of the head, and their loop.
    ahead: Arc<Ahead>,
    zeroes: Option<JobSender<()>>,
    /// Highest `known_synced` that stands in a synced record.
    named: u64,
    /// Sequence of the last record written.
    last: u64,
    /// Bytes held at which consumers are pressed again.
    press_after: u64,
    stalled: bool,
    buffer: Aligned,
    group: Vec<Pending>,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, file: Arc<dyn DiskFile>, salt: u64, at: Position) -> Self {
        let ahead = match at.ring.lap() {
            0 => Ahead::new(at.ring.bytes(), at.ring.head()),
            _ => Ahead::none(),
        };
        Self {
            shared,
            file,
            salt,
            named: at.known_synced,
            last: at.begun - 1,
            at,
            ahead,
            zeroes: None,
            press_after: 0,
            stalled: false,
            buffer: Aligned::default(),
            group: Vec::new(),
        }
    }

    /// What is zeroed for it.
    pub(crate) fn ahead(&self) -> Arc<Ahead> {
        self.ahead.clone()
    }

    /// Who zeroes; begins with it.
    pub(crate) fn zeroed_by(&mut self, zeroes: JobSender<()>) {
        let _awake = zeroes.try_send(());
        self.zeroes = Some(zeroes);
    }

    /// Writes and syncs the incarnation's first record.
    pub(crate) fn start(&mut self, wall_ms: u64) -> Result<(), ExtentError> {
        let sequence = {
            let mut q = self.shared.queue.lock().expect("no panic under this lock");
            assert_eq!(q.next, self.at.begun, "nothing is queued before the start");
            q.next += 1;
            q.next - 1
        };
        let body = Bytes::copy_from_slice(&wall_ms.to_le_bytes());
        self.group.push(Pending {
            sequence,
            kind: RecordType::Start,
            pieces: [body, Bytes::new(), Bytes::new()],
            done: None,
        });
        match self.at.ring.room(BLOCK, true) {
            Some((position, _)) => self.flush(position),
            None => Err(ExtentError::Full(
                "the journal has no block left for another start".into(),
            )),
        }
    }

    /// Takes the next group from the queue and says where it goes. `None`: nothing to write, or no room for it.
    fn collect(&mut self) -> Option<u64> {
        debug_assert!(self.group.is_empty());
        let shared = self.shared.clone();
        let mut q = shared.queue.lock().expect("no panic under this lock");
        let Some(first) = q.waiting.front() else {
            // What is released and not on disk would come back at the next opening: a stop in order says it, too.
            let says_more =
                self.named < self.at.known_synced || self.at.ring.would_free(shared.low_water(self.last + 1));
            q.wanted = false;
            let wanted = std::mem::take(&mut q.mark) && says_more;
            return if wanted { self.mark() } else { None };
        };
        if !q.wanted {
            // Needles that came while the last group was synced. A sync of their own would be one more for what the batch that names
            // them is about to sync.
            return None;
        }
        let least = round_up(record_bytes(first.payload_bytes()) as u64, BLOCK);
        let Some((position, room)) = self.at.ring.room(least, false) else {
            // What is released becomes free once a mark has made that durable.
            if self.at.ring.would_free(shared.low_water(self.last + 1)) {
                return self.mark();
            }
            shared
                .stats
                .stalls
                .fetch_add(u64::from(!self.stalled), Ordering::Relaxed);
            self.stalled = true;
            return None;
        };
        self.stalled = false;
        let max = room.min(JOURNAL_GROUP_BYTES_MAX.max(least));
        let mut total = 0;
        while let Some(next) = q.waiting.front() {
            total += record_bytes(next.payload_bytes()) as u64;
            if total > max {
                break;
            }
            let pending = q.waiting.pop_front().expect("just seen");
            q.bytes -= pending.payload_bytes();
            self.group.push(pending);
        }
        q.lazy_bytes = q.bytes;
        // What did not fit may be wanted, too.
        q.wanted = !q.waiting.is_empty();
        Some(position)
    }

    /// Makes a mark the next group. It has the sequence of the record before it: losing a mark loses nothing.
    fn mark(&mut self) -> Option<u64> {
        let (position, _) = self.at.ring.room(BLOCK, true)?;
        self.group.push(Pending {
            sequence: self.last,
            kind: RecordType::Mark,
            pieces: [Bytes::new(), Bytes::new(), Bytes::new()],
            done: None,
        });
        Some(position)
    }

    /// Puts the group's records into the buffer. Answers the low-water they carry and the last one's crc.
    fn encode(&mut self, position: u64) -> (u64, u32) {
        let low_water = self.shared.low_water(self.last + 1);
        let count = self.group.len();
        let mut crc = self.at.previous_crc;
        let records = self.group.iter().map(|p| record_bytes(p.payload_bytes()));
        let bytes = records.sum::<usize>().next_multiple_of(JOURNAL_BLOCK_BYTES);
        let mut rest = self.buffer.make(bytes);
        let mut at = position;
        for (i, pending) in self.group.iter().enumerate() {
            let length = record_bytes(pending.payload_bytes());
            let (record, behind) = rest.split_at_mut(length);
            let payload_length = pending.payload_bytes();
            let (payload, padding) = record[HEADER_BYTES..].split_at_mut(payload_length);
            let mut filled = 0;
            for piece in &pending.pieces {
                payload[filled..filled + piece.len()].copy_from_slice(piece);
                filled += piece.len();
            }
            padding.fill(0);
            let header = Header {
                kind: pending.kind,
                last_of_group: i + 1 == count,
                lap: self.at.ring.lap_at(position),
                incarnation: self.at.incarnation,
                sequence: pending.sequence,
                position: at,
                known_synced: self.at.known_synced,
                low_water,
                begun: self.at.begun,
                continues: self.at.continues,
                previous_crc: crc,
                payload_length: payload_length as u32,
                payload_crc: crc32c(payload),
            };
            let own = header.encode(self.salt, &mut record[..HEADER_BYTES]);
            if pending.kind != RecordType::Mark {
                crc = own;
            }
            at += length as u64;
            rest = behind;
        }
        rest.fill(0);
        (low_water, crc)
    }

    /// Writes the group at `position`, syncs it, and answers all that waited for it.
    fn flush(&mut self, position: u64) -> Result<(), ExtentError> {
        let (low_water, crc) = self.encode(position);
        let last = self.group.last().expect("a group has a record").sequence;
        let naming = self.at.known_synced;
        let bytes = self.buffer.bytes().len() as u64;
        if self.ahead.pass(position, position + bytes)
            && let Some(zeroes) = &self.zeroes
        {
            // A full queue: it is awake.
            let _awake = zeroes.try_send(());
        }
        let begun = self.shared.clock.mono();
        let written = self.file.write_pages_at(&self.buffer, position).and_then(|()| {
            if is_planted(Plant::SkipSync) {
                return Ok(());
            }
            self.file.sync_data()
        });
        // Another sync may have met, meanwhile, the error that was this one's, too: of two, a device tells one.
        let written = match written {
            Ok(()) => self.shared.check().map_err(|e| e.to_string()),
            Err(e) => Err(format!("journal: {e}")),
        };
        let stats = &self.shared.stats;
        stats.flushes.fetch_add(1, Ordering::Relaxed);
        stats
            .records
            .fetch_add(self.group.len() as u64, Ordering::Relaxed);
        stats.bytes.fetch_add(bytes, Ordering::Relaxed);
        if let Err(why) = written {
            self.shared.fail(&why);
            self.answer(&Err(ExtentError::Unknown(why.clone())));
            return Err(ExtentError::Unknown(why));
        }
        let lap = self.at.ring.lap_at(position);
        stats
            .laps
            .fetch_add(u64::from(lap - self.at.ring.lap()), Ordering::Relaxed);
        self.at.ring.take(position, bytes, last);
        self.last = last;
        self.at.previous_crc = crc;
        self.at.known_synced = last;
        self.at.low_water = self.at.low_water.max(low_water);
        self.at.ring.free_below(self.at.low_water);
        self.named = naming;
        self.shared.synced.store(last, Ordering::Release);
        self.shared.unnamed.store(naming < last, Ordering::Release);
        let now = self.shared.clock.mono();
        self.shared.took(now.saturating_sub(begun));
        *self.shared.last_sync.lock().expect("no panic under this lock") = now;
        self.answer(&Ok(()));
        Ok(())
    }

    fn answer(&mut self, result: &Result<(), ExtentError>) {
        for pending in self.group.drain(..) {
            if let Some(done) = pending.done {
                done(result.clone());
            }
        }
    }

    /// Presses consumers while more than half is held, once for each sixteenth written; and whenever the head is stuck, which
    /// a large record in an unlucky place can be with less held.
    fn press(&mut self) {
        let (used, bytes) = (self.at.ring.used(), self.at.ring.bytes());
        if used * 2 < bytes && !self.stalled {
            self.press_after = 0;
            return;
        }
        if self.press_after <= used || self.stalled {
            self.press_after = used + bytes / 16;
            let pressed = self.shared.pressure.lock().expect("no panic under this lock");
            pressed.iter().for_each(|f| f());
        }
    }

    /// The disk is out of service: everything that waits hears it.
    fn refuse_all(&mut self, why: &ExtentError) {
        let (waiting, stop) = {
            let mut q = self.shared.queue.lock().expect("no panic under this lock");
            q.bytes = 0;
            (std::mem::take(&mut q.waiting), q.stop.take())
        };
        self.group.extend(waiting);
        self.answer(&Err(why.clone()));
        if let Some(stop) = stop {
            stop(Err(why.clone()));
        }
    }

    /// Whether all is written and somebody waits for that.
    fn take_stop(&self) -> Option<super::Done> {
        let mut q = self.shared.queue.lock().expect("no panic under this lock");
        if q.waiting.is_empty() { q.stop.take() } else { None }
    }
}

/// The writer, and who may write now: the loop, or whoever drives it.
#[derive(Clone)]
pub(crate) struct SharedWriter(Arc<Mutex<Writer>>);

/// A writer whose state is half changed must not write again, whoever's thread it was.
struct WholeOrNothing;

impl Drop for WholeOrNothing {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("the journal's writer panicked: the process ends, as by a crash");
            std::process::abort();
        }
    }
}

impl SharedWriter {
    pub(crate) fn new(writer: Writer) -> Self {
        Self(Arc::new(Mutex::new(writer)))
    }

    /// Writes a group, unless somebody is writing. Answers whether the loop is to look: there may be more to do.
    pub(crate) fn drive(&self, shared: &Shared) -> bool {
        let Ok(mut writer) = self.0.try_lock() else {
            return true;
        };
        let _whole = WholeOrNothing;
        if writer.queued_bytes() > JOURNAL_DRIVE_BYTES_MAX {
            return true;
        }
        let nth = shared.drives.fetch_add(1, Ordering::AcqRel) + 1;
        writer.group();
        shared.driven.store(nth, Ordering::Release);
        writer.has_more()
    }
}

impl Loop<()> for SharedWriter {
    fn apply(&mut self, woken: &mut Vec<()>) {
        let mut writer = self.0.lock().expect("a panic under this lock ends the process");
        let _whole = WholeOrNothing;
        writer.apply(woken);
    }
}

impl Writer {
    /// Takes one group through to its answers. `false`: there was none, or no room for it.
    fn group(&mut self) -> bool {
        if let Err(why) = self.shared.check() {
            self.refuse_all(&why);
            return false;
        }
        let Some(position) = self.collect() else {
            return false;
        };
        if self.flush(position).is_ok() {
            self.press();
        }
        true
    }

    fn queued_bytes(&self) -> usize {
        self.shared.queue.lock().expect("no panic under this lock").bytes
    }

    /// Whether there is anything for the loop: another group, room to press for, or a stop.
    fn has_more(&self) -> bool {
        let q = self.shared.queue.lock().expect("no panic under this lock");
        q.wanted || q.stop.is_some() || self.stalled || self.shared.check().is_err()
    }
}

impl Loop<()> for Writer {
    fn apply(&mut self, _woken: &mut Vec<()>) {
        while self.group() {}
        if self.shared.check().is_err() {
            return;
        }
        if self.stalled {
            self.press();
        }
        if let Some(stop) = self.take_stop() {
            stop(self.shared.check());
        }
    }
}
