//! What processes cost, as the kernel counts it: CPU in milliseconds, memory in MiB.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Times of one process or thread, in clock ticks, and its parent.
struct Stat {
    parent: i32,
    own: u64,
    /// Of children that have ended and were waited for.
    reaped: u64,
}

/// Fields of `/proc/PID/stat` (proc(5)): 4 ppid, 14 utime, 15 stime, 16 cutime, 17 cstime. Field 2 may hold blanks.
fn stat(path: &Path) -> Result<Stat> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let (_, fields) = text.rsplit_once(')').with_context(|| format!("{} has no name", path.display()))?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let number = |at: usize| -> Result<u64> {
        let field = fields.get(at - 3).with_context(|| format!("{} is short", path.display()))?;
        field.parse().with_context(|| format!("field {at} of {}", path.display()))
    };
    Ok(Stat { parent: number(4)? as i32, own: number(14)? + number(15)?, reaped: number(16)? + number(17)? })
}

fn millis(ticks: u64) -> f64 {
    ticks as f64 * 1_000.0 / rustix::param::clock_ticks_per_second() as f64
}

/// Of one process with all its threads.
pub(crate) fn cpu_ms(pid: i32) -> Result<f64> {
    Ok(millis(stat(Path::new(&format!("/proc/{pid}/stat")))?.own))
}

/// Of a process and its children, those that have ended included (PostgreSQL: one process per connection).
pub(crate) fn family_cpu_ms(pid: i32) -> Result<f64> {
    let parent = stat(Path::new(&format!("/proc/{pid}/stat")))?;
    let mut ticks = parent.own + parent.reaped;
    for entry in fs::read_dir("/proc").context("list /proc")?.flatten() {
        let numeric = entry.file_name().to_str().is_some_and(|name| name.parse::<i32>().is_ok());
        // One that ends meanwhile is counted with its parent from then on.
        if numeric && let Ok(child) = stat(&entry.path().join("stat")) {
            ticks += if child.parent == pid { child.own } else { 0 };
        }
    }
    Ok(millis(ticks))
}

/// Of the live threads of this process that have this name.
pub(crate) fn threads_cpu_ms(name: &str) -> Result<f64> {
    let mut ticks = 0;
    for thread in fs::read_dir("/proc/self/task").context("list the threads")?.flatten() {
        let comm = fs::read_to_string(thread.path().join("comm")).unwrap_or_default();
        if comm.trim_end() == name {
            ticks += stat(&thread.path().join("stat"))?.own;
        }
    }
    Ok(millis(ticks))
}

/// Resident memory of a process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Memory {
    pub(crate) now_mib: f64,
    pub(crate) peak_mib: f64,
}

pub(crate) fn memory(pid: i32) -> Result<Memory> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let mib = |field: &str| -> Result<f64> {
        let value = text.lines().find_map(|line| line.strip_prefix(field));
        let kib = value.and_then(|value| value.trim().strip_suffix("kB")?.trim().parse::<f64>().ok());
        Ok(kib.with_context(|| format!("{path} has no {field}"))? / 1_024.0)
    };
    Ok(Memory { now_mib: mib("VmRSS:")?, peak_mib: mib("VmHWM:")? })
}

/// Processor, cores, memory and kernel of this machine.
pub(crate) fn machine() -> String {
    let first = |path: &str, field: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let value = text.lines().find(|line| line.starts_with(field)).and_then(|line| line.split_once(':'));
        value.map_or_else(|| "unknown".to_owned(), |(_, value)| value.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let memory = first("/proc/meminfo", "MemTotal");
    let memory = memory.trim_end_matches(" kB").parse::<f64>().map_or(0.0, |kib| kib / 1_048_576.0);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{cores} x {}, {memory:.0} GiB, Linux {}",
        first("/proc/cpuinfo", "model name"),
        kernel.trim_end()
    )
}

/// Runnable processes of the last minute: what else the machine does.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("unknown").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_time_and_memory() {
        let pid = std::process::id() as i32;
        assert!(cpu_ms(pid).unwrap() >= 0.0 && family_cpu_ms(pid).unwrap() >= cpu_ms(pid).unwrap() - 10.0);
        assert_eq!(threads_cpu_ms("nobody").unwrap(), 0.0);
        let memory = memory(pid).unwrap();
        assert!(memory.now_mib > 0.0 && memory.peak_mib >= memory.now_mib, "{memory:?}");
    }
}
