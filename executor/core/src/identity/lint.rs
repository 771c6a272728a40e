//! What is wrong with rules that are well formed: rules that never apply, names that nobody has, privilege that hangs on
//! what a DAG's author may choose.

use std::collections::BTreeSet;

use super::manifests::{Account, accounts};
use super::rules::{Condition, Facts, Place, Rule, Rules, Trait};
use crate::task::DagFacts;

/// A DAG that is active: its id, and what the database has of it.
pub type KnownDag = (String, DagFacts);

/// What there is in this Airflow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The active DAGs.
    pub dags: Vec<KnownDag>,
    /// `slot_pool.pool`. Airflow queues no task whose pool is not there.
    pub pools: Vec<String>,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// A rule does not do what it seems to.
    Error,
    /// Probably not meant.
    Warning,
    /// Good to know.
    Info,
}

/// One thing found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// Stable word.
    pub code: &'static str,
    /// Of which rule, where it is one's.
    pub rule: Option<(String, Place)>,
    /// What.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

/// Lints. `known`: None where no database was asked.
pub fn lint(rules: &Rules, known: Option<&Known>) -> Vec<Finding> {
    let mut found = Vec::new();
    for (at, rule) in rules.rules().iter().enumerate() {
        found.extend(shadowed(rule, &rules.rules()[..at]));
        found.extend(authors_choice(rule));
        if let Some(known) = known {
            found.extend(unknown(rule, known));
            found.extend(unused(rule, &known.dags));
        }
    }
    found.extend(two_roles(rules));
    if let Some(known) = known {
        found.extend(fall_to_default(rules, &known.dags));
    }
    found
}

/// A service account has one annotation. Where rules name no namespace it is the same one for all of them.
fn two_roles(rules: &Rules) -> Vec<Finding> {
    let of_two = |account: &Account| account.roles.len() > 1;
    let told = |account: Account| Finding {
        severity: Severity::Error,
        code: "two-roles",
        rule: None,
        what: format!(
            "service account `{}` is to have {} roles: {} (rules {})",
            account.name,
            account.roles.len(),
            account.roles.iter().cloned().collect::<Vec<_>>().join(", "),
            account.rules.join(", ")
        ),
        remedy: "give each role a service account of its own".into(),
    };
    accounts(rules, "").into_iter().filter(of_two).map(told).collect()
}

fn of(severity: Severity, code: &'static str, rule: &Rule, what: String, remedy: &str) -> Finding {
    let rule = Some((rule.name.clone(), rule.place));
    Finding { severity, code, rule, what, remedy: remedy.to_owned() }
}

/// An earlier rule takes all that this one could.
fn shadowed(rule: &Rule, earlier: &[Rule]) -> Option<Finding> {
    let over = earlier.iter().find(|other| covers(other, rule))?;
    let what = format!(
        "rule `{}` never applies: rule `{}` (line {}) stands before it and matches all that it matches",
        rule.name, over.name, over.place.line
    );
    Some(of(Severity::Error, "shadowed-rule", rule, what, "put the narrower rule first, or delete it"))
}

/// Whether every task of `inner` is one of `outer`, as far as the patterns tell.
fn covers(outer: &Rule, inner: &Rule) -> bool {
    let covered = |condition: &Condition| {
        let same = inner.when.iter().filter(|other| other.on == condition.on);
        same.into_iter().any(|other| {
            other.patterns.iter().all(|one| condition.patterns.iter().any(|pattern| pattern.covers(one)))
        })
    };
    outer.when.iter().all(covered)
}

/// A role, groups or a service account that any author can have by writing the right word into a DAG.
fn authors_choice(rule: &Rule) -> Option<Finding> {
    let privileged = rule.gives.demands() || rule.gives.service_account.is_some();
    let by_author = rule.when.iter().all(|condition| condition.on.is_authors_choice());
    if !privileged || !by_author || rule.when.is_empty() {
        return None;
    }
    let on: BTreeSet<&str> = rule.when.iter().map(|condition| condition.on.as_str()).collect();
    let on: Vec<&str> = on.into_iter().collect();
    let what = format!(
        "rule `{}` gives an identity by {} alone, which whoever writes a DAG chooses",
        rule.name,
        on.join(" and ")
    );
    let remedy = "add a condition on the folder of the DAG's file, and let only the team write there";
    Some(of(Severity::Warning, "authors-choice", rule, what, remedy))
}

/// Texts without a wildcard that nothing in this Airflow is called.
fn unknown(rule: &Rule, Known { dags, pools }: &Known) -> Vec<Finding> {
    let mut found = Vec::new();
    for condition in &rule.when {
        let there: Vec<&str> = match condition.on {
            Trait::Dag => dags.iter().map(|(dag_id, _)| dag_id.as_str()).collect(),
            Trait::Tag => dags.iter().flat_map(|(_, dag)| &dag.tags).map(String::as_str).collect(),
            Trait::Owner => dags.iter().flat_map(|(_, dag)| &dag.owners).map(String::as_str).collect(),
            Trait::Folder => {
                let folders = dags.iter().filter_map(|(_, dag)| dag.folder.as_deref());
                folders
                    .flat_map(|folder| Facts { folder: Some(folder), ..Facts::default() }.of(Trait::Folder))
                    .collect()
            }
            Trait::Pool => pools.iter().map(String::as_str).collect(),
            // Known only once a task with it has run.
            Trait::Task | Trait::Queue | Trait::Operator => continue,
        };
        for name in condition.patterns.iter().filter_map(|pattern| pattern.exact()) {
            if !there.contains(&name) {
                let what = format!("rule `{}` names {} `{name}`, and there is none", rule.name, condition.on);
                let remedy = match condition.on {
                    Trait::Pool => "check the spelling; `airflow pools list` shows those that there are",
                    _ => "check the spelling; a DAG appears once it has been parsed",
                };
                found.push(of(Severity::Warning, "unknown-name", rule, what, remedy));
            }
        }
    }
    found
}

