//! A run: clients made ready, loaded, measured, and what they put cleaned away.
//!
//! All clients do the same at the same time: each step of a run is a word that all wait for and all answer (`Steps`). What ends while the clock
//! runs is counted, whenever it began.

use crate::body::Bodies;
use crate::connection::{Connection, Failed, Send, Want};
use crate::machine::{Machine, Process};
use crate::operations::Worker;
use crate::plan::{Operation, Payload, Plan};
use crate::report::{Report, ServerReport};
use hdrhistogram::Histogram;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Barrier, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// Objects that each client puts before as many are deleted against the clock; all clients' together take no more than so many bytes.
const DELETED_AT_ONCE: usize = 250;
const DELETED_BYTES: usize = 1 << 30;
/// What is done before the clock runs is tried so often.
const TRIES: usize = 3;
const BETWEEN_TRIES: Duration = Duration::from_millis(100);
/// After a failure: a server that refuses all is not hammered.
const AFTER_FAILURE: Duration = Duration::from_millis(20);
const LATENCY_MIN_NS: u64 = 1_000;
const LATENCY_MAX_NS: u64 = 3_600_000_000_000;
const LATENCY_DIGITS: u8 = 3;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The endpoint did not do what is done before the clock runs.
    #[error("{what}: {why}")]
    NotReady {
        /// What that is.
        what: &'static str,
        /// What it said.
        why: String,
    },
    /// A plan that cannot be.
    #[error("{0}")]
    Plan(&'static str),
}

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Step {
    Prepare,
    Page,
    /// Until it is told to end.
    Load,
    /// Puts, then deletes, of one round.
    Fill,
    Empty,
    Clean,
    End,
}

const STEPS: [Step; 7] = [
    Step::Prepare,
    Step::Page,
    Step::Load,
    Step::Fill,
    Step::Empty,
    Step::Clean,
    Step::End,
];

/// What all clients wait for.
struct Steps {
    step: AtomicU8,
    barrier: Barrier,
    /// Whether what ends now is counted.
    timed: AtomicBool,
    over: AtomicBool,
    /// When the clock stopped.
    stopped: OnceLock<Instant>,
    /// Operations of a client in one round of deletes.
    round: usize,
    operations: AtomicU64,
    bytes: AtomicU64,
    failed: Mutex<Option<Failed>>,
}

/// What one client counted.
struct Tally {
    latencies: Histogram<u64>,
    bytes: u64,
    errors: u64,
    first_error: Option<Failed>,
    /// The longest that one had taken when the clock stopped and it had not ended.
    open_ns: u64,
    /// Objects and uploads that could not be removed.
    left: u64,
}

/// What is read off the machine while the clock runs.
#[derive(Default)]
struct Meter {
    clock: Duration,
    client: Option<Duration>,
    server: Option<Duration>,
    flushes: Option<u64>,
    /// Bytes in memory when the clock stopped, and the most that ever were.
    resident: [u64; 2],
    begun: Option<Reading>,
}

struct Reading {
    at: Instant,
    client: Option<Duration>,
    server: Option<Duration>,
    flushes: Option<u64>,
}

