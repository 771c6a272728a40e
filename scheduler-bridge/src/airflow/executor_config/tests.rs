//! The decoder on pickles that Airflow wrote, on those that it refuses, and on hostile ones.

use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};
use windlass_core::identity::Identity;
use windlass_core::ids::{Attempt, InstallationId, LaunchId, Queueing, TaskKey};
use windlass_core::pod::{self, PodSettings, Template, WatchedNamespaces};
use windlass_core::task::{DagFacts, TaskSpec};
use windlass_core::time::UtcMicros;

use super::*;

fn golden_cases() -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/pods");
    let read = |path: std::path::PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap())
    };
    std::fs::read_dir(folder).unwrap().map(|entry| read(entry.unwrap().path())).collect()
}

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn pickle_of(case: &Value) -> Option<Vec<u8>> {
    case["input"]["executor_config_pickle_hex"].as_str().map(unhex)
}

/// From the column's bytes to the pod, as the daemon goes. Errors as text.
fn pod_of(case: &Value) -> Result<Value, String> {
    let (input, config) = (&case["input"], &case["config"]["kubernetes_executor"]);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let number = |value: &Value| i32::try_from(value.as_i64().unwrap()).unwrap();
    let [dag_id, task_id, run_id] = ["dag_id", "task_id", "run_id"].map(|field| text(&input["key"][field]));
    let key = TaskKey { dag_id, task_id, run_id, map_index: number(&input["key"]["map_index"]) };
    let executor_config = decode(pickle_of(case).as_deref()).map_err(|error| error.to_string());
    let own = executor_config.as_ref().is_ok_and(|config| config.pod_template_file.is_some());
    let spec = TaskSpec {
        queueing: Queueing { key, try_number: number(&input["key"]["try_number"]), queued_at: UtcMicros(1) },
        queue: text(&input["queue"]),
        pool: "default_pool".into(),
        priority_weight: 1,
        scheduler_job_id: text(&input["scheduler_job_id"]).parse().unwrap(),
        airflow_version: text(&case["versions"]["airflow"]),
        has_pod_mutation_hook: false,
        operator: String::new(),
        dag: DagFacts::default(),
        command_is_own: false,
        branches: None,
        command: serde_json::from_value(input["command"].clone()).unwrap(),
        executor_config,
    };
    let settings = PodSettings {
        namespace: text(&config["namespace"]),
        kube_image: config["kube_image"].as_str().map(str::to_owned),
        watched: WatchedNamespaces::Own,
        installation: InstallationId("6f1c0f8e-0000-4000-8000-000000000000".into()),
        hide_from_neighbours: false,
    };
    let yaml = &case[if own { "task_pod_template_yaml" } else { "pod_template_yaml" }];
    let template = yaml.as_str().map_or_else(|| Ok(Template::absent()), Template::parse);
    let launch = LaunchId::of(&settings.installation, &spec.queueing);
    let template = template.map_err(|error| error.to_string())?;
    pod::render(&settings, &template, &Identity::default(), &spec, &launch, Attempt::FIRST)
        .map_err(|error| error.to_string())
}

/// Without what Windlass adds; the name is compared by the renderer's own tests.
fn without_own(mut pod: Value) -> Value {
    let metadata = pod["metadata"].as_object_mut().unwrap();
    metadata.remove("name");
    for field in ["labels", "annotations"] {
        if let Some(Value::Object(texts)) = metadata.get_mut(field) {
            texts.retain(|name, _| !name.starts_with("windlass.dev/"));
        }
    }
    pod
}

#[test]
fn from_the_column_to_the_pod_as_airflow_goes() {
    let cases = golden_cases();
    assert!(cases.len() >= 101);
    for (name, case) in cases {
        match (pod_of(&case), case["expected"]["kind"].as_str()) {
            (Ok(made), Some("pod")) => {
                assert_eq!(without_own(made), without_own(case["expected"]["pod"].clone()), "{name}");
            }
            (Err(_), Some("error")) => {}
            (made, _) => panic!("{name}: made {made:?}, expected {}", case["expected"]),
        }
    }
}

/// Rows of a real database after a real scheduler's run (Airflow 2.11.2), `name|hex` a line.
fn row(name: &str) -> Vec<u8> {
    let rows = include_str!("../../../../tests/fixtures/executor_config_rows.txt");
    unhex(rows.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('|')).unwrap())
}

