//! Airflow's values as types. A value that cannot be read is a fault; the reading goes on, so that all are told.

use std::collections::BTreeMap;

use super::airflow::{Airflow, Found, Source, parse_bool, parse_int};
use super::fault::Fault;
use super::options::{AirflowOption, OPTIONS, Stance};

/// All options of Airflow, found; and what was wrong with them.
pub(super) struct Values {
    found: BTreeMap<(&'static str, &'static str), Found>,
    pub(super) faults: Vec<Fault>,
}

impl Values {
    pub(super) fn read(airflow: &Airflow) -> Self {
        let mut values = Self { found: BTreeMap::new(), faults: Vec::new() };
        for option in &OPTIONS {
            let default = option.default.map(|text| text.replace("{AIRFLOW_HOME}", airflow.home()));
            match airflow.find(&option.name, default.as_deref()) {
                Ok(Some(found)) => {
                    values.refuse(option, &found);
                    values.found.insert((option.name.section, option.name.key), found);
                }
                Ok(None) => {}
                Err(fault) => values.faults.push(fault),
            }
        }
        values
    }

    fn refuse(&mut self, option: &AirflowOption, found: &Found) {
        if let Stance::Refused(way_out) = option.stance
            && !found.value.is_empty()
            && found.source != Source::Default
        {
            let what = "cannot be honoured";
            self.faults.push(Fault::new(
                place(option.name.section, option.name.key, &found.source),
                what,
                way_out,
            ));
        }
    }

    pub(super) fn found(&self, section: &str, key: &str) -> Option<&Found> {
        // The keys are 'static; a lookup by shorter-lived names is a scan over 42 entries.
        self.found.iter().find(|(name, _)| **name == (section, key)).map(|(_, found)| found)
    }

    pub(super) fn source(&self, section: &str, key: &str) -> Source {
        self.found(section, key).map_or(Source::Default, |found| found.source.clone())
    }

    /// Text; empty where nothing is set.
    pub(super) fn text(&self, section: &str, key: &str) -> String {
        self.found(section, key).map_or(String::new(), |found| found.value.clone())
    }

    /// Text that is not empty.
    pub(super) fn filled(&self, section: &str, key: &str) -> Option<String> {
        Some(self.text(section, key)).filter(|text| !text.is_empty())
    }

    pub(super) fn flag(&mut self, section: &str, key: &str) -> bool {
        let text = self.text(section, key);
        parse_bool(&text).unwrap_or_else(|| {
            self.fault(section, key, &format!("`{text}` is neither true nor false"), "write True or False");
            false
        })
    }

    /// A whole number from `least` on.
    pub(super) fn number(&mut self, section: &str, key: &str, least: i64) -> i64 {
        let text = self.text(section, key);
        match parse_int(&text) {
            Some(number) if number >= least => number,
            Some(_) => {
                self.fault(section, key, &format!("{text} is too small"), &format!("at least {least}"));
                least
            }
            None => {
                self.fault(section, key, &format!("`{text}` is not a whole number"), "write a whole number");
                least
            }
        }
    }

    /// Seconds with a fraction, in milliseconds.
    pub(super) fn seconds_as_ms(&mut self, section: &str, key: &str) -> u64 {
        let text = self.text(section, key);
        match text.trim().parse::<f64>() {
            Ok(seconds) if (0.0..1e9).contains(&seconds) => milliseconds(seconds),
            _ => {
                let remedy = "write a number of seconds";
                self.fault(section, key, &format!("`{text}` is not a number of seconds"), remedy);
                0
            }
        }
    }

    /// `a, b`; empty items are dropped.
    pub(super) fn list(&self, section: &str, key: &str) -> Vec<String> {
        let text = self.text(section, key);
        text.split(',').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect()
    }

    /// A JSON object; empty text is an empty one.
    pub(super) fn object(&mut self, section: &str, key: &str) -> serde_json::Map<String, serde_json::Value> {
        let text = self.text(section, key);
        if text.is_empty() {
            return serde_json::Map::new();
        }
        match serde_json::from_str(&text) {
            Ok(serde_json::Value::Object(map)) => map,
            _ => {
                self.fault(section, key, "is not a JSON object", "write {\"key\": value}, on one line");
                serde_json::Map::new()
            }
        }
    }

    pub(super) fn fault(&mut self, section: &str, key: &str, what: &str, remedy: &str) {
        let place = place(section, key, &self.source(section, key));
        self.faults.push(Fault::new(place, what, remedy));
    }
}

fn place(section: &str, key: &str, source: &Source) -> String {
    format!("[{section}] {key} ({source})")
}

/// The caller has checked the range.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "0 to 1e12, checked by the caller"
)]
pub(super) fn milliseconds(seconds: f64) -> u64 {
    (seconds * 1000.0).round() as u64
}
