//! Containers as processes: the thread that starts them, and the handle of a running one.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

use super::spawn::{self, Isolation, Spec, Started};

/// What to run, before it is made into C strings.
pub(crate) struct Launch {
    pub(crate) argv: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) dir: PathBuf,
    pub(crate) log: PathBuf,
    /// The disk of the log has no room.
    pub(crate) log_is_full: bool,
    pub(crate) hostname: String,
    pub(crate) hosts_file: PathBuf,
}

/// A running container.
#[derive(Clone)]
pub(crate) struct Process {
    pidfd: Arc<AsyncFd<OwnedFd>>,
    isolation: Isolation,
}

type Job = (Spec, oneshot::Sender<io::Result<Started>>);

/// The thread that starts all containers. PDEATHSIG ties them to the thread that forked them, and tokio's threads come
/// and go.
pub(crate) struct Spawner {
    jobs: mpsc::Sender<Job>,
    isolation: Isolation,
}

impl Spawner {
    /// Finds out what this machine permits, and starts the thread. It ends, and with it all containers, when this is
    /// dropped.
    pub(crate) fn start(scratch: &Path) -> io::Result<Self> {
        let isolation = probe(scratch)?;
        if !matches!(isolation, Isolation::Full { .. }) {
            tracing::warn!(
                ?isolation,
                "this machine permits no PID namespaces: processes that leave their container's process group \
                 outlive it; run as root or allow unprivileged user namespaces"
            );
        }
        let (jobs, queue) = mpsc::channel::<Job>();
        std::thread::Builder::new().name("container-spawner".into()).spawn(move || {
            for (spec, reply) in queue {
                // Nobody waits any more: the pod is gone, and with the descriptor goes nothing; so end it.
                if let Err(Ok(started)) = reply.send(spawn::spawn(&spec)) {
                    spawn::kill(&started.pidfd, spec.isolation);
                    let _ = spawn::reap(&started.pidfd);
                }
            }
        })?;
        Ok(Self { jobs, isolation })
    }

    /// Starts a container.
    pub(crate) async fn spawn(&self, launch: &Launch) -> io::Result<Process> {
        let spec = spec(launch, self.isolation)?;
        let (reply, answer) = oneshot::channel();
        self.jobs.send((spec, reply)).map_err(|_| io::Error::other("the kubelet is stopping"))?;
        let started = answer.await.map_err(|_| io::Error::other("the kubelet is stopping"))??;
        Ok(Process { pidfd: Arc::new(spawn::awaitable(started.pidfd)?), isolation: self.isolation })
    }
}

impl Process {
    /// Waits for the end; the exit code is 128 + signal if a signal ended it. To be called once.
    pub(crate) async fn ended(&self) -> i32 {
        match self.pidfd.readable().await.and_then(|_| spawn::reap(self.pidfd.get_ref())) {
            Ok(code) => code,
            Err(error) => {
                tracing::error!(%error, "the exit code of a container is lost; it counts as 255");
                255
            }
        }
    }

    pub(crate) fn terminate(&self) {
        spawn::terminate(self.pidfd.get_ref());
    }

    pub(crate) fn kill(&self) {
        spawn::kill(self.pidfd.get_ref(), self.isolation);
    }
}

fn spec(launch: &Launch, isolation: Isolation) -> io::Result<Spec> {
    let text =
        |s: &str| CString::new(s).map_err(|_| io::Error::other(format!("{s:?} holds a NUL character")));
    let path = |p: &Path| CString::new(p.as_os_str().as_bytes()).map_err(io::Error::other);
    let program = program(launch)?;
    let mut log = std::fs::OpenOptions::new().create(true).append(true).open(&launch.log)?;
    if launch.log_is_full {
        // Every write to it ends with ENOSPC. Beside the empty file: who reads that must find an end.
        log = std::fs::OpenOptions::new().write(true).open("/dev/full")?;
    }
    Ok(Spec {
        program: path(&program)?,
        argv: launch.argv.iter().map(|a| text(a)).collect::<Result<_, _>>()?,
        env: launch.env.iter().map(|(k, v)| text(&format!("{k}={v}"))).collect::<Result<_, _>>()?,
        dir: path(&launch.dir)?,
        log: log.into(),
        hostname: text(&launch.hostname)?,
        hosts_file: path(&launch.hosts_file)?,
        isolation,
    })
}

/// The program's file, found as a runtime finds it: in the container's own PATH.
fn program(launch: &Launch) -> io::Result<PathBuf> {
    let Some(name) = launch.argv.first().filter(|n| !n.is_empty()) else {
        return Err(io::Error::other("no command specified"));
    };
    if name.contains('/') {
        return Ok(launch.dir.join(name));
    }
    let search = launch.env.get("PATH").map_or("/usr/local/bin:/usr/bin:/bin", String::as_str);
    std::env::split_paths(search)
        .map(|folder| launch.dir.join(folder).join(name))
        .find(|file| {
            std::fs::metadata(file).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
        })
        .ok_or_else(|| {
            let problem = format!("exec: {name:?}: executable file not found in $PATH");
            io::Error::new(io::ErrorKind::NotFound, problem)
        })
}

