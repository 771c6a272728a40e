//! The expressions of the policies (CEL). Each fault of a pod is a text as the guard tells it; a list without texts is what
//! is asked for.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::super::irsa::{DEFAULT_AUDIENCE, POD_IDENTITY_AUDIENCE};
use super::super::surface::READ_BY_CONTROLLERS;
use super::super::{Freedom, LABEL_RULE, admitted};
use super::faults::{
    free_or, kept, kept_one, may, of_aws_env, of_controllers, of_host, of_privileges, of_tokens,
};
use super::row::Row;

/// Characters of one expression with rules: CEL reads 100,000 at most.
const TABLE_MAX: usize = 60_000;
/// Characters of the faults in a message: the API server drops messages of more than 5 KiB.
const TOLD_MAX: usize = 600;

/// A text as a literal. JSON's escapes are CEL's too.
pub(super) fn text(text: &str) -> String {
    Value::from(text).to_string()
}

pub(super) fn list(texts: &[impl AsRef<str>]) -> String {
    let texts: Vec<String> = texts.iter().map(|one| text(one.as_ref())).collect();
    format!("[{}]", texts.join(", "))
}

/// Named expressions, each evaluated when first asked for.
struct Variables(Vec<Value>);

impl Variables {
    fn add(&mut self, name: &str, expression: impl Into<String>) {
        self.0.push(json!({ "name": name, "expression": expression.into() }));
    }
}

/// What the faults of a pod are looked for in, by what the rule would have to allow; None: nothing can allow it.
const FAULTS: [(&str, Option<Freedom>); 10] = [
    ("ofAccount", Some(Freedom::ServiceAccount)),
    ("ofNamespace", Some(Freedom::Namespace)),
    ("ofLabels", Some(Freedom::Labels)),
    ("ofHost", Some(Freedom::Host)),
    ("ofPrivileges", Some(Freedom::Privileged)),
    ("ofTokens", Some(Freedom::Tokens)),
    ("ofPullSecrets", Some(Freedom::ImagePullSecrets)),
    ("ofAwsEnv", Some(Freedom::AwsEnv)),
    ("ofNodes", Some(Freedom::NodeSelector)),
    ("ofAdmission", None),
];

/// For [`validations`]. `rows`: by the label that names the rule.
pub(super) fn variables(rows: &[(String, Row)]) -> Vec<Value> {
    let mut all = Variables(Vec::new());
    table(rows, &mut all);
    of_pod(&mut all);
    all.add(
        "ofAccount",
        kept_one("account", "spec.serviceAccountName", "object.spec.?serviceAccountName.orValue('default')"),
    );
    all.add("ofNamespace", kept_one("namespace", "metadata.namespace", "request.namespace"));
    let labels = [
        kept("labels", "metadata.labels", "variables.labels"),
        kept("annotations", "metadata.annotations", "variables.annotations"),
        free_or(
            Freedom::Labels,
            &may(&[of_controllers("labels"), of_controllers("annotations")].join(" + ")),
        ),
    ];
    all.add("ofLabels", labels.join("\n+ "));
    all.add("ofHost", free_or(Freedom::Host, &of_host()));
    all.add("ofPrivileges", free_or(Freedom::Privileged, &of_privileges()));
    let automount = kept_one("automount", "spec.automountServiceAccountToken", "variables.automount");
    all.add("ofTokens", format!("{automount}\n+ {}", free_or(Freedom::Tokens, &of_tokens())));
    let secrets = "object.spec.?imagePullSecrets.orValue([]).map(s, 'spec.imagePullSecrets is `' + s.?name.orValue('') + '`')";
    all.add("ofPullSecrets", free_or(Freedom::ImagePullSecrets, &may(secrets)));
    all.add("ofAwsEnv", free_or(Freedom::AwsEnv, &of_aws_env()));
    all.add("ofNodes", kept("nodes", "spec.nodeSelector", "object.spec.?nodeSelector.orValue({})"));
    let gate = "variables.row[?'gate'].orValue([])\
                .filter(g, !object.spec.?schedulingGates.orValue([]).exists(x, x.name == g))\
                .map(g, 'spec.schedulingGates is without `' + g + '`')";
    all.add(
        "ofAdmission",
        format!("{gate}\n+ {}", kept("demands", "metadata.annotations", "variables.annotations")),
    );
    let names: Vec<String> = FAULTS.iter().map(|(name, _)| format!("variables.{name}")).collect();
    all.add("faults", names.join(" + "));
    let words: Vec<String> = FAULTS
        .iter()
        .filter_map(|(name, freedom)| {
            Some(format!("(variables.{name}.size() > 0 ? ['\"{}\"'] : [])", (*freedom)?))
        })
        .collect();
    all.add("words", words.join("\n+ "));
    all.add("changed", changed());
    all.0
}

