//! What the controller, the scheduler and the node do to pods that ask for a branch interface.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use windlass_eks::branch::{Call, Refusal};

use crate::world::{NODE, World, interfaces, limit, pod};

async fn world(interfaces: usize, on_eks: bool) -> Result<World> {
    let world = World::start_with(interfaces, |node| node.branch_interfaces = on_eks).await?;
    let spec = json!({
        "podSelector": { "matchLabels": { "tier": "db" } },
        "securityGroups": { "groupIds": ["sg-0000000000000000a", "sg-0000000000000000b"] },
    });
    world.policy("db", spec).await?;
    Ok(world)
}

fn db(name: &str) -> Value {
    pod(name, json!({ "tier": "db" }))
}

/// Whether the node has the pod, and cannot start it for want of an address.
fn has_no_address(pod: &Value) -> bool {
    pod["status"]["phase"] == "Pending"
        && !pod["status"]["hostIP"].is_null()
        && pod["status"]["podIP"].is_null()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_has_the_address_of_its_interface() -> Result<()> {
    let world = world(9, true).await?;
    world.create(db("a")).await?;
    world.create(pod("plain", json!({}))).await?;
    let a = world.running("a").await?;
    let given = interfaces(&a);
    ensure!(given.len() == 1 && given[0]["privateIp"] == a["status"]["podIP"], "{a}");
    let plain = world.running("plain").await?;
    ensure!(interfaces(&plain).is_empty() && !plain["status"]["podIP"].is_null(), "{plain}");
    let text = a["metadata"]["annotations"]["vpc.amazonaws.com/pod-eni"].as_str().unwrap();
    let allocated = world.events_with("a", "ResourceAllocated", 1).await?;
    ensure!(
        allocated == [format!("vpc-resource-controller Normal: Allocated {text} to the pod")],
        "{allocated:?}"
    );
    let requested = world.events_with("a", "SecurityGroupRequested", 1).await?;
    let words = "vpc-resource-controller Normal: Pod will get the following Security Groups \
                 [sg-0000000000000000a sg-0000000000000000b]";
    ensure!(requested == [words], "{requested:?}");

    // A container that something put in front hides the limit from the node's network: it has the node's groups.
    let mut hidden = pod("hidden", json!({}));
    let asks = json!({ "limits": { "vpc.amazonaws.com/pod-eni": "1" } });
    let second = json!({ "name": "second", "image": "any", "resources": asks });
    hidden["spec"]["containers"].as_array_mut().unwrap().push(second);
    let made = world.create(hidden).await?;
    ensure!(limit(&made, 0).is_null() && limit(&made, 1) == "1", "{made}");
    let told = |pod: &Value| !interfaces(pod).is_empty() && pod["status"]["phase"] == "Running";
    let hidden = world.pod_that("runs and is annotated", "hidden", told).await?;
    ensure!(interfaces(&hidden)[0]["privateIp"] != hidden["status"]["podIP"], "{hidden}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_network_ignores_interfaces_gives_its_own_address() -> Result<()> {
    let world = world(9, false).await?;
    world.create(db("a")).await?;
    let told = |pod: &Value| !interfaces(pod).is_empty() && pod["status"]["phase"] == "Running";
    let a = world.pod_that("runs and is annotated", "a", told).await?;
    ensure!(interfaces(&a)[0]["privateIp"] != a["status"]["podIP"], "{a}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_node_takes_only_pods_without_an_interface() -> Result<()> {
    let world = world(1, true).await?;
    world.create(db("a")).await?;
    world.running("a").await?;
    world.create(db("b")).await?;
    world.create(pod("plain", json!({}))).await?;
    world.running("plain").await?;
    let refused = |pod: &Value| {
        let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
        let mut messages = conditions.filter_map(|condition| condition["message"].as_str());
        messages.any(|message| message.contains("Insufficient vpc.amazonaws.com/pod-eni"))
    };
    world.pod_that("is told that there is no room", "b", refused).await?;

    // The scheduler takes the interface of a deleted pod for free at once; the controller waits until it is cool, and says
    // nothing of it.
    world.delete("a").await?;
    world.pod_that("waits on the node", "b", has_no_address).await?;
    ensure!(world.groups.controller.used(NODE) == 1, "it cools down");
    let b = world.running("b").await?;
    ensure!(interfaces(&b)[0]["privateIp"] == b["status"]["podIP"], "{b}");
    let events = world.events("b").await?;
    ensure!(!events.contains_key("BranchAllocationFailed"), "{events:?}");
    ensure!(events["SecurityGroupRequested"].len() >= 2, "{events:?}");
    ensure!(events.contains_key("FailedCreatePodSandBox"), "{events:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_fail_and_are_dropped() -> Result<()> {
    let world = world(9, true).await?;
    let refusal = Refusal {
        call: Call::Create,
        code: "InsufficientFreeAddressesInSubnet".into(),
        message: "The specified subnet does not have enough free addresses to satisfy the request.".into(),
    };
    world.groups.controller.fail_next(2, &refusal);
    world.create(db("refused-twice")).await?;
    world.running("refused-twice").await?;
    let failed = world.events_with("refused-twice", "BranchAllocationFailed", 2).await?;
    ensure!(failed.len() == 2 && failed[0].contains("InsufficientFreeAddressesInSubnet"), "{failed:?}");

    world.groups.controller.drop_next(1);
    world.create(db("dropped")).await?;
    world.pod_that("waits on the node", "dropped", has_no_address).await?;
    world.create(db("next")).await?;
    world.running("next").await?;
    let dropped = world.pod("dropped").await?;
    ensure!(interfaces(&dropped).is_empty() && has_no_address(&dropped), "{dropped}");
    ensure!(!world.events("dropped").await?.contains_key("SecurityGroupRequested"), "its job never ran");
    Ok(())
}