#[test]
fn rows_of_a_real_database() {
    assert_eq!(decode(Some(&row("plain"))), Ok(ExecutorConfig::default()));
    assert_eq!(decode(None), Ok(ExecutorConfig::default()));
    let resources = json!({"requests": {"cpu": "500m", "memory": "1Gi"}});
    let base = json!({"name": "base", "image": "custom:1", "env": [{"name": "A", "value": "1"}], "resources": resources});
    let want = json!({"metadata": {"labels": {"team": "ml"}}, "spec": {"containers": [base]}});
    assert_eq!(decode(Some(&row("ov1"))).unwrap().pod_override, Some(want));
    let config = decode(Some(&row("ov2"))).unwrap();
    assert_eq!(config.pod_template_file.as_deref(), Some("/opt/airflow/t.yaml"));
    assert_eq!(config.pod_override.unwrap()["spec"]["containers"][1]["args"], json!(["sleep", "5"]));
}

/// The sentence that a pickle comes to: `ok`, or the error.
fn said(pickle: &[u8]) -> String {
    decode(Some(pickle)).map_or_else(|error| error.to_string(), |_| "ok".into())
}

const WANT: &str = "{'pod_override': k8s.V1Pod(...)}";

/// Protocol 0 is text: what the cases hold can be read here.
#[test]
fn what_airflow_refuses_is_refused_with_the_remedy() {
    let not_a_pod =
        |found: &str| format!("executor_config's pod_override is {found} where a pod is expected: {WANT}");
    let cases: Vec<(&[u8], String)> = vec![
        (b"(lp0\n.", format!("executor_config is a list where a dict is expected: {WANT}")),
        (b"(dp0\nVpod_override\np1\n(dp2\nVa\nI1\nss.", not_a_pod("a dict")),
        (b"(dp0\nVpod_override\np1\nVx\ns.", not_a_pod("a str")),
        (b"(dp0\nVpod_override\np1\n(dp2\nV__type\nVdict\nsV__var\n(dVa\nI1\nsss.", not_a_pod("a dict")),
        (b"(dp0\nVpod_override\np1\n(dp2\nV__type\nVk8s.V1Pod\nss.", DecodeError::NoValue.to_string()),
        (b"(dp0\nVKubernetesExecutor\np1\n(dVimage\nVx\nss.", DecodeError::Legacy.to_string()),
        (
            b"(dp0\nVpod_override\np1\ncmymodule\nTeam\n(tRs.",
            not_a_pod("a mymodule.Team object (REDUCE at byte 39)"),
        ),
        (
            b"(dp0\nVpod_template_file\np1\nI5\ns.",
            "executor_config's pod_template_file is an int where a path is expected; write it as a str"
                .into(),
        ),
    ];
    for (pickle, want) in cases {
        assert_eq!(said(pickle), want, "{}", String::from_utf8_lossy(pickle));
    }
}

#[test]
fn values_that_count_as_none_are_none() {
    let cases: [&[u8]; 6] = [
        b"(dp0\nVpod_override\np1\nNs.",
        b"(dp0\nVpod_override\np1\n(ds.",
        b"(dp0\nVpod_override\np1\nI00\ns.",
        b"(dp0\nVpod_override\np1\n(dp2\nV__type\nVdict\nsV__var\n(dss.",
        b"(dp0\nVKubernetesExecutor\np1\n(ds.",
        b"(dp0\nVpod_template_file\np1\nV\ns.",
    ];
    for pickle in cases {
        let decoded = decode(Some(pickle));
        assert_eq!(decoded, Ok(ExecutorConfig::default()), "{}", String::from_utf8_lossy(pickle));
    }
}

/// A dict with `body` under pod_override's `__var`.
fn with_pod(body: &[u8]) -> Vec<u8> {
    [b"(dp100\nVpod_override\n(dV__type\nVk8s.V1Pod\nsV__var\n", body, b"ss."].concat()
}

#[test]
fn objects_are_harmless_where_nobody_reads_them_and_named_where_somebody_does() {
    let call = b"cos\nsystem\n(Vtouch pwned\ntR".as_slice();
    let unread = [b"(dVmine\n", call, b"sVpod_template_file\nVt.yaml\ns."].concat();
    assert_eq!(decode(Some(&unread)).unwrap().pod_template_file.as_deref(), Some("t.yaml"));
    let read = with_pod(&[b"(dVmetadata\n(dVlabels\n(dVteam\n".as_slice(), call, b"sss"].concat());
    assert_eq!(
        said(&read),
        "executor_config has a os.system object (REDUCE at byte 106) at pod_override.metadata.labels.team, which can't \
         be read without running its code; use a plain value"
    );
    let path = b"(dVpod_template_file\ncpathlib\nPosixPath\n(V/\nVopt\nVt.yaml\ntRs.";
    assert_eq!(decode(Some(path)).unwrap().pod_template_file.as_deref(), Some("/opt/t.yaml"));
}

