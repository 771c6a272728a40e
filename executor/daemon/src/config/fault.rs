//! What is wrong with a configuration: all of it at once, each with its place and its remedy.

use std::fmt;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// File and line, environment variable, or flag.
    pub place: String,
    /// What is wrong there. Holds no secret value.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

impl Fault {
    /// Makes one.
    pub fn new(place: impl Into<String>, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { place: place.into(), what: what.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, "\n    remedy: {}", self.remedy) }
    }
}

/// All that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => write!(f, "the configuration has a fault; nothing was started")?,
            n => write!(f, "the configuration has {n} faults; nothing was started")?,
        }
        self.0.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

/// The known name nearest to `wrong`, if one is near enough to be meant.
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.into_iter().map(|name| (strsim::jaro_winkler(wrong, name), name));
    scored.filter(|(score, _)| *score > 0.75).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_faults_are_told_with_place_and_remedy() {
        let one = Fault::new("a.toml:3", "no such key", "");
        let two = Fault::new("environment X", "not a number", "give a number");
        assert_eq!(
            Faults(vec![one, two]).to_string(),
            "the configuration has 2 faults; nothing was started\n  a.toml:3: no such key\n  \
             environment X: not a number\n    remedy: give a number"
        );
    }

    #[test]
    fn the_nearest_name_is_offered_only_when_it_is_near() {
        assert_eq!(nearest("concurency", ["concurrency", "timeout-ms"]), Some("concurrency"));
        assert_eq!(nearest("zzz", ["concurrency", "timeout-ms"]), None);
    }
}
