//! The house rules that a program can check: the import table, sizes, names, leftovers, documents.
//!
//! Each rule answers its findings; none is good. They run in `cargo xtask tidy` and, one test a rule, in `cargo test`.
//! Exceptions are named lists in the rules, which may only shrink.

mod documents;
mod imports;
mod source;

use crate::repo::Repo;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// A rule's name and what it found.
pub(crate) type Found = (&'static str, Vec<String>);

/// A text file of the repository.
pub(crate) struct Text {
    /// From the root, `/`-separated.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Text {
    fn is(&self, extension: &str) -> bool {
        self.path.ends_with(extension)
    }
}

/// Runs every rule.
pub(crate) fn all(repo: &Repo) -> Result<Vec<Found>> {
    let files = texts(repo.root())?;
    Ok(vec![
        ("import table", imports::edges(repo.metadata(), &files)?),
        ("file length", source::file_length(&files)),
        ("heads", source::heads(&files)),
        ("leftovers", source::leftovers(&files)),
        ("unsafe", source::unsafe_code(&files)),
        ("names", source::names(&files)),
        ("machines", source::machines(&files)),
        ("dependencies", documents::dependencies(&files)?),
        ("records", documents::records(&files)),
        ("links", documents::links(repo.root(), &files)),
    ])
}

const EXTENSIONS: [&str; 9] = [
    ".rs", ".toml", ".md", ".py", ".proto", ".ini", ".txt", ".sh", ".ci/run",
];
const NOT_OURS: [&str; 6] = [
    "target",
    ".git",
    "data",
    "__pycache__",
    ".pytest_cache",
    "node_modules",
];

fn texts(root: &Path) -> Result<Vec<Text>> {
    let mut found = Vec::new();
    let mut dirs: Vec<PathBuf> = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = entry.file_type()?;
            if kind.is_dir() && !NOT_OURS.contains(&name.as_str()) {
                dirs.push(entry.path());
            }
            let path = entry.path();
            let below = path.strip_prefix(root)?.to_string_lossy().replace('\\', "/");
            if kind.is_file() && EXTENSIONS.iter().any(|e| below.ends_with(e)) {
                let text = fs::read_to_string(&path).with_context(|| below.clone())?;
                found.push(Text { path: below, text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_house_is_tidy() {
        let repo = Repo::find().unwrap();
        let findings: Vec<String> = all(&repo)
            .unwrap()
            .into_iter()
            .flat_map(|(rule, found)| found.into_iter().map(move |f| format!("{rule}: {f}")))
            .collect();
        assert!(findings.is_empty(), "{}", findings.join("\n"));
    }
}
