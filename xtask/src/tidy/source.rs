//! Rules for source files: length, heads, leftovers, unsafe, names, and nothing of one machine.

use super::Text;

/// No file is longer: what is, hides two nouns.
const LINES_MAX: usize = 800;

/// Files that may have unsafe code, each with SAFETY comments. May only shrink but for kernels and system calls.
const UNSAFE_ALLOWED: [&str; 2] = [
    "crates/objects/src/md5/kernel.rs",
    "crates/server/src/allocator.rs",
];

/// Words that name nothing.
const NOT_NAMES: [&str; 8] = [
    "util", "utils", "common", "helper", "helpers", "misc", "manager", "inner",
];
/// S3's own term for keys that share their beginning.
const FIELD_TERM: &str = "common_prefix";
/// Endings that tell of a predecessor instead of a thing.
const NOT_ENDINGS: [&str; 2] = ["_v2", "_new"];

// The patterns are put together from pieces so that this file does not find itself.
const LEFTOVERS: [&str; 6] = [
    concat!("to", "do!("),
    concat!("unimple", "mented!("),
    concat!("#[ign", "ore"),
    concat!("FIX", "ME"),
    concat!("db", "g!("),
    concat!("pytest.mark.", "skip"),
];
const MACHINES: [&str; 10] = [
    concat!("/ho", "me/"),
    concat!("/ro", "ot/"),
    concat!("/Us", "ers/"),
    concat!("/wo", "rk/"),
    concat!("C:", "\\"),
    concat!("crates", ".io"),
    concat!("pypi", ".org"),
    concat!("python", "hosted.org"),
    concat!("npm", "js.org"),
    concat!("debian", ".org"),
];
const UNSAFE: [&str; 5] = [
    concat!("unsafe", " {"),
    concat!("unsafe", " fn"),
    concat!("unsafe", " impl"),
    concat!("unsafe", " extern"),
    concat!("allow(unsafe", "_code)"),
];

fn is_source(f: &Text) -> bool {
    f.is(".rs") || f.is(".py") || f.is(".proto")
}

/// Lines of `f` that have one of `patterns`, told with their numbers.
fn lines_with<'a>(f: &'a Text, patterns: &'a [&str]) -> impl Iterator<Item = String> + 'a {
    f.text.lines().enumerate().filter_map(move |(n, line)| {
        let p = patterns.iter().find(|p| line.contains(**p))?;
        Some(format!("{}:{}: {p}", f.path, n + 1))
    })
}

pub(super) fn file_length(files: &[Text]) -> Vec<String> {
    files
        .iter()
        .filter(|f| is_source(f))
        .map(|f| (&f.path, f.text.lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(path, lines)| format!("{path} has {lines} lines; the wall is {LINES_MAX}"))
        .collect()
}

/// Every source file begins by saying what it is.
pub(super) fn heads(files: &[Text]) -> Vec<String> {
    files
        .iter()
        .filter(|f| {
            let first = f.text.lines().find(|l| !l.starts_with("#!")).unwrap_or_default();
            (f.is(".rs") && !first.starts_with("//!")) || (f.is(".py") && !first.starts_with("\"\"\""))
        })
        .map(|f| format!("{} does not begin by saying what it is", f.path))
        .collect()
}

/// A stub is not done, a test that does not run is none.
pub(super) fn leftovers(files: &[Text]) -> Vec<String> {
    files
        .iter()
        .filter(|f| is_source(f))
        .flat_map(|f| lines_with(f, &LEFTOVERS))
        .collect()
}

pub(super) fn unsafe_code(files: &[Text]) -> Vec<String> {
    files
        .iter()
        .filter(|f| f.is(".rs") && !UNSAFE_ALLOWED.contains(&f.path.as_str()))
        .flat_map(|f| lines_with(f, &UNSAFE))
        .collect()
}

/// No path of one machine and no registry's host: the repository is not about where it was written.
pub(super) fn machines(files: &[Text]) -> Vec<String> {
    files.iter().flat_map(|f| lines_with(f, &MACHINES)).collect()
}

/// Files, directories, modules and types are named for what they are.
pub(super) fn names(files: &[Text]) -> Vec<String> {
    let mut found = Vec::new();
    for f in files.iter().filter(|f| is_source(f)) {
        for piece in f.path.split('/') {
            let stem = piece.split('.').next().unwrap_or_default();
            if is_no_name(stem) {
                found.push(format!("{}: {stem} is no name", f.path));
            }
        }
        if f.is(".rs") {
            found.extend(
                declared(&f.text)
                    .filter(|(_, name)| is_no_name(name))
                    .map(|(line, name)| format!("{}:{line}: {name} is no name", f.path)),
            );
        }
    }
    found.dedup();
    found
}

fn is_no_name(name: &str) -> bool {
    let lower = snake(name).replace(FIELD_TERM, "");
    NOT_ENDINGS.iter().any(|e| lower.ends_with(e))
        || lower.split(['_', '-']).any(|word| NOT_NAMES.contains(&word))
}

/// `ExtentManager` as `extent_manager`.
fn snake(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.extend(c.to_lowercase());
    }
    out
}

/// Names that lines of `text` declare, with their line numbers.
fn declared(text: &str) -> impl Iterator<Item = (usize, &str)> {
    const KEYWORDS: [&str; 6] = ["struct", "enum", "trait", "mod", "type", "fn"];
    text.lines().enumerate().filter_map(|(n, line)| {
        let mut words = line.split_whitespace();
        words
            .find(|w| !w.starts_with("pub") && !matches!(*w, "async" | "const" | "crate)" | "super)"))
            .filter(|w| KEYWORDS.contains(w))?;
        let name = words.next()?;
        let end = name
            .find(|c: char| !(c.is_alphanumeric() || c == '_'))
            .unwrap_or(name.len());
        Some((n + 1, &name[..end]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> Vec<Text> {
        vec![Text {
            path: path.to_owned(),
            text: text.to_owned(),
        }]
    }

    #[test]
    fn each_rule_can_fail() {
        let long = "x\n".repeat(LINES_MAX + 1);
        assert_eq!(file_length(&file("crates/a/src/a.rs", &long)).len(), 1);
        assert_eq!(heads(&file("a.rs", "use x;\n")).len(), 1);
        assert_eq!(
            heads(&file("a.py", "#!/usr/bin/env python3\nimport x\n")).len(),
            1
        );
        for p in LEFTOVERS {
            assert_eq!(leftovers(&file("a.rs", p)).len(), 1, "{p}");
        }
        for p in MACHINES {
            assert_eq!(machines(&file("README.md", p)).len(), 1, "{p}");
        }
        for p in UNSAFE {
            assert_eq!(unsafe_code(&file("a.rs", p)).len(), 1, "{p}");
        }
    }

    #[test]
    fn names_that_name_nothing_are_found() {
        for path in [
            "crates/x/src/util.rs",
            "crates/common/src/lib.rs",
            "tests/disk_helper.py",
            "a/log_v2.rs",
        ] {
            assert_eq!(names(&file(path, "")).len(), 1, "{path}");
        }
        for line in [
            "pub struct DiskManager;",
            "fn open_new() {}",
            "pub(crate) mod misc;",
            "struct Inner {",
        ] {
            assert_eq!(names(&file("a.rs", line)).len(), 1, "{line}");
        }
        for line in [
            "pub fn new() {}",
            "struct Needle;",
            "let common = 1;",
            "// a helper of",
            "async fn renew() {}",
        ] {
            assert!(names(&file("a.rs", line)).is_empty(), "{line}");
        }
    }
}
