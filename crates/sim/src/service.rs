//! Service at a life's end: nobody is there any more, the disk has room, and a large put and a get of it are answered at every gateway. What
//! was taken and never given back, an extent or a lock, is missing here, where "busy" has nobody to be busy with.

use crate::client::{Client, Pace};
use crate::life::Stage;
use crate::op::{Condition, Op, Outcome, Spoil};
use std::fmt;
use std::time::Duration;
use types::ErrorKind;
use types::limits::BLOCK_BYTES;
use world::Clock as _;

const PACE: Pace = Pace {
    piece_bytes: usize::MAX,
    pause_ms: 0,
};
/// Times that each is tried: answers get lost, and room is looked for now and then only.
const TRIES_MAX: usize = 60;
const AGAIN: Duration = Duration::from_millis(500);
/// What is put: more than goes through the journal, so that an extent is taken for it alone.
const PUT_BYTES: u64 = 3 * BLOCK_BYTES as u64;

/// What was not answered, and what was told instead, time and again.
#[derive(Debug)]
pub struct Missed {
    gateway: usize,
    what: &'static str,
    seen: Outcome,
}

impl Missed {
    /// Whether it was told to come again.
    pub fn is_busy(&self) -> bool {
        self.seen == Outcome::Failed(ErrorKind::Busy)
    }
}

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { gateway, what, seen } = self;
        write!(
            f,
            "I9: gateway {gateway} answers no {what} with nobody else there: {seen:?}"
        )
    }
}

/// Puts and gets at each gateway.
///
/// # Errors
/// One that is not answered.
pub async fn comes_back(stage: &Stage, gateways: &[Client]) -> Result<(), Missed> {
    stage.disk.set_capacity(stage.shape.disk_bytes);
    let (bucket, key) = (0, 0);
    let put = Op::Put {
        bucket,
        key,
        size: PUT_BYTES,
        condition: Condition::Always,
        spoil: Spoil::Whole,
        of: None,
    };
    let get = Op::Get {
        bucket,
        key,
        range: None,
    };
    for (gateway, client) in gateways.iter().enumerate() {
        for op in [Op::CreateBucket { bucket }, put.clone(), get.clone()] {
            let what = op.name();
            let missed = |seen| Missed { gateway, what, seen };
            answered(stage, client, op).await.map_err(missed)?;
        }
    }
    stage.recorder.count("service.came_back");
    Ok(())
}

/// Tries until it is answered, and in the end says with what it was not.
async fn answered(stage: &Stage, client: &Client, op: Op) -> Result<(), Outcome> {
    let mut seen = Outcome::Unknown;
    for _ in 0..TRIES_MAX {
        let unreadable = stage.recorder.get().unreadable.len();
        seen = stage.one(client, op.clone(), PACE, None).await;
        if matches!(seen, Outcome::Answered(_)) && stage.recorder.get().unreadable.len() == unreadable {
            return Ok(());
        }
        stage.clock.sleep(AGAIN).await;
    }
    Err(seen)
}
