//! `cairn check --rebuild-index DIR`: lays a new index into a stopped directory whose index cannot be had, out of its extents and of what
//! partitions of the old one are whole. What it could not know it prints.

use crate::roles::{self, NODE};
use admin::rebuild::{self, Around, Gathered, Lines, Sums};
use anyhow::{Context, bail};
use bytes::Bytes;
use extent::ExtentError;
use index::{Rebuilt, Remains};
use node::LocalNode;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use store::{OldLog, Places, Prepared, Scan, Snapshot, StoreError, readable_rows};
use types::limits::{ROW_KEY_BYTES_MAX, SCAN_ROWS_MAX};
use types::{BucketId, BucketName, DiskId, ExtentId, Hlc, PartitionId, SessionId};
use wire::node::Node;
use world::real::RealDisk;
use world::{Disk, Exec, World};

const WHY: &str = "the index was rebuilt from the extents: what was deleted may be back, and what it did not find is kept until an operator has looked";
const PARTITIONS: [PartitionId; 3] = [
    PartitionId::DIRECTORY,
    PartitionId::CONTROL,
    PartitionId::FIRST_DATA,
];
const INDEX: &str = "index";

/// Where rows begin that are not a partition's own.
const FIRST_ROW: Bytes = Bytes::from_static(&[2]);

/// Rows by their keys.
type Rows = BTreeMap<Bytes, Bytes>;

/// Names that an operator gives to buckets of which only the number is known.
type Names = BTreeMap<BucketId, String>;

/// What goes with `--rebuild-index`.
#[derive(clap::Args)]
pub(crate) struct Flags {
    /// What a bucket is called whose name is lost: its id (16 hexadecimal digits), `=`, its name. More than once for more.
    #[arg(long = "bucket", value_name = "ID=NAME", requires = "rebuild_index")]
    buckets: Vec<String>,
    /// Rebuilds partitions that are damaged in places only, and gives up of them all that no needle says: of the objects' those up to 512 bytes,
    /// headers, tags, versions, uploads; of the directory names and settings of buckets. The control partition is made anew without it.
    #[arg(long, requires = "rebuild_index")]
    even_if_it_serves: bool,
    /// A key whose newest object is an upload names that, though nothing says that it was completed and an older object is whole.
    #[arg(long, requires = "rebuild_index")]
    newest_uploads: bool,
}

/// Reads `ID=NAME`, the id in hexadecimal digits.
fn names(given: &[String]) -> anyhow::Result<Names> {
    let mut names = Names::new();
    for given in given {
        let (id, name) = given
            .split_once('=')
            .with_context(|| format!("{given:?} is not ID=NAME"))?;
        let id = u64::from_str_radix(id, 16).with_context(|| format!("{id:?} is not a bucket's id"))?;
        BucketName::new(name).map_err(|e| anyhow::anyhow!("{name:?}: {e}"))?;
        if names.values().any(|other| other == name) {
            bail!("{name:?} is given to two buckets: a name is one bucket's");
        }
        if names.insert(BucketId(id), name.to_owned()).is_some() {
            bail!("bucket {} is given two names", BucketId(id));
        }
    }
    Ok(names)
}

/// Rebuilds, prints what came of it.
pub(crate) fn main(dir: &Path, flags: &Flags) -> anyhow::Result<ExitCode> {
    let names = names(&flags.buckets)?;
    if !dir.join("superblock").exists() {
        bail!("{} is not a store: it has no superblock", dir.display());
    }
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(dir)?);
    let world = World {
        exec: Exec::Inline,
        ..World::real()
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run(&world, disk, (names, flags)))?;
    Ok(ExitCode::SUCCESS)
}

async fn run(world: &World, disk: Arc<dyn Disk>, (names, flags): (Names, &Flags)) -> anyhow::Result<()> {
    let (opened, prepared) = roles::judged(world, &disk)?;
    let Old {
        kept,
        readable,
        doubts,
    } = old(prepared).await?;
    let is_whole = PARTITIONS.iter().all(|partition| kept.contains_key(partition));
    if is_whole && doubts.is_empty() {
        bail!("the index can be read, all of it: there is nothing to rebuild, and nothing was changed");
    }
    // Doubts about rows where there are none are told, and nothing is asked: no other way has any either.
    let has_rows = !(kept.is_empty() && readable.is_empty());
    if !(readable.is_empty() && doubts.is_empty()) {
        let told = [doubts, readable].concat().join("; ");
        if has_rows && !flags.even_if_it_serves {
            bail!(
                "{told}: nothing was changed. `cairn backup --past-damage` and `cairn restore --index` keep every row that can be read, and lose only what stood where it cannot; --even-if-it-serves rebuilds all the same"
            );
        }
        say(&told);
    }
    let node = LocalNode::new(world.clone(), NODE, vec![opened.dir.clone()]);
    let now_ms = world.clock.wall_ms();
    let rows = rows(&node, opened.dir.disk_id(), kept.clone(), (names, flags, now_ms)).await?;
    let under = OldLog {
        batches: &opened.batches,
        next: opened.dir.journal().next(),
    };
    let mut rows = rows
        .into_iter()
        .map(|((partition, key), value)| Ok((partition, key, value)));
    let count = store::lay(&disk, opened.dir.disk_id(), under, &mut rows)?;
    node.shutdown().await;
    say(&format!(
        "{count} rows laid. Reclaim is held: see `cairn reclaim status`. The old index files are {INDEX}/*.old<n>; nothing reads them, and they may be removed."
    ));
    Ok(())
}