#[test]
fn members_of_the_enums_are_read_by_value_and_by_name() {
    let pod = b"(dVkind\nVPod\ns";
    let enums = "airflow.serialization.enums";
    let by_value = format!("c{enums}\nEncoding\n(V__var\ntR");
    let [by_name, by_name_in_protocol_2] = ["builtins", "__builtin__"]
        .map(|builtins| format!("c{builtins}\ngetattr\n(c{enums}\nEncoding\nVVAR\ntR"));
    for var in [by_value, by_name, by_name_in_protocol_2] {
        let kind = format!("c{enums}\nEncoding\n(V__type\ntRc{enums}\nDagAttributeTypes\n(Vk8s.V1Pod\ntRs");
        let pickle = [b"(dVpod_override\n(d", kind.as_bytes(), var.as_bytes(), pod, b"ss."].concat();
        assert_eq!(decode(Some(&pickle)).unwrap().pod_override, Some(json!({"kind": "Pod"})));
    }
}

#[test]
fn an_object_of_the_kubernetes_client_is_read_by_its_attributes() {
    let module = "kubernetes.client.models.v1";
    let new = |class: &str, state: &str| {
        format!("ccopy_reg\n_reconstructor\n(c{module}\n{class}\nc__builtin__\nobject\nNtR(d{state}b")
    };
    let probe = new(
        "V1Probe",
        &format!("V_V1Probe__exec\n{}sVdiscriminator\nI1\ns", new("V1ExecAction", "V_command\n(lVtrue\nas")),
    );
    let container = new("V1Container", &format!("V_name\nVbase\nsV_image\nNsV_liveness_probe\n{probe}s"));
    let time = "c_codecs\nencode\n(V\\u0007\\u00e8\\u0001\\u0002\\u0003\\u0004\\u0005\\u0000\\u0000\\u0007\nVlatin1\ntR";
    let zone = "cdatetime\ntimezone\n(cdatetime\ntimedelta\n(I-1\nI68400\nI0\ntRtR";
    let meta = new("V1ObjectMeta", &format!("V_creation_timestamp\ncdatetime\ndatetime\n({time}{zone}tRs"));
    let spec = new("V1PodSpec", &format!("V_containers\n(l{container}as"));
    let pod = new(
        "V1Pod",
        &format!(
            "V_api_version\nVv1\nsV_metadata\n{meta}sV_spec\n{spec}sVlocal_vars_configuration\ncos\nabort\ns"
        ),
    );
    let container = json!({"name": "base", "livenessProbe": {"exec": {"command": ["true"]}}});
    let want = json!({"apiVersion": "v1", "metadata": {"creationTimestamp": "2024-01-02T03:04:05.000007-05:00"},
        "spec": {"containers": [container]}});
    let decoded = decode(Some(format!("(dVpod_override\n{pod}s.").as_bytes()));
    assert_eq!(decoded.unwrap().pod_override, Some(want));
}

/// The client parses a template's times with `dateutil`, whose UTC is `tzlocal` on a machine that lives in UTC.
#[test]
fn times_are_read_with_the_zones_that_python_libraries_give_them() {
    let bytes = "c_codecs\nencode\n(V\\u0007\\u00e8\\u0081\\u0002\\u0003\\u0004\\u0005\\u0000\\u0000\\u0000\nVlatin1\ntR";
    let instance = |class: &str, state: &str| format!("c{class}\n(tR(d{state}b");
    let delta = |seconds: i32| format!("cdatetime\ntimedelta\n(I0\nI{seconds}\nI0\ntR");
    let local = |dst: &str| {
        instance("dateutil.tz.tz\ntzlocal", &format!("V_std_offset\n{}sV_hasdst\nI{dst}\ns", delta(3600)))
    };
    let named =
        |class: &str, name: &str| format!("c__builtin__\ngetattr\n(c{class}\nV_unpickle\ntR(V{name}\nI1\ntR");
    let pendulum_utc = named("pendulum.tz.timezone\nTimezone", "UTC");
    let read = |time: &str| {
        let pickle = with_pod(format!("(dVat\n{time}s").as_bytes());
        decode(Some(&pickle)).map(|config| config.pod_override.unwrap()["at"].as_str().unwrap().to_owned())
    };
    let in_zone = |zone: &str| read(&format!("cdatetime\ndatetime\n({bytes}{zone}tR"));
    let cases = [
        (String::new(), ""),
        ("N".into(), ""),
        ("cdateutil.tz.tz\ntzutc\n(tR".into(), "+00:00"),
        (instance("dateutil.tz.tz\ntzoffset", &format!("V_name\nNsV_offset\n{}s", delta(19_800))), "+05:30"),
        (local("00"), "+01:00"),
        ("cpendulum.tz.timezone\nFixedTimezone\n(I-3600\nV-01:00\ntR".into(), "-01:00"),
        (named("zoneinfo\nZoneInfo", "Etc/UTC"), "+00:00"),
        (pendulum_utc.clone(), "+00:00"),
    ];
    for (zone, want) in cases {
        assert_eq!(in_zone(&zone), Ok(format!("2024-01-02T03:04:05{want}")), "{zone}");
    }
    let pendulum = format!("cpendulum.datetime\nDateTime\n(I2024\nI1\nI2\nI3\nI4\nI5\nI60\n{pendulum_utc}tR");
    assert_eq!(read(&pendulum), Ok("2024-01-02T03:04:05.000060+00:00".into()));
    let day = "cdatetime\ndate\n(c_codecs\nencode\n(V\\u0007\\u00e8\\u0001\\u0002\nVlatin1\ntRtR";
    assert_eq!(read(day), Ok("2024-01-02".into()));
    for zone in [local("01"), named("zoneinfo\nZoneInfo", "Europe/Zurich"), "cos\nabort\n(tR".into()] {
        let said = in_zone(&zone).unwrap_err().to_string();
        assert!(
            said.starts_with("executor_config has a datetime.datetime object (REDUCE at byte "),
            "{said}"
        );
    }
}

