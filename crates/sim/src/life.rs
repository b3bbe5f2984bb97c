//! One life of the machine: it opens, is looked at, serves clients while troubles come, and ends.

use crate::client::{Client, Pace};
use crate::disk::{Counts, Flip};
use crate::gc::{Collector, Line as FarLine};
use crate::look::{self, Blind};
use crate::machine::Machine;
use crate::memory;
use crate::op::{Answer, Line, Op, OpId, Outcome, Query};
use crate::oracle::Look;
use crate::quiet;
use crate::record::Recorder;
use crate::run::{Run, gateway};
use crate::scenario::{Collecting, Ending, Life, Shape, Step, Trouble, next_step};
use crate::scrub::{self, Scrubber};
use crate::service;
use crate::snapshot::{Copier, KEEPER, Taken};
use crate::tight;
use crate::watch::Opened;
use crate::{SimClock, SimDisk, SimRng};
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use store::Embedded;
use types::{ErrorKind, JournalSeq};
use wire::Fault;
use wire::control::Reclaim;
use world::Clock as _;

/// In whose name reclaim is held.
const HOLDER: &str = "restore";
/// Simulated time after which a life that has not ended hangs.
const HANG_S: u64 = 6 * 3600;

/// Times that a machine is started whose commits end unknown.
const OPENS_MAX: usize = 4;

/// How a life ended.
#[derive(Debug)]
pub enum Ended {
    /// The power is off.
    Cut,
    /// As planned.
    Left,
    /// The store refuses to serve what the disk damaged.
    Refused(String),
}

/// What is to be known of a life when it is over.
#[derive(Debug, Default, Clone)]
pub struct Notes {
    /// What was there at its beginning, once it was looked at.
    pub look: Option<Look>,
    /// Bits that turned over, and the journal's record that each is in.
    pub flips: Vec<(Flip, Option<JournalSeq>)>,
    /// When it had been opened.
    pub opened: Option<Opened>,
    /// Whether there was little room for a while.
    pub was_full: bool,
    /// Snapshots that may be laid later.
    pub kept: Vec<Arc<Taken>>,
}

/// Operations begun, and the troubles still to come, each with the operation it waits for.
type Script = Arc<Mutex<(u64, Vec<(u64, Trouble)>)>>;

/// What the clients of a life share.
#[derive(Clone)]
pub struct Stage {
    pub(crate) shape: Shape,
    pub(crate) disk: SimDisk,
    pub(crate) clock: Arc<SimClock>,
    pub(crate) recorder: Recorder,
    notes: Arc<Mutex<Notes>>,
    script: Script,
    ops: u64,
    /// Once the machine is open.
    control: Option<Arc<dyn Reclaim>>,
    store: Option<Arc<Embedded>>,
}

/// A life under way.
pub struct Play<'a> {
    run: &'a Run,
    life: &'a Life,
    stage: Stage,
    /// What the disk had done before.
    before: Counts,
}

impl<'a> Play<'a> {
    /// A life of `run`.
    pub fn new(run: &'a Run, life: &'a Life) -> Self {
        let stage = Stage {
            shape: run.shape.clone(),
            disk: run.disk.clone(),
            clock: run.clock.clone(),
            recorder: run.recorder.clone(),
            notes: Arc::default(),
            script: Arc::new(Mutex::new((0, life.troubles.clone()))),
            ops: life.ops,
            control: None,
            store: None,
        };
        Self {
            run,
            life,
            stage,
            before: run.disk.counts(),
        }
    }

    /// What is to be known of it.
    pub fn notes(&self) -> Notes {
        self.stage.notes.lock().expect("no panic under this lock").clone()
    }

    /// From start to end.
    ///
    /// # Errors
    /// What is wrong whatever the order of things.
    pub async fn whole(&mut self, last: bool) -> Result<Ended, String> {
        let disk = self.run.disk.clone();
        let hang = self.run.clock.sleep(Duration::from_secs(HANG_S));
        tokio::select! {
            biased;
            () = disk.until_off() => {
                self.run.recorder.count("life.cut");
                Ok(Ended::Cut)
            }
            ended = self.scenes(last) => ended,
            () = hang => Err("it hangs".into()),
        }
    }

