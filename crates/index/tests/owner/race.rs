//! Deleters, creators and writers of one bucket at once, by the protocol that objects follows; some stop half way.
//! No write that was answered may be in a bucket that is gone, and no bucket may go that no deleter asked for.

use crate::gateway::{Gateway, bucket_name, key, record};
use crate::runtime;
use crate::slow::Slow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use types::{AccountId, BucketId};
use wire::index::{Command, Index, Precondition, Reason, StoredData, VersionRef};
use wire::records::{BucketAnswer, BucketCopy, BucketRecord, answer::Kind};
use world::plant::{Plant, plant_thread};

const NAME: &str = "bucket";

#[derive(Default)]
struct Known {
    /// Keys that were put and not deleted since, by bucket.
    there: BTreeMap<u64, BTreeSet<String>>,
    gone: BTreeSet<u64>,
    /// Deletions of each bucket that a deleter asked for and that were not given up with its knowledge.
    asked: BTreeMap<u64, u64>,
    puts: u64,
    reopened: u64,
    taken_over: u64,
    settled: u64,
}

struct Actor {
    g: Arc<Gateway>,
    slow: Arc<Slow>,
    known: Arc<Mutex<Known>>,
}

impl Actor {
    /// A step's answer; `None` when this actor stops half way instead.
    async fn step(&self, command: Command) -> Option<Result<Kind, Reason>> {
        // Now and then a step takes so long that others come by and think that it will never come.
        for _ in 0..if self.slow.roll(4) == 0 { 12 } else { 1 } {
            self.slow.pause().await;
        }
        if self.slow.roll(20) == 0 {
            return None;
        }
        Some(self.g.call(command).await)
    }

    async fn open(&self, b: &BucketRecord) -> Option<()> {
        let copy = BucketCopy {
            turn: b.turn,
            configuration: b.configuration,
            ..BucketCopy::default()
        };
        let bucket = BucketId(b.bucket);
        self.step(Command::OpenBucket { bucket, copy })
            .await?
            .ok()
            .map(drop)
    }

    async fn create(&self) -> Option<()> {
        let (name, owner, region) = (bucket_name(NAME), AccountId::ROOT, String::new());
        let create = Command::CreateBucket {
            name: name.clone(),
            owner,
            region,
            settings: Vec::new(),
        };
        let b = bucket_of(self.step(create).await?.ok()?)?;
        if b.state == 1 {
            self.open(&b).await?;
            let (bucket, turn) = (BucketId(b.bucket), b.turn);
            self.step(Command::BucketOpened { name, bucket, turn })
                .await?
                .ok()?;
        }
        Some(())
    }

    /// Removes the bucket, or, as who `settles`, only finishes a removal that is under way.
    async fn delete(&self, settles: bool) -> Option<()> {
        let name = bucket_name(NAME);
        let seen = self.g.index.bucket(&name).await.unwrap().ok()?;
        if settles && seen.state != 3 {
            return None;
        }
        let ask = |by: i64| {
            let asked = &mut self.known.lock().unwrap().asked;
            let asked = asked.entry(seen.bucket).or_default();
            *asked = asked.saturating_add_signed(if settles { 0 } else { by });
        };
        ask(1);
        let begin = Command::BeginDeleteBucket {
            name: name.clone(),
            bucket: BucketId(seen.bucket),
            turn: seen.turn,
            stale: seen.state == 3,
        };
        let begun = self.step(begin).await;
        let Some(Ok(begun)) = begun else {
            ask(-1);
            return begun.map(drop);
        };
        let b = bucket_of(begun)?;
        let (bucket, turn) = (BucketId(b.bucket), b.turn);
        let closed = match self.step(Command::CloseBucket { bucket, turn }).await? {
            Ok(Kind::Close(c)) => c.empty,
            Ok(other) => panic!("{other:?}"),
            Err(_) => {
                self.known.lock().unwrap().taken_over += 1;
                return None;
            }
        };
        if !closed {
            self.open(&b).await?;
            self.step(Command::CancelDeleteBucket { name, bucket, turn })
                .await?
                .ok()?;
            ask(-1);
            self.known.lock().unwrap().reopened += 1;
            return Some(());
        }
        self.step(Command::FinishDeleteBucket { name, bucket, turn })
            .await?
            .ok()?;
        let mut known = self.known.lock().unwrap();
        let left = known.there.get(&b.bucket).cloned().unwrap_or_default();
        assert!(left.is_empty(), "bucket {} went with {left:?}", b.bucket);
        let asked = known.asked.get(&b.bucket).copied().unwrap_or(0);
        assert!(asked > 0, "bucket {} went unasked", b.bucket);
        known.settled += u64::from(settles);
        known.gone.insert(b.bucket);
        Some(())
    }

