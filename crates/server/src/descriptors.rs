//! How many descriptors the process may have, and how many connections that leaves room for.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use types::limits::{CONNECTIONS_DEFAULT, DESCRIPTORS_KEPT};

/// Raises the limit as far as it goes (the usual soft limit is far below what the faces admit) and answers how many
/// connections may be served at once, of those that there is memory for, so that files of the disks are never refused for them.
pub(crate) fn connections_max(by_memory: usize) -> usize {
    let now = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: now.maximum,
        ..now
    };
    let limit = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => raised.current,
        Err(error) => {
            tracing::warn!(%error, limit = now.current, "the limit of open descriptors stays as it is");
            now.current
        }
    };
    let connections = within(limit, by_memory);
    if connections < by_memory.min(CONNECTIONS_DEFAULT) {
        tracing::warn!(
            limit,
            connections,
            "the limit of open descriptors is low: fewer connections are served at once (systemd: LimitNOFILE)"
        );
    }
    connections
}

/// Connections within a limit of descriptors (`None`: there is none). A quarter of it however low it is: the disks' files are
/// then fewer too, at first.
fn within(limit: Option<u64>, most: usize) -> usize {
    let limit = limit.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
    let left = limit.saturating_sub(DESCRIPTORS_KEPT).max(limit / 4);
    left.min(most).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_for_files() {
        assert_eq!(within(None, 4096), 4096);
        assert_eq!(within(Some(1 << 20), 4096), 4096);
        assert_eq!(within(Some(4096), 1 << 16), 4096 - DESCRIPTORS_KEPT);
        assert_eq!(within(Some(1024), 4096), 256);
        assert_eq!(within(Some(0), 4096), 1);
    }
}
