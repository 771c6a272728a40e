//! Rules that no other tool knows.

mod deploy;
mod direction;
mod files;
mod paths;

use std::process::Command;

use anyhow::{Context, Result};
use windlass_lab_prepare::workspace;

/// Runs all rules and prints what they found.
pub(crate) fn run() -> Result<bool> {
    let files = tracked_files()?;
    let mut found = direction::check()?;
    found.extend(files::check(&files));
    found.extend(paths::check(&files));
    found.extend(deploy::check(&files));
    for finding in &found {
        println!("    {finding}");
    }
    println!("  tidy: {}", if found.is_empty() { "ok" } else { "FAILED" });
    Ok(found.is_empty())
}

/// A file of the repository with its text; files that are not text are left out.
pub(crate) struct TextFile {
    /// From the root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

fn tracked_files() -> Result<Vec<TextFile>> {
    let mut git = Command::new("git");
    git.current_dir(workspace()).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let listed = git.output().context("run `git ls-files`")?;
    let mut files = Vec::new();
    for path in String::from_utf8(listed.stdout)?.split('\0').filter(|path| !path.is_empty()) {
        // A file that was deleted but is still in the index has no text.
        if let Ok(text) = std::fs::read_to_string(workspace().join(path)) {
            files.push(TextFile { path: path.to_owned(), text });
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_is_tidy() -> Result<()> {
        let files = tracked_files()?;
        let mut found = direction::check()?;
        found.extend(files::check(&files));
        found.extend(paths::check(&files));
        found.extend(deploy::check(&files));
        assert!(found.is_empty(), "{}", found.join("\n"));
        Ok(())
    }
}
