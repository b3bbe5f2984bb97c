//! Framed bodies that are broken: each way by name, and thousands made at random. // I9

use super::fixture::*;
use crate::body::{BodyPlan, BodyRefusal};
use proptest::prelude::*;
use std::sync::atomic::{AtomicU32, Ordering};

const CRC32C: &str = "x-amz-checksum-crc32c";
const CRC: &str = "sOO8/Q==";

/// The refusal of `wire`, sent whole.
fn refusal(plan: &BodyPlan, wire: &[u8]) -> BodyRefusal {
    read(plan.clone(), pieces(wire, &[])).1.unwrap_err()
}

/// A plan for 16 KiB unsigned with a trailer, and its good wire form in two frames.
fn unsigned() -> (BodyPlan, String) {
    let plan = framed(UNSIGNED_TRAILER, 16384, Some(CRC32C));
    let wire = encode(&plan, &[b'x'; 16384], 8192, Some((CRC32C, CRC)));
    (plan, String::from_utf8(wire).unwrap())
}

/// The same, signed.
fn signed() -> (BodyPlan, String) {
    let plan = framed(SIGNED_TRAILER, 16384, Some(CRC32C));
    let wire = encode(&plan, &[b'x'; 16384], 8192, Some((CRC32C, CRC)));
    (plan, String::from_utf8(wire).unwrap())
}

/// `wire` with the first `from` replaced.
fn with(wire: &str, from: &str, to: &str) -> Vec<u8> {
    assert!(wire.contains(from), "{from:?}");
    wire.replacen(from, to, 1).into_bytes()
}

#[test]
fn broken_framing() {
    let (plan, wire) = unsigned();
    for (from, to) in [
        ("2000\r\n", "\r\n"),
        ("2000\r\n", "zz\r\n"),
        ("2000\r\n", "-2000\r\n"),
        ("2000\r\n", "+2000\r\n"),
        ("2000\r\n", "0x2000\r\n"),
        ("2000\r\n", " 2000\r\n"),
        ("2000\r\n", "00000000000002000\r\n"),
        ("2000\r\n", "2000\n"),
        ("2000\r\n", "2000;a=b\r\n"),
        ("2000\r\n", "2000;chunk-signature=\r\n"),
        ("x\r\n2000", "x2000"),
        ("x\r\n2000", "xx\r\n2000"),
        ("x\r\n2000", "x\n2000"),
        ("0\r\nx-amz", "\r\n0\r\nx-amz"),
    ] {
        let got = refusal(&plan, &with(&wire, from, to));
        assert!(
            matches!(got, BodyRefusal::BadRequest(_)),
            "{from:?} {to:?}: {got:?}"
        );
    }
    let got = refusal(&plan, &[wire.as_bytes(), b"\r\n"].concat());
    assert_eq!(got, BodyRefusal::BadRequest("bytes after the last chunk"));
    let long = "0".repeat(1 << 20);
    let got = refusal(&plan, &with(&wire, "2000\r\n", &long));
    assert_eq!(
        got,
        BodyRefusal::BadRequest("a line of the chunked encoding is too long")
    );
}

#[test]
fn lengths_that_lie() {
    let (plan, wire) = unsigned();
    let incomplete = |provided| BodyRefusal::IncompleteBody {
        expected: 16384,
        provided,
    };
    assert_eq!(refusal(&plan, b""), incomplete(0));
    assert_eq!(
        refusal(&plan, &wire.as_bytes()[..9000]),
        incomplete(8192 + 9000 - 6 - 8192 - 8)
    );
    assert_eq!(
        refusal(&plan, &wire.as_bytes()[..wire.len() - 1]),
        incomplete(16384)
    );
    assert_eq!(refusal(&plan, b"0\r\n\r\n"), incomplete(0));
    assert_eq!(refusal(&plan, b"4001\r\n"), incomplete(16385));
    assert_eq!(refusal(&plan, b"ffffffffffffffff\r\n"), incomplete(u64::MAX));
    let overflowing = with(&wire, "x\r\n2000\r\n", "x\r\nffffffffffffffff\r\n");
    assert_eq!(refusal(&plan, &overflowing), incomplete(u64::MAX));
    let broken = read(
        plan.clone(),
        [Event::Bytes(wire.as_bytes()[..100].to_vec().into()), Event::Break],
    );
    assert_eq!(broken.1.unwrap_err(), incomplete(94));
}

