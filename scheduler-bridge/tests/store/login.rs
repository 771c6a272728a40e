//! A password that changes while the store is at work: rotated by somebody, or another one for each login.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Context;
use scheduler_bridge::{
    BridgeError, DatabaseConfig, NoPassword, PasswordFuture, Passwords, Store, StoreSettings,
};
use windlass_core::store::{IntakePass, TermAnswer};
use windlass_lab::postgres::Postgres;

use crate::support::{Lab, Server, settings, until_refused};

/// The role has to say its password from now on, as RDS asks for it: in clear text, which TLS hides there.
async fn demand_password(lab: &Lab, password: &str) -> anyhow::Result<()> {
    let server = lab.server.clone();
    set_password(&server.postgres, password)?;
    let file = server.postgres.socket_folder().join("data/pg_hba.conf");
    let rest = fs::read_to_string(&file)?;
    fs::write(&file, format!("host all windlass 127.0.0.1/32 password\n{rest}"))?;
    let rules = "SELECT count(*) FROM pg_hba_file_rules WHERE auth_method = 'password'";
    assert_eq!(server.postgres.psql("postgres", rules, &[])?, "1");
    server.postgres.reload();
    until_refused(with_password(lab, "wrong")?).await.map(drop)
}

fn set_password(postgres: &Postgres, password: &str) -> anyhow::Result<()> {
    postgres.psql("postgres", &format!("ALTER ROLE windlass PASSWORD '{password}'"), &[]).map(drop)
}

fn with_password(lab: &Lab, password: &str) -> anyhow::Result<DatabaseConfig> {
    let port = lab.server.postgres.port();
    let url = format!("postgresql://windlass:{password}@127.0.0.1:{port}/{}", lab.database);
    Ok(DatabaseConfig::parse(&url)?)
}