/// Runs it.
pub fn run(plan: &Plan) -> Result<Report, BenchError> {
    check(plan)?;
    let seed = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |d| d.as_nanos() as u64);
    let run = format!("{seed:016x}");
    make_bucket(plan)?;
    let payload = |operation| {
        if operation {
            plan.payload
        } else {
            Payload::Unsigned
        }
    };
    let sends = !matches!(plan.operation, Operation::Get | Operation::Head | Operation::List);
    let last = match plan.operation {
        Operation::Multipart => plan.size - (plan.size.div_ceil(plan.part_size).max(1) - 1) * plan.part_size,
        _ => plan.size,
    };
    let bodies = Bodies::new(last, seed, payload(sends));
    let is_multipart = plan.operation == Operation::Multipart;
    let parts = Bodies::new(
        if is_multipart { plan.part_size } else { 0 },
        seed,
        payload(is_multipart),
    );
    let steps = Steps {
        step: AtomicU8::new(0),
        barrier: Barrier::new(plan.connections + 1),
        timed: AtomicBool::new(false),
        over: AtomicBool::new(false),
        stopped: OnceLock::new(),
        round: DELETED_AT_ONCE
            .min(DELETED_BYTES / plan.size.max(1) / plan.connections)
            .max(1),
        operations: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
        failed: Mutex::new(None),
    };
    thread::scope(|scope| {
        let mut clients = Vec::new();
        for n in 0..plan.connections {
            let worker = Worker::new(plan, (&bodies, &parts), &run, n);
            let steps = &steps;
            let client = thread::Builder::new().name(format!("client {n}"));
            match client.spawn_scoped(scope, move || serve(worker, steps)) {
                Ok(client) => clients.push(client),
                // Those that are there wait for one that never comes: nothing is left but to end.
                Err(e) => {
                    eprintln!("a thread: {e}");
                    std::process::exit(1);
                }
            }
        }
        let measured = direct(plan, &steps);
        if !plan.keep {
            steps.all(Step::Clean);
        }
        steps.say(Step::End);
        let tallies = clients
            .into_iter()
            .map(|c| c.join().expect("a client does not panic"));
        let tally = tallies.reduce(Tally::with).expect("one client at least");
        let place = format!("{}/{run}/", plan.bucket);
        measured.map(|meter| meter.report(plan, &tally, place))
    })
}

fn check(plan: &Plan) -> Result<(), BenchError> {
    let wrong = if plan.duration.is_zero() {
        Some("duration: the clock runs for some time")
    } else if plan.server.is_some_and(|pid| Process(pid).cpu().is_none()) {
        Some("server pid: there is no such process")
    } else if plan.connections == 0 || plan.connections > 10_000 {
        Some("connections: 1 to 10,000")
    } else if plan.objects == 0 && plan.operation.reads() {
        Some("objects: what is read must be there, so one at least")
    } else if plan.operation == Operation::Multipart && !(5 << 20..=5 << 30).contains(&plan.part_size) {
        Some("part size: 5MiB to 5GiB, as S3 has it")
    } else if plan.operation == Operation::Multipart && plan.size.div_ceil(plan.part_size) > 10_000 {
        Some("part size: an upload has 10,000 parts at most")
    } else {
        None
    };
    wrong.map_or(Ok(()), |why| Err(BenchError::Plan(why)))
}

fn make_bucket(plan: &Plan) -> Result<(), BenchError> {
    let mut c = Connection::new(&plan.endpoint, &plan.credentials);
    let path = format!("/{}", plan.bucket);
    let region = &plan.credentials.region;
    let document = if region == "us-east-1" {
        String::new()
    } else {
        format!(
            "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><LocationConstraint>{region}</LocationConstraint></CreateBucketConfiguration>"
        )
    };
    let made = c.exchange(
        "PUT",
        (&path, ""),
        &Send::Document(document.as_bytes()),
        Want::Any,
    );
    match made {
        // It is there, and ours or one that we may use: if not, the first put says so.
        Ok(_) | Err(Failed::Status { status: 409, .. }) => Ok(()),
        Err(e) => Err(not_ready("making the bucket", &e)),
    }
}

fn not_ready(what: &'static str, why: &Failed) -> BenchError {
    BenchError::NotReady {
        what,
        why: why.to_string(),
    }
}

/// Leads all clients through the run.
fn direct(plan: &Plan, steps: &Steps) -> Result<Meter, BenchError> {
    steps.all(Step::Prepare);
    steps.none_failed("putting what is to be read")?;
    if plan.operation == Operation::List {
        steps.all(Step::Page);
        steps.none_failed("the first page")?;
    }
    let mut meter = Meter::default();
    if plan.operation == Operation::Delete {
        while meter.clock < plan.duration {
            steps.all(Step::Fill);
            steps.none_failed("putting what is to be deleted")?;
            meter.begin(plan);
            steps.timed.store(true, Ordering::Relaxed);
            steps.all(Step::Empty);
            steps.timed.store(false, Ordering::Relaxed);
            meter.end(plan);
            steps.tell(plan, meter.clock);
        }
        return Ok(meter);
    }
    steps.say(Step::Load);
    thread::sleep(plan.warm_up);
    meter.begin(plan);
    steps.timed.store(true, Ordering::Relaxed);
    let begun = Instant::now();
    while let Some(left) = plan
        .duration
        .checked_sub(begun.elapsed())
        .filter(|d| !d.is_zero())
    {
        thread::sleep(left.min(Duration::from_secs(1)));
        steps.tell(plan, begun.elapsed());
    }
    steps.stopped.get_or_init(Instant::now);
    steps.timed.store(false, Ordering::SeqCst);
    meter.end(plan);
    steps.over.store(true, Ordering::Relaxed);
    steps.barrier.wait();
    Ok(meter)
}

