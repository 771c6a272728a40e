//! Guarded writes to launches. A batch is one transaction: fence, lock the rows in order, one UPDATE for all kinds of
//! change, and a read of those whose guard did not hold.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::Postgres;
use sqlx::Row;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use windlass_core::ids::{Epoch, LaunchId};
use windlass_core::store::{LaunchChange, LaunchUpdate, SaveAnswer};

use crate::error::BridgeError;
use crate::keys::id_array;
use crate::rows::{LAUNCH_COLUMNS, launch_row};
use crate::store::Store;
use crate::transaction::{Access, Transaction, airflow_statement, statement};

/// Everything of the batch, in the order of the key, before anything is written: the plugin's own writes and `load`
/// take rows in that order too, or one at a time.
const LOCK: &str = "
    SELECT launch_id FROM windlass.launch WHERE launch_id = ANY($1) ORDER BY launch_id FOR NO KEY UPDATE";

/// The guards of `LaunchChange`, one line each. What a change says nothing about stays as it is.
const UPDATE: &str = "
    UPDATE windlass.launch l SET
        epoch = $12,
        stage = c.stage,
        attempt = CASE c.stage WHEN 'claimed' THEN c.attempt ELSE l.attempt END,
        namespace = coalesce(c.namespace, l.namespace),
        pod_name = coalesce(c.pod_name, l.pod_name),
        pod_uid = CASE c.stage WHEN 'claimed' THEN NULL ELSE coalesce(c.pod_uid, l.pod_uid) END,
        lost = coalesce(c.lost, l.lost),
        outcome = coalesce(c.outcome, l.outcome),
        reason = coalesce(c.reason, l.reason),
        message = coalesce(c.message, l.message),
        exit_code = coalesce(c.exit_code, l.exit_code),
        created_at = CASE c.stage
            WHEN 'created' THEN clock_timestamp()
            WHEN 'running' THEN coalesce(l.created_at, clock_timestamp())
            WHEN 'claimed' THEN NULL
            ELSE l.created_at END,
        running_at = CASE c.stage WHEN 'running' THEN clock_timestamp() WHEN 'claimed' THEN NULL ELSE l.running_at END,
        settled_at = CASE c.stage WHEN 'settled' THEN clock_timestamp() ELSE l.settled_at END,
        closed_at = CASE c.stage WHEN 'closed' THEN clock_timestamp() ELSE l.closed_at END
    FROM unnest($1::text[], $2::text[], $3::int4[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
            $9::text[], $10::text[], $11::int4[])
        AS c (launch_id, stage, attempt, namespace, pod_name, pod_uid, lost, outcome, reason, message, exit_code)
    WHERE l.launch_id = c.launch_id AND CASE c.stage
        WHEN 'created' THEN l.stage = 'claimed' AND l.attempt = c.attempt
        WHEN 'running' THEN l.stage IN ('claimed', 'created') AND l.attempt = c.attempt
        WHEN 'claimed' THEN l.stage IN ('claimed', 'created', 'running') AND l.attempt = c.attempt - 1
        WHEN 'settled' THEN l.stage IN ('claimed', 'created', 'running')
        WHEN 'closed' THEN l.stage = 'settled'
    END
    RETURNING l.launch_id";

const READ: &str = "SELECT {columns} FROM windlass.launch l WHERE l.launch_id = ANY($1)";

impl Store {
    /// Writes the changes whose guard holds, all in one transaction of the term. Several changes of one launch are
    /// applied in their order.
    pub async fn save(&self, epoch: Epoch, updates: &[LaunchUpdate]) -> SaveAnswer {
        match self.try_save(epoch, updates).await {
            Ok(answer) => answer,
            Err(BridgeError::Fenced { .. }) => SaveAnswer::Fenced,
            Err(error) => SaveAnswer::Failed { error: error.chain() },
        }
    }

    async fn try_save(&self, epoch: Epoch, updates: &[LaunchUpdate]) -> Result<SaveAnswer, BridgeError> {
        let mut tx = self.begin(Access::Fenced(epoch), "save launches").await?;
        tx.execute(statement(LOCK).bind(id_array(updates.iter().map(|u| &u.launch)))).await?;
        let mut refused: BTreeSet<&LaunchId> = BTreeSet::new();
        for round in rounds(updates) {
            let columns = Columns::of(&round);
            let mut written: BTreeSet<String> = BTreeSet::new();
            for row in tx.rows(columns.bind(epoch)).await? {
                written.insert(row.try_get(0).map_err(|e| tx.decoding(e))?);
            }
            refused.extend(round.iter().map(|u| &u.launch).filter(|id| !written.contains(id.as_str())));
        }
        let refused = read_refused(&mut tx, refused).await?;
        tx.commit().await?;
        Ok(SaveAnswer::Saved { refused })
    }
}

/// Splits a batch so that no launch is twice in one statement (which of the two would be applied is open). A batch
/// almost always is one round.
fn rounds(updates: &[LaunchUpdate]) -> Vec<Vec<&LaunchUpdate>> {
    let mut seen: BTreeMap<&LaunchId, usize> = BTreeMap::new();
    let mut rounds: Vec<Vec<&LaunchUpdate>> = Vec::new();
    for update in updates {
        let round = seen.entry(&update.launch).or_insert(0);
        if *round == rounds.len() {
            rounds.push(Vec::new());
        }
        rounds[*round].push(update);
        *round += 1;
    }
    rounds
}

async fn read_refused(
    tx: &mut Transaction,
    refused: BTreeSet<&LaunchId>,
) -> Result<Vec<(LaunchId, Option<windlass_core::store::LaunchRow>)>, BridgeError> {
    if refused.is_empty() {
        return Ok(Vec::new());
    }
    let sql = READ.replace("{columns}", LAUNCH_COLUMNS);
    let mut rows = BTreeMap::new();
    for row in tx.rows(airflow_statement(sql).bind(id_array(refused.iter().copied()))).await? {
        let row = launch_row(&row)?;
        rows.insert(row.launch.clone(), row);
    }
    Ok(refused.into_iter().map(|id| (id.clone(), rows.remove(id))).collect())
}

/// One round as columns.
#[derive(Default)]
struct Columns {
    launch_id: Vec<String>,
    stage: Vec<&'static str>,
    attempt: Vec<Option<i32>>,
    namespace: Vec<Option<String>>,
    pod_name: Vec<Option<String>>,
    pod_uid: Vec<Option<String>>,
    lost: Vec<Option<String>>,
    outcome: Vec<Option<&'static str>>,
    reason: Vec<Option<&'static str>>,
    message: Vec<Option<String>>,
    exit_code: Vec<Option<i32>>,
}

/// What one change says; None: nothing.
#[derive(Default)]
struct Values {
    attempt: Option<i32>,
    pod: Option<windlass_core::ids::PodRef>,
    pod_uid: Option<String>,
    lost: Option<String>,
    outcome: Option<windlass_core::outcome::Outcome>,
}

impl Columns {
    fn of(updates: &[&LaunchUpdate]) -> Self {
        let mut columns = Self::default();
        for update in updates {
            let (stage, values) = values(&update.change);
            columns.push(&update.launch, stage, values);
        }
        columns
    }

    fn push(&mut self, launch: &LaunchId, stage: &'static str, values: Values) {
        let (namespace, pod_name) = values.pod.map(|p| (p.namespace, p.name)).unzip();
        let outcome = values.outcome;
        self.launch_id.push(launch.as_str().to_owned());
        self.stage.push(stage);
        self.attempt.push(values.attempt);
        self.namespace.push(namespace);
        self.pod_name.push(pod_name);
        self.pod_uid.push(values.pod_uid);
        self.lost.push(values.lost.map(storable));
        self.outcome.push(outcome.as_ref().map(|o| o.kind.as_str()));
        self.reason.push(outcome.as_ref().and_then(|o| o.reason).map(|r| r.as_str()));
        self.exit_code.push(outcome.as_ref().and_then(|o| o.exit_code));
        self.message.push(outcome.map(|o| storable(o.message)));
    }

    fn bind(self, epoch: Epoch) -> Query<'static, Postgres, PgArguments> {
        statement(UPDATE)
            .bind(self.launch_id)
            .bind(self.stage)
            .bind(self.attempt)
            .bind(self.namespace)
            .bind(self.pod_name)
            .bind(self.pod_uid)
            .bind(self.lost)
            .bind(self.outcome)
            .bind(self.reason)
            .bind(self.message)
            .bind(self.exit_code)
            .bind(epoch.0)
    }
}

