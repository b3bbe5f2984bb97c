//! Journal records: headers, payloads, whole journals; and the small files that stand beside the journal.

use super::{Held, SALT};
use crate::fields::{Fields, crc32c, put, salted_crc32c};
use crate::journal::record::{HEADER_BYTES, Header, LogBatch, MAGIC, Place, RecordType};
use crate::journal::recover::{Verdict, judge};
use crate::journal::scan::{payload, scan};
use crate::superblock::Superblock;
use crate::table::{Row, Table};
use bytes::Bytes;
use types::limits::JOURNAL_BLOCK_BYTES;
use types::{DiskId, Epoch, LogSeq, NodeId, PartitionId, StampId};

const DISK: DiskId = DiskId(6);
/// Where the fields of a header are that count sequences, and that count laps and incarnations.
const SEQUENCES: [usize; 5] = [16, 32, 40, 48, 56];
const COUNTERS: [usize; 2] = [8, 12];

/// The first byte says how the others are read.
pub fn journal_record(data: &[u8]) {
    let Some((how, bytes)) = data.split_first() else {
        return;
    };
    match how % 5 {
        0 => one_header(bytes),
        1 => journal(bytes),
        2 => batch(bytes),
        3 => rows(bytes),
        _ => superblock(bytes),
    }
}

/// What the code writes of each kind.
pub fn journal_record_seeds() -> Vec<Vec<u8>> {
    let batch = LogBatch {
        partition: PartitionId(1),
        epoch: Epoch(2),
        sequence: LogSeq(3),
        members: vec![DISK],
        previous_crc: 4,
        payload: Bytes::from_static(b"rows"),
    };
    let row = Row {
        extent: types::ExtentId(1),
        epoch: Epoch(1),
        generation: types::Generation(2),
        end: 4096,
        next_needle: 5,
        needles: 4,
        bytes_max: 1 << 30,
        salt: 7,
        sealed: true,
        frozen: false,
        footer: true,
        gone: false,
    };
    let table = Table {
        released: 4,
        synced: 9,
        rows: vec![row, row],
    };
    let superblock = Superblock {
        format: 2,
        disk: DISK,
        node: NodeId(1),
        stamp: StampId::FIRST,
        created_ms: 5,
        journal_bytes: 1 << 20,
        journal_salt: 99,
        extent_bytes: 1 << 30,
        extent_step_bytes: 1 << 20,
        ballast_bytes: 3,
        catalogued: true,
    };
    let seed = |how: u8, bytes: &[u8]| [&[how], bytes].concat();
    let mut whole = batch.head();
    whole.extend_from_slice(&batch.payload);
    vec![
        seed(0, &written(4, 0)[..HEADER_BYTES]),
        seed(1, &written(1, 0)),
        seed(1, &written(5, 0)),
        seed(1, &[written(4, 0), written(3, 1)].concat()),
        seed(2, &whole),
        seed(3, &table.encode(DISK)),
        seed(4, &superblock.encode()),
    ]
}

/// A journal of some records, one a block.
fn written(count: u64, lap: u32) -> Vec<u8> {
    let mut out = Vec::new();
    let mut previous_crc = 0;
    for n in 1..=count {
        let sequence = n + u64::from(lap) * 4;
        let body = vec![n as u8; 5 * n as usize];
        let header = Header {
            kind: [
                RecordType::Start,
                RecordType::Batch,
                RecordType::Needle,
                RecordType::Mark,
            ][n as usize % 4],
            last_of_group: true,
            lap,
            incarnation: 1,
            sequence,
            position: out.len() as u64,
            known_synced: sequence.saturating_sub(2),
            low_water: 1,
            begun: 1,
            continues: 0,
            previous_crc,
            payload_length: body.len() as u32,
            payload_crc: crc32c(&body),
        };
        let mut block = vec![0; JOURNAL_BLOCK_BYTES / 16];
        previous_crc = header.encode(SALT, &mut block);
        put(&mut block, HEADER_BYTES, &body);
        out.extend(block);
    }
    out
}

/// Makes a header at `at` right: its place and crc, and numbers that a disk could reach in its life.
fn seal(b: &mut [u8], at: u64) {
    put(b, 0, &MAGIC);
    put(b, 24, &at.to_le_bytes());
    for field in SEQUENCES {
        put(b, field + 6, &[0; 2]);
    }
    for field in COUNTERS {
        put(b, field + 3, &[0]);
    }
    let crc = salted_crc32c(SALT, &b[..76]);
    put(b, 76, &crc.to_le_bytes());
}

