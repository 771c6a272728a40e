//! `[[identity.rule]]` and `[identity.default]` of windlass.toml. Every fault names file, line and column.

mod aws;

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use windlass_core::identity::manifests::object_name;
use windlass_core::identity::pattern::Pattern;
use windlass_core::identity::rules::{Condition, DEFAULT, Place, Rule, Rules, Trait};
use windlass_core::identity::{Freedom, Freedoms, Identity, WorkerEnv, is_label_value, key_fault};
use windlass_core::pod::safe_label_value;

use super::fault::{Fault, nearest};
use super::own::{in_order, unknown};

/// Where they stand.
pub(super) const SECTION: &str = "identity";
const SEE: &str = "see docs/IDENTITY.md for what a rule can say";
/// Bytes of a rule's name: with `windlass-` before it, it names objects, which have 253.
const NAME_MAX: usize = 200;
const KEY_REMEDY: &str =
    "the API server would refuse every pod of this rule; write the key as Kubernetes takes it";
/// What a rule can hold beside `name` and `match`.
const KEYS: [&str; 10] = [
    "service-account",
    "role-arn",
    "token-audience",
    "security-groups",
    "namespace",
    "labels",
    "annotations",
    "node-selector",
    "worker-env",
    "may-override",
];
/// What `worker-env` can hold.
const WORKER_ENV_KEYS: [&str; 4] = ["region", "sts-regional-endpoints", "metadata", "session-name"];
/// Labels that the executor and Airflow's tools find pods by.
const OWN_LABELS: [&str; 9] = [
    "airflow-worker",
    "airflow_executor_done",
    "airflow_version",
    "dag_id",
    "kubernetes_executor",
    "map_index",
    "run_id",
    "task_id",
    "try_number",
];

/// Reads the two; None: neither is there, so there are no rules.
pub(super) fn read(path: &str, text: &str, section: &DeTable<'_>) -> (Option<Rules>, Vec<Fault>) {
    let mut reader = Reader { path, text, faults: Vec::new() };
    let mut rules = Vec::new();
    let mut otherwise = None;
    let mut first_rule = None;
    for (key, value) in in_order(section) {
        match (key.get_ref().as_ref(), value.get_ref()) {
            ("rule", DeValue::Array(items)) => {
                for item in items {
                    first_rule.get_or_insert(item.span().start);
                    rules.extend(reader.rule(item, &rules));
                }
            }
            ("rule", _) => reader.fault(key.span().start, "`rule` is no list", "write [[identity.rule]]"),
            ("default", DeValue::Table(table)) => {
                otherwise = reader.otherwise(table, key.span().start);
            }
            ("default", _) => {
                reader.fault(key.span().start, "`default` is no table", "write [identity.default]")
            }
            (name, _) => {
                let what = unknown("key in [identity]", name, nearest(name, ["rule", "default"]));
                reader.fault(key.span().start, what, SEE);
            }
        }
    }
    if let (Some(at), None) = (first_rule, &otherwise)
        && !section.contains_key("default")
    {
        let remedy = "add [identity.default] (empty: as the pod template says), or in it `deny = true`";
        reader.fault(at, "there are rules, and nothing says what other tasks get", remedy);
    }
    (otherwise.map(|otherwise| Rules::new(rules, otherwise)), reader.faults)
}

struct Reader<'a> {
    path: &'a str,
    text: &'a str,
    faults: Vec<Fault>,
}

type Item<'i> = Spanned<DeValue<'i>>;

