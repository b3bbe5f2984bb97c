//! Commands from many writers, grouped as the index's owner groups them: whatever waits while a commit is in flight is the next one.

use crate::engine::{Engine, Row};
use anyhow::Result;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

pub const ROWS_PER_COMMAND: u64 = 3;

/// The `n`-th key: spread over the key space, as object keys of many buckets are.
pub fn key(n: u64) -> Vec<u8> {
    let spread = mix(n);
    format!("b{:03x}/{:016x}", spread >> 52, spread).into_bytes()
}

/// 200 bytes that follow from the key, so that a reader can tell a wrong value.
pub fn value(key: &[u8]) -> Vec<u8> {
    let mut seed = key.iter().fold(7_u64, |a, b| mix(a ^ u64::from(*b)));
    let mut out = Vec::with_capacity(200);
    while out.len() < 200 {
        seed = mix(seed);
        out.extend_from_slice(&seed.to_le_bytes());
    }
    out
}

pub fn mix(n: u64) -> u64 {
    let mut z = n.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

pub struct Written {
    pub commands: u64,
    pub elapsed: Duration,
    pub worst: Duration,
}

impl Written {
    pub fn per_second(&self) -> f64 {
        self.commands as f64 / self.elapsed.as_secs_f64()
    }
}

/// Runs `writers` for `time`; commands are numbered from `next`. `acked` hears of each durable command.
pub fn write(
    engine: &Arc<dyn Engine>,
    writers: usize,
    time: Duration,
    next: &Arc<AtomicU64>,
    acked: Option<&(dyn Fn(u64) + Sync)>,
) -> Result<Written> {
    let (tx, rx) = mpsc::channel::<(u64, mpsc::Sender<()>)>();
    let stop = AtomicBool::new(false);
    let begun = Instant::now();
    let (commands, worst) = std::thread::scope(|scope| -> Result<(u64, Duration)> {
        let handles: Vec<_> = (0..writers)
            .map(|_| {
                let (tx, next, stop) = (tx.clone(), next.clone(), &stop);
                scope.spawn(move || {
                    let mut worst = Duration::ZERO;
                    while !stop.load(Ordering::Relaxed) {
                        let command = next.fetch_add(1, Ordering::Relaxed);
                        let (done_tx, done_rx) = mpsc::channel();
                        let sent = Instant::now();
                        if tx.send((command, done_tx)).is_err() || done_rx.recv().is_err() {
                            break;
                        }
                        worst = worst.max(sent.elapsed());
                        if let Some(acked) = acked {
                            acked(command);
                        }
                    }
                    worst
                })
            })
            .collect();
        drop(tx);
        let mut commands = 0;
        while let Ok(first) = rx.recv() {
            let batch: Vec<_> = std::iter::once(first).chain(rx.try_iter().take(1023)).collect();
            let rows: Vec<Row> = batch
                .iter()
                .flat_map(|(c, _)| (0..ROWS_PER_COMMAND).map(move |r| key(c * ROWS_PER_COMMAND + r)))
                .map(|k| {
                    let v = value(&k);
                    (k, v)
                })
                .collect();
            if let Err(e) = engine.commit(rows) {
                stop.store(true, Ordering::Relaxed);
                return Err(e);
            }
            commands += batch.len() as u64;
            for (_, done) in batch {
                let _gone = done.send(());
            }
            if begun.elapsed() > time {
                stop.store(true, Ordering::Relaxed);
            }
        }
        let worst = handles.into_iter().map(|h| h.join().expect("a writer")).max();
        Ok((commands, worst.unwrap_or_default()))
    })?;
    Ok(Written { commands, elapsed: begun.elapsed(), worst })
}

/// Point gets of rows that are there, a second.
pub fn gets(engine: &dyn Engine, rows: u64, time: Duration) -> Result<f64> {
    let begun = Instant::now();
    let mut n = 0_u64;
    while begun.elapsed() < time {
        for _ in 0..256 {
            let k = key(mix(n ^ 0xABCD) % rows);
            anyhow::ensure!(engine.get(&k)?.is_some(), "row {} is absent", n);
            n += 1;
        }
    }
    Ok(n as f64 / begun.elapsed().as_secs_f64())
}

/// Keys scanned a second, in pages of 1,000 from random places.
pub fn scans(engine: &dyn Engine, time: Duration) -> Result<f64> {
    let begun = Instant::now();
    let (mut n, mut keys) = (0_u64, 0_u64);
    while begun.elapsed() < time {
        let start = key(n);
        keys += engine.scan(&start, 1000, &mut |_, _| {})? as u64;
        n += 1;
    }
    Ok(keys as f64 / begun.elapsed().as_secs_f64())
}
