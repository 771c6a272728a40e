//! A real PostgreSQL, from a wheel that ships its binaries: no root, no system package.
//!
//! One server serves many tests, each in a database of its own made from a template. It keeps nothing safe (`fsync` is
//! off) and is gone with its owner: stopped on drop, killed by the watchdog if this process dies first.

mod install;

use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use self::install::{Account, Binaries};
use crate::folder::Folder;
use crate::ports;
use crate::process::{POLL, Supervised};

/// The versions that the wheel holds.
pub const VERSIONS: [u32; 2] = [16, 18];

/// The superuser of the server. No password: it listens on the loopback address alone.
pub const SUPERUSER: &str = "postgres";

/// A cold start on a busy machine; a warm one takes 0.8 s.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// A running server.
#[derive(Debug)]
pub struct Postgres {
    // Dropped in this order: the process before the folder that it writes to.
    server: Supervised,
    folder: Folder,
    binaries: Binaries,
    version: u32,
    port: u16,
    databases: AtomicU32,
}

impl Postgres {
    /// Starts a server of version 16 or 18; blocks the thread until it answers. The wheel is installed when missing.
    pub fn start(version: u32) -> Result<Self> {
        Self::start_with(version, |_, _| Ok(()))
    }

    /// The same in recovery, with nobody to recover from: it answers and is read-only, as a replica is.
    pub fn start_replica(version: u32) -> Result<Self> {
        Self::start_with(version, in_recovery)
    }

    fn start_with(
        version: u32,
        change: impl FnOnce(&Folder, Option<&Account>) -> Result<()>,
    ) -> Result<Self> {
        let account = Account::for_server()?;
        let binaries = install::binaries(version, account.as_ref())?;
        Self::launch(binaries, version, |binaries, folder| {
            init(binaries, folder, account.as_ref())?;
            change(folder, account.as_ref())
        })
    }

    /// Whether a server with TLS can be started: see [`Self::start_tls`].
    pub fn tls_available() -> Result<()> {
        install::system().map(drop)
    }

    /// Starts the system's own PostgreSQL with this certificate; the wheel's is built without TLS.
    pub fn start_tls(certificate: &Path, key: &Path) -> Result<Self> {
        let (binaries, version) = install::system()?;
        let account = Account::for_server()?;
        Self::launch(binaries, version, |binaries, folder| {
            init(binaries, folder, account.as_ref())?;
            for (from, to) in [(certificate, "server.crt"), (key, "server.key")] {
                let text = std::fs::read(from).with_context(|| format!("read {}", from.display()))?;
                put(folder, account.as_ref(), to, &text)?;
            }
            let config = folder.join("data/postgresql.conf");
            let mut text = std::fs::read(&config).with_context(|| format!("read {}", config.display()))?;
            text.extend_from_slice(b"\nssl = on\n");
            put(folder, account.as_ref(), "postgresql.conf", &text)
        })
    }

    /// Starts a replica that follows this server.
    pub fn replica(&self) -> Result<Self> {
        let account = Account::for_server()?;
        Self::launch(self.binaries.clone(), self.version, |binaries, folder| {
            let mut copy = binaries.program("pg_basebackup");
            copy.arg("-D").arg(folder.join("data")).args(["-d", &self.url("postgres")]);
            copy.args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync"]);
            run_as(account.as_ref(), &mut copy, "pg_basebackup")
        })
    }

    /// `fill` makes the folder `data`.
    fn launch(
        binaries: Binaries,
        version: u32,
        fill: impl FnOnce(&Binaries, &Folder) -> Result<()>,
    ) -> Result<Self> {
        let account = Account::for_server()?;
        let folder = install::data_folder(version, account.as_ref())?;
        fill(&binaries, &folder)?;
        let port = ports::free()?;
        let server = Supervised::spawn(
            &format!("postgres-{version}"),
            server_command(&binaries, account.as_ref(), &folder, port),
            &folder.join("postgres.log"),
        )?;
        let postgres = Self { server, folder, binaries, version, port, databases: AtomicU32::new(0) };
        postgres.wait_until_it_answers()?;
        Ok(postgres)
    }

    /// Its major version.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process that all connections descend from.
    pub fn pid(&self) -> i32 {
        self.server.pid()
    }

    /// The folder of its Unix socket.
    pub fn socket_folder(&self) -> std::path::PathBuf {
        self.folder.path().to_owned()
    }

