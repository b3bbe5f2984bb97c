//! What the system tells of a process and of its disks. Linux; where it does not tell, nothing is said.

use std::fs::read_to_string;
use std::time::Duration;

/// Linux' unit of process times: USER_HZ, a hundredth of a second on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// A process by its number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process(pub(crate) u32);

/// All disks of this machine.
pub(crate) struct Machine;

impl Process {
    /// The one that asks.
    pub(crate) fn own() -> Self {
        Self(std::process::id())
    }

    /// Processor time it has used, of user and system.
    pub(crate) fn cpu(self) -> Option<Duration> {
        let stat = read_to_string(format!("/proc/{}/stat", self.0)).ok()?;
        // The name may have spaces and parentheses: what follows has neither.
        let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
        let ticks = fields.next()?.parse::<f64>().ok()? + fields.next()?.parse::<f64>().ok()?;
        Some(Duration::from_secs_f64(ticks / TICKS_PER_SECOND))
    }

    /// Bytes of it that are in memory.
    pub(crate) fn resident(self) -> Option<u64> {
        self.status("VmRSS:")
    }

    /// The most that was ever in memory.
    pub(crate) fn resident_peak(self) -> Option<u64> {
        self.status("VmHWM:")
    }

    fn status(self, name: &str) -> Option<u64> {
        let status = read_to_string(format!("/proc/{}/status", self.0)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
    }
}

impl Machine {
    /// Flush requests that disks have completed: the write barriers of syncs, whoever asked for them.
    ///
    /// <https://docs.kernel.org/admin-guide/iostats.html>, field 16.
    pub(crate) fn flushes() -> Option<u64> {
        let table = read_to_string("/proc/diskstats").ok()?;
        flushes_of(&table, |disk| {
            // Partitions are counted with their disk, loop devices with the disk that their file is on.
            !disk.starts_with("loop") && std::path::Path::new("/sys/block").join(disk).exists()
        })
    }
}

fn flushes_of(table: &str, is_disk: impl Fn(&str) -> bool) -> Option<u64> {
    let flushes = table.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        is_disk(fields.get(2)?).then(|| fields.get(18)?.parse::<u64>().ok())?
    });
    flushes.fold(None, |sum, n| Some(sum.unwrap_or(0) + n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flushes_of_whole_disks_are_counted_once() {
        let table = " 254 0 vda 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 40 17\n 254 1 vda1 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 40 17\n 7 0 loop0 0\n 8 0 old 1 2 3\n";
        assert_eq!(flushes_of(table, |d| !d.ends_with('1')), Some(40));
        assert_eq!(flushes_of("", |_| true), None);
    }

    #[test]
    fn a_process_uses_what_it_uses() {
        let own = Process::own();
        assert!(own.resident().expect("Linux tells") > 0);
        assert!(own.resident_peak() >= own.resident().filter(|r| *r < 1 << 20));
        assert!(own.cpu().is_some());
        assert!(Process(u32::MAX).cpu().is_none());
    }
}
