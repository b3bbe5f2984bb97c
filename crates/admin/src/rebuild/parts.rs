//! Objects that were sent in more than one body: uploads, and what was appended to. Pure.

use super::join::{Body, Candidate, Torn, Written};
use std::collections::{BTreeMap, BTreeSet};
use types::BlobId;
use types::limits::PART_NUMBER_MAX;

/// Bodies by their parts' numbers, whole or not.
type Sent = Vec<(u32, Result<Body, Torn>)>;

/// When it was written, whole or not.
pub(super) fn written(body: &Result<Body, Torn>) -> Written {
    match body {
        Ok(body) => body.written,
        Err(torn) => torn.written,
    }
}

/// Of each number what was sent last, where all of those are whole. What was cut off before its end was not answered.
fn newest(sent: Sent) -> Result<BTreeMap<u32, Body>, u32> {
    let mut newest: BTreeMap<u32, Result<Body, Torn>> = BTreeMap::new();
    for (number, body) in sent {
        if body.as_ref().is_err_and(|torn| !torn.damaged) {
            continue;
        }
        let known = newest.get(&number);
        if known.is_none_or(|known| written(known) < written(&body)) {
            newest.insert(number, body);
        }
    }
    let all = newest.into_iter();
    all.map(|(number, body)| Ok((number, body.map_err(|_| number)?)))
        .collect()
}

/// The object of an upload's parts, and of what was appended to it; none where no part is whole that was sent to its end.
///
/// The first number behind the parts tells how many there were (objects, append.rs): of as many it must be.
pub(super) fn uploaded(upload: BlobId, sent: Sent, strays: bool) -> Result<Option<Candidate>, String> {
    let misplaced = may_be_misplaced(&sent);
    let mut parts = newest(sent).map_err(|number| format!("upload {upload}: part {number} is not whole"))?;
    let behind = parts.split_off(&(PART_NUMBER_MAX + 1));
    let last = parts.keys().next_back().copied().unwrap_or(0);
    if strays && last as usize > parts.len() {
        return Err(format!(
            "upload {upload}: parts below {last} are not there, and it is not known whose all needles are"
        ));
    }
    if misplaced {
        return Err(format!(
            "upload {upload}: what was written last may be a part or appended to them, and which is not known"
        ));
    }
    let completed = behind.keys().next().map(|begin| begin - PART_NUMBER_MAX);
    if let Some(count) = completed.filter(|count| *count as usize != parts.len()) {
        let there = parts.len();
        return Err(format!(
            "upload {upload}: it was completed with {count} parts before something was appended, {there} are there"
        ));
    }
    if parts.is_empty() {
        return Ok(None);
    }
    let mut bodies: Vec<Body> = parts.into_values().collect();
    put_behind(upload, &mut bodies, behind)?;
    Ok(Some(object(upload, bodies, completed.is_none())))
}

/// Builds before numbered what was appended to an object of parts by how many there were. Where part numbers have gaps, that is the
/// number of another part, or one between two. Whether the last that were written are such.
fn may_be_misplaced(sent: &Sent) -> bool {
    let whole = sent.iter().filter_map(|(number, body)| {
        let body = body.as_ref().ok().filter(|_| *number <= PART_NUMBER_MAX)?;
        Some((body.written, body.blob, *number))
    });
    let mut whole: Vec<_> = whole.collect();
    whole.sort_unstable();
    let mut seen = BTreeSet::new();
    let mut before = Vec::with_capacity(whole.len());
    for (.., number) in &whole {
        before.push((seen.len() as u32, seen.last().copied().unwrap_or(0)));
        seen.insert(*number);
    }
    for at in (0..whole.len()).rev() {
        let (number, (count, highest)) = (whole[at].2, before[at]);
        if count > 0 && number == count + 1 && highest > count {
            return true;
        }
        if at == 0 || whole[at - 1].2 + 1 != number {
            return false;
        }
    }
    false
}

/// Puts appended bodies behind others: without a gap, each written later than the one before, and numbered on from the last, as the commits
/// numbered them.
fn put_behind(blob: BlobId, bodies: &mut Vec<Body>, behind: BTreeMap<u32, Body>) -> Result<(), String> {
    let begin = behind.keys().next().copied().unwrap_or(0);
    for (due, (number, mut body)) in (begin..).zip(behind) {
        if due != number {
            return Err(format!("blob {blob}: appended piece {due} is not there"));
        }
        let last = bodies.last().map(|last| (last.number, last.blob, last.appended));
        let (at, before, is_appended) = last.unwrap_or((0, BlobId(0), false));
        if is_appended && before > body.blob {
            return Err(format!(
                "blob {blob}: appended piece {number} is older than the one before it"
            ));
        }
        if at >= PART_NUMBER_MAX {
            return Err(format!("blob {blob}: it has more than {PART_NUMBER_MAX} parts"));
        }
        body.number = at + 1;
        body.appended = true;
        bodies.push(body);
    }
    Ok(())
}

