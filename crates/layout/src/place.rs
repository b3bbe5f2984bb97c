//! The choice of disks for an extent.

use std::cmp::Ordering;
use types::{DiskId, ExtentId, NodeId};

/// A disk that could take a copy. Failure domains: disk < node < rack < zone; names of racks are unique in their zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which disk.
    pub disk: DiskId,
    /// In which node.
    pub node: NodeId,
    /// In which rack; empty where nobody said.
    pub rack: String,
    /// In which zone; empty where nobody said.
    pub zone: String,
    /// Its share of what is placed: its free bytes.
    pub weight: u64,
}

/// Why there is no place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// Fewer disks with room than copies.
    #[error("{wanted} disks are wanted, {found} have room")]
    TooFew {
        /// How many the policy asks for.
        wanted: usize,
        /// How many there are.
        found: usize,
    },
}

/// The `wanted` disks for an extent, best first. Never two in one failure domain while another has none, the widest
/// domains first; among equals by score.
///
/// # Errors
/// [`LayoutError::TooFew`]; disks of weight 0 count as none.
pub fn choose(extent: ExtentId, wanted: usize, candidates: &[Candidate]) -> Result<Vec<DiskId>, LayoutError> {
    let mut left: Vec<(f64, &Candidate)> = candidates
        .iter()
        .filter(|c| c.weight > 0)
        .map(|c| (score(extent, c), c))
        .collect();
    if left.len() < wanted {
        return Err(LayoutError::TooFew {
            wanted,
            found: left.len(),
        });
    }
    left.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.disk.cmp(&b.1.disk)));
    let mut chosen: Vec<&Candidate> = Vec::with_capacity(wanted);
    while chosen.len() < wanted {
        // `min_by` keeps the first of equals, which is the one with the best score.
        let best =
            (0..left.len()).min_by(|&a, &b| crowding(left[a].1, &chosen).cmp(&crowding(left[b].1, &chosen)));
        let Some(best) = best else { break };
        chosen.push(left.remove(best).1);
    }
    Ok(chosen.into_iter().map(|c| c.disk).collect())
}

/// How much of what is chosen a candidate would fail together with: compared first by whether it would at all, the
/// widest domain first, then by how much.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Crowding {
    shares: (bool, bool, bool),
    with: (usize, usize, usize),
}

fn crowding(candidate: &Candidate, chosen: &[&Candidate]) -> Crowding {
    let zone = |c: &&&Candidate| c.zone == candidate.zone;
    let rack = |c: &&&Candidate| c.zone == candidate.zone && c.rack == candidate.rack;
    let node = |c: &&&Candidate| c.node == candidate.node;
    let with = (
        chosen.iter().filter(zone).count(),
        chosen.iter().filter(rack).count(),
        chosen.iter().filter(node).count(),
    );
    Crowding {
        shares: (with.0 > 0, with.1 > 0, with.2 > 0),
        with,
    }
}

