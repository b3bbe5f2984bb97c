//! Which of a key's objects it names: a guess, where an upload is among them. Pure.
//!
//! ```text
//!   an object sent in one body, or appended to    was all there when it was named
//!   an upload, numbers 1 to n, the last shorter   looks completed
//!   any other upload                              may be one that was under way or given up
//! ```
//! Of those of the first line the newest counts, else of the second, else of the third. What is damaged and newer than what would count is what
//! the key named: then it names nothing, for old bytes in place of an error are wrong bytes.

use super::join::{Broken, Candidate, Joined};
use types::limits::PART_BYTES_MIN;

/// What a key is to name.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Chosen {
    /// The object.
    pub(super) current: Option<Candidate>,
    /// The others, the oldest first.
    pub(super) others: Vec<Candidate>,
    /// What was guessed, in a sentence.
    pub(super) guess: Option<String>,
    /// Why nothing is named.
    pub(super) refused: Option<String>,
}

/// How much speaks for it that an object was named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Ended {
    Unknown,
    Likely,
    Known,
}

fn ended(candidate: &Candidate) -> Ended {
    if !candidate.of_upload {
        return Ended::Known;
    }
    let bodies = &candidate.bodies;
    let dense = (1..).zip(bodies).all(|(due, body)| body.number == due);
    match (bodies.first(), bodies.last()) {
        (Some(first), Some(last)) if dense && last.size() < first.size() => Ended::Likely,
        _ => Ended::Unknown,
    }
}

/// Chooses. `newest_uploads`: an upload that is newest counts, whatever else there is.
pub(super) fn choose(joined: Joined, newest_uploads: bool) -> Chosen {
    let weight = |candidate: &Candidate| match newest_uploads {
        true => Ended::Known,
        false => ended(candidate),
    };
    let Joined {
        mut candidates,
        broken,
    } = joined;
    candidates.sort_by_key(|candidate| (candidate.written, candidate.blob));
    let best = (0..candidates.len()).max_by_key(|at| (weight(&candidates[*at]), *at));
    let Some(best) = best else {
        return Chosen::default();
    };
    let hides = |broken: &&Broken| {
        let weighs = newest_uploads || !broken.of_upload || candidates[best].of_upload;
        broken.was_whole && weighs && broken.written > candidates[best].written
    };
    if broken.iter().any(|broken| hides(&broken)) {
        let count = candidates.len();
        return Chosen {
            refused: Some(format!(
                "what was written last is not whole, and {count} older objects of this key are not named in its place"
            )),
            others: candidates,
            ..Chosen::default()
        };
    }
    let current = candidates.remove(best);
    let newer = candidates.len() - best;
    let torn = broken
        .iter()
        .filter(|broken| broken.was_whole && broken.written > current.written);
    let (newer, size) = (newer + torn.count(), current.size());
    let is_guess = newer > 0 || (current.of_upload && !candidates.is_empty());
    let guess = is_guess.then(|| {
        let others = candidates.len();
        match newer {
            0 => format!(
                "it names the newest of its uploads ({size} bytes), of which nothing says that it was completed; {others} older objects are there"
            ),
            _ => format!(
                "{newer} uploads were written later than what it names ({size} bytes), and nothing says that they were completed (--newest-uploads takes them)"
            ),
        }
    });
    Chosen {
        current: Some(current),
        others: candidates,
        guess,
        refused: None,
    }
}

/// Of an upload: a part that is too short to have others behind it, so that it was not completed with all of these.
pub(super) fn short_part(candidate: &Candidate) -> Option<u32> {
    let parts = candidate.bodies.iter().filter(|body| !body.appended);
    let parts: Vec<_> = parts.collect();
    let (_, before) = parts.split_last()?;
    let short = before.iter().find(|body| body.size() < PART_BYTES_MIN);
    short.filter(|_| candidate.of_upload).map(|body| body.number)
}

