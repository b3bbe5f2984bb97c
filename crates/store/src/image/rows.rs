//! Reading a snapshot back: row after row, each believed only after its block's crc held.

use super::{
    BLOCK_BYTES_MAX, BLOCK_HEAD_BYTES, END, FORMAT, HEAD_BYTES, MAGIC, PARTITION_END, ROW_HEAD_BYTES, ROWS,
    block_crc, head_crc,
};
use crate::StoreError;
use bytes::Bytes;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use types::{DiskId, PartitionId};
use world::DiskFile;

/// What a snapshot says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotHead {
    /// Whose index.
    pub disk: DiskId,
    /// When, in milliseconds since 1970.
    pub taken_ms: u64,
    /// How many partitions.
    pub partitions: u32,
}

/// The rows of a snapshot, ascending by partition and key. After an error there is nothing more.
pub struct SnapshotRows {
    file: Arc<dyn DiskFile>,
    name: String,
    head: SnapshotHead,
    at: u64,
    number: u64,
    before: u32,
    rows: VecDeque<(Bytes, Bytes)>,
    partition: PartitionId,
    partition_rows: u64,
    partitions: u32,
    total: u64,
    left_out: u64,
    ended: bool,
}

struct Block {
    kind: u32,
    partition: PartitionId,
    body: Bytes,
}

impl SnapshotRows {
    /// Begins to read a snapshot; errors name it `name`.
    ///
    /// # Errors
    /// It is no snapshot, a newer build's, or its head is not what was written.
    pub fn open(file: Arc<dyn DiskFile>, name: &str) -> Result<Self, StoreError> {
        let corrupt = |what: &str| StoreError::Corrupt(format!("{name}: {what}"));
        let mut head = [0; HEAD_BYTES];
        file.read_exact_at(&mut head, 0).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => corrupt("it is no index snapshot, or cut off in its head"),
            _ => StoreError::io(name, &e),
        })?;
        if &head[..8] != MAGIC {
            return Err(corrupt("it is no index snapshot"));
        }
        let format = u16::from_le_bytes([head[8], head[9]]);
        if head_crc(&head) != u32_at(&head, 60) {
            return Err(corrupt("its head (byte 0) is not what was written"));
        }
        if format != FORMAT {
            return Err(StoreError::Failed(format!(
                "{name}: its format {format} is of a newer build; nothing was changed"
            )));
        }
        Ok(Self {
            head: SnapshotHead {
                disk: DiskId::from_slice(&head[16..32]).expect("sixteen bytes"),
                taken_ms: u64_at(&head, 32),
                partitions: u32_at(&head, 12),
            },
            file,
            name: name.to_owned(),
            at: HEAD_BYTES as u64,
            number: 0,
            before: u32_at(&head, 60),
            rows: VecDeque::new(),
            partition: PartitionId(0),
            partition_rows: 0,
            partitions: 0,
            total: 0,
            left_out: 0,
            ended: false,
        })
    }

    /// What it says of itself.
    pub fn head(&self) -> SnapshotHead {
        self.head
    }

    /// Once all was read: how many places it lacks, because what stood there could not be read when it was made.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Reads all that is left: how many rows. `Ok` proves that it is whole.
    ///
    /// # Errors
    /// The first place that is not what was written.
    pub fn verify(mut self) -> Result<u64, StoreError> {
        for row in self.by_ref() {
            row?;
        }
        Ok(self.total)
    }

    fn corrupt(&self, what: &str) -> StoreError {
        StoreError::Corrupt(format!(
            "{}: block {} at byte {}: {what}",
            self.name, self.number, self.at
        ))
    }

    fn read(&self, bytes: &mut [u8], at: u64) -> Result<(), StoreError> {
        self.file.read_exact_at(bytes, at).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => self.corrupt("the file is cut off"),
            _ => StoreError::io(&self.name, &e),
        })
    }

    fn block(&mut self) -> Result<Block, StoreError> {
        let mut head = [0; BLOCK_HEAD_BYTES];
        self.read(&mut head, self.at)?;
        let length = u32_at(&head, 4) as usize;
        if length > BLOCK_BYTES_MAX {
            return Err(self.corrupt("its head is not what was written"));
        }
        let mut body = vec![0; length];
        self.read(&mut body, self.at + BLOCK_HEAD_BYTES as u64)?;
        let crc = u32_at(&head, 28);
        if block_crc(&head, &body) != crc {
            return Err(self.corrupt("it is not what was written"));
        }
        if u64_at(&head, 8) != self.number || u32_at(&head, 24) != self.before {
            return Err(self.corrupt("it does not follow the one before it"));
        }
        self.at += (BLOCK_HEAD_BYTES + length) as u64;
        self.number += 1;
        self.before = crc;
        Ok(Block {
            kind: u32_at(&head, 0),
            partition: PartitionId(u64_at(&head, 16)),
            body: body.into(),
        })
    }

    /// Takes the next block; the rows of it wait.
    fn advance(&mut self) -> Result<(), StoreError> {
        let block = self.block()?;
        match block.kind {
            ROWS => {
                self.partition = block.partition;
                let rows = decode_rows(&block.body).ok_or_else(|| self.corrupt("a row is cut"))?;
                self.partition_rows += rows.len() as u64;
                self.rows = rows;
            }
            PARTITION_END if block.body.len() == 8 && u64_at(&block.body, 0) == self.partition_rows => {
                self.total += std::mem::take(&mut self.partition_rows);
                self.partitions += 1;
            }
            END if matches!(block.body.len(), 8 | 16) && u64_at(&block.body, 0) == self.total => {
                if block.body.len() == 16 {
                    self.left_out = u64_at(&block.body, 8);
                }
                let is_whole = self.partitions == self.head.partitions && self.partition_rows == 0;
                let len = self.file.len().map_err(|e| StoreError::io(&self.name, &e))?;
                if !is_whole || len != self.at {
                    return Err(self.corrupt("it is not the file's end, as it says"));
                }
                self.ended = true;
            }
            PARTITION_END | END => return Err(self.corrupt("rows are missing before it")),
            _ => return Err(self.corrupt("its kind is none that this build knows")),
        }
        Ok(())
    }
}

impl Iterator for SnapshotRows {
    type Item = Result<(PartitionId, Bytes, Bytes), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.rows.is_empty() && !self.ended {
            if let Err(e) = self.advance() {
                self.ended = true;
                return Some(Err(e));
            }
        }
        let (key, value) = self.rows.pop_front()?;
        Some(Ok((self.partition, key, value)))
    }
}

fn decode_rows(body: &Bytes) -> Option<VecDeque<(Bytes, Bytes)>> {
    let mut rows: VecDeque<(Bytes, Bytes)> = VecDeque::new();
    let mut at = 0;
    while at < body.len() {
        let head = body.get(at..at + ROW_HEAD_BYTES)?;
        let length = usize::from(u16::from_le_bytes([head[0], head[1]]));
        let shared = usize::from(u16::from_le_bytes([head[2], head[3]]));
        let value_bytes = u32_at(head, 4) as usize;
        let rest_end = at + ROW_HEAD_BYTES + length.checked_sub(shared).filter(|_| length > 0)?;
        let value_end = rest_end.checked_add(value_bytes)?;
        if value_end > body.len() {
            return None;
        }
        let rest = &body[at + ROW_HEAD_BYTES..rest_end];
        let before = rows.back().map_or(&[][..], |(key, _)| key);
        let key = [before.get(..shared)?, rest].concat();
        rows.push_back((key.into(), body.slice(rest_end..value_end)));
        at = value_end;
    }
    Some(rows)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
