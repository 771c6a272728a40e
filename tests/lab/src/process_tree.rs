//! A process and all that descend from it, by `/proc`.

use std::collections::BTreeMap;
use std::fs;

use rustix::process::{Pid, Signal, kill_process};

/// A process that is told from a later one with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Identity {
    pub(crate) pid: i32,
    /// In clock ticks since boot.
    pub(crate) start_time: u64,
}

struct Stat {
    parent: i32,
    start_time: u64,
    zombie: bool,
}

/// Fields of `/proc/PID/stat` (proc(5)): 3 state, 4 ppid, 22 starttime. Field 2 may hold blanks and brackets.
fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.get(text.rfind(')')? + 2..)?.split(' ');
    let zombie = fields.next()? == "Z";
    let parent = fields.next()?.parse().ok()?;
    Some(Stat { parent, start_time: fields.nth(17)?.parse().ok()?, zombie })
}

/// When it started, in clock ticks since boot.
pub(crate) fn start_time(pid: i32) -> Option<u64> {
    stat(pid).map(|stat| stat.start_time)
}

/// All descendants of `root` that live, without itself.
pub(crate) fn descendants(root: i32) -> Vec<Identity> {
    let mut children: BTreeMap<i32, Vec<Identity>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        if let Some(stat) = stat(pid).filter(|stat| !stat.zombie) {
            let identity = Identity { pid, start_time: stat.start_time };
            children.entry(stat.parent).or_default().push(identity);
        }
    }
    let mut found = Vec::new();
    let mut next = vec![root];
    while let Some(parent) = next.pop() {
        for child in children.remove(&parent).unwrap_or_default() {
            next.push(child.pid);
            found.push(child);
        }
    }
    found
}

/// Sends `signal` if that process still lives.
pub(crate) fn signal(process: Identity, signal: Signal) {
    let same = stat(process.pid).is_some_and(|stat| stat.start_time == process.start_time && !stat.zombie);
    if let Some(pid) = Pid::from_raw(process.pid).filter(|_| same) {
        let _ = kill_process(pid, signal); // gone in between: what was wanted
    }
}

/// Kills all descendants of `root`, and those in `known` that have lost their parent meanwhile.
pub(crate) fn kill_descendants(root: i32, known: &[Identity]) {
    // Stopped processes start no children: when a pass finds nobody new, the tree is whole.
    let mut doomed: Vec<Identity> = known.to_vec();
    loop {
        for process in &doomed {
            signal(*process, Signal::STOP);
        }
        let mut found = descendants(root);
        for process in &doomed {
            found.extend(descendants(process.pid));
        }
        found.retain(|process| !doomed.contains(process));
        found.sort_unstable();
        found.dedup();
        if found.is_empty() {
            break;
        }
        doomed.extend(found);
    }
    for process in doomed {
        signal(process, Signal::KILL);
    }
}
