//! One partition: its log's tail, the rows above the form, and who waits for what.
//!
//! ```text
//! submit ──▶ queued in the journal and put into the active generation ──▶ both done, in log order: durable, seen by snapshots
//!
//! generation:  active ──(WRITE_BEHIND_BYTES, pressure, shutdown)──▶ frozen ──(its last batch durable, written behind)──▶ in the form
//! ```
//!
//! Rows of a batch lie in the active generation before the batch is durable; nobody reads at so high a sequence until it is. A batch whose
//! record failed is never durable, so nobody ever reads it, and the log takes nothing more in this life.

use super::batch::BatchRows;
use super::core::{Core, Job};
use super::files::Files;
use super::form::{Mark, Reader};
use crate::versions::Versions;
use crate::{Committed, Fence, StoreError};
use bytes::Bytes;
use extent::LogBatch;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use types::limits::{
    INDEX_REOPEN_MS, INDEX_REST_BYTES, INDEX_REST_READS_MAX, WRITE_BEHIND_BYTES, WRITE_BEHIND_PAUSE_MS_MAX,
};
use types::{JournalSeq, LogSeq, PartitionId};
use world::Clock;
use world::rot::{self, Rot};

thread_local! {
    /// Whether this thread is inside the journal's `submit`, with a partition's state locked.
    static SUBMITTING: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Rows put into a generation under one lock: readers wait no longer than that.
const ROWS_AT_ONCE: usize = 64;

/// Rows of some batches, side by side with those of the form below.
#[derive(Default)]
pub(super) struct Generation {
    pub(super) rows: RwLock<Versions>,
    bytes: AtomicUsize,
}

impl Generation {
    /// Adds a batch's rows.
    pub(super) fn insert(&self, sequence: LogSeq, rows: BatchRows) {
        let mut rows = rows.into_iter().peekable();
        while rows.peek().is_some() {
            let mut versions = self.rows.write().expect("no panic under this lock");
            for (key, value) in rows.by_ref().take(ROWS_AT_ONCE) {
                versions.insert(sequence, key, value);
            }
            self.bytes.store(versions.bytes(), Ordering::Relaxed);
        }
    }

    fn full(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) >= WRITE_BEHIND_BYTES
    }
}

/// Where rows are now, newest first. Never changed: replaced.
pub(super) struct View {
    pub(super) active: Arc<Generation>,
    pub(super) frozen: Option<Arc<Generation>>,
    pub(super) form: Option<Arc<Reader>>,
    /// Every view of the partition has it: who reads is counted by it.
    pub(super) readers: Arc<()>,
}

/// Which batches a generation has.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    /// The journal record of its first; `None`: it has none.
    pub(super) first: Option<JournalSeq>,
    /// Its last.
    pub(super) last: Mark,
}

/// A batch on its way.
struct Flight {
    batch: Mark,
    synced: bool,
    inserted: bool,
    waiter: oneshot::Sender<Result<(), StoreError>>,
}

/// What a partition knows.
pub(super) struct State {
    /// Why nothing is served: its log or form is not what was written.
    broken: Option<StoreError>,
    /// Why the log takes nothing more.
    log_failed: Option<StoreError>,
    /// The last batch queued.
    tail: Mark,
    /// The last batch durable and in place.
    durable: Mark,
    flights: VecDeque<Flight>,
    view: Arc<View>,
    active: Span,
    frozen: Option<Span>,
    /// The last batch that is wholly in the files: the log may have forgotten it.
    written: LogSeq,
    /// Why the last writing behind failed.
    behind: Option<StoreError>,
    /// How often writing behind was tried.
    tries: u64,
    /// A job for it waits.
    queued: bool,
    /// The journal wants the room of the frozen generation.
    pressed: bool,
    /// The form's files are closed, though rows are to be read from them: they could not be opened anew.
    closed: bool,
    /// Why not, where that does not pass by itself: snapshots are answered this, and not for ever to come again.
    unopened: Option<StoreError>,
    /// When the loop was last asked to look because of that.
    asked: Duration,
    /// The files are opened anew: snapshots wait.
    resting: bool,
    quiet: Quiet,
}

