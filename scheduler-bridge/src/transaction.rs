//! One transaction: bounded in time on both sides, fenced if it writes for a term, fit for a pooler.
//!
//! Behind a pooler in transaction mode each transaction may have another server connection. So nothing outlives one:
//! no statement is kept by name, time-outs are set with `set_config(.., is_local)`, and even a single read is an
//! explicit transaction, because the driver prepares and executes in two round trips.
//!
//! The opening (BEGIN, time-outs, fence) is one round trip, sent as one simple query.

use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Executor, Postgres, Row};
use tokio::time::Instant;
use windlass_core::ids::Epoch;

use crate::error::BridgeError;
use crate::store::Store;

/// What a transaction may do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Access {
    /// Read rows by key.
    Read,
    /// Read all rows of a kind: the longer bound.
    Scan,
    /// As `Scan`, for people: a replica may answer too. Nothing is decided on what is read.
    Look,
    /// Write rows that belong to no term.
    Write,
    /// Write the term itself, on the connection kept for it.
    Term,
    /// Write as this term: nothing happens if it is over (invariant I4).
    Fenced(Epoch),
}

/// A query that is never kept by name, from a text of ours.
pub(crate) fn statement(sql: &'static str) -> Query<'static, Postgres, PgArguments> {
    sqlx::query(sql).persistent(false)
}

/// As [`statement`], from a template of ours with Airflow's schema put in ([`Store::airflow_sql`], which quotes it).
pub(crate) fn airflow_statement(sql: String) -> Query<'static, Postgres, PgArguments> {
    sqlx::query(AssertSqlSafe(sql)).persistent(false)
}

/// An open transaction. Dropped without `commit`, it closes its connection: the server rolls back.
pub(crate) struct Transaction {
    /// None once it has ended.
    connection: Option<PoolConnection<Postgres>>,
    what: &'static str,
    deadline: Instant,
    timeout: Duration,
    store: Store,
}

impl Store {
    /// Opens a transaction; `what` completes "the database failed to ..". A connection that was lost while it lay idle
    /// (a failover, a restarted pooler), or whose server is a replica by now, is noticed here, where nothing has been
    /// done yet: a new one is tried. Nothing is read from a replica: it may be behind.
    pub(crate) async fn begin(&self, access: Access, what: &'static str) -> Result<Transaction, BridgeError> {
        let mut left = self.settings().max_connections;
        let mut looked_again = false;
        loop {
            match self.open(access, what).await {
                Err(BridgeError::Query { source, .. }) if left > 0 && is_lost(&source) => {
                    left -= 1;
                    self.renew_connections();
                }
                Err(BridgeError::ReadOnly { .. }) if !looked_again => {
                    looked_again = true;
                    self.renew_connections();
                }
                opened => return opened,
            }
        }
    }

    async fn open(&self, access: Access, what: &'static str) -> Result<Transaction, BridgeError> {
        let settings = self.settings();
        let timeout = match access {
            Access::Scan | Access::Look => settings.scan_timeout,
            Access::Read | Access::Write | Access::Term | Access::Fenced(_) => settings.call_timeout,
        };
        let pool = if matches!(access, Access::Term) { self.term_pool() } else { self.pool() };
        let connection = match self.acquire(pool).await {
            Ok(connection) => connection,
            Err(source @ (sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed)) => {
                return Err(BridgeError::Query { what, source });
            }
            Err(source) => return Err(self.of_connect(source)),
        };
        let mut tx = Transaction {
            connection: Some(connection),
            what,
            deadline: Instant::now() + timeout,
            timeout,
            store: self.clone(),
        };
        let mut sql = opening(access, timeout, settings.lock_timeout);
        if let Access::Fenced(epoch) = access {
            sql.push_str(&self.fence(epoch));
        }
        let rows = tx.simple(sql).await?;
        let replica =
            rows.first().map(|row| row.try_get("replica")).transpose().map_err(|e| tx.decoding(e))?;
        if replica == Some(true) {
            // Kept for nobody: its name may lead to a primary in a moment.
            tx.close_at_the_end();
            if !matches!(access, Access::Look) {
                return Err(BridgeError::ReadOnly { address: self.config().address().to_owned() });
            }
        }
        if let Access::Fenced(epoch) = access
            // One row of the time-outs, one of the fence.
            && rows.len() < 2
        {
            tx.rollback().await;
            return Err(BridgeError::Fenced { epoch });
        }
        Ok(tx)
    }
}

/// Whether the connection is gone: cut, or ended by the server (SQLSTATE 57P01 to 57P05) or by PgBouncer (08xxx).
fn is_lost(source: &sqlx::Error) -> bool {
    match source {
        sqlx::Error::Io(_) => true,
        sqlx::Error::Database(error) => {
            error.code().is_some_and(|code| code.starts_with("57P") || code.starts_with("08"))
        }
        _ => false,
    }
}

/// Whether the server writes nothing: a standby, or one that was made read-only.
pub(crate) const REPLICA: &str =
    "pg_is_in_recovery() OR current_setting('default_transaction_read_only')::bool";

