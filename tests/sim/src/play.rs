//! What to play: a seed, a fault planted into the test bed, and what is left out of the run.

use std::collections::BTreeSet;
use std::fmt;

use crate::faults::Faults;
use crate::plant::Plant;

/// One run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Play {
    /// Decides everything that is not said here.
    pub seed: u64,
    /// Planted into the test bed.
    pub plant: Option<Plant>,
    /// Left out.
    pub cut: Cut,
}

/// What is left out of a seed's run, so that less happens in its story.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// Faults that do not strike, by name.
    pub without: BTreeSet<String>,
    /// So many tasks at most.
    pub tasks: Option<usize>,
    /// So many daemons at most.
    pub daemons: Option<usize>,
    /// So many schedulers at most.
    pub schedulers: Option<usize>,
}

impl Play {
    /// All that this seed has.
    pub fn seed(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// With a fault planted into the test bed.
    #[must_use]
    pub fn plant(mut self, plant: Option<Plant>) -> Self {
        self.plant = plant;
        self
    }
}

impl Cut {
    /// Names of the faults that can be left out.
    pub fn names() -> &'static [&'static str] {
        Faults::NAMES
    }

    pub(crate) fn at_most(&self, limit: Option<usize>, drawn: u64) -> usize {
        usize::try_from(drawn).unwrap_or(1).min(limit.unwrap_or(usize::MAX))
    }
}

/// As arguments of `windlass-sim`.
impl fmt::Display for Play {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--first-seed {} --seeds 1", self.seed)?;
        let Cut { without, tasks, daemons, schedulers } = &self.cut;
        for (name, limit) in [("tasks", tasks), ("daemons", daemons), ("schedulers", schedulers)] {
            if let Some(limit) = limit {
                write!(f, " --{name} {limit}")?;
            }
        }
        if !without.is_empty() {
            let names: Vec<&str> = without.iter().map(String::as_str).collect();
            write!(f, " --without {}", names.join(","))?;
        }
        if let Some(plant) = self.plant {
            write!(f, " --plant {plant:?}")?;
        }
        Ok(())
    }
}
