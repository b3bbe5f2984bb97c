//! `cairn server DIR`: opens the roles, listens, says so in one line, serves until it is told to stop, drains.

use crate::config::{Config, ConfiguredKey, Flags};
use crate::source::StoreSource;
use crate::waking::Waking;
use crate::{descriptors, memory, roles, root_key, tls};
use admin::{Admin, Operator as Operators, Readiness, SOCKET, serve_operator};
use anyhow::{Context, bail};
use auth::{AccessKey, AccessKeyId, Keys, SecretKey};
use http::{Method, Response, Uri};
use metrics_exporter_prometheus::PrometheusBuilder;
use s3::{Operator, Secure, Service};
use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use types::limits::CONNECTION_SECURE_OUT_BYTES;
use world::real::{RealDisk, RealNet};
use world::{Budget, Disk, Listener, LocalListener, Net, Stream, World};

/// How long requests under way may go on after SIGTERM.
const DRAIN: Duration = Duration::from_secs(30);

/// One may wait for a disk in the middle of a sync; the others serve.
const WORKERS_MIN: usize = 2;

/// Serves until SIGTERM or SIGINT; the second signal ends at once.
pub(crate) fn main(flags: Flags) -> anyhow::Result<()> {
    let config = Config::settle(flags)?;
    let filter = tracing_subscriber::EnvFilter::try_new(&config.log).context("the log setting")?;
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        .init();
    config.memory.warn_of_little();
    let connections_max = descriptors::connections_max(config.memory.connections_max);
    let workers = std::thread::available_parallelism().map_or(WORKERS_MIN, |n| n.get().max(WORKERS_MIN));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("gateway")
        .worker_threads(workers)
        .enable_all()
        .build()
        .context("the runtime")?;
    let ended = runtime.block_on(serve(config, connections_max));
    // What a second signal left behind is not waited for.
    runtime.shutdown_background();
    ended
}

async fn serve(config: Config, connections_max: usize) -> anyhow::Result<()> {
    let world = World::real();
    let disk: Arc<dyn Disk> =
        Arc::new(RealDisk::open(&config.dir).with_context(|| format!("directory {}", config.dir.display()))?);
    let metrics = PrometheusBuilder::new().install_recorder().context("metrics")?;
    let tls = secure(&config)?;
    let opened = roles::open(&world, disk.clone(), Some(config.memory)).await?;
    opened.report();
    let _waking = Waking::of(&world, opened.journal.clone());
    // After the directory is locked: two first starts cannot make two root keys.
    let root = root_key::settle(&disk, &*world.rng, tell_root_key)?;
    let (requests, connections) = config.memory.budgets(&world.clock);
    let objects = opened.gateway(&world, &config.region, requests).await?;
    let worker = opened
        .worker(&world, (config.gc.clone(), config.scrub.clone()), objects.clone())
        .await?;
    let readiness = Arc::new(Readiness::new(vec![opened.node.clone()], opened.index.clone()));
    let folding = admin::upkeep(world.clock.clone(), metrics.clone());
    let tending = memory::tend(world.clone(), opened.store.clone(), opened.index.clone());
    let operators_world = world.clone();
    let face = Service::new(
        world,
        objects.clone(),
        Arc::new(keys(&config, &root)?),
        Arc::new(Face(Admin::new(
            readiness.clone(),
            opened.scrubbing(&config),
            metrics,
        ))),
        face_config(&config, connections_max, connections),
    );
    let listener = listen(&config).await?;
    let operators = operators(&config, &opened, &operators_world);
    let (drain, draining) = watch::channel(false);
    // Before it says that it is ready: who reads that may stop it.
    let signals = stop_signals(readiness, drain)?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    tell_ready(&format!(
        "cairn {} ready on {scheme}://{}",
        env!("CARGO_PKG_VERSION"),
        listener.address()
    ));
    let mut draining_gc = draining.clone();
    let (end_operators, operators_end) = watch::channel(false);
    let work = async {
        // gc need not wait for requests that are slow to end.
        let stop_gc = async {
            drop(draining_gc.wait_for(|draining| *draining).await);
            worker.stop();
        };
        let faces = async {
            tokio::join!(face.serve(listener, tls, draining, DRAIN), stop_gc);
            end_operators.send_replace(true);
        };
        let serve_operators = async {
            if let Some((listener, operators)) = operators {
                serve_operator(listener, operators, operators_world.clock.clone(), operators_end).await;
            }
        };
        tokio::join!(faces, serve_operators);
        worker.stopped().await;
        objects.shutdown().await;
        opened.shutdown().await;
    };
    tokio::select! {
        ended = until_signal(work, signals) => ended?,
        never = folding => match never {},
        never = tending => match never {},
    }
    tracing::info!("stopped");
    Ok(())
}

