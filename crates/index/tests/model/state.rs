//! What the index must answer, in memory and without cleverness.

use crate::gc::places;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use types::limits::PART_BYTES_MIN;
use types::{CommandId, ETag, ErrorKind, SessionId};
use wire::index::{Answered, Call, Command, Match, NamedPart, Precondition, Reason, StoredData, VersionRef};
use wire::records::{BucketRecord, BucketSetting, CloseAnswer, PartRecord, answer::Kind};

/// An object key in its bucket.
pub type Name = (u64, String);
/// A needle: extent and number.
pub type Place = (u64, u64);

#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    pub version: Vec<u8>,
    pub modified_ms: u64,
    pub size: u64,
    pub md5: Vec<u8>,
    pub parts: u32,
    pub blob: Option<u128>,
    pub chunks: usize,
    pub needles: BTreeSet<Place>,
    pub inline: Option<Bytes>,
    pub is_null: bool,
    pub is_marker: bool,
}

#[derive(Clone, Debug)]
pub struct PartState {
    pub record: PartRecord,
    pub blob: u128,
    pub needles: BTreeSet<Place>,
}

/// What a partition remembers of commands.
#[derive(Default)]
pub struct Log {
    pub done: BTreeMap<CommandId, Kind>,
    pub let_go: BTreeMap<CommandId, Kind>,
    pub floors: BTreeMap<SessionId, u64>,
}

#[derive(Default)]
pub struct Model {
    pub names: BTreeMap<String, BucketRecord>,
    pub copies: BTreeMap<u64, Copy>,
    /// Versions and delete markers of each key, newest first; never none.
    pub versions: BTreeMap<Name, Vec<Object>>,
    pub uploads: BTreeMap<(Name, u128), BTreeMap<u32, PartState>>,
    pub garbage: BTreeSet<(Name, u128)>,
    /// What each booking keeps.
    pub booked: BTreeMap<(Name, u128), BTreeSet<Place>>,
    /// Bookings that gc forgot.
    pub forgotten: BTreeSet<u128>,
    /// Needles that were promised never to be named.
    pub condemned: BTreeSet<(Name, Place)>,
    /// What buckets were told, by bucket and kind.
    pub settings: BTreeMap<(u64, u32), BucketSetting>,
    pub ended_below: u64,
    pub directory: Log,
    pub data: Log,
    newest_version: Option<Vec<u8>>,
    last_bucket: u64,
    pub seen: Seen,
}

/// A partition's copy of a bucket's state.
#[derive(Clone, Copy, Default)]
pub struct Copy {
    pub turn: u64,
    pub is_open: bool,
    pub configuration: u64,
    pub versioning: u32,
}

/// What was covered, by name.
#[derive(Default)]
pub struct Seen(pub BTreeMap<String, u64>);

impl Seen {
    pub fn count(&mut self, what: impl Into<String>) {
        *self.0.entry(what.into()).or_default() += 1;
    }
}

/// Does the command refuse, and what changes?
type Outcome = Result<(), Reason>;

impl Model {
    pub fn end_sessions_below(&mut self, mark: u64) {
        let old = self.ended_below;
        for log in [&mut self.directory, &mut self.data] {
            let kept = log.done.split_off(&CommandId::new(SessionId(old), 0));
            log.let_go.extend(std::mem::replace(&mut log.done, kept));
        }
        self.ended_below = mark;
    }

