//! Starts a container's process in namespaces of its own.
//!
//! Two processes per container, as with `docker run --init`: a small init, which is a fork of this process that never
//! execs, and the container's main process. With a PID namespace the init is its PID 1: when it ends (because main
//! ended, or was killed, or this program died: PDEATHSIG) the kernel kills everything else in the container, also what
//! has made sessions of its own, as Airflow's task runner does. The init hands SIGTERM on to main, so that main may be
//! any program (a PID 1 of its own would ignore signals that it has no handler for).
//!
//! After `clone` only async-signal-safe calls are made: other threads may have held locks at that moment.
#![expect(
    unsafe_code,
    reason = "clone, namespaces and exec have no safe form; each block is a plain system call"
)]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};

use tokio::io::unix::AsyncFd;

use libc::{c_char, c_int, c_long, c_ulong};

/// How far a container is kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Isolation {
    /// PID, mount and UTS namespaces: everything of the container dies with it, and it has its own host name.
    Full {
        /// Through a user namespace, because this program is not root.
        user: bool,
    },
    /// Mount and UTS namespaces: its own host name only.
    Hostname {
        /// As above.
        user: bool,
    },
    /// A process group.
    Group,
}

impl Isolation {
    /// From the best to what always works.
    pub(crate) const LEVELS: [Self; 5] = [
        Self::Full { user: false },
        Self::Full { user: true },
        Self::Hostname { user: false },
        Self::Hostname { user: true },
        Self::Group,
    ];

    fn flags(self) -> c_int {
        let user = |user| if user { libc::CLONE_NEWUSER } else { 0 };
        match self {
            Self::Full { user: u } => libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWUTS | user(u),
            Self::Hostname { user: u } => libc::CLONE_NEWNS | libc::CLONE_NEWUTS | user(u),
            Self::Group => 0,
        }
    }

    fn has_user(self) -> bool {
        matches!(self, Self::Full { user: true } | Self::Hostname { user: true })
    }
}

/// What to start.
pub(crate) struct Spec {
    pub(crate) program: CString,
    pub(crate) argv: Vec<CString>,
    pub(crate) env: Vec<CString>,
    pub(crate) dir: CString,
    pub(crate) log: OwnedFd,
    pub(crate) hostname: CString,
    /// Bound over `/etc/hosts`.
    pub(crate) hosts_file: CString,
    pub(crate) isolation: Isolation,
}

/// A started container.
pub(crate) struct Started {
    /// Readable when the container has ended.
    pub(crate) pidfd: OwnedFd,
}

/// The steps that can fail in the child, in the order of [`STEPS`].
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
enum Step {
    UserMap,
    Mounts,
    Hostname,
    Fork,
    Dir,
    Output,
    Exec,
}

const STEPS: [&str; 7] = [
    "map the user",
    "mount /proc and /etc/hosts",
    "set the host name",
    "fork",
    "chdir",
    "open output",
    "exec",
];

/// Everything that the child needs, prepared before `clone`: it may not allocate.
struct Prepared<'a> {
    spec: &'a Spec,
    argv: Vec<*const c_char>,
    env: Vec<*const c_char>,
    uid_map: CString,
    gid_map: CString,
    error_fd: RawFd,
    log_fd: RawFd,
}

/// Starts a container. The caller's thread must outlive it: PDEATHSIG watches the thread, not the process.
pub(crate) fn spawn(spec: &Spec) -> io::Result<Started> {
    let pointers = |strings: &[CString]| -> Vec<*const c_char> {
        strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
    };
    // SAFETY: no arguments, cannot fail.
    let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    let (errors, error_end) = pipe()?;
    let prepared = Prepared {
        argv: pointers(&spec.argv),
        env: pointers(&spec.env),
        uid_map: CString::new(format!("{uid} {uid} 1")).map_err(io::Error::other)?,
        gid_map: CString::new(format!("{gid} {gid} 1")).map_err(io::Error::other)?,
        error_fd: error_end.as_raw_fd(),
        log_fd: spec.log.as_raw_fd(),
        spec,
    };
    let mut pidfd: c_int = -1;
    let flags = libc::CLONE_PIDFD | spec.isolation.flags() | libc::SIGCHLD;
    // SAFETY: without CLONE_VM and with a null stack this is fork; the third argument receives the pidfd. The child
    // calls only async-signal-safe functions and never returns from `init`.
    let pid = unsafe { libc::syscall(libc::SYS_clone, c_long::from(flags), 0, &raw mut pidfd, 0, 0) };
    match pid {
        -1 => return Err(io::Error::last_os_error()),
        // SAFETY: in the child, see above.
        0 => unsafe { init(&prepared) },
        _ => {}
    }
    drop(error_end);
    // SAFETY: the kernel has just made this descriptor for us.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    match read_error(errors) {
        None => Ok(Started { pidfd }),
        Some(error) => {
            // The init exits by itself after it has reported; this takes it out of the process table.
            let _ = reap(&pidfd);
            Err(error)
        }
    }
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [-1; 2];
    // SAFETY: the array has room for both descriptors.
    if unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: both are new and owned by nobody else.
    Ok(unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) })
}

