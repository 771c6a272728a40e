//! The wake: the plugin says `NOTIFY windlass_wake` after a handover. Where LISTEN does not work, polling does.

use std::time::Duration;

use sqlx::postgres::{PgListener, PgPoolOptions};
use sqlx::{Executor, Row};
use tokio::time::timeout;

use crate::error::BridgeError;
use crate::pooler::is_pooled;
use crate::store::Store;
use crate::transaction::REPLICA;

/// The channel of the plugin's NOTIFY.
pub const WAKE_CHANNEL: &str = "windlass_wake";

/// A connection that only listens does not notice that its server is gone, or a replica, where nobody notifies: it is
/// asked this often. Load balancers and NAT also forget connections that are silent for minutes.
const ASKED_EVERY: Duration = Duration::from_secs(15);

const WHAT: &str = "listen for wakes";

/// A connection that hears the plugin.
#[derive(Debug)]
pub struct WakeListener {
    /// None: it was lost.
    listener: Option<PgListener>,
    store: Store,
}

impl Store {
    /// Listens, on a connection of its own. None where that does not work (a pooler in transaction mode): poll then.
    pub async fn wake_listener(&self) -> Result<Option<WakeListener>, BridgeError> {
        if is_pooled(&self.login().await?).await.map_err(|source| self.of_connect(source))? {
            return Ok(None);
        }
        // A channel of its own for the test: the plugin's wakes in between are not lost.
        let echo = format!("windlass_echo_{}", std::process::id());
        let mut listener = self.listen(&[WAKE_CHANNEL, &echo]).await?;
        let config = self.config();
        let query_failed = |source| BridgeError::of_query(WHAT, config.address(), source);
        let mut other = self.acquire(self.pool()).await.map_err(|source| self.of_connect(source))?;
        sqlx::query("SELECT pg_notify($1, '')")
            .persistent(false)
            .bind(echo.clone())
            .execute(&mut *other)
            .await
            .map_err(query_failed)?;
        if !heard(&mut listener, &echo).await {
            return Ok(None);
        }
        listener.unlisten(&echo).await.map_err(query_failed)?;
        Ok(Some(WakeListener { listener: Some(listener), store: self.clone() }))
    }

    /// A new connection that listens. In a pool of its own: a listener that is dropped says good-bye to the server, which
    /// may take its time.
    async fn listen(&self, channels: &[&str]) -> Result<PgListener, BridgeError> {
        let options = self.login().await?;
        let config = self.config();
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(config.connect_timeout())
            .connect_lazy_with(options);
        let mut listener = PgListener::connect_with(&pool).await.map_err(|source| self.of_connect(source))?;
        // With the password of that moment, not of this one: see `woken`.
        listener.eager_reconnect(false);
        let listening = listener.listen_all(channels.iter().copied()).await;
        listening.map_err(|source| BridgeError::of_query(WHAT, config.address(), source))?;
        Ok(listener)
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
    timeout(Duration::from_secs(2), waiting).await.unwrap_or(false)
}

impl WakeListener {
    /// Waits for the next wake. A connection that was lost is opened again; that counts as a wake, because one may have
    /// been missed meanwhile.
    pub async fn woken(&mut self) -> Result<(), BridgeError> {
        loop {
            let Some(listener) = &mut self.listener else {
                self.listener = Some(self.store.listen(&[WAKE_CHANNEL]).await?);
                return Ok(());
            };
            match timeout(ASKED_EVERY, listener.try_recv()).await {
                Ok(Ok(Some(_))) => return Ok(()),
                Ok(Ok(None) | Err(_)) => self.listener = None,
                Err(_) if is_primary(listener, self.store.settings().call_timeout).await => {}
                Err(_) => self.listener = None,
            }
        }
    }
}

/// Whether somebody is there and notifies: nobody does on a replica.
async fn is_primary(listener: &mut PgListener, limit: Duration) -> bool {
    let ask = sqlx::raw_sql(sqlx::AssertSqlSafe(format!("SELECT {REPLICA}")));
    let answer = timeout(limit, listener.fetch_one(ask)).await;
    matches!(answer, Ok(Ok(row)) if matches!(row.try_get(0), Ok(false)))
}
