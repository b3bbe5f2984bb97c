//! Versions and their listing, by their definitions, held against what the index says.

use crate::gateway::key;
use crate::sequence::Dice;
use crate::state::{Model, Object, id};
use index::IndexRole;
use types::{BucketId, VersionId};
use wire::index::{Index, Reason, VersionRef, VersionsEntry, VersionsQuery};
use wire::records::ObjectRecord;

/// A line of a listing: a common prefix in brackets, or a key, its version, and whether that is its newest.
type Line = (String, u128, bool);

fn same(record: &ObjectRecord, object: &Object) {
    assert_eq!(record.version, object.version);
    assert_eq!(
        (record.null_version, record.delete_marker),
        (object.is_null, object.is_marker)
    );
    assert_eq!((&record.etag_md5, record.size), (&object.md5, object.size));
}

/// Every version of a key is found by its id, its null version by that, and nothing else.
pub async fn check_found(model: &Model, role: &IndexRole, b: u64, k: &str) {
    let get = async |version| role.get(BucketId(b), &key(k), version, true).await.unwrap();
    let all = model.versions.get(&(b, k.to_owned()));
    for object in all.into_iter().flatten() {
        let found = get(VersionRef::Id(VersionId(id(&object.version)))).await.unwrap();
        same(&found.record, object);
        assert_eq!(found.inline, object.inline);
    }
    let null = all.into_iter().flatten().find(|o| o.is_null);
    match (get(VersionRef::Null).await, null) {
        (Ok(found), Some(null)) => same(&found.record, null),
        (found, null) => assert_eq!((found.err(), null), (Some(Reason::NoSuchVersion), None)),
    }
    match (get(VersionRef::Current).await, all.and_then(|all| all.first())) {
        (Ok(found), Some(newest)) => same(&found.record, newest),
        (found, newest) => assert_eq!((found.err(), newest), (Some(Reason::NoSuchKey), None)),
    }
    let none = get(VersionRef::Id(VersionId(5))).await;
    assert_eq!(none.err(), Some(Reason::NoSuchVersion));
}

/// A page of versions is as its definition says, wherever it begins.
pub async fn check_page(model: &Model, role: &IndexRole, b: u64, dice: &mut Dice) {
    let after = dice.pick(&["", "a", "a", "a/", "a/b", "a\0", "zz"]);
    let there = model.versions.get(&(b, after.to_owned()));
    let mut places = vec![None, Some(VersionRef::Null), Some(VersionRef::Id(VersionId(7)))];
    let ids = there.into_iter().flatten().map(|o| VersionId(id(&o.version)));
    places.extend(ids.map(|id| Some(VersionRef::Id(id))));
    let query = VersionsQuery {
        bucket: BucketId(b),
        prefix: dice.pick(&["", "a", "a/"]).into(),
        delimiter: dice.pick(&["", "", "/", "\0"]).into(),
        after: (after.into(), dice.pick(&places).filter(|_| !after.is_empty())),
        max: dice.pick(&[1, 2, 3, 1000]),
    };
    let page = role.list_versions(query.clone()).await.unwrap().unwrap();
    let line = |entry: VersionsEntry| match entry {
        VersionsEntry::Version {
            key,
            record,
            is_latest,
        } => (key, id(&record.version), is_latest),
        VersionsEntry::Prefix(p) => (format!("[{p}]"), 0, false),
    };
    let lines: Vec<Line> = page.entries.into_iter().map(line).collect();
    let mut expected = list(model, &query);
    let truncated = expected.len() > query.max as usize;
    expected.truncate(query.max as usize);
    assert_eq!((lines, page.truncated), (expected, truncated), "{query:?}");
}

fn list(model: &Model, query: &VersionsQuery) -> Vec<Line> {
    let (prefix, delimiter) = (query.prefix.as_str(), query.delimiter.as_str());
    let common = |key: &str| {
        let rest = key.strip_prefix(prefix)?;
        let at = rest.find(delimiter).filter(|_| !delimiter.is_empty())?;
        Some(key[..prefix.len() + at + delimiter.len()].to_owned())
    };
    let (after, place) = (query.after.0.as_str(), query.after.1);
    let skipped = common(after);
    let mut lines: Vec<Line> = Vec::new();
    for ((bucket, key), all) in &model.versions {
        if *bucket != query.bucket.0
            || !key.starts_with(prefix)
            || skipped.as_ref().is_some_and(|c| key.starts_with(c))
        {
            continue;
        }
        for (at, object) in all.iter().enumerate() {
            let is_after = match place {
                _ if key.as_str() != after => key.as_str() > after,
                None | Some(VersionRef::Current) => false,
                Some(VersionRef::Id(place)) => id(&object.version) > place.0,
                Some(VersionRef::Null) => all.iter().position(|o| o.is_null).is_none_or(|null| at > null),
            };
            let line = match common(key) {
                Some(common) => (format!("[{common}]"), 0, false),
                None => (key.clone(), id(&object.version), at == 0),
            };
            if is_after && lines.last() != Some(&line) {
                lines.push(line);
            }
        }
    }
    lines
}
