//! Bringing extents to what the journal says, after a crash or a clean stop alike. Idempotent: the same records give the same bytes.

use crate::ExtentError;
use crate::extent::{self, Advance, Appended, BODY_OFFSET, Extent, State};
use crate::footer::Map;
use crate::generations::{Files, Foreseen};
use crate::journal::RecordType;
use crate::journal::record::{PLACE_BYTES, Place};
use crate::needle::Header;
use crate::open::RecoveryReport;
use crate::superblock::Superblock;
use crate::table::{Row, Table};
use crate::walk::{Census, Found, Walker};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use types::{ExtentId, Generation, JournalSeq};
use world::Disk;

/// Extents as they are being recovered.
pub(crate) struct Replay<'a> {
    disk: &'a dyn Disk,
    superblock: &'a Superblock,
    extents: BTreeMap<ExtentId, Extent>,
    /// Removed ones: nothing that the journal still says of them counts.
    gone: BTreeMap<ExtentId, Row>,
    /// Why the files of some cannot hold what the table says: seen before replay makes them longer again.
    short: BTreeMap<ExtentId, String>,
}

impl<'a> Replay<'a> {
    /// From the table, and what the journal says of generations: records are replayed into the files that count in the end.
    pub(crate) fn new(
        disk: &'a dyn Disk,
        superblock: &'a Superblock,
        table: &Table,
        foreseen: &Foreseen,
    ) -> Result<Self, ExtentError> {
        let (mut extents, mut gone) = (BTreeMap::new(), BTreeMap::new());
        let rows = foreseen.over(&table.rows);
        for row in rows {
            if row.gone {
                gone.insert(row.extent, row);
            } else {
                extents.insert(row.extent, Extent::new(row, None));
            }
        }
        let mut replay = Self {
            disk,
            superblock,
            extents,
            gone,
            short: BTreeMap::new(),
        };
        for extent in replay.extents.values() {
            if let Some(why) = replay.shortened(extent)? {
                replay.short.insert(extent.id, why);
            }
        }
        Ok(replay)
    }

    /// Takes up one record.
    pub(crate) fn apply(
        &mut self,
        kind: RecordType,
        sequence: JournalSeq,
        body: &Bytes,
        report: &mut RecoveryReport,
    ) -> Result<(), ExtentError> {
        if kind == RecordType::Extent {
            match Row::decode(body) {
                Some(row) if self.gone.contains_key(&row.extent) => {}
                Some(row) => self.merge(row),
                None => report
                    .damage
                    .push(format!("journal record {sequence} is no extent's row")),
            }
            return Ok(());
        }
        let Some(place) = Place::decode(body) else {
            report
                .damage
                .push(format!("journal record {sequence} names no place"));
            return Ok(());
        };
        if self.gone.contains_key(&place.extent) {
            return Ok(());
        }
        if !self.extents.contains_key(&place.extent) {
            // The record that made it is lost; its file may be there.
            match read_head(self.disk, self.superblock, (place.extent, place.generation)) {
                Some(row) => self.merge(row),
                None => {
                    report.damage.push(format!(
                        "journal record {sequence} names extent {}, which has no file",
                        place.extent
                    ));
                    return Ok(());
                }
            }
        }
        self.needle((kind, sequence), place, &body.slice(PLACE_BYTES..), report)
    }

    fn needle(
        &self,
        (kind, sequence): (RecordType, JournalSeq),
        place: Place,
        needle: &[u8],
        report: &mut RecoveryReport,
    ) -> Result<(), ExtentError> {
        let extent = &self.extents[&place.extent];
        let mut state = extent.lock();
        if state.row.generation > place.generation {
            return Ok(()); // compacted since: its place is another one
        }
        let Some(header) = Header::decode(extent.salt, needle).filter(|h| h.extent == place.extent) else {
            report
                .damage
                .push(format!("journal record {sequence} is no needle of its extent"));
            return Ok(());
        };
        match extent.file(self.disk) {
            Ok(file) => {
                // A large needle's bytes were synced before its record was queued; its header is written again all the same.
                let written = file.write_all_at(needle, place.offset);
                written.map_err(|e| ExtentError::io("extent", &e))?;
                state.dirty = true;
            }
            Err(e) => {
                report.damage.push(e.to_string());
                return Ok(());
            }
        }
        report.replayed += u64::from(kind == RecordType::Needle);
        let advance = Advance {
            needle: header.needle,
            offset: place.offset,
            stored_length: header.stored_bytes(),
            void: header.void,
        };
        extent.advance(&mut state, advance);
        if !header.void {
            let appended = Appended {
                needle: header.needle,
                offset: place.offset,
                generation: place.generation,
                stored_length: header.stored_bytes(),
                sequence,
            };
            state.remember(header.head.blob, header.head.ordinal, appended);
        }
        Ok(())
    }

