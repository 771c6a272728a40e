use toml::de::DeTable;
use windlass_core::identity::irsa::shadowing_env;
use windlass_core::identity::rules::Facts;

use super::aws::is_role_arn;
use super::*;

fn read_text(text: &str) -> (Option<Rules>, Vec<String>) {
    let table = DeTable::parse(text).unwrap();
    let section = table.get_ref().get("identity").unwrap().get_ref().as_table().unwrap();
    let (rules, faults) = read("w.toml", text, section);
    (rules, faults.iter().map(|fault| format!("{}: {}", fault.place, fault.what)).collect())
}

const GOOD: &str = r#"
[[identity.rule]]
name = "finance"
match = { folder = "finance", tag = ["pii", "regex:^sox-"] }
service-account = "finance-worker"
role-arn = "arn:aws:iam::111122223333:role/team/finance"
security-groups = ["sg-0123456789abcdef0"]
namespace = "finance"
labels = { team = "finance" }
node-selector = { "kubernetes.io/arch" = "arm64" }
may-override = ["image-pull-secrets"]

[identity.default]
service-account = "airflow-worker"
"#;

#[test]
fn rules_are_read_with_their_places() {
    let (rules, faults) = read_text(GOOD);
    assert_eq!(faults, [""; 0]);
    let rules = rules.unwrap();
    let tags = ["sox-1".to_owned()];
    let task = Facts { folder: Some("finance/x"), tags: &tags, ..Facts::default() };
    let rule = rules.find(&task).unwrap();
    assert_eq!((rule.name.as_str(), rule.place.line), ("finance", 2));
    assert_eq!(rule.gives.role_arn.as_deref(), Some("arn:aws:iam::111122223333:role/team/finance"));
    assert_eq!(rule.may_override, Freedoms::from([Freedom::ImagePullSecrets]));
    let other = rules.find(&Facts::default()).unwrap();
    assert_eq!(other.gives.service_account.as_deref(), Some("airflow-worker"));
}

#[test]
fn every_fault_names_file_line_and_column() {
    let (_, faults) = read_text(
        r#"
[[identity.rule]]
name = "a"
match = { dagg = "x", folder = "f/", task = "regex:(" }
service-account = "Admin"
role-arn = "arn:aws:iam::1:role/x"
security-groups = ["sg-1"]
labels = { dag_id = "x" }
may-override = ["hosts"]
sevice-account = "x"

[[identity.rule]]
name = "a"
"#,
    );
    assert_eq!(
        faults,
        [
            "w.toml:5:19: service-account `Admin` is no name of a Kubernetes object",
            "w.toml:6:12: role-arn `arn:aws:iam::1:role/x` is no ARN of an IAM role",
            "w.toml:7:20: `sg-1` is no id of a security group",
            "w.toml:8:12: `dag_id` in labels is the executor's own",
            "w.toml:9:17: unknown word in may-override `hosts`; did you mean `host`?",
            "w.toml:10:1: unknown key in an identity rule `sevice-account`; did you mean `service-account`?",
            "w.toml:4:11: unknown condition `dagg`; did you mean `dag`?",
            "w.toml:4:32: a folder ends with `/`",
            "w.toml:4:45: task `regex:(` is no regular expression: unclosed group",
            "w.toml:13:8: a rule in line 2 is called `a` too",
            "w.toml:12:1: rule `a` has no `match`",
            "w.toml:2:1: there are rules, and nothing says what other tasks get",
        ]
    );
}

/// What the API server would refuse with every pod, or with the objects that `identity render` prints.
#[test]
fn names_keys_and_values_are_those_of_kubernetes() {
    let (_, faults) = read_text(
        r#"
[[identity.rule]]
name = "ü"
match = { dag = "x" }

[[identity.rule]]
name = "fin-x"
match = {}
labels = { "bad key" = "a", team = "ä" }
annotations = { "example.com/a b" = "any text", note = "any text" }
node-selector = { pool = "a b" }

[[identity.rule]]
name = "Fin_x"
match = { dag = "y" }

[identity.default]
"#,
    );
    let key =
        "its name is not 1 to 63 letters, digits, `-`, `_` and `.` that begin and end with a letter or digit";
    assert_eq!(
        faults,
        [
            "w.toml:3:8: `ü` cannot be a rule's name".to_owned(),
            format!("w.toml:9:12: `bad key` in labels is no key: {key}"),
            "w.toml:9:36: `ä` cannot be the value of `team` in labels".into(),
            format!("w.toml:10:17: `example.com/a b` in annotations is no key: {key}"),
            "w.toml:11:26: `a b` cannot be the value of `pool` in node-selector".into(),
            "w.toml:8:9: an empty `match` matches every task".into(),
            "w.toml:14:8: rule `Fin_x` and rule `fin-x` in line 6 would share the objects windlass-fin-x"
                .into(),
        ]
    );
}

