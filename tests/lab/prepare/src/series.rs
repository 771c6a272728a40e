//! The release lines of Airflow that Windlass runs with, each with pins and a virtual environment of its own.

use std::fmt;
use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::python::lock_file;

/// Names the series that tests start: `2.10` or `2.11`.
pub const SERIES_VARIABLE: &str = "WINDLASS_TEST_AIRFLOW";

/// A release line of Airflow. The newest release of each is pinned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Series {
    /// The one that everything is tested with.
    #[default]
    V2_11,
    /// What differs and the main paths are tested with it too.
    V2_10,
}

impl Series {
    /// The default first.
    pub const ALL: [Self; 2] = [Self::V2_11, Self::V2_10];

    /// What [`SERIES_VARIABLE`] names, else the default.
    pub fn of_environment() -> Result<Self> {
        let named = std::env::var(SERIES_VARIABLE).unwrap_or_default();
        Self::named(&named)
    }

    fn named(name: &str) -> Result<Self> {
        match Self::ALL.into_iter().find(|series| series.name() == name) {
            Some(series) => Ok(series),
            None if name.is_empty() => Ok(Self::default()),
            None => bail!("{SERIES_VARIABLE}={name} is neither 2.10 nor 2.11"),
        }
    }

    /// As Airflow's version begins.
    pub fn name(self) -> &'static str {
        match self {
            Self::V2_11 => "2.11",
            Self::V2_10 => "2.10",
        }
    }

    /// The name of its pins in `tests/lab`, without `.in` or `.lock`.
    pub fn pins(self) -> &'static str {
        match self {
            Self::V2_11 => "airflow2",
            Self::V2_10 => "airflow210",
        }
    }

    /// The pins.
    pub fn lock_file(self) -> PathBuf {
        lock_file(self.pins())
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_named_or_the_default() -> Result<()> {
        assert_eq!((Series::named("")?, Series::named("2.10")?), (Series::V2_11, Series::V2_10));
        let error = Series::named("2.9").expect_err("not supported").to_string();
        assert_eq!(error, "WINDLASS_TEST_AIRFLOW=2.9 is neither 2.10 nor 2.11");
        Ok(())
    }

    #[test]
    fn each_lock_pins_a_release_of_its_series() -> Result<()> {
        for series in Series::ALL {
            let lock = std::fs::read_to_string(series.lock_file())?;
            let wanted = format!("apache-airflow=={series}.");
            assert!(lock.lines().any(|line| line.starts_with(&wanted)), "no {wanted} in {}", series.pins());
        }
        Ok(())
    }
}
