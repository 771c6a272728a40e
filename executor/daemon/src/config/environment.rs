//! The environment as a value, and what Airflow does with it: `$VAR` and `~` in values, and commands that print one.

use std::collections::BTreeMap;
use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// Longest run of a `_CMD`. Airflow waits for ever; a daemon that hangs in its start tells nobody why.
const COMMAND_MAX: Duration = Duration::from_secs(60);
/// Rounds of expansion. Airflow goes on until nothing changes, which a variable that names itself never reaches.
const EXPANSIONS_MAX: usize = 32;

/// Environment variables, read once. Values are often secret: no Debug.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Of this process. What is not UTF-8 is left out: no setting of ours or Airflow's is.
    pub fn of_process() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self(std::env::vars_os().filter_map(text).collect())
    }

    /// These variables and no others.
    pub fn of<'a>(vars: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self(vars.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// With one more variable.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.0.insert(name.to_owned(), value.to_owned());
        self
    }

    /// One variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Names and values of the variables that begin with `prefix`.
    pub fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        let matching =
            self.0.range(prefix.to_owned()..).take_while(move |(name, _)| name.starts_with(prefix));
        matching.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// `expand_env_var` of Airflow: `$NAME`, `${NAME}` and a leading `~`, again and again until nothing changes.
    pub fn expand(&self, text: &str) -> String {
        let mut now = text.to_owned();
        for _ in 0..EXPANSIONS_MAX {
            let next = self.expand_home(self.expand_once(&now));
            if next == now {
                break;
            }
            now = next;
        }
        now
    }

    /// Python's `os.path.expandvars`: unknown names stay as they are.
    fn expand_once(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            let after = &rest[at + 1..];
            let (name, whole) = match after.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
                Some((name, _)) => (name, name.len() + 3),
                None => {
                    let end =
                        after.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(after.len());
                    (&after[..end], end + 1)
                }
            };
            match self.get(name) {
                Some(value) if !name.is_empty() => out.push_str(value),
                _ => out.push_str(&rest[at..at + whole]),
            }
            rest = &rest[at + whole..];
        }
        out.push_str(rest);
        out
    }

    /// `~` and `~/..`; `~user` stays as it is, for want of a user database in a lean image.
    fn expand_home(&self, text: String) -> String {
        match (text.strip_prefix('~'), self.get("HOME")) {
            (Some(tail), Some(home)) if tail.is_empty() || tail.starts_with('/') => {
                format!("{}{tail}", home.trim_end_matches('/'))
            }
            _ => text,
        }
    }
}

/// Why a `_CMD` gave no value. Neither the command nor what it printed is repeated: both may hold the secret.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// Quotes that do not end, or nothing at all.
    #[error("the command is empty or has an open quote")]
    Syntax,
    /// The program is not there, or not executable.
    #[error("`{program}` cannot be started: {source}")]
    Start {
        /// First word.
        program: String,
        /// Of the operating system.
        source: std::io::Error,
    },
    /// Ended with an error.
    #[error("`{program}` ended with {status}; run it by hand to see what it says")]
    Failed {
        /// First word.
        program: String,
        /// Exit code or signal.
        status: std::process::ExitStatus,
    },
    /// Took too long.
    #[error("`{program}` has not ended after {} s", COMMAND_MAX.as_secs())]
    Slow {
        /// First word.
        program: String,
    },
}

/// Runs a `_CMD` as Airflow does: split like a POSIX shell, no shell. A trailing newline is dropped (Airflow keeps
/// it, and SQLAlchemy then ignores it).
pub fn run_command(line: &str) -> Result<String, CommandError> {
    let words = split(line).ok_or(CommandError::Syntax)?;
    let (program, arguments) = words.split_first().ok_or(CommandError::Syntax)?;
    let start = |source| CommandError::Start { program: program.clone(), source };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(start)?;
    let mut stdout = child.stdout.take();
    let (done, output) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(pipe) = &mut stdout {
            // A pipe that breaks has the same meaning as one that ends: the exit status decides.
            let _ = pipe.read_to_end(&mut bytes);
        }
        let _ = done.send(bytes);
    });
    let Ok(bytes) = output.recv_timeout(COMMAND_MAX) else {
        let _ = child.kill();
        let _ = child.wait();
        return Err(CommandError::Slow { program: program.clone() });
    };
    let status = child.wait().map_err(start)?;
    if !status.success() {
        return Err(CommandError::Failed { program: program.clone(), status });
    }
    Ok(String::from_utf8_lossy(&bytes).trim_end_matches(['\r', '\n']).to_owned())
}

/// Python's `shlex.split`: POSIX quoting, `#` is no comment. None: a quote or a backslash is left open.
fn split(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\r' | '\n' => words.extend(word.take()),
            '\'' => {
                let text = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '\'' => break,
                        other => text.push(other),
                    }
                }
            }
            '"' => quoted(&mut chars, word.get_or_insert_default())?,
            '\\' => word.get_or_insert_default().push(chars.next()?),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Some(words)
}

/// Inside double quotes a backslash escapes only `"` and itself.
fn quoted(chars: &mut std::str::Chars<'_>, text: &mut String) -> Option<()> {
    loop {
        match chars.next()? {
            '"' => return Some(()),
            '\\' => match chars.next()? {
                escaped @ ('"' | '\\') => text.push(escaped),
                other => text.extend(['\\', other]),
            },
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_expanded_until_nothing_changes() {
        let env = Environment::of([("A", "$B/x"), ("B", "b"), ("HOME", "/home/af"), ("LOOP", "$LOOP")]);
        for (text, expected) in [
            ("$A", "b/x"),
            ("${B}c $NOPE ${NOPE} $ $$B", "bc $NOPE ${NOPE} $ $b"),
            ("~/airflow", "/home/af/airflow"),
            ("~other/x", "~other/x"),
            ("$LOOP", "$LOOP"),
        ] {
            assert_eq!(env.expand(text), expected);
        }
    }

    #[test]
    fn commands_are_split_as_python_splits_them() {
        let words = |line| split(line).map(|w| w.join("|"));
        assert_eq!(words(r#"cat "a b" 'c "d' e\ f # g"#), Some(r#"cat|a b|c "d|e f|#|g"#.into()));
        assert_eq!(words(r#""a\"b\c" "" x"#), Some(r#"a"b\c||x"#.into()));
        assert_eq!(words("open 'quote"), None);
    }

    #[test]
    fn a_command_gives_its_output_or_a_fault_without_it() {
        assert_eq!(run_command("echo 'two words'").unwrap(), "two words");
        assert_eq!(
            run_command("sh -c 'echo hunter2; exit 3'").unwrap_err().to_string(),
            "`sh` ended with exit status: 3; run it by hand to see what it says"
        );
        let missing = run_command("/no/such/program hunter2").unwrap_err().to_string();
        assert!(missing.starts_with("`/no/such/program` cannot be started") && !missing.contains("hunter2"));
        assert_eq!(run_command(" ").unwrap_err().to_string(), "the command is empty or has an open quote");
    }
}
