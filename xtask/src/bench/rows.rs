//! What is measured, who takes part, in which order, and what it is held to.

use serde::{Deserialize, Serialize};

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Who {
    Cairn,
    SeaweedFS,
    Garage,
    /// Static files: the limit of what is read.
    Nginx,
    /// The server that only appends and syncs: the limit of what is written.
    Limit,
}

/// Who Cairn is measured beside.
pub(crate) const PEERS: [Who; 2] = [Who::SeaweedFS, Who::Garage];

/// A client that is not ours, asked to agree with `cairn bench`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Client {
    /// wrk with presigned URLs.
    Wrk,
    /// s5cmd, whole objects.
    S5cmd,
}

/// A row of the table: flags of `cairn bench`.
#[derive(Debug)]
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
    /// Measures the same objects right after Cairn was.
    pub(crate) second: Option<Client>,
}

/// Who takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// Cairn alone.
    Alone,
    /// Its peers, too.
    Peers,
    /// They and the limit server.
    Limit,
    /// They and nginx.
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
        second: None,
    }
}

/// Without a floor, of other payloads.
const fn beside(
    what: &'static str,
    (operation, size): (&'static str, &'static str),
    connections: usize,
    payload: &'static str,
) -> Row {
    Row {
        payload,
        floor: None,
        ..row(what, (operation, size), connections, 0.0, Shown::Peers)
    }
}

/// All rows: those that are held to something first.
pub(crate) static ROWS: [Row; 18] = [
    row("put 4 KiB, c1", ("put", "4KiB"), 1, 5.0, Shown::Limit),
    row("put 4 KiB, c16", ("put", "4KiB"), 16, 8.0, Shown::Limit),
    // Its flushes are held, and nothing else.
    Row {
        floor: None,
        ..row("put 4 KiB, c64", ("put", "4KiB"), 64, 0.0, Shown::Alone)
    },
    Row {
        second: Some(Client::Wrk),
        ..row("get 4 KiB, c16", ("get", "4KiB"), 16, 6.0, Shown::Files)
    },
    row("head, c16", ("head", "4KiB"), 16, 1.5, Shown::Files),
    row("list of 1,000 keys, c1", ("list", "4KiB"), 1, 5.0, Shown::Limit),
    row("delete, c16", ("delete", "4KiB"), 16, 2.5, Shown::Limit),
    row("mixed 4 KiB, c16", ("mixed", "4KiB"), 16, 4.0, Shown::Limit),
    row("put 1 MiB, c16", ("put", "1MiB"), 16, 2.5, Shown::Limit),
    row("get 1 MiB, c16", ("get", "1MiB"), 16, 2.5, Shown::Files),
    row("put 64 MiB, c1", ("put", "64MiB"), 1, 2.0, Shown::Limit),
    row("put 64 MiB, c4", ("put", "64MiB"), 4, 3.0, Shown::Limit),
    Row {
        of_files: Some(0.5),
        second: Some(Client::S5cmd),
        ..row("get 64 MiB, c4", ("get", "64MiB"), 4, 2.0, Shown::Files)
    },
    beside("put 4 KiB, c16, signed", ("put", "4KiB"), 16, "signed"),
    beside("put 4 KiB, c16, trailer", ("put", "4KiB"), 16, "trailer"),
    beside("put 1 MiB, c16, signed", ("put", "1MiB"), 16, "signed"),
    beside("put 1 MiB, c16, trailer", ("put", "1MiB"), 16, "trailer"),
    beside("put 1 MiB, c16, streaming", ("put", "1MiB"), 16, "streaming"),
];

/// Objects that reads choose from, and a listing lists; all of them take no more than so many bytes.
const READ_OBJECTS: usize = 1000;
const READ_BYTES: usize = 512 << 20;

/// Flushes of the disk an acknowledged put of 4 KiB, at most, by connections.
pub(crate) const FLUSHES_MAX: [(usize, f64); 3] = [(1, 1.1), (16, 0.25), (64, 0.1)];

/// Where a floor lies above so much of the limit server, that is the floor.
pub(crate) const OF_LIMIT: f64 = 0.6;

