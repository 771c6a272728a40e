//! What became of each task under each executor, and where that differs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Differences that are right: DAG, task, and the reason.
pub(crate) const EXPLAINED: [(&str, &str, &str); 0] = [];

/// A task instance; without a task the run itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cell {
    pub(crate) dag: String,
    pub(crate) run: String,
    pub(crate) task: String,
    pub(crate) map_index: i32,
}

/// State and number of tries of each.
#[derive(Debug, Default)]
pub(crate) struct Table(pub(crate) BTreeMap<Cell, (String, i32)>);

impl Table {
    /// How many DAGs had a run.
    pub(crate) fn dags(&self) -> usize {
        self.0.keys().map(|cell| &cell.dag).collect::<BTreeSet<_>>().len()
    }
}

/// Both tables beside each other.
#[derive(Debug, Default)]
pub(crate) struct Compared {
    dags: usize,
    runs: usize,
    tasks: usize,
    equal: usize,
    /// With the reason.
    pub(crate) explained: Vec<String>,
    /// And wrong: what, and how it differs.
    pub(crate) different: Vec<(Cell, String)>,
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { dags, runs, tasks, equal, explained, different } = self;
        write!(f, "{dags} DAGs, {runs} runs, {tasks} tasks; of runs and tasks {equal} are equal, ")?;
        write!(f, "{} differ for a known reason, {} differ", explained.len(), different.len())
    }
}

/// What each side has and the other has not, or has otherwise.
pub(crate) fn compare(local: &Table, windlass: &Table) -> Compared {
    let mut compared = Compared { dags: windlass.dags(), ..Compared::default() };
    let cells: BTreeSet<&Cell> = local.0.keys().chain(windlass.0.keys()).collect();
    for cell in cells {
        if cell.task.is_empty() {
            compared.runs += 1;
        } else {
            compared.tasks += 1;
        }
        let (by_local, by_windlass) = (local.0.get(cell), windlass.0.get(cell));
        if by_local == by_windlass {
            compared.equal += 1;
            continue;
        }
        let Cell { dag, run, task, map_index } = cell;
        let says = |found: Option<&(String, i32)>| match found {
            Some((state, tries)) => format!("{state} (try {tries})"),
            None => "nothing".to_owned(),
        };
        let difference = format!(
            "{dag} {run} {task} [{map_index}]: LocalExecutor {}, Windlass {}",
            says(by_local),
            says(by_windlass)
        );
        match EXPLAINED.iter().find(|(of_dag, of_task, _)| of_dag == dag && of_task == task) {
            Some((_, _, why)) => compared.explained.push(format!("{difference}: {why}")),
            None => compared.different.push((cell.clone(), difference)),
        }
    }
    compared
}

#[test]
fn what_one_side_alone_has_or_has_otherwise_is_a_difference() {
    let cell = |task: &str| Cell { dag: "d".into(), run: "r".into(), task: task.into(), map_index: -1 };
    let table = |rows: &[(&str, &str, i32)]| {
        Table(rows.iter().map(|(task, state, tries)| (cell(task), ((*state).to_owned(), *tries))).collect())
    };
    let local = table(&[("", "success", 0), ("a", "success", 1), ("b", "failed", 2), ("c", "skipped", 0)]);
    let windlass = table(&[("", "success", 0), ("a", "success", 1), ("b", "failed", 1), ("e", "success", 1)]);
    let compared = compare(&local, &windlass);
    let expected = [
        "d r b [-1]: LocalExecutor failed (try 2), Windlass failed (try 1)",
        "d r c [-1]: LocalExecutor skipped (try 0), Windlass nothing",
        "d r e [-1]: LocalExecutor nothing, Windlass success (try 1)",
    ];
    let different: Vec<_> = compared.different.iter().map(|(_, how)| how).collect();
    assert_eq!(different, expected);
    let told =
        "1 DAGs, 1 runs, 4 tasks; of runs and tasks 2 are equal, 0 differ for a known reason, 3 differ";
    assert_eq!(compared.to_string(), told);
}