    /// Where its log is.
    pub fn log(&self) -> std::path::PathBuf {
        self.server.log().to_owned()
    }

    /// `postgresql://postgres@127.0.0.1:port/database`.
    pub fn url(&self, database: &str) -> String {
        self.url_as(SUPERUSER, database)
    }

    /// The same as another role.
    pub fn url_as(&self, role: &str, database: &str) -> String {
        format!("postgresql://{role}@{}:{}/{database}", Ipv4Addr::LOCALHOST, self.port)
    }

    /// Makes a new database and returns its name, which begins with `prefix`. Nobody may be connected to `template`.
    pub fn create_database(&self, prefix: &str, template: Option<&str>) -> Result<String> {
        let name = format!("{prefix}_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let from = template.map(|t| format!(" TEMPLATE \"{t}\"")).unwrap_or_default();
        self.psql("postgres", &format!("CREATE DATABASE \"{name}\"{from}"), &[])?;
        Ok(name)
    }

    /// Runs SQL as the superuser through psql, which knows its meta-commands; returns the rows as unaligned text.
    /// `variables` are psql's (`:name`, `:"name"`, `:'name'`).
    pub fn psql(&self, database: &str, sql: &str, variables: &[(&str, &str)]) -> Result<String> {
        self.psql_at(&self.url(database), sql, variables)
    }

    /// The same at any address, such as that of a pooler in front of this server.
    pub fn psql_at(&self, url: &str, sql: &str, variables: &[(&str, &str)]) -> Result<String> {
        let mut psql = self.binaries.program("psql");
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", url, "-f", "-"]);
        for (name, value) in variables {
            psql.arg("-v").arg(format!("{name}={value}"));
        }
        psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = psql.spawn().context("start psql")?;
        let mut stdin = child.stdin.take().context("no pipe to psql")?;
        let input = sql.to_owned();
        // On a thread of its own: psql answers while it still reads.
        let writer = std::thread::spawn(move || std::io::Write::write_all(&mut stdin, input.as_bytes()));
        let output = child.wait_with_output().context("wait for psql")?;
        let written = writer.join();
        if !output.status.success() {
            bail!("psql at {url}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        if !matches!(written, Ok(Ok(()))) {
            bail!("psql at {url} did not read all of its input");
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    /// A program of the same version: `pg_dump`, `psql`.
    pub fn program(&self, name: &str) -> Command {
        self.binaries.program(name)
    }

    /// An immediate stop: every connection is cut where it is, nothing is written out. What was committed with
    /// `synchronous_commit` on is there again after [`Self::start_again`].
    pub fn crash(&self) {
        self.server.signal(Signal::QUIT);
        if self.server.wait_blocking(Duration::from_secs(10)).is_none() {
            self.server.kill();
        }
    }

    /// A replica takes the place of its primary: it writes from now on, on a new timeline.
    pub fn promote(&self) -> Result<()> {
        self.psql("postgres", "SELECT 1 / pg_promote()::int", &[]).map(drop)
    }

    /// As a primary comes back after a failover: a replica that answers and writes nothing. It follows nobody.
    pub fn come_back_as_replica(&mut self) -> Result<()> {
        self.crash();
        in_recovery(&self.folder, Account::for_server()?.as_ref())?;
        self.start_again()
    }

    /// As a replica takes the place of a primary that died: the server comes back in recovery and is promoted, which
    /// begins a new timeline. It has all that was committed; the test itself takes away what is to be lost.
    pub fn fail_over(&mut self) -> Result<()> {
        self.psql("postgres", "CHECKPOINT", &[])?;
        self.come_back_as_replica()?;
        self.promote()
    }

    /// Starts the server again, on its port and with its data, and waits until it answers; blocks the thread.
    pub fn start_again(&mut self) -> Result<()> {
        let account = Account::for_server()?;
        let command = server_command(&self.binaries, account.as_ref(), &self.folder, self.port);
        let log = self.server.log().to_owned();
        self.server = Supervised::spawn(&format!("postgres-{}", self.version), command, &log)?;
        self.wait_until_it_answers()
    }

    /// Sends SIGHUP: `ALTER SYSTEM` and changed files are read.
    pub fn reload(&self) {
        self.server.signal(Signal::HUP);
    }

    fn wait_until_it_answers(&self) -> Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            self.server.must_run()?;
            let mut ready = self.binaries.program("pg_isready");
            let port = self.port.to_string();
            ready.args(["-q", "-h", "127.0.0.1", "-p", &port]).stdout(Stdio::null()).stderr(Stdio::null());
            if ready.status().context("start pg_isready")?.success() {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("PostgreSQL does not answer after {READY_WITHIN:?}:\n{}", self.server.log_tail(20));
            }
            // Comes back early if it ends.
            self.server.wait_blocking(POLL);
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // No checkpoint, but its shared memory is given back, which SIGKILL would leave behind.
        self.crash();
    }
}

fn init(binaries: &Binaries, folder: &Folder, account: Option<&Account>) -> Result<()> {
    let mut init = binaries.program("initdb");
    init.arg("-D").arg(folder.join("data")).args(["-U", SUPERUSER, "-A", "trust"]);
    init.args(["-E", "UTF8", "--locale=C", "--no-sync"]);
    run_as(account, &mut init, "initdb")
}

/// The next start is one of a replica that has nobody to follow.
fn in_recovery(folder: &Folder, account: Option<&Account>) -> Result<()> {
    put(folder, account, "standby.signal", b"")
}

/// A file in the folder `data`, for the server alone.
fn put(folder: &Folder, account: Option<&Account>, name: &str, text: &[u8]) -> Result<()> {
    let file = folder.join("data").join(name);
    std::fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600))?;
    if let Some(account) = account {
        std::os::unix::fs::chown(&file, Some(account.uid), Some(account.gid))?;
    }
    Ok(())
}

