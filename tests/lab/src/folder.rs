//! Private folders: `target/lab/run-<pid>/<name>-<n>`, removed with their owner.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use windlass_lab_prepare::cache_dir;

use crate::watchdog;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A folder of one part of the lab.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    keep: bool,
}

impl Folder {
    /// Makes a new one. It is removed on drop, and by the watchdog when this process is killed, unless
    /// `WINDLASS_LAB_KEEP` is set.
    pub fn new(name: &str) -> Result<Self> {
        let run = run_dir()?;
        let path = run.join(format!("{name}-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(Self { path, keep: kept() })
    }

    /// The same at a given place, where the cache is out of reach for the one who is to write there.
    pub(crate) fn at(path: PathBuf) -> Result<Self> {
        fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        if !kept() {
            watchdog::remove_at_the_end(&path)?;
        }
        Ok(Self { path, keep: kept() })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path in it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.keep {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// The folder of this process. Folders of processes that are gone are left to their watchdog.
pub(crate) fn run_dir() -> Result<PathBuf> {
    let dir = cache_dir()?.join(format!("run-{}", std::process::id()));
    fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    if !kept() {
        watchdog::remove_at_the_end(&dir)?;
    }
    Ok(dir)
}

/// Whether logs and data are to stay for a look at them.
pub(crate) fn kept() -> bool {
    std::env::var_os("WINDLASS_LAB_KEEP").is_some_and(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_new_and_goes_with_its_owner() -> Result<()> {
        let (a, b) = (Folder::new("twice")?, Folder::new("twice")?);
        assert_ne!(a.path(), b.path());
        fs::write(a.join("file"), "x")?;
        let path = a.path().to_owned();
        drop(a);
        assert_eq!(path.exists(), kept());
        Ok(())
    }
}
