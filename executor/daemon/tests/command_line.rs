//! The binary: what it prints, with which exit code, and that it needs no database where none is needed.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn windlass(home: &Path, env: &[(&str, &str)], arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_windlass"));
    command.env_clear().env("AIRFLOW_HOME", home).env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
    command.envs(env.iter().copied()).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures")
}

const TASK: [&str; 8] = ["render", "pod", "--dag-id", "d", "--task-id", "t", "--run-id", "r"];

fn render<'a>(more: &[&'a str]) -> Vec<&'a str> {
    TASK.iter().chain(more).copied().collect()
}

/// The cases that Airflow's own executor made, through the binary, without a database.
#[test]
fn golden_pods_come_out_of_the_command_line() {
    let home = tempfile::tempdir().unwrap();
    let mut files: Vec<_> =
        std::fs::read_dir(fixtures().join("pods")).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 101, "only {} cases", files.len());
    let mut by_flags = 0;
    for file in files {
        let case: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let made = render_document(home.path(), &case);
        assert_eq!(made["kind"], case["expected"]["kind"], "{}: {made}", file.display());
        if made["kind"] != "pod" {
            assert!(made["reason"].as_str().is_some_and(|reason| reason.len() > 20), "{made}");
            continue;
        }
        assert_eq!(as_compared(made["pod"].clone()), case["expected"]["pod"], "{}", file.display());
        // By flags, a template of the task's own would have to lie at its absolute path.
        if case["task_pod_template_yaml"].is_null() {
            let made = render_case(home.path(), &case);
            let made = made.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            assert_eq!(made, case["expected"]["pod"], "{}", file.display());
            by_flags += 1;
        }
    }
    assert!(by_flags >= 80, "only {by_flags} cases by flags");
}

