//! What the tests need of the machine: Debian's tools, and the Python clients in an environment of their own.
//!
//! Both are installed when they are missing and it can be done; when it cannot, the stage fails and names what is missing.

use crate::repo::Repo;
use crate::stage::Counts;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Programs that the tests call, and the Debian package that has each.
const PROGRAMS: [(&str, &str); 8] = [
    ("mkfs.ext4", "e2fsprogs"),
    ("losetup", "mount"),
    ("mount", "mount"),
    ("umount", "mount"),
    ("xz", "xz-utils"),
    ("openssl", "openssl"),
    ("curl", "curl"),
    ("python3", "python3"),
];

/// Makes sure all of it is there.
pub(crate) fn prepare(repo: &Repo) -> Result<Counts> {
    programs(&PROGRAMS)?;
    python(repo)?;
    Ok(Counts::one(true))
}

fn is_there(program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/sbin", "/sbin"])
        .any(|dir| Path::new(dir).join(program).is_file())
}

/// Makes sure of programs, each with the Debian package that has it.
pub(crate) fn programs(wanted: &[(&str, &str)]) -> Result<()> {
    let missing = || -> Vec<_> { wanted.iter().filter(|(p, _)| !is_there(p)).collect() };
    let packages: Vec<&str> = missing().iter().map(|(_, package)| *package).collect();
    if packages.is_empty() {
        return Ok(());
    }
    let installed = install(&packages);
    let still: Vec<&str> = missing().iter().map(|(program, _)| *program).collect();
    if still.is_empty() {
        return Ok(());
    }
    bail!(
        "missing {still:?} and could not install Debian's {packages:?}: {}",
        installed.map_or_else(|e| format!("{e:#}"), |()| "installed, yet not there".to_owned())
    )
}

fn install(packages: &[&str]) -> Result<()> {
    run(Command::new("apt-get").args(["-q", "update"]))?;
    let mut c = Command::new("apt-get");
    c.env("DEBIAN_FRONTEND", "noninteractive")
        .args(["-q", "-y", "install", "--no-install-recommends"])
        .args(packages);
    run(&mut c)
}

fn run(c: &mut Command) -> Result<()> {
    let out = c.output().with_context(|| format!("cannot start {c:?}"))?;
    if out.status.success() {
        return Ok(());
    }
    bail!(
        "{c:?}: {}\n{}{}",
        out.status,
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    )
}

/// The python of the environment with the pinned clients of tests/requirements.txt; made when the pins changed.
pub(crate) fn python(repo: &Repo) -> Result<PathBuf> {
    environment(repo, "clients", &repo.root().join("tests/requirements.txt"))
}

/// The python of an environment under the target directory that has `requirements` installed.
pub(crate) fn environment(repo: &Repo, name: &str, requirements: &Path) -> Result<PathBuf> {
    let dir = repo.target(&format!("python-{name}"));
    let python = dir.join("bin/python");
    let wanted = fs::read_to_string(requirements).with_context(|| requirements.display().to_string())?;
    let stamp = dir.join("installed-requirements.txt");
    if python.exists() && fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
        return Ok(python);
    }
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    let venv = || run(Command::new("python3").args(["-m", "venv"]).arg(&dir));
    if let Err(first) = venv() {
        // Debian ships venv's installer apart.
        install(&["python3-venv"]).with_context(|| format!("{first:#}"))?;
        venv()?;
    }
    let mut pip = Command::new(&python);
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--requirement",
    ])
    .arg(requirements);
    run(&mut pip).with_context(|| format!("installing {}", requirements.display()))?;
    fs::write(&stamp, wanted)?;
    Ok(python)
}

/// A program that `cargo install` builds, of one version, under the target directory.
pub(crate) fn cargo_installed(repo: &Repo, name: &str, version: &str) -> Result<PathBuf> {
    let root = repo.target(&format!("installed-{name}-{version}"));
    let program = root.join("bin").join(name);
    if !program.exists() {
        println!("     building {name} {version}: this takes long, and once");
        let mut c = repo.cargo(&["install", "--locked", "--version", version, name, "--root"]);
        c.arg(&root);
        run(&mut c).with_context(|| format!("installing {name}"))?;
    }
    Ok(program)
}
