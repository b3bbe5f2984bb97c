//! Uploads that nobody works on: how it is made sure, and their end.
//!
//! ```text
//!   old by the wall clock ─▶ watched ── still old an hour of monotonic time later, clocks in step ─▶ aborted, if the commit finds it old
//!        ▲                     │ a part or completion came, or is under way; the wall clock was set
//!        └─────────────────────┘
//! ```
//! What an upload's rows say of its age is of the wall clock: one that is put right by years makes every upload in progress old. So a
//! process believes it only of what it saw to be old for a while, in which the wall clock went on as the monotonic one did, and in
//! which nobody came to work on it. What comes between that and the commit the commit itself sees.

use crate::gc::run::{End, Gc};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use types::limits::IDLE_UPLOADS_WATCHED_MAX;
use types::{ErrorKind, UploadId};
use wire::index::Command;

/// How much the wall clock may go ahead of the monotonic one, or behind, without having been set.
const CLOCK_STEP_MS_MAX: u64 = 60_000;

/// Uploads that were old when they were looked at last.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// Since when (of monotonic time).
    since: BTreeMap<UploadId, Duration>,
    /// Those of this look.
    seen: BTreeSet<UploadId>,
    /// Wall time less monotonic time.
    apart_ms: Option<i128>,
}

impl Watch {
    /// A look begins. After a clock was set nothing is known.
    pub(crate) fn begin(&mut self, wall_ms: u64, mono: Duration) {
        let apart_ms = i128::from(wall_ms) - i128::try_from(mono.as_millis()).unwrap_or(i128::MAX);
        let stepped = |was: i128| was.abs_diff(apart_ms) > u128::from(CLOCK_STEP_MS_MAX);
        if self.apart_ms.is_some_and(stepped) {
            self.since.clear();
            self.apart_ms = None;
        }
        self.apart_ms.get_or_insert(apart_ms);
        self.seen.clear();
    }

    /// An upload is old; whether it has been for `long`.
    pub(crate) fn saw(&mut self, upload: UploadId, mono: Duration, long: Duration) -> bool {
        if self.since.len() >= IDLE_UPLOADS_WATCHED_MAX && !self.since.contains_key(&upload) {
            // Its turn comes once others are gone.
            return false;
        }
        self.seen.insert(upload);
        let since = *self.since.entry(upload).or_insert(mono);
        mono.saturating_sub(since) >= long
    }

    /// A look has ended that saw all of them: the others are not old, or not any more.
    pub(crate) fn end(&mut self) {
        self.since.retain(|upload, _| self.seen.contains(upload));
    }
}

impl Gc {
    /// Aborts uploads that nobody has worked on for long.
    pub(crate) async fn abort_uploads(&mut self) -> Result<(), End> {
        let Some(abandoned) = self.settings.uploads_abandoned else {
            return Ok(());
        };
        let age_ms = u64::try_from(abandoned.as_millis()).unwrap_or(u64::MAX);
        let (wall_ms, mono) = (self.world.clock.wall_ms(), self.world.clock.mono());
        let before_ms = wall_ms.saturating_sub(age_ms);
        self.idle_uploads.begin(wall_ms, mono);
        let mut cursor = Bytes::new();
        loop {
            let begun = self.world.clock.mono();
            let index = self.roles.index.clone();
            let (page, next) = self
                .call("uploads_idle", index.uploads_idle(cursor, before_ms))
                .await?;
            let under_way: BTreeSet<UploadId> = self
                .roles
                .gateways
                .iter()
                .flat_map(|gateway| gateway.uploads_under_way())
                .collect();
            for idle in page {
                let watched = self.settings.uploads_watched;
                if under_way.contains(&idle.upload) || !self.idle_uploads.saw(idle.upload, mono, watched) {
                    continue;
                }
                let (bucket, key, upload) = (idle.bucket, idle.key.clone(), idle.upload);
                let abort = Command::AbortIdleUpload {
                    bucket: idle.bucket,
                    key: idle.key,
                    upload: idle.upload,
                    before_ms,
                };
                match self.commands.send(abort).await {
                    Ok(_) => {
                        self.tally.aborted += 1;
                        tracing::info!(%bucket, key = key.as_str(), %upload, "upload abandoned: aborted");
                    }
                    // Ended by its client meanwhile, or gone on with.
                    Err(fault) if fault.kind == ErrorKind::Conflict => {}
                    Err(fault) => return Err(fault.into()),
                }
            }
            if next.is_empty() {
                self.idle_uploads.end();
                return Ok(());
            }
            cursor = next;
            self.rest(begun).await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const UPLOAD: UploadId = UploadId(7);

    /// Looks at a moment; whether the upload, which is old in it, is to go.
    fn look(watch: &mut Watch, wall_ms: u64, mono: Duration, old: bool) -> bool {
        watch.begin(wall_ms, mono);
        let goes = old && watch.saw(UPLOAD, mono, HOUR);
        watch.end();
        goes
    }

    #[test]
    fn an_upload_goes_once_it_was_seen_to_be_idle_for_long() {
        let mut watch = Watch::default();
        let hour_ms = 3_600_000;
        assert!(
            !look(&mut watch, 0, Duration::ZERO, true),
            "whatever its rows say"
        );
        assert!(!look(&mut watch, hour_ms / 2, HOUR / 2, true));
        assert!(look(&mut watch, hour_ms, HOUR, true));
        assert!(look(&mut watch, hour_ms, HOUR, true), "it was not aborted then");
        assert!(!look(&mut watch, hour_ms, HOUR, false));
        assert!(!look(&mut watch, 2 * hour_ms, 2 * HOUR, true), "somebody came");
    }

    #[test]
    fn a_clock_that_is_set_makes_nobody_idle() {
        let week_ms = 7 * 24 * 3_600_000;
        for stepped_ms in [week_ms, CLOCK_STEP_MS_MAX + 1] {
            let mut watch = Watch::default();
            assert!(!look(&mut watch, week_ms, Duration::ZERO, true));
            assert!(
                !look(&mut watch, week_ms + 3_600_000 + stepped_ms, HOUR, true),
                "ahead"
            );
            assert!(look(
                &mut watch,
                week_ms + 2 * 3_600_000 + stepped_ms,
                2 * HOUR,
                true
            ));
            assert!(!look(&mut watch, week_ms, 3 * HOUR, true), "and back");
        }
    }

    #[test]
    fn no_more_are_watched_than_there_is_room_for() {
        let mut watch = Watch::default();
        let all = 0..2 * IDLE_UPLOADS_WATCHED_MAX as u128;
        for mono in [Duration::ZERO, HOUR] {
            watch.begin(mono.as_millis() as u64, mono);
            let old = all
                .clone()
                .filter(|n| watch.saw(UploadId(*n), mono, HOUR))
                .count();
            watch.end();
            assert_eq!(watch.since.len(), IDLE_UPLOADS_WATCHED_MAX);
            assert_eq!(old, if mono == HOUR { IDLE_UPLOADS_WATCHED_MAX } else { 0 });
        }
    }
}
