//! Finds a value of Airflow's configuration exactly where Airflow would.
//!
//! Order (`AirflowConfigParser.get`, 2.10 and 2.11): environment variable, its `_CMD`, its `_SECRET`, each under the
//! new name and then under the deprecated one; the file; the file's `_cmd`; the file's `_secret`; the default. An
//! empty variable counts as a value; an empty output of a file's `_cmd` does not.

use std::fmt;
use std::path::{Path, PathBuf};

use super::environment::{Environment, run_command};
use super::fault::Fault;
use super::ini::Ini;

/// Where a value comes from, in words that lead there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody set it.
    Default,
    /// Follows from another value.
    Derived(String),
    /// An environment variable.
    Variable(String),
    /// Output of the command in this variable or at this place.
    Command(String),
    /// A file and the line in it.
    File {
        /// Path.
        path: String,
        /// From 1.
        line: usize,
    },
    /// The command line.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Derived(from) => write!(f, "from {from}"),
            Self::Variable(name) => write!(f, "environment {name}"),
            Self::Command(place) => write!(f, "output of the command in {place}"),
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// A value and its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// As text, expanded.
    pub value: String,
    /// Where from.
    pub source: Source,
}

/// Name of one option. A deprecated name is looked at after the new one, source by source.
#[derive(Clone, Copy, Debug)]
pub struct Name {
    /// Of airflow.cfg.
    pub section: &'static str,
    /// In it.
    pub key: &'static str,
    /// `[core] sql_alchemy_conn` before 2.3, `[kubernetes]` before 2.5.
    pub deprecated: Option<(&'static str, &'static str)>,
    /// Only for these Airflow reads the `_CMD` and `_SECRET` forms.
    pub sensitive: bool,
}

impl Name {
    /// An option with one name.
    pub const fn plain(section: &'static str, key: &'static str) -> Self {
        Self { section, key, deprecated: None, sensitive: false }
    }

    fn names(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        std::iter::once((self.section, self.key)).chain(self.deprecated)
    }
}

/// Airflow's configuration: environment and file.
pub struct Airflow {
    env: Environment,
    home: String,
    path: PathBuf,
    file: Option<Ini>,
}

/// Secrets backends that never answer for a configuration value (`BaseSecretsBackend.get_config`): with one of them
/// Airflow goes on to the next source, and so do we.
const BACKENDS_WITHOUT_CONFIG: &str = "airflow.secrets.";
const SECRETS_BACKEND: Name = Name::plain("secrets", "backend");

