//! The processes of a pod, found as the kernel knows them: the kubelet sets HOSTNAME in each.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

/// Ids of the live processes of this pod.
pub fn processes_of(pod_name: &str) -> Vec<i32> {
    let wanted = format!("HOSTNAME={pod_name}");
    let of_pod = |pid: &i32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
    };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(of_pod).collect()
}

/// SIGKILL to all of them at once, as the kernel does to a container: no handler runs. Returns how many there were.
pub fn kill_container(pod_name: &str) -> usize {
    let pids = processes_of(pod_name);
    for pid in pids.iter().filter_map(|pid| Pid::from_raw(*pid)) {
        // It may have ended meanwhile.
        let _ = kill_process(pid, Signal::KILL);
    }
    pids.len()
}