#[test]
fn small_frames_come_last_or_not_at_all() {
    for payload in [SIGNED, UNSIGNED_TRAILER] {
        let plan = framed(payload, 20_000, None);
        let wire = encode(&plan, &[1; 20_000], 8191, None);
        assert_eq!(
            refusal(&plan, &wire),
            BodyRefusal::InvalidChunkSizeError { chunk: 1, size: 8191 }
        );
    }
}

#[test]
fn trailers_that_lie() {
    let (plan, wire) = unsigned();
    let line = format!("{CRC32C}:{CRC}\r\n");
    for to in [
        String::new(),
        format!("{line}{line}"),
        format!("{line}x-amz-meta-a:1\r\n"),
        format!("{CRC32C}\r\n"),
        "x-amz-checksum-crc32:sOO8/Q==\r\n".to_owned(),
        format!("{line}x-amz-trailer-signature:{}\r\n", "0".repeat(64)),
        format!("{CRC32C}:sOO8\n/Q==\r\n"),
    ] {
        assert_eq!(
            refusal(&plan, &with(&wire, &line, &to)),
            BodyRefusal::MalformedTrailerError,
            "{to:?}"
        );
    }
    for value in ["", "sOO8/Q", "sOO8", "!!!!!!==", "sOO8/R=="] {
        let got = refusal(&plan, &with(&wire, CRC, value));
        assert!(
            matches!(got, BodyRefusal::InvalidRequest(_)),
            "{value:?}: {got:?}"
        );
    }
    let endless = format!("{CRC32C}:{}", "A".repeat(1 << 20));
    assert!(matches!(
        refusal(&plan, &with(&wire, &line, &endless)),
        BodyRefusal::BadRequest(_)
    ));

    let plan = framed(SIGNED, 0, None);
    let wire = String::from_utf8(encode(&plan, b"", 8192, None)).unwrap();
    let unannounced = wire.strip_suffix("\r\n").unwrap().to_owned() + &line + "\r\n";
    assert_eq!(
        refusal(&plan, unannounced.as_bytes()),
        BodyRefusal::BadRequest("a trailer that was not announced")
    );
}

#[test]
fn signatures_that_lie() {
    let (plan, wire) = signed();
    let mismatch = BodyRefusal::SignatureDoesNotMatch;
    for (from, to) in [
        ("xxx", "xxy"),
        (CRC, "sOO8/A=="),
        ("x-amz-trailer-signature:", "x-amz-trailer-signature:0"),
        (";chunk-signature=", ";chunk-signature=0"),
    ] {
        assert_eq!(
            refusal(&plan, &with(&wire, from, to)),
            mismatch,
            "{from:?} {to:?}"
        );
    }
    let at = wire.find("x-amz-trailer-signature").unwrap();
    assert_eq!(
        refusal(&plan, format!("{}\r\n", &wire[..at]).as_bytes()),
        mismatch
    );
    // Each frame covers the one before: equal bytes in equal frames cannot change places.
    let second = wire.match_indices("2000;chunk").nth(1).unwrap().0;
    let swapped = [&wire[second..second * 2], &wire[..second], &wire[second * 2..]].concat();
    assert_eq!(refusal(&plan, swapped.as_bytes()), mismatch);
    // Nothing of a frame's last piece is handed on before its signature has held.
    let (bytes, _) = read(plan.clone(), pieces(&with(&wire, "xxx", "xxy"), &[]));
    assert_eq!(bytes.len(), 0);
    for to in ["", ";chunk-sig=", ";"] {
        let got = refusal(&plan, &with(&wire, ";chunk-signature=", to));
        assert!(matches!(got, BodyRefusal::BadRequest(_)), "{to:?}: {got:?}");
    }
}

