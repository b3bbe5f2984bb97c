//! Held against md-5, on every kernel of this machine and on none.

use super::kernel::{Kernel, LANES_MAX};
use super::lanes::Sizes;
use super::*;
use ::md5::{Digest as _, Md5 as Known};
use proptest::prelude::*;
use world::Exec;

/// Few bytes, so that many bodies are few bytes.
const LEAST: usize = 512;
const SIZES: Sizes = Sizes {
    least: LEAST,
    slice: 128,
    threads: 2,
};

fn known(bytes: &[u8]) -> [u8; 16] {
    Known::digest(bytes).into()
}

fn body(length: usize, seed: usize) -> Bytes {
    let byte = |i: usize| (i.wrapping_mul(2_654_435_761).wrapping_add(seed * 97) >> 11) as u8;
    (0..length).map(byte).collect::<Vec<u8>>().into()
}

/// The lanes of every kernel there is; without any, too.
fn all_lanes(exec: Exec) -> Vec<Option<Arc<Lanes>>> {
    let all = Kernel::all();
    assert_eq!(all[0], Kernel::Single);
    all.into_iter()
        .map(|kernel| Lanes::of(exec, kernel, SIZES))
        .collect()
}

fn run<T>(what: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(what)
}

/// One body, cut where it is said, every second piece as a frame.
async fn hash(lanes: Option<Arc<Lanes>>, all: Bytes, cuts: Vec<usize>) -> [u8; 16] {
    let mut md5 = Md5::new(lanes);
    let mut left = all;
    for (n, cut) in cuts.into_iter().chain([usize::MAX]).enumerate() {
        let piece = left.split_to(cut.min(left.len()));
        if n % 2 == 0 {
            md5.frame(&piece).await.unwrap();
        } else {
            md5.update(&piece).await.unwrap();
        }
        tokio::task::yield_now().await;
    }
    md5.finish().await.unwrap()
}

#[test]
fn the_ends_of_blocks() {
    run(async {
        for lanes in all_lanes(Exec::Inline) {
            for length in (0..=2 * BLOCK + 1).chain([LEAST - 1, LEAST, LEAST + 1]) {
                let all = body(length, length);
                for cut in [0, 1, 55, 56, 63, 64, 65] {
                    assert_eq!(
                        hash(lanes.clone(), all.clone(), vec![cut]).await,
                        known(&all),
                        "{length} bytes cut at {cut}"
                    );
                }
            }
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn kernels_agree(lengths in prop::collection::vec(0_usize..40, 1..=LANES_MAX), skew in 0_usize..64) {
        for kernel in Kernel::all() {
            for group in lengths.chunks(kernel.width()) {
                let blocks = *group.iter().min().unwrap();
                // From any address: bodies come as they come.
                let bodies: Vec<Bytes> =
                    group.iter().enumerate().map(|(n, l)| body(l * BLOCK + skew, n).slice(skew..)).collect();
                let views: Vec<&[u8]> = bodies.iter().map(|b| &b[..]).collect();
                let mut states: Vec<State> = (0..group.len()).map(|n| [n as u32, !0, 7 << n, 0]).collect();
                let mut alone = states.clone();
                kernel.compress(&mut states, &views, blocks);
                for (state, body) in alone.iter_mut().zip(&bodies) {
                    single(state, &body[..blocks * BLOCK]);
                }
                prop_assert_eq!(states, alone, "{:?}", kernel);
            }
        }
    }

    #[test]
    fn bodies_together_have_the_digests_they_have_alone(
        bodies in prop::collection::vec(
            (0_usize..4 * LEAST, prop::collection::vec(0_usize..2 * LEAST, 0..4)), 1..40),
    ) {
        run(async {
            for lanes in all_lanes(Exec::Inline) {
                let hashed = bodies.iter().enumerate().map(|(n, (length, cuts))| {
                    hash(lanes.clone(), body(*length, n), cuts.clone())
                });
                let together = futures_util::future::join_all(hashed).await;
                for (n, (digest, (length, _))) in together.into_iter().zip(&bodies).enumerate() {
                    assert_eq!(digest, known(&body(*length, n)), "body {n} of {length} bytes");
                }
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn bodies_that_come_and_go_on_threads() {
    for lanes in all_lanes(Exec::Threads) {
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..64_usize {
            let lanes = lanes.clone();
            tasks.spawn(async move {
                let all = body(3 * LEAST + n * 10, n);
                let cuts = vec![LEAST + n, 0, LEAST];
                if n % 3 == 0 {
                    // Goes away in the middle.
                    let mut md5 = Md5::new(lanes);
                    md5.frame(&all).await.unwrap();
                    return true;
                }
                hash(lanes, all.clone(), cuts).await == known(&all)
            });
        }
        while let Some(right) = tasks.join_next().await {
            assert!(right.unwrap());
        }
    }
}

/// A small body, and the small end of a large one, go to nobody.
#[test]
fn a_small_body_waits_for_nobody() {
    run(async {
        for lanes in all_lanes(Exec::Inline).into_iter().flatten() {
            let all = body(LEAST - 1, 3);
            let mut md5 = Md5::new(Some(lanes));
            md5.frame(&all).await.unwrap();
            assert!(matches!(md5.chain, Chain::Here(_)));
            assert_eq!(md5.finish().await.unwrap(), known(&all));
        }
    });
}
