//! What becomes of extents that hold garbage: needles that may go, generations, and the end of an extent.
//!
//! ```text
//!   dropped pages ──decide──▶ dropping pages, extent row: deciding(g) ──done──▶ extent row: generation g, pages gone
//!   extent row: sealed ──gone──▶ gone (told to nobody; its file may be there) ──forget──▶ no row, no copies, no pages
//! ```
//! A decision is one commit: its pages and the extent's row. Until it is done it is read again from those pages, so however often it is
//! asked for and by whom, a generation is one exact list (I4). One that no node has made yet may be followed by another under a higher
//! number, which drops all that it does and more: a copy that has made the first comes to the same as one that skipped it. Else a full
//! disk could keep an extent for ever whose decision leaves more than there is room for, though nothing in it is alive by now.
//!
//! Only a sealed extent gets one, and a sealed extent is granted to nobody again, so no needle comes to it behind a decision's back.

use crate::load::from_store;
use crate::page::{self, Page};
use crate::plane::{ControlPlane, Outcome, Owner, replicas};
use crate::rows::{Change, GONE, OPEN, Pages, Rows, SEALED, SEALING, disks_of, hex};
use crate::{decide, hold};
use bytes::Bytes;
use prost::Message;
use std::collections::BTreeMap;
use store::{Scan, Snapshot};
use types::limits::{DROP_NEEDLES_MAX, DROPPED_PAGES_MAX, GENERATION_NEEDLES_MAX, SCAN_ROWS_MAX};
use types::{Epoch, ErrorKind, ExtentId, Generation, NeedleId, PartitionId};
use wire::Fault;
use wire::control::{Decision, Dropped, ExtentUse, Hold, Holding, Reclaim, Stage};
use wire::node::ExtentStatus;
use wire::records::{DroppedPage, ExtentRecord};
use world::plant::{Plant, is_planted};

/// Needles of one page to book: where on it, and what each takes of the extent.
type Wanted = BTreeMap<(ExtentId, u64), Vec<(u64, u64)>>;

fn conflict(what: String) -> Fault {
    Fault::new(ErrorKind::Conflict, what)
}

impl ControlPlane {
    /// Refuses while reclaim is held.
    fn check_unheld(&self, rows: &Rows) -> Result<(), Fault> {
        match hold::all(rows, &self.holdings).first() {
            Some(_) if is_planted(Plant::ReclaimWhileHeld) => Ok(()),
            Some(Hold { by, why, .. }) => Err(conflict(format!("reclaim is held by {by}: {why}"))),
            None => Ok(()),
        }
    }

    async fn pages(&self) -> Result<std::sync::Arc<dyn Snapshot>, Fault> {
        let snapshot = self.store().snapshot(PartitionId::CONTROL).await;
        snapshot.map_err(|e| from_store(&e))
    }

    /// Books needles of up to `DROPPED_PAGES_MAX` pages in one commit.
    async fn book(&self, wanted: &Wanted) -> Result<(), Fault> {
        let mut turn = self.turn().await;
        loop {
            let owner = turn.ready().await?;
            self.check_unheld(&owner.rows)?;
            let changes = self.booked(&owner.rows, wanted).await?;
            if turn.commit(changes).await? {
                return Ok(());
            }
        }
    }

    async fn booked(&self, rows: &Rows, wanted: &Wanted) -> Result<Vec<Change>, Fault> {
        let there = |extent: &ExtentId| rows.extents.get(extent).filter(|e| e.state != GONE);
        let wanted: Vec<_> = wanted.iter().filter(|((e, _), _)| there(e).is_some()).collect();
        let keys: Vec<Bytes> = wanted
            .iter()
            .flat_map(|((e, page), _)| {
                [
                    Pages::Dropped.row_key(*e, *page),
                    Pages::Dropping.row_key(*e, *page),
                ]
            })
            .collect();
        let found = self.pages().await?.get(&keys).await.map_err(|e| from_store(&e))?;
        let (mut changes, mut extents) = (Vec::new(), BTreeMap::<ExtentId, ExtentRecord>::new());
        for (((extent, number), needles), found) in wanted.into_iter().zip(found.chunks(2)) {
            let [dropped, dropping] = [&found[0], &found[1]].map(|row| match row {
                Some(value) => read_page(*extent, *number, value),
                None => Ok(Page::EMPTY),
            });
            let (mut page, dropping) = (dropped?, dropping?);
            let (bytes, count) = (page.bytes, page.count());
            for (at, stored_length) in needles {
                if !dropping.has(*at) {
                    page.put(*at, *stored_length);
                }
            }
            if page.count() == count {
                continue;
            }
            let Some(record) = there(extent) else { continue };
            let record = extents.entry(*extent).or_insert_with(|| record.clone());
            record.dropped_bytes = record.dropped_bytes.saturating_add(page.bytes - bytes);
            record.dropped_needles += page.count() - count;
            changes.push(Change::Page(Pages::Dropped, *extent, *number, page.record()));
        }
        changes.extend(extents.into_values().map(Change::Extent));
        Ok(changes)
    }