/// A rule that no DAG of now can reach, whatever its tasks are like.
fn unused(rule: &Rule, known: &[KnownDag]) -> Option<Finding> {
    if known.is_empty() || known.iter().any(|dag| can_match(rule, dag)) {
        return None;
    }
    let what = format!("rule `{}` matches none of the {} DAGs", rule.name, known.len());
    Some(of(Severity::Info, "unused-rule", rule, what, "delete it if it is not for DAGs to come"))
}

/// Whether some task of the DAG may match: what hangs on the task is taken to hold.
fn can_match(rule: &Rule, dag: &KnownDag) -> bool {
    rule.when.iter().all(|condition| match condition.on {
        Trait::Task | Trait::Queue | Trait::Pool | Trait::Operator => true,
        on => facts(dag).of(on).iter().any(|text| condition.patterns.iter().any(|p| p.matches(text))),
    })
}

fn facts((dag_id, dag): &KnownDag) -> Facts<'_> {
    Facts { dag_id, tags: &dag.tags, owners: &dag.owners, folder: dag.folder.as_deref(), ..Facts::default() }
}

/// DAGs that no rule can match.
fn fall_to_default(rules: &Rules, known: &[KnownDag]) -> Option<Finding> {
    let fall = |dag: &&KnownDag| !rules.rules().iter().any(|rule| can_match(rule, dag));
    let fallen: Vec<&str> = known.iter().filter(fall).map(|(dag_id, _)| dag_id.as_str()).collect();
    if fallen.is_empty() {
        return None;
    }
    let (severity, get) = match rules.otherwise() {
        None => (Severity::Warning, "get no pod ([identity.default] deny = true)"),
        Some(_) => (Severity::Info, "get the default identity"),
    };
    let shown: Vec<String> = fallen.iter().take(20).map(|dag| format!("`{dag}`")).collect();
    let more = fallen.len().saturating_sub(shown.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let what = format!("{} of {} DAGs {get}: {}{more}", fallen.len(), known.len(), shown.join(", "));
    let remedy = "write a rule for them if that is not meant".to_owned();
    Some(Finding { severity, code: "falls-to-default", rule: None, what, remedy })
}

#[cfg(test)]
mod tests {
    use super::super::pattern::Pattern;
    use super::super::{Freedoms, Identity};
    use super::*;

    fn rule(name: &str, line: usize, when: &[(Trait, &str)], account: Option<&str>) -> Rule {
        Rule {
            name: name.into(),
            place: Place { line, column: 1 },
            when: when
                .iter()
                .map(|(on, text)| Condition {
                    on: *on,
                    patterns: vec![Pattern::read(text, on.of()).unwrap()],
                })
                .collect(),
            gives: Identity { service_account: account.map(str::to_owned), ..Identity::default() },
            may_override: Freedoms::new(),
        }
    }

    fn told(rules: Vec<Rule>, known: Option<&Known>) -> Vec<String> {
        let rules = Rules::new(rules, None);
        lint(&rules, known).into_iter().map(|f| format!("{}: {}", f.code, f.what)).collect()
    }

    #[test]
    fn a_rule_behind_a_wider_one_never_applies() {
        let wide = rule("wide", 2, &[(Trait::Dag, "fin_*")], None);
        let narrow = rule("narrow", 9, &[(Trait::Dag, "fin_a"), (Trait::Queue, "gpu")], None);
        assert_eq!(
            told(vec![wide.clone(), narrow.clone()], None),
            [
                "shadowed-rule: rule `narrow` never applies: rule `wide` (line 2) stands before it and matches all that it matches"
            ]
        );
        assert_eq!(told(vec![narrow, wide], None), [""; 0]);
    }

    #[test]
    fn privilege_by_an_authors_word_alone_is_warned_of() {
        let by_tag = rule("pii", 2, &[(Trait::Tag, "pii")], Some("pii-worker"));
        let by_folder = rule("fin", 5, &[(Trait::Tag, "x"), (Trait::Folder, "finance")], Some("fin"));
        assert_eq!(
            told(vec![by_tag, by_folder], None),
            ["authors-choice: rule `pii` gives an identity by tag alone, which whoever writes a DAG chooses"]
        );
    }

    #[test]
    fn names_and_dags_are_compared_with_what_there_is() {
        let dag = |dag_id: &str, folder: &str| {
            (dag_id.to_owned(), DagFacts { folder: Some(folder.into()), ..DagFacts::default() })
        };
        let known = Known {
            dags: vec![dag("a", "finance/x"), dag("b", ".")],
            pools: vec!["default_pool".into(), "gpu".into()],
        };
        let rules = vec![
            rule("there", 1, &[(Trait::Dag, "a"), (Trait::Pool, "gpu")], None),
            rule("fin", 2, &[(Trait::Folder, "finance")], None),
            rule("gone", 4, &[(Trait::Dag, "c"), (Trait::Pool, "p")], None),
        ];
        assert_eq!(
            told(rules, Some(&known)),
            [
                "unknown-name: rule `gone` names dag `c`, and there is none",
                "unknown-name: rule `gone` names pool `p`, and there is none",
                "unused-rule: rule `gone` matches none of the 2 DAGs",
                "falls-to-default: 1 of 2 DAGs get no pod ([identity.default] deny = true): `b`",
            ]
        );
    }
}