    async fn scenes(&self, last: bool) -> Result<Ended, String> {
        let run = self.run;
        if let Some(after) = self.life.cut_recovery.filter(|_| !last) {
            run.disk
                .plan(crate::disk::Fault::new(crate::disk::FaultKind::PowerOff, after));
        }
        let opened = self.open().await;
        if run.disk.is_off() {
            return self.cut_in_recovery().await;
        }
        let machine = match opened {
            Ok(machine) => machine,
            Err(fault) if run.damage.elsewhere => return Ok(Ended::Refused(fault.to_string())),
            Err(fault) => return Err(format!("it does not open: {fault}")),
        };
        let looked = look::look(&machine.gateways[0], &run.damage).await;
        if run.disk.is_off() {
            return self.cut_in_recovery().await;
        }
        run.disk.clear_plan();
        let look = match looked {
            Ok(look) => look,
            Err(Blind::Refused(what)) => return Ok(Ended::Refused(what)),
            Err(Blind::Wrong(what)) => return Err(what),
        };
        self.stage.notes.lock().expect("no panic under this lock").look = Some(look.clone());
        let chunks = look::walk(&machine, &run.damage).await?;
        look::count(&machine, &run.disk, &machine.gateways[0]).await;
        run.recorder.get().counts.add("walk.chunks", chunks);
        run.recorder.count("life.opened");
        let late = std::mem::take(&mut run.recorder.get().late);
        machine.hear_the_late(late, &run.recorder).await;
        self.stage.notes.lock().expect("no panic under this lock").opened = Some(Opened::now(&run.disk));
        let gc = match run.shape.gc {
            Some(collecting) => Some(self.collect(&machine, collecting, last).await?),
            None => None,
        };
        let scrubber = run
            .shape
            .scrub_ms
            .map(|period_ms| Scrubber::begin(&machine, &run.world, self.line(last), period_ms));
        if !last {
            self.serve(&machine).await?;
        } else if gc.is_some() {
            self.come_to_rest(&machine, &look).await?;
        }
        if last && scrubber.is_some() {
            scrub::at_rest(&machine, run).await?;
        }
        if self.is_stopped(last) {
            self.is_served(&machine).await?;
        }
        self.end(machine, (gc, scrubber), last).await
    }

    /// Whether it ends in order.
    fn is_stopped(&self, last: bool) -> bool {
        last || matches!(self.life.ending, Ending::Stop | Ending::StopThenCut)
    }

    /// Nobody is left: what is asked for now is answered, unless the disk is out of service or has lost what it had. That is told as what
    /// it is: "busy" has no excuse.
    async fn is_served(&self, machine: &Machine) -> Result<(), String> {
        let run = self.run;
        let served = service::comes_back(&self.stage, &machine.gateways).await;
        let now = run.disk.counts();
        let failed = |fault: &str| now.get(fault) > self.before.get(fault);
        // What turned over in this life is not among its run's damage yet.
        let has_flipped = !self.notes().flips.is_empty();
        let is_damaged = has_flipped || run.damage.any();
        let has_cause = failed("disk.sync_error") || failed("disk.write_error") || is_damaged;
        match served {
            Ok(()) => Ok(()),
            Err(missed) if has_cause && !missed.is_busy() => {
                run.recorder.note(format_args!("{missed}: excused"));
                run.recorder.count("service.excused");
                Ok(())
            }
            Err(missed) => Err(missed.to_string()),
        }
    }

    /// Opens the machine; where its engine never says how its first commits ended, once more.
    async fn open(&self) -> Result<Machine, Fault> {
        let run = self.run;
        let mut tries = 0;
        loop {
            tries += 1;
            let opened = Machine::open(&run.world, &run.disk, &run.shape, &run.rng, &run.recorder).await;
            match opened {
                Err(fault) if fault.kind == ErrorKind::Unknown && tries < OPENS_MAX && !run.disk.is_off() => {
                    run.recorder.note(format_args!("it does not open: {fault}"));
                    run.disk.kill();
                }
                opened => return opened,
            }
        }
    }

