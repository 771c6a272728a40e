//! What the bodies wrote against what Airflow and Windlass recorded: nothing ran twice, nothing is a success that did not
//! run, nothing ran unrecorded. Values in, values out.

use std::collections::{BTreeMap, BTreeSet};

/// `run_id task_id map_index`.
pub(crate) type Key = (String, String, i32);

/// What is wrong: in words, and the tasks that it is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) words: Vec<String>,
    pub(crate) tasks: BTreeSet<Key>,
}

impl Wrong {
    pub(crate) fn say(&mut self, word: String) {
        self.words.push(word);
    }

    pub(crate) fn say_of(&mut self, key: &Key, word: String) {
        self.words.push(word);
        self.tasks.insert(key.clone());
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.words.extend(other.words);
        self.tasks.extend(other.tasks);
    }
}

/// How a task is named in words.
pub(crate) fn named((run_id, task_id, map_index): &Key) -> String {
    format!("{run_id} {task_id} {map_index}")
}

/// One line of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Body {
    key: Key,
    try_number: i32,
    queued: String,
    pod: String,
}

impl Body {
    fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split(' ').collect();
        let [_dag, task_id, run_id, map_index, try_number, queued, pod] = words.as_slice() else {
            return None;
        };
        let key = ((*run_id).to_owned(), (*task_id).to_owned(), map_index.parse().ok()?);
        let (queued, pod) = ((*queued).to_owned(), (*pod).to_owned());
        Some(Self { key, try_number: try_number.parse().ok()?, queued, pod })
    }
}

/// A task instance at the end.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub(crate) key: Key,
    pub(crate) try_number: i32,
    pub(crate) state: Option<String>,
}

/// A launch at the end.
#[derive(Clone, Debug)]
pub(crate) struct Launched {
    pub(crate) key: Key,
    pub(crate) try_number: i32,
    pub(crate) queued: String,
    pub(crate) outcome: Option<String>,
}

/// All three against each other.
pub(crate) fn compare(journal: &str, ended: &[Ended], launched: &[Launched]) -> Wrong {
    let bodies: Vec<Body> = journal.lines().filter_map(Body::parse).collect();
    let mut wrong = Wrong::default();
    if bodies.len() != journal.lines().count() {
        wrong.say("a line of the journal is none".to_owned());
    }
    doubled(&bodies, &mut wrong);
    let ran: BTreeSet<(&Key, i32)> = bodies.iter().map(|body| (&body.key, body.try_number)).collect();
    for Ended { key, try_number, state } in ended {
        let task = named(key);
        if state.as_deref() == Some("success") && !ran.contains(&(key, *try_number)) {
            wrong
                .say_of(key, format!("lost: try {try_number} of {task} is a success and its body never ran"));
        }
        if state.as_deref() == Some("failed") {
            wrong.say_of(key, format!("lost: {task} is failed in try {try_number}, with tries left"));
        }
    }
    let queueings: BTreeSet<(&Key, i32, &str)> =
        bodies.iter().map(|body| (&body.key, body.try_number, body.queued.as_str())).collect();
    let launches: BTreeMap<(&Key, i32, &str), Option<&str>> = launched
        .iter()
        .map(|of| ((&of.key, of.try_number, of.queued.as_str()), of.outcome.as_deref()))
        .collect();
    for queueing in queueings.iter().filter(|queueing| !launches.contains_key(queueing)) {
        let (key, try_number, queued) = queueing;
        let task = named(key);
        wrong.say_of(
            key,
            format!("unrecorded: try {try_number} of {task}, queued {queued}, ran without a launch"),
        );
    }
    for (queueing, outcome) in launches {
        if outcome == Some("success") && !queueings.contains(&queueing) {
            let (key, try_number, queued) = queueing;
            let task = named(key);
            wrong.say_of(
                key,
                format!("lost: the launch of try {try_number} of {task}, queued {queued}, says success and no body ran"),
            );
        }
    }
    wrong
}

/// Tries whose body ran more than once. These tasks neither defer nor reschedule, so a try has one queueing that runs.
fn doubled(bodies: &[Body], wrong: &mut Wrong) {
    let mut by_try: BTreeMap<(&Key, i32), Vec<&Body>> = BTreeMap::new();
    for body in bodies {
        by_try.entry((&body.key, body.try_number)).or_default().push(body);
    }
    for ((key, number), bodies) in by_try.into_iter().filter(|(_, bodies)| bodies.len() > 1) {
        let pods: Vec<String> =
            bodies.iter().map(|body| format!("{} (queued {})", body.pod, body.queued)).collect();
        wrong
            .say_of(key, format!("doubled: try {number} of {} ran in {}", named(key), pods.join(" and in ")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: &str = "2026-01-01T00:00:00.000001";

    fn line(index: i32, try_number: i32, queued: &str, pod: &str) -> String {
        format!("faults quick run0 {index} {try_number} {queued} {pod}\n")
    }

    fn key(index: i32) -> Key {
        ("run0".into(), "quick".into(), index)
    }

    fn ended(index: i32, try_number: i32, state: &str) -> Ended {
        Ended { key: key(index), try_number, state: Some(state.into()) }
    }

    fn launched(index: i32, try_number: i32, queued: &str, outcome: &str) -> Launched {
        Launched { key: key(index), try_number, queued: queued.into(), outcome: Some(outcome.into()) }
    }

    #[test]
    fn one_body_for_each_queueing_that_ran_is_right() {
        let later = "2026-01-01T00:00:09.000001";
        let journal = line(3, 1, AT, "pod-a") + &line(3, 2, later, "pod-b");
        let launches = [
            launched(3, 1, AT, "failure"),
            launched(3, 2, later, "success"),
            launched(4, 1, AT, "failure"), // its pod never got so far
        ];
        let wrong = compare(&journal, &[ended(3, 2, "success"), ended(4, 2, "removed")], &launches);
        assert_eq!(wrong, Wrong::default());
    }

    #[test]
    fn a_try_that_ran_twice_is_told_with_its_pods() {
        let journal = line(3, 1, AT, "pod-a") + &line(3, 1, AT, "pod-b");
        let wrong = compare(&journal, &[ended(3, 1, "success")], &[launched(3, 1, AT, "success")]);
        let told =
            format!("doubled: try 1 of run0 quick 3 ran in pod-a (queued {AT}) and in pod-b (queued {AT})");
        assert_eq!(wrong, Wrong { words: vec![told], tasks: [key(3)].into() });
    }

    #[test]
    fn what_is_lost_or_unrecorded_is_told() {
        let journal = line(1, 1, AT, "pod-a") + "faults quick run0 x 1 t pod\n";
        let ends = [ended(1, 1, "success"), ended(2, 1, "success"), ended(3, 4, "failed")];
        let launches = [launched(2, 1, AT, "success"), launched(3, 4, AT, "failure")];
        let wrong = compare(&journal, &ends, &launches);
        let told = [
            "a line of the journal is none".to_owned(),
            "lost: try 1 of run0 quick 2 is a success and its body never ran".to_owned(),
            "lost: run0 quick 3 is failed in try 4, with tries left".to_owned(),
            format!("unrecorded: try 1 of run0 quick 1, queued {AT}, ran without a launch"),
            format!("lost: the launch of try 1 of run0 quick 2, queued {AT}, says success and no body ran"),
        ];
        assert_eq!(wrong.words, told);
        assert_eq!(wrong.tasks, [key(1), key(2), key(3)].into());
    }
}
