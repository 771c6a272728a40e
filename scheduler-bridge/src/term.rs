//! The term: who may write. The clock is the database's; the holder counts its own deadline from when it asked.

use sqlx::Row;
use windlass_core::ids::Epoch;
use windlass_core::store::TermAnswer;

use crate::error::BridgeError;
use crate::store::Store;
use crate::transaction::{Access, airflow_statement, statement};

/// Changes `epoch`, and thereby waits for the transactions of the term that ends, and fences what they try next.
///
/// After a failover the lost commits may have held epochs whose leaders still write: the new one is far beyond them.
const ACQUIRE: &str = "
    UPDATE windlass.term
    SET epoch = epoch + CASE WHEN wal.timeline = '' OR term.timeline IN ('', wal.timeline) THEN 1 ELSE 1000 END,
        holder = $1, expires_at = clock_timestamp() + $2 * interval '1 millisecond',
        timeline = CASE WHEN term.timeline = '' THEN wal.timeline ELSE term.timeline END
    FROM (SELECT {timeline} AS timeline) wal
    WHERE holder IS NULL OR holder = $1 OR expires_at <= clock_timestamp()
    RETURNING epoch, wal.timeline, wal.timeline NOT IN ('', term.timeline) AS after_loss";

/// A term that has expired and that nobody took is still ours: nobody else wrote. A failover ends it: what it has in
/// memory may be lost in the database.
const RENEW: &str = "
    UPDATE windlass.term
    SET expires_at = clock_timestamp() + $3 * interval '1 millisecond'
    WHERE holder = $1 AND epoch = $2 AND {timeline} = $4
    RETURNING epoch";

const RELEASE: &str = "
    UPDATE windlass.term
    SET holder = NULL, expires_at = '-infinity'
    WHERE holder = $1 AND epoch = $2";

const HOLDER: &str =
    "SELECT holder FROM windlass.term WHERE holder IS NOT NULL AND expires_at > clock_timestamp()";

impl Store {
    /// Takes the term if it has expired, was released, or is held by `holder` itself (a restarted process of the same
    /// holder: one process per holder is ensured by its lock file).
    pub async fn acquire_term(&self, holder: &str, lease_ms: u64) -> TermAnswer {
        self.take_term(holder, lease_ms).await.unwrap_or_else(failed)
    }

    /// Keeps the term. Waits for no write of ours: it changes no key column.
    pub async fn renew_term(&self, holder: &str, epoch: Epoch, lease_ms: u64) -> TermAnswer {
        self.keep_term(holder, epoch, lease_ms).await.unwrap_or_else(failed)
    }

    /// Gives the term up: the next one to ask has it at once.
    pub async fn release_term(&self, holder: &str, epoch: Epoch) -> TermAnswer {
        self.give_term(holder, epoch).await.unwrap_or_else(failed)
    }

    /// What a write of this term begins with: one row while the term is ours. In the same query as the transaction's
    /// opening, so that it costs no way to the server.
    ///
    /// FOR KEY SHARE: a new term waits for us, a renewal of ours does not (migrations/postgres/0001_launch.sql). On
    /// another timeline than the term's, what was decided may rest on what is lost.
    pub(crate) fn fence(&self, epoch: Epoch) -> String {
        let begun_on = self.timeline_begun_on();
        let mut sql = format!("; SELECT 1 FROM windlass.term WHERE epoch = {}", epoch.0);
        // A simple query has no parameters: nothing but what a timeline is made of gets into its text.
        if !begun_on.is_empty() && begun_on.bytes().all(|b| b.is_ascii_hexdigit()) {
            sql.push_str(&self.timeline_sql(" AND {timeline} = "));
            sql.push_str(&format!("'{begun_on}'"));
        }
        sql + " FOR KEY SHARE"
    }

    async fn take_term(&self, holder: &str, lease_ms: u64) -> Result<TermAnswer, BridgeError> {
        let mut tx = self.begin(Access::Term, "acquire the term").await?;
        let query =
            airflow_statement(self.timeline_sql(ACQUIRE)).bind(holder.to_owned()).bind(millis(lease_ms));
        if let Some(row) = tx.rows(query).await?.first() {
            let epoch = Epoch(row.try_get(0).map_err(|e| tx.decoding(e))?);
            self.begun_on(row.try_get(1).map_err(|e| tx.decoding(e))?);
            let after_loss: bool = row.try_get(2).map_err(|e| tx.decoding(e))?;
            tx.commit().await?;
            let held =
                if after_loss { TermAnswer::HeldAfterLoss { epoch } } else { TermAnswer::Held { epoch } };
            return Ok(held);
        }
        let rows = tx.rows(statement(HOLDER)).await?;
        tx.commit().await?;
        // Nobody: it expired between the two statements. Not ours all the same; the next try has it.
        let holder = rows.first().and_then(|row| row.try_get(0).ok()).unwrap_or_else(|| "nobody".to_owned());
        Ok(TermAnswer::HeldByOther { holder })
    }

    async fn keep_term(&self, holder: &str, epoch: Epoch, lease_ms: u64) -> Result<TermAnswer, BridgeError> {
        let mut tx = self.begin(Access::Term, "renew the term").await?;
        let query = airflow_statement(self.timeline_sql(RENEW)).bind(holder.to_owned()).bind(epoch.0);
        let query = query.bind(millis(lease_ms)).bind(self.timeline_begun_on());
        if !tx.rows(query).await?.is_empty() {
            tx.commit().await?;
            return Ok(TermAnswer::Held { epoch });
        }
        let rows = tx.rows(statement(HOLDER)).await?;
        tx.commit().await?;
        let other: Option<String> = rows.first().and_then(|row| row.try_get(0).ok());
        Ok(match other {
            Some(other) if other != holder => TermAnswer::HeldByOther { holder: other },
            // Free, taken by a later process of this holder, or the database failed over.
            _ => TermAnswer::Released,
        })
    }

    async fn give_term(&self, holder: &str, epoch: Epoch) -> Result<TermAnswer, BridgeError> {
        let mut tx = self.begin(Access::Term, "release the term").await?;
        tx.execute(statement(RELEASE).bind(holder.to_owned()).bind(epoch.0)).await?;
        tx.commit().await?;
        Ok(TermAnswer::Released)
    }
}

fn failed(error: BridgeError) -> TermAnswer {
    TermAnswer::Failed { error: error.chain() }
}

/// As PostgreSQL multiplies an interval.
fn millis(ms: u64) -> f64 {
    ms as f64
}