/// What there is of the old index.
#[derive(Default)]
struct Old {
    /// The rows of the partitions that can be read to their end.
    kept: BTreeMap<PartitionId, Rows>,
    /// Of which others some rows can be read, or may be there, a sentence each. The control partition is none: the node says what stood in it.
    readable: Vec<String>,
    /// Why those that can be read may not be all of it.
    doubts: Vec<String>,
}

async fn old(prepared: Result<Prepared, ExtentError>) -> anyhow::Result<Old> {
    let mut old = Old::default();
    let prepared = match prepared {
        Ok(prepared) => prepared,
        Err(why) => {
            old.readable
                .push(format!("no partition of the old index can be had: {why}"));
            return Ok(old);
        }
    };
    for (of, why) in prepared.lost() {
        match of {
            Some(partition) => say(&format!("partition {partition} of the old index: {why}")),
            None => old.doubts.push(why.to_string()),
        }
    }
    for partition in PARTITIONS {
        let is_all = !prepared.lost().iter().any(|(of, _)| *of == Some(partition));
        let scanned = match prepared.snapshot(partition) {
            Ok(snapshot) => scan_all(&*snapshot).await.map_err(|e| (e, Some(snapshot))),
            Err(e) => Err((e, None)),
        };
        let rows = match scanned {
            // One that never was has no rows either: a store has always a row of its own in each.
            Ok(rows) if rows.is_empty() => {
                say(&format!("partition {partition} of the old index is not there"));
                continue;
            }
            Ok(rows) if is_all => {
                old.kept.insert(partition, rows);
                continue;
            }
            Ok(rows) => rows.keys().filter(|key| **key >= FIRST_ROW).count(),
            Err((e @ StoreError::Corrupt(_), snapshot)) => {
                say(&format!("partition {partition} of the old index: {e}"));
                match snapshot {
                    Some(snapshot) => count_readable(&*snapshot).await?,
                    None => 0,
                }
            }
            Err((e, _)) => return Err(e.into()),
        };
        if rows > 0 && partition != PartitionId::CONTROL {
            let what = given_up(partition);
            old.readable.push(format!(
                "{rows} rows of partition {partition} can be read ({what}) and would be given up"
            ));
        }
    }
    Ok(old)
}

/// What no needle says of a partition.
fn given_up(partition: PartitionId) -> &'static str {
    match partition {
        PartitionId::DIRECTORY => "names and settings of buckets",
        _ => "objects up to 512 bytes, headers, tags, versions, uploads, deletes",
    }
}

/// How many rows can be read, beside the partition's own.
async fn count_readable(snapshot: &dyn Snapshot) -> Result<usize, StoreError> {
    let (mut rows, mut start) = (0, FIRST_ROW);
    let mut places = Places::default();
    let end = Bytes::from_static(&[0xFF]);
    while start < end {
        let scan = Scan {
            start,
            end: end.clone(),
            max: SCAN_ROWS_MAX,
        };
        let page = readable_rows(snapshot, scan, ROW_KEY_BYTES_MAX, &mut places).await?;
        rows += page.rows.len();
        start = page.next;
    }
    Ok(rows)
}

async fn scan_all(snapshot: &dyn Snapshot) -> Result<Rows, StoreError> {
    let mut rows = Rows::new();
    let mut scan = Scan {
        start: Bytes::from_static(&[0]),
        end: Bytes::from_static(&[0xFF]),
        max: SCAN_ROWS_MAX,
    };
    loop {
        let page = snapshot.scan(&scan).await?;
        let Some((last, _)) = page.last() else {
            return Ok(rows);
        };
        scan.start = [&last[..], &[0]].concat().into();
        rows.extend(page);
    }
}