/// The rules, and the row of the pod's. What all rows allow stands once.
fn table(rows: &[(String, Row)], all: &mut Variables) {
    let label = text(LABEL_RULE);
    all.add(
        "rule",
        format!(
            "(request.operation == 'UPDATE' ? oldObject : object).metadata.?labels[?{label}].orValue('')"
        ),
    );
    let allowed = |row: &Row| -> BTreeSet<String> { row.get("may").into_iter().flatten().cloned().collect() };
    let common = rows.iter().map(|(_, row)| allowed(row)).reduce(|a, b| &a & &b).unwrap_or_default();
    let mut tables = vec![String::new()];
    for (label, row) in rows {
        let mut row = row.clone();
        if let Some(may) = row.get_mut("may") {
            may.retain(|item| !common.contains(item));
        }
        row.retain(|_, texts| !texts.is_empty());
        let entry = format!("{}: {},\n", text(label), json!(row));
        let size = |table: &String| table.chars().count();
        if tables.last().is_some_and(|table| size(table) > 0 && size(table) + size(&entry) > TABLE_MAX) {
            tables.push(String::new());
        }
        if let Some(table) = tables.last_mut() {
            table.push_str(&entry);
        }
    }
    let mut row = String::new();
    for (at, table) in tables.iter().enumerate() {
        all.add(&format!("rules{at}"), format!("{{\n{table}}}"));
        row.push_str(&format!(
            "variables.rule in variables.rules{at} ? variables.rules{at}[variables.rule] :\n"
        ));
    }
    all.add("row", row + "{}");
    all.add("free", "variables.row[?'free'].orValue([])");
    let common = list(&Vec::from_iter(common));
    all.add("may", format!("{common}\n+ variables.row[?'may'].orValue([])"));
}

/// What several expressions look at.
fn of_pod(all: &mut Variables) {
    all.add("labels", "object.metadata.?labels.orValue({})");
    all.add("annotations", "object.metadata.?annotations.orValue({})");
    all.add("volumes", "object.spec.?volumes.orValue([])");
    let automount = "has(object.spec.automountServiceAccountToken) ? string(object.spec.automountServiceAccountToken) : ''";
    all.add("automount", automount);
    all.add(
        "nodeVolumes",
        "variables.volumes.filter(v, has(v.hostPath) || has(v.flexVolume)).map(v, v.name)",
    );
    // Of the pod's own service account, as the API server, IRSA and EKS Pod Identity put them there.
    let audience = "s.serviceAccountToken.?audience.orValue('')";
    let only = |volume: &str, of: &str| {
        format!(
            "(v.name == {} && v.?projected.?sources.orValue([]).all(s, has(s.serviceAccountToken) && {audience} == {of}))",
            text(volume)
        )
    };
    all.add(
        "injected",
        format!(
            "variables.volumes.filter(v, has(v.projected) && (\n  (v.name.startsWith('kube-api-access-') && \
             variables.automount != 'false' && v.?projected.?sources.orValue([]).all(s, !has(s.secret) && \
             (!has(s.serviceAccountToken) || {audience} == '')))\n  || {}\n  || {}\n)).map(v, v.name)",
            only(
                "aws-iam-token",
                &format!("variables.row[?'audience'].orValue([{}])[0]", text(DEFAULT_AUDIENCE))
            ),
            only("eks-pod-identity-token", &text(POD_IDENTITY_AUDIENCE)),
        ),
    );
    all.add(
        "tokenVolumes",
        "variables.volumes.filter(v, !(v.name in variables.injected) && \
         v.?projected.?sources.orValue([]).exists(s, has(s.serviceAccountToken))).map(v, v.name)",
    );
}

