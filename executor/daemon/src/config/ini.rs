//! airflow.cfg as Python's `ConfigParser` reads it: the dialect that Airflow writes and expects.
//!
//! Delimiters `=` and `:`, comments only on lines of their own (`#`, `;`), values that go on in deeper indented lines,
//! `[DEFAULT]`, and `%` interpolation. Airflow keeps the case of option names. No error repeats a value: it may be a
//! password.

use std::collections::BTreeMap;

/// What keeps a file from being read, or a value from being interpolated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IniError {
    /// A line that is no section, option, comment or continuation.
    #[error("{file}:{line}: neither `[section]` nor `option = value`")]
    Line {
        /// Path.
        file: String,
        /// From 1.
        line: usize,
    },
    /// An option before the first section.
    #[error("{file}:{line}: an option before the first `[section]`")]
    NoSection {
        /// Path.
        file: String,
        /// From 1.
        line: usize,
    },
    /// Airflow refuses the file for this as well.
    #[error("{file}:{line}: {what} is there twice; keep one")]
    Twice {
        /// Path.
        file: String,
        /// Of the second.
        line: usize,
        /// `section [x]` or `option x of [y]`.
        what: String,
    },
    /// `%` that is neither `%%` nor `%(name)s`.
    #[error("{file}:{line}: `{option}` has a single `%`; write `%%` for a percent sign")]
    Percent {
        /// Path.
        file: String,
        /// Of the option.
        line: usize,
        /// Whose value.
        option: String,
    },
    /// `%(name)s` of something that is not there, or of itself.
    #[error(
        "{file}:{line}: `{option}` refers to `%({name})s`, which is not in its section or leads back to itself"
    )]
    Reference {
        /// Path.
        file: String,
        /// Of the option.
        line: usize,
        /// Whose value.
        option: String,
        /// What it names.
        name: String,
    },
}

/// A file, parsed.
#[derive(Clone, Default)]
pub struct Ini {
    file: String,
    sections: BTreeMap<String, BTreeMap<String, Entry>>,
}

#[derive(Clone)]
struct Entry {
    raw: String,
    line: usize,
}

const DEFAULT_SECTION: &str = "DEFAULT";
/// As `configparser.MAX_INTERPOLATION_DEPTH`.
const DEPTH_MAX: usize = 10;

impl Ini {
    /// Parses `text`, the content of `file`.
    pub fn parse(file: &str, text: &str) -> Result<Self, IniError> {
        let mut reader = Reader::new(file);
        for (index, line) in text.lines().enumerate() {
            reader.line(index + 1, line)?;
        }
        Ok(reader.finish())
    }

    /// Value and line of an option, interpolated; None if neither its section nor `[DEFAULT]` has it. An unknown
    /// section has nothing, whatever `[DEFAULT]` says.
    pub fn get(&self, section: &str, option: &str) -> Option<Result<(String, usize), IniError>> {
        let own = self.sections.get(section)?;
        let entry = self.entry(own, option)?;
        let value = self.interpolate(own, (option, entry.line), &entry.raw, 1);
        Some(value.map(|value| (value, entry.line)))
    }

    /// Names and lines of the options that stand in `section` itself.
    pub fn options(&self, section: &str) -> impl Iterator<Item = (&str, usize)> {
        self.sections.get(section).into_iter().flatten().map(|(name, entry)| (name.as_str(), entry.line))
    }

    fn entry<'a>(&'a self, own: &'a BTreeMap<String, Entry>, option: &str) -> Option<&'a Entry> {
        own.get(option).or_else(|| self.sections.get(DEFAULT_SECTION)?.get(option))
    }

    /// `at`: option and line for the error.
    fn interpolate(
        &self,
        own: &BTreeMap<String, Entry>,
        at: (&str, usize),
        raw: &str,
        depth: usize,
    ) -> Result<String, IniError> {
        let (file, option, line) = (|| self.file.clone(), || at.0.to_owned(), at.1);
        let mut out = String::new();
        let mut rest = raw;
        while let Some(percent) = rest.find('%') {
            out.push_str(&rest[..percent]);
            let after = &rest[percent + 1..];
            if let Some(tail) = after.strip_prefix('%') {
                out.push('%');
                rest = tail;
                continue;
            }
            let reference = after.strip_prefix('(').and_then(|inner| inner.split_once(")s"));
            let Some((name, tail)) = reference else {
                return Err(IniError::Percent { file: file(), line, option: option() });
            };
            let Some(named) = self.entry(own, name).filter(|_| depth < DEPTH_MAX) else {
                return Err(IniError::Reference {
                    file: file(),
                    line,
                    option: option(),
                    name: name.to_owned(),
                });
            };
            out.push_str(&self.interpolate(own, at, &named.raw, depth + 1)?);
            rest = tail;
        }
        out.push_str(rest);
        Ok(out)
    }
}

/// Follows `RawConfigParser._read`, line by line.
struct Reader {
    ini: Ini,
    section: Option<String>,
    /// The option whose value may go on in the next line.
    open: Option<String>,
    /// Of the line that opened it.
    indent: usize,
}

impl Reader {
    fn new(file: &str) -> Self {
        let ini = Ini { file: file.to_owned(), sections: BTreeMap::new() };
        Self { ini, section: None, open: None, indent: 0 }
    }

    fn line(&mut self, number: usize, line: &str) -> Result<(), IniError> {
        let text = line.trim();
        let comment = text.starts_with('#') || text.starts_with(';');
        if text.is_empty() || comment {
            // An empty line may be inside a value; a comment line adds nothing to it.
            if !comment {
                self.continue_value("");
            }
            return Ok(());
        }
        let indent = line.chars().take_while(|c| c.is_whitespace()).count();
        if self.open.is_some() && indent > self.indent {
            self.continue_value(text);
            return Ok(());
        }
        self.indent = indent;
        if let Some(name) = section_name(text) {
            return self.open_section(number, name);
        }
        self.open_option(number, text)
    }