/// All of the case in one document, as a further case would be tried.
fn render_document(home: &Path, case: &Value) -> Value {
    let mut document = case.clone();
    document["airflow_version"] = case["versions"]["airflow"].clone();
    let path = home.join("case.json");
    std::fs::write(&path, document.to_string()).unwrap();
    let output = windlass(home, &[], &["render", "pod", "--output=json", "--input", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn render_case(home: &Path, case: &Value) -> Result<Value, String> {
    let (input, key) = (&case["input"], &case["input"]["key"]);
    let template = home.join("template.yaml");
    match case["pod_template_yaml"].as_str() {
        Some(yaml) => std::fs::write(&template, yaml).unwrap(),
        None => drop(std::fs::remove_file(&template)),
    }
    let pickle = home.join("config.hex");
    std::fs::write(&pickle, input["executor_config_pickle_hex"].as_str().unwrap_or("80057d942e")).unwrap();
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut arguments: Vec<String> = vec!["render".into(), "pod".into(), "--output=json".into()];
    for (flag, value) in [
        ("dag-id", &key["dag_id"]),
        ("task-id", &key["task_id"]),
        ("run-id", &key["run_id"]),
        ("map-index", &key["map_index"]),
        ("try-number", &key["try_number"]),
        ("queue", &input["queue"]),
        ("scheduler-job-id", &input["scheduler_job_id"]),
        ("airflow-version", &case["versions"]["airflow"]),
    ] {
        arguments.push(format!("--{flag}={}", plain(value)));
    }
    arguments.push(format!("--executor-config-pickle={}", pickle.display()));
    let command: Vec<String> = serde_json::from_value(input["command"].clone()).unwrap();
    if let Some(at) = command.iter().position(|word| word == "--subdir") {
        arguments.push(format!("--subdir={}", command[at + 1]));
    }
    let config = &case["config"]["kubernetes_executor"];
    let variable = |name: &str| format!("AIRFLOW__KUBERNETES_EXECUTOR__{name}");
    let mut env = vec![
        (variable("NAMESPACE"), plain(&config["namespace"])),
        (variable("POD_TEMPLATE_FILE"), template.display().to_string()),
    ];
    if let Some((repository, tag)) = config["kube_image"].as_str().and_then(|image| image.rsplit_once(':')) {
        env.push((variable("WORKER_CONTAINER_REPOSITORY"), repository.to_owned()));
        env.push((variable("WORKER_CONTAINER_TAG"), tag.to_owned()));
    }
    let env: Vec<_> = env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let output = windlass(home, &env, &arguments);
    let pod = serde_json::from_slice(&output.stdout).map_err(|_| text(&output.stderr))?;
    Ok(without_ours(pod))
}

/// The difference that `--input` does not show and the daemon's pod has, taken back: the name that pod_override asks for.
fn without_ours(mut pod: Value) -> Value {
    if let Some(wanted) = pod["metadata"]["annotations"].get("windlass.dev/pod-override-name").cloned() {
        assert_ne!(pod["metadata"]["name"], wanted, "two tries would share it");
        pod["metadata"]["name"] = wanted;
    }
    as_compared(pod)
}

/// What anyone takes off who compares a case: labels and annotations of Windlass, and the end of a name.
fn as_compared(mut pod: Value) -> Value {
    let metadata = &mut pod["metadata"];
    let annotations = metadata["annotations"].as_object_mut().unwrap();
    annotations.remove("windlass.dev/queued-at").unwrap();
    annotations.remove("windlass.dev/pod-override-name");
    metadata["labels"].as_object_mut().unwrap().retain(|name, _| !name.starts_with("windlass.dev/"));
    let name = metadata["name"].as_str().unwrap();
    let is_suffix =
        |end: &str| end.len() == 8 && end.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if let Some((visible, _)) = name.rsplit_once('-').filter(|(_, end)| is_suffix(end)) {
        metadata["name"] = format!("{visible}-xxxxxxxx").into();
    }
    pod
}

#[test]
fn yaml_and_json_are_the_same_pod() {
    let home = tempfile::tempdir().unwrap();
    let env = [
        ("AIRFLOW__KUBERNETES_EXECUTOR__WORKER_CONTAINER_REPOSITORY", "i"),
        ("AIRFLOW__KUBERNETES_EXECUTOR__WORKER_CONTAINER_TAG", "1"),
    ];
    let json = windlass(home.path(), &env, &render(&["--from-flags", "--map-index", "3", "-o", "json"]));
    let yaml = windlass(home.path(), &env, &render(&["--from-flags", "--map-index", "3"]));
    assert_eq!((json.status.code(), yaml.status.code()), (Some(0), Some(0)), "{}", text(&json.stderr));
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(serde_saphyr::from_str::<Value>(&text(&yaml.stdout)).unwrap(), json);
    assert_eq!(json["metadata"]["labels"]["map_index"], "3");
    assert_eq!(json["spec"]["containers"][0]["args"][8], "3");
}

#[test]
fn what_would_not_be_created_is_shown_with_the_reason() {
    let home = tempfile::tempdir().unwrap();
    let output = windlass(home.path(), &[], &render(&["--from-flags", "-o", "json"]));
    assert_eq!(output.status.code(), Some(1));
    assert!(serde_json::from_slice::<Value>(&output.stdout).is_ok());
    insta::assert_snapshot!(text(&output.stderr), @"error: this pod would not be created for d.t r: TemplateInvalid: container `base` of the pod has no image; set it in the pod template, or set [kubernetes_executor] worker_container_repository and worker_container_tag, or spec.containers in pod_override");

    std::fs::write(home.path().join("bad.pickle"), b"\x80\x05cposix\nsystem\n.").unwrap();
    let bad = home.path().join("bad.pickle").display().to_string();
    let output = windlass(home.path(), &[], &render(&["--executor-config-pickle", &bad]));
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b""[..]));
    assert!(text(&output.stderr).starts_with("error: no pod for d.t r: ExecutorConfigInvalid: "));
}

#[test]
fn exit_codes_tell_the_kind_of_failure() {
    let home = tempfile::tempdir().unwrap();
    let code = |env: &[(&str, &str)], arguments: &[&str]| {
        let output = windlass(home.path(), env, arguments);
        (output.status.code(), text(&output.stderr))
    };
    assert_eq!(code(&[], &["config"]).0, Some(0));
    assert_eq!(code(&[], &["no-such-command"]).0, Some(2));
    assert_eq!(code(&[], &["render", "pod", "--dag-id", "d"]).0, Some(2));
    let (status, error) = code(&[], &["config", "--set", "create.concurency=1"]);
    assert_eq!(status, Some(3));
    insta::assert_snapshot!(error, @"
    error: the configuration has a fault; nothing was started
      flag --set create.concurency: unknown setting `create.concurency`; did you mean `create.concurrency`?
        remedy: see docs/CONFIGURATION.md, or `windlass config` for all keys
    ");
    // Airflow's default is SQLite: the remedy names the setting.
    let (status, error) = code(&[], &["status"]);
    assert_eq!(status, Some(3));
    assert!(
        error.contains("[database] sql_alchemy_conn (default): Windlass does not support `sqlite://`"),
        "{error}"
    );
    // Nobody listens on port 1.
    let nobody = [("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "postgresql://u:hunter2@127.0.0.1:1/af")];
    let (status, error) = code(&nobody, &["status"]);
    assert_eq!(status, Some(4));
    assert!(error.starts_with("error: cannot connect to PostgreSQL at 127.0.0.1:1/af: "), "{error}");
    assert!(error.contains("\n  hint: check host, port") && !error.contains("hunter2"), "{error}");
}

/// It goes on after each failure, and names it; nobody listens on port 1.
#[test]
fn the_doctor_goes_on_after_failures_and_says_what_it_could_not_see() {
    let home = tempfile::tempdir().unwrap();
    let env = [
        ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "postgresql://u:hunter2@127.0.0.1:1/af"),
        ("AIRFLOW__KUBERNETES_EXECUTOR__IN_CLUSTER", "True"),
    ];
    let output = windlass(home.path(), &env, &["doctor", "--output", "json", "--set", "create.concurency=1"]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(1), String::new()));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let codes: Vec<_> = document["findings"].as_array().unwrap().iter().map(|f| &f["code"]).collect();
    assert_eq!(codes, ["configuration", "database-unreachable", "api-server", "template-invalid"]);
    let states: Vec<_> = document["checks"].as_array().unwrap().iter().map(|c| &c["state"]).collect();
    assert_eq!(states, ["error", "error", "skipped", "skipped", "error", "error", "skipped"]);
    assert!(!text(&output.stdout).contains("hunter2"));
}

#[test]
fn the_doctor_warns_of_a_template_that_is_not_there() {
    let home = tempfile::tempdir().unwrap();
    let template = home.path().join("none.yaml").display().to_string();
    let env = [
        ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "postgresql://u@127.0.0.1:1/af"),
        ("AIRFLOW__KUBERNETES_EXECUTOR__POD_TEMPLATE_FILE", template.as_str()),
        ("AIRFLOW__KUBERNETES_EXECUTOR__WORKER_CONTAINER_REPOSITORY", "i"),
        ("AIRFLOW__KUBERNETES_EXECUTOR__WORKER_CONTAINER_TAG", "1"),
    ];
    let output = windlass(home.path(), &env, &["doctor", "--output", "json"]);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let found =
        document["findings"].as_array().unwrap().iter().find(|f| f["code"] == "template-missing").unwrap();
    assert_eq!((&found["object"], &found["severity"]), (&Value::from(template), &"warning".into()));
}

#[test]
fn a_repair_that_cannot_ask_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let output = windlass(home.path(), &[], &["doctor", "--repair"]);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b""[..]));
    insta::assert_snapshot!(text(&output.stderr), @r"
    error: --repair asks before it writes, and standard input is no terminal; nothing was done
      hint: look at what `windlass doctor` would repair, then add --yes
    ");
    let output = windlass(home.path(), &[], &["doctor", "--repair", "--output", "json"]);
    assert!(text(&output.stderr).starts_with("error: --repair with --output json cannot ask\n"));
    assert_eq!(windlass(home.path(), &[], &["doctor", "--yes"]).status.code(), Some(2));
}