fn one_header(bytes: &[u8]) {
    let mut b = bytes.to_vec();
    b.resize(HEADER_BYTES.max(b.len()), 0);
    let at = u64::from(b[0]) * 8;
    seal(&mut b, at);
    let Ok((header, crc)) = Header::decode(SALT, &b, at) else {
        return;
    };
    let mut again = [0; HEADER_BYTES];
    header.encode(SALT, &mut again);
    let (back, _) = Header::decode(SALT, &again, at).expect("what was written is read");
    assert_eq!((back, crc), (header, b.u32_at(76)));
    assert!(header.end() > at && header.end().is_multiple_of(8));
    assert!(Header::decode(SALT, &b, at + 8).is_err(), "at another place");
    let bit = usize::from(bytes.last().copied().unwrap_or(0)) * 5 % (HEADER_BYTES * 8);
    b[bit / 8] ^= 1 << (bit % 8);
    assert!(Header::decode(SALT, &b, at).is_err(), "bit {bit} flipped");
}

/// A whole journal: what a scan finds against a look at every place, and what recovery makes of it.
fn journal(bytes: &[u8]) {
    let mut file = bytes.to_vec();
    for at in (0..file.len()).step_by(8) {
        if file[at..].len() >= HEADER_BYTES && file[at..].starts_with(&MAGIC) {
            seal(&mut file[at..], at as u64);
        }
    }
    let end = file.len() as u64;
    let file = Held(file);
    let Ok(scanned) = scan(&file, end, SALT) else {
        return; // a newer build's
    };
    let there: Vec<_> = (0..end)
        .step_by(8)
        .filter_map(|at| Header::decode(SALT, &file.0[at as usize..], at).ok())
        .filter(|(header, _)| header.end() <= end)
        .collect();
    let found: Vec<_> = scanned.headers.iter().map(|f| (f.header, f.crc)).collect();
    assert_eq!(found, there);
    let is_whole = |header: &Header| matches!(payload(&file, header), Ok(Some(_)));
    let verdict = judge(&scanned.headers, 0, &mut |header| is_whole(header));
    check(&verdict, &is_whole);
}

fn check(v: &Verdict, is_whole: &dyn Fn(&Header) -> bool) {
    let live: Vec<u64> = v.live.iter().map(|f| f.header.sequence).collect();
    assert!(
        live.is_sorted_by(|a, b| a < b),
        "live records are in order: {live:?}"
    );
    assert!(
        v.live.iter().all(|f| is_whole(&f.header)),
        "live records are whole"
    );
    assert!(v.live.iter().all(|f| f.header.kind != RecordType::Mark));
    assert!(v.last >= v.known_synced, "what was synced counts"); // I1
    assert!(live.iter().all(|s| (v.low_water..=v.last).contains(s)));
    assert!(v.head.is_multiple_of(JOURNAL_BLOCK_BYTES as u64));
    for lost in &v.lost {
        let (from, to) = (lost.from.0, lost.to.0);
        assert!(
            from <= to && to <= v.known_synced,
            "only what was synced is lost: {lost:?}"
        );
        assert!(
            !live.iter().any(|s| (from..=to).contains(s)),
            "lost and live: {lost:?}"
        );
    }
}

fn batch(bytes: &[u8]) {
    let Some(batch) = LogBatch::decode(&Bytes::copy_from_slice(bytes)) else {
        return;
    };
    let whole = Bytes::from([&batch.head()[..], &batch.payload[..]].concat());
    assert_eq!(whole.len(), bytes.len());
    let back = LogBatch::decode(&whole).expect("what was written is read");
    assert_eq!((back.crc(), &back), (batch.crc(), &batch));
}

/// Extents' rows and places of needles, as records have them, and as a table.
fn rows(bytes: &[u8]) {
    if let Some(place) = Place::decode(bytes) {
        assert_eq!(place.encode(), bytes[..place.encode().len()]);
    }
    if let Some(row) = Row::decode(bytes) {
        assert_eq!(Row::decode(&row.encode()), Some(row));
    }
    let mut b = bytes.to_vec();
    if b.len() < 56 {
        return;
    }
    put(&mut b, 0, b"CTAB");
    let rows = crc32c(&b[56..]);
    put(&mut b, 48, &rows.to_le_bytes());
    let head = crc32c(&b[..52]);
    put(&mut b, 52, &head.to_le_bytes());
    if let Ok(table) = Table::decode(&b, DISK) {
        assert_eq!(Table::decode(&table.encode(DISK), DISK), Ok(table));
    }
}

fn superblock(bytes: &[u8]) {
    let mut b = bytes.to_vec();
    b.resize(4096, 0);
    put(&mut b, 0, b"CAIRNSB\0");
    let crc = crc32c(&b[..4092]);
    put(&mut b, 4092, &crc.to_le_bytes());
    if let Ok(superblock) = Superblock::decode(&b) {
        assert_eq!(Superblock::decode(&superblock.encode()), Ok(superblock));
    }
}
