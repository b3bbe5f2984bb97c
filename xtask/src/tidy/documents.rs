//! Rules for documents: every dependency has its reason, every record its one number, every link its page.

use super::Text;
use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Dependencies of others that are not in docs/design/dependencies.md, and lines there of what is not used.
pub(super) fn dependencies(files: &[Text]) -> Result<Vec<String>> {
    let page = |path: &str| {
        let f = files.iter().find(|f| f.path == path);
        f.map(|f| f.text.as_str()).with_context(|| format!("no {path}"))
    };
    let declared = declared(page("Cargo.toml")?);
    let explained = explained(page("docs/design/dependencies.md")?);
    let missing = declared
        .difference(&explained)
        .map(|d| format!("{d} has no line in docs/design/dependencies.md"));
    let left = explained
        .difference(&declared)
        .map(|d| format!("docs/design/dependencies.md explains {d}, which Cargo.toml does not have"));
    Ok(missing.chain(left).collect())
}

/// Names in `[workspace.dependencies]` that are not paths of ours.
fn declared(manifest: &str) -> BTreeSet<String> {
    manifest
        .lines()
        .skip_while(|l| *l != "[workspace.dependencies]")
        .skip(1)
        .take_while(|l| !l.starts_with('['))
        .filter(|l| !l.starts_with('#') && !l.contains("path ="))
        .filter_map(|l| Some(l.split_once('=')?.0.trim().to_owned()))
        .collect()
}

/// Names in backquotes in the first cells of the page's tables.
fn explained(page: &str) -> BTreeSet<String> {
    page.lines()
        .filter(|l| l.starts_with("| `"))
        .filter_map(|l| l.split('|').nth(1))
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .map(str::to_owned)
        .collect()
}

/// Records are docs/design/NNNN-title.md, numbered from 1, each number once, none left out.
pub(super) fn records(files: &[Text]) -> Vec<String> {
    let mut numbers: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
    let mut found = Vec::new();
    for f in files {
        let Some(name) = f.path.strip_prefix("docs/design/") else {
            continue;
        };
        if matches!(name, "README.md" | "dependencies.md") {
            continue;
        }
        match name.split_once('-') {
            Some((n, _)) if n.len() == 4 && n.parse::<u32>().is_ok() => {
                numbers
                    .entry(n.parse().unwrap_or_default())
                    .or_default()
                    .push(name);
            }
            _ => found.push(format!("{}: a record is named NNNN-title.md", f.path)),
        }
    }
    for (expected, (n, names)) in (1..).zip(&numbers) {
        if names.len() > 1 {
            found.push(format!("docs/design: {n} is the number of {names:?}"));
        }
        if *n != expected {
            found.push(format!("docs/design: no record {expected}, but {names:?}"));
            break;
        }
    }
    found
}

/// Relative links in documents lead somewhere.
pub(super) fn links(root: &Path, files: &[Text]) -> Vec<String> {
    files
        .iter()
        .filter(|f| f.is(".md"))
        .flat_map(|f| targets(&f.text).map(move |t| (f, t)))
        .filter(|(f, target)| {
            let dir = root.join(&f.path);
            !dir.parent().is_some_and(|d| d.join(target).exists())
        })
        .map(|(f, target)| format!("{}: {target} is not there", f.path))
        .collect()
}

/// Files that the links of a page name, `#` parts and other schemes left out.
fn targets(page: &str) -> impl Iterator<Item = &str> {
    page.split("](").skip(1).filter_map(|rest| {
        let target = rest.split(')').next()?.split('#').next()?;
        (!target.is_empty() && !target.contains("://") && !target.starts_with("mailto:")).then_some(target)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> Text {
        Text {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn dependencies_are_compared_both_ways() {
        let manifest = "[x]\na = 1\n[workspace.dependencies]\n# ours\nx = { path = \"x\" }\nb = \"1\"\nc-d = { version = \"2\" }\n\n[y]\ne = 1\n";
        let of = |page: &str| {
            dependencies(&[
                file("Cargo.toml", manifest),
                file("docs/design/dependencies.md", page),
            ])
            .unwrap()
        };
        assert!(of("| `b` `c-d` | why `not`\n").is_empty());
        assert_eq!(of("| `b` | why\n").len(), 1);
        assert_eq!(of("| `b` |\n| `c-d` |\n| `e` |\n").len(), 1);
    }

    #[test]
    fn records_are_numbered_once_and_without_gaps() {
        let of = |names: &[&str]| {
            records(
                &names
                    .iter()
                    .map(|n| file(&format!("docs/design/{n}"), ""))
                    .collect::<Vec<_>>(),
            )
        };
        assert!(of(&["0001-a.md", "0002-b.md", "README.md", "dependencies.md"]).is_empty());
        assert_eq!(of(&["0001-a.md", "0001-b.md"]).len(), 1);
        assert_eq!(of(&["0001-a.md", "0003-b.md"]).len(), 1);
        assert_eq!(of(&["notes.md"]).len(), 1);
    }

    #[test]
    fn dead_links_are_found() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let page = |text| links(root, &[file("x.md", text)]);
        assert!(page("[a](Cargo.toml#x) [b](https://example.com) [c](#d)").is_empty());
        assert_eq!(page("[a](no-such-page.md)").len(), 1);
    }
}
