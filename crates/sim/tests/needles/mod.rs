//! Needles that tests make, known by a number, and the machine that they are made on: a life of it, with a journal that runs when it is let.

use extent::{Done, ExtentError, Head};
use sim::{SimClock, SimRng};
use std::future::Future;
use std::sync::{Arc, Mutex};
use types::limits::BLOCK_BYTES;
use types::{BlobId, BucketId, SessionId};
use world::{Exec, World};

pub(crate) fn world(seed: u64) -> World {
    let clock = SimClock::new(1_700_000_000_000);
    clock.boot();
    World {
        clock: Arc::new(clock),
        rng: Arc::new(SimRng::new(seed)),
        exec: Exec::Inline,
    }
}

/// One life of the machine: a runtime that ends with it.
pub(crate) fn life<T>(f: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(f)
}

pub(crate) fn body(serial: u64, length: usize) -> (Vec<u8>, Vec<u32>) {
    let bytes: Vec<u8> = (0..length as u64)
        .map(|i| (i * 31 + serial * 7 + (i >> 8)) as u8)
        .collect();
    let crcs = bytes.chunks(BLOCK_BYTES).map(crc32c).collect();
    (bytes, crcs)
}

/// Bit by bit, but for a table: it need not be fast, and it is nobody else's code.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut i = 0;
        while i < 256 {
            let mut crc = i as u32;
            let mut bit = 0;
            while bit < 8 {
                crc = if crc & 1 == 1 {
                    crc >> 1 ^ 0x82f6_3b78
                } else {
                    crc >> 1
                };
                bit += 1;
            }
            table[i] = crc;
            i += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |crc, b| {
        crc >> 8 ^ TABLE[((crc ^ u32::from(*b)) & 255) as usize]
    })
}

pub(crate) fn head(serial: u64, length: usize) -> Head {
    Head {
        blob: BlobId::new(SessionId(1), serial),
        bucket: BucketId(9),
        key: format!("key {serial}"),
        upload: None,
        ordinal: 0,
        logical_offset: 0,
        last: true,
        length: length as u64,
        append_hlc: 5,
        session: SessionId(1),
    }
}

pub(crate) type Outcome = Arc<Mutex<Option<Result<(), ExtentError>>>>;

pub(crate) fn done() -> (Done, Outcome) {
    let outcome = Outcome::default();
    let told = outcome.clone();
    (
        Box::new(move |result| *told.lock().unwrap() = Some(result)),
        outcome,
    )
}

/// Lets the loops run until the outcome is there.
pub(crate) async fn acked(outcome: Outcome) -> Result<(), ExtentError> {
    for _ in 0..100 {
        if let Some(result) = outcome.lock().unwrap().take() {
            return result;
        }
        tokio::task::yield_now().await;
    }
    Err(ExtentError::Unknown("it never came".into()))
}