#[test]
fn hostile_pickles_cost_little_and_say_why() {
    let malformed = |at: usize, what: &str| DecodeError::Malformed { at, what: what.into() }.to_string();
    // Each list holds the one before twice; all but the last leave the stack.
    let mut doubling = b"(lp0\n".to_vec();
    for level in 1..40 {
        doubling.extend(format!("0(lp{level}\ng{0}\nag{0}\na", level - 1).bytes());
    }
    let long_text = [b"(V".as_slice(), &[b'x'; 400_000], b"\np1\n", &b"g1\n".repeat(100), b"l"].concat();
    let cases: Vec<(Vec<u8>, String)> = vec![
        (b"\x80\x05X\xff\xff\xff\x7f.".to_vec(), malformed(2, "BINUNICODE: it ends 2147483646 bytes early")),
        (
            b"\x80\x05\x8d\xff\xff\xff\xff\xff\xff\xff\xff.".to_vec(),
            malformed(2, "BINUNICODE8: it ends 18446744073709551614 bytes early"),
        ),
        (b"\x80\x04}r\xff\xff\xff\xff.".to_vec(), "ok".into()),
        (b"".to_vec(), malformed(0, "it ends 1 bytes early")),
        (b"}0.".to_vec(), malformed(2, "STOP: it takes a value from an empty stack")),
        (b"(.".to_vec(), malformed(1, "STOP: it takes a value from an empty stack")),
        (b"h\x07.".to_vec(), malformed(0, "BINGET: it recalls what it never stored")),
        (b"\x80\x09}.".to_vec(), malformed(0, "PROTO: pickle protocol 9 is not known")),
        (b"?".to_vec(), malformed(0, "0x3f is no opcode")),
        (
            b"Pid\n.".to_vec(),
            DecodeError::Refused { at: 0, opcode: "PERSID", what: "a persistent id" }.to_string(),
        ),
        (
            with_pod(b"(dp1\nVspec\ng1\ns"),
            DecodeError::TooDeep { path: "pod_override.spec".into() }.to_string(),
        ),
        (
            with_pod(&[b"(l".repeat(100_000), b"a".repeat(99_999)].concat()),
            DecodeError::TooDeep { path: format!("pod_override{}", "[0]".repeat(65)) }.to_string(),
        ),
        (
            with_pod(&doubling),
            DecodeError::TooLarge { what: "a pod_override of over 4194304 bytes".into() }.to_string(),
        ),
        (
            with_pod(&long_text),
            DecodeError::TooLarge { what: "a pod_override of over 4194304 bytes".into() }.to_string(),
        ),
        (vec![b'N'; BYTES_MAX + 1], DecodeError::TooLarge { what: "1048577 bytes".into() }.to_string()),
        (vec![b'N'; 600_000], DecodeError::TooLarge { what: "more than 500000 values".into() }.to_string()),
    ];
    for (pickle, want) in cases {
        let shown = String::from_utf8_lossy(&pickle[..pickle.len().min(60)]).into_owned();
        assert_eq!(said(&pickle), want, "{shown}");
    }
}

/// Pickles of the golden cases, to be damaged.
fn corpus() -> Vec<Vec<u8>> {
    golden_cases().iter().filter_map(|(_, case)| pickle_of(case)).collect()
}

/// More are tried with `PROPTEST_CASES` (CONTRIBUTING.md).
fn inputs() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(2_000)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: inputs(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode(Some(&bytes));
    }

    #[test]
    fn no_damage_makes_it_panic(
        which in any::<prop::sample::Index>(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..3), 1..8),
    ) {
        static CORPUS: std::sync::OnceLock<Vec<Vec<u8>>> = std::sync::OnceLock::new();
        let mut bytes = which.get(CORPUS.get_or_init(corpus)).clone();
        for (at, byte, kind) in edits {
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, byte),
            }
        }
        let _ = decode(Some(&bytes));
    }
}
