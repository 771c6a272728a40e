//! `windlass run`, `windlass migrate` and `windlass status` as processes against real PostgreSQL.

use std::fs;
use std::process::Output;
use std::time::Duration;

use anyhow::{Result, ensure};
use windlass_lab::folder::Folder;
use windlass_lab::ports;
use windlass_lab::prepare::workspace;
use windlass_local_cluster::{ApiOptions, ApiServer};
use windlass_suite::daemon::{Daemon, Database, Variables, connection, service_account, until, windlass};

/// From SIGTERM to the end: the default of term.drain-seconds, and what is left of calls.
const WITHIN: Duration = Duration::from_secs(15);

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn with(variables: &Variables, more: &[(&str, &str)]) -> Variables {
    let mut all = variables.clone();
    all.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    all
}

/// An embedded API, and the variables that lead to it.
async fn api(folder: &Folder) -> Result<(ApiServer, Variables)> {
    let api = ApiServer::start(ApiOptions::default()).await?;
    fs::write(folder.join("token"), api.token())?;
    fs::write(folder.join("ca.crt"), api.authority())?;
    let variables = service_account(&api.url(), folder.path(), "default");
    Ok((api, variables))
}

/// One daemon, never restarted: it waits for each thing that lacks, says what, why and the remedy, and goes on.
#[tokio::test]
async fn a_database_that_is_not_ready_is_waited_for_step_by_step() -> Result<()> {
    let folder = Folder::new("store-daemon")?;
    let (_api, mut variables) = api(&folder).await?;
    let database = Database::empty().await?;
    variables.extend(database.daemon());
    let daemon = Daemon::start(&folder, "daemon", &variables).await?;

    let says = async |object: &str, remedy: &str| {
        let said = daemon.ready_says(503, &format!("waiting for the database: {object}")).await?;
        ensure!(said.contains(&format!(" (hint: {remedy}")), "{said}");
        Ok(said)
    };
    says("there are no Airflow tables in the search_path of", "run `airflow db migrate` first").await?;
    database.make_airflow()?;
    database.sql("GRANT SELECT ON alembic_version TO windlass; UPDATE alembic_version SET version_num = 'd2f4e1b3c5a7'")?;
    let unknown = "Airflow's database schema has revision `d2f4e1b3c5a7`; this Windlass knows `22ed7efa9da2` (Airflow 2.10";
    says(unknown, "use a Windlass release that lists your Airflow version").await?;
    database.sql("UPDATE alembic_version SET version_num = '5f2621c13b39'")?;
    let missing = "the database has no schema `windlass`, or an empty one";
    says(missing, "run `windlass migrate`, then deploy/sql/grants.sql").await?;
    ensure!(windlass(&database.owner(), &["migrate"])?.status.success());
    let grants = "run these statements as the tables' owner, or the whole of deploy/sql/grants.sql";
    let said = says("database role `windlass` lacks ", grants).await?;
    ensure!(
        said.contains(" privileges: GRANT ") && said.contains("ON windlass.launch TO windlass;"),
        "{said}"
    );
    database.grant()?;
    daemon.ready_says(200, "leading (term 1)").await?;
    Ok(())
}

/// Newer and older: both versions are named, here and by the commands.
#[tokio::test]
async fn a_schema_of_another_version_is_named_with_both() -> Result<()> {
    let folder = Folder::new("store-daemon")?;
    let (_api, api) = api(&folder).await?;
    let database = Database::ready().await?;
    let row = |version: i32| {
        format!(
            "INSERT INTO windlass.schema_migrations (version, description, success, checksum, execution_time)
             VALUES ({version}, 'of tomorrow', true, '', 0)"
        )
    };
    database.sql(&row(99))?;
    let known = migrations()?;
    let newer = &format!("the schema `windlass` has version 99; this binary knows versions up to {known}");
    let daemon =
        Daemon::start(&folder, "daemon", &api.into_iter().chain(database.daemon()).collect()).await?;
    daemon.ready_says(503, newer).await?;
    for (variables, command) in [(database.daemon(), "status"), (database.owner(), "migrate")] {
        let refused = windlass(&variables, &[command])?;
        let said = text(&refused.stderr);
        ensure!(refused.status.code() == Some(4), "{command}: {said}");
        ensure!(
            said.starts_with(&format!("error: {newer}"))
                && said.contains("\n  hint: use the Windlass release"),
            "{said}"
        );
    }
    database.sql("DELETE FROM windlass.schema_migrations WHERE version = 99")?;
    daemon.ready_says(200, "leading").await?;
    Ok(())
}

