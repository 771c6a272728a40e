//! The daemon at a database that takes tokens of IAM database authentication, as RDS does: a real PostgreSQL behind a
//! login that judges each token.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use aws_credential_types::Credentials;
use windlass_aws::rds::{LIFE, Login, token};
use windlass_eks::rds::{Judge, Rds};
use windlass_lab::folder::Folder;
use windlass_local_cluster::{ApiOptions, ApiServer};
use windlass_suite::daemon::{Daemon, Database, Variables, connection, service_account, until, windlass};

const REGION: &str = "eu-west-1";
const KEY: [(&str, &str); 3] = [
    ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
    ("AWS_SECRET_ACCESS_KEY", "a-secret-access-key"),
    ("AWS_SESSION_TOKEN", "a-session-token"),
];

/// What came to the login.
#[derive(Default)]
struct Seen {
    taken: AtomicUsize,
    refused: Mutex<Vec<String>>,
    /// As while the role lacks `rds-db:connect`.
    takes_none: AtomicBool,
    /// The login's own, which its tokens are for.
    port: Mutex<u16>,
}

impl Seen {
    fn judge(self: &Arc<Self>) -> Judge {
        let seen = self.clone();
        Arc::new(move |user, password| {
            let port = *seen.port.lock().unwrap_or_else(PoisonError::into_inner);
            match is_token(user, password, port) {
                Ok(()) if seen.takes_none.load(Ordering::Relaxed) => false,
                Ok(()) => {
                    seen.taken.fetch_add(1, Ordering::Relaxed);
                    true
                }
                Err(why) => {
                    seen.refused.lock().unwrap_or_else(PoisonError::into_inner).push(why.to_string());
                    false
                }
            }
        })
    }
}

/// Signed with the key, for this user and place, and not too old.
fn is_token(user: &str, password: &str, port: u16) -> Result<()> {
    let date = password.split(['?', '&']).find_map(|part| part.strip_prefix("X-Amz-Date="));
    let date = date.with_context(|| format!("no token: {password}"))?;
    let made = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", date)?.to_zoned(jiff::tz::TimeZone::UTC)?;
    let age = jiff::Timestamp::now().duration_since(made.timestamp());
    ensure!(!age.is_negative() && age.unsigned_abs() < LIFE, "of another time: {date}");
    let made = SystemTime::from(made.timestamp());
    let [key, secret, session] = KEY.map(|(_, value)| value);
    let credentials = Credentials::new(key, secret, Some(session.to_owned()), None, "test");
    let expected = token(&Login { host: "127.0.0.1", port, user, region: REGION }, credentials, made)?;
    ensure!(password == expected, "another token: {password}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_login_of_the_daemon_is_a_token() -> Result<()> {
    let folder = Folder::new("store-rds")?;
    let database = Database::ready().await?;
    let seen = Arc::new(Seen::default());
    let rds = Rds::start(([127, 0, 0, 1], database.postgres.port()).into(), seen.judge()).await?;
    *seen.port.lock().unwrap_or_else(PoisonError::into_inner) = rds.port();
    fs::write(folder.join("bundle.pem"), rds.bundle())?;
    let api = ApiServer::start(ApiOptions::default()).await?;
    fs::write(folder.join("token"), api.token())?;
    fs::write(folder.join("ca.crt"), api.authority())?;
    let place = format!("postgresql://windlass@127.0.0.1:{}/{}", rds.port(), database.name);
    let mut variables = service_account(&api.url(), folder.path(), "default");
    variables.extend(connection(&format!(
        "{place}?sslmode=verify-full&sslrootcert={}",
        folder.join("bundle.pem").display()
    )));
    variables.insert("WINDLASS__DATABASE__REGION".into(), REGION.into());
    for (part, value) in [("REPOSITORY", "airflow"), ("TAG", "2.11")] {
        variables.insert(format!("AIRFLOW__KUBERNETES_EXECUTOR__WORKER_CONTAINER_{part}"), value.into());
    }
    variables.extend(KEY.map(|(name, value)| (name.to_owned(), value.to_owned())));

    // Somebody forgot to say that it takes tokens.
    let daemon = Daemon::start(&folder, "by-password", &variables).await?;
    let said = daemon.ready_says(503, "PAM authentication failed for user \"windlass\"").await?;
    ensure!(said.contains("(hint: on RDS such a user logs in with IAM tokens: set database.auth"), "{said}");
    drop(daemon);
    seen.refused.lock().unwrap_or_else(PoisonError::into_inner).clear();

    variables.insert("WINDLASS__DATABASE__AUTH".into(), "rds-iam".into());
    without_tls(&place, &variables)?;
    let daemon = Daemon::start(&folder, "daemon", &variables).await?;
    daemon.ready_says(200, "leading (term 1)").await?;
    database.queue("plain", "80057d942e")?;
    until("a pod", async || Ok((!api.all("pods").is_empty()).then_some(()))).await?;
    let first = seen.taken.load(Ordering::Relaxed);
    ensure!(first >= 2, "{first} logins");

    // Its connections end while the role may not log in, and then it may again.
    seen.takes_none.store(true, Ordering::Relaxed);
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'windlass'";
    database.sql(end)?;
    daemon.ready_says(503, "PAM authentication failed for user \"windlass\"").await?;
    seen.takes_none.store(false, Ordering::Relaxed);
    daemon.ready_says(200, "leading (term 2)").await?;
    ensure!(seen.taken.load(Ordering::Relaxed) > first, "the same logins");
    let refused = seen.refused.lock().unwrap_or_else(PoisonError::into_inner).clone();
    ensure!(refused.is_empty(), "{refused:?}");
    let log = daemon.log();
    let shown = log.lines().find(|line| line.contains("X-Amz-") || line.contains("a-secret-access-key"));
    ensure!(shown.is_none(), "a token is shown: {shown:?}");
    Ok(())
}

/// A token is not sent where it could be read.
fn without_tls(place: &str, variables: &Variables) -> Result<()> {
    let mut variables = variables.clone();
    variables.extend(connection(place));
    let refused = windlass(&variables, &["status"])?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(refused.status.code() == Some(3), "{refused:?}");
    let words = "has no encryption demanded, and database.auth = `rds-iam` sends a token";
    ensure!(said.contains(words) && said.contains("add ?sslmode=verify-full&sslrootcert=FILE"), "{said}");
    Ok(())
}
