//! One seed: lives of a machine until enough has happened, each judged.

use crate::client::Client;
use crate::disk::Counts;
use crate::life::{Ended, Play};
use crate::look::Damage;
use crate::model::Book;
use crate::op::Outcome;
use crate::oracle::{Event, Look, Oracle, Verdict};
use crate::record::Recorder;
use crate::scenario::{Ending, Life, Rot, Shape};
use crate::scrub::unexplained;
use crate::snapshot::Taken;
use crate::{SimClock, SimDisk, SimRng};
use std::collections::VecDeque;
use std::sync::Arc;
use types::ErrorKind;
use world::{Exec, World};

/// Operations of a run, at least.
pub const OPS_MIN: u64 = 200;
/// Faults of a run, at least.
pub const FAULTS_MIN: u64 = 3;
/// Lives of a run, at most: a bound, never reached.
const LIVES_MAX: usize = 60;
/// What a seed fails with whose history has too many orders.
const GAVE_UP: &str = "the oracle gave up";
/// Wall time at the start of every run: November 2026.
const START_MS: u64 = 1_795_000_000_000;

/// What became of a seed.
#[derive(Clone, Debug)]
pub struct Report {
    /// Which.
    pub seed: u64,
    /// What is wrong.
    pub failure: Option<String>,
    /// The oracle gave up: whether the seed is clean nobody knows. It is a failure, too.
    pub is_undecided: bool,
    /// How often each kind of thing happened.
    pub counts: Counts,
    /// Hash of the log, and of the disk's operations.
    pub hash: (u64, u64),
}

/// One run under way.
pub struct Run {
    /// Its choices.
    pub rng: SimRng,
    /// Its sizes.
    pub shape: Shape,
    /// Its disk.
    pub disk: SimDisk,
    /// Its clocks.
    pub clock: Arc<SimClock>,
    /// The seams.
    pub world: World,
    /// What happened.
    pub recorder: Recorder,
    /// What the disk did to it.
    pub damage: Damage,
    /// Snapshots that may be laid, oldest first.
    pub kept: VecDeque<Arc<Taken>>,
    /// What the index shows that was laid, until it was looked at.
    laid: Option<Look>,
    oracle: Oracle,
}

/// Runs a seed.
pub fn run(seed: u64, verbose: bool) -> Report {
    let rng = SimRng::new(seed);
    let shape = Shape::new(&rng);
    let disk = SimDisk::new(rng.draw(), shape.disk_bytes);
    let clock = Arc::new(SimClock::new(START_MS));
    let world = World {
        clock: clock.clone(),
        rng: Arc::new(rng.fork()),
        exec: Exec::Inline,
    };
    let mut run = Run {
        recorder: Recorder::new(disk.clone(), verbose),
        rng,
        shape,
        disk,
        clock,
        world,
        damage: Damage::default(),
        kept: VecDeque::new(),
        laid: None,
        oracle: Oracle::default(),
    };
    run.recorder.note(format_args!("seed {seed}: {:?}", run.shape));
    panics::watch();
    let failure = run.lives().err();
    let failure = panics::take().or(failure);
    let record = &mut *run.recorder.get();
    if let Some(failure) = &failure {
        record.note(format_args!("FAILED {failure}"));
    }
    record.counts.merge(&run.disk.counts());
    record.counts.add("seeds", 1);
    Report {
        seed,
        is_undecided: failure.as_deref() == Some(GAVE_UP),
        failure,
        counts: record.counts.clone(),
        hash: (record.log_hash(), run.disk.trace().1),
    }
}