/// What an update changed of a pod by which it could get another identity. The API server lets nothing else of it change
/// that counts: images, labels and annotations can.
fn changed() -> String {
    let own = list(&[
        LABEL_RULE,
        admitted::ANNOTATION_ROLE,
        admitted::ANNOTATION_AUDIENCE,
        admitted::ANNOTATION_GROUPS,
    ]);
    let prefixes = list(&READ_BY_CONTROLLERS);
    let of_map = |map: &str| {
        let (new, old) = (format!("variables.{map}"), format!("oldObject.metadata.?{map}.orValue({{}})"));
        format!(
            "({new}.map(k, k) + {old}.map(k, k).filter(k, !(k in {new})))\
             .filter(k, (k in {own} || {prefixes}.exists(p, k.startsWith(p)) || \
             variables.row[?'{map}'].orValue([]).exists(w, w.startsWith(k + '='))) && \
             {new}[?k].orValue('') != {old}[?k].orValue('')).map(k, 'metadata.{map}[' + k + ']')"
        )
    };
    let of_list = |field: &str| {
        format!(
            "object.spec.?{field}.orValue([]).filter(c, !oldObject.spec.?{field}.orValue([])\
             .exists(o, o.name == c.name && o.?image.orValue('') == c.?image.orValue('')))\
             .map(c, 'spec.{field}[' + c.name + '].image')"
        )
    };
    let all = [of_map("labels"), of_map("annotations"), of_list("containers"), of_list("initContainers")];
    format!("request.operation != 'UPDATE' ? [] :\n{}", all.join("\n+ "))
}

/// What has to hold for a pod of the daemon's.
pub(super) fn validations() -> Vec<Value> {
    let told = "variables.faults.join('; ').replace('\\n', ' ')";
    let unknown = format!(
        "'label {LABEL_RULE} is `' + variables.rule + '`, which is no identity rule of this policy; if the rule is new, \
         apply what `windlass identity render` prints'"
    );
    let denied = format!(
        "'identity rule `' + variables.row['name'][0] + '` does not let a pod have this: ' + \
         ({told}.size() > {TOLD_MAX} ? {told}.substring(0, {TOLD_MAX}) + ' ...' : {told}) + \
         (variables.words.size() == 0 ? '' : '; take it out, or have the platform add ' + \
         variables.words.join(', ') + \" to the rule's may-override\")"
    );
    vec![
        validation(
            "request.operation != 'CREATE' || variables.row.size() > 0",
            "its label names no identity rule of this policy",
            &unknown,
        ),
        validation(
            "request.operation != 'CREATE' || variables.row.size() == 0 || variables.faults.size() == 0",
            "its identity rule does not let the pod be as it is",
            &denied,
        ),
        validation(
            "variables.changed.size() == 0",
            "nothing may change of a pod by which it could get another identity",
            "'nothing may change of a pod by which it could get another identity: ' + variables.changed.join(', ')",
        ),
        validation(
            "request.?subResource.orValue('') != 'ephemeralcontainers'",
            "Windlass adds no ephemeral containers",
            "'Windlass adds no ephemeral containers'",
        ),
    ]
}

/// For [`validations_of_others`]. `accounts`: as `namespace/name`.
pub(super) fn variables_of_others(accounts: &[String]) -> Vec<Value> {
    let mut all = Variables(Vec::new());
    let label = text(LABEL_RULE);
    all.add("accounts", list(accounts).replace(", ", ",\n "));
    all.add("account", "request.namespace + '/' + object.spec.?serviceAccountName.orValue('default')");
    all.add("rule", format!("object.metadata.?labels[?{label}].orValue('')"));
    all.add(
        "ruleBefore",
        format!("request.operation == 'UPDATE' ? oldObject.metadata.?labels[?{label}].orValue('') : ''"),
    );
    all.0
}

/// What has to hold for pods of others than `daemon`.
pub(super) fn validations_of_others(daemon: &str) -> Vec<Value> {
    vec![
        validation(
            "request.operation != 'CREATE' || !(variables.account in variables.accounts)",
            "an identity rule gives its service account: only Windlass creates pods with it",
            &format!(
                "'spec.serviceAccountName is `' + object.spec.?serviceAccountName.orValue('default') + '`, which an identity rule gives: \
                 only {daemon} creates pods with it'"
            ),
        ),
        validation(
            "variables.rule == variables.ruleBefore",
            "only Windlass gives and takes the label of an identity rule",
            &format!("'label {LABEL_RULE} is `' + variables.rule + '`, which only {daemon} gives and takes'"),
        ),
    ]
}

/// `message` stands in where the expression's cannot be made.
fn validation(expression: &str, message: &str, message_expression: &str) -> Value {
    json!({
        "expression": expression,
        "message": message,
        "messageExpression": message_expression,
        "reason": "Forbidden",
    })
}