/// How long little was read of the files.
#[derive(Default)]
struct Quiet {
    reads: u64,
    looks: u32,
}

/// What recovery found of a partition.
pub(super) struct Recovered {
    pub(super) files: Option<(Files, Arc<Reader>)>,
    pub(super) written: LogSeq,
    pub(super) tail: Mark,
    pub(super) span: Span,
    pub(super) rows: Generation,
    /// Why it is not all that was acknowledged; empty: it is.
    pub(super) lost: Vec<StoreError>,
}

/// One partition.
pub(super) struct Partition {
    pub(super) id: PartitionId,
    state: Mutex<State>,
    /// Only the write-behind loop looks in; `None`: no file yet, or they must be opened.
    pub(super) files: Mutex<Option<Files>>,
    /// Told after each writing behind, done or failed, and each batch that ended.
    changed: Notify,
}

/// A batch to queue.
pub(super) struct Step {
    /// The fence it spends; `None`: take the partition.
    pub(super) fence: Option<Fence>,
    pub(super) rows: BatchRows,
    pub(super) payload: Bytes,
}

/// How [`Partition::submit`] ended.
pub(super) enum Submitted {
    /// Queued: the fence it makes once the receiver says so.
    Queued(Fence, oneshot::Receiver<Result<(), StoreError>>),
    /// The generations are full: ask again with this once the write-behind has moved.
    Wait(Step),
    /// Not queued.
    No(Committed),
}

enum Gate {
    Open,
    Wait,
    Closed(Committed),
}

/// What the write-behind loop is to do.
pub(super) enum Work {
    /// Nothing now.
    Idle,
    /// Write this generation's rows up to the mark.
    Write(Arc<Generation>, Mark),
}

impl Partition {
    /// A partition with nothing in it.
    pub(super) fn new(id: PartitionId) -> Self {
        Self::recovered(
            id,
            Recovered {
                files: None,
                written: LogSeq::default(),
                tail: Mark::default(),
                span: Span::default(),
                rows: Generation::default(),
                lost: Vec::new(),
            },
        )
    }

    /// A partition as recovery found it.
    pub(super) fn recovered(id: PartitionId, found: Recovered) -> Self {
        let (files, reader) = found.files.unzip();
        let view = View {
            active: Arc::new(found.rows),
            frozen: None,
            form: reader,
            readers: Arc::default(),
        };
        Self {
            id,
            state: Mutex::new(State {
                broken: None,
                log_failed: None,
                tail: found.tail,
                durable: found.tail,
                flights: VecDeque::new(),
                view: Arc::new(view),
                active: found.span,
                frozen: None,
                written: found.written,
                behind: None,
                tries: 0,
                queued: false,
                pressed: false,
                closed: false,
                unopened: None,
                asked: Duration::ZERO,
                resting: false,
                quiet: Quiet::default(),
            }),
            files: Mutex::new(files),
            changed: Notify::new(),
        }
    }

    /// A partition that serves nothing. Its records stay in the journal from `first` on: they may be all there is.
    pub(super) fn broken(id: PartitionId, why: StoreError, first: Option<JournalSeq>) -> Self {
        let partition = Self::new(id);
        let mut state = partition.state();
        state.broken = Some(why);
        state.active.first = first;
        drop(state);
        partition
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under this lock")
    }