/// All rows of the new index, and what is told of them.
async fn rows(
    node: &LocalNode,
    disk: DiskId,
    mut kept: BTreeMap<PartitionId, Rows>,
    (names, flags, now_ms): (Names, &Flags, u64),
) -> anyhow::Result<BTreeMap<(PartitionId, Bytes), Bytes>> {
    let control = kept.remove(&PartitionId::CONTROL);
    let data = kept.remove(&PartitionId::FIRST_DATA);
    let directory = kept.remove(&PartitionId::DIRECTORY);
    let directory_is_whole = directory.is_some();
    let mut rebuilt = Rebuilt::default();
    for (key, value) in directory.unwrap_or_default() {
        rebuilt
            .keep(PartitionId::DIRECTORY, key, value)
            .map_err(anyhow::Error::msg)?;
    }
    for (bucket, name) in &names {
        if let Some(other) = rebuilt.named(name).filter(|other| other != bucket) {
            bail!("bucket {other} is called {name} already, so {bucket} cannot be; nothing was changed");
        }
    }
    let gone = control
        .as_ref()
        .map_or(Ok(BTreeSet::new()), control::gone_needles);
    let gathered = rebuild::gather(node, &gone.map_err(anyhow::Error::msg)?).await?;
    tell_damage(&gathered);
    let newest = gathered.newest.max(Hlc::at(now_ms));
    let data_is_whole = data.is_some();
    for (key, value) in data.unwrap_or_default() {
        rebuilt
            .keep(PartitionId::FIRST_DATA, key, value)
            .map_err(anyhow::Error::msg)?;
    }
    let last_session = gathered.last_session.max(rebuilt.last_session());
    rebuilt.saw_bucket(gathered.last_bucket);
    // Where the directory or the rows of objects are there, needles of other buckets are those of deleted ones.
    let of_needles: BTreeSet<BucketId> = match directory_is_whole || data_is_whole {
        true => BTreeSet::new(),
        false => gathered.keys.keys().map(|(bucket, _)| *bucket).collect(),
    };
    name_buckets(&mut rebuilt, of_needles, names, now_ms);
    if !data_is_whole {
        compose(node, gathered, flags.newest_uploads, &mut rebuilt).await?;
    }
    let held = (WHY, now_ms);
    let control = match control {
        Some(kept) => control::kept(kept, held, data_is_whole).map_err(anyhow::Error::msg)?,
        None => fresh_control(node, disk, last_session, now_ms).await?,
    };
    let below = SessionId(last_session.0 + 1);
    let mut rows = rebuilt.rows(below, newest, (directory_is_whole, data_is_whole));
    rows.extend(
        control
            .into_iter()
            .map(|(key, value)| ((PartitionId::CONTROL, key), value)),
    );
    Ok(rows)
}

/// The rows of a control partition of which nothing is left. Every extent is sealed.
async fn fresh_control(
    node: &LocalNode,
    disk: DiskId,
    last_session: SessionId,
    now_ms: u64,
) -> anyhow::Result<Vec<(Bytes, Bytes)>> {
    let mut extents = Vec::new();
    for status in node.extents().await? {
        let sealed = match status.sealed {
            true => status,
            false => node.seal(status.extent, status.epoch.next()).await?,
        };
        let end = sealed.end;
        extents.push((sealed, end));
    }
    Ok(control::fresh_rows(&control::Ground {
        node: NODE,
        disk,
        extents: &extents,
        last_extent: ExtentId::default(),
        last_session,
        why: WHY,
        now_ms,
    }))
}

/// Buckets of which the directory says nothing get the names that were given for them, or ones made of their numbers.
fn name_buckets(rebuilt: &mut Rebuilt, of_needles: BTreeSet<BucketId>, mut names: Names, now_ms: u64) {
    let known: BTreeSet<BucketId> = rebuilt.buckets().map(|(id, _)| id).collect();
    let all: BTreeSet<BucketId> = of_needles.into_iter().chain(rebuilt.copied_buckets()).collect();
    for bucket in all.difference(&known) {
        let given = names.remove(bucket);
        let name = given.unwrap_or_else(|| unused_name(rebuilt, &names, *bucket));
        say(&format!(
            "bucket {bucket}: its name is not known; it is called {name} now (--bucket {bucket}=NAME calls it otherwise), is the root account's, and has no settings"
        ));
        rebuilt.name_bucket(*bucket, &name, "us-east-1", now_ms);
    }
    for (bucket, name) in names {
        say(&format!(
            "bucket {bucket} is not called {name}: its name is known, or nothing is in it"
        ));
    }
}

