//! The plugin's wake: a datagram on a Unix socket shared with the scheduler's container, or a NOTIFY. Either may be
//! missing or lost; the engine polls as well, so no correctness rests on it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use scheduler_bridge::WakeListener;
use tokio::net::UnixDatagram;
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::metrics::{Metrics, WAKES};

/// Between two tries to open the connection that listens.
const LISTEN_AGAIN: Duration = Duration::from_secs(2);

/// Where wakes come from.
pub enum WakeSource {
    /// A datagram socket that we make (an older one of that name is removed).
    Socket(PathBuf),
    /// PostgreSQL's LISTEN, where the connection is direct.
    Listen(WakeListener),
}

/// Starts to listen. One wake is kept, more say nothing new.
pub(super) fn listen(sources: Vec<WakeSource>, metrics: &Arc<Metrics>) -> mpsc::Receiver<()> {
    let (wake, woken) = mpsc::channel(1);
    for source in sources {
        let wake = wake.clone();
        let metrics = metrics.clone();
        // Full means that a wake is waiting already: nothing is lost.
        let woken = move |way| {
            metrics.wakes.with_label_values(&[way]).inc();
            let _ = wake.try_send(());
        };
        match source {
            WakeSource::Socket(path) => {
                tokio::spawn(from_socket(path, woken));
            }
            WakeSource::Listen(listener) => {
                tokio::spawn(from_database(listener, woken));
            }
        }
    }
    woken
}

async fn from_socket(path: PathBuf, woken: impl Fn(&'static str)) {
    let _ = std::fs::remove_file(&path);
    let socket = match UnixDatagram::bind(&path) {
        Ok(socket) => socket,
        Err(error) => {
            warn!("no wake-up socket at {}: {error}; new tasks are found by polling", path.display());
            return;
        }
    };
    info!("listening for wake-ups at {}", path.display());
    let mut datagram = [0; 16];
    while socket.recv(&mut datagram).await.is_ok() {
        woken(WAKES[0]);
    }
}

/// The listener opens its connection again by itself, and asks at once: while there is no database the pause is ours.
async fn from_database(mut listener: WakeListener, woken: impl Fn(&'static str)) {
    let mut told = false;
    loop {
        match listener.woken().await {
            Ok(()) => {
                told = false;
                woken(WAKES[1]);
            }
            Err(error) => {
                if !told {
                    warn!("no wake-ups from the database: {}; new tasks are found by polling", error.chain());
                    told = true;
                }
                tokio::time::sleep(LISTEN_AGAIN).await;
            }
        }
    }
}
