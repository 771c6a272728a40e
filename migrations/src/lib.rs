//! windlass-migrations: Windlass's own schema, embedded in the binary. The rules for changing it are in README.md
//! beside this crate; `scheduler-bridge` runs it (`windlass migrate`).

use sqlx::migrate::Migrator;

/// The schema that holds all of Windlass's tables.
pub const SCHEMA: &str = "windlass";

/// Which migrations were applied. In our own schema: the database is Airflow's, and another tool may already keep a
/// `_sqlx_migrations` in it.
pub const TRACKING_TABLE: &str = "windlass.schema_migrations";

/// The migrations for PostgreSQL. sqlx's own lock is off: it is a session lock taken without a bound, and through a
/// pooler in transaction mode it stays on somebody else's connection. The caller takes one of its own.
pub fn postgres() -> Migrator {
    let mut migrator = sqlx::migrate!("./postgres");
    migrator.set_locking(false);
    migrator.dangerous_set_table_name(TRACKING_TABLE);
    migrator
}

/// Version of the newest migration in `migrator`: what this binary expects to find.
pub fn newest(migrator: &Migrator) -> i64 {
    migrator.iter().map(|m| m.version).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_count_from_one_without_a_gap() {
        let versions: Vec<i64> = postgres().iter().map(|m| m.version).collect();
        assert_eq!(versions, (1..=newest(&postgres())).collect::<Vec<_>>());
    }

    /// `SET` outlives the transaction on a pooled connection, and a name without schema follows the search_path.
    #[test]
    fn every_migration_says_why_and_names_its_schema() {
        for migration in postgres().iter() {
            let sql = migration.sql.as_str();
            let name = format!("{:04}_{}", migration.version, migration.description);
            for heading in ["-- Why:", "-- Locks:", "-- Undo:"] {
                assert!(sql.contains(heading), "{name} lacks the heading `{heading}`");
            }
            for line in sql.lines().map(str::trim_start) {
                assert!(
                    !line.to_ascii_uppercase().starts_with("SET "),
                    "{name} sets a session variable: {line}"
                );
                for verb in ["CREATE TABLE ", "ALTER TABLE ", "DROP TABLE ", "INSERT INTO "] {
                    if let Some(object) = line.strip_prefix(verb) {
                        assert!(object.contains("windlass."), "{name} does not say `windlass.`: {line}");
                    }
                }
            }
        }
    }
}
