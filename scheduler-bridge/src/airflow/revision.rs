//! Which Airflow this is: the head of its Alembic chain.

/// Heads of the supported releases (`_REVISION_HEADS_MAP` in airflow/utils/db.py: a release without an entry has the
/// head of the one before).
const KNOWN: [(&str, &str); 2] = [("22ed7efa9da2", "2.10.0 to 2.10.2"), ("5f2621c13b39", "2.10.3 to 2.11.x")];

/// The releases of Airflow that have this schema, if it is a known one.
pub(crate) fn releases(revision: &str) -> Option<&'static str> {
    KNOWN.iter().find(|(head, _)| *head == revision).map(|(_, releases)| *releases)
}

/// All known revisions, for people.
pub(crate) fn known() -> String {
    KNOWN.map(|(head, releases)| format!("`{head}` (Airflow {releases})")).join(" and ")
}

/// The head that an installation is at. Two rows would be a branched chain.
pub(crate) const READ: &str = "SELECT version_num FROM {airflow}alembic_version ORDER BY version_num";

#[cfg(test)]
mod tests {
    #[test]
    fn the_known_revisions_are_named_with_their_releases() {
        assert_eq!(super::releases("5f2621c13b39"), Some("2.10.3 to 2.11.x"));
        assert_eq!(super::releases("d2f4e1b3c5a7"), None, "Airflow 3");
        assert_eq!(
            super::known(),
            "`22ed7efa9da2` (Airflow 2.10.0 to 2.10.2) and `5f2621c13b39` (Airflow 2.10.3 to 2.11.x)"
        );
    }
}