async fn listen(config: &Config) -> anyhow::Result<Box<dyn Listener>> {
    let listening = RealNet.listen(config.listen).await;
    listening.with_context(|| format!("listening on {}", config.listen))
}

fn secure(config: &Config) -> anyhow::Result<Option<Arc<dyn Secure>>> {
    let Some((cert, key)) = &config.tls else {
        return Ok(None);
    };
    Ok(Some(Arc::new(Tls(tls::acceptor(cert, key)?))))
}

/// The operator's socket, and who answers there. Not every file system has sockets, and clients need none.
fn operators(
    config: &Config,
    opened: &roles::Roles,
    world: &World,
) -> Option<(LocalListener, Arc<Operators>)> {
    // The directory is locked: a socket that is there already is a dead process's.
    let listener = match LocalListener::bind(&config.dir, SOCKET) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(
                %error,
                "there is no socket {SOCKET} in the directory: `cairn backup` and `cairn reclaim` work only while no server runs"
            );
            return None;
        }
    };
    let source = Arc::new(StoreSource::of(opened, world.clock.clone()));
    let operators = Operators::new(world.clone(), opened.control.clone(), source);
    Some((listener, Arc::new(operators)))
}

fn face_config(config: &Config, connections_max: usize, connections: Arc<Budget>) -> s3::Config {
    s3::Config {
        region: config.region.clone(),
        domains: config.domain.iter().cloned().collect(),
        secure: config.tls.is_some(),
        connections_max,
        connections: Some(connections),
    }
}

/// The work with all that ends it: whoever signals again need not wait for any of it.
async fn until_signal(
    work: impl Future<Output = ()>,
    signals: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    tokio::select! {
        biased;
        () = work => Ok(()),
        () = signals => bail!("stopped before everything had ended"),
    }
}

/// The first signal drains; the future ends at the second.
fn stop_signals(
    readiness: Arc<Readiness>,
    drain: watch::Sender<bool>,
) -> anyhow::Result<impl Future<Output = ()>> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    Ok(async move {
        for stop_now in [false, true] {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            if stop_now {
                return;
            }
            tracing::info!("draining");
            readiness.drain();
            drain.send_replace(true);
        }
    })
}

fn keys(config: &Config, root: &ConfiguredKey) -> anyhow::Result<Keys> {
    let mut keys = Keys::default();
    for key in std::iter::once(root).chain(&config.access_keys) {
        let added = keys.add(AccessKey {
            id: AccessKeyId(key.access_key.clone()),
            secret: SecretKey(key.secret_key.clone()),
            account: key.account,
        });
        if !added {
            bail!("access key {} is the root key's too", key.access_key);
        }
    }
    Ok(keys)
}

#[allow(
    clippy::print_stderr,
    reason = "told once, to whoever starts the store for the first time"
)]
fn tell_root_key(root: &ConfiguredKey) {
    eprintln!("root access key: {}", root.access_key);
    eprintln!("root secret key: {}", root.secret_key);
    eprintln!("They are kept in the file root-key of the directory and not shown again.");
}

#[allow(clippy::print_stdout, reason = "the one line that says it is ready")]
fn tell_ready(line: &str) {
    println!("{line}");
}

struct Face(Admin);

#[async_trait::async_trait]
impl Operator for Face {
    async fn answer(&self, method: Method, uri: Uri) -> Response<bytes::Bytes> {
        self.0.answer(method, uri).await
    }
}

struct Tls(TlsAcceptor);

#[async_trait::async_trait]
impl Secure for Tls {
    async fn secure(&self, stream: Box<dyn Stream>) -> std::io::Result<Box<dyn Stream>> {
        let bounded = |tls: &mut rustls::ServerConnection| {
            tls.set_buffer_limit(Some(CONNECTION_SECURE_OUT_BYTES));
        };
        Ok(Box::new(self.0.accept_with(stream, bounded).await?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_second_signal_ends_what_does_not_end() {
        let hangs = std::future::pending();
        assert!(until_signal(hangs, std::future::ready(())).await.is_err());
        assert!(
            until_signal(std::future::ready(()), std::future::pending())
                .await
                .is_ok()
        );
    }
}