impl Run {
    fn lives(&mut self) -> Result<(), String> {
        let mut rotten = self.shape.rot == Rot::None;
        for n in 0..LIVES_MAX {
            let record = self.recorder.get();
            let ops = record.counts.get("ops");
            let faults = record.counts.sum("fault.") + self.disk.counts().sum("disk.")
                - self.disk.counts().get("disk.syncs");
            drop(record);
            let enough = ops >= OPS_MIN && faults >= FAULTS_MIN;
            // What nobody can make good comes last: it may end the run.
            let rot = enough && !rotten;
            let life = Life::new(&self.rng, &self.shape, n == 0, rot);
            rotten |= rot;
            let last = enough && !rot;
            self.recorder.note(format_args!("life {n}: {life:?}"));
            let failed_before = self.disk.counts().get("disk.sync_error");
            let ended = self.live(&life, last)?;
            // A process that starts anew cannot know what a failed sync left in the page cache only: the disk is out of
            // service until the power has been off.
            let cache_is_true =
                self.disk.counts().get("disk.sync_error") == failed_before && !self.disk.is_lied_to();
            match ended {
                Ended::Cut => self.cut()?,
                Ended::Left if last => return self.judge(usize::MAX),
                Ended::Left if matches!(life.ending, Ending::Kill | Ending::Stop) && cache_is_true => {
                    self.disk.kill();
                    self.judge(usize::MAX)?;
                }
                Ended::Left => self.cut()?,
                Ended::Refused(what) => {
                    self.recorder.note(format_args!("refused: {what}"));
                    self.recorder.count("run.refused_after_damage");
                    return Ok(());
                }
            }
            if !self.kept.is_empty() && self.rng.percent(65) {
                let taken = self.kept.pop_front().expect("there is one");
                self.restore(&taken)?;
                self.laid = Some(taken.look.clone());
            }
        }
        Err(format!("not enough happened in {LIVES_MAX} lives"))
    }

