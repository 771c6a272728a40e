//! Whether a pooler in transaction mode stands between us and PostgreSQL.

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection, Row};

/// Two connections that are open at once have two server processes; through a pooler in transaction mode they share
/// one as long as neither is in a transaction (it hands out the one that was used last). Nothing is left behind on the
/// server, unlike with a trial LISTEN or advisory lock. Under load a pooler may pass for direct: what is built on this
/// is checked again by what follows it.
pub(crate) async fn is_pooled(options: &PgConnectOptions) -> Result<bool, sqlx::Error> {
    let mut first = options.clone().application_name("windlass-probe").connect().await?;
    let mut second = options.clone().application_name("windlass-probe").connect().await?;
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push((backend(&mut first).await?, backend(&mut second).await?));
    }
    // Their end says nothing about the database.
    let (_, _) = (first.close().await, second.close().await);
    let (a, b) = seen.first().copied().unwrap_or_default();
    Ok(a == b || seen.iter().any(|pair| *pair != (a, b)))
}

async fn backend(connection: &mut PgConnection) -> Result<i32, sqlx::Error> {
    use sqlx::Executor;
    // A simple query: text comes back.
    let row = connection.fetch_one(sqlx::raw_sql("SELECT pg_backend_pid()::text")).await?;
    let pid: String = row.try_get(0)?;
    pid.parse().map_err(|_| sqlx::Error::Protocol(format!("pg_backend_pid() is `{pid}`")))
}