    /// Whether a batch may be queued now.
    fn gate(&self, core: &Core, state: &mut State, fence: Option<Fence>) -> Gate {
        if let Some(e) = &state.broken {
            return Gate::Closed(Committed::NotDone(e.clone()));
        }
        let tail = state.tail;
        if fence.is_some_and(|f| (f.epoch, f.sequence) != (tail.epoch, tail.sequence)) {
            return Gate::Closed(Committed::Refused);
        }
        if let Some(e) = state.log_failed.clone().or_else(|| core.retired()) {
            return Gate::Closed(Committed::NotDone(e));
        }
        if !state.view.active.full() {
            return match &state.behind {
                // The journal wants room and gets none: what is queued now would wait in it for as long.
                Some(e) if core.pressed() && fence.is_some() => {
                    let e = e.clone();
                    self.kick(core, state);
                    Gate::Closed(Committed::NotDone(e))
                }
                _ => Gate::Open,
            };
        }
        if state.frozen.is_none() {
            state.freeze();
            self.kick(core, state);
            return Gate::Open;
        }
        match (&state.behind, fence) {
            (None, Some(_)) => Gate::Wait,
            (Some(e), Some(_)) => {
                let e = e.clone();
                self.kick(core, state);
                Gate::Closed(Committed::NotDone(e))
            }
            // A take adds no rows, and its owner needs it to read what there is.
            (_, None) => Gate::Open,
        }
    }

    /// Queues a batch at the log's end.
    pub(super) fn submit(self: &Arc<Self>, core: &Arc<Core>, step: Step) -> Submitted {
        if core.pressed()
            && step.fence.is_some()
            && self.stuck().is_none()
            && let Some(e) = core.held_up()
        {
            return Submitted::No(Committed::NotDone(e));
        }
        let mut state = self.state();
        match self.gate(core, &mut state, step.fence) {
            Gate::Open => {}
            Gate::Wait => return Submitted::Wait(step),
            Gate::Closed(committed) => return Submitted::No(committed),
        }
        let tail = state.tail;
        let epoch = if step.fence.is_some() {
            tail.epoch
        } else {
            tail.epoch.next()
        };
        let sequence = LogSeq(tail.sequence.0 + 1);
        let batch = LogBatch {
            partition: self.id,
            epoch,
            sequence,
            members: vec![core.log.disk()],
            previous_crc: tail.crc,
            payload: step.payload,
        };
        let crc = batch.crc();
        let landing = Landing {
            partition: self.clone(),
            core: core.clone(),
            sequence: Some(sequence),
        };
        SUBMITTING.set(true);
        let heard = Box::new(move |result| landing.landed(result));
        let queued = core.log.submit(batch, heard);
        SUBMITTING.set(false);
        let place = match queued {
            Ok(place) => place,
            Err(e) => return Submitted::No(Committed::NotDone(e)),
        };
        let (waiter, receiver) = oneshot::channel();
        state.tail = Mark {
            epoch,
            sequence,
            crc,
            place,
        };
        state.active.first.get_or_insert(place);
        state.active.last = state.tail;
        let batch = state.tail;
        state.flights.push_back(Flight {
            batch,
            synced: false,
            inserted: false,
            waiter,
        });
        let generation = state.view.active.clone();
        drop(state);
        generation.insert(sequence, step.rows);
        self.moved(core, sequence, |flight| flight.inserted = true);
        let fence = Fence {
            partition: self.id,
            epoch,
            sequence,
        };
        Submitted::Queued(fence, receiver)
    }

    /// How long a commit is to be held back: nothing until the active generation is half full while another is written behind, then
    /// more and more, so that writers slow down to the pace of the file instead of standing still when there is no room.
    pub(super) fn pause(&self) -> Duration {
        let state = self.state();
        if state.frozen.is_none() || state.behind.is_some() {
            return Duration::ZERO;
        }
        let bytes = state
            .view
            .active
            .bytes
            .load(Ordering::Relaxed)
            .min(WRITE_BEHIND_BYTES);
        let half = WRITE_BEHIND_BYTES as u64 / 2;
        let over = (bytes as u64).saturating_sub(half);
        Duration::from_micros(1000 * WRITE_BEHIND_PAUSE_MS_MAX * over / half * over / half)
    }

