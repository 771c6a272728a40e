//! `windlass doctor --assume`: the binary against a real kube-apiserver's tokens, and STS: moto's, which gives every role,
//! and one that judges as the real one does. There is no database: what is asked does not need it.

use std::fs;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use windlass_eks::sts::{self, Fault, Sts};
use windlass_lab::control_plane::{ControlPlane, Options};
use windlass_lab::folder::Folder;
use windlass_lab::moto::Moto;
use windlass_suite::daemon::{Variables, connection, service_account, until, windlass};

const ETL: &str = "arn:aws:iam::111122223333:role/teams/etl";
const CORP: &str = "arn:aws:iam::111122223333:role/corp";
const GONE: &str = "arn:aws:iam::111122223333:role/gone";
/// Of the lab's API server.
const ISSUER: &str = "https://kubernetes.default.svc";

const RULES: &str = r#"
[[identity.rule]]
name = "etl"
match = { dag = "etl" }
service-account = "etl-worker"
role-arn = "arn:aws:iam::111122223333:role/teams/etl"

[[identity.rule]]
name = "corp"
match = { dag = "corp" }
service-account = "corp-worker"
role-arn = "arn:aws:iam::111122223333:role/corp"

[[identity.rule]]
name = "gone"
match = { dag = "gone" }
service-account = "gone-worker"
role-arn = "arn:aws:iam::111122223333:role/gone"

[identity.default]
"#;

/// Without `service-account` a rule has the template's.
const TEMPLATE: &str = "apiVersion: v1\nkind: Pod\nspec:\n  serviceAccountName: default\n  containers:\n    - name: base\n      image: airflow:2.11\n";

struct World {
    folder: Folder,
    plane: ControlPlane,
    variables: Variables,
}

impl World {
    /// The daemon's account may do nothing yet; `gone-worker` does not exist.
    async fn start(rules: &str, sts: &str) -> Result<Self> {
        let folder = Folder::new("cluster-assume")?;
        let plane = ControlPlane::start(Options::default()).await?;
        for namespace in ["airflow", "tasks"] {
            plane.create_namespace(namespace).await?;
        }
        for (namespace, name) in
            [("airflow", "windlass"), ("tasks", "etl-worker"), ("tasks", "corp-worker"), ("tasks", "default")]
        {
            plane.create_service_account(namespace, name).await?;
        }
        let accounts: Api<ServiceAccount> = Api::namespaced(plane.client(), "tasks");
        let corp = json!({ "metadata": { "annotations": { "eks.amazonaws.com/audience": "corp" } } });
        accounts.patch("corp-worker", &PatchParams::default(), &Patch::Merge(corp)).await?;
        let token = plane.service_account_token("airflow", "windlass").await?;
        for (file, text) in [("windlass.toml", rules), ("template.yaml", TEMPLATE), ("token", &token)] {
            fs::write(folder.join(file), text)?;
        }
        fs::copy(plane.ca(), folder.join("ca.crt"))?;
        let mut variables = service_account(plane.url(), folder.path(), "tasks");
        // Nobody listens there.
        variables.extend(connection("postgresql://windlass@127.0.0.1:1/airflow"));
        let path = |file: &str| folder.join(file).display().to_string();
        let more = [
            ("AIRFLOW__KUBERNETES_EXECUTOR__POD_TEMPLATE_FILE", path("template.yaml")),
            ("WINDLASS_CONFIG", path("windlass.toml")),
            ("AWS_REGION", "eu-west-1".to_owned()),
            ("AWS_ENDPOINT_URL_STS", sts.to_owned()),
        ];
        variables.extend(more.map(|(name, value)| (name.to_owned(), value)));
        Ok(Self { folder, plane, variables })
    }

    /// Applies what `windlass identity render` grants, and nothing else.
    async fn grant(&self) -> Result<()> {
        let rendered = windlass(&self.variables, &["identity", "render", "--what", "assume-grant"])?;
        let rendered = String::from_utf8(rendered.stdout)?;
        for text in rendered.split("---\n").filter(|text| !text.is_empty()) {
            let kind = if text.contains("kind: RoleBinding\n") { "rolebindings" } else { "roles" };
            let file = self.folder.join("grant.yaml");
            fs::write(&file, text)?;
            let collection = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/tasks/{kind}");
            self.plane.create_from_yaml(&collection, &file).await.with_context(|| rendered.clone())?;
        }
        Ok(())
    }

