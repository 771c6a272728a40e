//! Where products are kept, and how two processes that want the same one take turns.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// The root of the source tree.
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(3).unwrap_or(here).to_path_buf()
}

/// Cargo's target folder: `CARGO_TARGET_DIR`, else `target` in the workspace.
pub fn target_dir() -> PathBuf {
    let named = std::env::var_os("CARGO_TARGET_DIR").filter(|dir| !dir.is_empty());
    workspace().join(named.map_or_else(|| PathBuf::from("target"), PathBuf::from))
}

/// Where the lab keeps what it built: `WINDLASS_LAB_CACHE`, else `target/lab` in the workspace.
pub fn cache_dir() -> Result<PathBuf> {
    let named = std::env::var_os("WINDLASS_LAB_CACHE").filter(|dir| !dir.is_empty());
    let dir = workspace().join(named.map_or_else(|| PathBuf::from("target/lab"), PathBuf::from));
    fs::create_dir_all(&dir).with_context(|| format!("create the lab's cache folder {}", dir.display()))?;
    Ok(dir)
}

/// Runs `make` while no other process holds the lock `name`. The kernel releases it if we die.
pub fn locked<T>(name: &str, make: impl FnOnce() -> Result<T>) -> Result<T> {
    let path = cache_dir()?.join(format!("{name}.lock"));
    let file = File::create(&path).with_context(|| format!("create the lock file {}", path.display()))?;
    if file.try_lock().is_err() {
        eprintln!("lab: another process is making {name}; waiting for it");
        file.lock().with_context(|| format!("lock {}", path.display()))?;
    }
    make()
}

/// The first 12 hexadecimal digits of a hash over names and contents of `files`.
pub(crate) fn fingerprint(files: &[PathBuf]) -> Result<String> {
    let mut hash = Sha256::new();
    for file in files {
        let content = fs::read(file).with_context(|| format!("read {}", file.display()))?;
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        hash.update((name.len() as u64).to_be_bytes());
        hash.update(name.as_bytes());
        hash.update((content.len() as u64).to_be_bytes());
        hash.update(&content);
    }
    Ok(hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_is_where_the_lock_file_of_cargo_is() {
        assert!(workspace().join("Cargo.lock").is_file(), "{}", workspace().display());
    }

    #[test]
    fn a_fingerprint_changes_with_content_and_names() -> Result<()> {
        let dir = cache_dir()?.join(format!("fingerprint-test-{}", std::process::id()));
        fs::create_dir_all(&dir)?;
        let (a, b) = (dir.join("a"), dir.join("b"));
        fs::write(&a, "1")?;
        fs::write(&b, "1")?;
        let first = fingerprint(std::slice::from_ref(&a))?;
        assert_eq!(first.len(), 12);
        assert_ne!(first, fingerprint(&[b])?, "another name");
        fs::write(&a, "2")?;
        assert_ne!(first, fingerprint(&[a])?, "another content");
        fs::remove_dir_all(dir)?;
        Ok(())
    }
}
