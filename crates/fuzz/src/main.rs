//! `cairn-fuzz seeds TARGET DIRECTORY` writes a target's seeds; `cairn-fuzz run TARGET FILE...` runs it on files; `cairn-fuzz list` names the
//! targets. For `cargo xtask fuzz`, and for whoever has an input that broke something.
#![allow(clippy::disallowed_methods)] // it reads files that it is given
#![allow(clippy::print_stdout)] // a command line

use anyhow::{Context, Result, bail};
use fuzz::{TARGETS, Target, write_seeds};
use std::path::Path;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let target = |name: &str| Target::named(name).with_context(|| format!("no target {name}"));
    match arguments.as_slice() {
        ["list"] => TARGETS.iter().for_each(|target| println!("{}", target.name)),
        ["seeds", name, directory] => write_seeds(target(name)?, Path::new(directory))?,
        ["run", name, files @ ..] => {
            for file in files {
                (target(name)?.run)(&std::fs::read(file).with_context(|| (*file).to_owned())?);
                println!("{file}: nothing found");
            }
        }
        _ => bail!("cairn-fuzz list | seeds TARGET DIRECTORY | run TARGET FILE..."),
    }
    Ok(())
}