    /// Output of `windlass doctor --assume`. Whatever it says, no token and no key is in it.
    fn doctor(&self, more: &[&str]) -> Result<String> {
        let output = windlass(&self.variables, &[&["doctor", "--assume"], more].concat())?;
        let (said, complained) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
        // The database is away, which is an error.
        ensure!(output.status.code() == Some(1), "{said}{complained}");
        // `eyJ` begins a JSON object in base64, hence a token.
        for secret in ["eyJ", "SessionToken", sts::SECRET_KEY, sts::SESSION_TOKEN] {
            ensure!(!said.contains(secret) && !complained.contains(secret), "{secret} in {said}{complained}");
        }
        Ok(said)
    }

    fn document(&self) -> Result<Value> {
        let said = self.doctor(&["--output", "json"])?;
        serde_json::from_str(&said).with_context(|| said)
    }
}

/// What is said of a role.
fn role<'d>(document: &'d Value, arn: &str) -> &'d Value {
    let roles = document["roles"].as_array().map(Vec::as_slice).unwrap_or_default();
    roles.iter().find(|role| role["role"] == arn).unwrap_or(&Value::Null)
}

/// The finding about a role.
fn finding<'d>(document: &'d Value, arn: &str) -> &'d Value {
    let findings = document["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
    let of = |finding: &&Value| {
        finding["object"].as_str().is_some_and(|object| object.contains(&format!(": {arn} for")))
    };
    findings.iter().find(of).unwrap_or(&Value::Null)
}

