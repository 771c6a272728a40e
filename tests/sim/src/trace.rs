//! The story of a run, line by line, and a fingerprint of it for runs that nobody reads.

use std::fmt;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Milliseconds of true time.
    pub at: u64,
    /// The task concerned; none for what concerns all.
    pub task: Option<usize>,
    /// What happened.
    pub text: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.task {
            Some(task) => write!(f, "{:>9} task {task}: {}", self.at, self.text),
            None => write!(f, "{:>9} {}", self.at, self.text),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Trace {
    /// None: nobody reads it.
    pub(crate) lines: Option<Vec<Line>>,
    pub(crate) fingerprint: u64,
}

impl Trace {
    pub(crate) fn say(&mut self, at: u64, task: Option<usize>, text: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            lines.push(Line { at, task, text: text() });
        }
    }

    /// FNV-1a over what happened when, cheap enough to be always on.
    pub(crate) fn stamp(&mut self, word: u64) {
        self.fingerprint = (self.fingerprint ^ word).wrapping_mul(0x0000_0100_0000_01b3);
    }
}
