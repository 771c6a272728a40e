use windlass_core::doctor::Repair;
use windlass_core::ids::{PodRef, PodUid};

use super::*;

fn a_report() -> Report {
    let mut report = Report::default();
    report.found("configuration", Vec::new(), "no faults");
    let queued = Finding::new(
        Code::QueuedWithoutLaunch,
        "etl.load r1 try 1",
        "it has been queued for 2 min\nand has no launch",
    );
    let pod = PodRef { namespace: "etl".into(), name: "etl-load-1".into() };
    let repair =
        Repair::DeleteEndedPod { pod: pod.clone(), uid: PodUid("u1".into()), resource_version: "42".into() };
    let left = Finding::new(Code::PodLeftOver, pod, "it has ended, and its launch was closed 3 min ago");
    report.found("tasks", vec![left.repair(repair), queued], "2 launches not done, 1 pod");
    report.skipped("API server", "no answer");
    report
}

#[test]
fn the_worst_comes_first_and_each_finding_says_what_to_do() {
    insta::assert_snapshot!(text(&a_report()), @r"
    configuration ok       no faults
    tasks         error    2 launches not done, 1 pod
    API server    skipped  no answer

    1 error, 1 warning, 0 info; 1 check skipped

    error queued-without-launch: etl.load r1 try 1
      it has been queued for 2 min and has no launch
      by itself: the leader's full pass takes it within seconds once it works; the plugin keeps Airflow from queueing it again for at most [windlass] hold_limit_seconds
      to do:     see that a daemon leads and its log; `windlass explain` tells more of this task

    warning pod-left-over: etl/etl-load-1
      it has ended, and its launch was closed 3 min ago
      by itself: nothing: the leader has forgotten it
      to do:     `windlass doctor --repair` deletes it
      --repair:  delete pod etl/etl-load-1, which has ended
    ");
}

#[test]
fn a_flood_of_one_code_is_cut_for_people_and_checks_are_told_in_order() {
    let mut report = a_report();
    let queued = |n| Finding::new(Code::QueuedWithoutLaunch, format!("etl.load r{n}"), "it waits");
    report.findings = (0..25).map(queued).collect();
    let text = text(&report);
    assert_eq!(text.matches("\nerror queued-without-launch: ").count(), SHOWN_MAX);
    assert!(text.ends_with("\n5 more of queued-without-launch: --output json has all\n"), "{text}");
    report.failed(queued(99));
    assert_eq!(report.findings.len(), 25, "its code was told");
    report.in_order();
    let names: Vec<&str> = report.checks.iter().map(|check| check.name).collect();
    assert_eq!(names, ["configuration", "API server", "tasks"]);
}

#[test]
fn the_document_has_stable_codes_and_the_verdict() {
    let document = json(&a_report());
    assert_eq!(document["healthy"], false);
    assert_eq!(document["findings"][1]["code"], "queued-without-launch");
    assert_eq!(document["findings"][1]["severity"], "error");
    assert_eq!(document["findings"][0]["repair"]["delete-ended-pod"]["resource_version"], "42");
    assert_eq!(document["checks"][2]["state"], "skipped");
    let mut healthy = a_report();
    healthy.findings.retain(|finding| finding.code != Code::QueuedWithoutLaunch);
    assert_eq!(json(&healthy)["healthy"], true, "a warning is no error");
    assert_eq!(text(&Report::default()), "\nnothing found\n");
}

#[test]
fn the_page_explains_every_code() {
    let page = page();
    for about in Code::all() {
        assert!(page.contains(&format!(
            "| <a id=\"{0}\"></a>`{0}` | {1} |",
            about.name,
            about.severity.as_str()
        )));
    }
}
