//! Objects that were sent in more than one body: uploads, and what was appended to. Pure.

use super::join::{Body, Candidate, Torn, Written};
use std::collections::BTreeMap;
use types::BlobId;

/// Bodies by their parts' numbers, whole or not.
type Sent = Vec<(u32, Result<Body, Torn>)>;

/// Of each number what was sent last, where all of those are whole. What was cut off before its end was not answered.
fn newest(sent: Sent) -> Result<BTreeMap<u32, Body>, u32> {
    let written = |body: &Result<Body, Torn>| match body {
        Ok(body) => body.written,
        Err(torn) => torn.written,
    };
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

/// The object of an upload's parts; none where no part is whole that was sent to its end.
pub(super) fn uploaded(upload: BlobId, sent: Sent, strays: bool) -> Result<Option<Candidate>, String> {
    let parts = newest(sent).map_err(|number| format!("upload {upload}: part {number} is not whole"))?;
    let Some(last) = parts.keys().next_back() else {
        return Ok(None);
    };
    if strays && *last as usize > parts.len() {
        return Err(format!(
            "upload {upload}: parts below {last} are not there, and it is not known whose all needles are"
        ));
    }
    Ok(Some(object(upload, parts.into_values().collect(), true)))
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
    let missing = (begin..).zip(behind.keys()).find(|(due, number)| due != *number);
    if let Some((due, _)) = missing.or_else(|| Some((2, &begin)).filter(|_| strays && begin > 2)) {
        return Err(format!("blob {blob}: appended piece {due} is not there"));
    }
    let bodies = std::iter::once(first).chain(behind.into_values()).collect();
    Ok(Some(object(blob, bodies, false)))
}

fn object(blob: BlobId, bodies: Vec<Body>, of_upload: bool) -> Candidate {
    let written: Written = bodies.iter().map(|body| body.written).max().unwrap_or_default();
    Candidate {
        blob,
        time: bodies.iter().map(|body| body.written.1).max().unwrap_or_default(),
        appended: !of_upload && bodies.len() > 1,
        bodies,
        of_upload,
        written,
    }
}
