//! The binary `cairn`: the command line, configuration, and which roles run here. No logic.

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod allocator;
mod backup;
mod bench;
mod check;
mod config;
mod descriptors;
mod memory;
mod rebuild;
mod reclaim;
mod restore;
mod roles;
mod root_key;
mod serve;
mod source;
mod tls;
mod waking;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (format 2)");
const _: () = assert!(
    extent::FORMAT == 2,
    "what --version says is the highest format that is known"
);

/// S3-compatible object storage that never says done before it is.
#[derive(Parser)]
#[command(name = "cairn", version = VERSION)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

#[allow(clippy::large_enum_variant, reason = "there is one in the life of a process")]
#[derive(Subcommand)]
enum Command {
    /// Serves a directory, made on the first start.
    Server(Box<config::Flags>),
    /// Verifies a stopped directory: every checksum, the index against the extents, both ways. Changes nothing.
    Check {
        /// The store's directory.
        dir: PathBuf,
        /// The index cannot be had: lays a new one, out of the extents and what is whole of the old one. Changes the directory.
        #[arg(long)]
        rebuild_index: bool,
        #[command(flatten)]
        flags: rebuild::Flags,
    },
    /// Copies a store, served or stopped, into a directory of backups; copies only what that has not yet.
    Backup(backup::Flags),
    /// Makes a data directory of a backup, or, with --index, replaces the index of one. Reclaim is held in it until it is let go.
    Restore(restore::Flags),
    /// Puts load on any S3 endpoint and says what it took. It makes objects there, and removes them.
    Bench(Box<bench::Flags>),
    /// Holds reclaim, lets it go, or says whether it is held; of a running server or a stopped directory.
    #[command(subcommand)]
    Reclaim(reclaim::Command),
}

/// Plants the bugs that `CAIRN_PLANT` names, between commas, for the tests that must catch them.
#[cfg(feature = "plant")]
fn plant() {
    let Ok(names) = std::env::var("CAIRN_PLANT") else {
        return;
    };
    for name in names.split(',') {
        let bug = world::plant::Plant::parse(name).expect("CAIRN_PLANT names bugs of world::plant");
        world::plant::plant_process(bug);
    }
}

fn main() -> ExitCode {
    #[cfg(feature = "plant")]
    plant();
    let ended = match Line::parse().command {
        Command::Server(flags) => serve::main(*flags).map(|()| ExitCode::SUCCESS),
        Command::Check {
            dir,
            rebuild_index: true,
            flags,
        } => rebuild::main(&dir, &flags),
        Command::Check { dir, .. } => check::main(&dir),
        Command::Backup(flags) => backup::main(&flags),
        Command::Bench(flags) => bench::main(*flags),
        Command::Restore(flags) => restore::main(&flags),
        Command::Reclaim(command) => reclaim::main(command),
    };
    ended.unwrap_or_else(|error| {
        eprintln!("cairn: {error:#}");
        ExitCode::FAILURE
    })
}