    /// Holds an answer against what it must be, and moves on. `false`: it was not decided and is to be sent again.
    pub fn hear(&mut self, call: &Call, heard: &Answered, directory: bool) -> bool {
        let log = if directory { &self.directory } else { &self.data };
        let session = call.id.session();
        let let_go = log.let_go.contains_key(&call.id);
        let heard = match heard {
            Ok(answer) => answer.kind.clone().expect("an answer has a kind"),
            Err(fault) if fault.kind == ErrorKind::Unknown && let_go => {
                self.seen.count("let go");
                return true;
            }
            Err(fault) => {
                self.seen.count(format!("fault {:?}", fault.kind));
                assert!(
                    matches!(fault.kind, ErrorKind::Full | ErrorKind::Unavailable),
                    "{fault} for {call:?}"
                );
                return false;
            }
        };
        if let Some(old) = log.done.get(&call.id).or(log.let_go.get(&call.id)) {
            // I11: an answer, once given, is what happened. A let go one of an ended session is refused.
            let ended = session.0 < self.ended_below && let_go && is_refused(&heard, Reason::SessionEnded);
            assert!(heard == *old || ended, "{call:?}\n got {heard:?}\n had {old:?}");
            self.seen.count("old answer");
            return true;
        }
        if session.0 < self.ended_below {
            assert!(is_refused(&heard, Reason::SessionEnded), "{call:?} got {heard:?}");
            self.seen.count("SessionEnded");
            return true;
        }
        let outcome = self.apply(&call.command, &heard);
        match outcome {
            Ok(()) => self.seen.count(format!("{} ok", command_name(&call.command))),
            Err(reason) => {
                assert!(
                    is_refused(&heard, reason),
                    "{call:?}\n got {heard:?}\n not {reason:?}"
                );
                self.seen.count(format!("{reason:?}"));
            }
        }
        let log = if directory {
            &mut self.directory
        } else {
            &mut self.data
        };
        log.done.insert(call.id, heard);
        let floor = log.floors.entry(session).or_default();
        *floor = (*floor).max(call.done_below);
        let below = CommandId::new(session, 0)..CommandId::new(session, *floor);
        let gone: Vec<_> = log
            .done
            .range(below)
            .map(|(id, kind)| (*id, kind.clone()))
            .collect();
        gone.iter().for_each(|(id, _)| drop(log.done.remove(id)));
        log.let_go.extend(gone);
        true
    }

    fn apply(&mut self, command: &Command, heard: &Kind) -> Outcome {
        match command {
            Command::Put {
                bucket,
                key,
                record,
                data,
                precondition,
            } => {
                let name = (bucket.0, key.as_str().to_owned());
                self.put(name, (record.size, &record.etag_md5), data, precondition, heard)
            }
            Command::Delete {
                bucket,
                key,
                precondition,
                version,
            } => {
                let name = (bucket.0, key.as_str().to_owned());
                self.delete(name, *version, precondition, heard)
            }
            Command::ForgetGarbage { .. } | Command::Condemn { .. } | Command::ForgetCondemned { .. } => {
                self.apply_to_gc(command, heard);
                Ok(())
            }
            other => self.apply_to_upload(other, heard),
        }
    }

    fn apply_to_upload(&mut self, command: &Command, heard: &Kind) -> Outcome {
        match command {
            Command::CreateUpload { bucket, key, .. } => {
                self.check_open(bucket.0)?;
                let Kind::Upload(answer) = heard else {
                    return unlike(heard);
                };
                let id = id(&answer.upload);
                let fresh = self
                    .uploads
                    .insert(((bucket.0, key.as_str().to_owned()), id), BTreeMap::new());
                assert!(fresh.is_none(), "an upload id twice");
                Ok(())
            }
            Command::PutPart {
                bucket,
                key,
                upload,
                record,
                data,
            } => {
                self.check_open(bucket.0)?;
                let name = (bucket.0, key.as_str().to_owned());
                if !self.uploads.contains_key(&(name.clone(), upload.0)) {
                    return Err(Reason::NoSuchUpload);
                }
                self.check_blob(&name, data)?;
                let part = PartState {
                    record: (**record).clone(),
                    blob: data.blob.0,
                    needles: places(data),
                };
                let parts = self
                    .uploads
                    .get_mut(&(name.clone(), upload.0))
                    .expect("just seen");
                if let Some(old) = parts.insert(record.number, part)
                    && old.blob != data.blob.0
                {
                    self.book_blob(&name, old.blob, old.needles);
                }
                Ok(())
            }
            Command::AbortUpload { bucket, key, upload } => {
                let name = (bucket.0, key.as_str().to_owned());
                let parts = self
                    .uploads
                    .remove(&(name.clone(), upload.0))
                    .ok_or(Reason::NoSuchUpload)?;
                for part in parts.into_values() {
                    self.book_blob(&name, part.blob, part.needles);
                }
                Ok(())
            }
            Command::CompleteUpload {
                bucket,
                key,
                upload,
                parts,
                precondition,
                ..
            } => {
                self.check_open(bucket.0)?;
                let name = (bucket.0, key.as_str().to_owned());
                self.complete(name, upload.0, parts, precondition, heard)
            }
            other => self.apply_to_bucket(other, heard),
        }
    }