    async fn collect(
        &self,
        machine: &Machine,
        collecting: Collecting,
        last: bool,
    ) -> Result<Collector, String> {
        let run = self.run;
        // What lies under an older index stays as long as that may be laid.
        if last || (self.life.lets_go && run.kept.is_empty()) {
            self.let_go(machine).await?;
        }
        let begun = Collector::begin(machine, &run.world, self.line(last), collecting).await;
        begun.map_err(|fault| format!("gc does not begin: {fault}"))
    }

    async fn let_go(&self, machine: &Machine) -> Result<(), String> {
        for holder in [HOLDER, KEEPER] {
            match machine.control.release(holder).await {
                Ok(true) => self.run.recorder.count("gc.let_go"),
                Ok(false) => {}
                Err(fault) => return Err(format!("reclaim is not let go: {fault}")),
            }
        }
        Ok(())
    }

    /// How the roles are spoken to by who works beside clients.
    fn line(&self, last: bool) -> FarLine {
        let run = self.run;
        FarLine {
            rng: Arc::new(run.rng.fork()),
            recorder: run.recorder.clone(),
            clock: run.world.clock.clone(),
            // At the end they are to come to rest.
            percent: if last { 0 } else { run.shape.flaky_percent },
        }
    }

    /// Nobody is there but gc: it comes to rest, on a disk with room and on one without, and takes nothing that has a name (I3).
    async fn come_to_rest(&self, machine: &Machine, before: &Look) -> Result<(), String> {
        let run = self.run;
        for short in [false, true] {
            if short {
                let used = run.disk.used() + run.shape.ballast_bytes / 2;
                run.disk.set_capacity(used / 94 * 100);
            }
            let rested = quiet::rest(machine, run, short).await;
            run.disk.set_capacity(run.shape.disk_bytes);
            rested?;
            look::walk(machine, &run.damage).await?;
            match look::look(&machine.gateways[0], &run.damage).await {
                Ok(look) if look == *before => {}
                Ok(look) => return Err(format!("gc has changed {before:?} into {look:?}")),
                Err(Blind::Refused(what)) => run.recorder.note(format_args!("refused: {what}")),
                Err(Blind::Wrong(what)) => return Err(what),
            }
        }
        Ok(())
    }

    async fn cut_in_recovery(&self) -> Result<Ended, String> {
        self.run.recorder.count("life.cut_in_recovery");
        // The power is off: the other branch of `whole` ends this.
        std::future::pending().await
    }

    async fn serve(&self, machine: &Machine) -> Result<(), String> {
        let mut clients = Vec::new();
        // What is held goes nowhere.
        let tight = self.life.tight.filter(|_| self.run.kept.is_empty());
        if let Some(left) = tight {
            self.stage.befall(Trouble::Full(left));
        }
        for n in 0..self.run.shape.clients {
            let client = gateway(&machine.gateways, n);
            let stage = Stage {
                control: Some(machine.control.clone()),
                store: Some(machine.store.clone()),
                ..self.stage.clone()
            };
            clients.push(tokio::spawn(serve(stage, client, self.run.rng.fork())));
        }
        let copier = Copier::new(machine, &self.run.world, &self.run.disk, self.run.rng.fork());
        self.copy(&copier).await;
        for client in clients {
            client.await.map_err(|e| format!("a client broke: {e}"))?;
        }
        memory::is_given_back(&self.stage, &machine.gateways[0]).await?;
        if tight.is_some() && !self.run.damage.any() {
            self.let_go(machine).await?;
            tight::served_again(&self.stage, &machine.gateways[0]).await?;
        }
        Ok(())
    }

