//! Who descends from whom, read from `/proc/<pid>/stat`.
//!
//! Problem: process groups and sessions do not hold a tree together (a child may `setsid` and fork twice); parentage
//! does, because orphans are handed to the nearest subreaper, which is ours.
//!
//! The parent's pid is read from every `stat` file rather than following `/proc/<pid>/task/*/children`: that file
//! exists only in kernels built with `CONFIG_PROC_CHILDREN`, and the scan is needed only when something is left to kill.
//! One scan is not atomic. Callers repeat it until nothing is left, within a time limit.

use std::collections::HashMap;
use std::io;

use rustix::process::{Pid, Signal, getpid, kill_process};

/// One process as `/proc` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Proc {
    pub(super) pid: Pid,
    /// The parent's pid; 0 when the parent is outside this pid namespace.
    pub(super) parent: i32,
    /// Dead, waiting to be reaped by its parent.
    pub(super) zombie: bool,
}

/// Every process that can be seen now. Processes that end while it reads are left out.
pub(super) fn snapshot() -> io::Result<Vec<Proc>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
            .and_then(Pid::from_raw)
        else {
            continue;
        };
        if let Some((parent, zombie)) = std::fs::read(entry.path().join("stat"))
            .ok()
            .as_deref()
            .and_then(parse_stat)
        {
            found.push(Proc { pid, parent, zombie });
        }
    }
    Ok(found)
}

/// Parent and zombie state of a `stat` line: `pid (comm) state ppid …`, proc_pid_stat(5). The name in parentheses is
/// chosen by the process and may hold anything, parentheses too: the fields are counted from the last `)`.
fn parse_stat(stat: &[u8]) -> Option<(i32, bool)> {
    let end = memchr::memrchr(b')', stat)?;
    let mut fields = std::str::from_utf8(stat.get(end + 1..)?)
        .ok()?
        .split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    Some((parent, matches!(state, "Z" | "X")))
}

/// All living descendants of `root`, parents before their children; `root` itself is not among them.
pub(super) fn descendants(all: &[Proc], root: Pid) -> Vec<Pid> {
    let mut children: HashMap<i32, Vec<Proc>> = HashMap::new();
    for proc in all {
        children.entry(proc.parent).or_default().push(*proc);
    }
    let mut found = Vec::new();
    // Removing a list when it is visited ends the walk even on a snapshot that shows a circle.
    let mut visit = vec![root];
    while let Some(parent) = visit.pop() {
        for child in children
            .remove(&parent.as_raw_nonzero().get())
            .unwrap_or_default()
        {
            visit.push(child.pid);
            if !child.zombie {
                found.push(child.pid);
            }
        }
    }
    found
}

/// SIGKILL to every living descendant of `root`. One pass; what is forked meanwhile is for the next pass.
pub(super) fn kill_below(all: &[Proc], root: Pid) {
    for pid in descendants(all, root) {
        // ESRCH: it has ended by itself. EPERM: it runs under another uid (setuid); nothing more can be done.
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// SIGKILL to every living descendant of this process. One pass.
pub(super) fn kill_own_descendants() -> io::Result<()> {
    kill_below(&snapshot()?, getpid());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pid(raw: i32) -> Pid {
        Pid::from_raw(raw).unwrap()
    }

    fn proc(raw: i32, parent: i32) -> Proc {
        Proc {
            pid: pid(raw),
            parent,
            zombie: false,
        }
    }

    #[test]
    fn reads_parent_and_state_behind_any_name() {
        assert_eq!(parse_stat(b"7 (sh) S 3 7 7 0 -1"), Some((3, false)));
        assert_eq!(parse_stat(b"7 (a) Z 9 (b) R 4 7"), Some((4, false)));
        assert_eq!(parse_stat(b"7 (\xff\n ) Z 12 7"), Some((12, true)));
        assert_eq!(parse_stat(b"7 (sh"), None);
        assert_eq!(parse_stat(b"7 (sh) S"), None);
        assert_eq!(parse_stat(b""), None);
    }

    #[test]
    fn finds_the_whole_tree_and_nothing_else() {
        let all = [
            proc(1, 0),
            proc(10, 1),
            proc(11, 10),
            proc(12, 11),
            proc(20, 1),
            proc(5, 12),
        ];
        let mut found = descendants(&all, pid(10));
        found.sort_by_key(|pid| pid.as_raw_nonzero());
        assert_eq!(found, [pid(5), pid(11), pid(12)]);
        assert_eq!(descendants(&all, pid(20)), []);
    }

    #[test]
    fn passes_through_zombies_without_naming_them() {
        let mut dead = proc(11, 10);
        dead.zombie = true;
        assert_eq!(descendants(&[dead, proc(12, 11)], pid(10)), [pid(12)]);
    }

    #[test]
    fn ends_on_a_circle() {
        let all = [proc(10, 11), proc(11, 10)];
        assert_eq!(descendants(&all, pid(10)).len(), 2);
    }

    #[test]
    fn sees_this_process() {
        let own = snapshot()
            .unwrap()
            .into_iter()
            .find(|proc| proc.pid == getpid())
            .unwrap();
        assert_eq!(Pid::from_raw(own.parent), rustix::process::getppid());
        assert!(!own.zombie);
    }
}