/// A running daemon loses its database and finds it again; without one it still ends when it is told to.
#[tokio::test]
async fn an_outage_is_told_in_log_and_probe_and_ends_by_itself() -> Result<()> {
    let folder = Folder::new("store-daemon")?;
    let (_api, mut variables) = api(&folder).await?;
    let database = Database::ready().await?;
    variables.extend(database.daemon());
    let daemon = Daemon::start(&folder, "daemon", &variables).await?;
    daemon.ready_says(200, "leading (term 1)").await?;
    let name = &database.name;
    let cut = format!(
        "ALTER DATABASE {name} ALLOW_CONNECTIONS false;
         SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '{name}'"
    );
    database.postgres.psql("postgres", &cut, &[])?;
    let said = daemon.ready_says(503, "standby: waiting for the database to say who leads").await?;
    ensure!(
        said.contains("\ndatabase: ") && said.contains("is not currently accepting connections"),
        "{said}"
    );
    let log = daemon.log();
    ensure!(log.contains("WARN") && log.contains("is not currently accepting connections"), "{log}");
    let wakes = log.matches("no wake-ups from the database: ").count();
    ensure!(wakes == 1, "told {wakes} times:\n{log}");
    database.postgres.psql("postgres", &format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true"), &[])?;
    daemon.ready_says(200, "leading (term 2)").await?;
    database.postgres.psql("postgres", &cut, &[])?;
    let ended = daemon.process().stop(WITHIN).and_then(|status| status.code());
    ensure!(ended == Some(0), "{ended:?}: {}", daemon.log());
    Ok(())
}

/// With a password in the connection string, which the database demands, once in a variable and once from a command in
/// airflow.cfg, and a token for the API server; everything that can be logged is logged.
#[tokio::test]
async fn at_the_finest_level_the_log_is_json_line_by_line_and_holds_no_secret() -> Result<()> {
    const PASSWORD: &str = "hunter2-of-windlass";
    let folder = Folder::new("store-daemon")?;
    let (api, mut variables) = api(&folder).await?;
    let token = api.token().to_owned();
    let database = Database::ready().await?;
    demand_password(&database, PASSWORD)?;
    let (port, name) = (database.postgres.port(), &database.name);
    let url =
        |password: &str| connection(&format!("postgresql://windlass:{password}@127.0.0.1:{port}/{name}"));
    variables.extend(url("a-wrong-password"));
    variables.extend(with(
        &Variables::new(),
        &[
            ("WINDLASS__LOG__LEVEL", "trace"),
            ("WINDLASS__LOG__FORMAT", "json"),
            ("AIRFLOW__KUBERNETES_EXECUTOR__WORKER_CONTAINER_REPOSITORY", "airflow"),
            ("AIRFLOW__KUBERNETES_EXECUTOR__WORKER_CONTAINER_TAG", "2.11"),
        ],
    ));
    let wrong = Daemon::start(&folder, "wrong", &variables).await?;
    let said = wrong.ready_says(503, "does not let user `windlass` in").await?;
    ensure!(
        said.contains("password authentication failed") && said.contains("(hint: check user and password of"),
        "{said}"
    );

    variables.remove("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN");
    fs::write(folder.join("connection"), &url(PASSWORD)["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"])?;
    let command = format!("sql_alchemy_conn_cmd = cat {}", folder.join("connection").display());
    fs::write(folder.join("airflow.cfg"), format!("[database]\n{command}\n"))?;
    variables.insert("AIRFLOW_HOME".into(), folder.path().display().to_string());
    let daemon = Daemon::start(&folder, "daemon", &variables).await?;
    daemon.ready_says(200, "leading").await?;
    database.queue("plain", "80057d942e")?;
    until("a pod", async || Ok((!api.all("pods").is_empty()).then_some(()))).await?;
    let metrics = daemon.get("/metrics").await?.1;
    let status = windlass(&variables, &["status", "--output", "json"])?;
    ensure!(status.status.success(), "{}", text(&status.stderr));
    let shown = windlass(&variables, &["config"])?;
    ensure!(shown.status.success() && text(&shown.stdout).contains("output of the command"), "{shown:?}");
    wrong.process().stop(WITHIN);
    let ended = daemon.process().stop(WITHIN);
    ensure!(ended.and_then(|status| status.code()) == Some(0), "{ended:?}");
    ensure!(database.sql("SELECT holder IS NULL FROM windlass.term")? == "t", "the term was not handed over");

    let logs = [wrong.log(), daemon.log()];
    for line in logs.iter().flat_map(|log| log.lines()) {
        let object: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        ensure!(object.is_object() && object["level"].is_string(), "{line}");
    }
    ensure!(logs[1].contains("\"TRACE\"") && logs[1].contains("SIGTERM: finishing"), "not all was logged");
    let pod = serde_json::to_string(&api.all("pods"))?;
    let outputs = [&status.stdout, &status.stderr, &shown.stdout, &shown.stderr].map(|bytes| text(bytes));
    for shown in logs.iter().chain(&outputs).chain([&metrics, &pod]) {
        for secret in [PASSWORD, "a-wrong-password", &token] {
            let at = shown.lines().find(|line| line.contains(secret));
            ensure!(at.is_none(), "a secret is shown: {at:?}");
        }
    }
    Ok(())
}

/// As RDS and Secrets Manager rotate it, by a command that prints the connection string: before the daemon has ever been
/// let in, under a leader, and with another role in the same place. It is never restarted.
#[tokio::test]
async fn a_rotated_login_is_picked_up_without_a_restart() -> Result<()> {
    let folder = Folder::new("store-daemon")?;
    let (_api, mut variables) = api(&folder).await?;
    let database = Database::ready().await?;
    demand_password(&database, "of-january")?;
    let (port, name) = (database.postgres.port(), &database.name);
    let file = folder.join("connection");
    let secret = |login: &str, name: &str| -> Result<()> {
        let url = connection(&format!("postgresql://{login}@127.0.0.1:{port}/{name}"));
        Ok(fs::write(&file, &url["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"])?)
    };
    secret("windlass:of-december", name)?;
    let command = format!("cat {}", file.display());
    variables.insert("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD".into(), command);
    let daemon = Daemon::start(&folder, "daemon", &variables).await?;
    daemon.ready_says(503, "does not let user `windlass` in").await?;
    secret("windlass:of-january", name)?;
    daemon.ready_says(200, "leading (term 1)").await?;

    let rotated = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'windlass'";
    database.sql(&format!("ALTER ROLE windlass PASSWORD 'of-february'; {rotated}"))?;
    daemon.ready_says(503, "does not let user `windlass` in").await?;
    // Not there yet, as after a rotation that is half done: the old one stays.
    fs::remove_file(&file)?;
    daemon.log_says("[database] sql_alchemy_conn cannot be read again: ").await?;
    secret("windlass:of-february", "elsewhere")?;
    daemon.log_says(&format!("leads to 127.0.0.1:{port}/elsewhere now, another database")).await?;
    secret("windlass:of-february", name)?;
    daemon.ready_says(200, "leading (term 2)").await?;

    database.sql(
        "CREATE ROLE windlass_b LOGIN PASSWORD 'of-march' IN ROLE windlass;
         ALTER ROLE windlass NOLOGIN",
    )?;
    database.sql(rotated)?;
    secret("windlass_b:of-march", name)?;
    daemon.ready_says(200, "leading (term 3)").await?;
    daemon.log_says("was read again, for user `windlass_b`").await?;
    let log = daemon.log();
    let shown = log.lines().find(|line| line.contains("of-"));
    ensure!(shown.is_none(), "a password is shown: {shown:?}");
    Ok(())
}

/// Each connection string can be read and leads nowhere: wrong port, role, database.
#[tokio::test]
async fn a_connection_that_leads_nowhere_is_waited_for_with_cause_and_remedy() -> Result<()> {
    let folder = Folder::new("store-daemon")?;
    let database = Database::empty().await?;
    let (port, name) = (database.postgres.port(), &database.name);
    let nobody = ports::free()?;
    for (case, url, object, cause, remedy) in [
        (
            "port",
            format!("postgresql://windlass:hunter2@127.0.0.1:{nobody}/{name}"),
            format!("cannot connect to PostgreSQL at 127.0.0.1:{nobody}/{name}: "),
            "Connection refused",
            "(hint: check host, port and network policy of [database] sql_alchemy_conn",
        ),
        (
            "host",
            format!("postgresql://windlass:hunter2@no-such-host.invalid:{port}/{name}"),
            format!("cannot connect to PostgreSQL at no-such-host.invalid:{port}/{name}: "),
            "lookup",
            "(hint: check host, port and network policy of [database] sql_alchemy_conn",
        ),
        (
            "user",
            format!("postgresql://nobody:hunter2@127.0.0.1:{port}/{name}"),
            format!("PostgreSQL at 127.0.0.1:{port}/{name} does not let user `nobody` in: "),
            "role \"nobody\" does not exist",
            "(hint: check user and password of [database] sql_alchemy_conn (or its _CMD or _SECRET form)",
        ),
        (
            "database",
            format!("postgresql://windlass:hunter2@127.0.0.1:{port}/elsewhere"),
            format!("PostgreSQL at 127.0.0.1:{port}/elsewhere has no such database: "),
            "database \"elsewhere\" does not exist",
            "(hint: check the database's name at the end of [database] sql_alchemy_conn)",
        ),
    ] {
        let daemon = Daemon::start(&folder, case, &connection(&url)).await?;
        let said = daemon.ready_says(503, &format!("waiting for the database: {object}")).await?;
        ensure!(said.contains(cause) && said.contains(remedy), "{said}");
        let log = daemon.log();
        ensure!(log.contains(said.trim_end()) && log.contains("WARN"), "{said} is not in the log:\n{log}");
        let status = windlass(&connection(&url), &["status"])?;
        let told = text(&status.stderr);
        ensure!(status.status.code() == Some(4) && told.starts_with(&format!("error: {object}")), "{told}");
        ensure!(![said, log, told].iter().any(|text| text.contains("hunter2")), "{case} shows the password");
    }
    Ok(())
}

/// Without a kubeconfig, then with one of a cluster that is not there, then with the right one.
#[tokio::test]
async fn a_kubeconfig_that_is_not_there_is_waited_for() -> Result<()> {
    let folder = Folder::new("store-daemon")?;
    let database = Database::ready().await?;
    let outside = Daemon::start(&folder, "outside", &database.daemon()).await?;
    let file = folder.join("kubeconfig");
    let variables = with(
        &database.daemon(),
        &[
            ("AIRFLOW__KUBERNETES_EXECUTOR__IN_CLUSTER", "False"),
            ("AIRFLOW__KUBERNETES_EXECUTOR__CONFIG_FILE", &file.display().to_string()),
        ],
    );
    let daemon = Daemon::start(&folder, "daemon", &variables).await?;
    let missing =
        format!("waiting for the API server: cannot read the kubeconfig `{}`: No such", file.display());
    let said = daemon.ready_says(503, &missing).await?;
    ensure!(said.contains("(hint: name a readable file in `[kubernetes_executor] config_file`"), "{said}");
    let said = outside
        .ready_says(503, "in-cluster configuration: environment variable KUBERNETES_SERVICE_HOST is not set")
        .await?;
    ensure!(
        said.contains("(hint: outside of a cluster set `[kubernetes_executor] in_cluster = False`"),
        "{said}"
    );
    outside.process().stop(WITHIN);

    let api = ApiServer::start(ApiOptions::default()).await?;
    api.write_kubeconfig(&file)?;
    let right = fs::read_to_string(&file)?;
    let nobody = format!("https://127.0.0.1:{}", ports::free()?);
    fs::write(&file, right.replace(&api.url(), &nobody))?;
    let unreachable =
        format!("API server {nobody}: the API server {nobody} cannot be reached for `read the version`");
    let said = daemon.ready_says(503, &unreachable).await?;
    ensure!(
        said.contains("Connection refused") && said.contains("(hint: check address, DNS, network"),
        "{said}"
    );
    fs::write(&file, right)?;
    daemon.ready_says(200, "leading").await?;
    Ok(())
}

/// The lab's server trusts everybody; this role has to say a password.
fn demand_password(database: &Database, password: &str) -> Result<()> {
    database.sql(&format!("ALTER ROLE windlass PASSWORD '{password}'"))?;
    let file = database.postgres.socket_folder().join("data/pg_hba.conf");
    let rest = fs::read_to_string(&file)?;
    fs::write(&file, format!("host all windlass 127.0.0.1/32 scram-sha-256\n{rest}"))?;
    let rules = "SELECT count(*) FROM pg_hba_file_rules WHERE auth_method = 'scram-sha-256'";
    ensure!(database.sql(rules)? == "1", "the rule is not read");
    database.postgres.reload();
    Ok(())
}

/// How many there are.
fn migrations() -> Result<usize> {
    Ok(fs::read_dir(workspace().join("migrations/postgres"))?.count())
}

/// Two processes at once, on a schema with an index whose build was cut off.
#[tokio::test]
async fn two_migrations_at_once_heal_an_invalid_index_once() -> Result<()> {
    let database = Database::empty().await?;
    database.make_airflow()?;
    for round in ["from nothing", "with an invalid index"] {
        let owner = database.owner();
        let run = move |variables: Variables| {
            tokio::task::spawn_blocking(move || windlass(&variables, &["migrate"]))
        };
        let (one, two) = tokio::join!(run(owner.clone()), run(owner));
        let (one, two): (Output, Output) = (one??, two??);
        let said = format!(
            "{round}: {}{}{}{}",
            text(&one.stdout),
            text(&one.stderr),
            text(&two.stdout),
            text(&two.stderr)
        );
        ensure!(one.status.success() && two.status.success(), "{said}");
        let invalid = "SELECT count(*) FROM pg_index WHERE NOT indisvalid";
        ensure!(database.sql(invalid)? == "0", "{said}");
        match round {
            "from nothing" => {
                ensure!(said.matches("applying 0001_launch\n").count() == 1, "{said}");
                database.sql(
                    "CREATE INDEX cut_off ON windlass.handover (made_at);
                     UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'windlass.cut_off'::regclass",
                )?;
            }
            _ => ensure!(said.matches("dropping the unfinished index cut_off\n").count() == 1, "{said}"),
        }
    }
    let applied = database.sql("SELECT count(*) FROM windlass.schema_migrations WHERE success")?;
    ensure!(applied == migrations()?.to_string(), "{applied}");
    Ok(())
}