#[test]
fn the_audience_of_a_roles_tokens_may_be_another() {
    let role = "role-arn = \"arn:aws:iam::111122223333:role/x\"\n";
    let (rules, faults) = read_text(&format!("[identity.default]\n{role}token-audience = \"corp\"\n"));
    assert_eq!(faults, [""; 0]);
    assert_eq!(rules.unwrap().find(&Facts::default()).unwrap().gives.audience(), "corp");
    let (_, faults) = read_text("[identity.default]\ntoken-audience = \"\"\n");
    assert_eq!(
        faults,
        [
            "w.toml:2:18: `token-audience` is of no role",
            "w.toml:2:18: an empty `token-audience` is the API server's own",
        ]
    );
}

#[test]
fn a_role_tells_the_sdks_to_use_it_unless_the_rule_says_otherwise() {
    let of = |text: &str| {
        let (rules, faults) = read_text(&format!("[identity.default]\n{text}"));
        assert_eq!(faults, [""; 0]);
        rules.unwrap().find(&Facts::default()).unwrap().gives.worker_env.clone()
    };
    let role = "role-arn = \"arn:aws:iam::111122223333:role/x\"\n";
    let all = WorkerEnv { region: None, regional_sts: true, no_metadata: true, session_name: true };
    assert_eq!(of("service-account = \"x\"\n"), WorkerEnv::default());
    assert_eq!(of(role), all);
    let region = "worker-env = { region = \"us-gov-west-1\", session-name = false }\n";
    let changed = WorkerEnv { region: Some("us-gov-west-1".into()), session_name: false, ..all.clone() };
    assert_eq!(of(&format!("{region}{role}")), changed);
    assert_eq!(
        of(&format!("{role}worker-env = {{ metadata = true }}")),
        WorkerEnv { no_metadata: false, ..all }
    );
    let alone = WorkerEnv { no_metadata: true, ..WorkerEnv::default() };
    assert_eq!(of("worker-env = { metadata = false }"), alone);
    let (_, faults) = read_text(
        "[identity.default]\nworker-env = { region = \"Frankfurt\", metadata = \"off\", session = true }\n",
    );
    assert_eq!(
        faults,
        [
            "w.toml:2:25: region `Frankfurt` is no name of an AWS region",
            "w.toml:2:49: `metadata` has the wrong type",
            "w.toml:2:56: unknown key in worker-env `session`; did you mean `session-name`?",
        ]
    );
}

#[test]
fn a_default_may_deny_and_then_gives_nothing() {
    let (rules, faults) = read_text("[identity.default]\ndeny = true\n");
    assert_eq!(faults, [""; 0]);
    assert!(rules.unwrap().find(&Facts::default()).is_none());
    let (_, faults) = read_text("[identity.default]\ndeny = true\nnamespace = \"x\"\n");
    assert_eq!(faults, ["w.toml:1:11: the default denies, and gives something too"]);
}

#[test]
fn arns_of_roles_are_told_from_others() {
    for good in ["arn:aws:iam::111122223333:role/x", "arn:aws-us-gov:iam::111122223333:role/a/b.c@d"] {
        assert!(is_role_arn(good), "{good}");
    }
    for bad in [
        "",
        "x",
        "arn:aws:iam::111122223333:user/x",
        "arn:aws:iam::111122223333:role/",
        "arn:aws:iam:eu:111122223333:role/x",
    ] {
        assert!(!is_role_arn(bad), "{bad}");
    }
}

#[test]
fn the_manual_names_every_word() {
    let manual = include_str!("../../../../../docs/IDENTITY.md");
    let words = KEYS
        .into_iter()
        .chain(WORKER_ENV_KEYS)
        .chain(Trait::ALL.iter().map(|on| on.as_str()))
        .chain(Freedom::ALL.iter().map(|freedom| freedom.as_str()))
        .chain(shadowing_env().iter().copied());
    for word in words {
        assert!(manual.contains(&format!("`{word}`")), "docs/IDENTITY.md does not name `{word}`");
    }
}
