//! What is sent: keys that break naive clients, a small tree, bytes that are all different.

/// More than one page of a listing.
pub(crate) const MANY: usize = 1005;
/// Of a part.
pub(crate) const PART_BYTES: usize = 5 << 20;
/// Five parts, the last one short.
pub(crate) const LARGE_BYTES: usize = 4 * PART_BYTES + 4321;

/// Keys that are never paths.
pub(crate) const ODD_KEYS: [&str; 14] = [
    "a b+c",
    "100%/%2F%zz",
    "q?x=1&y=2",
    "hash#tag",
    "semi;colon,comma",
    "quote'\"double",
    "star*{y}",
    "[x]y",
    "ünïcödé/日本語/🪨",
    "dots../...",
    "~@:=!$",
    "(a)<b>|^`",
    "-dash",
    "tab\there",
];

/// `count` bytes that depend on `seed` and on their place.
pub(crate) fn bytes(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut out = Vec::with_capacity(count + 8);
    while out.len() < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(count);
    out
}

/// Names and contents of a small tree.
pub(crate) fn tree() -> Vec<(String, Vec<u8>)> {
    (0..60)
        .map(|n| {
            (
                format!("tree/d{}/ö {n} {}", n % 7, n % 3),
                bytes(n, 977 * usize::try_from(n).unwrap_or(0)),
            )
        })
        .collect()
}

/// Keys for a listing of more than one page, in order.
pub(crate) fn many() -> Vec<String> {
    (0..MANY).map(|n| format!("many/{n:05}")).collect()
}
