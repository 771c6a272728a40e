//! What was done when, in a file and at hand.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};

/// The log of one run.
#[derive(Debug)]
pub(crate) struct Story {
    start: Instant,
    lines: Mutex<(Vec<String>, File)>,
}

impl Story {
    pub(crate) fn begin(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        let file = file.with_context(|| format!("open {}", path.display()))?;
        Ok(Self { start: Instant::now(), lines: Mutex::new((Vec::new(), file)) })
    }

    pub(crate) fn say(&self, what: &str) {
        let line = format!("{:8.3} s  {what}", self.start.elapsed().as_secs_f64());
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        // The one at hand is told if the file can't be written.
        let _ = writeln!(lines.1, "{line}");
        lines.0.push(line);
    }

    pub(crate) fn text(&self) -> String {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).0.join("\n")
    }
}