/// A blob and what was appended to it; none where it is not whole itself and nothing was appended.
pub(super) fn appended(
    blob: BlobId,
    first: Option<Body>,
    sent: Sent,
    strays: bool,
) -> Result<Option<Candidate>, String> {
    let count = sent.len();
    let lowest = sent.iter().map(|(number, _)| *number).min();
    let behind =
        newest(sent).map_err(|number| format!("blob {blob}: appended piece {number} is not whole"))?;
    let Some(mut first) = first else {
        return Err(format!(
            "{count} appended pieces of blob {blob}, which is not whole"
        ));
    };
    let is_cut_off = |number: &u32| behind.keys().next().is_some_and(|begin| number < begin);
    if let Some(number) = lowest.filter(is_cut_off) {
        return Err(format!(
            "blob {blob}: appended piece {number} has no end, and others are behind it"
        ));
    }
    first.number = 1;
    // An object that grew inside the index before has numbers there.
    let begin = behind.keys().next().map_or(2, |begin| *begin);
    if strays && begin > 2 {
        return Err(format!("blob {blob}: appended piece 2 is not there"));
    }
    let mut bodies = vec![first];
    put_behind(blob, &mut bodies, behind)?;
    Ok(Some(object(blob, bodies, false)))
}

fn object(blob: BlobId, bodies: Vec<Body>, of_upload: bool) -> Candidate {
    let written: Written = bodies.iter().map(|body| body.written).max().unwrap_or_default();
    Candidate {
        blob,
        time: bodies.iter().map(|body| body.written.1).max().unwrap_or_default(),
        appended: bodies.iter().any(|body| body.appended),
        bodies,
        of_upload,
        written,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{Hlc, SessionId};

    const UPLOAD: BlobId = BlobId(1 << 110);

    /// Bodies of these numbers, written one after the other.
    fn sent(numbers: &[u32]) -> Sent {
        let body = |(at, number): (u64, &u32)| Body {
            number: *number,
            chunks: Vec::new(),
            blob: BlobId::new(SessionId(1), at),
            written: (SessionId(1), Hlc(at)),
            appended: false,
        };
        let all = (1..).zip(numbers);
        all.map(|at| (*at.1, Ok(body(at)))).collect()
    }

    /// In which order they are joined, by when they were written, with their numbers then.
    fn order(numbers: &[u32]) -> Result<Vec<(u64, u32)>, String> {
        let object = uploaded(UPLOAD, sent(numbers), false)?;
        let bodies = object.into_iter().flat_map(|object| object.bodies);
        Ok(bodies.map(|body| (body.written.1.0, body.number)).collect())
    }

    #[test]
    fn what_was_appended_to_parts_stands_behind_them_all() {
        let past = |count| PART_NUMBER_MAX + count;
        assert_eq!(
            order(&[1, 2, 2, 5, past(3), past(4)]).unwrap(),
            [(1, 1), (3, 2), (4, 5), (5, 6), (6, 7)]
        );
        // Not with which parts it was completed, or not each append.
        for other in [
            &[1, 2, 5, past(2)][..],
            &[1, past(2)],
            &[past(1)],
            &[1, past(1), past(3)],
        ] {
            assert!(order(other).is_err(), "{other:?}");
        }
        let full = sent(&[PART_NUMBER_MAX, past(1)]);
        assert!(uploaded(UPLOAD, full, false).is_err());
    }

    #[test]
    fn an_append_of_an_older_build_that_is_in_the_place_of_a_part_is_told() {
        for ambiguous in [
            &[1, 2, 5, 4][..],
            &[1, 2, 4, 4],
            &[1, 2, 4, 4, 5],
            &[1, 2, 9, 4, 5],
            &[2, 2],
        ] {
            assert!(order(ambiguous).is_err(), "{ambiguous:?}");
        }
        for clear in [
            &[1, 2, 2, 5][..],
            &[2, 1, 4, 3],
            &[3, 1, 2],
            &[1, 2, 3, 3],
            &[1, 2, 3, 4],
            &[4, 5],
        ] {
            assert!(order(clear).is_ok(), "{clear:?}");
        }
    }
}
