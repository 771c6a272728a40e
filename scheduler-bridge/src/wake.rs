//! The wake: the plugin says `NOTIFY windlass_wake` after a handover. Where LISTEN does not work, polling does.

use std::time::Duration;

use sqlx::postgres::PgListener;

use crate::error::BridgeError;
use crate::pooler::is_pooled;
use crate::store::Store;

/// The channel of the plugin's NOTIFY.
pub const WAKE_CHANNEL: &str = "windlass_wake";

/// A connection that hears the plugin.
#[derive(Debug)]
pub struct WakeListener {
    listener: PgListener,
    store: Store,
}

impl Store {
    /// Listens, on a connection of its own. None where that does not work (a pooler in transaction mode): poll then.
    pub async fn wake_listener(&self) -> Result<Option<WakeListener>, BridgeError> {
        const WHAT: &str = "listen for wakes";
        let config = self.config();
        let failed = |source| self.of_connect(source);
        if is_pooled(config.options()).await.map_err(failed)? {
            return Ok(None);
        }
        let mut listener = PgListener::connect_with(self.wake_pool()).await.map_err(failed)?;
        let query_failed = |source| BridgeError::of_query(WHAT, config.address(), source);
        // A channel of its own for the test: the plugin's wakes in between are not lost.
        let echo = format!("windlass_echo_{}", std::process::id());
        listener.listen_all([WAKE_CHANNEL, echo.as_str()]).await.map_err(query_failed)?;
        sqlx::query("SELECT pg_notify($1, '')")
            .persistent(false)
            .bind(echo.clone())
            .execute(self.pool())
            .await
            .map_err(query_failed)?;
        if !heard(&mut listener, &echo).await {
            return Ok(None);
        }
        listener.unlisten(&echo).await.map_err(query_failed)?;
        Ok(Some(WakeListener { listener, store: self.clone() }))
    }
}

/// Whether a notification comes back: the proof that this connection hears.
async fn heard(listener: &mut PgListener, echo: &str) -> bool {
    let waiting = async {
        loop {
            match listener.recv().await {
                Ok(note) if note.channel() == echo => return true,
                Ok(_) => {}
                Err(_) => return false,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(2), waiting).await.unwrap_or(false)
}

impl WakeListener {
    /// Waits for the next wake. A connection that was lost is opened again; that counts as a wake, because one may have
    /// been missed meanwhile.
    pub async fn woken(&mut self) -> Result<(), BridgeError> {
        match self.listener.try_recv().await {
            Ok(_) => Ok(()),
            // It fails when it connects again, and else never.
            Err(source) => Err(self.store.of_connect(source)),
        }
    }
}