/// One random wound.
fn wound(wire: &mut Vec<u8>, kind: u8, at: usize, byte: u8) {
    let at = at % wire.len().max(1);
    let near = (at + usize::from(byte)).min(wire.len());
    match kind {
        0 if !wire.is_empty() => wire[at] = byte,
        1 => wire.insert(at.min(wire.len()), byte),
        2 if !wire.is_empty() => drop(wire.remove(at)),
        3 => wire.truncate(at),
        4 => wire.push(byte),
        5 => drop(wire.drain(at..near)),
        6 => {
            let copy = wire[at..near].to_vec();
            wire.splice(at..at, copy);
        }
        _ => wire.rotate_left(at),
    }
}

static REFUSED: AtomicU32 = AtomicU32::new(0);

fn any_wounds() -> impl Strategy<Value = Vec<(u8, prop::sample::Index, u8)>> {
    // Most of a body is bytes of the object; wounds near its framing find more.
    prop::collection::vec((0..8u8, any::<prop::sample::Index>(), any::<u8>()), 1..4)
}

#[test]
fn wounded_bodies_are_refused() {
    let cases = 3000;
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(cases));
    let strategy = (
        0..3usize,
        0..9000usize,
        any_wounds(),
        prop::collection::vec(0..600usize, 0..6),
    );
    let outcome = runner.run(&strategy, |(form, length, wounds, cuts)| {
        let payload = [SIGNED, SIGNED_TRAILER, UNSIGNED_TRAILER][form];
        let trailer = (form > 0).then_some((CRC32C, CRC));
        let data: Vec<u8> = (0..length).map(|i| (i * 7) as u8).collect();
        let plan = framed(payload, length, trailer.map(|t| t.0));
        let good = encode(&plan, &data, 8192, trailer);
        let mut wire = good.clone();
        for (kind, at, byte) in &wounds {
            let line = at.index(200).min(wire.len());
            let at = if kind % 2 == 0 {
                at.index(wire.len().max(1))
            } else {
                wire.len() - line
            };
            wound(&mut wire, *kind, at, *byte);
        }
        prop_assume!(wire != good);
        let (bytes, end) = read(plan, pieces(&wire, &cuts));
        match end {
            Err(_) => drop(REFUSED.fetch_add(1, Ordering::Relaxed)),
            // A size or a name in other letters says the same.
            Ok(checksums) => {
                prop_assert_eq!(checksums.len(), usize::from(form > 0));
                prop_assert_eq!(bytes.len(), length);
                prop_assert!(form == 2 || bytes == data, "a signature let other bytes pass");
            }
        }
        Ok(())
    });
    outcome.unwrap();
    let refused = REFUSED.load(Ordering::Relaxed);
    assert!(refused >= 2000, "only {refused} of {cases} were refused");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn garbage_is_refused(form in 0..3usize, wire in prop::collection::vec(any::<u8>(), 0..400), length in 1..100usize) {
        let plan = framed([SIGNED, SIGNED_TRAILER, UNSIGNED_TRAILER][form], length, None);
        prop_assert!(read(plan, pieces(&wire, &[3, 5])).1.is_err());
    }

    #[test]
    fn near_frames_are_refused(form in 0..2usize, wire in "([0-9a-f]{0,17}(;chunk-signature=[0-9a-f]{60,64})?\r?\n){0,8}") {
        let plan = framed([SIGNED, SIGNED_TRAILER][form], 100, None);
        prop_assert!(read(plan, pieces(wire.as_bytes(), &[])).1.is_err());
    }
}
