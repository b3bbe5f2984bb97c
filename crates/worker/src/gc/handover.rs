//! Runs what `garbage.rs` plans: bookings read, readers asked for, needles handed to the control plane, rows forgotten.

use crate::gc::garbage::{Handing, Pass, Ripeness};
use crate::gc::metrics;
use crate::gc::plan;
use crate::gc::run::{End, Gc};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::time::Duration;
use types::limits::{DROP_NEEDLES_MAX, FORGET_ROWS_MAX, GC_PAGE_ROWS};
use types::{BlobId, ErrorKind, ExtentId};
use wire::control;
use wire::index::{BookedRef, Command};
use world::plant::{Plant, is_planted};

/// How often it is asked whether readers are gone.
const READERS_POLL_MS: u64 = 10;
/// Bookings remembered that broke off; past that they are begun again in the next pass.
const BOOKINGS_RESTING_MAX: usize = 4096;

impl Gc {
    /// Every booking that may go, handed over and forgotten; when the oldest was made that stays.
    pub(crate) async fn collect_garbage(&mut self) -> Result<Option<u64>, End> {
        let (begun, mut cursor) = (self.world.clock.mono(), Bytes::new());
        let mut pass = Pass::without(self.lists_resting.now(begun).collect());
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
                    // One that broke off is as if somebody read it still.
                    let read = read
                        .iter()
                        .copied()
                        .chain(self.bookings_resting.now(begun))
                        .collect();
                    ripeness.read = &read;
                    let mut handing = pass.hand_over(page, &ripeness);
                    self.drop_readable(&mut handing, &mut pass).await?;
                    if next.is_empty() {
                        pass.end();
                    }
                    for blob in std::mem::take(&mut pass.broken_off) {
                        self.let_be(blob, begun);
                    }
                    for rows in handing.rows().chunks(FORGET_ROWS_MAX) {
                        self.forget(rows, begun).await?;
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

    /// Hands needles over, but those of bookings with one in an extent whose dropped list cannot be read.
    async fn drop_readable(&mut self, handing: &mut Handing, pass: &mut Pass) -> Result<(), End> {
        loop {
            let needles = handing.needles();
            let fault = match self.drop_needles(&needles).await {
                Err(End::Failed(fault)) if fault.kind == ErrorKind::Corrupt => fault,
                other => return other,
            };
            let extents: BTreeSet<ExtentId> = needles.iter().map(|d| d.extent).collect();
            let known = pass.unreadable.len();
            for extent in extents {
                let control = self.roles.control.clone();
                match self.call("dropped", control.dropped(extent)).await {
                    Err(End::Failed(fault)) if fault.kind == ErrorKind::Corrupt => {
                        let now = self.world.clock.mono();
                        self.lists_resting
                            .failed(extent, fault.kind, now, self.settings.look);
                        pass.unreadable.insert(extent);
                        self.failed("the list of needles that may go", &fault);
                    }
                    other => drop(other?),
                }
            }
            if pass.unreadable.len() == known {
                return Err(fault.into());
            }
            pass.keep_back(handing);
        }
    }

    /// Forgets bookings that were handed over; one that cannot be read keeps no other.
    async fn forget(&mut self, rows: &[BookedRef], now: Duration) -> Result<(), End> {
        let all = Command::ForgetGarbage { rows: rows.to_vec() };
        match self.commands.send(all).await {
            Err(fault) if fault.kind == ErrorKind::Corrupt => {}
            Err(fault) => return Err(fault.into()),
            Ok(_) => return Ok(()),
        }
        for row in rows {
            let one = Command::ForgetGarbage {
                rows: vec![row.clone()],
            };
            match self.commands.send(one).await {
                Err(fault) if fault.kind == ErrorKind::Corrupt => {
                    self.failed("forgetting a booking", &fault);
                    self.let_be(row.blob, now);
                }
                Err(fault) => return Err(fault.into()),
                Ok(_) => {}
            }
        }
        Ok(())
    }

    /// What was handed over of a booking without its end is not handed over again soon.
    fn let_be(&mut self, blob: BlobId, now: Duration) {
        tracing::warn!(%blob, "a booking stays: a part of its list cannot be handed over");
        self.bookings_resting.forget_rested(now);
        if self.bookings_resting.count() < BOOKINGS_RESTING_MAX {
            self.bookings_resting
                .failed(blob, ErrorKind::Corrupt, now, self.settings.look);
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
