//! Taking a snapshot: the moment first, then block by block as fast as they are asked for. Memory is a page of rows.

use super::{BLOCK_BYTES, END, FORMAT, HEAD_BYTES, MAGIC, PARTITION_END, ROWS, block_crc, head_crc};
use crate::api::shared_bytes;
use crate::{Places, Prepared, Rows, Scan, Snapshot, Store, StoreError, readable_rows};
use bytes::{BufMut as _, Bytes, BytesMut};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use types::limits::{PAST_DAMAGE_PAUSE_MS, PAST_DAMAGE_PAUSES_MAX, ROW_KEY_BYTES_MAX, SCAN_ROWS_MAX};
use types::{DiskId, PartitionId};
use world::Clock;
use world::plant::{Plant, is_planted};

/// Rows read at once: they may be large.
const PAGE_ROWS: usize = SCAN_ROWS_MAX / 4;
/// How often a moment is looked for at which the directory stands still.
const TRIES: usize = 1000;
/// Places told of that cannot be read.
const LOST_TOLD_MAX: usize = 10_000;
/// The row that every commit to a partition writes (docs/formats/rows.md).
const STATE: &[u8] = &[1];

/// A snapshot being taken. It holds a view of each partition: read it to its end soon, or drop it.
pub struct SnapshotStream {
    disk: DiskId,
    taken_ms: u64,
    /// What is still to be written, ascending.
    left: VecDeque<(PartitionId, Option<Arc<dyn Snapshot>>)>,
    stage: Stage,
    number: u64,
    /// The crc that the next block names.
    before: u32,
    partition_rows: u64,
    rows: u64,
    /// What could not be read, where that is left out.
    lost: Option<Vec<StoreError>>,
    /// Where reading stands in it, of the partition that is being read.
    places: Places,
    again: Option<Again>,
}

/// Whom to ask again for what could not be read, before it is left out.
struct Again {
    index: Arc<Prepared>,
    clock: Arc<dyn Clock>,
    /// How often.
    left: usize,
}

impl Again {
    /// Whether there is something to ask for again: a while has passed then.
    async fn waited(&mut self) -> bool {
        if self.left == 0 || !self.index.ask_again() {
            return false;
        }
        self.left -= 1;
        let pause = Duration::from_millis(PAST_DAMAGE_PAUSE_MS);
        self.clock.sleep(pause).await;
        true
    }
}

enum Stage {
    Head,
    /// Rows from this key on.
    Rows(Bytes),
    Done,
}

impl SnapshotStream {
    /// Settles the moment: the directory and the objects as of one, the control plane as of a later one. So every extent that a row of the
    /// index names has its row; whoever keeps extents from going away meanwhile has it in the copy too. Why this order:
    /// docs/formats/index-snapshot.md.
    ///
    /// # Errors
    /// A partition cannot be read; or buckets are changed without a pause.
    pub async fn take(store: &dyn Store, disk: DiskId, now_ms: u64) -> Result<Self, StoreError> {
        for _ in 0..TRIES {
            let directory = store.snapshot(PartitionId::DIRECTORY).await?;
            let data = store.snapshot(PartitionId::FIRST_DATA).await?;
            let again = store.snapshot(PartitionId::DIRECTORY).await?;
            let state = [Bytes::from_static(STATE)];
            let stood_still = directory.get(&state).await? == again.get(&state).await?;
            if !stood_still && !is_planted(Plant::SnapshotByPartition) {
                continue;
            }
            let control = store.snapshot(PartitionId::CONTROL).await?;
            let left = [
                (PartitionId::DIRECTORY, Some(directory)),
                (PartitionId::CONTROL, Some(control)),
                (PartitionId::FIRST_DATA, Some(data)),
            ];
            return Ok(Self::of(left, (disk, now_ms)));
        }
        Err(StoreError::Busy(
            "buckets are changed without a pause: no moment of all partitions was found".into(),
        ))
    }

