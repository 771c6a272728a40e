//! The conditions of all rules asked at once: what a lookup costs hardly grows with their number.
//!
//! The patterns of one trait are put together, texts in a map, globs and regular expressions in one automaton each. What
//! matches sets the bits of the conditions that it fulfils; the first rule with all its bits is the one.

use std::collections::BTreeMap;

use globset::{Glob, GlobSet, GlobSetBuilder};
use regex::{RegexSet, RegexSetBuilder};

use super::pattern::Form;
use super::rules::{Facts, Rule, Trait};

/// Compiled form of all regular expressions on one trait, in bytes.
const SET_SIZE_MAX: usize = 64 << 20;

/// A condition: number of its rule, and its bit there.
type Slot = (usize, u64);

#[derive(Clone, Debug)]
pub(super) struct Lookup {
    by_trait: Vec<(Trait, Patterns)>,
    /// Bits of each rule that have to be set.
    needed: Vec<u64>,
}

/// Of one trait. The n-th list of slots is of the n-th pattern.
#[derive(Clone, Debug)]
struct Patterns {
    texts: BTreeMap<String, Vec<Slot>>,
    globs: GlobSet,
    of_globs: Vec<Vec<Slot>>,
    regexes: RegexSet,
    of_regexes: Vec<Vec<Slot>>,
}

#[derive(Default)]
struct Collected {
    texts: BTreeMap<String, Vec<Slot>>,
    /// By their text: many rules may have the same one.
    globs: BTreeMap<String, (Option<Glob>, Vec<Slot>)>,
    regexes: BTreeMap<String, Vec<Slot>>,
}

impl Lookup {
    /// None: there is a rule with more conditions than bits, or the patterns are too large to be put together.
    pub(super) fn of(rules: &[Rule]) -> Option<Self> {
        let mut collected: BTreeMap<Trait, Collected> = BTreeMap::new();
        let mut needed = Vec::with_capacity(rules.len());
        for (number, rule) in rules.iter().enumerate() {
            let mut bits = 0;
            for (position, condition) in rule.when.iter().enumerate() {
                let bit = 1_u64.checked_shl(u32::try_from(position).ok()?)?;
                bits |= bit;
                let of_trait = collected.entry(condition.on).or_default();
                for pattern in &condition.patterns {
                    let slot = (number, bit);
                    match pattern.form() {
                        Form::Exact => {
                            of_trait.texts.entry(pattern.as_str().to_owned()).or_default().push(slot)
                        }
                        Form::Glob(glob) => {
                            let key = pattern.as_str().to_owned();
                            let (of_glob, slots) = of_trait.globs.entry(key).or_default();
                            of_glob.get_or_insert_with(|| glob.glob().clone());
                            slots.push(slot);
                        }
                        Form::Regex(regex) => {
                            of_trait.regexes.entry(regex.as_str().to_owned()).or_default().push(slot);
                        }
                    }
                }
            }
            needed.push(bits);
        }
        let by_trait = collected.into_iter().map(|(of, all)| Some((of, all.compiled()?)));
        Some(Self { by_trait: by_trait.collect::<Option<_>>()?, needed })
    }

    /// Number of the first rule whose conditions all hold.
    pub(super) fn first(&self, task: &Facts<'_>) -> Option<usize> {
        let mut bits = vec![0_u64; self.needed.len()];
        for (of, patterns) in &self.by_trait {
            for text in task.of(*of) {
                patterns.set(text, &mut bits);
            }
        }
        bits.iter().zip(&self.needed).position(|(bits, needed)| bits == needed)
    }
}

impl Collected {
    fn compiled(self) -> Option<Patterns> {
        let mut globs = GlobSetBuilder::new();
        let mut of_globs = Vec::new();
        for (glob, slots) in self.globs.into_values() {
            globs.add(glob?);
            of_globs.push(slots);
        }
        let (expressions, of_regexes): (Vec<_>, Vec<_>) = self.regexes.into_iter().unzip();
        let regexes = RegexSetBuilder::new(expressions).size_limit(SET_SIZE_MAX).build().ok()?;
        Some(Patterns { texts: self.texts, globs: globs.build().ok()?, of_globs, regexes, of_regexes })
    }
}

impl Patterns {
    fn set(&self, text: &str, bits: &mut [u64]) {
        let mut fulfil = |slots: &[Slot]| slots.iter().for_each(|(rule, bit)| bits[*rule] |= bit);
        if let Some(slots) = self.texts.get(text) {
            fulfil(slots);
        }
        for glob in self.globs.matches(text) {
            fulfil(&self.of_globs[glob]);
        }
        for regex in &self.regexes.matches(text) {
            fulfil(&self.of_regexes[regex]);
        }
    }
}
