//! `windlass migrate`.

use scheduler_bridge::{MigrateOptions, MigrateProgress, MigrateReport};

use crate::cli::{Failure, print};
use crate::config::Config;
use crate::login;

/// Brings the schema up to this binary's version, or says what that would be.
pub async fn migrate(config: &Config, dry_run: bool, verbose: bool) -> Result<(), Failure> {
    let database = login::to_migrate(config).await?;
    let options = MigrateOptions { dry_run, ..MigrateOptions::default() };
    let mut tell = |progress: MigrateProgress| {
        let line = match progress {
            MigrateProgress::WaitsForOther => {
                "another `windlass migrate` is at work; waiting for it".to_owned()
            }
            MigrateProgress::DropsInvalidIndex(name) => format!("dropping the unfinished index {name}"),
            MigrateProgress::Applies(name) => format!("applying {name}"),
        };
        // Progress is for people who watch: a reader that has gone does not stop a migration.
        let _ = print(&format!("{line}\n"));
    };
    let report = scheduler_bridge::migrate(&database, options, &mut tell).await?;
    print(&summary(&report, &database.to_string(), dry_run, verbose))
}

fn summary(report: &MigrateReport, database: &str, dry_run: bool, verbose: bool) -> String {
    if report.migrations.is_empty() {
        return format!("schema windlass at {database} has version {}: nothing to do\n", report.to);
    }
    let mut text = String::new();
    if dry_run {
        for migration in &report.migrations {
            text.push_str(&format!("pending {}\n", migration.name));
            if verbose {
                text.push_str(&format!("{}\n", migration.sql.trim_end()));
            }
        }
    }
    let verb = if dry_run { "would go" } else { "went" };
    text.push_str(&format!(
        "schema windlass at {database} {verb} from version {} to {}\n",
        report.from, report.to
    ));
    if !dry_run && report.from == 0 {
        text.push_str("next: grant the daemon's role its privileges (deploy/sql/grants.sql)\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use scheduler_bridge::PendingMigration;

    use super::*;

    #[test]
    fn the_summary_says_what_is_pending_and_from_where_to_where() {
        let pending = PendingMigration { version: 1, name: "0001_launch".into(), sql: "CREATE ...\n".into() };
        let mut report = MigrateReport { from: 0, to: 1, migrations: vec![pending] };
        assert_eq!(
            summary(&report, "postgresql://u@db/af", true, true),
            "pending 0001_launch\nCREATE ...\nschema windlass at postgresql://u@db/af would go from version 0 to 1\n"
        );
        assert!(summary(&report, "db", false, false).ends_with("its privileges (deploy/sql/grants.sql)\n"));
        report.migrations.clear();
        assert_eq!(
            summary(&report, "db", false, false),
            "schema windlass at db has version 1: nothing to do\n"
        );
    }
}
