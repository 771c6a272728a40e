//! `deploy/sql/grants.sql` both ways: each grant alone is named when it lacks, and each is needed by a statement.

use std::time::Duration;

use scheduler_bridge::{BridgeError, LookLimits};
use sqlx::{AssertSqlSafe, Row};
use windlass_core::ids::{Epoch, PodRef, PodUid};
use windlass_core::outcome::Outcome;
use windlass_core::store::{IntakePass, LaunchChange, LaunchUpdate, SaveAnswer, TermAnswer};

use crate::support::{Lab, on_both_versions, queueing};

on_both_versions!(each_grant_alone_is_named_and_needed);

/// What the role was given, on tables and on columns.
const GIVEN: &str = "
    SELECT n.nspname::text AS schema, c.relname::text AS relation, '' AS part, x.privilege_type AS privilege
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(c.relacl) x
    WHERE x.grantee = 'windlass'::regrole
    UNION ALL
    SELECT n.nspname::text, c.relname::text, a.attname::text, x.privilege_type
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace,
        aclexplode(a.attacl) x
    WHERE x.grantee = 'windlass'::regrole
    ORDER BY 1, 2, 3, 4";

async fn each_grant_alone_is_named_and_needed(lab: Lab) -> anyhow::Result<()> {
    let epoch = lab.lead("a").await?;
    let done = lab.launched(epoch, &queueing("done")).await?;
    lab.saved(epoch, &done, &[LaunchChange::Settle { outcome: Outcome::success("done") }]).await;
    lab.queue(&queueing("queued")).await?;
    assert_eq!(denied(&lab, epoch).await?, Vec::<String>::new(), "with all grants everything works");

    let given = sqlx::query(GIVEN).fetch_all(&lab.admin).await?;
    assert!(given.len() > 40, "{} grants", given.len());
    for row in given {
        let (schema, relation): (String, String) = (row.try_get("schema")?, row.try_get("relation")?);
        let (part, privilege): (String, String) = (row.try_get("part")?, row.try_get("privilege")?);
        let list = if part.is_empty() { String::new() } else { format!(" ({part})") };
        let what = format!("{privilege}{list} ON {schema}.{relation}");
        run(&lab, format!("REVOKE {what} FROM windlass")).await?;
        let error = lab.store.check().await.unwrap_err();
        let BridgeError::MissingGrants { grants, .. } = &error else { anyhow::bail!("{what}: {error}") };
        assert_eq!(grants, &[format!("GRANT {what} TO windlass;")]);
        // `check` alone reads these two, after it has looked into the catalogue.
        let read_by_check = ["alembic_version", "schema_migrations"].contains(&relation.as_str());
        let refused = denied(&lab, epoch).await?;
        assert!(read_by_check || !refused.is_empty(), "no statement needs {what}");
        run(&lab, grants[0].clone()).await?;
    }
    lab.store.check().await?;
    Ok(())
}

async fn run(lab: &Lab, sql: String) -> anyhow::Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&lab.admin).await?;
    Ok(())
}

/// Calls of the daemon that the database does not allow.
async fn denied(lab: &Lab, epoch: Epoch) -> anyhow::Result<Vec<String>> {
    const LEASE: u64 = 60_000;
    let store = &lab.store;
    let claim = lab.claim_of(&queueing("queued"));
    let launch = (claim.launch.clone(), claim.queueing.clone());
    let pod = PodRef { namespace: "tasks".into(), name: "pod".into() };
    let mut errors: Vec<String> = Vec::new();
    // Unlike `check`, which reads the catalogue, these are the statements themselves.
    let mut note = |error: Option<String>| errors.extend(error.filter(|e| e.contains("permission denied")));
    // A holder that asks again begins a new term.
    let answer = store.acquire_term("a", LEASE).await;
    let epoch = if let TermAnswer::Held { epoch } = &answer { *epoch } else { epoch };
    note(of_term(answer));
    note(of_term(store.renew_term("a", epoch, LEASE).await));
    note(of(store.diagnose().await));
    note(of(store.installation().await));
    note(of(store.load(epoch).await));
    note(of(store.intake(IntakePass::Handover, 1).await));
    note(of(store.intake(IntakePass::Full, 1).await));
    note(of(store.claim(epoch, std::slice::from_ref(&claim)).await));
    note(of(store.read_tasks(std::slice::from_ref(&launch)).await));
    note(of(store.read_specs(std::slice::from_ref(&launch)).await));
    note(of(store.find_withdrawn(1).await));
    note(of(store.find_launches(std::slice::from_ref(&claim.launch)).await));
    note(of(store.note_pods(&[(claim.queueing.clone(), pod)]).await));
    note(of(store.purge(epoch, Duration::from_secs(3_600), 1).await));
    note(of(store.status(1).await));
    note(of(store.dags(None).await));
    note(of(store.pools().await));
    let minute = Duration::from_secs(60);
    let limits = LookLimits { rows: 1, unlaunched: minute, worker_dead: minute, scheduler_dead: minute };
    note(of(store.look(limits).await));
    let change =
        LaunchChange::Created { attempt: windlass_core::ids::Attempt::FIRST, uid: PodUid("u".into()) };
    let saved = store.save(epoch, &[LaunchUpdate { launch: claim.launch.clone(), change }]).await;
    note(match saved {
        SaveAnswer::Failed { error } => Some(error),
        SaveAnswer::Saved { .. } | SaveAnswer::Fenced => None,
    });
    // The next round claims it again.
    lab.sql("DELETE FROM windlass.launch WHERE task_id = 'queued'").await?;
    Ok(errors)
}

fn of<T>(answer: Result<T, BridgeError>) -> Option<String> {
    answer.err().map(|error| error.chain())
}

fn of_term(answer: TermAnswer) -> Option<String> {
    match answer {
        TermAnswer::Failed { error } => Some(error),
        TermAnswer::Held { .. }
        | TermAnswer::HeldAfterLoss { .. }
        | TermAnswer::HeldByOther { .. }
        | TermAnswer::Released => None,
    }
}
