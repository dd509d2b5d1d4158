//! What process trees cost, read from /proc: CPU time so far and resident memory (proc(5)).

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

/// USER_HZ: the kernel's unit of times in /proc/PID/stat is 1/100 s on every Linux platform we build for.
const TICK: Duration = Duration::from_millis(10);

/// User and system time of the processes and all their descendants, finished children not included.
pub(crate) fn cpu(roots: &[u32]) -> Duration {
    trees(roots).iter().filter_map(|&pid| times(pid)).sum()
}

/// Resident memory of the same processes in KiB; shared pages count once per process.
pub(crate) fn rss_kib(roots: &[u32]) -> u64 {
    trees(roots).iter().filter_map(|&pid| resident_kib(pid)).sum()
}

fn times(pid: u32) -> Option<Duration> {
    let fields = stat(pid)?;
    let ticks = |n: usize| fields.get(n)?.parse::<u32>().ok();
    // utime and stime are fields 14 and 15; `stat` begins with field 3.
    Some(TICK * (ticks(11)? + ticks(12)?))
}

fn resident_kib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

/// The fields of /proc/PID/stat from the state on: what stands before (id, name in parentheses) may contain spaces.
fn stat(pid: u32) -> Option<Vec<String>> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(
        line.rsplit_once(')')?
            .1
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
    )
}

fn trees(roots: &[u32]) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
        if let Some(parent) = stat(pid).and_then(|fields| fields.get(1)?.parse().ok()) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found: Vec<u32> = Vec::new();
    let mut todo = roots.to_vec();
    while let Some(pid) = todo.pop() {
        if !found.contains(&pid) {
            found.push(pid);
            todo.extend(children.get(&pid).into_iter().flatten());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_in_its_own_tree_and_uses_memory() {
        let me = std::process::id();
        assert_eq!(trees(&[me]).first(), Some(&me));
        assert!(rss_kib(&[me]) > 100);
        assert_eq!(cpu(&[]), Duration::ZERO);
    }
}
