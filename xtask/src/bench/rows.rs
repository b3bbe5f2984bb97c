//! What is measured, and what it is held to.

/// A row of the table: flags of `cairn bench`.
pub(crate) struct Row {
    pub(crate) what: &'static str,
    pub(crate) operation: &'static str,
    pub(crate) size: &'static str,
    pub(crate) connections: usize,
    pub(crate) payload: &'static str,
    /// So many times the faster peer.
    pub(crate) floor: Option<f64>,
    /// So much of nginx.
    pub(crate) of_files: Option<f64>,
    pub(crate) shown: Shown,
}

/// Who takes part, beside Cairn and its peers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    /// Nobody.
    Peers,
    /// The limit server.
    Limit,
    /// nginx.
    Files,
}

const fn row(
    what: &'static str,
    (operation, size): (&'static str, &'static str),
    connections: usize,
    floor: f64,
    shown: Shown,
) -> Row {
    Row {
        what,
        operation,
        size,
        connections,
        payload: "unsigned",
        floor: Some(floor),
        of_files: None,
        shown,
    }
}

/// Without a floor, of other payloads or more connections.
const fn beside(
    what: &'static str,
    (operation, size): (&'static str, &'static str),
    connections: usize,
    payload: &'static str,
) -> Row {
    Row {
        what,
        operation,
        size,
        connections,
        payload,
        floor: None,
        of_files: None,
        shown: Shown::Peers,
    }
}

/// All rows, each in every round.
pub(crate) const ROWS: [Row; 18] = [
    row("put 4 KiB, c1", ("put", "4KiB"), 1, 5.0, Shown::Limit),
    row("put 4 KiB, c16", ("put", "4KiB"), 16, 8.0, Shown::Limit),
    Row {
        floor: None,
        ..row("put 4 KiB, c64", ("put", "4KiB"), 64, 0.0, Shown::Limit)
    },
    row("get 4 KiB, c16", ("get", "4KiB"), 16, 6.0, Shown::Files),
    row("head, c16", ("head", "4KiB"), 16, 1.5, Shown::Files),
    row("list of 1,000 keys, c1", ("list", "4KiB"), 1, 5.0, Shown::Limit),
    row("delete, c16", ("delete", "4KiB"), 16, 2.5, Shown::Limit),
    row("mixed 4 KiB, c16", ("mixed", "4KiB"), 16, 4.0, Shown::Limit),
    row("put 1 MiB, c16", ("put", "1MiB"), 16, 2.5, Shown::Limit),
    row("get 1 MiB, c16", ("get", "1MiB"), 16, 2.5, Shown::Files),
    beside("put 4 KiB, c16, signed", ("put", "4KiB"), 16, "signed"),
    beside("put 4 KiB, c16, trailer", ("put", "4KiB"), 16, "trailer"),
    beside("put 1 MiB, c16, signed", ("put", "1MiB"), 16, "signed"),
    beside("put 1 MiB, c16, trailer", ("put", "1MiB"), 16, "trailer"),
    beside("put 1 MiB, c16, streaming", ("put", "1MiB"), 16, "streaming"),
    row("put 64 MiB, c1", ("put", "64MiB"), 1, 2.0, Shown::Limit),
    row("put 64 MiB, c4", ("put", "64MiB"), 4, 3.0, Shown::Limit),
    Row {
        of_files: Some(0.5),
        ..row("get 64 MiB, c4", ("get", "64MiB"), 4, 2.0, Shown::Files)
    },
];

/// Flushes of the disk an acknowledged put of 4 KiB, at most, by connections.
pub(crate) const FLUSHES_MAX: [(usize, f64); 3] = [(1, 1.1), (16, 0.25), (64, 0.1)];

/// Where a floor lies above so much of the limit server, that is the floor.
pub(crate) const OF_LIMIT: f64 = 0.6;
