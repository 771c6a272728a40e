//! Which identity a task gets: the first rule whose conditions all hold, else the default.

use std::fmt;

use super::lookup::Lookup;
use super::pattern::{Of, Pattern};
use super::{Freedoms, Identity};

/// What a rule can look at. All but the folder is chosen by the DAG's author; Airflow itself writes the file of a DAG
/// (`DagBag` sets `fileloc` from the module that it loaded).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trait {
    /// `dag_id`.
    Dag,
    /// `task_id`, task groups included.
    Task,
    /// `queue`.
    Queue,
    /// `pool`.
    Pool,
    /// `operator`: the class's name.
    Operator,
    /// One of the DAG's tags.
    Tag,
    /// One of the DAG's owners.
    Owner,
    /// The folder of the DAG's file, or one above it.
    Folder,
}

impl Trait {
    /// All, in the order in which they are told.
    pub const ALL: [Self; 8] = [
        Self::Dag,
        Self::Task,
        Self::Queue,
        Self::Pool,
        Self::Operator,
        Self::Tag,
        Self::Owner,
        Self::Folder,
    ];

    /// Its key in windlass.toml.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dag => "dag",
            Self::Task => "task",
            Self::Queue => "queue",
            Self::Pool => "pool",
            Self::Operator => "operator",
            Self::Tag => "tag",
            Self::Owner => "owner",
            Self::Folder => "folder",
        }
    }

    /// How its patterns are read.
    pub fn of(self) -> Of {
        if self == Self::Folder { Of::Path } else { Of::Name }
    }

    /// Whether whoever may write the DAG chooses it.
    pub fn is_authors_choice(self) -> bool {
        self != Self::Folder
    }
}

impl fmt::Display for Trait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A task as the rules see it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts<'a> {
    /// `task_instance.dag_id`.
    pub dag_id: &'a str,
    /// `task_instance.task_id`.
    pub task_id: &'a str,
    /// `task_instance.queue`.
    pub queue: &'a str,
    /// `task_instance.pool`.
    pub pool: &'a str,
    /// `task_instance.operator`.
    pub operator: &'a str,
    /// `dag_tag.name`.
    pub tags: &'a [String],
    /// `dag.owners`, split.
    pub owners: &'a [String],
    /// [`folder_of`] its file; None: not known, or it leads out by `..`. No folder condition holds then.
    pub folder: Option<&'a str>,
}

impl<'a> Facts<'a> {
    /// What it has of one trait; several for tags, owners, and the folders above the file.
    pub fn of(&self, of: Trait) -> Vec<&'a str> {
        match of {
            Trait::Dag => vec![self.dag_id],
            Trait::Task => vec![self.task_id],
            Trait::Queue => vec![self.queue],
            Trait::Pool => vec![self.pool],
            Trait::Operator => vec![self.operator],
            Trait::Tag => self.tags.iter().map(String::as_str).collect(),
            Trait::Owner => self.owners.iter().map(String::as_str).collect(),
            Trait::Folder => self.folder.map(|folder| folders_up(folder).collect()).unwrap_or_default(),
        }
    }

    fn any(&self, of: Trait, pattern: &Pattern) -> bool {
        match of {
            Trait::Dag => pattern.matches(self.dag_id),
            Trait::Task => pattern.matches(self.task_id),
            Trait::Queue => pattern.matches(self.queue),
            Trait::Pool => pattern.matches(self.pool),
            Trait::Operator => pattern.matches(self.operator),
            Trait::Tag => self.tags.iter().any(|tag| pattern.matches(tag)),
            Trait::Owner => self.owners.iter().any(|owner| pattern.matches(owner)),
            Trait::Folder => self.folder.is_some_and(|f| folders_up(f).any(|folder| pattern.matches(folder))),
        }
    }
}

/// The folder of a DAG's file for [`Facts::folder`]: relative to the DAGs folder where it lies below (`.` for that folder
/// itself), else as it is. None where `..` would lead elsewhere.
pub fn folder_of(fileloc: &str, dags_folder: &str) -> Option<String> {
    if fileloc.split('/').any(|part| part == "..") {
        return None;
    }
    let file = crate::pod::dag_file_argument(fileloc, dags_folder);
    let (folder, _) = file.rsplit_once('/')?;
    match folder.strip_prefix("DAGS_FOLDER") {
        Some("") => Some(".".to_owned()),
        Some(below) if below.starts_with('/') => Some(below[1..].to_owned()),
        _ => Some(folder.to_owned()),
    }
}