/// The stage that a change leads to, and what it brings.
fn values(change: &LaunchChange) -> (&'static str, Values) {
    match change.clone() {
        LaunchChange::Created { attempt, uid } => {
            ("created", Values { attempt: Some(attempt.0 as i32), pod_uid: Some(uid.0), ..Values::default() })
        }
        LaunchChange::Running { attempt, uid } => {
            ("running", Values { attempt: Some(attempt.0 as i32), pod_uid: Some(uid.0), ..Values::default() })
        }
        LaunchChange::Relaunch { attempt, pod, why } => (
            "claimed",
            Values { attempt: Some(attempt.0 as i32), pod: Some(pod), lost: Some(why), ..Values::default() },
        ),
        LaunchChange::Settle { outcome } => {
            ("settled", Values { outcome: Some(outcome), ..Values::default() })
        }
        LaunchChange::Close => ("closed", Values::default()),
    }
}

/// A container's last words may hold a NUL, which `text` cannot: the outcome must not fail for it.
fn storable(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_launch_is_once_in_a_round_and_its_changes_keep_their_order() {
        let (a, b): (LaunchId, LaunchId) = ("a".repeat(26).parse().unwrap(), "b".repeat(26).parse().unwrap());
        let close = |launch: &LaunchId| LaunchUpdate { launch: launch.clone(), change: LaunchChange::Close };
        let batch = [close(&a), close(&b), close(&a), close(&a)];
        let sizes: Vec<usize> = rounds(&batch).iter().map(Vec::len).collect();
        assert_eq!(sizes, [2, 1, 1]);
    }

    #[test]
    fn a_nul_in_a_message_is_replaced() {
        assert_eq!(storable("a\0b".into()), "a\u{fffd}b");
    }
}