impl Steps {
    /// All clients begin a step.
    fn say(&self, step: Step) {
        self.step.store(step as u8, Ordering::SeqCst);
        self.barrier.wait();
    }

    /// All clients do a step; it is done.
    fn all(&self, step: Step) {
        self.say(step);
        self.barrier.wait();
    }

    fn none_failed(&self, what: &'static str) -> Result<(), BenchError> {
        let failed = self.failed.lock().expect("no panic under this lock").take();
        failed.map_or(Ok(()), |why| Err(not_ready(what, &why)))
    }

    fn note(&self, result: Result<(), Failed>) {
        if let Err(why) = result {
            self.failed
                .lock()
                .expect("no panic under this lock")
                .get_or_insert(why);
        }
    }

    fn tell(&self, plan: &Plan, after: Duration) {
        let mut stderr = std::io::stderr();
        if !plan.progress || !stderr.is_terminal() {
            return;
        }
        let seconds = after.as_secs_f64().max(1e-9);
        let operations = self.operations.load(Ordering::Relaxed) as f64 / seconds;
        let mib = self.bytes.load(Ordering::Relaxed) as f64 / seconds / f64::from(1 << 20);
        // A progress line that cannot be told is none.
        let _told = write!(
            stderr,
            "\r{seconds:>5.0} s: {operations:>9.0} ops/s, {mib:>8.1} MiB/s "
        );
        if after >= plan.duration {
            let _told = writeln!(stderr);
        }
    }
}

/// Others would wait for ever for a client that is gone.
struct EndsAll;

impl Drop for EndsAll {
    fn drop(&mut self) {
        if thread::panicking() {
            std::process::exit(101);
        }
    }
}

fn with_patience(mut step: impl FnMut() -> Result<(), Failed>) -> Result<(), Failed> {
    for _ in 1..TRIES {
        match step() {
            Ok(()) => return Ok(()),
            Err(_) => thread::sleep(BETWEEN_TRIES),
        }
    }
    step()
}

/// One client, until the end.
fn serve(mut worker: Worker<'_>, steps: &Steps) -> Tally {
    let _guard = EndsAll;
    let mut tally = Tally {
        latencies: Histogram::new_with_bounds(LATENCY_MIN_NS, LATENCY_MAX_NS, LATENCY_DIGITS)
            .expect("these are bounds"),
        bytes: 0,
        errors: 0,
        first_error: None,
        open_ns: 0,
        left: 0,
    };
    loop {
        steps.barrier.wait();
        match STEPS[usize::from(steps.step.load(Ordering::SeqCst))] {
            Step::Prepare => steps.note(with_patience(|| worker.prepare())),
            Step::Page => steps.note(with_patience(|| worker.prepare_page())),
            Step::Load => {
                while !steps.over.load(Ordering::Relaxed) {
                    tally.time(steps, || worker.one());
                }
            }
            Step::Fill => {
                let mut one = || with_patience(|| worker.put().map(drop));
                steps.note((0..steps.round).try_for_each(|_| one()));
            }
            Step::Empty => (0..steps.round).for_each(|_| tally.time(steps, || worker.delete())),
            Step::Clean => tally.left = worker.clean(),
            Step::End => return tally,
        }
        steps.barrier.wait();
    }
}

