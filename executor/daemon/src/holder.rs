//! Who we are to `windlass.term`: the holder id, and the lock by which no two processes are the same holder.
//!
//! In a pod it is the pod's uid and the container's name: a restarted container is the same holder and takes its own
//! term back at once. Elsewhere it is host, boot and the first free slot of the state directory, so that several
//! daemons on one host are several holders and a restarted one finds its slot again.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use crate::config::environment::Environment;

/// Daemons on one host outside of pods.
const SLOTS: u32 = 16;

/// The holder id. The lock goes with it: keep it as long as the process acts.
#[derive(Debug)]
pub struct Holder {
    id: String,
    _lock: File,
}

/// Why there is no holder id.
#[derive(Debug, thiserror::Error)]
pub enum HolderError {
    /// The state directory cannot be used.
    #[error(
        "the state directory `{}` cannot be used: {source}; mount an emptyDir there or set server.state-directory",
        path.display()
    )]
    Directory {
        /// Which.
        path: PathBuf,
        /// Of the operating system.
        source: std::io::Error,
    },
    /// The lock is held.
    #[error(
        "another process acts as holder `{id}` (lock `{}`); end it, or give this one a POD_UID or \
         WINDLASS_CONTAINER of its own",
        path.display()
    )]
    Taken {
        /// Of both.
        id: String,
        /// Of the lock.
        path: PathBuf,
    },
}

impl Holder {
    /// Takes the holder id of this process. `directory`: empty for a folder of the system's temporary one.
    pub fn take(directory: &Path, env: &Environment) -> Result<Self, HolderError> {
        let directory = if directory.as_os_str().is_empty() {
            std::env::temp_dir().join("windlass")
        } else {
            directory.to_owned()
        };
        let failed = |source| HolderError::Directory { path: directory.clone(), source };
        std::fs::create_dir_all(&directory).map_err(failed)?;
        match env.get("POD_UID").filter(|uid| !uid.is_empty()) {
            Some(uid) => {
                let id = format!("{uid}/{}", env.get("WINDLASS_CONTAINER").unwrap_or("windlass"));
                let path = directory.join(format!("holder-{}.lock", id.replace('/', "-")));
                let lock = try_lock(&path).map_err(failed)?;
                lock.map(|lock| Self { id: id.clone(), _lock: lock }).ok_or(HolderError::Taken { id, path })
            }
            None => Self::take_slot(&directory),
        }
    }

    fn take_slot(directory: &Path) -> Result<Self, HolderError> {
        let host = format!("{}/{}", kernel("hostname"), kernel("random/boot_id"));
        for slot in 0..SLOTS {
            let path = directory.join(format!("holder-{slot}.lock"));
            let failed = |source| HolderError::Directory { path: directory.to_owned(), source };
            if let Some(lock) = try_lock(&path).map_err(failed)? {
                return Ok(Self { id: format!("{host}/{slot}"), _lock: lock });
            }
        }
        Err(HolderError::Taken { id: host, path: directory.to_owned() })
    }

    /// As written to `windlass.term.holder`.
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// None: somebody has it. The kernel frees it with the process, however that ends.
fn try_lock(path: &Path) -> std::io::Result<Option<File>> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn kernel(name: &str) -> String {
    let text = std::fs::read_to_string(Path::new("/proc/sys/kernel").join(name)).unwrap_or_default();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_one_holder_and_a_restart_is_the_same_one() {
        let folder = tempfile::tempdir().unwrap();
        let env = Environment::of([("POD_UID", "9f1c"), ("WINDLASS_CONTAINER", "sidecar")]);
        let first = Holder::take(folder.path(), &env).unwrap();
        assert_eq!(first.id(), "9f1c/sidecar");
        let second = Holder::take(folder.path(), &env).unwrap_err().to_string();
        assert!(second.starts_with("another process acts as holder `9f1c/sidecar` (lock `"), "{second}");
        drop(first);
        assert_eq!(Holder::take(folder.path(), &env).unwrap().id(), "9f1c/sidecar");
    }

    #[test]
    fn outside_of_pods_each_process_has_a_slot() {
        let folder = tempfile::tempdir().unwrap();
        let env = Environment::default();
        let first = Holder::take(folder.path(), &env).unwrap();
        let second = Holder::take(folder.path(), &env).unwrap();
        assert!(first.id().ends_with("/0") && second.id().ends_with("/1"), "{} {}", first.id(), second.id());
        drop(first);
        assert!(Holder::take(folder.path(), &env).unwrap().id().ends_with("/0"));
    }

    #[test]
    fn a_state_directory_that_cannot_be_made_is_named_with_the_remedy() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Holder::take(&file.path().join("x"), &Environment::default()).unwrap_err().to_string();
        assert!(error.contains("mount an emptyDir there or set server.state-directory"), "{error}");
    }
}