/// The opening as one simple query. It holds numbers only.
fn opening(access: Access, timeout: Duration, lock_timeout: Duration) -> String {
    // A writer does not ask for READ WRITE: on a replica its write then fails with the code that says so (25006).
    let mode = match access {
        Access::Read | Access::Scan | Access::Look => " READ ONLY",
        Access::Write | Access::Term | Access::Fenced(_) => "",
    };
    let ms = timeout.as_millis();
    format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED{mode}; \
         SELECT set_config('statement_timeout', '{ms}', true), \
         set_config('idle_in_transaction_session_timeout', '{ms}', true), \
         set_config('lock_timeout', '{}', true), {REPLICA} AS replica",
        lock_timeout.as_millis()
    )
}

impl Transaction {
    /// All rows.
    pub(crate) async fn rows(
        &mut self,
        query: Query<'static, Postgres, PgArguments>,
    ) -> Result<Vec<PgRow>, BridgeError> {
        let deadline = self.deadline;
        let Some(connection) = self.connection.as_deref_mut() else { return Err(self.ended()) };
        let answer = tokio::time::timeout_at(deadline, query.fetch_all(connection)).await;
        self.settle(answer).await
    }

    /// The first column of the only row.
    pub(crate) async fn scalar<T>(
        &mut self,
        query: Query<'static, Postgres, PgArguments>,
    ) -> Result<T, BridgeError>
    where
        T: for<'r> sqlx::Decode<'r, Postgres> + sqlx::Type<Postgres>,
    {
        let what = self.what;
        let rows = self.rows(query).await?;
        let row = rows.first().ok_or(BridgeError::Query { what, source: sqlx::Error::RowNotFound })?;
        row.try_get(0).map_err(|source| BridgeError::Query { what, source })
    }

    /// How many rows it changed.
    pub(crate) async fn execute(
        &mut self,
        query: Query<'static, Postgres, PgArguments>,
    ) -> Result<u64, BridgeError> {
        let deadline = self.deadline;
        let Some(connection) = self.connection.as_deref_mut() else { return Err(self.ended()) };
        let answer = tokio::time::timeout_at(deadline, query.execute(connection)).await;
        self.settle(answer).await.map(|done| done.rows_affected())
    }

    /// Makes it durable. An error leaves open whether it is.
    pub(crate) async fn commit(mut self) -> Result<(), BridgeError> {
        self.simple("COMMIT".to_owned()).await?;
        // Ended: the connection goes back to the pool.
        drop(self.connection.take());
        Ok(())
    }

    /// Undoes it.
    pub(crate) async fn rollback(mut self) {
        self.undo().await;
    }

    /// Why the call failed, for decoding errors.
    pub(crate) fn decoding(&self, source: sqlx::Error) -> BridgeError {
        BridgeError::Query { what: self.what, source }
    }

    async fn simple(&mut self, sql: String) -> Result<Vec<PgRow>, BridgeError> {
        let deadline = self.deadline;
        let Some(connection) = self.connection.as_deref_mut() else { return Err(self.ended()) };
        let query = sqlx::raw_sql(AssertSqlSafe(sql));
        let answer = tokio::time::timeout_at(deadline, connection.fetch_all(query)).await;
        self.settle(answer).await
    }

    /// Passes a good answer on; after a bad one nothing of this transaction is left.
    async fn settle<T>(
        &mut self,
        answer: Result<Result<T, sqlx::Error>, tokio::time::error::Elapsed>,
    ) -> Result<T, BridgeError> {
        match answer {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(source)) => {
                let answered = source.as_database_error().is_some();
                let error = BridgeError::of_query(self.what, self.store.config().address(), source);
                if answered && !matches!(error, BridgeError::ReadOnly { .. }) {
                    self.undo().await;
                } else {
                    self.abandon();
                }
                Err(error)
            }
            Err(_) => {
                self.abandon();
                // The server has the same bound: it is silent, and so it will be on the other connections.
                self.store.renew_connections();
                Err(BridgeError::TimedOut { what: self.what, after: self.timeout })
            }
        }
    }

    async fn undo(&mut self) {
        // The deadline may be over; a rollback is worth a moment of its own, because it keeps the connection.
        const ROLLBACK: Duration = Duration::from_secs(1);
        if let Some(mut connection) = self.connection.take() {
            let rollback = connection.execute(sqlx::raw_sql("ROLLBACK"));
            if !matches!(tokio::time::timeout(ROLLBACK, rollback).await, Ok(Ok(_))) {
                connection.close_on_drop();
            }
        }
    }

    /// Not returned to the pool: an answer may still be on its way.
    fn abandon(&mut self) {
        self.close_at_the_end();
        drop(self.connection.take());
    }

    fn close_at_the_end(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.close_on_drop();
        }
    }

    fn ended(&self) -> BridgeError {
        BridgeError::Query { what: self.what, source: sqlx::Error::WorkerCrashed }
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        self.abandon();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_transaction_opens_with_its_limits() {
        assert_eq!(
            opening(Access::Fenced(Epoch(7)), Duration::from_secs(5), Duration::from_secs(2)),
            "BEGIN ISOLATION LEVEL READ COMMITTED; SELECT set_config('statement_timeout', '5000', true), \
             set_config('idle_in_transaction_session_timeout', '5000', true), set_config('lock_timeout', '2000', true), \
             pg_is_in_recovery() OR current_setting('default_transaction_read_only')::bool AS replica"
        );
    }
}
