//! Every target on its seeds, its corpus, and a bounded run of mutations of both, the same ones every time.
//!
//! `CAIRN_FUZZ_MUTATIONS=1000000` makes it longer; `CAIRN_FUZZ_SEED` makes it another run.
#![allow(clippy::disallowed_methods)] // an input that broke something is written where it can be looked at

use fuzz::{Mutations, TARGETS, Target, corpus};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Mutations of each target.
const MUTATIONS: u64 = 20_000;
const BYTES_MAX: usize = 2048;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

fn replay(name: &str) {
    let target = Target::named(name).expect("a target");
    let inputs = corpus(target).expect("its corpus");
    assert!(
        !(target.seeds)().is_empty(),
        "a target without seeds begins in the dark"
    );
    for input in &inputs {
        try_one(target, input);
    }
    let mutations = Mutations::new(&inputs, target.words, number("CAIRN_FUZZ_SEED", 1), BYTES_MAX);
    for input in mutations.take(number("CAIRN_FUZZ_MUTATIONS", MUTATIONS) as usize) {
        try_one(target, &input);
    }
}

fn try_one(target: &Target, input: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| (target.run)(input))).is_err() {
        let file = std::env::temp_dir().join(format!("cairn-fuzz-{}-{}", target.name, input.len()));
        std::fs::write(&file, input).expect("the input that broke it is kept");
        let (name, file) = (target.name, file.display());
        panic!("{name} broke on {input:?}\ncargo run -p cairn-fuzz -- run {name} {file}");
    }
}

macro_rules! replays {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            replay(stringify!($name));
        })*

        #[test]
        fn every_target_is_replayed() {
            let replayed = [$(stringify!($name)),*];
            assert_eq!(replayed.to_vec(), TARGETS.iter().map(|t| t.name).collect::<Vec<_>>());
        }
    };
}

replays!(needle journal_record row_key record sigv4 aws_chunked xml range post_policy post_form);
