//! The processes of a pod, found as the kernel knows them: the kubelet sets HOSTNAME in each.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

/// Ids of the live processes of this pod.
pub fn processes_of(pod_name: &str) -> Vec<i32> {
    let wanted = format!("HOSTNAME={pod_name}");
    processes(|pid| has(pid, "environ", &wanted))
}

/// Ids of the live helpers of `pod_mutation_hook` whose scheduler has this wake socket.
pub fn helpers_of(wake_socket: &str) -> Vec<i32> {
    let wanted = format!("WINDLASS_WAKE_SOCKET={wake_socket}");
    processes(|pid| has(pid, "cmdline", "windlass_airflow.pod_mutation") && has(pid, "environ", &wanted))
}

fn processes(which: impl Fn(i32) -> bool) -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| which(*pid)).collect()
}

/// Whether a file of `/proc/PID` has this among its texts.
fn has(pid: i32, file: &str, wanted: &str) -> bool {
    let texts = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    texts.split(|byte| *byte == 0).any(|text| text == wanted.as_bytes())
}

/// SIGKILL to all of them at once, as the kernel does to a container: no handler runs. Returns how many there were.
pub fn kill_container(pod_name: &str) -> usize {
    kill_all(&processes_of(pod_name))
}

/// SIGKILL to each. Returns how many there were.
pub fn kill_all(pids: &[i32]) -> usize {
    for pid in pids.iter().filter_map(|pid| Pid::from_raw(*pid)) {
        // It may have ended meanwhile.
        let _ = kill_process(pid, Signal::KILL);
    }
    pids.len()
}