fn says(finding: &Value, code: &str, what: &str, remedy: &str) -> Result<()> {
    let has = |name: &str, part: &str| finding[name].as_str().is_some_and(|text| text.contains(part));
    ensure!(finding["code"] == code && has("what", what) && has("remedy", remedy), "{finding:#}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_can_be_had_is_shown_as_a_task_will_be_it() -> Result<()> {
    let moto = tokio::task::spawn_blocking(Moto::start).await??;
    let rules = format!(
        "{}{}",
        RULES.replace("[identity.default]\n", ""),
        "[[identity.rule]]\nname = \"late\"\nmatch = { dag = \"late\" }\nrole-arn = \"arn:aws:iam::111122223333:role/teams/etl\"\n\n[identity.default]\n"
    );
    let world = World::start(&rules, &moto.url()).await?;
    world.grant().await?;
    let arn = "arn:aws:sts::111122223333:assumed-role/etl/windlass-doctor";
    let document = until("the role", async || {
        let document = world.document()?;
        Ok((role(&document, CORP)["token"] != Value::Null).then_some(document))
    })
    .await?;
    let roles: Vec<&Value> =
        document["roles"].as_array().unwrap().iter().filter(|role| role["role"] == ETL).collect();
    ensure!(roles.len() == 2, "{document:#}");
    let (late, etl) = (roles[0], roles[1]);
    ensure!(etl["arn"] == arn && etl["refused"] == Value::Null, "{document:#}");
    ensure!(etl["rules"] == json!(["etl"]) && etl["service_account"] == "etl-worker", "{document:#}");
    ensure!(etl["token"]["sub"] == "system:serviceaccount:tasks:etl-worker", "{document:#}");
    ensure!(
        etl["token"]["aud"] == json!(["sts.amazonaws.com"]) && etl["token"]["iss"] == ISSUER,
        "{document:#}"
    );
    ensure!(role(&document, CORP)["token"]["aud"] == json!(["corp"]), "{document:#}");
    // `late` names no account: it has the template's.
    ensure!(late["service_account"] == "default" && late["arn"] == arn, "{document:#}");
    ensure!(late["token"]["sub"] == "system:serviceaccount:tasks:default", "{document:#}");
    let codes: Vec<&Value> =
        document["findings"].as_array().unwrap().iter().map(|finding| &finding["code"]).collect();
    for code in ["role-shared", "default-account", "database-unreachable"] {
        ensure!(codes.contains(&&json!(code)), "{codes:?}");
    }

    let text = world.doctor(&[])?;
    ensure!(text.contains("\nroles         error    3 of 4 roles can be assumed\n"), "{text}");
    let expected = format!(
        "\nrole      {ETL}\n  rules   etl\n  account tasks/etl-worker\n  token   iss {ISSUER}\n          sub \
         system:serviceaccount:tasks:etl-worker\n          aud sts.amazonaws.com\n          exp 2"
    );
    ensure!(text.contains(&expected) && text.contains(&format!("\n  task is {arn}\n")), "{text}");
    ensure!(text.contains("\n  task is not that role: token-refused, below\n"), "{text}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_refusal_is_mended_where_the_doctor_says() -> Result<()> {
    let sts = Sts::start().await?;
    let world = World::start(RULES, sts.url()).await?;

    let document = world.document()?;
    let forbidden =
        "User \"system:serviceaccount:airflow:windlass\" cannot create resource \"serviceaccounts/token\"";
    let grant = "resourceNames [\"etl-worker\"] in namespace `tasks`";
    says(finding(&document, ETL), "token-refused", forbidden, grant)?;
    ensure!(sts.asked().is_empty(), "{:?}", sts.asked());

    world.grant().await?;
    let document = until("a token", async || {
        let document = world.document()?;
        let all = [ETL, CORP].iter().all(|arn| finding(&document, arn)["code"] == "role-refused");
        Ok((all && finding(&document, GONE)["what"].to_string().contains("exist")).then_some(document))
    })
    .await?;
    let missing = "the service account does not exist: serviceaccounts \"gone-worker\" not found";
    says(finding(&document, GONE), "token-refused", missing, "windlass identity render | kubectl apply")?;
    let provider = format!("--url {ISSUER} --client-id-list sts.amazonaws.com");
    says(finding(&document, ETL), "role-refused", "No OpenIDConnect provider found", &provider)?;

    sts.provide("111122223333", ISSUER, &["sts.amazonaws.com"]);
    let document = world.document()?;
    let subject = "`kubernetes.default.svc:sub` is `system:serviceaccount:tasks:etl-worker` and \
                   `kubernetes.default.svc:aud` is `sts.amazonaws.com`";
    says(
        finding(&document, ETL),
        "role-refused",
        "answers AccessDenied: Not authorized to perform",
        subject,
    )?;
    let client = "oidc-provider/kubernetes.default.svc --client-id corp`; or take the annotation \
                  eks.amazonaws.com/audience: corp from service account tasks/corp-worker";
    says(finding(&document, CORP), "role-refused", "Incorrect token audience", client)?;

    sts.trust(ETL, &["system:serviceaccount:tasks:etl-worker"]);
    sts.fail(CORP, &[Fault::Answer { status: 400, body: sts::error("Throttling", "Rate exceeded") }]);
    let document = world.document()?;
    let arn = "arn:aws:sts::111122223333:assumed-role/etl/windlass-doctor";
    ensure!(role(&document, ETL)["arn"] == arn && *finding(&document, ETL) == Value::Null, "{document:#}");
    says(
        finding(&document, CORP),
        "role-unproven",
        "answers Throttling: Rate exceeded",
        "run it again later",
    )?;
    let first = sts.asked();
    ensure!(first.iter().all(|asked| asked.signed == (asked.action == "GetCallerIdentity")), "{first:?}");

    sts.set_ahead(std::time::Duration::from_secs(3_600));
    sts.fail(
        CORP,
        &[Fault::Answer { status: 403, body: sts::error("RegionDisabledException", "not activated") }],
    );
    let document = world.document()?;
    says(finding(&document, ETL), "role-refused", "the API server's clock is behind AWS's", "NTP")?;
    says(
        finding(&document, CORP),
        "role-refused",
        "not activated",
        "activate eu-west-1 in account 111122223333",
    )?;

    drop(sts);
    let document = world.document()?;
    let way = "com.amazonaws.eu-west-1.sts";
    says(
        finding(&document, ETL),
        "role-unproven",
        "STS in eu-west-1 (AssumeRoleWithWebIdentity) cannot be reached",
        way,
    )?;
    ensure!(role(&document, ETL)["token"]["iss"] == ISSUER, "what is known is shown: {document:#}");
    Ok(())
}
