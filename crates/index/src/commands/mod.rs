//! Commands as pure functions of (command, what the rows say): no I/O, no clock, no order but the caller's.
//!
//! | file | commands |
//! |---|---|
//! | put.rs | Put |
//! | append.rs | Append |
//! | delete.rs | Delete |
//! | tags.rs | SetTags |
//! | upload.rs | CreateUpload, PutPart, AbortUpload, AbortIdleUpload |
//! | complete.rs, checksum.rs | CompleteUpload |
//! | end.rs | what a completed or aborted upload leaves, and its sweep |
//! | bucket.rs | CreateBucket, BucketOpened, BeginDeleteBucket, FinishDeleteBucket, CancelDeleteBucket, PutBucketSetting, SetVersioning, BucketConfigured |
//! | copy.rs | OpenBucket, CloseBucket |
//! | reclaim.rs, condemn.rs | ForgetGarbage, ForgetCondemned, Condemn |
//! | version.rs | which version is meant, and what a new one does to the others |
//! | blob.rs, usage.rs, precondition.rs | what several share |
//!
//! Preconditions are decided here and nowhere else. The commit that unnames bytes books them as garbage (I3).

mod act;
mod append;
mod blob;
mod bucket;
mod checksum;
mod complete;
mod condemn;
mod copy;
mod delete;
mod end;
mod precondition;
mod put;
mod reclaim;
mod tags;
mod upload;
mod usage;
mod version;

pub(crate) use blob::point;
pub(crate) use condemn::Rows as DoubtRows;
pub(crate) use end::{is_taken, sweep};

use crate::rows::RowRef;
use crate::view::{Change, Decision, Now, Stop, View};
use bytes::Bytes;
use types::{BucketId, BucketName, ObjectKey};
use wire::index::{Command, StoredData};
use wire::records::{Answer, Nothing, answer};

/// Decides a command.
///
/// # Errors
/// [`Stop::Needs`] and [`Stop::Bad`]; a refusal is a decision that changes nothing. A decision that is a step has an answer
/// that means nothing.
pub(crate) fn decide(command: &Command, view: &View, now: &Now) -> Result<Decision, Stop> {
    let mut change = Change::default();
    let decided = if is_on_object(command) {
        run_on_object(command, view, now, &mut change)
    } else if let Some(decided) = run_for_gc(command, view, now, &mut change) {
        decided
    } else {
        run_on_bucket(command, view, now, &mut change)
    };
    let kind = match decided {
        Ok(kind) => kind,
        Err(Stop::Refused(refused)) => {
            change = Change::default();
            answer::Kind::Refused(refused)
        }
        Err(stop) => return Err(stop),
    };
    let answer = Answer { kind: Some(kind) };
    Ok(Decision { change, answer })
}

fn run_on_object<'a>(
    command: &'a Command,
    view: &'a View<'a>,
    now: &'a Now,
    change: &'a mut Change,
) -> Result<answer::Kind, Stop> {
    let act = move |bucket: &BucketId, key: &'a ObjectKey| {
        let change = change;
        act::Act {
            bucket: *bucket,
            key: key.as_str(),
            view,
            now,
            change,
            usage: usage::UsageChange::default(),
        }
    };
    match command {
        Command::Put {
            bucket,
            key,
            record,
            data,
            precondition,
        } => put::put(act(bucket, key), record, data, precondition),
        Command::Append {
            bucket,
            key,
            piece,
            data,
            precondition,
        } => append::append(act(bucket, key), piece, data, precondition),
        Command::Delete {
            bucket,
            key,
            version,
            precondition,
        } => delete::delete(act(bucket, key), *version, precondition),
        Command::SetTags {
            bucket,
            key,
            version,
            tags,
        } => tags::set(act(bucket, key), *version, tags),
        Command::CreateUpload { bucket, key, record } => upload::create(act(bucket, key), record),
        Command::PutPart {
            bucket,
            key,
            upload,
            record,
            data,
        } => upload::put_part(act(bucket, key), *upload, record, data),
        Command::AbortUpload { bucket, key, upload } => upload::abort(act(bucket, key), *upload, None),
        Command::AbortIdleUpload {
            bucket,
            key,
            upload,
            before_ms,
        } => upload::abort(act(bucket, key), *upload, Some(*before_ms)),
        Command::CompleteUpload {
            bucket,
            key,
            upload,
            parts,
            precondition,
            expected,
        } => complete::complete(act(bucket, key), *upload, parts, precondition, expected),
        _ => unreachable!("commands on buckets are decided by run_on_bucket"),
    }
}

/// `None`: it is not one of gc's.
fn run_for_gc(
    command: &Command,
    view: &View,
    now: &Now,
    change: &mut Change,
) -> Option<Result<answer::Kind, Stop>> {
    Some(match command {
        Command::ForgetGarbage { rows } => reclaim::forget_garbage(rows, view, change),
        Command::Condemn { unnamed } => condemn::condemn(unnamed, view, now, change),
        Command::ForgetCondemned { after } => reclaim::forget_condemned(after, view, now, change),
        _ => return None,
    })
}

