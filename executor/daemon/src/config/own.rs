//! Reads the own settings: file, then environment, then `--set`. Unknown keys are faults that name the nearest one.

use std::collections::BTreeMap;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};
use windlass_core::identity::rules::Rules;

use super::airflow::Source;
use super::environment::Environment;
use super::fault::{Fault, nearest};
use super::identity;
use super::setting::{Kind, Manual};
use super::settings::{MANUAL, Settings};

/// Read when it is there and no other is named.
pub const DEFAULT_PATH: &str = "/etc/windlass/windlass.toml";
/// With two underscores: a Service named `windlass` puts WINDLASS_PORT and the like into every pod.
const PREFIX: &str = "WINDLASS__";
const SEE: &str = "see docs/CONFIGURATION.md, or `windlass config` for all keys";

/// Own settings and where each came from.
pub(super) struct Own {
    pub(super) settings: Settings,
    /// By `section.key`; the rest are defaults.
    pub(super) sources: BTreeMap<String, Source>,
    pub(super) faults: Vec<Fault>,
    /// Who tasks are, with the file that says so; None: no rules.
    pub(super) rules: Option<(String, Rules)>,
}

impl Own {
    /// `named`: by `--config` or WINDLASS_CONFIG, then it must be there.
    pub(super) fn read(named: Option<&Path>, env: &Environment, sets: &[String]) -> Self {
        let mut own =
            Self { settings: Settings::default(), sources: BTreeMap::new(), faults: Vec::new(), rules: None };
        own.read_file(named);
        own.read_environment(env);
        own.read_sets(sets);
        own
    }

    fn read_file(&mut self, named: Option<&Path>) {
        let path = named.unwrap_or(Path::new(DEFAULT_PATH));
        match std::fs::read_to_string(path) {
            Ok(text) => self.read_toml(&path.display().to_string(), &text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => {}
            Err(error) => {
                let remedy =
                    "name a file that can be read with --config or WINDLASS_CONFIG, or leave both out";
                self.fault(path.display().to_string(), format!("cannot be read: {error}"), remedy);
            }
        }
    }

    fn read_toml(&mut self, path: &str, text: &str) {
        let line_of = |offset: usize| text[..offset.min(text.len())].matches('\n').count() + 1;
        let table = match DeTable::parse(text) {
            Ok(table) => table,
            Err(error) => {
                // Only the parser's own words: its Display would show the line, and with it a secret.
                let line = error.span().map_or(1, |span| line_of(span.start));
                self.fault(
                    format!("{path}:{line}"),
                    format!("is not TOML: {}", error.message()),
                    "mend the line",
                );
                return;
            }
        };
        for (section, value) in in_order(table.get_ref()) {
            let line = line_of(section.span().start);
            let DeValue::Table(keys) = value.get_ref() else {
                let what = format!("`{}` stands outside of a section", section.get_ref());
                self.fault(format!("{path}:{line}"), what, "put it under its [section]");
                continue;
            };
            if section.get_ref().as_ref() == identity::SECTION {
                let (rules, mut faults) = identity::read(path, text, keys);
                self.rules = rules.map(|rules| (path.to_owned(), rules));
                self.faults.append(&mut faults);
                continue;
            }
            if !MANUAL.iter().any(|m| m.section == section.get_ref().as_ref()) {
                let sections = MANUAL.iter().map(|m| m.section).chain([identity::SECTION]);
                let what = unknown("section", section.get_ref(), nearest(section.get_ref(), sections));
                self.fault(format!("{path}:{line}"), what, SEE);
                continue;
            }
            for (key, value) in in_order(keys) {
                let line = line_of(key.span().start);
                let place = format!("{path}:{line}");
                let source = Source::File { path: path.to_owned(), line };
                self.read_value(section.get_ref(), key.get_ref(), value.get_ref(), place, source);
            }
        }
    }

    fn read_value(&mut self, section: &str, key: &str, value: &DeValue<'_>, place: String, source: Source) {
        let Some(manual) = MANUAL.iter().find(|m| m.section == section && m.key() == key) else {
            let keys: Vec<_> = MANUAL.iter().filter(|m| m.section == section).map(Manual::key).collect();
            let near = nearest(&key.replace('_', "-"), keys.iter().map(String::as_str)).map(str::to_owned);
            let what = unknown(&format!("key in [{section}]"), key, near.as_deref());
            self.fault(place, what, SEE);
            return;
        };
        let (kind, text) = match value {
            DeValue::String(text) => (Kind::Text, text.to_string()),
            DeValue::Integer(number) => (Kind::Number, number.to_string()),
            DeValue::Boolean(flag) => (Kind::Flag, flag.to_string()),
            _ => {
                self.fault(
                    place,
                    format!("`{key}` is a table, list, date or fraction"),
                    written(manual.kind),
                );
                return;
            }
        };
        if kind != manual.kind {
            self.fault(place, format!("`{key}` has the wrong type"), written(manual.kind));
            return;
        }
        self.set(manual, &text, place, source);
    }

    fn read_environment(&mut self, env: &Environment) {
        for (variable, text) in env.with_prefix(PREFIX) {
            let place = format!("environment {variable}");
            match MANUAL.iter().find(|m| m.variable() == variable) {
                Some(manual) => self.set(manual, text, place, Source::Variable(variable.to_owned())),
                None => {
                    let names: Vec<_> = MANUAL.iter().map(Manual::variable).collect();
                    let near = nearest(variable, names.iter().map(String::as_str));
                    self.fault(place, unknown("variable", variable, near), SEE);
                }
            }
        }
    }

    fn read_sets(&mut self, sets: &[String]) {
        for set in sets {
            let Some((name, text)) = set.split_once('=') else {
                self.fault("flag --set".into(), "has no `=`".into(), "write --set section.key=value");
                continue;
            };
            let place = format!("flag --set {name}");
            match MANUAL.iter().find(|m| m.dotted() == name) {
                Some(manual) => self.set(manual, text, place, Source::Flag(format!("--set {name}"))),
                None => {
                    let names: Vec<_> = MANUAL.iter().map(Manual::dotted).collect();
                    let near = nearest(name, names.iter().map(String::as_str));
                    self.fault(place, unknown("setting", name, near), SEE);
                }
            }
        }
    }

    fn set(&mut self, manual: &Manual, text: &str, place: String, source: Source) {
        match self.settings.set(manual.section, manual.field, text) {
            Ok(()) => {
                self.sources.insert(manual.dotted(), source);
            }
            Err(what) => self.fault(place, format!("{}: {what}", manual.dotted()), SEE),
        }
    }

    fn fault(&mut self, place: String, what: String, remedy: &str) {
        self.faults.push(Fault::new(place, what, remedy));
    }
}

/// As they stand in the file: faults are told from its top down.
pub(super) fn in_order<'a, 'i>(
    table: &'a DeTable<'i>,
) -> Vec<(&'a Spanned<DeString<'i>>, &'a Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

pub(super) fn unknown(what: &str, name: &str, near: Option<&str>) -> String {
    let near = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
    format!("unknown {what} `{name}`{near}")
}

fn written(kind: Kind) -> &'static str {
    match kind {
        Kind::Text => "write a text in quotes",
        Kind::Number => "write a whole number without quotes",
        Kind::Flag => "write true or false without quotes",
    }
}
