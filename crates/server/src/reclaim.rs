//! `cairn reclaim hold|release|status DIR`: through the socket of the server that has the directory open, else in the directory itself.

use crate::roles;
use admin::{HoldRequest, ReclaimStatus, hold_reclaim, reclaim_status, release_reclaim};
use anyhow::{Context, bail};
use bytes::Bytes;
use clap::Subcommand;
use control::ControlPlane;
use http::Method;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use world::real::RealDisk;
use world::{Disk, World};

/// What is to become of reclaim.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Nothing is reclaimed until it is let go: not by a restart either.
    Hold {
        /// The store's directory.
        dir: PathBuf,
        /// Why, for whoever asks later.
        #[arg(long, default_value = "an operator held it")]
        reason: String,
    },
    /// Reclaim goes on.
    Release {
        /// The store's directory.
        dir: PathBuf,
    },
    /// Says whether it is held, and why.
    Status {
        /// The store's directory.
        dir: PathBuf,
    },
}

impl Command {
    fn dir(&self) -> &Path {
        match self {
            Self::Hold { dir, .. } | Self::Release { dir } | Self::Status { dir } => dir,
        }
    }

    /// As a server is asked.
    fn request(&self) -> anyhow::Result<(Method, &'static str, Bytes)> {
        Ok(match self {
            Self::Hold { reason, .. } => {
                let reason = reason.clone();
                let body = serde_json::to_vec(&HoldRequest { reason })?;
                (Method::POST, "/reclaim/hold", body.into())
            }
            Self::Release { .. } => (Method::POST, "/reclaim/release", Bytes::new()),
            Self::Status { .. } => (Method::GET, "/reclaim", Bytes::new()),
        })
    }

    /// As it is done where no server is.
    async fn apply(&self, control: &ControlPlane) -> anyhow::Result<ReclaimStatus> {
        Ok(match self {
            Self::Hold { reason, .. } => hold_reclaim(control, reason).await?,
            Self::Release { .. } => release_reclaim(control).await?,
            Self::Status { .. } => reclaim_status(control).await?,
        })
    }
}

/// Does it and says how it is now.
pub(crate) fn main(command: Command) -> anyhow::Result<ExitCode> {
    check_is_store(command.dir())?;
    let world = World::real();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let status = runtime.block_on(async {
        let (method, path, body) = command.request()?;
        match admin::ask(&*world.clock, command.dir(), (method, path), body).await? {
            Some(mut answer) => Ok(serde_json::from_slice(&answer.whole().await?)?),
            None => stopped(&world, &command).await,
        }
    });
    tell(&status?);
    Ok(ExitCode::SUCCESS)
}

/// Refuses what is no store: opening it would make one.
pub(crate) fn check_is_store(dir: &Path) -> anyhow::Result<()> {
    if !dir.join("superblock").exists() {
        bail!("{} is not a store: it has no superblock", dir.display());
    }
    Ok(())
}

async fn stopped(world: &World, command: &Command) -> anyhow::Result<ReclaimStatus> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(command.dir())?);
    let opened = roles::open(world, disk, None)
        .await
        .context("no server answers in the directory, and it cannot be opened")?;
    let status = command.apply(&opened.control).await;
    opened.shutdown().await;
    status
}

#[allow(clippy::print_stdout, reason = "this command's answer")]
fn tell(status: &ReclaimStatus) {
    if status.holds.is_empty() {
        println!("reclaim is not held");
    }
    tell_holds(status);
}

/// A line for each hold.
#[allow(clippy::print_stdout, reason = "part of a command's answer")]
pub(crate) fn tell_holds(status: &ReclaimStatus) {
    for held in &status.holds {
        println!(
            "reclaim is held since {} by {}: {}",
            moment(held.since_ms),
            held.by,
            held.why
        );
    }
}

/// A moment as people write it.
pub(crate) fn moment(ms: u64) -> String {
    let seconds = i64::try_from(ms / 1000).unwrap_or(i64::MAX);
    let known = OffsetDateTime::from_unix_timestamp(seconds).ok();
    known
        .and_then(|t| t.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("{ms} ms"))
}