fn server_command(binaries: &Binaries, account: Option<&Account>, folder: &Folder, port: u16) -> Command {
    let mut command = binaries.program("postgres");
    command.arg("-D").arg(folder.join("data")).arg("-p").arg(port.to_string());
    command.arg("-k").arg(folder.path());
    for setting in [
        "listen_addresses=127.0.0.1",
        "max_connections=200",
        "shared_buffers=256MB",
        // Nothing here outlives the process.
        "fsync=off",
        "synchronous_commit=off",
        "full_page_writes=off",
        "max_wal_size=4GB",
        // In the data folder, not in /dev/shm: it goes with the folder however the process ends.
        "dynamic_shared_memory_type=mmap",
        "log_line_prefix=%m [%p] %d %u ",
        // The messages that tests compare.
        "lc_messages=C",
    ] {
        command.arg("-c").arg(setting);
    }
    become_account(account, &mut command);
    command
}

fn become_account(account: Option<&Account>, command: &mut Command) {
    // The folder of the caller may be out of the account's reach.
    command.current_dir("/");
    if let Some(account) = account {
        command.uid(account.uid).gid(account.gid).env("HOME", "/tmp").env("USER", &account.name);
    }
}

fn run_as(account: Option<&Account>, command: &mut Command, what: &str) -> Result<()> {
    become_account(account, command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("start {what}"))?;
    if !output.status.success() {
        bail!("{what} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_made_from_a_template_and_the_server_goes_with_its_owner() -> Result<()> {
        let postgres = Postgres::start(16)?;
        let template = postgres.create_database("template", None)?;
        postgres.psql(&template, "CREATE TABLE t AS SELECT :'word' AS word", &[("word", "here")])?;
        let copy = postgres.create_database("copy", Some(&template))?;
        assert_eq!(postgres.psql(&copy, "SELECT word FROM t", &[])?, "here");
        let error = postgres.psql(&copy, "SELECT * FROM missing", &[]).unwrap_err().to_string();
        assert!(error.contains("relation \"missing\" does not exist"), "{error}");
        Ok(())
    }

    #[test]
    fn what_was_committed_survives_a_crash() -> Result<()> {
        let mut postgres = Postgres::start(16)?;
        let database = postgres.create_database("kept", None)?;
        postgres.psql("postgres", &format!("ALTER DATABASE {database} SET synchronous_commit = on"), &[])?;
        postgres.psql(&database, "CREATE TABLE t AS SELECT 1 AS one", &[])?;
        postgres.crash();
        assert!(std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, postgres.port())).is_err());
        postgres.start_again()?;
        assert_eq!(postgres.psql(&database, "SELECT one FROM t", &[])?, "1");
        let (port, folder) = (postgres.port(), postgres.socket_folder());
        drop(postgres);
        assert!(std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
        assert!(crate::folder::kept() || !folder.exists());
        Ok(())
    }
}