fn run_on_bucket(
    command: &Command,
    view: &View,
    now: &Now,
    change: &mut Change,
) -> Result<answer::Kind, Stop> {
    match command {
        Command::CreateBucket {
            name,
            owner,
            region,
            settings,
        } => bucket::create((name, *owner), (region, settings), view, now, change),
        Command::PutBucketSetting {
            name,
            bucket,
            kind,
            value,
        } => bucket::put_setting((name, *bucket), *kind, value.as_ref(), view, change),
        Command::BucketOpened { name, bucket, turn } => bucket::opened(name, (*bucket, *turn), view, change),
        Command::BeginDeleteBucket {
            name,
            bucket,
            turn,
            stale,
        } => bucket::begin_delete(name, (*bucket, *turn), *stale, view, change),
        Command::FinishDeleteBucket { name, bucket, turn } => {
            bucket::finish_delete(name, (*bucket, *turn), view, change)
        }
        Command::CancelDeleteBucket { name, bucket, turn } => {
            bucket::cancel_delete(name, (*bucket, *turn), view, change)
        }
        Command::SetVersioning {
            name,
            bucket,
            versioning,
        } => bucket::set_versioning(name, *bucket, *versioning, view, change),
        Command::BucketConfigured {
            name,
            bucket,
            turn,
            configuration,
        } => bucket::configured(name, (*bucket, *turn), *configuration, view, change),
        Command::OpenBucket { bucket, copy } => copy::open(*bucket, copy, view, change),
        Command::CloseBucket { bucket, turn } => copy::close(*bucket, *turn, view, change),
        _ => unreachable!("commands on objects are decided above"),
    }
}

fn nothing() -> answer::Kind {
    answer::Kind::Nothing(Nothing {})
}

/// The rows that a command will ask for as far as the command itself tells: fetched for a whole batch at once.
pub(crate) fn first_rows(command: &Command, out: &mut Vec<Bytes>) {
    match command {
        Command::Put {
            bucket,
            key,
            record,
            data,
            ..
        } => {
            out.push(RowRef::Bucket(*bucket).key());
            out.push(RowRef::Current(*bucket, key.as_str()).key());
            out.push(RowRef::Usage(*bucket, record.storage_class).key());
            if let StoredData::Chunks(stored) = data {
                blob::gone_rows((*bucket, key.as_str()), stored, out);
            }
        }
        Command::Append {
            bucket,
            key,
            piece,
            data,
            ..
        } => {
            out.push(RowRef::Bucket(*bucket).key());
            out.push(RowRef::Current(*bucket, key.as_str()).key());
            out.push(RowRef::Usage(*bucket, piece.storage_class).key());
            if let StoredData::Chunks(stored) = &data.data {
                blob::gone_rows((*bucket, key.as_str()), stored, out);
            }
        }
        Command::Delete { bucket, key, .. } => {
            out.push(RowRef::Bucket(*bucket).key());
            out.push(RowRef::Current(*bucket, key.as_str()).key());
            out.push(RowRef::Usage(*bucket, 0).key());
        }
        Command::SetTags { bucket, key, .. } => {
            out.push(RowRef::Bucket(*bucket).key());
            out.push(RowRef::Current(*bucket, key.as_str()).key());
        }
        Command::CreateUpload { .. }
        | Command::PutPart { .. }
        | Command::CompleteUpload { .. }
        | Command::AbortUpload { .. }
        | Command::AbortIdleUpload { .. } => first_rows_of_upload(command, out),
        Command::OpenBucket { bucket, .. } | Command::CloseBucket { bucket, .. } => {
            out.push(RowRef::Bucket(*bucket).key());
        }
        Command::ForgetGarbage { rows } => out.extend(rows.iter().map(|r| reclaim::row(r).key())),
        Command::Condemn { unnamed } => {
            out.extend(unnamed.doubts().iter().flat_map(|d| DoubtRows(d).keys()));
        }
        Command::ForgetCondemned { .. } => {}
        of_directory => {
            out.extend(directory_name(of_directory).map(|name| RowRef::BucketName(name.as_str()).key()));
        }
    }
}

fn first_rows_of_upload(command: &Command, out: &mut Vec<Bytes>) {
    match command {
        Command::CreateUpload { bucket, record, .. } => {
            out.push(RowRef::Bucket(*bucket).key());
            out.push(RowRef::Usage(*bucket, record.storage_class).key());
        }
        Command::PutPart {
            bucket,
            key,
            upload,
            record,
            data,
        } => {
            let key = key.as_str();
            out.push(RowRef::Bucket(*bucket).key());
            out.push(RowRef::Upload(*bucket, key, *upload).key());
            out.push(RowRef::Part(*bucket, key, *upload, record.number).key());
            blob::gone_rows((*bucket, key), data, out);
        }
        Command::CompleteUpload {
            bucket, key, upload, ..
        }
        | Command::AbortUpload { bucket, key, upload }
        | Command::AbortIdleUpload {
            bucket, key, upload, ..
        } => {
            out.push(RowRef::Bucket(*bucket).key());
            out.push(RowRef::Upload(*bucket, key.as_str(), *upload).key());
            out.push(RowRef::Current(*bucket, key.as_str()).key());
        }
        _ => {}
    }
}

fn is_on_object(command: &Command) -> bool {
    matches!(
        command,
        Command::Put { .. }
            | Command::Append { .. }
            | Command::SetTags { .. }
            | Command::Delete { .. }
            | Command::CreateUpload { .. }
            | Command::PutPart { .. }
            | Command::CompleteUpload { .. }
            | Command::AbortUpload { .. }
            | Command::AbortIdleUpload { .. }
    )
}

/// The bucket's name in a command of the directory.
fn directory_name(command: &Command) -> Option<&BucketName> {
    match command {
        Command::CreateBucket { name, .. }
        | Command::BucketOpened { name, .. }
        | Command::BeginDeleteBucket { name, .. }
        | Command::FinishDeleteBucket { name, .. }
        | Command::CancelDeleteBucket { name, .. }
        | Command::PutBucketSetting { name, .. }
        | Command::SetVersioning { name, .. }
        | Command::BucketConfigured { name, .. } => Some(name),
        _ => None,
    }
}

/// Whether the command is the directory's.
pub(crate) fn is_directory(command: &Command) -> bool {
    directory_name(command).is_some()
}