/// The score of a pair: `weight / -ln(u)`, `u` uniform in (0, 1) by hash. The best of several is each with probability
/// in proportion to its weight (Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998; the
/// logarithmic form by Schindelhauer and Schomaker, "Weighted distributed hash tables", 2005).
fn score(extent: ExtentId, candidate: &Candidate) -> f64 {
    let low = mix(extent.0 ^ mix(candidate.disk.0 as u64));
    let hash = mix(low ^ mix((candidate.disk.0 >> 64) as u64));
    // 53 bits, centred in their cell: never 0, never 1.
    let uniform = ((hash >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    let score = candidate.weight as f64 / -uniform.ln();
    debug_assert!(score.partial_cmp(&0.0) != Some(Ordering::Less));
    score
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood, 2014): every input bit moves every output bit.
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn disk(id: u128, node: u64, rack: &str, weight: u64) -> Candidate {
        Candidate {
            disk: DiskId(id),
            node: NodeId(node),
            rack: rack.into(),
            zone: String::new(),
            weight,
        }
    }

    #[test]
    fn shares_follow_weights() {
        let disks = [disk(1, 1, "", 100), disk(2, 2, "", 300)];
        let second = (0..4000)
            .filter(|e| choose(ExtentId(*e), 1, &disks).unwrap() == [DiskId(2)])
            .count();
        assert!(
            (2800..3200).contains(&second),
            "{second} of 4000 on the disk with three quarters of the weight"
        );
    }

    #[test]
    fn too_few_disks_are_told() {
        let disks = [disk(1, 1, "", 1), disk(2, 2, "", 0)];
        let refused = LayoutError::TooFew { wanted: 2, found: 1 };
        assert_eq!(choose(ExtentId(1), 2, &disks), Err(refused));
    }

    #[test]
    fn a_free_rack_comes_before_a_free_node() {
        let disks = [
            disk(1, 1, "a", 1 << 40),
            disk(2, 2, "a", 1 << 40),
            disk(3, 3, "b", 1),
        ];
        for extent in 0..200 {
            let chosen = choose(ExtentId(extent), 2, &disks).unwrap();
            assert!(
                chosen.contains(&DiskId(3)),
                "the other rack takes one copy, however small its disk"
            );
        }
    }

    fn clusters() -> impl Strategy<Value = Vec<Candidate>> {
        proptest::collection::vec((1..6u64, 0..3u8, 0..2u8, 1..1000u64), 1..24).prop_map(|disks| {
            let candidate = |(i, (node, rack, zone, weight)): (usize, (u64, u8, u8, u64))| Candidate {
                disk: DiskId(i as u128 + 1),
                // A node is in one rack, a rack in one zone.
                node: NodeId(node + 10 * u64::from(rack) + 100 * u64::from(zone)),
                rack: format!("r{rack}"),
                zone: format!("z{zone}"),
                weight,
            };
            disks.into_iter().enumerate().map(candidate).collect()
        })
    }

    /// Whether the copies are in as many domains as they can be.
    fn spread<K: Ord>(chosen: &[&Candidate], all: &[Candidate], domain: impl Fn(&Candidate) -> K) -> bool {
        let used: BTreeSet<K> = chosen.iter().map(|c| domain(c)).collect();
        let there: BTreeSet<K> = all.iter().map(&domain).collect();
        used.len() == there.len().min(chosen.len())
    }

    proptest! {
        #[test]
        fn a_new_disk_takes_only_what_it_wins(disks in clusters(), extent in any::<u64>()) {
            let before = choose(ExtentId(extent), 1, &disks[..disks.len() - 1]);
            let after = choose(ExtentId(extent), 1, &disks).unwrap();
            let added = disks[disks.len() - 1].disk;
            prop_assert!(after[0] == added || Ok(after) == before);
        }

        #[test]
        fn a_new_disk_moves_at_most_one_copy_of_a_flat_cluster(
            weights in proptest::collection::vec(1..1000u64, 4..16), extent in any::<u64>(), copies in 1..4usize,
        ) {
            let disks: Vec<_> = weights.iter().enumerate().map(|(i, w)| disk(i as u128, i as u64, "", *w)).collect();
            let before: BTreeSet<_> = choose(ExtentId(extent), copies, &disks[..disks.len() - 1]).unwrap().into_iter().collect();
            let after: BTreeSet<_> = choose(ExtentId(extent), copies, &disks).unwrap().into_iter().collect();
            let moved: Vec<_> = after.difference(&before).collect();
            prop_assert!(moved.is_empty() || moved == [&disks[disks.len() - 1].disk]);
        }

        #[test]
        fn never_two_copies_in_a_domain_while_there_is_another(
            disks in clusters(), extent in any::<u64>(), copies in 1..6usize,
        ) {
            prop_assume!(copies <= disks.len());
            let by_id: BTreeMap<_, _> = disks.iter().map(|c| (c.disk, c)).collect();
            let ids = choose(ExtentId(extent), copies, &disks).unwrap();
            let chosen: Vec<_> = ids.iter().map(|d| by_id[d]).collect();
            prop_assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), copies);
            prop_assert!(spread(&chosen, &disks, |c| c.zone.clone()));
            prop_assert!(spread(&chosen, &disks, |c| (c.zone.clone(), c.rack.clone())));
            prop_assert!(spread(&chosen, &disks, |c| c.node));
        }
    }
}
