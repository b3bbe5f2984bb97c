//! Where things are: the repository's root, its target directory, its packages.

use anyhow::{Context, Result};
use cargo_metadata::{Metadata, MetadataCommand};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The repository this program was built in.
pub(crate) struct Repo {
    metadata: Metadata,
}

impl Repo {
    /// Asks cargo.
    pub(crate) fn find() -> Result<Self> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
        let metadata = MetadataCommand::new()
            .manifest_path(manifest)
            .no_deps()
            .exec()
            .context("cargo metadata")?;
        Ok(Self { metadata })
    }

    /// The packages of the workspace.
    pub(crate) fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The directory of the workspace's Cargo.toml.
    pub(crate) fn root(&self) -> &Path {
        self.metadata.workspace_root.as_std_path()
    }

    /// A place under cargo's target directory.
    pub(crate) fn target(&self, below: &str) -> PathBuf {
        self.metadata.target_directory.as_std_path().join(below)
    }

    /// `program` with the root as its working directory.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut c = Command::new(program);
        c.current_dir(self.root());
        c
    }

    /// Builds the binary as it is released, at `target("release/cairn")`.
    pub(crate) fn released(&self) -> Command {
        self.cargo(&[
            "build",
            "--release",
            "--package",
            "cairn-server",
            "--bin",
            "cairn",
        ])
    }

    /// The cargo that runs this program.
    pub(crate) fn cargo(&self, arguments: &[&str]) -> Command {
        let mut c = self.command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        c.args(arguments);
        c
    }
}