    /// Copies the index when it is time.
    async fn copy(&self, copier: &Copier) {
        for (at, keep) in self.life.snapshots.iter().copied() {
            while !self.stage.has_begun(at) {
                self.run.clock.sleep(Duration::from_millis(3)).await;
            }
            if let Some(taken) = copier.take(keep).await.filter(|_| keep) {
                let mut notes = self.stage.notes.lock().expect("no panic under this lock");
                notes.kept.push(Arc::new(taken));
            }
        }
    }

    async fn end(
        &self,
        machine: Machine,
        (gc, scrubber): (Option<Collector>, Option<Scrubber>),
        last: bool,
    ) -> Result<Ended, String> {
        let recorder = &self.run.recorder;
        let is_stopped = self.is_stopped(last);
        if let Some(gc) = gc.filter(|_| is_stopped) {
            gc.stop().await;
        }
        if let Some(scrubber) = scrubber.filter(|_| is_stopped) {
            scrubber.stop().await;
        }
        match self.life.ending {
            _ if last => machine.shutdown().await,
            Ending::Cut => recorder.count("life.cut_at_rest"),
            Ending::Kill => recorder.count("life.killed"),
            Ending::Stop | Ending::StopThenCut => {
                machine.shutdown().await;
                recorder.count("life.stopped");
            }
        }
        Ok(Ended::Left)
    }
}

/// A client: one step after the other until the life's operations have begun.
async fn serve(stage: Stage, client: Client, rng: SimRng) {
    // Without buckets there is little to do.
    let bucket = usize::from(rng.percent(25));
    let pace = Pace {
        piece_bytes: usize::MAX,
        pause_ms: 0,
    };
    stage.one(&client, Op::CreateBucket { bucket }, pace, None).await;
    while stage.next() {
        stage.clock.sleep(Duration::from_millis(rng.below(4))).await;
        let (step, pace, polls) = next_step(&mut stage.recorder.get(), &stage.shape, &rng);
        match step {
            Step::One(op) => {
                stage.one(&client, op, pace, polls).await;
            }
            Step::DeleteMany(bucket, keys) => stage.delete_many(&client, bucket, &keys).await,
            Step::Copy(from, to) => stage.copy(&client, from, to, polls).await,
            Step::ListAll(bucket, max) => stage.list_all(&client, bucket, max).await,
        }
    }
}

impl Stage {
    /// Whether so many operations have begun.
    fn has_begun(&self, ops: u64) -> bool {
        self.script.lock().expect("no panic under this lock").0 > ops
    }

    /// Whether there is another operation to begin; lets the troubles come that are due.
    fn next(&self) -> bool {
        let mut script = self.script.lock().expect("no panic under this lock");
        script.0 += 1;
        while let Some((at, _)) = script.1.first()
            && *at < script.0
        {
            let (_, trouble) = script.1.remove(0);
            self.befall(trouble);
        }
        self.recorder.count("ops");
        script.0 <= self.ops
    }