    /// Notes a step of a flight, and lands those at the front that have made both.
    fn moved(&self, core: &Core, sequence: LogSeq, step: impl FnOnce(&mut Flight)) {
        let mut state = self.state();
        if let Some(flight) = state.flights.iter_mut().find(|f| f.batch.sequence == sequence) {
            step(flight);
        }
        let before = state.durable;
        while state.flights.front().is_some_and(|f| f.synced && f.inserted) {
            let flight = state.flights.pop_front().expect("just seen");
            state.durable = flight.batch;
            // A waiter that went away has its commit done all the same.
            let _gone = flight.waiter.send(Ok(()));
        }
        if state.durable != before {
            let is_whole = |span: Span| span.last.sequence <= state.durable.sequence;
            // Under pressure some of it has to do: what would make it whole may wait in the journal for room that this gives.
            if state.frozen.is_some_and(|span| state.pressed || is_whole(span)) {
                self.kick(core, &mut state);
            }
            drop(state);
            self.changed.notify_waiters();
        }
    }

    fn fail(&self, error: &StoreError) {
        let mut state = self.state();
        state.log_failed.get_or_insert_with(|| error.clone());
        for flight in state.flights.drain(..) {
            let _gone = flight.waiter.send(Err(error.clone()));
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Asks the loop to look at the partition, once.
    fn kick(&self, core: &Core, state: &mut State) {
        if !state.queued {
            state.queued = core.send(Job::Look(self.id));
        }
    }

    /// Why what it has in the journal stays there until somebody mends something, if so. A full disk may have room again, for what others
    /// commit.
    pub(super) fn stuck(&self) -> Option<StoreError> {
        let state = self.state();
        let broken = state.broken.as_ref().filter(|_| state.active.first.is_some());
        match broken.or(state.behind.as_ref())? {
            StoreError::Busy(_) | StoreError::Full(_) => None,
            why => Some(why.clone()),
        }
    }

    /// Asks the loop to try again what it could not write behind.
    pub(super) fn retry(&self, core: &Core) {
        let mut state = self.state();
        if state.behind.is_some() {
            self.kick(core, &mut state);
        }
    }

    /// Asks the loop to write behind what there is.
    pub(super) fn press(&self, core: &Core) {
        let mut state = self.state();
        if state.broken.is_none() && (state.frozen.is_some() || state.active.first.is_some()) {
            if state.frozen.is_none() {
                state.freeze();
            }
            state.pressed = true;
            self.kick(core, &mut state);
        }
    }

    /// What the loop is to do now: a frozen generation is written once all of it is durable. Where the journal wants room it may never be:
    /// its last batches wait in the journal's queue, for room that what is durable of it still holds. Then that goes first.
    pub(super) fn work(&self) -> Work {
        let mut state = self.state();
        state.queued = false;
        if state.broken.is_some() {
            return Work::Idle;
        }
        let Some(span) = state.frozen else {
            return Work::Idle;
        };
        let mark = match span.last.sequence <= state.durable.sequence {
            true => span.last,
            false if state.pressed && state.durable.sequence > state.written => state.durable,
            false => return Work::Idle,
        };
        let rows = state
            .view
            .frozen
            .clone()
            .expect("a frozen span has its generation");
        Work::Write(rows, mark)
    }

    /// Some of the frozen generation is in the form, too. It stays over it until all is.
    pub(super) fn stepped(&self, reader: Arc<Reader>) {
        self.state().opened(Some(reader));
    }

    /// Whether little was read of the files since the last two times that this was asked, though redb has many of their pages in memory.
    pub(super) fn is_cold(&self) -> bool {
        let mut state = self.state();
        let (reads, cached) = state.uses();
        let is_quiet = reads.saturating_sub(state.quiet.reads) <= INDEX_REST_READS_MAX;
        let looks = state.quiet.looks.saturating_add(1);
        state.quiet = Quiet {
            reads,
            looks: if is_quiet { looks } else { 0 },
        };
        state.quiet.looks >= 2 && cached > INDEX_REST_BYTES
    }

    /// Whether nobody stands on the files, of which more than so many bytes are in memory, and nothing is to be written to them: then snapshots
    /// wait from here on until it is [`Self::rested`].
    pub(super) fn rest(&self, more_than: u64) -> bool {
        let mut state = self.state();
        if state.uses().1 <= more_than {
            return false;
        }
        let unread = Arc::strong_count(&state.view) == 1 && Arc::strong_count(&state.view.readers) == 1;
        let is_served = state.broken.is_none() && state.behind.is_none() && !state.closed;
        state.resting = unread && is_served && state.frozen.is_none() && state.view.form.is_some();
        state.resting
    }

    /// The files are open again.
    pub(super) fn rested(&self, reader: Arc<Reader>) {
        let mut state = self.state();
        state.opened(Some(reader));
        state.resting = false;
        state.quiet.looks = 0;
        drop(state);
        self.changed.notify_waiters();
    }

    /// The frozen generation is in the form up to `mark`.
    pub(super) fn written(&self, reader: Arc<Reader>, mark: Mark) {
        let mut state = self.state();
        let rest = state.frozen.filter(|span| span.last.sequence > mark.sequence);
        state.view = Arc::new(View {
            active: state.view.active.clone(),
            frozen: rest.and(state.view.frozen.clone()),
            form: Some(reader),
            readers: state.view.readers.clone(),
        });
        // Where more became durable meanwhile it is one of those, and they go next.
        let waits = state.flights.front().filter(|_| state.durable == mark);
        let first = waits.map_or(JournalSeq(mark.place.0 + 1), |flight| flight.batch.place);
        state.frozen = rest.map(|span| Span {
            first: Some(first),
            ..span
        });
        (state.closed, state.unopened) = (false, None);
        state.written = mark.sequence;
        state.pressed &= rest.is_some();
        state.behind = None;
        state.tries += 1;
        drop(state);
        self.changed.notify_waiters();
    }

    /// Writing behind failed; and what became of opening the form again: as it is, where it could be.
    pub(super) fn not_written(&self, why: StoreError, opened: Result<Option<Arc<Reader>>, StoreError>) {
        let mut state = self.state();
        // Where nothing waits to be written nothing would try again, and what was refused for it would be for ever.
        state.behind = state.frozen.map(|_| why);
        state.tries += 1;
        state.resting = false;
        match opened {
            Ok(reader) => state.opened(reader),
            // Later there may be a descriptor, or room.
            Err(StoreError::Busy(_) | StoreError::Full(_)) => state.unopened = None,
            Err(e) => {
                match &e {
                    StoreError::Corrupt(place) => drop(rot::found(Rot::IndexFile, place)),
                    _ if state.unopened.as_ref() == Some(&e) => {}
                    _ => tracing::error!(partition = %self.id, error = %e, "the index cannot be opened anew"),
                }
                state.behind = state.frozen.map(|_| e.clone());
                state.unopened = Some(e);
            }
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Files that were closed are open, to be read; `None`: there are none.
    pub(super) fn opened(&self, reader: Option<Arc<Reader>>) {
        self.state().opened(reader);
    }

    /// Whether the files are closed, though they are to be read.
    pub(super) fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// The form's files are closed, to be opened anew.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.closed = state.view.form.is_some();
    }

    /// Asks the loop to open what could not be opened anew, `INDEX_REOPEN_MS` after the last time that it was asked. What kept it from that
    /// (no descriptor was free, say) may be over, and nothing else looks before more is to be written behind.
    pub(super) fn look_again(&self, core: &Core, clock: &dyn Clock) {
        let mut state = self.state();
        if state.closed {
            let now = clock.mono();
            if now.saturating_sub(state.asked) >= Duration::from_millis(INDEX_REOPEN_MS) {
                state.asked = now;
                self.kick(core, &mut state);
            }
        }
    }

    /// The last batch that must be in the files.
    pub(super) fn in_files(&self) -> LogSeq {
        self.state().written
    }

    /// The oldest journal record whose batch is not in the form.
    pub(super) fn oldest(&self) -> Option<JournalSeq> {
        let state = self.state();
        let frozen = state.frozen.and_then(|span| span.first);
        frozen.or(state.active.first)
    }

    /// The durable state now.
    pub(super) fn durable(&self) -> Result<(Arc<View>, LogSeq), StoreError> {
        self.state().moment()
    }

    /// The durable state now, once the files are open.
    pub(super) async fn awake(&self) -> Result<(Arc<View>, LogSeq), StoreError> {
        loop {
            {
                let state = self.state();
                if !state.resting {
                    return state.moment();
                }
            }
            self.until(|w| (!w.resting).then_some(())).await;
        }
    }

    /// Waits until `ready` says something of the state; asked again after every change.
    pub(super) async fn until<T>(&self, mut ready: impl FnMut(&Waiting) -> Option<T>) -> T {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let waiting = {
                let state = self.state();
                Waiting {
                    behind: state.behind.clone(),
                    tries: state.tries,
                    room: !state.view.active.full() || state.frozen.is_none(),
                    flights: state.flights.len(),
                    rows: state.broken.is_none() && (state.frozen.is_some() || state.active.first.is_some()),
                    log_failed: state.log_failed.clone(),
                    resting: state.resting,
                }
            };
            if let Some(answer) = ready(&waiting) {
                return answer;
            }
            changed.await;
        }
    }
}

/// What one may wait for.
pub(super) struct Waiting {
    /// Why the last writing behind failed.
    pub(super) behind: Option<StoreError>,
    /// How often it was tried.
    pub(super) tries: u64,
    /// Whether a commit may be queued.
    pub(super) room: bool,
    /// Batches on their way.
    pub(super) flights: usize,
    /// Whether rows are above the form.
    pub(super) rows: bool,
    /// Why the log takes nothing more.
    pub(super) log_failed: Option<StoreError>,
    /// Whether the files are being opened anew.
    pub(super) resting: bool,
}

impl State {
    /// How often the files were read, and what redb may have of them in memory.
    fn uses(&self) -> (u64, u64) {
        let files = self.view.form.as_ref().map_or(Vec::new(), |form| form.files());
        let counts = files.into_iter().map(|pages| pages.uses.counts());
        counts.fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1))
    }

