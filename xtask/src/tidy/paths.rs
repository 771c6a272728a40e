//! Paths that our pages name must exist: a map that is wrong is worse than none.

use std::collections::BTreeSet;

use windlass_lab_prepare::workspace;

use super::TextFile;

/// Pages whose backticked paths are checked.
const PAGES: [&str; 3] = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"];

pub(super) fn check(files: &[TextFile]) -> Vec<String> {
    // Only what begins with a folder of ours is meant as a path; `a/b` may be anything.
    let roots: BTreeSet<&str> =
        files.iter().filter_map(|file| file.path.split_once('/')).map(|(root, _)| root).collect();
    let mut found = Vec::new();
    for page in files.iter().filter(|file| PAGES.contains(&file.path.as_str())) {
        let exists = |path: &str| workspace().join(path).exists();
        for dead in dead_paths(&page.text, &roots, exists) {
            found.push(format!("{}: `{dead}` does not exist", page.path));
        }
    }
    for page in PAGES {
        if !files.iter().any(|file| file.path == page) {
            found.push(format!("{page} is missing"));
        }
    }
    found
}

fn dead_paths<'a>(markdown: &'a str, roots: &BTreeSet<&str>, exists: impl Fn(&str) -> bool) -> Vec<&'a str> {
    let mut dead = Vec::new();
    let mut fenced = false;
    for line in markdown.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            continue;
        }
        if fenced {
            continue;
        }
        let named = line.split('`').skip(1).step_by(2).filter(|named| !named.contains([' ', '*', '<', '{']));
        let in_links = line.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
        let is_ours = |path: &&str| {
            path.split_once('/').is_some_and(|(root, _)| roots.contains(root)) || path.ends_with(".md")
        };
        dead.extend(
            named.chain(in_links).filter(is_ours).filter(|path| !path.contains("://") && !exists(path)),
        );
    }
    dead
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_paths_are_found_in_code_spans_and_links() {
        let page = "See `docs/gone.md`, `docs/here.md` and `sqlx/postgres`, [map](docs/lost.md#top).\n\
                    ```\ndocs/in-a-block.md `docs/x`\n```\n[GONE](GONE.md) `cargo xtask check docs/x`";
        let roots = BTreeSet::from(["docs"]);
        let dead = dead_paths(page, &roots, |path| path == "docs/here.md");
        assert_eq!(dead, ["docs/gone.md", "docs/lost.md", "GONE.md"]);
    }
}
