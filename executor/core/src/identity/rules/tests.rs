use super::*;

fn rule(name: &str, when: &[(Trait, &[&str])]) -> Rule {
    let condition = |(on, patterns): &(Trait, &[&str])| Condition {
        on: *on,
        patterns: patterns.iter().map(|p| Pattern::read(p, on.of()).unwrap()).collect(),
    };
    Rule {
        name: name.into(),
        place: Place { line: 3, column: 1 },
        when: when.iter().map(condition).collect(),
        gives: Identity::default(),
        may_override: Freedoms::new(),
    }
}

fn texts(of: &[&str]) -> Vec<String> {
    of.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn the_first_rule_whose_conditions_all_hold_is_taken() {
    let rules = Rules::new(
        vec![
            rule("pii", &[(Trait::Tag, &["pii"]), (Trait::Queue, &["gpu", "big"])]),
            rule("fin", &[(Trait::Folder, &["finance"])]),
            rule("etl", &[(Trait::Dag, &["etl_*"])]),
        ],
        Some(rule(DEFAULT, &[])),
    );
    let (tags, none) = (texts(&["x", "pii"]), texts(&[]));
    let task = |dag_id, queue, tags, folder| Facts { dag_id, queue, tags, folder, ..Facts::default() };
    let cases = [
        (task("etl_a", "gpu", &tags, None), "pii"),
        (task("etl_a", "default", &tags, None), "etl"),
        (task("etl_a", "gpu", &none, Some("finance/daily")), "fin"),
        (task("b", "gpu", &none, Some("finance2")), DEFAULT),
    ];
    for (task, want) in cases {
        assert_eq!(rules.find(&task).map(|rule| rule.name.as_str()), Some(want), "{task:?}");
    }
    let (found, misses) = rules.explain(&task("b", "gpu", &none, Some("teams/x")));
    assert_eq!(found.map(|rule| rule.name.as_str()), Some(DEFAULT));
    let told: Vec<String> = misses.iter().map(|miss| format!("{}: {}", miss.rule, miss.why)).collect();
    assert_eq!(
        told,
        [
            "pii: it wants tag `pii`; the task has no tag",
            "fin: it wants folder `finance`; the DAG's file lies in `teams/x`",
            "etl: it wants dag `etl_*`; the task has dag `b`",
        ]
    );
}

#[test]
fn a_default_that_denies_gives_nothing() {
    let rules = Rules::new(vec![rule("a", &[(Trait::Dag, &["a"])])], None);
    assert!(rules.find(&Facts { dag_id: "b", ..Facts::default() }).is_none());
    assert_eq!(rules.all().count(), 1);
}

#[test]
fn a_folder_is_told_below_the_dags_folder_and_never_by_two_dots() {
    let cases = [
        ("/opt/dags/finance/x.py", Some("finance")),
        ("/opt/dags/finance/deep/x.py", Some("finance/deep")),
        ("/opt/dags/x.py", Some(".")),
        ("/elsewhere/x.py", Some("/elsewhere")),
        ("/opt/dags/finance/../ops/x.py", None),
        ("/opt/dags_finance/x.py", Some("/opt/dags_finance")),
        ("/opt/dags/pack.zip/x.py", Some("pack.zip")),
    ];
    for (file, want) in cases {
        assert_eq!(folder_of(file, "/opt/dags").as_deref(), want, "{file}");
    }
    assert_eq!(folders_up("a/b/c").collect::<Vec<_>>(), ["a/b/c", "a/b", "a"]);
    assert_eq!(folders_up("/a/b").collect::<Vec<_>>(), ["/a/b", "/a"]);
    assert_eq!(folders_up(".").collect::<Vec<_>>(), ["."]);
}

mod together {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const PATTERNS: [&str; 10] =
        ["a", "b", "a*", "*b", "?", "{a,b}", "[ab]c", "regex:a", "regex:^b$", "regex:[ab]+c"];

    fn conditions() -> impl Strategy<Value = Vec<(Trait, Vec<&'static str>)>> {
        let on = proptest::sample::select(&Trait::ALL[..]);
        vec((on, vec(proptest::sample::select(&PATTERNS[..]), 1..4)), 0..4)
    }

    proptest! {
        /// All at once, and one after the other: the same rule.
        #[test]
        fn the_lookup_finds_what_the_rules_say(
            rules in vec(conditions(), 0..12),
            words in vec("[abc]{0,3}", 5),
            tags in vec("[abc]{1,2}", 0..3),
            owners in vec("[abc]{1,2}", 0..3),
            folder in proptest::option::of("[abc](/[abc]{1,2}){0,2}"),
        ) {
            let rules = rules.iter().enumerate().map(|(number, when)| {
                let when: Vec<(Trait, &[&str])> = when.iter().map(|(on, of)| (*on, of.as_slice())).collect();
                rule(&number.to_string(), &when)
            });
            let rules = Rules::new(rules.collect(), None);
            let task = Facts {
                dag_id: &words[0],
                task_id: &words[1],
                queue: &words[2],
                pool: &words[3],
                operator: &words[4],
                tags: &tags,
                owners: &owners,
                folder: folder.as_deref(),
            };
            prop_assert!(rules.lookup.is_some());
            let name = |rule: Option<&Rule>| rule.map(|rule| rule.name.clone());
            prop_assert_eq!(name(rules.find(&task)), name(rules.first(&task)));
        }
    }
}