/// One made of its number, that no other bucket has or is to have.
fn unused_name(rebuilt: &Rebuilt, names: &Names, bucket: BucketId) -> String {
    let plain = std::iter::once(format!("bucket-{bucket}"));
    let numbered = (2..).map(|n: u64| format!("bucket-{bucket}-{n}"));
    let is_unused =
        |name: &String| rebuilt.named(name).is_none() && !names.values().any(|other| other == name);
    let mut unused = plain.chain(numbered).filter(is_unused);
    unused.next().expect("there are more names than buckets")
}

async fn compose(
    node: &LocalNode,
    gathered: Gathered,
    newest_uploads: bool,
    rebuilt: &mut Rebuilt,
) -> anyhow::Result<()> {
    let mut sums = Sums::default();
    let strays = gathered.strays > 0;
    let known: BTreeSet<BucketId> = rebuilt.buckets().map(|(bucket, _)| bucket).collect();
    let mut of_deleted = 0;
    for ((bucket, key), pieces) in gathered.keys {
        if !known.contains(&bucket) {
            of_deleted += 1;
            continue;
        }
        let around = Around {
            keeps_versions: rebuilt.keeps_versions(bucket),
            strays,
            newest_uploads,
        };
        let objects = rebuild::compose(node, (bucket, &key), (pieces, around), &mut sums).await?;
        for object in objects {
            let visible = object.visible;
            let remains = Remains {
                bucket,
                key: object.key,
                blob: object.blob,
                time: object.time,
                chunks: object.chunks,
                parts: object.parts,
                etag_md5: object.etag_md5,
            };
            rebuilt.object(remains, visible);
        }
    }
    tell(&sums);
    if of_deleted > 0 {
        say(&format!(
            "{of_deleted} keys of buckets that are not in the directory any more are not named again"
        ));
    }
    Ok(())
}

fn tell_damage(gathered: &Gathered) {
    say(&format!(
        "{} needles read, {} damaged",
        gathered.needles, gathered.damaged.count
    ));
    lines("DAMAGE", &gathered.damaged);
    if gathered.strays > 0 {
        say(&format!(
            "Of {} places it is not known whose needles stood there: objects of parts that have a gap in their numbers are not named; one whose last part stood there is shorter than it was, and a key whose newest object stood there names an older one",
            gathered.strays
        ));
    }
}

fn tell(sums: &Sums) {
    say(&format!(
        "{} objects ({} bytes) and {} older versions are named again",
        sums.objects, sums.bytes, sums.versions
    ));
    lines("INCOMPLETE", &sums.incomplete);
    lines("GUESSED", &sums.guessed);
    say("What could not be known:");
    say("- objects of up to 512 bytes, and empty ones: their bytes were in the index. They are gone");
    say("- deletes and overwrites whose bytes are still there: what was deleted may be back");
    say(
        "- content types and other headers, metadata, tags, checksums: objects have none; ETags are computed, dates are those of the writing",
    );
    say(&format!(
        "- of {} objects sent in parts: whether their upload was completed, and with which parts. All parts that are there were taken",
        sums.of_uploads
    ));
    say(&format!(
        "- of {} objects that were appended to: whether each append was answered",
        sums.appended
    ));
    say(&format!(
        "- of {} older objects of these keys: whether they are versions. Where versioning is not known to be enabled they are not named, and kept as long as reclaim is held",
        sums.older
    ));
    say("- delete markers, which version was the null version, uploads under way");
}

fn lines(what: &str, lines: &Lines) {
    for line in &lines.first {
        say(&format!("{what} {line}"));
    }
    let more = lines.count - lines.first.len() as u64;
    if more > 0 {
        say(&format!("{what} and {more} more"));
    }
}

#[allow(clippy::print_stdout, reason = "this command's answer")]
fn say(line: &str) {
    println!("{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_given_once_and_to_one_bucket() {
        let given = |all: &[&str]| names(&all.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(given(&["a=first", "b=second"]).unwrap().len(), 2);
        for wrong in [
            &["a=same", "b=same"][..],
            &["a=one", "a=two"],
            &["x=one"],
            &["a=O"],
        ] {
            assert!(given(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_name_that_is_made_is_no_other_buckets() {
        let (one, other) = (BucketId(1 << 48 | 1), BucketId(1 << 48 | 2));
        let mut rebuilt = Rebuilt::default();
        let none = Names::new();
        assert_eq!(unused_name(&rebuilt, &none, one), "bucket-0001000000000001");
        rebuilt.name_bucket(other, "bucket-0001000000000001", "us-east-1", 5);
        assert_eq!(unused_name(&rebuilt, &none, one), "bucket-0001000000000001-2");
        let given = Names::from([(BucketId(9), "bucket-0001000000000001-2".to_owned())]);
        assert_eq!(unused_name(&rebuilt, &given, one), "bucket-0001000000000001-3");
    }
}
