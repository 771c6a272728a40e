//! A real PgBouncer in transaction mode in front of the lab's PostgreSQL.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::folder::Folder;
use crate::ports;
use crate::postgres::Postgres;
use crate::process::{POLL, Supervised};
use crate::system_package;

const CONFIG: &str = "pgbouncer.ini";

/// A running PgBouncer.
#[derive(Debug)]
pub struct PgBouncer {
    // Dropped in this order: the process before its folder.
    process: Supervised,
    folder: Folder,
    port: u16,
}

impl PgBouncer {
    /// Whether it is installed. Debian's package is installed when we are root and it is missing; otherwise the error
    /// names the command.
    pub fn available() -> Result<()> {
        system_package::ensure("pgbouncer", installed)
    }

    /// Starts one. With a `pool_size` of 1 all clients share one server connection, and whatever a client leaves on it
    /// meets the next.
    pub fn start(postgres: &Postgres, pool_size: u32) -> Result<Self> {
        Self::start_with(postgres, pool_size, None)
    }

    /// Starts one that takes TLS alone: the lab's PostgreSQL is built without.
    pub fn start_tls(postgres: &Postgres, certificate: &Path, key: &Path) -> Result<Self> {
        Self::start_with(postgres, 5, Some((certificate, key)))
    }

    fn start_with(postgres: &Postgres, pool_size: u32, tls: Option<(&Path, &Path)>) -> Result<Self> {
        Self::available()?;
        let folder = Folder::new("pgbouncer")?;
        let port = ports::free()?;
        let users = folder.join("users.txt");
        let names = ["postgres", "windlass", "airflow"];
        write_readable(&users, &names.map(|name| format!("\"{name}\" \"\"\n")).concat())?;
        let mut settings = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = trust\nauth_file = {}\npool_mode = transaction\n\
             default_pool_size = {pool_size}\nmax_client_conn = 200\nlogfile =\npidfile =\n",
            postgres.port(),
            users.display(),
        );
        if let Some((certificate, key)) = tls {
            let (cert_file, key_file) = (folder.join("server.crt"), folder.join("server.key"));
            write_readable(&cert_file, &fs::read_to_string(certificate).context("read the certificate")?)?;
            write_readable(&key_file, &fs::read_to_string(key).context("read the key")?)?;
            settings.push_str(&format!(
                "client_tls_sslmode = require\nclient_tls_cert_file = {}\nclient_tls_key_file = {}\n",
                cert_file.display(),
                key_file.display()
            ));
        }
        write_readable(&folder.join(CONFIG), &settings)?;
        let process = spawn(&folder)?;
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            process.must_run()?;
            if Instant::now() > deadline {
                bail!("PgBouncer does not answer:\n{}", process.log_tail(20));
            }
            process.wait_blocking(POLL);
        }
        Ok(Self { process, folder, port })
    }

    /// On 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// SIGKILL: all its connections end, on both sides.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// Starts it again after [`Self::kill`], on its port. It does not wait: what a client meets until it listens is part
    /// of an outage.
    pub fn start_again(&mut self) -> Result<()> {
        self.process = spawn(&self.folder)?;
        Ok(())
    }

    /// `postgresql://role@127.0.0.1:port/database`.
    pub fn url_as(&self, role: &str, database: &str) -> String {
        format!("postgresql://{role}@{}:{}/{database}", Ipv4Addr::LOCALHOST, self.port)
    }
}

fn spawn(folder: &Folder) -> Result<Supervised> {
    let mut command = Command::new("pgbouncer");
    if rustix::process::geteuid().is_root() {
        // It refuses to run as root and changes to this user itself.
        command.args(["-u", "nobody"]);
    }
    command.arg(folder.join(CONFIG));
    Supervised::spawn("pgbouncer", command, &folder.join("pgbouncer.log"))
}

/// By every user: the one that PgBouncer changes to must read it.
fn write_readable(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("write {}", file.display()))?;
    fs::set_permissions(file, fs::Permissions::from_mode(0o644))
        .with_context(|| format!("chmod {}", file.display()))
}

fn installed() -> bool {
    let version =
        Command::new("pgbouncer").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}