    fn put(
        &mut self,
        name: Name,
        (size, md5): (u64, &[u8]),
        data: &StoredData,
        precondition: &Precondition,
        heard: &Kind,
    ) -> Outcome {
        self.check_open(name.0)?;
        check(self.visible(&name), precondition)?;
        let (blob, needles, inline) = match data {
            StoredData::Empty => (None, BTreeSet::new(), None),
            StoredData::Inline(bytes) => (None, BTreeSet::new(), Some(bytes.clone())),
            StoredData::Chunks(stored) => {
                self.check_blob(&name, stored)?;
                (Some(stored.blob.0), places(stored), None)
            }
        };
        self.check_twice(&name, blob)?;
        let object = Object {
            size,
            md5: md5.to_vec(),
            parts: 0,
            blob,
            chunks: needles.len(),
            needles,
            inline,
            ..self.versioned(heard, self.versioning(name.0))?
        };
        self.add(name, object);
        Ok(())
    }

    pub fn versioning(&self, bucket: u64) -> u32 {
        self.copies.get(&bucket).map_or(0, |c| c.versioning)
    }

    /// The object that a key names.
    pub fn visible(&self, name: &Name) -> Option<&Object> {
        self.versions.get(name)?.first().filter(|o| !o.is_marker)
    }

    /// Where the version that is meant stands; of a deleted key, its current one is nowhere.
    pub fn place(&self, name: &Name, version: VersionRef) -> Option<usize> {
        let all = self.versions.get(name)?;
        match version {
            VersionRef::Current => all.first().filter(|o| !o.is_marker).map(|_| 0),
            VersionRef::Null => all.iter().position(|o| o.is_null),
            VersionRef::Id(wanted) => all.iter().position(|o| id(&o.version) == wanted.0),
        }
    }

    /// Bytes that stay named by an older version may not be named by another.
    fn check_twice(&self, name: &Name, blob: Option<u128>) -> Outcome {
        let versioning = self.versioning(name.0);
        match self.visible(name) {
            Some(old)
                if blob.is_some()
                    && old.blob == blob
                    && versioning != 0
                    && (versioning == 1 || !old.is_null) =>
            {
                Err(Reason::BlobGone)
            }
            _ => Ok(()),
        }
    }

    fn delete(
        &mut self,
        name: Name,
        version: VersionRef,
        precondition: &Precondition,
        heard: &Kind,
    ) -> Outcome {
        let place = self.place(&name, version);
        let meant = place.map(|at| self.versions[&name][at].clone());
        if meant.is_some() || precondition.if_match.is_some() {
            check(meant.as_ref(), precondition)?;
        }
        let versioning = self.versioning(name.0);
        let puts_marker = version == VersionRef::Current && versioning != 0;
        if puts_marker {
            self.check_open(name.0)?;
        }
        let Kind::Delete(answer) = heard else {
            return unlike(heard);
        };
        assert_eq!(answer.existed, meant.is_some(), "delete of {name:?}");
        assert_eq!(answer.versioning, versioning);
        if puts_marker {
            self.seen.count("marker put");
            assert!(answer.delete_marker);
            let marker = Object {
                version: answer.version.clone(),
                modified_ms: 0,
                size: 0,
                md5: Vec::new(),
                parts: 0,
                blob: None,
                chunks: 0,
                needles: BTreeSet::new(),
                inline: None,
                is_null: answer.null_version,
                is_marker: true,
            };
            self.check_newest(&marker, versioning);
            self.add(name, marker);
        } else if let (Some(at), Some(old)) = (place, meant) {
            let told = (&answer.version, answer.null_version, answer.delete_marker);
            assert_eq!(told, (&old.version, old.is_null, old.is_marker));
            if at > 0 {
                self.seen.count("older version deleted");
            } else if self.versions[&name].len() > 1 {
                self.seen.count("newest version deleted");
            }
            let all = self.versions.get_mut(&name).expect("it stands there");
            all.remove(at);
            if all.is_empty() {
                self.versions.remove(&name);
            }
            self.book(&name, &old, None);
        }
        Ok(())
    }