/// The best isolation that works here, tried with a real process.
fn probe(scratch: &Path) -> io::Result<Isolation> {
    std::fs::create_dir_all(scratch)?;
    let hosts_file = scratch.join("probe-hosts");
    std::fs::write(&hosts_file, "127.0.0.1 localhost\n")?;
    let launch = Launch {
        argv: vec!["true".into()],
        env: BTreeMap::new(),
        dir: "/".into(),
        log: scratch.join("probe.log"),
        log_is_full: false,
        hostname: "probe".into(),
        hosts_file,
    };
    let mut last = None;
    for level in Isolation::LEVELS {
        let ended = spec(&launch, level).and_then(|s| spawn::spawn(&s)).and_then(|s| spawn::reap(&s.pidfd));
        match ended {
            Ok(0) => return Ok(level),
            Ok(code) => last = Some(io::Error::other(format!("`true` ended with {code}"))),
            Err(error) => {
                tracing::debug!(?level, %error, "this isolation is not permitted here");
                last = Some(error);
            }
        }
    }
    Err(last.unwrap_or_else(|| io::Error::other("no way to start a process")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_container_has_its_own_name_and_dies_as_a_whole() {
        let dir = tempfile::tempdir().expect("a folder");
        let spawner = Spawner::start(dir.path()).expect("processes can be started");
        let hosts_file = dir.path().join("hosts");
        std::fs::write(&hosts_file, "127.64.0.9 own-name\n").expect("writes");
        let log = dir.path().join("log");
        let launch = Launch {
            argv: ["sh", "-c", "uname -n; setsid sleep 1000 & echo $$; wait"].map(str::to_owned).into(),
            env: [("PATH".to_owned(), "/usr/bin:/bin".to_owned())].into(),
            dir: "/".into(),
            log: log.clone(),
            log_is_full: false,
            hostname: "own-name".into(),
            hosts_file,
        };
        let process = spawner.spawn(&launch).await.expect("starts");
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
        while std::fs::read_to_string(&log).unwrap_or_default().lines().count() < 2 {
            assert!(tokio::time::Instant::now() < deadline, "the container has not written");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        process.terminate();
        assert_eq!(process.ended().await, 143);
        if spawner.isolation != Isolation::Group {
            assert!(std::fs::read_to_string(&log).expect("reads").starts_with("own-name\n"));
        }
    }

    #[tokio::test]
    async fn a_container_cannot_write_to_a_full_disk() {
        let dir = tempfile::tempdir().expect("a folder");
        let spawner = Spawner::start(dir.path()).expect("processes can be started");
        let hosts_file = dir.path().join("hosts");
        std::fs::write(&hosts_file, "127.64.0.9 x\n").expect("writes");
        let log = dir.path().join("log");
        let launch = Launch {
            argv: ["sh", "-c", "echo something || exit 7"].map(str::to_owned).into(),
            env: [("PATH".to_owned(), "/usr/bin:/bin".to_owned())].into(),
            dir: "/".into(),
            log: log.clone(),
            log_is_full: true,
            hostname: "x".into(),
            hosts_file,
        };
        assert_eq!(spawner.spawn(&launch).await.expect("starts").ended().await, 7);
        assert_eq!(std::fs::read_to_string(&log).expect("reads"), "");
    }

    #[tokio::test]
    async fn a_missing_program_is_named() {
        let dir = tempfile::tempdir().expect("a folder");
        let spawner = Spawner::start(dir.path()).expect("processes can be started");
        let mut launch = Launch {
            argv: vec!["no-such-program".into()],
            env: BTreeMap::new(),
            dir: "/".into(),
            log: dir.path().join("log"),
            log_is_full: false,
            hostname: "x".into(),
            hosts_file: dir.path().join("probe-hosts"),
        };
        let Err(error) = spawner.spawn(&launch).await else { panic!("starts") };
        assert_eq!(error.to_string(), "exec: \"no-such-program\": executable file not found in $PATH");
        launch.argv = vec!["/no/such/file".into()];
        let Err(error) = spawner.spawn(&launch).await else { panic!("starts") };
        assert_eq!(error.to_string(), "exec: No such file or directory (os error 2)");
        launch.argv = vec!["true".into()];
        launch.dir = "/no/such/folder".into();
        let Err(error) = spawner.spawn(&launch).await else { panic!("starts") };
        assert_eq!(error.to_string(), "chdir: No such file or directory (os error 2)");
    }
}