    /// Of an index that nobody serves, without what cannot be read because it rotted, for whoever accepts that it is lost:
    /// [`SnapshotStream::lost`] tells of it, and of what `index` lacks already. No row is needed to be taken, not a partition's own either. What the
    /// device does not give it is asked for again after a while by `clock`: what is left out here is lost for good.
    ///
    /// # Errors
    /// A partition's, but for [`StoreError::Corrupt`].
    pub fn past_damage(
        index: Arc<Prepared>,
        clock: Arc<dyn Clock>,
        disk: DiskId,
    ) -> Result<Self, StoreError> {
        let now_ms = clock.wall_ms();
        let lost = index.lost().iter().map(|(_, why)| why.clone()).collect();
        let stream = Self::of_readable(|partition| index.snapshot(partition), lost, (disk, now_ms))?;
        let left = PAST_DAMAGE_PAUSES_MAX;
        Ok(Self {
            again: Some(Again { index, clock, left }),
            ..stream
        })
    }

    /// [`SnapshotStream::past_damage`] of what `partition` gives of each, asked for once.
    ///
    /// # Errors
    /// As there.
    pub fn of_readable(
        partition: impl Fn(PartitionId) -> Result<Arc<dyn Snapshot>, StoreError>,
        mut lost: Vec<StoreError>,
        (disk, now_ms): (DiskId, u64),
    ) -> Result<Self, StoreError> {
        let mut left = Vec::new();
        for id in [
            PartitionId::DIRECTORY,
            PartitionId::CONTROL,
            PartitionId::FIRST_DATA,
        ] {
            left.push(match partition(id) {
                Ok(snapshot) => (id, Some(snapshot)),
                Err(StoreError::Corrupt(why)) => {
                    lost.push(StoreError::Corrupt(format!(
                        "nothing of partition {id} can be read: {why}"
                    )));
                    (id, None)
                }
                Err(e) => return Err(e),
            });
        }
        Ok(Self {
            lost: Some(lost),
            ..Self::of(left, (disk, now_ms))
        })
    }

    fn of(
        left: impl IntoIterator<Item = (PartitionId, Option<Arc<dyn Snapshot>>)>,
        (disk, taken_ms): (DiskId, u64),
    ) -> Self {
        Self {
            disk,
            taken_ms,
            left: left.into_iter().collect(),
            stage: Stage::Head,
            number: 0,
            before: 0,
            partition_rows: 0,
            rows: 0,
            lost: None,
            places: Places::default(),
            again: None,
        }
    }

    /// What was left out so far: each place once, with how it was told.
    pub fn lost(&self) -> &[StoreError] {
        self.lost.as_deref().unwrap_or_default()
    }

    async fn page(&mut self, snapshot: &dyn Snapshot, scan: Scan) -> Result<(Rows, Bytes), StoreError> {
        if self.lost.is_none() {
            let (end, max) = (scan.end.clone(), scan.max);
            let rows = snapshot.scan(&scan).await?;
            let next = match rows.last().filter(|_| rows.len() == max) {
                Some((last, _)) => [&last[..], &[0]].concat().into(),
                None => end,
            };
            return Ok((rows, next));
        }
        let before = self.places.clone();
        let mut page = readable_rows(snapshot, scan.clone(), ROW_KEY_BYTES_MAX, &mut self.places).await?;
        if let (false, Some(again)) = (page.lost.is_empty(), &mut self.again)
            && again.waited().await
        {
            self.places = before;
            page = readable_rows(snapshot, scan, ROW_KEY_BYTES_MAX, &mut self.places).await?;
        }
        let lost = self.lost.get_or_insert_default();
        for place in page.lost {
            // Come to again, where another lies over it.
            if lost.len() < LOST_TOLD_MAX && !lost.contains(&place) {
                lost.push(place);
            }
        }
        Ok((page.rows, page.next))
    }

