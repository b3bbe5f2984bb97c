//! Inputs that are kept: fuzz/corpus has a directory for each target, with what coverage-guided runs found worth keeping and what once
//! broke something.
#![allow(clippy::disallowed_methods)] // it reads the repository's own files: there is no world to simulate here

use crate::Target;
use anyhow::{Context, Result};
use std::path::Path;

/// Every input of a target: its seeds, then its files by name.
///
/// # Errors
/// The corpus cannot be read.
pub fn corpus(target: &Target) -> Result<Vec<Vec<u8>>> {
    let mut inputs = (target.seeds)();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(target.name);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&directory).with_context(|| directory.display().to_string())? {
        files.push(entry?.path());
    }
    files.sort();
    for file in files {
        inputs.push(std::fs::read(&file).with_context(|| file.display().to_string())?);
    }
    Ok(inputs)
}

/// Writes a target's seeds to files, for a fuzzer that reads files.
///
/// # Errors
/// The file system's.
pub fn write_seeds(target: &Target, directory: &Path) -> Result<()> {
    std::fs::create_dir_all(directory)?;
    for (n, seed) in (target.seeds)().iter().enumerate() {
        std::fs::write(directory.join(format!("seed-{n:02}")), seed)?;
    }
    Ok(())
}