    /// The version that an answer gives, which must be newer than every one before.
    fn versioned(&mut self, heard: &Kind, versioning: u32) -> Result<Object, Reason> {
        let Kind::Put(answer) = heard else {
            return unlike(heard).map(|()| unreachable!());
        };
        assert_eq!(answer.versioning, versioning);
        let made = Object {
            version: answer.version.clone(),
            modified_ms: answer.modified_ms,
            size: answer.size,
            md5: answer.etag_md5.clone(),
            parts: answer.etag_parts,
            blob: None,
            chunks: 0,
            needles: BTreeSet::new(),
            inline: None,
            is_null: answer.null_version,
            is_marker: false,
        };
        self.check_newest(&made, versioning);
        Ok(made)
    }

    /// A version that was made is newer than any before, and null unless versioning is enabled.
    fn check_newest(&mut self, made: &Object, versioning: u32) {
        assert_eq!(made.is_null, versioning != 1);
        let older = self.newest_version.replace(made.version.clone());
        assert!(
            older.is_none_or(|older| older > made.version),
            "versions only get newer"
        );
    }

    /// A new version stands over the others; a null one in place of the one before.
    fn add(&mut self, name: Name, object: Object) {
        let kept = object.blob;
        let all = self.versions.entry(name.clone()).or_default();
        let null = all.iter().position(|o| o.is_null).filter(|_| object.is_null);
        let old = null.map(|at| all.remove(at));
        all.insert(0, object);
        if null.is_some_and(|at| at > 0) {
            self.seen.count("older null version replaced");
        }
        old.into_iter().for_each(|old| self.book(&name, &old, kept));
    }

    fn book(&mut self, name: &Name, old: &Object, kept: Option<u128>) {
        if let Some(blob) = old.blob.filter(|b| Some(*b) != kept && old.chunks > 0) {
            self.book_blob(name, blob, old.needles.clone());
        }
    }

    fn book_blob(&mut self, name: &Name, blob: u128, needles: BTreeSet<Place>) {
        self.garbage.insert((name.clone(), blob));
        self.booked.insert((name.clone(), blob), needles);
    }

    fn complete(
        &mut self,
        name: Name,
        upload: u128,
        named: &[NamedPart],
        precondition: &Precondition,
        heard: &Kind,
    ) -> Outcome {
        let Some(parts) = self.uploads.get(&(name.clone(), upload)).cloned() else {
            // The trace of an earlier completion of the same parts.
            let (Some(object), Kind::Put(answer)) = (self.visible(&name), heard) else {
                return Err(Reason::NoSuchUpload);
            };
            assert_eq!((object.blob, &object.version), (Some(upload), &answer.version));
            self.seen.count("completed again");
            return Ok(());
        };
        if named.is_empty() {
            return Err(Reason::InvalidPart);
        }
        if named.windows(2).any(|w| w[0].number >= w[1].number) {
            return Err(Reason::InvalidPartOrder);
        }
        let found = |n: &NamedPart| parts.get(&n.number).filter(|p| p.record.etag_md5 == n.etag_md5);
        let taken: Option<Vec<&PartState>> = named.iter().map(found).collect();
        let taken = taken.ok_or(Reason::InvalidPart)?;
        check(self.visible(&name), precondition)?;
        if taken[..taken.len() - 1]
            .iter()
            .any(|p| p.record.size < PART_BYTES_MIN)
        {
            return Err(Reason::EntityTooSmall);
        }
        let made = self.versioned(heard, self.versioning(name.0))?;
        assert_eq!(made.parts as usize, taken.len());
        assert_eq!(made.size, taken.iter().map(|p| p.record.size).sum::<u64>());
        let unused = parts
            .values()
            .filter(|p| !named.iter().any(|n| n.number == p.record.number));
        let unused: Vec<_> = unused.map(|p| (p.blob, p.needles.clone())).collect();
        let needles = taken.iter().flat_map(|p| p.needles.clone()).collect();
        for (blob, needles) in unused {
            self.book_blob(&name, blob, needles);
        }
        self.uploads.remove(&(name.clone(), upload));
        self.add(
            name,
            Object {
                blob: Some(upload),
                chunks: named.len(),
                needles,
                ..made
            },
        );
        Ok(())
    }