impl Reader<'_> {
    fn place(&self, offset: usize) -> Place {
        let before = &self.text[..offset.min(self.text.len())];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Place { line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1 }
    }

    fn fault(&mut self, offset: usize, what: impl Into<String>, remedy: &str) {
        let place = format!("{}:{}", self.path, self.place(offset));
        self.faults.push(Fault::new(place, what, remedy));
    }

    fn rule(&mut self, item: &Item<'_>, before: &[Rule]) -> Option<Rule> {
        let at = item.span().start;
        let DeValue::Table(table) = item.get_ref() else {
            self.fault(at, "a rule is no table", "write [[identity.rule]] with its keys below");
            return None;
        };
        let mut rule = self.body(table, at, &["name", "match"]);
        match table.get("name") {
            None => self.fault(at, "a rule has no `name`", "give it one: errors and `explain` use it"),
            Some(name) => rule.name = self.name(name, before)?,
        }
        rule.gives.rule = Some(rule.name.clone());
        match table.get("match").map(|item| (item.span().start, item.get_ref())) {
            Some((at, DeValue::Table(conditions))) => rule.when = self.conditions(conditions, at),
            Some((at, _)) => self.fault(at, "`match` is no table", "write match = { dag = \"etl_*\" }"),
            None => {
                let remedy = "write match = { dag = \"etl_*\" }; what all other tasks get stands in [identity.default]";
                self.fault(at, format!("rule `{}` has no `match`", rule.name), remedy);
            }
        }
        Some(rule)
    }

    fn name(&mut self, item: &Item<'_>, before: &[Rule]) -> Option<String> {
        let name = self.text_of("name", item)?;
        let at = item.span().start;
        if name == DEFAULT {
            self.fault(at, format!("`{name}` cannot be a rule's name"), "choose another");
        }
        // Pods carry it as a label, and the objects that are rendered in their names.
        if name.len() > NAME_MAX || object_name(&name).is_empty() || !is_label_value(&safe_label_value(&name))
        {
            let remedy = "use letters and digits of ASCII, and begin with one";
            self.fault(at, format!("`{name}` cannot be a rule's name"), remedy);
        } else if let Some(other) = before.iter().find(|rule| object_name(&rule.name) == object_name(&name)) {
            let what = match other.name == name {
                true => format!("a rule in line {} is called `{name}` too", other.place.line),
                false => format!(
                    "rule `{name}` and rule `{}` in line {} would share the objects windlass-{}",
                    other.name,
                    other.place.line,
                    object_name(&name)
                ),
            };
            self.fault(at, what, "give each rule a name of its own");
        }
        Some(name)
    }

    /// The inner None: it denies.
    fn otherwise(&mut self, table: &DeTable<'_>, at: usize) -> Option<Option<Rule>> {
        let mut rule = Rule { name: DEFAULT.into(), ..self.body(table, at, &["deny"]) };
        rule.gives.rule = Some(DEFAULT.into());
        match table.get("deny").map(|item| (item.span().start, item.get_ref())) {
            None | Some((_, DeValue::Boolean(false))) => Some(Some(rule)),
            Some((_, DeValue::Boolean(true))) => {
                if table.len() > 1 {
                    self.fault(at, "the default denies, and gives something too", "keep one of the two");
                }
                Some(None)
            }
            Some((at, _)) => {
                self.fault(at, "`deny` has the wrong type", "write true or false without quotes");
                None
            }
        }
    }

    fn conditions(&mut self, table: &DeTable<'_>, at: usize) -> Vec<Condition> {
        let mut conditions = Vec::new();
        for (key, value) in in_order(table) {
            let Some(on) = Trait::ALL.into_iter().find(|on| on.as_str() == key.get_ref().as_ref()) else {
                let near = nearest(key.get_ref(), Trait::ALL.iter().map(|on| on.as_str()));
                self.fault(key.span().start, unknown("condition", key.get_ref(), near), SEE);
                continue;
            };
            let mut patterns = Vec::new();
            for (at, text) in self.texts(on.as_str(), value) {
                match Pattern::read(&text, on.of()) {
                    Ok(pattern) => patterns.push(pattern),
                    Err(why) => self.fault(at, format!("{on} `{text}` {why}"), SEE),
                }
            }
            if on == Trait::Folder && patterns.iter().any(|p| p.as_str().ends_with('/')) {
                self.fault(value.span().start, "a folder ends with `/`", "leave the last `/` out");
            }
            conditions.push(Condition { on, patterns });
        }
        if table.is_empty() {
            self.fault(at, "an empty `match` matches every task", "put that into [identity.default]");
        }
        conditions
    }

    /// What rule and default have in common.
    fn body(&mut self, table: &DeTable<'_>, at: usize, beside: &[&str]) -> Rule {
        // With a role, the SDKs are told to use it well and nothing else.
        let has_role = table.contains_key("role-arn");
        let worker_env =
            WorkerEnv { regional_sts: has_role, no_metadata: has_role, session_name: has_role, region: None };
        let mut gives = Identity { worker_env, ..Identity::default() };
        let mut may_override = Freedoms::new();
        for (key, value) in in_order(table) {
            let name = key.get_ref().as_ref();
            match name {
                "service-account" => gives.service_account = self.object_name(name, value),
                "namespace" => gives.namespace = self.object_name(name, value),
                "role-arn" => gives.role_arn = self.role(value),
                "token-audience" => gives.token_audience = self.audience(value, has_role),
                "security-groups" => gives.security_groups = self.groups(value),
                "labels" => gives.labels = self.map(name, value),
                "annotations" => gives.annotations = self.map(name, value),
                "node-selector" => gives.node_selector = self.map(name, value),
                "worker-env" => self.worker_env(value, &mut gives.worker_env),
                "may-override" => may_override = self.freedoms(value),
                _ if beside.contains(&name) => {}
                _ => {
                    let near = nearest(name, KEYS.into_iter().chain(beside.iter().copied()));
                    self.fault(key.span().start, unknown("key in an identity rule", name, near), SEE);
                }
            }
        }
        Rule { name: String::new(), place: self.place(at), when: Vec::new(), gives, may_override }
    }

    fn text_of(&mut self, key: &str, item: &Item<'_>) -> Option<String> {
        if let DeValue::String(text) = item.get_ref() {
            return Some(text.to_string());
        }
        self.fault(item.span().start, format!("`{key}` has the wrong type"), "write a text in quotes");
        None
    }

    /// A text, or a list of texts, each with its offset.
    fn texts(&mut self, key: &str, item: &Item<'_>) -> Vec<(usize, String)> {
        match item.get_ref() {
            DeValue::Array(items) if items.is_empty() => {
                self.fault(item.span().start, format!("`{key}` is an empty list"), "leave it out");
                Vec::new()
            }
            DeValue::Array(items) => {
                items.iter().filter_map(|one| Some((one.span().start, self.text_of(key, one)?))).collect()
            }
            _ => self.text_of(key, item).map(|text| (item.span().start, text)).into_iter().collect(),
        }
    }

    fn object_name(&mut self, key: &str, item: &Item<'_>) -> Option<String> {
        let name = self.text_of(key, item)?;
        let good = |c: char| {
            c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || (c == '.' && key != "namespace")
        };
        let max = if key == "namespace" { 63 } else { 253 };
        let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        if name.len() > max
            || !name.chars().all(good)
            || !edge(name.chars().next())
            || !edge(name.chars().last())
        {
            let what = format!("{key} `{name}` is no name of a Kubernetes object");
            self.fault(
                item.span().start,
                what,
                "use a-z, 0-9 and `-`, beginning and ending with a letter or digit",
            );
        }
        Some(name)
    }

    fn worker_env(&mut self, item: &Item<'_>, env: &mut WorkerEnv) {
        let DeValue::Table(table) = item.get_ref() else {
            let remedy = "write { region = \"eu-central-1\", session-name = false }";
            return self.fault(item.span().start, "`worker-env` is no table", remedy);
        };
        for (key, value) in in_order(table) {
            let (name, at) = (key.get_ref().as_ref(), value.span().start);
            match (name, value.get_ref()) {
                ("region", _) => env.region = self.region(value),
                ("sts-regional-endpoints", DeValue::Boolean(yes)) => env.regional_sts = *yes,
                ("metadata", DeValue::Boolean(yes)) => env.no_metadata = !*yes,
                ("session-name", DeValue::Boolean(yes)) => env.session_name = *yes,
                (name, _) if WORKER_ENV_KEYS.contains(&name) => {
                    self.fault(
                        at,
                        format!("`{name}` has the wrong type"),
                        "write true or false without quotes",
                    );
                }
                (name, _) => {
                    let near = nearest(name, WORKER_ENV_KEYS);
                    self.fault(key.span().start, unknown("key in worker-env", name, near), SEE);
                }
            }
        }
    }

    fn map(&mut self, key: &str, item: &Item<'_>) -> BTreeMap<String, String> {
        let DeValue::Table(table) = item.get_ref() else {
            let remedy = "write { name = \"value\" }";
            self.fault(item.span().start, format!("`{key}` is no table"), remedy);
            return BTreeMap::new();
        };
        let mut map = BTreeMap::new();
        for (name, value) in in_order(table) {
            let label = name.get_ref().to_string();
            if label.starts_with("windlass.dev/") || (key == "labels" && OWN_LABELS.contains(&label.as_str()))
            {
                let what = format!("`{label}` in {key} is the executor's own");
                self.fault(name.span().start, what, "choose another name");
            }
            if let Some(fault) = key_fault(&label) {
                self.fault(name.span().start, format!("`{label}` in {key} is no key: {fault}"), KEY_REMEDY);
            }
            let at = value.span().start;
            if let Some(value) = self.text_of(&label, value) {
                if key != "annotations" && !is_label_value(&value) {
                    let what = format!("`{value}` cannot be the value of `{label}` in {key}");
                    let remedy =
                        "use up to 63 letters, digits, `-`, `_` and `.`, with a letter or digit at both ends";
                    self.fault(at, what, remedy);
                }
                map.insert(label, value);
            }
        }
        map
    }

    fn freedoms(&mut self, item: &Item<'_>) -> Freedoms {
        let mut freedoms = Freedoms::new();
        if matches!(item.get_ref(), DeValue::Array(items) if items.is_empty()) {
            return freedoms;
        }
        for (at, word) in self.texts("may-override", item) {
            match Freedom::from_word(&word) {
                Some(freedom) => {
                    freedoms.insert(freedom);
                }
                None => {
                    let words: Vec<&str> = Freedom::ALL.iter().map(|freedom| freedom.as_str()).collect();
                    let near = nearest(&word, words.iter().copied());
                    let remedy = format!("the words are {}", words.join(", "));
                    self.fault(at, unknown("word in may-override", &word, near), &remedy);
                }
            }
        }
        freedoms
    }
}

#[cfg(test)]
#[path = "identity/tests.rs"]
mod tests;