#[test]
fn explain_takes_three_ids_or_one_word() {
    let home = tempfile::tempdir().unwrap();
    assert_eq!(windlass(home.path(), &[], &["explain", "etl", "load"]).status.code(), Some(2));
    let env = [("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "postgresql://u@127.0.0.1:1/af")];
    let output = windlass(home.path(), &env, &["explain", "etl.load"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).starts_with("error: `etl.load` is no launch id and no TaskInstanceKey(...)")
    );
    assert_eq!(windlass(home.path(), &env, &["explain", "etl", "load", "r1"]).status.code(), Some(4));
}

/// What a wrong connection string is told with: the setting, where it came from, what is wrong, the remedy; never the
/// password. It does not mend itself, so the daemon ends.
#[test]
fn a_connection_string_that_is_none_ends_the_daemon_with_place_and_remedy() {
    let home = tempfile::tempdir().unwrap();
    let conn = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN";
    for (url, what, remedy) in [
        ("", "the connection string is empty", "postgresql+psycopg2://USER:PASSWORD@HOST:5432/DATABASE"),
        ("u:hunter2@db/af", "does not begin with a scheme", "postgresql+psycopg2://USER:PASSWORD@HOST"),
        (
            "mysql+pymysql://u:hunter2@db/af",
            "does not support `mysql+pymysql://`",
            "use postgresql+psycopg2://",
        ),
        (
            "postgresql://u:hunter2@x@db/af",
            "has more than one `@`",
            "`@` or `/` in the password is written %3A, %40",
        ),
        ("postgresql://u:hunter2@db:54321x/af", "port is `54321x`, which is no TCP port", "%3A, %40, %2F"),
        (
            "postgresql://u:hunter2@db/af?sslmode=on",
            "option sslmode is `on`; possible: disable",
            "correct it",
        ),
        ("postgresql://u:hunter2@db/af?service=x", "option `service` is not supported", "leave it out of"),
        ("postgresql://u:hunter2@a,b/af", "names several hosts (`a,b`)", "name the primary's address"),
    ] {
        for format in ["text", "json"] {
            let env = [(conn, url), ("WINDLASS__LOG__FORMAT", format)];
            let output = windlass(home.path(), &env, &["run"]);
            let told = text(&output.stderr);
            assert_eq!(output.status.code(), Some(3), "{url}: {told}");
            let place = format!("[database] sql_alchemy_conn (environment {conn}): ");
            for words in [place.as_str(), what, "remedy: ", remedy] {
                assert!(told.contains(words), "{url}: `{words}` is not in {told}");
            }
            assert!(!told.contains("hunter2"), "{told}");
            if format == "json" {
                let line: Value = serde_json::from_str(told.trim_end()).unwrap();
                assert_eq!(line["level"], "ERROR");
            }
        }
    }
}

#[test]
fn config_shows_values_notes_and_sources_as_json() {
    let home = tempfile::tempdir().unwrap();
    let env = [("AIRFLOW__KUBERNETES_EXECUTOR__NAMESPACE", "etl")];
    let output = windlass(home.path(), &env, &["config", "--output", "json"]);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let values = document["values"].as_array().unwrap();
    let namespace = values.iter().find(|v| v["name"] == "[kubernetes_executor] namespace").unwrap();
    assert_eq!(namespace["value"], "etl");
    assert_eq!(namespace["source"], "environment AIRFLOW__KUBERNETES_EXECUTOR__NAMESPACE");
    assert_eq!(namespace["default"], "default");
    assert_eq!(document["faults"], Value::Array(vec![]));
}

#[test]
fn completions_are_printed_for_each_shell() {
    let home = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let output = windlass(home.path(), &[], &["completion", shell]);
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output.stdout).contains("render"), "{shell}");
    }
}