    /// The file's next bytes; `None` once it is whole.
    ///
    /// # Errors
    /// Rows that cannot be read: the file is of no use. Where it is made past damage they are left out.
    pub async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        match &self.stage {
            Stage::Done => Ok(None),
            Stage::Head => {
                self.stage = Stage::Rows(Bytes::from_static(&[0]));
                Ok(Some(self.head()))
            }
            Stage::Rows(start) => {
                let start = start.clone();
                self.rows_from(start).await.map(Some)
            }
        }
    }

    fn head(&mut self) -> Bytes {
        let mut head = BytesMut::with_capacity(HEAD_BYTES);
        head.put_slice(MAGIC);
        head.put_u16_le(FORMAT);
        head.put_u16_le(0);
        head.put_u32_le(self.left.len() as u32);
        head.put_slice(&self.disk.to_bytes());
        head.put_u64_le(self.taken_ms);
        head.resize(HEAD_BYTES - 4, 0);
        self.before = head_crc(&head);
        head.put_u32_le(self.before);
        head.freeze()
    }

    async fn rows_from(&mut self, mut start: Bytes) -> Result<Bytes, StoreError> {
        let Some((partition, snapshot)) = self.left.front().cloned() else {
            self.stage = Stage::Done;
            let mut end = self.rows.to_le_bytes().to_vec();
            // Whoever lays it must hear of that, too, long after whoever made it did.
            let left_out = self.lost().len() as u64;
            if left_out > 0 {
                end.extend(left_out.to_le_bytes());
            }
            return Ok(self.block((END, PartitionId(0)), &end));
        };
        let Some(snapshot) = snapshot else {
            return Ok(self.end_partition(partition, &[]));
        };
        let mut body = BytesMut::new();
        let mut before = Bytes::new();
        while body.len() < BLOCK_BYTES {
            let end = Bytes::from_static(&[0xFF]);
            let scan = Scan {
                start: start.clone(),
                end: end.clone(),
                max: PAGE_ROWS,
            };
            let (rows, next) = self.page(&*snapshot, scan).await?;
            for (key, value) in rows {
                put_row(&mut body, &before, (&key, &value));
                self.partition_rows += 1;
                start = [&key[..], &[0]].concat().into();
                before = key;
                if body.len() >= BLOCK_BYTES {
                    // The rest of the page is read again with the next block.
                    self.stage = Stage::Rows(start);
                    return Ok(self.block((ROWS, partition), &body));
                }
            }
            start = next;
            if start >= end {
                return Ok(self.end_partition(partition, &body));
            }
        }
        self.stage = Stage::Rows(start);
        Ok(self.block((ROWS, partition), &body))
    }

    /// The partition's last rows, and its end.
    fn end_partition(&mut self, partition: PartitionId, body: &[u8]) -> Bytes {
        let mut out = BytesMut::new();
        if !body.is_empty() {
            out.extend_from_slice(&self.block((ROWS, partition), body));
        }
        let rows = std::mem::take(&mut self.partition_rows);
        self.rows += rows;
        out.extend_from_slice(&self.block((PARTITION_END, partition), &rows.to_le_bytes()));
        // Not held longer than it is read.
        self.left.pop_front();
        self.places = Places::default();
        self.stage = Stage::Rows(Bytes::from_static(&[0]));
        out.freeze()
    }

    fn block(&mut self, (kind, partition): (u32, PartitionId), body: &[u8]) -> Bytes {
        let mut out = BytesMut::with_capacity(super::BLOCK_HEAD_BYTES + body.len());
        out.put_u32_le(kind);
        out.put_u32_le(u32::try_from(body.len()).expect("a block is bounded"));
        out.put_u64_le(self.number);
        out.put_u64_le(partition.0);
        out.put_u32_le(self.before);
        let crc = block_crc(&out, body);
        out.put_u32_le(crc);
        out.put_slice(body);
        self.number += 1;
        self.before = crc;
        out.freeze()
    }
}

fn put_row(body: &mut BytesMut, before: &[u8], (key, value): (&Bytes, &Bytes)) {
    let shared = shared_bytes(before, key);
    body.put_u16_le(u16::try_from(key.len()).expect("a row key is bounded"));
    body.put_u16_le(u16::try_from(shared).expect("a row key is bounded"));
    body.put_u32_le(u32::try_from(value.len()).expect("a value is bounded"));
    body.put_slice(&key[shared..]);
    body.put_slice(value);
}