/// Waits until main has exec'ed (nothing is said) or a step failed.
fn read_error(errors: OwnedFd) -> Option<io::Error> {
    use std::io::Read as _;
    let mut report = Vec::new();
    std::fs::File::from(errors).read_to_end(&mut report).ok()?;
    let [step, code @ ..] = report.as_slice() else { return None };
    let errno = c_int::from_ne_bytes(code.get(..4)?.try_into().ok()?);
    let step = STEPS.get(usize::from(*step)).unwrap_or(&"start");
    let cause = io::Error::from_raw_os_error(errno);
    Some(io::Error::new(cause.kind(), format!("{step}: {cause}")))
}

/// A pidfd that can be awaited.
pub(crate) fn awaitable(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd stays open and the same until it is dropped, and the AsyncFd owns it.
    Ok(unsafe { AsyncFd::register(pidfd) }?)
}

/// Takes the exit code of an ended container: 128 + signal if a signal ended it.
pub(crate) fn reap(pidfd: &OwnedFd) -> io::Result<i32> {
    let id = libc::id_t::try_from(pidfd.as_raw_fd()).map_err(io::Error::other)?;
    // SAFETY: an all-zero siginfo_t is valid, and waitid fills it.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: `info` outlives the call.
    if unsafe { libc::waitid(libc::P_PIDFD, id, &raw mut info, libc::WEXITED) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: waitid has filled in the fields of SIGCHLD.
    let status = unsafe { info.si_status() };
    Ok(if info.si_code == libc::CLD_EXITED { status } else { 128 + status })
}

/// Asks the container to end: the init hands SIGTERM on to main.
pub(crate) fn terminate(pidfd: &OwnedFd) {
    send(pidfd, libc::SIGTERM);
}

/// Ends the container: all of it with a PID namespace, else main's process group.
pub(crate) fn kill(pidfd: &OwnedFd, isolation: Isolation) {
    let full = matches!(isolation, Isolation::Full { .. });
    send(pidfd, if full { libc::SIGKILL } else { KILL_ALL });
}

fn send(pidfd: &OwnedFd, signal: c_int) {
    // SAFETY: a plain system call; the descriptor cannot refer to another process than the init. That it has ended
    // already is no error.
    unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, 0, 0) };
}

/// Tells an init without a PID namespace to kill main's group.
const KILL_ALL: c_int = libc::SIGALRM;

/// Pid of main, for the init's signal handler.
static MAIN: AtomicI32 = AtomicI32::new(0);
/// A signal that came before main existed.
static EARLY: AtomicI32 = AtomicI32::new(0);

extern "C" fn hand_on(signal: c_int) {
    let main = MAIN.load(Ordering::Relaxed);
    if main > 0 {
        deliver(main, signal);
    } else {
        EARLY.store(signal, Ordering::Relaxed);
    }
}

fn deliver(main: c_int, signal: c_int) {
    let (target, signal) = if signal == KILL_ALL { (-main, libc::SIGKILL) } else { (main, signal) };
    // SAFETY: kill is async-signal-safe; main is our child and leads its group.
    unsafe { libc::kill(target, signal) };
}

/// The init: sets the namespaces up, starts main, waits for it.
///
/// # Safety
/// Only in a process that `clone` has just made, whose memory is a copy.
unsafe fn init(prepared: &Prepared<'_>) -> ! {
    // SAFETY: the function's contract; all pointers are to the prepared, NUL-terminated strings.
    unsafe {
        libc::setsid();
        if prepared.spec.isolation.has_user() && !map_user(prepared) {
            fail(prepared, Step::UserMap);
        }
        // After the user mapping: a change of credentials clears it.
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as c_ulong, 0, 0, 0);
        if prepared.spec.isolation != Isolation::Group {
            if !mounts(prepared) {
                fail(prepared, Step::Mounts);
            }
            let name = &prepared.spec.hostname;
            if libc::sethostname(name.as_ptr(), name.count_bytes()) != 0 {
                fail(prepared, Step::Hostname);
            }
        }
        let handler = hand_on as extern "C" fn(c_int) as libc::sighandler_t;
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGUSR1, libc::SIGUSR2, KILL_ALL] {
            libc::signal(signal, handler);
        }
        let main = libc::syscall(libc::SYS_clone, c_long::from(libc::SIGCHLD), 0, 0, 0, 0);
        if main == 0 {
            run(prepared);
        }
        if main < 0 {
            fail(prepared, Step::Fork);
        }
        let main = main as c_int;
        MAIN.store(main, Ordering::Relaxed);
        let early = EARLY.load(Ordering::Relaxed);
        if early != 0 {
            deliver(main, early);
        }
        // This process keeps no file of its parent open: sockets would never close.
        libc::syscall(libc::SYS_close_range, 0, c_long::from(u32::MAX), 0);
        wait_for(main)
    }
}

