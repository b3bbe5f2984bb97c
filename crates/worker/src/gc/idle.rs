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
use std::sync::Arc;
use std::time::Duration;
use types::limits::IDLE_UPLOADS_WATCHED_MAX;
use types::{ErrorKind, UploadId};
use wire::gateway::Gateway;
use wire::index::Command;

/// Uploads that were old when they were looked at last.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// Since when (of monotonic time).
    since: BTreeMap<UploadId, Duration>,
    /// Those of this look.
    seen: BTreeSet<UploadId>,
}

impl Watch {
    /// A look begins.
    pub(crate) fn begin(&mut self) {
        self.seen.clear();
    }

    /// An upload is old; whether it has been for `long` with the clocks in step, which they are since `in_step`.
    pub(crate) fn saw(
        &mut self,
        upload: UploadId,
        mono: Duration,
        in_step: Duration,
        long: Duration,
    ) -> bool {
        if self.since.len() >= IDLE_UPLOADS_WATCHED_MAX && !self.since.contains_key(&upload) {
            // Its turn comes once others are gone.
            return false;
        }
        self.seen.insert(upload);
        let since = *self.since.entry(upload).or_insert(mono);
        mono.saturating_sub(since.max(in_step)) >= long
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
        let Some(in_step) = self.clocks.in_step_since() else {
            return Ok(());
        };
        self.idle_uploads.begin();
        let mut cursor = Bytes::new();
        loop {
            let begun = self.world.clock.mono();
            let index = self.roles.index.clone();
            let (page, next) = self
                .call("uploads_idle", index.uploads_idle(cursor, before_ms))
                .await?;
            for idle in page {
                let watched = self.settings.uploads_watched;
                // Asked for each: an abort is a commit, and whoever comes back while the others before it are made is not to lose a part.
                let under_way = |g: &Arc<dyn Gateway>| g.uploads_under_way().contains(&idle.upload);
                if self.roles.gateways.iter().any(under_way)
                    || !self.idle_uploads.saw(idle.upload, mono, in_step, watched)
                {
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
                    // Its rows cannot be read: it stays, and keeps no other.
                    Err(fault) if fault.kind == ErrorKind::Corrupt => self.failed("an idle upload", &fault),
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
    fn look(watch: &mut Watch, mono: Duration, in_step: Duration, old: bool) -> bool {
        watch.begin();
        let goes = old && watch.saw(UPLOAD, mono, in_step, HOUR);
        watch.end();
        goes
    }

    #[test]
    fn an_upload_goes_once_it_was_seen_to_be_idle_for_long() {
        let mut watch = Watch::default();
        let mut look = |mono, old| look(&mut watch, mono, Duration::ZERO, old);
        assert!(!look(Duration::ZERO, true), "whatever its rows say");
        assert!(!look(HOUR / 2, true));
        assert!(look(HOUR, true));
        assert!(look(HOUR, true), "it was not aborted then");
        assert!(!look(HOUR, false));
        assert!(!look(2 * HOUR, true), "somebody came");
    }

    #[test]
    fn a_clock_that_is_set_makes_nobody_idle() {
        let mut watch = Watch::default();
        assert!(!look(&mut watch, Duration::ZERO, Duration::ZERO, true));
        assert!(!look(&mut watch, HOUR, HOUR / 2, true), "it was set since");
        assert!(look(&mut watch, HOUR * 3 / 2, HOUR / 2, true));
    }

    #[test]
    fn no_more_are_watched_than_there_is_room_for() {
        let mut watch = Watch::default();
        let all = 0..2 * IDLE_UPLOADS_WATCHED_MAX as u128;
        for mono in [Duration::ZERO, HOUR] {
            watch.begin();
            let old = |n: &u128| watch.saw(UploadId(*n), mono, Duration::ZERO, HOUR);
            let old = all.clone().filter(old).count();
            watch.end();
            assert_eq!(watch.since.len(), IDLE_UPLOADS_WATCHED_MAX);
            assert_eq!(old, if mono == HOUR { IDLE_UPLOADS_WATCHED_MAX } else { 0 });
        }
    }
}