    /// Takes over what a row says beyond what is known: both only ever grow. Of an older generation only the epoch counts.
    fn merge(&mut self, row: Row) {
        let Some(known) = self.extents.get(&row.extent) else {
            self.extents.insert(row.extent, Extent::new(row, None));
            return;
        };
        let mut state = known.lock();
        state.row.epoch = state.row.epoch.max(row.epoch);
        if row.generation != state.row.generation {
            return;
        }
        let end = state.row.end.max(row.end);
        let now = &mut state.row;
        now.sealed |= row.sealed;
        now.next_needle = now.next_needle.max(row.next_needle);
        now.needles = now.needles.max(row.needles);
        known.set_end(&mut state, end);
    }

    /// All extents. `lost`: journal records of extents may be missing, so the open ones are frozen and whatever stands in
    /// their files is taken up. `rebuilt`: the table was.
    pub(crate) fn finish(
        mut self,
        (lost, rebuilt): (bool, bool),
        report: &mut RecoveryReport,
    ) -> Result<Recovered, ExtentError> {
        let there = Files::list(self.disk)?;
        if lost {
            self.adopt_unknown(&there, report);
        }
        for extent in self.extents.values() {
            self.follow(extent, &there, report);
        }
        for extent in self.extents.values() {
            match self.short.get(&extent.id).cloned().or(self.shortened(extent)?) {
                Some(why) => self.freeze(extent, &why, report),
                None if lost => self.freeze(extent, "journal records of it may be lost", report),
                None => {}
            }
        }
        let extents: BTreeMap<_, _> = (self.extents.into_values())
            .map(|extent| (extent.id, Arc::new(extent)))
            .collect();
        // Where anything was lost a file that nothing speaks of may be all that is left.
        let left = if report.lost.is_empty() && !lost && !rebuilt {
            there.left(self.disk, self.superblock, &extents)
        } else {
            Vec::new()
        };
        let of_gone = self.gone.keys().flat_map(|id| there.of(*id));
        let leaving = left.into_iter().chain(of_gone).collect();
        Ok(Recovered {
            extents,
            gone: self.gone,
            leaving,
        })
    }

    /// Extents of which there is only a file.
    fn adopt_unknown(&mut self, there: &Files, report: &mut RecoveryReport) {
        for (id, generation) in there.oldest() {
            if self.extents.contains_key(&id) || self.gone.contains_key(&id) {
                continue;
            }
            if let Some(row) = read_head(self.disk, self.superblock, (id, generation)) {
                report
                    .damage
                    .push(format!("extent {id} was known by its file only"));
                self.merge(row);
            }
        }
    }

    /// An extent whose generation has no file, though another has: the row that said so is lost.
    fn follow(&self, extent: &Extent, there: &Files, report: &mut RecoveryReport) {
        let mut state = extent.lock();
        let Some(other) = there.other_than(extent.id, state.row.generation) else {
            return;
        };
        let Some(row) = walk_file(self.disk, self.superblock, (extent.id, other)) else {
            return;
        };
        let id = extent.id;
        let row = Row {
            epoch: state.row.epoch.max(row.epoch),
            next_needle: state.row.next_needle.max(row.next_needle),
            ..row
        };
        report.damage.push(format!(
            "extent {id} has only its generation {other}, of which no record is left"
        ));
        extent.switch(&mut state, row, None);
    }

    /// Why the file of an extent that still takes needles cannot hold those it should. Of a sealed one, a read tells.
    fn shortened(&self, extent: &Extent) -> Result<Option<String>, ExtentError> {
        if extent.lock().row.sealed {
            return Ok(None);
        }
        let file = match extent.file(self.disk) {
            Err(ExtentError::Corrupt(why)) => return Ok(Some(why)),
            other => other?,
        };
        let len = file.len().map_err(|e| ExtentError::io("extent", &e))?;
        let end = extent.end();
        Ok((len < end).then(|| format!("its file has {len} bytes of {end}")))
    }

