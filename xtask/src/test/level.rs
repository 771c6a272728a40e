//! The levels: what each is for, what it needs, how long it may take.

use std::fmt;

use clap::ValueEnum;
use windlass_lab_prepare::{Series, find_python, go_version};

/// A level of tests; the cheapest comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Level {
    /// Values in, values out; nothing but Rust is needed.
    Unit,
    /// The real engine in a simulated world with seeded faults.
    Sim,
    /// Against real PostgreSQL.
    Store,
    /// Against the embedded Kubernetes API and the real kube-apiserver.
    Cluster,
    /// The Python plugin in a real Airflow scheduler.
    Plugin,
    /// Plugin, daemon, scheduler, database, API server and real tasks together.
    Airflow,
    /// The same DAGs under LocalExecutor and under Windlass.
    Parity,
    /// The same parts with light workers while all of them are killed and cut off.
    Faults,
    /// All of them.
    All,
}

const ORDER: [Level; 8] = [
    Level::Unit,
    Level::Sim,
    Level::Store,
    Level::Cluster,
    Level::Plugin,
    Level::Airflow,
    Level::Parity,
    Level::Faults,
];

/// Each once, in order.
pub(super) fn expand(asked: &[Level]) -> Vec<Level> {
    let all = asked.contains(&Level::All);
    ORDER.into_iter().filter(|level| all || asked.contains(level)).collect()
}

impl Level {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::Sim => "sim",
            Self::Store => "store",
            Self::Cluster => "cluster",
            Self::Plugin => "plugin",
            Self::Airflow => "airflow",
            Self::Parity => "parity",
            Self::Faults => "faults",
            Self::All => "all",
        }
    }

    pub(super) fn about(self) -> &'static str {
        match self {
            Self::Unit => "values in, values out",
            Self::Sim => "the real engine in a simulated world",
            Self::Store => "real PostgreSQL",
            Self::Cluster => "embedded and real Kubernetes API",
            Self::Plugin => "the plugin in a real scheduler",
            Self::Airflow => "everything together, real tasks",
            Self::Parity => "beside Airflow's LocalExecutor",
            Self::Faults => "everything together, killed and cut off",
            Self::All => "all levels",
        }
    }

    /// The series of Airflow that it runs with: one round after the other, those of a round at once. The plugin's tests
    /// wait for a scheduler half of their time.
    pub(super) fn rounds(self) -> &'static [&'static [Series]] {
        match self {
            Self::Plugin => &[&Series::ALL],
            Self::Airflow => &[&[Series::V2_11], &[Series::V2_10]],
            Self::Unit
            | Self::Sim
            | Self::Store
            | Self::Cluster
            | Self::Parity
            | Self::Faults
            | Self::All => &[&[Series::V2_11]],
        }
    }

    /// On two cores, built. Exceeding it is a warning: other machines are slower.
    pub(super) fn budget_minutes(self, round: &[Series], long: bool) -> f64 {
        match self {
            Self::Faults | Self::Parity if long => 20.0,
            Self::Unit => 2.0,
            Self::Sim | Self::Store | Self::Faults => 4.0,
            Self::Cluster => 5.0,
            Self::Plugin | Self::Parity => 7.0,
            Self::Airflow if round == [Series::V2_10] => 7.0,
            Self::Airflow => 10.0,
            Self::All => 60.0,
        }
    }

    /// Tests of one executable at once; None: as many as there are cores. Those of some levels wait for servers and
    /// clocks most of the time: with twice as many they take half as long.
    pub(super) fn threads(self) -> Option<usize> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        matches!(self, Self::Store | Self::Cluster).then_some(cores * 2)
    }

    /// Whether it needs what `cargo xtask prepare` makes.
    pub(super) fn needs_preparation(self) -> bool {
        match self {
            Self::Unit | Self::Sim | Self::Store => false,
            Self::Cluster | Self::Plugin | Self::Airflow | Self::Parity | Self::Faults | Self::All => true,
        }
    }

    /// What this machine lacks for it, with the remedy.
    pub(super) fn missing(self) -> Option<String> {
        let python = || find_python().err().map(|error| format!("{error:#}"));
        let go = || go_version().err().map(|error| format!("{error:#}"));
        match self {
            Self::Unit | Self::Sim => None,
            Self::Store | Self::Plugin => python(),
            Self::Cluster => go(),
            Self::Airflow | Self::Parity | Self::Faults | Self::All => python().or_else(go),
        }
    }

    /// The level of a test executable, by its package, its kind (`lib`, `bin`, `test`) and its name. An integration
    /// test of the suite begins with the name of its level; `None` if it does not.
    pub(super) fn of_target(package: &str, kind: &str, target: &str) -> Option<Self> {
        let by_name = || {
            let prefix = target.split('_').next().unwrap_or_default();
            ORDER.into_iter().find(|level| level.name() == prefix)
        };
        match (package, kind) {
            ("windlass-sim", _) => Some(Self::Sim),
            ("windlass-suite", "test") => by_name(),
            ("windlass-lab", "test") => by_name().or(Some(Self::Cluster)),
            ("scheduler-bridge" | "windlass-migrations", "test") => Some(Self::Store),
            ("windlass-cluster" | "windlass-local-cluster", "test") => Some(Self::Cluster),
            _ => Some(Self::Unit),
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_run_once_and_in_order() {
        assert_eq!(expand(&[Level::Cluster, Level::Unit, Level::Cluster]), [Level::Unit, Level::Cluster]);
        assert_eq!(expand(&[Level::Unit, Level::All]), ORDER);
    }

    #[test]
    fn a_target_of_the_suite_says_its_level() {
        assert_eq!(Level::of_target("windlass-suite", "test", "airflow_restart"), Some(Level::Airflow));
        assert_eq!(Level::of_target("windlass-suite", "test", "cluster_api"), Some(Level::Cluster));
        assert_eq!(Level::of_target("windlass-suite", "test", "faults"), Some(Level::Faults));
        assert_eq!(Level::of_target("windlass-suite", "test", "parity"), Some(Level::Parity));
        assert_eq!(Level::of_target("windlass-suite", "test", "api"), None);
        assert_eq!(Level::of_target("windlass-core", "test", "goldens"), Some(Level::Unit));
        assert_eq!(Level::of_target("windlass-sim", "lib", "windlass_sim"), Some(Level::Sim));
        assert_eq!(Level::of_target("scheduler-bridge", "lib", "scheduler_bridge"), Some(Level::Unit));
        assert_eq!(Level::of_target("windlass-lab", "test", "control_plane"), Some(Level::Cluster));
        assert_eq!(Level::of_target("windlass-lab", "test", "airflow"), Some(Level::Airflow));
    }
}
