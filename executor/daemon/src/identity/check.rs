//! `windlass identity check`: the linter of the rules.

use std::fmt::Write as _;

use clap::Args;
use serde_json::{Value, json};
use windlass_core::doctor::count;
use windlass_core::identity::lint::{Finding, Known, Severity, lint};

use super::no_rules;
use crate::cli::{Failure, Form, print};
use crate::config::Config;
use crate::login;

/// Compares the rules with each other and with the DAGs and pools that the database knows. Rules that cannot be read at
/// all are faults of the configuration: exit code 3.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "\
Ends with 1 if a rule can never apply.

Examples:
  windlass identity check
  windlass identity check --offline --config windlass.toml      in a pull request, without a database
  windlass identity check --output json | jq '.findings[] | select(.code == \"falls-to-default\")'")]
pub struct Check {
    /// Do not ask the database for DAGs, tags, owners, folders and pools
    #[arg(long)]
    offline: bool,
    /// Form of the output
    #[arg(long, short, value_enum, default_value = "text")]
    output: Form,
}

/// Lints and prints.
pub async fn check(config: &Config, of: &Check) -> Result<(), Failure> {
    let rules = config.rules.as_ref().ok_or_else(no_rules)?;
    let known = if of.offline { None } else { Some(known(config).await?) };
    let found = lint(rules, known.as_ref());
    let dags = known.map(|known| known.dags.len());
    let number = rules.rules().len();
    print(&match of.output {
        Form::Text => text(number, dags, &found),
        Form::Json => format!("{:#}\n", document(number, dags, &found)),
    })?;
    let broken = found.iter().any(|finding| finding.severity == Severity::Error);
    if broken { Err(Failure::Unhealthy) } else { Ok(()) }
}

async fn known(config: &Config) -> Result<Known, Failure> {
    let store = login::open(config).await?;
    let (dags, pools) = (store.dags(None).await?, store.pools().await?);
    store.close().await;
    Ok(Known { dags, pools })
}

fn text(number: usize, dags: Option<usize>, found: &[Finding]) -> String {
    let mut text = String::new();
    for finding in found {
        let line =
            finding.rule.as_ref().map_or_else(String::new, |(_, place)| format!(" (line {})", place.line));
        let _ = writeln!(text, "{} {}{line}: {}", word(finding.severity), finding.code, finding.what);
        let _ = writeln!(text, "    remedy: {}", finding.remedy);
    }
    let with = match dags {
        Some(dags) => count(dags, "DAG", "DAGs"),
        None => "no DAGs (--offline)".to_owned(),
    };
    let result = if found.is_empty() { "nothing found".to_owned() } else { format!("{} found", found.len()) };
    let rules = count(number, "rule", "rules");
    let _ = writeln!(text, "{rules} compared with each other and with {with}: {result}");
    text
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "info",
    }
}

fn document(number: usize, dags: Option<usize>, found: &[Finding]) -> Value {
    let finding = |finding: &Finding| {
        json!({
            "severity": word(finding.severity),
            "code": finding.code,
            "rule": finding.rule.as_ref().map(|(name, _)| name),
            "line": finding.rule.as_ref().map(|(_, place)| place.line),
            "what": finding.what,
            "remedy": finding.remedy,
        })
    };
    json!({
        "rules": number,
        "dags": dags,
        "findings": found.iter().map(finding).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use windlass_core::identity::rules::Place;

    use super::*;

    #[test]
    fn the_text_counts_as_people_do() {
        let one = text(1, Some(1), &[]);
        assert_eq!(one, "1 rule compared with each other and with 1 DAG: nothing found\n");
        let two = text(2, Some(2), &[]);
        assert_eq!(two, "2 rules compared with each other and with 2 DAGs: nothing found\n");
        let found = Finding {
            severity: Severity::Warning,
            code: "authors-choice",
            rule: Some(("etl".into(), Place { line: 2, column: 1 })),
            what: "it hangs on a tag".into(),
            remedy: "add a folder".into(),
        };
        assert_eq!(
            text(0, None, &[found]),
            "warning authors-choice (line 2): it hangs on a tag\n    remedy: add a folder\n\
             0 rules compared with each other and with no DAGs (--offline): 1 found\n"
        );
    }
}