/// `a/b/c`, `a/b`, `a`: a rule for a folder is one for all below it.
fn folders_up(folder: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(folder), |folder| {
        folder.rsplit_once('/').map(|(above, _)| above).filter(|above| !above.is_empty())
    })
}

/// One condition: any of the patterns has to match.
#[derive(Clone, Debug)]
pub struct Condition {
    /// On what.
    pub on: Trait,
    /// One at least.
    pub patterns: Vec<Pattern>,
}

impl Condition {
    fn holds(&self, task: &Facts<'_>) -> bool {
        self.patterns.iter().any(|pattern| task.any(self.on, pattern))
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let patterns: Vec<String> = self.patterns.iter().map(|p| format!("`{}`", p.as_str())).collect();
        write!(f, "{} {}", self.on, patterns.join(" or "))
    }
}

/// Where a rule stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Line of the file, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// One rule of windlass.toml.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Unique; for people and errors.
    pub name: String,
    /// Where it stands.
    pub place: Place,
    /// All have to hold; none: it matches every task.
    pub when: Vec<Condition>,
    /// What its tasks get.
    pub gives: Identity,
    /// What their executor_config may change of it.
    pub may_override: Freedoms,
}

/// Why a rule does not apply to a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Miss<'a> {
    /// Of the rule that does not apply.
    pub rule: &'a str,
    /// The first condition that does not hold, and what the task has instead.
    pub why: String,
}

/// All rules, in order, and what tasks get that none of them matches.
#[derive(Clone, Debug)]
pub struct Rules {
    rules: Vec<Rule>,
    /// None: they are asked one after the other.
    lookup: Option<Lookup>,
    otherwise: Option<Rule>,
}

/// The name under which the default is told.
pub const DEFAULT: &str = "default";

impl Rules {
    /// `rules`: in the order of the file. `otherwise`: `[identity.default]`, a rule without conditions; None: it denies.
    pub fn new(rules: Vec<Rule>, otherwise: Option<Rule>) -> Self {
        let lookup = Lookup::of(&rules);
        Self { rules, lookup, otherwise }
    }

    /// The rule for a task; None: no rule matches, and the default denies.
    pub fn find(&self, task: &Facts<'_>) -> Option<&Rule> {
        let found = match &self.lookup {
            Some(lookup) => lookup.first(task).map(|number| &self.rules[number]),
            None => self.first(task),
        };
        found.or(self.otherwise.as_ref())
    }

    /// One rule after the other.
    fn first(&self, task: &Facts<'_>) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.when.iter().all(|condition| condition.holds(task)))
    }

    /// The same with the rules that were passed over, and why.
    pub fn explain(&self, task: &Facts<'_>) -> (Option<&Rule>, Vec<Miss<'_>>) {
        let found = self.find(task);
        let mut misses = Vec::new();
        for rule in &self.rules {
            if found.is_some_and(|found| std::ptr::eq(found, rule)) {
                break;
            }
            let failed = rule.when.iter().find(|condition| !condition.holds(task));
            if let Some(condition) = failed {
                misses.push(Miss { rule: &rule.name, why: why_not(condition, task) });
            }
        }
        (found, misses)
    }

    /// In order, without the default.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// What tasks get that no rule matches; None: no pod.
    pub fn otherwise(&self) -> Option<&Rule> {
        self.otherwise.as_ref()
    }

    /// All that give an identity, the default's last.
    pub fn all(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().chain(&self.otherwise)
    }
}

fn why_not(condition: &Condition, task: &Facts<'_>) -> String {
    let has: Vec<String> = task.of(condition.on).iter().map(|text| format!("`{text}`")).collect();
    match (has.is_empty(), condition.on) {
        (false, Trait::Folder) => format!("it wants {condition}; the DAG's file lies in {}", has[0]),
        (false, on) => format!("it wants {condition}; the task has {on} {}", has.join(", ")),
        (true, Trait::Folder) => format!("it wants {condition}; the DAG's file is not known"),
        (true, on) => format!("it wants {condition}; the task has no {on}"),
    }
}

#[cfg(test)]
#[path = "rules/tests.rs"]
mod tests;