    async fn write(&self, k: &str) -> Option<()> {
        let row = self.g.index.bucket(&bucket_name(NAME)).await.unwrap().ok()?;
        let bucket = BucketId(row.bucket);
        let precondition = Precondition::default();
        let put = Command::Put {
            bucket,
            key: key(k),
            record: record(1),
            data: StoredData::Empty,
            precondition: precondition.clone(),
        };
        // From the moment it may take effect until its answer its fate is open: only what is answered counts.
        self.g.call(put).await.ok()?;
        {
            let mut known = self.known.lock().unwrap();
            assert!(
                !known.gone.contains(&row.bucket),
                "a put into a bucket that is gone"
            );
            known.there.entry(row.bucket).or_default().insert(k.to_owned());
            known.puts += 1;
        }
        self.slow.pause().await;
        // It may go at any time from here on.
        self.known
            .lock()
            .unwrap()
            .there
            .entry(row.bucket)
            .or_default()
            .remove(k);
        let delete = Command::Delete {
            bucket,
            key: key(k),
            version: VersionRef::Current,
            precondition,
        };
        self.g.call(delete).await.unwrap();
        Some(())
    }
}

fn bucket_of(kind: Kind) -> Option<BucketRecord> {
    match kind {
        Kind::Bucket(BucketAnswer { bucket, .. }) => bucket,
        other => panic!("{other:?}"),
    }
}

async fn race(seed: u64) -> Known {
    let slow = Slow::new(seed);
    let g = Arc::new(Gateway::over(slow.clone(), 1).await);
    let known = Arc::new(Mutex::new(Known::default()));
    let tasks: Vec<_> = (0..8)
        .map(|which| {
            let actor = Actor {
                g: g.clone(),
                slow: slow.clone(),
                known: known.clone(),
            };
            tokio::spawn(async move {
                for _ in 0..16 {
                    let _stopped_half_way = match which {
                        0 | 1 => actor.delete(false).await,
                        2 | 3 => actor.create().await,
                        4 => actor.delete(true).await,
                        _ => actor.write(&format!("k{which}")).await,
                    };
                    actor.slow.pause().await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let gone = known.lock().unwrap().gone.clone();
    for bucket in gone {
        assert_eq!(g.list(BucketId(bucket), ("", "", "", 9)).await.0, [] as [&str; 0]);
    }
    std::mem::take(&mut *known.lock().unwrap())
}

#[test]
fn no_answered_write_goes_with_its_bucket() {
    let (mut gone, mut puts, mut reopened, mut taken_over, mut settled) = (0, 0, 0, 0, 0);
    for seed in 0..600 {
        let known = runtime().block_on(race(seed));
        gone += known.gone.len();
        puts += known.puts;
        reopened += known.reopened;
        taken_over += known.taken_over;
        settled += known.settled;
    }
    assert!(
        gone > 50 && puts > 500 && reopened > 20 && taken_over > 20 && settled > 20,
        "{gone} {puts} {reopened} {taken_over} {settled}"
    );
}

#[test]
fn a_second_deleter_that_finishes_anyway_is_caught() {
    let is_caught = |seed| {
        let run = std::panic::catch_unwind(|| {
            plant_thread(Some(Plant::SecondDeleter));
            runtime().block_on(race(seed));
        });
        plant_thread(None);
        run.is_err()
    };
    assert!((0..400).any(is_caught));
}