    fn befall(&self, trouble: Trouble) {
        self.recorder.note(format_args!("trouble {trouble:?}"));
        let mut notes = self.notes.lock().expect("no panic under this lock");
        match trouble {
            Trouble::Disk(fault) => self.disk.plan(fault),
            // A disk without power is not looked at.
            Trouble::Flip(_) | Trouble::LastWord(_) if self.disk.is_off() => {}
            Trouble::Flip(on) => {
                let survey = look::survey(&self.disk);
                if let Some(flip) = self.disk.flip(on) {
                    let record = survey.and_then(|s| s.record_at(flip.offset));
                    let record = record.filter(|_| flip.path == look::JOURNAL);
                    self.recorder.note(format_args!("{flip:?} {record:?}"));
                    notes.flips.push((flip, record));
                }
            }
            Trouble::LastWord(far) => {
                let newest = look::survey(&self.disk).and_then(|s| s.newest());
                let place = |bytes: &Range<u64>| bytes.start + (bytes.end - bytes.start) * far / 1_000;
                if let Some((sequence, bytes)) = newest
                    && let Some(flip) = self.disk.flip_at(look::JOURNAL, place(&bytes))
                {
                    self.recorder.note(format_args!("{flip:?} {sequence}"));
                    notes.flips.push((flip, Some(sequence)));
                    self.disk.power_off();
                }
            }
            Trouble::Full(left) => {
                notes.was_full = true;
                self.disk.set_capacity(self.disk.used() + left);
                self.recorder.count("fault.little_room");
            }
            Trouble::Room => self.disk.set_capacity(self.shape.disk_bytes),
            Trouble::Hold => {
                if let Some(control) = self.control.clone() {
                    let recorder = self.recorder.clone();
                    tokio::spawn(async move {
                        if control.hold(HOLDER, "an index is restored").await.is_ok() {
                            recorder.count("gc.held");
                        }
                    });
                }
            }
            Trouble::Rest => {
                if let Some(store) = &self.store {
                    store.rest_now();
                    self.recorder.count("index.rested");
                }
            }
            Trouble::Jump(by) => {
                self.clock.jump_ms(by);
                self.recorder.count("fault.clock_jump");
            }
        }
    }

    pub(crate) async fn one(&self, client: &Client, op: Op, pace: Pace, polls: Option<u64>) -> Outcome {
        let id = self.recorder.begin(op.clone());
        if client.objects.budget().waiting() > 0 {
            self.recorder.count("memory.waited");
        }
        let outcome = self
            .unless_it_gives_up(client.perform(id, &op, pace), polls)
            .await;
        self.end(id, outcome.clone());
        outcome
    }

    /// How a call ends, or that its client went away after so many polls.
    pub(crate) async fn unless_it_gives_up(
        &self,
        call: impl Future<Output = Outcome>,
        polls: Option<u64>,
    ) -> Outcome {
        let call = Box::pin(call);
        let given_up = || {
            self.recorder.count("fault.client_gave_up");
            Outcome::Unknown
        };
        GivesUp { call, polls }.await.unwrap_or_else(given_up)
    }

    /// What a machine says without power nobody hears.
    pub(crate) fn end(&self, id: OpId, outcome: Outcome) {
        if self.disk.is_off() {
            self.recorder
                .get()
                .unreadable
                .retain(|(reader, _, _)| *reader != id);
            return;
        }
        self.recorder.end(id, outcome);
    }

    async fn delete_many(&self, client: &Client, bucket: usize, keys: &[usize]) {
        let begin = |key: &usize| {
            self.recorder.begin(Op::Delete {
                bucket,
                key: *key,
                condition: crate::op::Condition::Always,
            })
        };
        let ids: Vec<OpId> = keys.iter().map(begin).collect();
        self.recorder.count("delete_many");
        let outcomes = client.delete_many(bucket, keys, &ids).await;
        for (id, outcome) in ids.into_iter().zip(outcomes) {
            self.end(id, outcome);
        }
    }

    async fn list_all(&self, client: &Client, bucket: usize, max: u32) {
        let mut after = String::new();
        loop {
            let query = Query {
                prefix: "",
                delimiter: "",
                after: after.clone(),
                max,
            };
            let pace = Pace {
                piece_bytes: usize::MAX,
                pause_ms: 0,
            };
            match self.one(client, Op::List { bucket, query }, pace, None).await {
                Outcome::Answered(Answer::Page(lines, true)) => {
                    let Some(Line::Key(key, _)) = lines.last() else {
                        return;
                    };
                    crate::op::KEYS[*key].clone_into(&mut after);
                    self.recorder.count("list.next_page");
                }
                _ => return,
            }
        }
    }
}

/// A call that is dropped after so many polls: the client went away.
struct GivesUp<F> {
    call: Pin<Box<F>>,
    polls: Option<u64>,
}

impl<F: Future> Future for GivesUp<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.polls {
            Some(0) => return Poll::Ready(None),
            Some(left) => *left -= 1,
            None => {}
        }
        self.call.as_mut().poll(context).map(Some)
    }
}