impl Airflow {
    /// Reads the file that Airflow would read. A missing one is no fault: Airflow runs from the environment as well.
    pub fn read(env: Environment) -> Result<Self, Fault> {
        let home = env.expand(env.get("AIRFLOW_HOME").unwrap_or("~/airflow"));
        let path = match env.get("AIRFLOW_CONFIG") {
            Some(path) => PathBuf::from(env.expand(path)),
            None => Path::new(&home).join("airflow.cfg"),
        };
        let file = match std::fs::read_to_string(&path) {
            Ok(text) => Some(Ini::parse(&path.display().to_string(), &text).map_err(|error| {
                let remedy = "mend the file; Airflow itself refuses it too";
                Fault::new("airflow.cfg", error.to_string(), remedy)
            })?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => {
                let what = format!("cannot be read: {error}");
                let remedy = "give the daemon's container the same file and user as Airflow's, or unset AIRFLOW_CONFIG";
                return Err(Fault::new(path.display().to_string(), what, remedy));
            }
        };
        Ok(Self { env, home, path, file })
    }

    /// The environment it was read with.
    pub fn env(&self) -> &Environment {
        &self.env
    }

    /// `AIRFLOW_HOME`, expanded.
    pub fn home(&self) -> &str {
        &self.home
    }

    /// The file that Airflow would read, and whether it is there.
    pub fn file(&self) -> (&Path, bool) {
        (&self.path, self.file.is_some())
    }

    /// Options of the file's `[section]` that are not in `known`, with their lines.
    pub fn unknown_options(&self, section: &str, known: &[&str]) -> Vec<(String, usize)> {
        let options = self.file.iter().flat_map(|file| file.options(section));
        options
            .filter(|(name, _)| !known.contains(name))
            .map(|(name, line)| (name.to_owned(), line))
            .collect()
    }

    /// The value that Airflow would use; None if nobody set it and there is no default.
    pub fn find(&self, name: &Name, default: Option<&str>) -> Result<Option<Found>, Fault> {
        for (section, key) in name.names() {
            if let Some(found) = self.in_environment(name, section, key)? {
                return Ok(Some(found));
            }
        }
        for (section, key) in name.names() {
            if let Some((value, source)) = self.in_file(section, key)? {
                return Ok(Some(Found { value: self.env.expand(&value), source }));
            }
        }
        if name.sensitive {
            for (section, key) in name.names() {
                if let Some(found) = self.by_file_command(section, key)? {
                    return Ok(Some(found));
                }
            }
            for (section, key) in name.names() {
                if let Some((_, source)) = self.in_file(section, &format!("{key}_secret"))? {
                    self.refuse_backend(name, &format!("option {key}_secret at {source}"))?;
                }
            }
        }
        Ok(default.map(|text| Found { value: self.env.expand(text), source: Source::Default }))
    }

    fn in_environment(&self, name: &Name, section: &str, key: &str) -> Result<Option<Found>, Fault> {
        let variable = variable(section, key);
        if let Some(value) = self.env.get(&variable) {
            let value = self.env.expand(value);
            return Ok(Some(Found { value, source: Source::Variable(variable) }));
        }
        if !name.sensitive {
            return Ok(None);
        }
        let command = format!("{variable}_CMD");
        if let Some(line) = self.env.get(&command) {
            let value = run_command(line)
                .map_err(|error| command_fault(&format!("environment {command}"), &error))?;
            return Ok(Some(Found { value, source: Source::Command(command) }));
        }
        let secret = format!("{variable}_SECRET");
        if self.env.get(&secret).is_some() {
            self.refuse_backend(name, &format!("environment {secret}"))?;
        }
        Ok(None)
    }

    fn in_file(&self, section: &str, key: &str) -> Result<Option<(String, Source)>, Fault> {
        let Some(found) = self.file.as_ref().and_then(|file| file.get(section, key)) else { return Ok(None) };
        let place = || format!("[{section}] {key}");
        let (value, line) = found.map_err(|error| Fault::new(place(), error.to_string(), ""))?;
        Ok(Some((value, Source::File { path: self.path.display().to_string(), line })))
    }

    fn by_file_command(&self, section: &str, key: &str) -> Result<Option<Found>, Fault> {
        let Some((line, source)) = self.in_file(section, &format!("{key}_cmd"))? else { return Ok(None) };
        let place = format!("{key}_cmd at {source}");
        let value = run_command(&line).map_err(|error| command_fault(&place, &error))?;
        Ok((!value.is_empty()).then_some(Found { value, source: Source::Command(place) }))
    }

    /// `_SECRET` asks a secrets backend, which is Python. Ok: the configured backend has no configuration values.
    fn refuse_backend(&self, name: &Name, place: &str) -> Result<(), Fault> {
        let backend = self.find(&SECRETS_BACKEND, Some(""))?.map_or(String::new(), |found| found.value);
        if backend.is_empty() || backend.starts_with(BACKENDS_WITHOUT_CONFIG) {
            return Ok(());
        }
        let what =
            format!("asks the secrets backend `{backend}`, which is Python code that Windlass does not run");
        let remedy = format!(
            "set {}_CMD in the daemon's container to a command that prints the value (`airflow config get-value {} {}` \
             where Airflow is installed, or `cat` of a mounted secret); it is looked at before _SECRET",
            variable(name.section, name.key),
            name.section,
            name.key
        );
        Err(Fault::new(place, what, remedy))
    }
}

fn command_fault(place: &str, error: &super::environment::CommandError) -> Fault {
    Fault::new(place, error.to_string(), "mend the command, or set the value itself")
}

/// `AIRFLOW__SECTION__KEY`, as Airflow makes it.
pub fn variable(section: &str, key: &str) -> String {
    format!("AIRFLOW__{}__{}", section.replace('.', "_").to_uppercase(), key.to_uppercase())
}

/// `getboolean` of Airflow.
pub fn parse_bool(text: &str) -> Option<bool> {
    let text = text.trim().to_lowercase();
    match text.split('#').next().map_or("", str::trim) {
        "t" | "true" | "1" => Some(true),
        "f" | "false" | "0" => Some(false),
        _ => None,
    }
}

/// `getint` of Airflow, which is Python's `int`: blanks around, single `_` between digits.
pub fn parse_int(text: &str) -> Option<i64> {
    let text = text.trim();
    let spaced = text.starts_with('_') || text.ends_with('_') || text.contains("__") || text.contains("+_");
    if spaced { None } else { text.replace('_', "").parse().ok() }
}