    fn apply_to_bucket(&mut self, command: &Command, heard: &Kind) -> Outcome {
        match command {
            Command::CreateBucket { name, owner, .. } => {
                let told = told(heard);
                match self.names.get(name.as_str()) {
                    Some(old) if old.owner != owner.0 => return Err(Reason::BucketExists),
                    Some(old) if old.state == 3 => return Err(Reason::BucketBusy),
                    Some(old) => assert_eq!(told, Some(old)),
                    None => {
                        let made = told.expect("a bucket");
                        assert!(
                            made.bucket > self.last_bucket,
                            "a bucket's number is never used again"
                        );
                        assert_eq!((made.turn, made.state, made.owner), (1, 1, owner.0));
                        self.last_bucket = made.bucket;
                        self.names.insert(name.as_str().into(), made.clone());
                    }
                }
                Ok(())
            }
            Command::BucketOpened { name, bucket, turn } => {
                self.step(name.as_str(), (bucket.0, *turn), &[1, 2], Some(2))
            }
            Command::CancelDeleteBucket { name, bucket, turn } => {
                self.step(name.as_str(), (bucket.0, *turn), &[3, 2], Some(2))
            }
            Command::FinishDeleteBucket { name, bucket, turn } => {
                self.step(name.as_str(), (bucket.0, *turn), &[3], None)?;
                self.settings.retain(|(b, _), _| *b != bucket.0);
                Ok(())
            }
            Command::PutBucketSetting {
                name,
                bucket,
                kind,
                value,
            } => {
                let row = self.names.get(name.as_str());
                row.filter(|r| r.bucket == bucket.0).ok_or(Reason::NoSuchBucket)?;
                match value {
                    Some(value) => drop(self.settings.insert((bucket.0, *kind as u32), value.clone())),
                    None => drop(self.settings.remove(&(bucket.0, *kind as u32))),
                }
                Ok(())
            }
            Command::BeginDeleteBucket {
                name,
                bucket,
                turn,
                stale,
            } => {
                let row = self.names.get_mut(name.as_str()).ok_or(Reason::NoSuchBucket)?;
                if row.bucket != bucket.0 {
                    return Err(Reason::NoSuchBucket);
                }
                if row.turn != *turn || row.state != if *stale { 3 } else { 2 } {
                    return Err(Reason::BucketBusy);
                }
                (row.turn, row.state) = (row.turn + 1, 3);
                assert_eq!(told(heard), Some(&*row));
                Ok(())
            }
            Command::SetVersioning { .. } | Command::BucketConfigured { .. } => {
                self.configure(command, heard)
            }
            other => self.apply_to_copy(other, heard),
        }
    }

    fn apply_to_copy(&mut self, command: &Command, heard: &Kind) -> Outcome {
        match command {
            Command::OpenBucket { bucket, copy } => {
                let row = self.copies.entry(bucket.0).or_default();
                if (copy.turn, copy.configuration) >= (row.turn, row.configuration) || copy.turn > row.turn {
                    *row = Copy {
                        turn: copy.turn,
                        is_open: true,
                        configuration: copy.configuration,
                        versioning: copy.versioning,
                    };
                }
                Ok(())
            }
            Command::CloseBucket { bucket, turn } => {
                let row = self.copies.entry(bucket.0).or_default();
                if *turn < row.turn || (*turn == row.turn && row.is_open) {
                    return Err(Reason::BucketBusy);
                }
                (row.turn, row.is_open) = (*turn, false);
                let versions = self.versions.keys().any(|n| n.0 == bucket.0);
                let uploads = self.uploads.keys().any(|(n, _)| n.0 == bucket.0);
                let has = CloseAnswer {
                    empty: !versions && !uploads,
                    only_uploads: !versions && uploads,
                };
                assert!(
                    matches!(heard, Kind::Close(c) if *c == has),
                    "{heard:?}, not {has:?}"
                );
                Ok(())
            }
            other => panic!("{other:?} is not on a bucket"),
        }
    }