#[cfg(test)]
mod tests {
    use super::super::join::Body;
    use super::*;
    use types::{BlobId, Hlc, SessionId};
    use wire::records::Chunk;

    const MIB: u64 = 1 << 20;

    /// Written then, of parts so large each.
    fn object(at: u64, of_upload: bool, sizes: &[u64]) -> Candidate {
        let written = (SessionId(1), Hlc(at));
        let body = |(number, length): (u32, &u64)| Body {
            number,
            chunks: vec![Chunk {
                length: *length,
                ..Chunk::default()
            }],
            appended: false,
            blob: BlobId(u128::from(at)),
            written,
        };
        Candidate {
            blob: BlobId(u128::from(at)),
            time: Hlc(at),
            bodies: (1..).zip(sizes).map(body).collect(),
            of_upload,
            appended: false,
            written,
        }
    }

    fn broken(at: u64, of_upload: bool) -> Broken {
        Broken {
            why: "damaged".into(),
            was_whole: true,
            of_upload,
            written: (SessionId(1), Hlc(at)),
        }
    }

    /// When what is named was written, and whether that is a guess.
    fn chosen(candidates: &[Candidate], broken: &[Broken], newest_uploads: bool) -> (Option<u64>, bool) {
        let joined = Joined {
            candidates: candidates.to_vec(),
            broken: broken.to_vec(),
        };
        let all = candidates.len();
        let chosen = choose(joined, newest_uploads);
        assert_eq!(chosen.others.len() + usize::from(chosen.current.is_some()), all);
        assert_eq!(chosen.refused.is_some(), all > 0 && chosen.current.is_none());
        (chosen.current.map(|object| object.time.0), chosen.guess.is_some())
    }

    #[test]
    fn an_upload_that_may_be_unfinished_is_not_put_before_a_whole_object() {
        let under_way = object(9, true, &[8 * MIB]);
        for before in [
            object(5, false, &[20 * MIB]),
            object(5, true, &[8 * MIB, 8 * MIB, MIB]),
        ] {
            let both = [under_way.clone(), before];
            assert_eq!(chosen(&both, &[], false), (Some(5), true));
            assert_eq!(chosen(&both, &[], true).0, Some(9));
        }
        // What looks completed counts before older uploads, and alone what does not.
        let ended = object(9, true, &[8 * MIB, MIB]);
        assert_eq!(
            chosen(&[ended, object(5, true, &[8 * MIB])], &[], false),
            (Some(9), true)
        );
        assert_eq!(chosen(&[under_way], &[], false), (Some(9), false));
        let plain = [object(5, false, &[1]), object(4, false, &[1])];
        assert_eq!(chosen(&plain, &[], false), (Some(5), false));
    }

    #[test]
    fn what_is_damaged_is_not_replaced_by_what_it_replaced() {
        let older = object(5, false, &[1]);
        let older = std::slice::from_ref(&older);
        assert_eq!(chosen(older, &[broken(9, false)], false), (None, false));
        assert_eq!(chosen(older, &[broken(4, false)], false), (Some(5), false));
        // Of an upload it is not known that it replaced anything.
        assert_eq!(chosen(older, &[broken(9, true)], false), (Some(5), true));
        assert_eq!(chosen(older, &[broken(9, true)], true), (None, false));
        let upload = object(5, true, &[8 * MIB, MIB]);
        assert_eq!(chosen(&[upload], &[broken(9, true)], false), (None, false));
        // What was never sent to its end replaced nothing.
        let cut = Broken {
            was_whole: false,
            ..broken(9, false)
        };
        assert_eq!(chosen(older, &[cut], false), (Some(5), false));
    }

    #[test]
    fn an_upload_with_a_short_part_before_its_last_was_not_completed_with_it() {
        assert_eq!(short_part(&object(1, true, &[5 * MIB, 5 * MIB - 1, 1])), Some(2));
        assert_eq!(short_part(&object(1, true, &[5 * MIB, 1])), None);
        assert_eq!(short_part(&object(1, false, &[1, 1])), None);
    }
}