async fn backends(lab: &Lab) -> anyhow::Result<Vec<i32>> {
    let pids = "SELECT pid FROM pg_stat_activity WHERE usename = 'windlass' ORDER BY pid";
    Ok(sqlx::query_scalar(pids).fetch_all(&lab.admin).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_password_ends_no_connection_and_serves_the_next_one() -> anyhow::Result<()> {
    let lab = Lab::alone(16).await?;
    lab.store.close().await;
    demand_password(&lab, "of-january").await?;
    let store = Store::connect(with_password(&lab, "of-january")?, settings()).await?;
    let TermAnswer::Held { epoch } = store.acquire_term("a", 60_000).await else { anyhow::bail!("not held") };
    // The trial connection of `connect` takes a moment to end.
    let mut open = backends(&lab).await?;
    while open.len() > 1 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        open = backends(&lab).await?;
    }

    set_password(&lab.server.postgres, "of-february")?;
    assert_eq!(store.renew_term("a", epoch, 60_000).await, TermAnswer::Held { epoch });
    assert_eq!(backends(&lab).await?, open, "the open connection goes on");
    // The first connection of the other pool: it logs in, and is refused.
    let error = store.intake(IntakePass::Full, 10).await.unwrap_err();
    assert!(matches!(error, BridgeError::AuthenticationFailed { .. }), "{error}");
    let told = format!("{} {error:?} {:?}", error.chain(), error.hint());
    assert!(told.contains("does not let user `windlass` in: password authentication failed"), "{told}");
    assert!(!told.contains("of-january"), "{told}");
    tokio::time::timeout(Duration::from_secs(5), store.refused()).await?;
    // What it is read anew from is not right yet.
    assert!(store.log_in_with(with_password(&lab, "of-nobody")?));
    let error = store.intake(IntakePass::Full, 10).await.unwrap_err();
    assert!(!format!("{} {error:?}", error.chain()).contains("of-nobody"), "{error:?}");
    assert!(store.log_in_with(with_password(&lab, "of-february")?));
    assert_eq!(store.intake(IntakePass::Full, 10).await?, []);
    assert_eq!(store.renew_term("a", epoch, 60_000).await, TermAnswer::Held { epoch });
    assert!(backends(&lab).await?.contains(&open[0]), "still the same one");
    store.close().await;
    Ok(())
}

/// Another password for each login. The role has the newest one alone: one that is used again is refused.
struct Changing {
    server: Arc<Server>,
    made: AtomicU32,
    away: AtomicBool,
}

impl Passwords for Changing {
    fn password<'a>(&'a self, of: &'a DatabaseConfig) -> PasswordFuture<'a> {
        Box::pin(async move {
            assert_eq!((of.host(), of.user()), ("127.0.0.1", "windlass"));
            if self.away.load(Ordering::Relaxed) {
                let why = "no credentials of AWS were found: STS is away".into();
                return Err(NoPassword { why, hint: "give the service account a role".into() });
            }
            let token = format!("token-{}", self.made.fetch_add(1, Ordering::Relaxed));
            set_password(&self.server.postgres, &token)
                .map_err(|error| NoPassword { why: error.to_string(), hint: String::new() })?;
            Ok(token)
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_login_has_a_token_of_its_own() -> anyhow::Result<()> {
    let mut lab = Lab::alone(16).await?;
    lab.store.close().await;
    demand_password(&lab, "nobody-knows-it").await?;
    let tokens = Arc::new(Changing {
        server: lab.server.clone(),
        made: AtomicU32::new(0),
        away: AtomicBool::new(false),
    });
    let config = with_password(&lab, "not-a-token")?.with_passwords(tokens.clone());
    // Connections that are replaced again and again.
    let short = StoreSettings { connection_lifetime: Duration::from_millis(100), ..settings() };
    let store = Store::connect(config.clone(), short).await?;
    lab.store = store.clone();
    store.check().await?;
    let epoch = lab.lead("a").await?;
    let mut wakes = store.wake_listener().await?.context("a direct connection hears")?;
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(120)).await;
        assert_eq!(store.renew_term("a", epoch, 60_000).await, TermAnswer::Held { epoch });
        assert_eq!(store.intake(IntakePass::Full, 10).await?, []);
        seen.extend(backends(&lab).await?);
    }
    assert!(seen.len() >= 10, "{} connections in all", seen.len());
    assert!(tokens.made.load(Ordering::Relaxed) >= 20, "one for each login");

    // Without a token what is open goes on, and what has to be opened is told with the cause.
    let calm = Store::connect(config.clone(), settings()).await?;
    lab.store = calm.clone();
    let epoch = lab.lead("a").await?;
    tokens.away.store(true, Ordering::Relaxed);
    set_password(&lab.server.postgres, "another-one")?;
    assert_eq!(calm.renew_term("a", epoch, 60_000).await, TermAnswer::Held { epoch });
    let error = calm.intake(IntakePass::Full, 10).await.unwrap_err();
    let told = error.chain();
    assert!(
        told.starts_with("there is no password for user `windlass` of PostgreSQL at 127.0.0.1:"),
        "{told}"
    );
    assert!(told.ends_with(": no credentials of AWS were found: STS is away"), "{told}");
    assert_eq!((error.kind(), error.is_transient()), ("no_password", true));
    assert_eq!(error.hint().as_deref(), Some("give the service account a role"));
    assert!(!format!("{told} {error:?}").contains("token-"), "{error:?}");
    let at_the_start = Store::connect(config, settings()).await.unwrap_err();
    assert_eq!(at_the_start.kind(), "no_password");

    // The one that listens logs in anew too.
    tokens.away.store(false, Ordering::Relaxed);
    lab.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'windlass'").await?;
    tokio::time::timeout(Duration::from_secs(20), wakes.woken()).await??;
    lab.sql("NOTIFY windlass_wake").await?;
    tokio::time::timeout(Duration::from_secs(10), wakes.woken()).await??;
    assert_eq!(calm.intake(IntakePass::Full, 10).await?, []);
    for store in [store, calm] {
        store.close().await;
    }
    Ok(())
}
