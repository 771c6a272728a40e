//! Free TCP ports on the loopback address.

use std::fs::{self, File};
use std::net::TcpListener;
use std::sync::Mutex;

use anyhow::{Context, Result, bail};
use windlass_lab_prepare::cache_dir;

/// Below the kernel's range for outgoing connections (32768 and up by default): a port taken from that range can be
/// lost to any connection that is opened before the server listens.
const RANGE: std::ops::Range<u16> = 20_000..30_000;

/// Held until this process ends, so that no other process of the lab takes the same port.
static HELD: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// A port that nobody listens on and that no other test is given while this process lives.
pub fn free() -> Result<u16> {
    let locks = cache_dir()?.join("ports");
    fs::create_dir_all(&locks).with_context(|| format!("create {}", locks.display()))?;
    let mut held = HELD.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    // Processes start at different places; the step is coprime with the length of the range, so all are tried.
    let start = std::process::id().wrapping_mul(7919).wrapping_add(held.len() as u32);
    for step in 0..RANGE.len() as u32 {
        let port = RANGE.start + (start.wrapping_add(step.wrapping_mul(37)) % RANGE.len() as u32) as u16;
        let lock = File::create(locks.join(port.to_string())).context("create a lock file for a port")?;
        if lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            held.push(lock);
            return Ok(port);
        }
    }
    bail!("no free TCP port between {} and {} on 127.0.0.1", RANGE.start, RANGE.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_ports_are_never_the_same() -> Result<()> {
        let ports: std::collections::BTreeSet<u16> = (0..50).map(|_| free()).collect::<Result<_>>()?;
        assert_eq!(ports.len(), 50);
        Ok(())
    }
}