    /// The pages of an extent from `from` on, at most `max`.
    async fn pages_of(&self, pages: Pages, extent: ExtentId, max: usize) -> Result<Vec<(u64, Page)>, Fault> {
        let snapshot = self.pages().await?;
        let (mut start, end) = pages.range(extent);
        let mut all = Vec::new();
        while all.len() < max {
            let scan = Scan {
                start: start.clone(),
                end: end.clone(),
                max: SCAN_ROWS_MAX.min(max - all.len()),
            };
            let found = snapshot.scan(&scan).await.map_err(|e| from_store(&e))?;
            let Some((last, _)) = found.last() else { break };
            start = [&last[..], &[0]].concat().into();
            for (key, value) in &found {
                let number = Pages::number(key).ok_or_else(|| damaged(key))?;
                all.push((number, read_page(extent, number, value)?));
            }
            if found.len() < scan.max {
                break;
            }
        }
        Ok(all)
    }

    /// The decision that an extent's row names, as long as it has grown by nothing; else a new one, which drops all that the old one does.
    async fn decided(
        &self,
        owner: &Owner,
        record: &ExtentRecord,
    ) -> Result<(Option<Decision>, Vec<Change>), Fault> {
        let extent = ExtentId(record.extent);
        let dropping = self.pages_of(Pages::Dropping, extent, usize::MAX).await?;
        let as_it_is = (record.deciding != 0).then(|| decision(extent, record.deciding, &dropping));
        if record.dropped_needles == 0 {
            return Ok((as_it_is, Vec::new()));
        }
        // An index that was restored may have forgotten generations that its nodes have: their numbers are not given again.
        let (node, _) = self.head(&owner.rows, record)?;
        let mut status = self.in_time("extent", node.extent(extent)).await?;
        if !status.sealed {
            // Its node has lost the record of it; nobody has been granted it since, and nobody else would say it again.
            tracing::warn!(%extent, "an extent that is sealed was open on its node: sealed again");
            let epoch = status.epoch.max(Epoch(record.epoch)).next();
            status = self.in_time("seal", node.seal(extent, epoch)).await?;
        }
        if record.deciding != 0 && status.generation.0 >= record.deciding {
            return Ok((as_it_is, Vec::new()));
        }
        let mut pages: BTreeMap<u64, Page> = dropping.into_iter().collect();
        let mut needles: u64 = pages.values().map(Page::count).sum();
        let mut moved = Vec::new();
        for (number, page) in self.pages_of(Pages::Dropped, extent, DROPPED_PAGES_MAX).await? {
            let fits = pages.len() < DROPPED_PAGES_MAX || pages.contains_key(&number);
            if !fits || needles >= GENERATION_NEEDLES_MAX {
                break;
            }
            needles += page.count();
            pages.entry(number).or_insert(Page::EMPTY).add(&page);
            moved.push((number, page));
        }
        if moved.is_empty() {
            return Ok((as_it_is, Vec::new()));
        }
        let generation = record.generation.max(record.deciding).max(status.generation.0) + 1;
        let changes = decide::generation(record, generation, &moved, &pages);
        let pages: Vec<(u64, Page)> = pages.into_iter().collect();
        Ok((Some(decision(extent, generation, &pages)), changes))
    }

    /// Removes an extent's pages, all but the last `DROPPED_PAGES_MAX`: those are for the caller's commit. A decision has no more.
    async fn drop_pages(
        &self,
        owner: &mut Owner,
        extent: ExtentId,
        pages: Pages,
    ) -> Result<Vec<Change>, Fault> {
        loop {
            let there = self.pages_of(pages, extent, DROPPED_PAGES_MAX + 1).await?;
            let gone = |(number, _): &(u64, Page)| Change::PageGone(pages, extent, *number);
            let changes: Vec<Change> = there.iter().map(gone).collect();
            if changes.len() <= DROPPED_PAGES_MAX {
                return Ok(changes);
            }
            if let Outcome::DecideAgain(fault) = self.commit(owner, changes).await? {
                return Err(fault);
            }
        }
    }

