//! The job against recordings of the real one, and the counting of interfaces.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use windlass_core::identity::sgp::{
    Match, MatchError, PodFacts, Policies, SecurityGroupPolicy, ServiceAccounts, matching_groups,
};

use super::cool_down::cool_down;
use super::job::{Then, attempt};
use super::trunk::{Call, Ec2, NoInterface, Refusal, Subnet, Trunk};

fn cases(text: &str) -> Vec<Value> {
    let mut file: Value = serde_json::from_str(text).unwrap();
    let cases: Vec<Value> = serde_json::from_value(file["cases"].take()).unwrap();
    assert_eq!(Value::from(cases.len()), file["n"]);
    cases
}

fn found(input: &Value) -> Result<Match, MatchError> {
    let mut accounts = ServiceAccounts::default();
    for account in input["serviceAccounts"].as_array().unwrap() {
        accounts.read(account).unwrap();
    }
    let mut policies = Policies::default();
    for policy in input["policies"].as_array().unwrap() {
        policies.insert(SecurityGroupPolicy::read(policy).unwrap());
    }
    matching_groups(&PodFacts::read(&input["pod"], "").unwrap(), &accounts, &policies)
}

/// EC2 of the recordings.
fn ec2(input: &Value) -> Ec2 {
    let subnet = Subnet {
        v4: (input["ipv4"] != false).then_some(Ipv4Addr::new(10, 0, 32, 0)),
        v6: (input["ipv6"] == true).then_some(Ipv6Addr::new(0x2600, 0x1f14, 1, 2, 0, 0, 0, 0)),
    };
    let mut ec2 = Ec2::new(subnet);
    for (field, call) in [("createError", Call::Create), ("associateError", Call::Associate)] {
        if let Some(code) = input[field]["code"].as_str() {
            let message = input[field]["message"].as_str().unwrap().to_owned();
            ec2.refusals.push_back(Refusal { call, code: code.to_owned(), message });
        }
    }
    ec2
}

/// The node of a case, with the interfaces that other pods hold or gave back.
fn trunk(input: &Value) -> Option<Trunk> {
    let mut trunk = Trunk::new(usize::try_from(input["branchInterfaces"].as_u64()?).unwrap());
    let mut others = Ec2::new(Subnet::default());
    for other in 0..input["held"].as_u64().unwrap_or(0) {
        trunk.take(&format!("other-{other}"), 1, &mut others).unwrap();
    }
    for other in 0..input["released"].as_u64().unwrap_or(0) {
        trunk.release(&format!("other-{other}"), Instant::now());
    }
    Some(trunk)
}

#[test]
fn jobs_of_the_real_controller() {
    for case in cases(include_str!("../../../fixtures/eks/sgp_alloc.json")) {
        let (id, input, expected) = (&case["id"], &case["input"], &case["expected"]);
        let mut pod = input["pod"].clone();
        pod["spec"]["nodeName"] = input["node"].clone();
        let count = usize::try_from(input["requests"].as_u64().unwrap()).unwrap();
        let cool_down = cool_down(None);
        let (events, then) =
            attempt(&pod, count, found(input), trunk(input).as_mut(), &mut ec2(input), cool_down);
        let mut events: Vec<Value> = events
            .iter()
            .map(|event| json!({ "type": event.kind, "reason": event.reason, "message": event.message }))
            .collect();
        events.sort_by_key(|event| event["reason"].to_string());
        assert_eq!(json!(events), expected["events"], "{id}");
        let (annotation, again, error) = match then {
            Then::Done => (None, None, None),
            Then::Annotate(text) => (Some(text), None, None),
            Then::Again(pause) => (None, Some(pause.as_secs()), None),
            Then::Retry(error) | Then::Drop(error) => (None, None, Some(error)),
        };
        assert_eq!(json!(annotation), expected["annotation"], "{id}");
        assert_eq!(json!(again), expected["againAfterSeconds"], "{id}");
        assert_eq!(json!(error), expected["error"], "{id}");
    }
}

#[test]
fn cool_downs_of_the_real_controller() {
    for case in cases(include_str!("../../../fixtures/eks/sgp_cooldown.json")) {
        let setting = case["input"]["branch-eni-cooldown"].as_str();
        assert_eq!(json!(cool_down(setting).as_secs()), case["expected"]["seconds"], "{}", case["id"]);
    }
    assert_eq!(cool_down(None), Duration::from_secs(60));
}

#[test]
fn interfaces_count_until_they_are_cool_and_deleted() {
    let (mut trunk, mut ec2) = (Trunk::new(2), Ec2::new(Subnet::default()));
    let begun = Instant::now();
    let second = Duration::from_secs(1);
    trunk.take("a", 1, &mut ec2).unwrap();
    trunk.take("b", 1, &mut ec2).unwrap();
    trunk.release("a", begun);
    assert_eq!((trunk.used(), trunk.take("c", 1, &mut ec2)), (2, Err(NoInterface::AtLimit)));
    trunk.sweep(begun + second * 29, second * 30);
    assert_eq!(trunk.used(), 2);
    trunk.sweep(begun + second * 30, second * 30);
    let again = trunk.take("c", 1, &mut ec2).unwrap();
    // The VLAN of `a` is free again, its address is not.
    let text = serde_json::to_value(&again).unwrap();
    assert_eq!((&text[0]["vlanId"], &text[0]["privateIp"]), (&json!(1), &json!("127.192.0.13")));
    trunk.undo("c");
    assert_eq!((trunk.used(), trunk.holders()), (1, vec!["b".to_owned()]));
}

#[test]
fn a_pod_that_gets_only_a_part_gets_nothing() {
    let (mut trunk, mut ec2) = (Trunk::new(1), Ec2::new(Subnet::default()));
    assert_eq!(trunk.take("a", 2, &mut ec2), Err(NoInterface::AtLimit));
    assert_eq!(trunk.used(), 0);
}

#[test]
fn an_account_that_is_gone_drops_the_job_and_policies_that_are_gone_give_the_nodes_groups() {
    let pod = json!({ "metadata": { "uid": "u" }, "spec": { "nodeName": "n" } });
    let mut ec2 = Ec2::new(Subnet::default());
    let missing = Err(MatchError::ServiceAccountNotFound("a".to_owned()));
    let then = attempt(&pod, 1, missing, Some(&mut Trunk::new(1)), &mut ec2, Duration::ZERO);
    assert_eq!(then, (vec![], Then::Drop("ServiceAccount \"a\" not found".to_owned())));
    let (events, then) =
        attempt(&pod, 1, Ok(Match::default()), Some(&mut Trunk::new(1)), &mut ec2, Duration::ZERO);
    assert_eq!((events[0].kind, events[0].reason), ("Warning", "SecurityGroupRequested"));
    assert!(events[0].message.starts_with("Pod will get the instance security group"), "{events:?}");
    assert!(matches!(then, Then::Annotate(_)), "{then:?}");
}