/// Above so much of the best that the limit server did it is no limit.
pub(crate) const DOUBTED_OF_LIMIT: f64 = 1.0;

/// A second client tells the same within so much.
pub(crate) const AGREES_WITHIN: f64 = 0.15;

impl Who {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Cairn => "Cairn",
            Self::SeaweedFS => "SeaweedFS",
            Self::Garage => "Garage",
            Self::Nginx => "nginx",
            Self::Limit => "limit",
        }
    }
}

impl Client {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Wrk => "wrk",
            Self::S5cmd => "s5cmd",
        }
    }
}

impl Row {
    /// Bytes of an object.
    pub(crate) fn size_bytes(&self) -> usize {
        let (digits, unit) = self.size.split_at(self.size.len() - "KiB".len());
        let unit = if unit == "KiB" { 1 << 10 } else { 1 << 20 };
        digits.parse::<usize>().map_or(unit, |n| n * unit)
    }

    /// How many objects reads choose from.
    pub(crate) fn objects(&self) -> usize {
        READ_OBJECTS.min(READ_BYTES / self.size_bytes())
    }

    /// Whether the page needs it: the rest stands beside.
    pub(crate) fn is_held(&self) -> bool {
        self.floor.is_some() || self.flushes_max().is_some()
    }

    /// Whether what it is held to needs `who`. nginx is one of the limits that a row is told to be away from, and of one row a floor.
    pub(crate) fn needs(&self, who: Who) -> bool {
        self.is_held() && self.parties().contains(&who) && (who != Who::Nginx || self.of_files.is_some())
    }

    /// Flushes an operation, at most.
    pub(crate) fn flushes_max(&self) -> Option<f64> {
        let is_it = (self.operation, self.size, self.payload) == ("put", "4KiB", "unsigned");
        let most = FLUSHES_MAX.iter().find(|(c, _)| is_it && *c == self.connections);
        most.map(|(_, most)| *most)
    }

    /// Who takes part.
    pub(crate) fn parties(&self) -> Vec<Who> {
        let mut parties = vec![Who::Cairn];
        if self.shown != Shown::Alone {
            parties.extend(PEERS);
        }
        parties.extend(match self.shown {
            Shown::Alone | Shown::Peers => None,
            Shown::Limit => Some(Who::Limit),
            Shown::Files => Some(Who::Nginx),
        });
        parties
    }

    /// Who takes part, in the order of one round. Not a rotation, in which one always comes right behind the same other: first, last but one
    /// and so on to and fro, each round begun one further and, where their number is odd, every other time from behind.
    pub(crate) fn order(&self, round: usize) -> Vec<Who> {
        let parties = self.parties();
        let n = parties.len();
        let step = |at: usize| {
            if at.is_multiple_of(2) {
                n - at / 2
            } else {
                at.div_ceil(2)
            }
        };
        let mut order: Vec<Who> = (0..n).map(|at| parties[(step(at) + round) % n]).collect();
        if n % 2 == 1 && round % 2 == 1 {
            order.reverse();
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn nobody_always_runs_behind_the_same_one() {
        for row in &ROWS {
            let parties = row.parties();
            let mut behind: BTreeMap<(Who, Who), usize> = BTreeMap::new();
            for round in 0..5 {
                let order = row.order(round);
                let mut sorted = order.clone();
                sorted.sort();
                assert_eq!(sorted, parties, "{}: everyone once", row.what);
                for pair in order.windows(2) {
                    *behind.entry((pair[0], pair[1])).or_default() += 1;
                }
            }
            let most = behind.values().max().copied().unwrap_or(0);
            assert!(most <= 2, "{}: {behind:?}", row.what);
        }
    }

    #[test]
    fn what_is_held_stands_first_and_each_name_once() {
        let first_beside = ROWS.iter().position(|row| !row.is_held()).expect("some");
        assert!(ROWS[first_beside..].iter().all(|row| !row.is_held()));
        let held = ROWS.iter().filter(|row| row.flushes_max().is_some()).count();
        assert_eq!(held, FLUSHES_MAX.len());
        for (n, row) in ROWS.iter().enumerate() {
            assert!(ROWS[n + 1..].iter().all(|other| other.what != row.what));
        }
    }
}
