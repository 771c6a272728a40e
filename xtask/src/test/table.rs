//! The table of minutes at the end.

use std::fmt;
use std::time::Duration;

use super::run::Counts;

/// One level, or the build.
pub(super) struct Row {
    name: String,
    minutes: f64,
    budget: f64,
    counts: Counts,
}

impl Row {
    pub(super) fn new(name: &str, took: Duration, budget: f64, counts: Counts) -> Self {
        Self { name: name.to_owned(), minutes: took.as_secs_f64() / 60.0, budget, counts }
    }
}

/// All rows so far.
#[derive(Default)]
pub(super) struct Table(Vec<Row>);

impl Table {
    pub(super) fn add(&mut self, row: Row) {
        self.0.push(row);
    }

    pub(super) fn total(&self) -> Counts {
        let mut total = Counts::default();
        for row in &self.0 {
            total.add(row.counts);
        }
        total
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "level        minutes  budget  passed  failed  skipped")?;
        for Row { name, minutes, budget, counts: Counts { passed, failed, skipped } } in &self.0 {
            write!(f, "{name:<12} {minutes:>7.1} {budget:>7.0} {passed:>7} {failed:>7} {skipped:>8}")?;
            writeln!(f, "{}", if minutes > budget { "  over its budget" } else { "" })?;
        }
        let Counts { passed, failed, skipped } = self.total();
        let minutes: f64 = self.0.iter().map(|row| row.minutes).sum();
        let budget: f64 = self.0.iter().map(|row| row.budget).sum();
        write!(f, "{:<12} {minutes:>7.1} {budget:>7.0} {passed:>7} {failed:>7} {skipped:>8}", "all")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_aligned_and_summed() {
        let mut table = Table::default();
        table.add(Row::new("build", Duration::from_secs(90), 20.0, Counts::default()));
        table.add(Row::new(
            "airflow 2.10",
            Duration::from_secs(150),
            2.0,
            Counts { passed: 512, failed: 1, skipped: 0 },
        ));
        let expected = "\
level        minutes  budget  passed  failed  skipped
build            1.5      20       0       0        0
airflow 2.10     2.5       2     512       1        0  over its budget
all              4.0      22     512       1        0";
        assert_eq!(table.to_string(), expected);
    }
}
