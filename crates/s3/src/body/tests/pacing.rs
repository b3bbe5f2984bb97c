//! Clients that are silent, slow, or only slower than others.

use super::fixture::*;
use crate::body::{BodyPlan, BodyRefusal, collect};
use bytes::Bytes;
use std::time::Duration;

fn seconds(n: u64) -> Event {
    Event::Wait(Duration::from_secs(n))
}

fn bytes(n: usize) -> Event {
    Event::Bytes(Bytes::from(vec![b'x'; n]))
}

fn plain(length: usize) -> BodyPlan {
    planned(&head(UNSIGNED, &[("content-length", &length.to_string())])).unwrap()
}

#[test]
fn silence_ends() {
    for events in [vec![seconds(31)], vec![bytes(10), seconds(31), bytes(90)]] {
        let (got, end) = read(plain(100), events);
        assert!(got.len() <= 10);
        assert_eq!(end, Err(BodyRefusal::RequestTimeout));
    }
}

#[test]
fn a_trickle_ends() {
    let trickle = (0..100).flat_map(|_| [seconds(1), bytes(1)]);
    let (got, end) = read(plain(100), trickle);
    assert_eq!(end, Err(BodyRefusal::RequestTimeout));
    assert_eq!(got.len(), 29);
}

#[test]
fn slow_is_not_stalled() {
    let slow = (0..100).flat_map(|_| [seconds(29), bytes(4096)]);
    let (got, end) = read(plain(409_600), slow);
    assert_eq!((got.len(), end), (409_600, Ok(vec![])));
}

#[test]
fn framing_counts_for_nothing_but_its_bytes() {
    let plan = framed(UNSIGNED_TRAILER, 1, None);
    let silence = [
        Event::Bytes(Bytes::from_static(b"1\r\n")),
        seconds(40),
        Event::Bytes(Bytes::from_static(b"x")),
    ];
    assert_eq!(read(plan, silence).1, Err(BodyRefusal::RequestTimeout));
}

#[test]
fn documents_have_the_same_patience() {
    let (connection, clock) = connection([bytes(10), seconds(31), bytes(90)]);
    let end = block_on(collect(plain(100), connection, clock, 1000));
    assert_eq!(end, Err(BodyRefusal::RequestTimeout));
}
