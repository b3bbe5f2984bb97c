//! Runs what `garbage.rs` plans: bookings read, readers asked for, needles handed to the control plane, rows forgotten.

use crate::gc::garbage::{Pass, Ripeness};
use crate::gc::metrics;
use crate::gc::plan;
use crate::gc::run::{End, Gc};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::time::Duration;
use types::BlobId;
use types::limits::{DROP_NEEDLES_MAX, FORGET_ROWS_MAX, GC_PAGE_ROWS};
use wire::control;
use wire::index::Command;
use world::plant::{Plant, is_planted};

/// How often it is asked whether readers are gone.
const READERS_POLL_MS: u64 = 10;

impl Gc {
    /// Every booking that may go, handed over and forgotten; when the oldest was made that stays.
    pub(crate) async fn collect_garbage(&mut self) -> Result<Option<u64>, End> {
        let (mut pass, mut cursor) = (Pass::default(), Bytes::new());
        let control = self.roles.control.clone();
        let uses = self.call("uses", control.uses()).await?;
        let none = BTreeSet::new();
        loop {
            let begun = self.world.clock.mono();
            let index = self.roles.index.clone();
            let (page, next) = self.call("garbage", index.garbage(cursor, GC_PAGE_ROWS)).await?;
            self.tally.rows += page.len() as u64;
            let levels = plan::extent_levels(&uses, &self.levels);
            let mut ripeness = Ripeness {
                now_ms: self.world.clock.wall_ms(),
                grace: self.settings.grace,
                levels: &levels,
                read: &none,
            };
            // Where nothing is ripe nobody is asked for: readers may take their time to say what they read.
            let read = match pass.wants(&page, &ripeness) {
                true => self.readers().await?,
                false => None,
            };
            match &read {
                None => pass.leave(&page),
                Some(read) => {
                    ripeness.read = read;
                    let handing = pass.hand_over(page, &ripeness);
                    self.drop_needles(&handing.needles).await?;
                    for rows in handing.rows.chunks(FORGET_ROWS_MAX) {
                        let forget = Command::ForgetGarbage { rows: rows.to_vec() };
                        self.commands.send(forget).await?;
                    }
                }
            }
            if next.is_empty() {
                metrics::waiting_bookings(pass.stayed);
                return Ok(pass.oldest_ms);
            }
            cursor = next;
            self.rest(begun).await?;
        }
    }

    /// The blobs that readers who began before now are on; `None` when some have not said after a while.
    async fn readers(&self) -> Result<Option<BTreeSet<BlobId>>, End> {
        let mut on = BTreeSet::new();
        if is_planted(Plant::DropUnderReader) {
            return Ok(Some(on));
        }
        let begun = self.world.clock.mono();
        for gateway in &self.roles.gateways {
            let mark = gateway.readers_mark();
            loop {
                let readers = gateway.readers_below(mark);
                if readers.anywhere == 0 {
                    on.extend(readers.on);
                    break;
                }
                if self.world.clock.mono().saturating_sub(begun) >= self.settings.readers_wait {
                    return Ok(None);
                }
                self.sleep(Duration::from_millis(READERS_POLL_MS)).await?;
            }
        }
        Ok(Some(on))
    }

    /// Books needles with the control plane as such that may go.
    pub(crate) async fn drop_needles(&mut self, needles: &[control::Dropped]) -> Result<(), End> {
        let control = self.roles.control.clone();
        for some in needles.chunks(DROP_NEEDLES_MAX) {
            self.call("drop_needles", control.drop_needles(some)).await?;
            self.tally.needles += some.len() as u64;
            self.tally.dropped_bytes += some.iter().map(|d| d.stored_length).sum::<u64>();
        }
        Ok(())
    }
}
