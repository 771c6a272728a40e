//! A local AWS: moto's server. It gives any role to any token, so it shows that the calls are those of AWS, not that
//! they would be allowed.

use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use windlass_lab_prepare::moto;

use crate::folder::Folder;
use crate::ports;
use crate::process::{POLL, Supervised};

/// It imports for 2 s of a core that it has for itself; more than a minute was seen with seven builds on each.
const READY_WITHIN: Duration = Duration::from_secs(180);

/// A running one.
#[derive(Debug)]
pub struct Moto {
    // Dropped in this order: the process before its folder.
    _process: Supervised,
    _folder: Folder,
    port: u16,
}

impl Moto {
    /// Starts it and waits until it listens. Makes its virtual environment first when it is missing.
    pub fn start() -> Result<Self> {
        let (venv, folder, port) = (moto()?, Folder::new("moto")?, ports::free()?);
        let mut command = Command::new(venv.program("moto_server"));
        command.args(["--host", "127.0.0.1", "--port"]).arg(port.to_string());
        let process = Supervised::spawn("moto", command, &folder.join("moto.log"))?;
        let deadline = Instant::now() + READY_WITHIN;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            process.must_run()?;
            if Instant::now() > deadline {
                bail!("moto does not listen:\n{}", process.log_tail(20));
            }
            process.wait_blocking(POLL);
        }
        Ok(Self { _process: process, _folder: folder, port })
    }

    /// For `AWS_ENDPOINT_URL`.
    pub fn url(&self) -> String {
        format!("http://{}:{}", Ipv4Addr::LOCALHOST, self.port)
    }
}