    fn continue_value(&mut self, text: &str) {
        let (Some(section), Some(option)) = (&self.section, &self.open) else { return };
        if let Some(entry) = self.ini.sections.get_mut(section).and_then(|s| s.get_mut(option)) {
            entry.raw.push('\n');
            entry.raw.push_str(text);
        }
    }

    fn open_section(&mut self, line: usize, name: &str) -> Result<(), IniError> {
        if self.ini.sections.contains_key(name) && name != DEFAULT_SECTION {
            let what = format!("section [{name}]");
            return Err(IniError::Twice { file: self.ini.file.clone(), line, what });
        }
        self.ini.sections.entry(name.to_owned()).or_default();
        self.section = Some(name.to_owned());
        self.open = None;
        Ok(())
    }

    fn open_option(&mut self, line: usize, text: &str) -> Result<(), IniError> {
        let file = || self.ini.file.clone();
        let Some(section) = self.section.clone() else {
            return Err(IniError::NoSection { file: file(), line });
        };
        let Some((option, value)) = text.split_once(['=', ':']) else {
            return Err(IniError::Line { file: file(), line });
        };
        let option = option.trim_end();
        if option.is_empty() {
            return Err(IniError::Line { file: file(), line });
        }
        let own = self.ini.sections.entry(section.clone()).or_default();
        if own.contains_key(option) {
            let what = format!("option `{option}` of [{section}]");
            return Err(IniError::Twice { file: file(), line, what });
        }
        own.insert(option.to_owned(), Entry { raw: value.trim().to_owned(), line });
        self.open = Some(option.to_owned());
        Ok(())
    }

    fn finish(mut self) -> Ini {
        for entry in self.ini.sections.values_mut().flat_map(BTreeMap::values_mut) {
            entry.raw.truncate(entry.raw.trim_end().len());
        }
        self.ini
    }
}

/// `[name] anything`: the name ends at the last bracket, as Python's greedy pattern has it.
fn section_name(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('[')?;
    let end = inner.rfind(']')?;
    (end > 0).then(|| &inner[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(text: &str, option: &str) -> String {
        let ini = Ini::parse("airflow.cfg", text).unwrap();
        match ini.get("a", option) {
            None => "(none)".into(),
            Some(Ok((value, _))) => value,
            Some(Err(error)) => error.to_string(),
        }
    }

    /// Each expectation is what Python 3.11's ConfigParser (with Airflow's optionxform) gave.
    #[test]
    fn values_are_read_as_python_reads_them() {
        for (text, option, expected) in [
            ("[a]\nx = 1 ; c\n", "x", "1 ; c"),
            ("[a]\ny: 2 # d\n# c\n;z\n", "y", "2 # d"),
            ("[a]\nz=a%%b\n", "z", "a%b"),
            ("[a]\nx = 1\n  two\n\n  three\ny=2", "x", "1\ntwo\n\nthree"),
            ("[a]\nx = 1\n # comment\n  two\ny=", "x", "1\ntwo"),
            ("[a]\nx = 1\n # comment\n  two\ny=", "y", ""),
            ("[a]\nx=%(y)s/z\ny=%(q)s\nq=1", "x", "1/z"),
            ("[DEFAULT]\nq=1\n[a]\nx=%(q)s", "x", "1"),
            ("[DEFAULT]\nq=1\n[a]\nx=2", "q", "1"),
            ("[a]\nkey with space = v = w\n[b] trailing\nx=1", "key with space", "v = w"),
            ("[a]\n  x=1\n  y=2\n", "y", "2"),
            ("[a]\nx=\n  l1\n  l2\n", "x", "\nl1\nl2"),
            ("[a]\nx=%(Y)s\nY=1", "x", "1"),
            ("[a]\nx=1\n\n\ny=2\n\n", "x", "1"),
            ("[a]\nx=1\n\n  \n    b\n", "x", "1\n\n\nb"),
            ("[a]\nX=1", "x", "(none)"),
        ] {
            assert_eq!(get(text, option), expected, "{text:?}");
        }
    }

    #[test]
    fn faults_name_file_and_line_and_no_value() {
        for (text, expected) in [
            ("[a]\nsecret\n", "airflow.cfg:2: neither `[section]` nor `option = value`"),
            ("[a]\n=1", "airflow.cfg:2: neither `[section]` nor `option = value`"),
            ("secret=1\n", "airflow.cfg:1: an option before the first `[section]`"),
            ("[a]\nx=1\nx=2", "airflow.cfg:3: option `x` of [a] is there twice; keep one"),
            ("[a]\nx=1\n[a]\ny=2", "airflow.cfg:3: section [a] is there twice; keep one"),
        ] {
            assert_eq!(Ini::parse("airflow.cfg", text).err().unwrap().to_string(), expected, "{text:?}");
        }
        let single = "airflow.cfg:2: `x` has a single `%`; write `%%` for a percent sign";
        assert_eq!(get("[a]\nx=50%\n", "x"), single);
        assert_eq!(get("[a]\nx=%y", "x"), single);
        let missing =
            "airflow.cfg:2: `x` refers to `%(n)s`, which is not in its section or leads back to itself";
        assert_eq!(get("[a]\nx=%(n)s", "x"), missing);
        assert_eq!(get("[a]\nx=%(n)s\nn=%(n)s", "x"), missing);
    }
}
