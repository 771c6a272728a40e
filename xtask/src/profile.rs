//! The two build profiles of Cargo.toml: which task uses which, and where it finds its binaries.

use std::path::PathBuf;
use std::process::Command;

use crate::step::cargo;

/// A profile.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Profile {
    /// Tests, checks and generated pages.
    Dev,
    /// The demo, benchmarks and seeds: what is measured is what is shipped.
    Release,
}

impl Profile {
    /// Builds all binaries of the workspace: each selection of packages has features of its own, and Cargo would build
    /// dependencies again for each.
    pub(crate) fn binaries(self) -> Command {
        let mut build = cargo();
        let name = match self {
            Self::Dev => "dev",
            Self::Release => "release",
        };
        build.args(["build", "--workspace", "--bins", "--profile", name]);
        build
    }

    /// Where the binary `name` is then.
    pub(crate) fn binary(self, name: &str) -> PathBuf {
        let folder = match self {
            Self::Dev => "debug",
            Self::Release => "release",
        };
        windlass_lab_prepare::target_dir().join(folder).join(name)
    }
}