    /// Whether an extent's node says that nothing is in it: the last look before everybody is told that it is gone.
    async fn check_empty(&self, rows: &Rows, record: &ExtentRecord) -> Result<(), Fault> {
        let extent = ExtentId(record.extent);
        let (node, _) = self.head(rows, record)?;
        match self.in_time("extent", node.extent(extent)).await {
            Ok(status) if status.sealed && status.needles == 0 => Ok(()),
            Ok(status) => Err(conflict(format!(
                "extent {extent} has {} needles",
                status.needles
            ))),
            // Its node never had it: nothing was ever acknowledged in it.
            Err(fault) if fault.kind == ErrorKind::NotFound && record.sealed_bytes == 0 => Ok(()),
            Err(fault) => Err(fault),
        }
    }
}

fn damaged(row_key: &[u8]) -> Fault {
    Fault::new(ErrorKind::Corrupt, format!("control row {}", hex(row_key)))
}

fn read_page(extent: ExtentId, number: u64, value: &Bytes) -> Result<Page, Fault> {
    let corrupt = |what: String| {
        let what = format!("page {number} of dropped needles of extent {extent}: {what}");
        Fault::new(ErrorKind::Corrupt, what)
    };
    let record = DroppedPage::decode(value.clone()).map_err(|e| corrupt(e.to_string()))?;
    Page::read(&record).map_err(|what| corrupt(what.to_owned()))
}

fn decision(extent: ExtentId, generation: u64, pages: &[(u64, Page)]) -> Decision {
    Decision {
        extent,
        generation: Generation(generation),
        needles: pages
            .iter()
            .flat_map(|(number, page)| page.needles(*number))
            .collect(),
    }
}

fn stage(state: u32) -> Stage {
    match state {
        OPEN => Stage::Open,
        SEALING => Stage::Sealing,
        GONE => Stage::Gone,
        _ => Stage::Sealed,
    }
}

fn extent_use(rows: &Rows, record: &ExtentRecord) -> ExtentUse {
    ExtentUse {
        extent: ExtentId(record.extent),
        stage: stage(record.state),
        epoch: Epoch(record.epoch),
        generation: Generation(record.generation),
        bytes: record.sealed_bytes,
        bytes_max: record.bytes_max,
        dropped_bytes: record.dropped_bytes,
        dropped_needles: record.dropped_needles,
        deciding: (record.deciding != 0).then_some(Generation(record.deciding)),
        deciding_bytes: record.deciding_bytes,
        swept: record.swept,
        replicas: replicas(rows, record),
    }
}

#[async_trait::async_trait]
impl Reclaim for ControlPlane {
    async fn uses(&self) -> Result<Vec<ExtentUse>, Fault> {
        let owner = self.owner().await?;
        let extents = owner.rows.extents.values();
        Ok(extents.map(|e| extent_use(&owner.rows, e)).collect())
    }

    async fn drop_needles(&self, needles: &[Dropped]) -> Result<(), Fault> {
        if needles.len() > DROP_NEEDLES_MAX {
            let what = format!("{} needles to drop at once", needles.len());
            return Err(Fault::new(ErrorKind::Invalid, what));
        }
        let mut wanted = Wanted::new();
        for dropped in needles {
            let (number, at) = page::place(dropped.needle);
            let page = wanted.entry((dropped.extent, number)).or_default();
            page.push((at, dropped.stored_length));
        }
        while !wanted.is_empty() {
            let next = wanted.keys().nth(DROPPED_PAGES_MAX).copied();
            let rest = next.map(|key| wanted.split_off(&key)).unwrap_or_default();
            self.book(&wanted).await?;
            wanted = rest;
        }
        Ok(())
    }

    async fn dropped(&self, extent: ExtentId) -> Result<Vec<NeedleId>, Fault> {
        // Held meanwhile: a needle that a decision moves from one list to the other is in one of them.
        let _owner = self.owner().await?;
        let mut all = Vec::new();
        for pages in [Pages::Dropped, Pages::Dropping] {
            let pages = self.pages_of(pages, extent, usize::MAX).await?;
            all.extend(pages.iter().flat_map(|(number, page)| page.needles(*number)));
        }
        all.sort_unstable();
        Ok(all)
    }

    async fn decide(&self, extent: ExtentId) -> Result<Option<Decision>, Fault> {
        let mut turn = self.turn().await;
        loop {
            let owner = turn.ready().await?;
            self.check_unheld(&owner.rows)?;
            let Some(record) = there(&owner.rows, extent) else {
                return Ok(None);
            };
            check_sealed(&record)?;
            let (decision, changes) = self.decided(owner, &record).await?;
            if turn.commit(changes).await? {
                return Ok(decision);
            }
        }
    }

