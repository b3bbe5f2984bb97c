//! `check` and `test`: which stages there are and in which order.

use crate::repo::Repo;
use crate::stage::{self, Counts, Stages};
use crate::{blackbox, machine, tidy};
use anyhow::Result;

/// Seeds that `cargo xtask test` drives through the simulation: half a minute. `cargo xtask sim --seeds 0..10000` is the long form.
const SIM_SEEDS: &str = "0..1000";

/// What cannot be run without the binaries.
const AFTER_BUILD: [&str; 7] = [
    "simulation",
    "fixture replay",
    "black box",
    "kills and power cuts",
    "flipped bytes",
    "a short soak",
    "a skipped sync is caught",
];

/// Formatting, lints and tidy. Whether all hold.
pub(crate) fn check(repo: &Repo) -> bool {
    let mut stages = Stages::default();
    check_stages(repo, &mut stages);
    stages.finish()
}

/// Everything. Whether all holds.
pub(crate) fn test(repo: &Repo) -> bool {
    let mut stages = Stages::default();
    stages.stage("what the tests need", || machine::prepare(repo));
    check_stages(repo, &mut stages);
    // Before anything else takes the place of what it builds: what the readme tells a newcomer to type.
    stages.stage("the readme's first line", || {
        stage::run(repo.cargo(&["run", "--release", "--", "--version"]))
    });
    stages.stage("unit and conformance", || {
        stage::run(repo.cargo(&["test", "--workspace", "--no-fail-fast"]))
    });
    if stages.stage("the binaries", || blackbox::build_all(repo)) {
        stages.stage("simulation", || {
            let mut c = repo.command(repo.target("debug/cairn-sim"));
            c.args(["--seeds", SIM_SEEDS]);
            stage::run(c)
        });
        stages.stage("fixture replay", || blackbox::replay_fixture(repo));
        stages.stage("black box", || blackbox::clients(repo, &[]));
        stages.stage("kills and power cuts", || blackbox::crash(repo, &[]));
        stages.stage("flipped bytes", || {
            blackbox::flipped_binary(repo, &["--seconds".into(), "40".into()])
        });
        stages.stage("a full disk", || blackbox::full_disk(repo));
        stages.stage("a short soak", || {
            blackbox::soak(repo, &[blackbox::SOAK_SHORT.to_owned()])
        });
        stages.stage("a skipped sync is caught", || blackbox::crash_planted(repo));
    } else {
        for name in AFTER_BUILD {
            stages.impossible(name, "the binaries do not build");
        }
    }
    stages.finish()
}

fn check_stages(repo: &Repo, stages: &mut Stages) {
    stages.stage("format", || stage::run(repo.cargo(&["fmt", "--all", "--check"])));
    stages.stage("clippy", || {
        stage::run(repo.cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
    });
    stages.stage("tidy", || tidy(repo));
}

/// The simulation with `arguments`.
pub(crate) fn sim(repo: &Repo, arguments: &[String]) -> Result<Counts> {
    let mut c = repo.cargo(&["run", "--quiet", "--package", "cairn-sim", "--"]);
    c.args(arguments);
    stage::run(c)
}

/// The house rules, each a test.
pub(crate) fn tidy(repo: &Repo) -> Result<Counts> {
    let mut counts = Counts::default();
    for (name, findings) in tidy::all(repo)? {
        for f in &findings {
            println!("{name}: {f}");
        }
        counts += Counts::one(findings.is_empty());
    }
    Ok(counts)
}
