//! A life on a disk that is all but full: writes are refused, reads and deletes go on, and once clients have deleted what they had,
//! there is service again without anybody's doing.

use crate::client::{Client, Pace};
use crate::life::Stage;
use crate::op::{BUCKETS, Condition, KEYS, Op, Outcome, Spoil, UPLOADS};
use std::time::Duration;
use types::ErrorKind;
use world::Clock as _;

const PACE: Pace = Pace {
    piece_bytes: usize::MAX,
    pause_ms: 0,
};
/// Rounds of deletes, each of which may lose its answers.
const ROUNDS_MAX: usize = 20;
/// Times that a put is tried, and how long after each other.
const PUTS_MAX: usize = 60;
const PUT_AGAIN: Duration = Duration::from_millis(500);
/// What is put: more than fits a record.
const PUT_BYTES: u64 = 20_000;

/// Deletes everything, and waits until something is taken again.
///
/// # Errors
/// Nothing is, although nothing is left.
pub async fn served_again(stage: &Stage, client: &Client) -> Result<(), String> {
    if !emptied(stage, client).await {
        stage.recorder.count("full.not_emptied");
        return Ok(());
    }
    let put = Op::Put {
        bucket: 0,
        key: 0,
        size: PUT_BYTES,
        condition: Condition::Always,
        spoil: Spoil::Whole,
        of: None,
    };
    let mut seen = Outcome::Unknown;
    for turn in 0..PUTS_MAX {
        seen = stage
            .one(client, Op::CreateBucket { bucket: 0 }, PACE, None)
            .await;
        if matches!(seen, Outcome::Answered(_)) {
            seen = stage.one(client, put.clone(), PACE, None).await;
        }
        match &seen {
            Outcome::Answered(_) => {
                stage.recorder.count("full.served_again");
                stage
                    .recorder
                    .get()
                    .counts
                    .add("full.waited", u64::from(turn > 0));
                return Ok(());
            }
            Outcome::Failed(ErrorKind::Full) => stage.recorder.count("full.refused"),
            _ => {}
        }
        if stage.disk.is_off() {
            return Ok(());
        }
        stage.clock.sleep(PUT_AGAIN).await;
    }
    // The index may have grown into it: that is nobody's garbage.
    let others = stage.disk.used() - stage.disk.used_under("extents/");
    if stage.disk.capacity() < others + stage.shape.kept_back_bytes() {
        stage.recorder.count("full.of_index");
        return Ok(());
    }
    Err(format!(
        "the disk has no room although everything was deleted: {seen:?}, {} bytes of {} are used",
        stage.disk.used(),
        stage.disk.capacity()
    ))
}

/// Whether everything is deleted, and known to be.
async fn emptied(stage: &Stage, client: &Client) -> bool {
    for _ in 0..ROUNDS_MAX {
        let mut known = true;
        let keys = (0..BUCKETS).flat_map(|bucket| (0..KEYS.len()).map(move |key| (bucket, key)));
        let deletes = keys.map(|(bucket, key)| Op::Delete {
            bucket,
            key,
            condition: Condition::Always,
        });
        let aborts: Vec<Op> = (0..UPLOADS)
            .filter(|upload| stage.recorder.get().uploads[*upload].is_some())
            .filter_map(|upload| {
                let (bucket, key) = stage.recorder.get().book.home(upload)?;
                Some(Op::AbortUpload { bucket, key, upload })
            })
            .collect();
        for op in deletes.chain(aborts) {
            let outcome = stage.one(client, op, PACE, None).await;
            known &= matches!(outcome, Outcome::Answered(_) | Outcome::Refused(_));
        }
        if known {
            return true;
        }
    }
    false
}
