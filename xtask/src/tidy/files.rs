//! Rules about each file by itself.

use super::TextFile;

/// Of a source file without its tests.
const LINES_MAX: usize = 400;

/// Paths that exist on one machine only. Put together here, so that this file does not break its own rule.
const MACHINE_PATHS: [&str; 4] =
    [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/home", "/ubuntu"), concat!("/Us", "ers/")];

pub(super) fn check(files: &[TextFile]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        let lines = lines_without_tests(file);
        if lines > LINES_MAX {
            found.push(format!("{}: {lines} lines without tests, at most {LINES_MAX}: split it", file.path));
        }
        for (number, line) in file.text.lines().enumerate() {
            if let Some(place) = MACHINE_PATHS.iter().find(|place| line.contains(**place)) {
                found.push(format!("{}:{}: a path of one machine ({place}..)", file.path, number + 1));
            }
            if file.path.ends_with(".rs") && line.trim_start().starts_with(concat!("#[ign", "ore")) {
                found.push(format!(
                    "{}:{}: no ignored tests: assert what holds today",
                    file.path,
                    number + 1
                ));
            }
        }
    }
    found
}

/// Source code only; a file of tests may be as long as it is clear.
fn lines_without_tests(file: &TextFile) -> usize {
    let is_test = ["tests", "test"]
        .iter()
        .any(|stem| file.path.ends_with(&format!("/{stem}.rs")) || file.path.contains(&format!("/{stem}_")));
    let in_tests = file.path.contains("/tests/") && !file.path.starts_with("tests/");
    let in_suite = file.path.starts_with("tests/") && file.path.matches("/tests/").count() > 0;
    if !(file.path.ends_with(".rs") || file.path.ends_with(".py")) || is_test || in_tests || in_suite {
        return 0;
    }
    file.text.lines().take_while(|line| line.trim() != "#[cfg(test)]").count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<String> {
        check(&[TextFile { path: path.to_owned(), text: text.to_owned() }])
    }

    #[test]
    fn long_files_are_named_but_not_for_their_tests() {
        let long = "x\n".repeat(401);
        assert_eq!(
            findings("a/src/b.rs", &long),
            ["a/src/b.rs: 401 lines without tests, at most 400: split it"]
        );
        assert!(findings("a/tests/b.rs", &long).is_empty());
        assert!(findings("tests/suite/tests/b.rs", &long).is_empty());
        assert!(!findings("tests/lab/src/b.rs", &long).is_empty());
        assert!(findings("a/src/b.rs", &format!("fn f() {{}}\n#[cfg(test)]\n{long}")).is_empty());
        assert!(findings("a/b.json", &long).is_empty());
    }

    #[test]
    fn paths_of_one_machine_and_ignored_tests_are_found() {
        let place = concat!("see /wo", "rk/x");
        assert_eq!(findings("a.md", place).len(), 1);
        assert_eq!(findings("a/src/b.rs", concat!("    #[ign", "ore]")).len(), 1);
    }
}