    fn step(&mut self, name: &str, (bucket, turn): (u64, u64), from: &[u32], to: Option<u32>) -> Outcome {
        let row = self
            .names
            .get_mut(name)
            .filter(|r| r.bucket == bucket)
            .ok_or(Reason::NoSuchBucket)?;
        if row.turn != turn || !from.contains(&row.state) {
            return Err(Reason::BucketBusy);
        }
        match to {
            Some(state) => row.state = state,
            None => drop(self.names.remove(name)),
        }
        Ok(())
    }

    fn check_open(&self, bucket: u64) -> Outcome {
        match self.copies.get(&bucket) {
            None => Err(Reason::NoSuchBucket),
            Some(copy) if !copy.is_open => Err(Reason::BucketBusy),
            Some(_) => Ok(()),
        }
    }

    fn configure(&mut self, command: &Command, heard: &Kind) -> Outcome {
        let (Command::SetVersioning { name, bucket, .. } | Command::BucketConfigured { name, bucket, .. }) =
            command
        else {
            panic!("{command:?} configures nothing");
        };
        let row = self.names.get_mut(name.as_str());
        let row = row.filter(|r| r.bucket == bucket.0).ok_or(Reason::NoSuchBucket)?;
        match command {
            Command::BucketConfigured { turn, .. } if row.turn != *turn => return Err(Reason::BucketBusy),
            _ if row.state != 2 => return Err(Reason::BucketBusy),
            Command::BucketConfigured { configuration, .. } => {
                row.configured = row.configured.max(*configuration);
            }
            Command::SetVersioning { versioning, .. } if row.versioning != *versioning as u32 => {
                row.versioning = *versioning as u32;
                row.configuration += 1;
            }
            _ => {}
        }
        assert_eq!(told(heard), Some(&*row));
        Ok(())
    }

    /// A listing by its definition.
    pub fn list(&self, bucket: u64, (prefix, delimiter, after): (&str, &str, &str)) -> Vec<String> {
        let common = |key: &str| {
            let rest = key.strip_prefix(prefix)?;
            let at = rest.find(delimiter).filter(|_| !delimiter.is_empty())?;
            Some(key[..prefix.len() + at + delimiter.len()].to_owned())
        };
        let mut lines = Vec::new();
        let visible = self.versions.keys().filter(|n| self.visible(n).is_some());
        for (_, key) in visible.filter(|n| n.0 == bucket && n.1.starts_with(prefix)) {
            let line = common(key).map_or(key.clone(), |c| format!("[{c}]"));
            let skipped = common(after).is_some_and(|c| key.starts_with(&c));
            if key.as_str() > after && !skipped && lines.last() != Some(&line) {
                lines.push(line);
            }
        }
        lines
    }
}

fn check(object: Option<&Object>, precondition: &Precondition) -> Outcome {
    let matches = |m: &Match| match (m, object) {
        (_, None) => false,
        (Match::Any, Some(_)) => true,
        (Match::Tags(tags), Some(o)) => tags
            .iter()
            .any(|t: &ETag| t.md5[..] == o.md5[..] && t.part_count == o.parts),
    };
    if let Some(m) = &precondition.if_match {
        if object.is_none() {
            return Err(Reason::NoSuchKeyForMatch);
        }
        if !matches(m) {
            return Err(Reason::PreconditionFailed);
        }
    }
    if precondition.if_none_match.as_ref().is_some_and(matches) {
        return Err(Reason::PreconditionFailed);
    }
    if precondition
        .if_size
        .is_some_and(|size| object.map(|o| o.size) != Some(size))
    {
        return Err(Reason::PreconditionFailed);
    }
    Ok(())
}

fn told(heard: &Kind) -> Option<&BucketRecord> {
    match heard {
        Kind::Bucket(answer) => answer.bucket.as_ref(),
        _ => None,
    }
}

fn unlike(heard: &Kind) -> Outcome {
    panic!("an answer of the wrong kind: {heard:?}")
}

fn is_refused(heard: &Kind, reason: Reason) -> bool {
    matches!(heard, Kind::Refused(r) if r.reason == reason as u32)
}

pub fn id(bytes: &[u8]) -> u128 {
    u128::from_be_bytes(bytes.try_into().expect("16 bytes"))
}

pub fn command_name(command: &Command) -> String {
    let debug = format!("{command:?}");
    debug.split([' ', '{']).next().unwrap_or_default().to_owned()
}