/// Reaps whatever ends, until main does; then ends as main did.
unsafe fn wait_for(main: c_int) -> ! {
    // SAFETY: plain system calls; `status` outlives them.
    unsafe {
        loop {
            let mut status = 0;
            let ended = libc::waitpid(-1, &raw mut status, 0);
            if ended == main {
                MAIN.store(0, Ordering::Relaxed);
                let code = if libc::WIFSIGNALED(status) {
                    128 + libc::WTERMSIG(status)
                } else {
                    libc::WEXITSTATUS(status)
                };
                // Without a PID namespace the rest of main's group goes like this; with one, the kernel ends all.
                libc::kill(-main, libc::SIGKILL);
                libc::_exit(code);
            }
            if ended < 0 && *libc::__errno_location() == libc::ECHILD {
                libc::_exit(255);
            }
        }
    }
}

unsafe fn map_user(prepared: &Prepared<'_>) -> bool {
    // SAFETY: as in `init`.
    unsafe {
        write_file(c"/proc/self/setgroups", c"deny");
        write_file(c"/proc/self/uid_map", &prepared.uid_map)
            && write_file(c"/proc/self/gid_map", &prepared.gid_map)
    }
}

unsafe fn write_file(path: &CStr, text: &CStr) -> bool {
    // SAFETY: both are NUL-terminated.
    unsafe {
        let fd = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if fd < 0 {
            return false;
        }
        let written = libc::write(fd, text.as_ptr().cast(), text.count_bytes());
        libc::close(fd);
        usize::try_from(written) == Ok(text.count_bytes())
    }
}

unsafe fn mounts(prepared: &Prepared<'_>) -> bool {
    // SAFETY: NUL-terminated paths or null where mount(2) ignores the argument.
    unsafe {
        let private = libc::MS_REC | libc::MS_PRIVATE;
        if libc::mount(ptr::null(), c"/".as_ptr(), ptr::null(), private, ptr::null()) != 0 {
            return false;
        }
        if matches!(prepared.spec.isolation, Isolation::Full { .. }) {
            let proc = c"proc".as_ptr();
            let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
            if libc::mount(proc, c"/proc".as_ptr(), proc, flags, ptr::null()) != 0 {
                return false;
            }
        }
        let hosts = prepared.spec.hosts_file.as_ptr();
        libc::mount(hosts, c"/etc/hosts".as_ptr(), ptr::null(), libc::MS_BIND, ptr::null()) == 0
    }
}

/// Main: becomes the container's program.
unsafe fn run(prepared: &Prepared<'_>) -> ! {
    let spec = prepared.spec;
    // SAFETY: as in `init`.
    unsafe {
        libc::setsid();
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as c_ulong, 0, 0, 0);
        // Rust ignores SIGPIPE, and ignored signals survive exec.
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        if libc::chdir(spec.dir.as_ptr()) != 0 {
            fail(prepared, Step::Dir);
        }
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY);
        if null < 0
            || libc::dup2(null, 0) < 0
            || libc::dup2(prepared.log_fd, 1) < 0
            || libc::dup2(prepared.log_fd, 2) < 0
        {
            fail(prepared, Step::Output);
        }
        libc::execve(spec.program.as_ptr(), prepared.argv.as_ptr(), prepared.env.as_ptr());
        fail(prepared, Step::Exec)
    }
}

/// Tells the parent which step failed, and ends.
unsafe fn fail(prepared: &Prepared<'_>, step: Step) -> ! {
    // SAFETY: the report is on the stack; the descriptor is open until here.
    unsafe {
        let errno = (*libc::__errno_location()).to_ne_bytes();
        let report = [step as u8, errno[0], errno[1], errno[2], errno[3]];
        libc::write(prepared.error_fd, report.as_ptr().cast(), report.len());
        libc::_exit(127)
    }
}