    fn freeze(&self, extent: &Extent, why: &str, report: &mut RecoveryReport) {
        let mut state = extent.lock();
        if state.row.sealed && !state.row.frozen {
            return;
        }
        (state.row.sealed, state.row.frozen) = (true, true);
        // It would cut off what stands behind the end.
        state.no_footer = true;
        self.take_up(extent, &mut state);
        report
            .damage
            .push(format!("extent {} is frozen: {why}", extent.id));
    }

    /// Takes up every needle whose header holds, behind the extent's end and behind damage too: its record may be lost, its bytes are
    /// the only ones. What damage may hide counts as if it were there, so that the extent is not taken for one without needles.
    fn take_up(&self, extent: &Extent, state: &mut State) {
        let Ok(file) = extent.file(self.disk) else { return };
        let Ok(len) = file.len() else { return };
        let walker = Walker::new(file, extent.id, extent.salt, 0, len);
        let mut needles = 0;
        for found in Census::new(walker, state.row.next_needle) {
            match found {
                Found::Hidden(_, numbers) => needles += numbers.end - numbers.start,
                Found::Needle(offset, header) => {
                    needles += u64::from(!header.void);
                    let advance = Advance {
                        needle: header.needle,
                        offset,
                        stored_length: header.stored_bytes(),
                        void: header.void,
                    };
                    extent.advance(state, advance);
                }
            }
        }
        state.row.needles = state.row.needles.max(needles);
    }

    /// A table made by walking every extent: what is left when the table itself is damaged. Of two generations the one that the journal
    /// speaks of counts, else the older one: it has all that the other has.
    pub(crate) fn rebuild_table(
        disk: &dyn Disk,
        superblock: &Superblock,
        foreseen: &Foreseen,
        report: &mut RecoveryReport,
    ) -> Result<Table, ExtentError> {
        let mut table = Table::default();
        let there = Files::list(disk)?;
        for (id, oldest) in there.oldest() {
            let named = foreseen.generation(id).filter(|g| there.has(id, *g));
            match walk_file(disk, superblock, (id, named.unwrap_or(oldest))) {
                Some(row) => table.rows.push(row),
                None => report
                    .damage
                    .push(format!("extent {id} has no header block that holds")),
            }
        }
        Ok(table)
    }
}

/// Extents as they were recovered.
pub(crate) struct Recovered {
    pub(crate) extents: BTreeMap<ExtentId, Arc<Extent>>,
    /// Rows of those that were removed.
    pub(crate) gone: BTreeMap<ExtentId, Row>,
    /// Files that nothing needs.
    pub(crate) leaving: Vec<String>,
}

/// The row of which only an extent's header block speaks.
fn read_head(
    disk: &dyn Disk,
    superblock: &Superblock,
    (id, generation): (ExtentId, Generation),
) -> Option<Row> {
    let file = disk.open(&extent::path(id, generation)).ok()?;
    let mut b = vec![0; BODY_OFFSET as usize];
    file.read_exact_at(&mut b, 0).ok()?;
    let row = extent::decode_head(&b, superblock.disk)?;
    ((row.extent, row.generation) == (id, generation)).then_some(row)
}

/// The same with what a walk of the file finds.
fn walk_file(disk: &dyn Disk, superblock: &Superblock, of: (ExtentId, Generation)) -> Option<Row> {
    let mut row = read_head(disk, superblock, of)?;
    let file = disk.open(&extent::path(of.0, of.1)).ok()?;
    let walker = Walker::new(file.clone(), row.extent, row.salt, 0, file.len().ok()?);
    for found in Census::new(walker, row.next_needle) {
        match found {
            Found::Hidden(_, numbers) => row.needles += numbers.end - numbers.start,
            Found::Needle(offset, header) => {
                row.end = offset + header.stored_bytes();
                row.epoch = row.epoch.max(header.epoch);
                row.next_needle = row.next_needle.max(header.needle.0 + 1);
                row.needles += u64::from(!header.void);
            }
        }
    }
    row.footer = Map::of(&*file, &row).is_some_and(|map| map.load().is_some());
    Some(row)
}
