//! `windlass identity render --diff`.

use std::fs;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use windlass_lab::control_plane::Options;
use windlass_suite::daemon::{Variables, windlass};

use crate::world::{ROLE, RULES, TEMPLATE, World, call};

/// Exit code, and what was printed.
fn diff(variables: &Variables) -> Result<(Option<i32>, String)> {
    let output = windlass(variables, &["identity", "render", "--diff"])?;
    let text = [output.stdout, output.stderr].concat();
    Ok((output.status.code(), String::from_utf8(text)?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_diff_says_what_an_apply_would_change_and_what_is_there_besides() -> Result<()> {
    let options = Options { service_account_admission: true, ..Options::default() };
    let world = World::start(options, RULES, TEMPLATE).await?;
    let admin = world.plane.client();
    let (code, text) = diff(&world.variables)?;
    ensure!(code == Some(5) && text.contains("this cluster knows no SecurityGroupPolicy"), "{code:?} {text}");
    world.make_crd().await?;

    let (code, text) = diff(&world.variables)?;
    ensure!(code == Some(1), "{code:?} {text}");
    for line in [
        "--- cluster ServiceAccount tasks/etl (missing)\n+++ rules   ServiceAccount tasks/etl\n",
        "+    eks.amazonaws.com/role-arn: \"arn:aws:iam::111122223333:role/etl\"\n",
        "--- cluster SecurityGroupPolicy tasks/windlass-etl (missing)\n",
        "--- cluster ValidatingAdmissionPolicy windlass-identity-airflow (missing)\n",
        // 2 accounts, 1 SecurityGroupPolicy, 2 roles and bindings in 2 namespaces, those of nodes, policy and binding.
        "15 objects compared: 0 to change, 15 missing; 0 besides the rules\n",
    ] {
        ensure!(text.contains(line), "{line}: {text}");
    }
    let accounts = "/api/v1/namespaces/tasks/serviceaccounts";
    ensure!(
        call(&admin, "GET", &format!("{accounts}/etl"), &Value::Null).await?.is_err(),
        "a diff makes nothing"
    );

    world.apply(&world.rendered(&[])?).await?;
    let (code, text) = diff(&world.variables)?;
    ensure!((code, text.as_str()) == (Some(0), "no difference: 15 objects compared\n"), "{code:?} {text}");

    // Changed, taken away, and put beside.
    let change = json!({"metadata": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::111122223333:role/old"}}});
    call(&admin, "PATCH", &format!("{accounts}/etl"), &change).await??;
    call(
        &admin,
        "DELETE",
        "/apis/rbac.authorization.k8s.io/v1/namespaces/finance/roles/windlass",
        &Value::Null,
    )
    .await??;
    let besides = json!({"metadata": {"name": "old", "annotations": {"eks.amazonaws.com/role-arn": ROLE}}});
    call(&admin, "POST", accounts, &besides).await??;
    let (code, text) = diff(&world.variables)?;
    ensure!(code == Some(1), "{code:?} {text}");
    for line in [
        "-    eks.amazonaws.com/role-arn: \"arn:aws:iam::111122223333:role/old\"\n\
         +    eks.amazonaws.com/role-arn: \"arn:aws:iam::111122223333:role/etl\"\n",
        "--- cluster Role finance/windlass (missing)\n",
        "besides the rules: ServiceAccount tasks/old has arn:aws:iam::111122223333:role/etl, which the rules give to other \
         accounts\n",
        "15 objects compared: 1 to change, 1 missing; 1 besides the rules\n",
    ] {
        ensure!(text.contains(line), "{line}: {text}");
    }

    // Without the rights, as the daemon has none.
    let mut variables = world.variables.clone();
    let kubeconfig = world.plane.service_account_kubeconfig("airflow", "windlass").await?;
    variables.insert("AIRFLOW__KUBERNETES_EXECUTOR__CONFIG_FILE".into(), kubeconfig.display().to_string());
    let (code, text) = diff(&variables)?;
    ensure!(code == Some(5), "{code:?} {text}");
    for words in [
        "cannot get resource \"serviceaccounts\"",
        "it takes get, list, patch and create on",
        "rolebindings.rbac",
    ] {
        ensure!(text.contains(words), "{words}: {text}");
    }
    // A template that is not there would make another policy.
    fs::remove_file(world.folder.join("template.yaml"))?;
    let (code, text) = diff(&world.variables)?;
    ensure!(code == Some(5) && text.contains("template.yaml` is not here"), "{code:?} {text}");
    Ok(())
}