    fn moment(&self) -> Result<(Arc<View>, LogSeq), StoreError> {
        match self.broken.as_ref().or(self.unopened.as_ref()) {
            Some(e) => Err(e.clone()),
            None => Ok((self.view.clone(), self.durable.sequence)),
        }
    }

    /// The files are open: what is read of them, if there are any.
    fn opened(&mut self, form: Option<Arc<Reader>>) {
        self.unopened = None;
        if form.is_some() {
            self.view = Arc::new(View {
                active: self.view.active.clone(),
                frozen: self.view.frozen.clone(),
                form,
                readers: self.view.readers.clone(),
            });
            self.closed = false;
        }
    }

    fn freeze(&mut self) {
        assert!(
            self.frozen.is_none(),
            "one generation is written behind at a time"
        );
        self.view = Arc::new(View {
            active: Arc::default(),
            frozen: Some(self.view.active.clone()),
            form: self.view.form.clone(),
            readers: self.view.readers.clone(),
        });
        self.frozen = Some(std::mem::take(&mut self.active));
    }
}

/// Hears how a batch's record ended; a journal that drops it unheard has failed.
struct Landing {
    partition: Arc<Partition>,
    core: Arc<Core>,
    sequence: Option<LogSeq>,
}

impl Landing {
    fn landed(mut self, result: Result<(), StoreError>) {
        let sequence = self.sequence.take().expect("it lands once");
        match result {
            Ok(()) => self
                .partition
                .moved(&self.core, sequence, |flight| flight.synced = true),
            Err(e) => self.partition.fail(&e),
        }
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        // A journal that refuses a record drops it inside `submit`, where the state is locked and the refusal is heard anyway.
        if self.sequence.is_some() && !SUBMITTING.get() {
            self.partition
                .fail(&StoreError::Failed("the journal ended".into()));
        }
    }
}