impl Tally {
    fn time(&mut self, steps: &Steps, operation: impl FnOnce() -> Result<u64, Failed>) {
        let begun = Instant::now();
        let result = operation();
        let took = begun.elapsed().as_nanos() as u64;
        if !steps.timed.load(Ordering::SeqCst) {
            return self.untimed(steps.stopped.get(), begun, result);
        }
        match result {
            Ok(bytes) => {
                self.latencies.saturating_record(took.max(LATENCY_MIN_NS));
                self.bytes += bytes;
                steps.operations.fetch_add(1, Ordering::Relaxed);
                steps.bytes.fetch_add(bytes, Ordering::Relaxed);
            }
            Err(why) => {
                self.errors += 1;
                self.first_error.get_or_insert(why);
                thread::sleep(AFTER_FAILURE);
            }
        }
    }

    /// One that did not end while the clock ran: before it ran only wrong bytes count. What was under way when it stopped is not counted with
    /// what ended, but it is not forgotten that it failed, or for how long it had been under way: a server that hangs is not one without errors.
    fn untimed(&mut self, stopped: Option<&Instant>, begun: Instant, result: Result<u64, Failed>) {
        if let Some(open) = stopped.and_then(|stopped| stopped.checked_duration_since(begun)) {
            self.open_ns = self.open_ns.max(open.as_nanos() as u64);
        }
        if let Err(why) = result
            && (stopped.is_some() || matches!(why, Failed::Wrong(_)))
        {
            self.errors += 1;
            self.first_error.get_or_insert(why);
        }
    }

    fn with(mut self, other: Self) -> Self {
        self.latencies
            .add(other.latencies)
            .expect("all have the same bounds");
        self.bytes += other.bytes;
        self.errors += other.errors;
        self.first_error = self.first_error.or(other.first_error);
        self.open_ns = self.open_ns.max(other.open_ns);
        self.left += other.left;
        self
    }
}

impl Meter {
    fn begin(&mut self, plan: &Plan) {
        self.begun = Some(Reading::now(plan));
    }

    fn end(&mut self, plan: &Plan) {
        let (Some(was), is) = (self.begun.take(), Reading::now(plan)) else {
            return;
        };
        let sum = |sum: Option<Duration>, pair: Option<(Duration, Duration)>| {
            pair.map(|(is, was)| sum.unwrap_or_default() + is.saturating_sub(was))
        };
        self.clock += is.at - was.at;
        self.client = sum(self.client, is.client.zip(was.client));
        self.server = sum(self.server, is.server.zip(was.server));
        let flushes = is.flushes.zip(was.flushes);
        self.flushes = flushes.map(|(is, was)| self.flushes.unwrap_or(0) + is.saturating_sub(was));
        if let Some(server) = plan.server.map(Process) {
            self.resident = [server.resident(), server.resident_peak()].map(|bytes| bytes.unwrap_or(0));
        }
    }

    fn report(&self, plan: &Plan, tally: &Tally, place: String) -> Report {
        let (seconds, operations) = (self.clock.as_secs_f64(), tally.latencies.len());
        let each = operations.max(1) as f64;
        let at = |quantile| tally.latencies.value_at_quantile(quantile) as f64 / 1e6;
        let micros = |d: Duration| d.as_secs_f64() * 1e6 / each;
        let server = self.server.map(|cpu| ServerReport {
            cpu_us_per_op: micros(cpu),
            cpu_s_per_gib: (tally.bytes > 0)
                .then(|| cpu.as_secs_f64() * f64::from(1 << 30) / tally.bytes as f64),
            resident_bytes: self.resident[0],
            resident_peak_bytes: self.resident[1],
            flushes_per_op: self.flushes.map(|n| n as f64 / each),
        });
        Report {
            operation: plan.operation,
            size: plan.size,
            connections: plan.connections,
            payload: plan.payload,
            seconds,
            operations,
            errors: tally.errors,
            first_error: tally.first_error.as_ref().map(Failed::to_string),
            ops_per_second: operations as f64 / seconds,
            mib_per_second: tally.bytes as f64 / seconds / f64::from(1 << 20),
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: tally.latencies.max().max(tally.open_ns) as f64 / 1e6,
            left: tally.left,
            place,
            client_cpu_us_per_op: self.client.map(micros),
            server,
        }
    }
}

impl Reading {
    fn now(plan: &Plan) -> Self {
        Self {
            client: Process::own().cpu(),
            server: plan.server.and_then(|pid| Process(pid).cpu()),
            flushes: plan.server.and_then(|_| Machine::flushes()),
            at: Instant::now(),
        }
    }
}