    /// One life of the machine, in a runtime of its own.
    fn live(&mut self, life: &Life, last: bool) -> Result<Ended, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .map_err(|e| format!("no runtime: {e}"))?;
        let before = self.disk.counts();
        let (ended, play) = runtime.block_on(async {
            self.clock.boot();
            let mut play = Play::new(self, life);
            let ended = play.whole(last).await;
            self.clock.halt();
            (ended, play.notes())
        });
        drop(runtime);
        self.disk.clear_plan();
        self.disk.set_capacity(self.shape.disk_bytes);
        self.kept.extend(play.kept.iter().cloned());
        for flip in &play.flips {
            self.damage.add_flip(&flip.0, flip.1);
        }
        if let Some(look) = &play.look {
            self.look(look)?;
        }
        if let Some(opened) = &play.opened {
            opened.count(&self.disk, &self.recorder);
        }
        let ended = ended?;
        self.excuse(&before, play.was_full)?;
        Ok(ended)
    }

    fn look(&mut self, look: &Look) -> Result<(), String> {
        let record = &mut *self.recorder.get();
        if let Some(laid) = self.laid.take() {
            if !laid.state.is_alike(&record.book, &look.state) {
                return Err(format!("I2: restored is {look:?}, the snapshot was {laid:?}"));
            }
            record.counts.add("restore.looked_at", 1);
            self.oracle.restart(look.state);
        }
        match self.oracle.look(&record.book, look) {
            Ok(()) => Ok(()),
            Err(Verdict::GivenUp) => Err(GAVE_UP.into()),
            Err(wrong) => Err(tell(&record.book, &wrong)),
        }
    }

    /// The power goes.
    fn cut(&mut self) -> Result<(), String> {
        let crash = self.disk.crash();
        let mut trusted = usize::MAX;
        if crash.broke_a_promise() {
            self.recorder.count("crash.broke_a_promise");
            self.damage.add_crash(&crash);
            trusted = crash.lied_since.map_or(usize::MAX, |at| at as usize);
        }
        self.recorder.note(format_args!("cut: {crash:?}"));
        self.judge(trusted)
    }

    /// Judges the life that has ended.
    fn judge(&mut self, mut trusted: usize) -> Result<(), String> {
        let torn = self.damage.looks_torn(&self.disk);
        let record = &mut *self.recorder.get();
        if let Some(sequence) = torn {
            let since = record.rests_on(sequence);
            record.note(format_args!(
                "record {sequence} looks torn: what came from event {since} on may be cut"
            ));
            record.counts.add("crash.looks_torn", 1);
            trusted = trusted.min(since);
        }
        let events = record.take_events();
        match self.oracle.judge(&record.book, &events, trusted) {
            Ok(()) => Ok(()),
            Err(Verdict::GivenUp) => Err(GAVE_UP.into()),
            Err(wrong) => Err(tell(&record.book, &wrong)),
        }
    }

    /// Errors without a cause, and everything that is wrong whatever the order.
    fn excuse(&mut self, before: &Counts, was_full: bool) -> Result<(), String> {
        let now = self.disk.counts();
        let new = |name: &str| now.get(name) > before.get(name);
        let record = &mut *self.recorder.get();
        if let Some(violation) = record.violations.first() {
            return Err(violation.clone());
        }
        let broken = ["disk.read_error", "disk.write_error", "disk.sync_error"]
            .into_iter()
            .any(new);
        let found = std::mem::take(&mut record.found);
        // A read that failed twice is told as damage.
        if let Some(found) = unexplained(&found, &self.damage).filter(|_| !new("disk.read_error")) {
            return Err(format!("I5: the scrub found what nobody damaged: {found}"));
        }
        for (id, chunks, outcome) in std::mem::take(&mut record.unreadable) {
            // Who waited too long for memory was refused: nothing was looked at.
            let refuses = self.shape.memory_bytes.is_some();
            let is_refused = refuses && matches!(outcome, Outcome::Failed(ErrorKind::Busy));
            if !is_refused
                && !new("disk.read_error")
                && !chunks.iter().any(|chunk| self.damage.hits(chunk))
                && !self.damage.elsewhere
            {
                return Err(format!(
                    "operation {id} could not read what is not damaged: {outcome:?} {chunks:?}"
                ));
            }
            record.counts.add("get.unreadable", 1);
        }
        for event in &record.events {
            let Event::End(id, Outcome::Failed(kind)) = event else {
                continue;
            };
            let excused = match kind {
                ErrorKind::Busy => true,
                ErrorKind::Full => was_full,
                _ => broken || was_full || self.damage.any(),
            };
            if !excused {
                return Err(format!(
                    "operation {id} {:?} failed without a cause: {kind:?}",
                    record.book.op(*id)
                ));
            }
        }
        Ok(())
    }
}

/// Panics of this thread: what runs in a task, or is caught, fails its run all the same.
mod panics {
    use std::cell::RefCell;
    use std::sync::Once;

    thread_local! {
        static SEEN: RefCell<Option<String>> = const { RefCell::new(None) };
    }

    /// Begins to watch.
    pub(super) fn watch() {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                SEEN.with_borrow_mut(|seen| seen.get_or_insert_with(|| info.to_string()).len());
                before(info);
            }));
        });
        take();
    }

    /// The first since then.
    pub(super) fn take() -> Option<String> {
        SEEN.take()
    }
}

fn tell(book: &Book, wrong: &Verdict) -> String {
    let (what, possible) = match wrong {
        Verdict::Wrong { op, seen, possible } => {
            (format!("{op} {:?} was answered {seen:?}", book.op(*op)), possible)
        }
        Verdict::WrongAfterRestart { look, possible } => {
            (format!("after a restart: {:?}", look.state), possible)
        }
        Verdict::GivenUp => return "too many orders are possible".into(),
    };
    let states: String = possible.iter().map(|state| format!("\n    {state:?}")).collect();
    format!("{what}, but possible was{states}")
}

/// A gateway's client by turns.
pub fn gateway(gateways: &[Client], n: u64) -> Client {
    gateways[n as usize % gateways.len()].clone()
}