/// The question of an operator whose pod has the wrong groups; the cases are the real controller's.
#[test]
fn identity_groups_answers_as_the_controller_for_a_document_and_for_manifests() {
    let home = tempfile::tempdir().unwrap();
    let cases = std::fs::read_to_string(fixtures().join("eks/sgp_match.json")).unwrap();
    let cases: Value = serde_json::from_str(&cases).unwrap();
    let cases = cases["cases"].as_array().unwrap();
    let one = |wanted: &dyn Fn(&Value) -> bool| cases.iter().find(|case| wanted(&case["expected"])).unwrap();
    let matching = one(&|expected| expected["matched"] == true);
    let refused = one(&|expected| expected["error"].is_string());
    let unmatched = one(&|expected| expected["matched"] == false && expected["error"].is_null());
    let ask = |arguments: &[&str]| windlass(home.path(), &[], &[&["identity", "groups"], arguments].concat());
    let input = home.path().join("input.json");
    let input = input.to_str().unwrap();
    for case in [matching, refused, unmatched] {
        std::fs::write(input, case["input"].to_string()).unwrap();
        let output = ask(&["--input", input, "--output", "json"]);
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        for field in ["matched", "groups", "error"] {
            assert_eq!(answer[field], case["expected"][field], "{}: {answer}", case["id"]);
        }
        assert!(answer["policies"].is_array(), "{answer}");
    }
    let mut objects = vec![matching["input"]["pod"].clone()];
    for part in ["serviceAccounts", "policies"] {
        objects.extend(matching["input"][part].as_array().unwrap().iter().cloned());
    }
    let manifests = home.path().join("manifests.yaml");
    let documents: Vec<String> = objects.iter().map(Value::to_string).collect(); // JSON is YAML
    std::fs::write(&manifests, documents.join("\n---\n")).unwrap();
    let output = ask(&["-f", manifests.to_str().unwrap()]);
    let said = text(&output.stdout);
    for group in matching["expected"]["groups"].as_array().unwrap() {
        assert!(said.contains(group.as_str().unwrap()), "{said}");
    }
    std::fs::write(input, "{\"pod\": 5}").unwrap();
    let wrong = ask(&["--input", input]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(text(&wrong.stderr).contains("pod"), "{}", text(&wrong.stderr));
}

#[test]
fn identity_check_and_render_need_neither_database_nor_cluster() {
    let home = tempfile::tempdir().unwrap();
    let rules = home.path().join("windlass.toml");
    let role = "arn:aws:iam::111122223333:role/etl";
    std::fs::write(
        &rules,
        format!(
            "[[identity.rule]]\nname = \"etl\"\nmatch = {{ tag = \"etl\" }}\nservice-account = \"etl\"\nrole-arn = \
             \"{role}\"\n\n[[identity.rule]]\nname = \"shadowed\"\nmatch = {{ tag = \"etl\" }}\n\n[identity.default]\n"
        ),
    )
    .unwrap();
    let template = home.path().join("template.yaml");
    std::fs::write(&template, "spec: {containers: [{name: base, image: a}]}").unwrap();
    let env = [
        ("WINDLASS_CONFIG", rules.to_str().unwrap()),
        ("AIRFLOW__KUBERNETES_EXECUTOR__POD_TEMPLATE_FILE", template.to_str().unwrap()),
    ];
    let said = |arguments: &[&str]| {
        let output = windlass(home.path(), &env, &[&["identity"], arguments].concat());
        text(&output.stdout) + &text(&output.stderr)
    };
    let checked = said(&["check", "--offline"]);
    assert!(checked.contains("shadowed"), "{checked}");
    let explained = said(&["explain", "a_dag", "--tag", "etl"]);
    assert!(explained.contains("rule etl (line 1)") && explained.contains(role), "{explained}");
    let issuer = "oidc.eks.eu-west-1.amazonaws.com/id/X";
    for (what, words) in [
        ("trust-policy", "sts:AssumeRoleWithWebIdentity"),
        ("terraform", "resource \"aws_iam_role\" \"etl\""),
        ("eksctl", "attachRoleARN"),
    ] {
        let rendered = said(&["render", "--what", what, "--oidc-issuer", issuer]);
        assert!(
            rendered.contains(words) && rendered.contains(role.rsplit('/').next().unwrap()),
            "{rendered}"
        );
    }
}

/// `cargo xtask docs` writes them. Command line help, settings, metrics and reasons are reviewed there, as text.
#[test]
fn the_reference_pages_are_up_to_date() {
    let home = tempfile::tempdir().unwrap();
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").display().to_string();
    let output = windlass(home.path(), &[], &["docs", "--check", "--dir", &docs]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn help_has_examples_everywhere() {
    let home = tempfile::tempdir().unwrap();
    let commands: [&[&str]; 9] = [
        &[],
        &["run"],
        &["migrate"],
        &["config"],
        &["status"],
        &["doctor"],
        &["explain"],
        &["render", "pod"],
        &["completion"],
    ];
    for command in commands {
        let arguments: Vec<_> = command.iter().copied().chain(["--help"]).collect();
        let output = windlass(home.path(), &[], &arguments);
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output.stdout).contains("Examples:\n"), "{command:?}");
    }
}