    async fn generation_done(
        &self,
        extent: ExtentId,
        generation: Generation,
        status: &ExtentStatus,
    ) -> Result<(), Fault> {
        let mut turn = self.turn().await;
        loop {
            let owner = turn.ready().await?;
            let record = match owner.rows.extents.get(&extent) {
                Some(record) if record.generation < generation.0 => record.clone(),
                _ => return Ok(()),
            };
            if record.deciding != generation.0 || status.generation < generation || !status.sealed {
                let what = format!("generation {} of extent {extent} is not done", generation.0);
                return Err(conflict(what));
            }
            let mut changes = self.drop_pages(owner, extent, Pages::Dropping).await?;
            changes.push(Change::Extent(decide::generation_done(&record, status.end)));
            if turn.commit(changes).await? {
                return Ok(());
            }
        }
    }

    async fn swept(&self, extent: ExtentId) -> Result<(), Fault> {
        self.decide_on(|rows| match rows.extents.get(&extent) {
            None => Ok(((), Vec::new())),
            Some(e) if e.state == GONE || e.swept => Ok(((), Vec::new())),
            Some(e) => {
                check_sealed(e)?;
                let swept = ExtentRecord {
                    swept: true,
                    ..e.clone()
                };
                Ok(((), vec![Change::Extent(swept)]))
            }
        })
        .await
    }

    async fn gone(&self, extent: ExtentId) -> Result<(), Fault> {
        let mut turn = self.turn().await;
        loop {
            let owner = turn.ready().await?;
            self.check_unheld(&owner.rows)?;
            let Some(record) = there(&owner.rows, extent) else {
                return Ok(());
            };
            check_sealed(&record)?;
            if record.deciding != 0 {
                let what = format!("extent {extent} has a generation that is not done");
                return Err(conflict(what));
            }
            self.check_empty(&owner.rows, &record).await?;
            let gone = ExtentRecord {
                state: GONE,
                ..record
            };
            if turn.commit(vec![Change::Extent(gone)]).await? {
                return Ok(());
            }
        }
    }

    async fn forget(&self, extent: ExtentId) -> Result<(), Fault> {
        let mut turn = self.turn().await;
        loop {
            let owner = turn.ready().await?;
            let Some(record) = owner.rows.extents.get(&extent).cloned() else {
                return Ok(());
            };
            if record.state != GONE {
                return Err(conflict(format!("extent {extent} is not gone")));
            }
            let mut changes = self.drop_pages(owner, extent, Pages::Dropped).await?;
            changes.extend(disks_of(&record).map(|disk| Change::CopyGone(disk, extent)));
            changes.push(Change::ExtentGone(extent));
            if turn.commit(changes).await? {
                return Ok(());
            }
        }
    }

    async fn hold(&self, by: &str, why: &str) -> Result<(), Fault> {
        hold::check(by, why)?;
        let new = Hold {
            by: by.to_owned(),
            why: why.to_owned(),
            since_ms: self.now_ms(),
        };
        self.decide_on(|rows| Ok(((), hold::set(rows, &new)?))).await
    }

    async fn release(&self, by: &str) -> Result<bool, Fault> {
        self.decide_on(|rows| Ok(hold::cleared(rows, by))).await
    }

    async fn hold_while(&self, by: &str, why: &str) -> Result<Holding, Fault> {
        hold::check(by, why)?;
        let holding = self.holdings.begin(Hold {
            by: by.to_owned(),
            why: why.to_owned(),
            since_ms: self.now_ms(),
        })?;
        // Whatever looked at the holds before this one came has the owner, and has ended once we have it.
        let _owner = self.owner().await?;
        Ok(Holding::new(holding))
    }

    async fn held(&self) -> Result<Vec<Hold>, Fault> {
        let owner = self.owner().await?;
        Ok(hold::all(&owner.rows, &self.holdings))
    }
}

/// An extent that is not gone.
fn there(rows: &Rows, extent: ExtentId) -> Option<ExtentRecord> {
    rows.extents.get(&extent).filter(|e| e.state != GONE).cloned()
}

fn check_sealed(record: &ExtentRecord) -> Result<(), Fault> {
    match record.state {
        SEALED => Ok(()),
        _ => Err(conflict(format!("extent {:016x} is not sealed", record.extent))),
    }
}
