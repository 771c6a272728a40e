//! `windlass docs`: writes the reference pages from the code, or checks that they are up to date.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use windlass_core::outcome::{OutcomeKind, Reason};

use crate::cli::{self, Failure};
use crate::config::Kind;
use crate::config::options::{OPTIONS, Stance};
use crate::config::settings::{MANUAL, SECTIONS, Settings};
use crate::doctor;
use crate::metrics::Metrics;

/// Where to.
#[derive(Debug, Args)]
pub struct Docs {
    /// The folder of the pages
    #[arg(long, value_name = "FOLDER", default_value = "docs")]
    dir: PathBuf,
    /// Write nothing; end with 1 if a page is not up to date
    #[arg(long)]
    check: bool,
}

/// Name and text of each page.
pub fn pages() -> Result<Vec<(&'static str, String)>, Failure> {
    let metrics =
        Metrics::new().map_err(|error| Failure::other(format!("metrics cannot be registered: {error}")))?;
    Ok(vec![
        ("CONFIGURATION.md", configuration()),
        ("METRICS.md", metrics_page(&metrics)),
        ("ERRORS.md", errors()),
        ("DOCTOR.md", format!("{GENERATED}\n{}", doctor::page())),
        ("CLI.md", command_line()),
    ])
}

/// Writes them, or compares.
pub fn docs(of: &Docs) -> Result<(), Failure> {
    let mut stale = Vec::new();
    for (name, text) in pages()? {
        let path = of.dir.join(name);
        if std::fs::read_to_string(&path).is_ok_and(|there| there == text) {
            continue;
        }
        if of.check {
            stale.push(path.display().to_string());
            continue;
        }
        let failed =
            |error: std::io::Error| Failure::other(format!("{} cannot be written: {error}", path.display()));
        std::fs::create_dir_all(&of.dir).map_err(failed)?;
        std::fs::write(&path, text).map_err(failed)?;
    }
    if stale.is_empty() {
        return Ok(());
    }
    let hint = "run `cargo xtask docs`".to_owned();
    Err(Failure::Other { what: format!("not up to date: {}", stale.join(", ")), hint })
}

const GENERATED: &str = "<!-- Generated from the code by `cargo xtask docs`. Do not edit. -->\n";

fn configuration() -> String {
    let mut page = format!("{GENERATED}\n# Configuration\n\n");
    page.push_str(
        "Windlass reads Airflow's own configuration first, exactly where Airflow finds it; windlass.toml only holds what \
         Airflow has no word for. `windlass config` shows every effective value with its source. Any unknown key, wrong \
         value or contradiction is an error that names its place and the remedy; all of them are told at once.\n\n",
    );
    page.push_str("## windlass.toml\n\n");
    page.push_str(
        "Order: default, then the file (`--config`, else `WINDLASS_CONFIG`, else /etc/windlass/windlass.toml if it is \
         there), then `WINDLASS__SECTION__KEY`, then `--set section.key=value`.\n",
    );
    let defaults = Settings::default();
    for (section, about) in SECTIONS {
        let _ = write!(page, "\n### [{section}]\n\n{}\n\n", about.trim());
        for manual in MANUAL.iter().filter(|m| m.section == *section) {
            let default = defaults.show(manual.section, manual.field);
            let default = match (default.as_str(), manual.kind) {
                ("", _) => "empty".to_owned(),
                (text, Kind::Text) => format!("`\"{text}\"`"),
                (other, _) => format!("`{other}`"),
            };
            let (key, variable) = (manual.key(), manual.variable());
            let _ = writeln!(page, "- **`{key}`** (default {default}, `{variable}`): {}", manual.doc.trim());
        }
    }
    page.push_str("\n## Airflow's options\n\n");
    page.push_str(
        "Order, as in Airflow: environment variable `AIRFLOW__SECTION__KEY`, its `_CMD`, its `_SECRET`; airflow.cfg \
         (`AIRFLOW_CONFIG`, else `AIRFLOW_HOME`/airflow.cfg), its `_cmd`, its `_secret`; the default. `_CMD` and `_SECRET` \
         exist for secrets only (here: sql_alchemy_conn). `_SECRET` asks a secrets backend, which is Python: Windlass \
         refuses it with a way out, unless the backend is one of Airflow's own, which hold no configuration. \
         Deprecated sections ([core] for the database, [kubernetes]) are read after the new ones.\n\n",
    );
    page.push_str("| option | default | here |\n|---|---|---|\n");
    for option in &OPTIONS {
        let here = match option.stance {
            Stance::Honoured(what) => what.to_owned(),
            Stance::NotNeeded(why) => format!("not needed: {why}"),
            Stance::Refused(way_out) => format!("refused if set: {way_out}"),
        };
        let default =
            option.default.filter(|text| !text.is_empty()).map_or(String::new(), |text| format!("`{text}`"));
        let _ = writeln!(page, "| [{}] {} | {default} | {here} |", option.name.section, option.name.key);
    }
    page
}

fn metrics_page(metrics: &Metrics) -> String {
    let mut page =
        format!("{GENERATED}\n# Metrics\n\nServed by `windlass run` at `server.listen`, path /metrics.\n");
    page.push_str(
        "Beside these: `process_*` (CPU, memory, file descriptors, start time) of the Prometheus client.\n\n",
    );
    page.push_str("| metric | type | labels | meaning |\n|---|---|---|---|\n");
    for entry in metrics.entries() {
        let labels = entry.labels.join(", ");
        let _ = writeln!(page, "| `{}` | {} | {labels} | {} |", entry.name, entry.kind, entry.help);
    }
    page
}

fn errors() -> String {
    let mut page = format!("{GENERATED}\n# Outcomes and reasons\n\n");
    page.push_str("What a launch comes to (`windlass.launch.outcome`): ");
    page.push_str(&OutcomeKind::ALL.map(|kind| format!("`{}`", kind.as_str())).join(", "));
    page.push_str(
        ".\n\nA failed launch has a reason (`windlass.launch.reason`, metric `windlass_failures_total`) and a message; both \
         stand in Airflow's log of the task instance.\n\n| reason | what to do |\n|---|---|\n",
    );
    for reason in Reason::ALL {
        let _ = writeln!(page, "| <a id=\"{0}\"></a>`{0}` | {1} |", reason.as_str(), reason.hint());
    }
    page
}

fn command_line() -> String {
    let mut page = format!("{GENERATED}\n# Command line\n");
    let mut root = cli::command();
    root.build();
    describe(&mut root, "windlass", 2, &mut page);
    page
}

fn describe(command: &mut clap::Command, name: &str, level: usize, page: &mut String) {
    let help = command.render_long_help().to_string();
    let help: Vec<_> = help.lines().map(str::trim_end).collect();
    let _ = write!(page, "\n{} {name}\n\n```text\n{}\n```\n", "#".repeat(level), help.join("\n").trim_end());
    let visible = command.get_subcommands_mut().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help");
    for sub in visible {
        let name = format!("{name} {}", sub.get_name());
        describe(sub, &name, level + 1, page);
    }
}
