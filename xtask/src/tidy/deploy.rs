//! `deploy/` against the workspace: no container engine runs where the tests do, but what an image build would miss can
//! be seen without one.

use super::TextFile;

const TOOLCHAIN: &str = "rust-toolchain.toml";
/// An image's recipe and what may be copied into it.
const IMAGES: [(&str, &str); 2] = [
    ("deploy/Dockerfile", "deploy/Dockerfile.dockerignore"),
    ("deploy/airflow.Dockerfile", "deploy/airflow.Dockerfile.dockerignore"),
];
/// Name the daemon's image with its tag.
const TAGGED: [&str; 4] =
    ["deploy/Dockerfile", "deploy/README.md", "deploy/helm/values.yaml", "deploy/migrate-job.yaml"];

pub(super) fn check(files: &[TextFile]) -> Vec<String> {
    let text = |path: &str| files.iter().find(|file| file.path == path).map_or("", |file| file.text.as_str());
    let mut found = Vec::new();
    for (image, ignore) in IMAGES {
        let admitted = admitted(text(ignore));
        for source in copied(text(image)) {
            if source == "." {
                found.extend(not_admitted(image, &needed_to_build(text("Cargo.toml")), &admitted));
            } else if !files.iter().any(|file| within(&file.path, &source)) {
                found.push(format!("{image}: COPY {source}: there is no such file"));
            } else if !admitted.iter().any(|path| within(path, &source)) {
                found.push(format!("{image}: COPY {source}: {ignore} keeps all of it out"));
            }
        }
        let missing = admitted.iter().filter(|path| !files.iter().any(|file| within(&file.path, path)));
        found.extend(missing.map(|path| format!("{ignore}: !{path}: there is no such file")));
    }
    let channel = quoted(text(TOOLCHAIN), "channel").unwrap_or_default();
    if !text("deploy/Dockerfile").contains(&format!("RUST_IMAGE=rust:{channel}-")) {
        found.push(format!("deploy/Dockerfile: RUST_IMAGE is not of {channel} ({TOOLCHAIN})"));
    }
    let version = quoted(text("Cargo.toml"), "version").unwrap_or_default();
    for file in TAGGED {
        if !text(file).contains(&format!("windlass:{version}")) {
            found.push(format!("{file}: names no image windlass:{version} (version in Cargo.toml)"));
        }
    }
    found
}

/// What `**` first keeps out and `!path` then lets through.
fn admitted(ignore: &str) -> Vec<String> {
    ignore.lines().filter_map(|line| line.strip_prefix('!')).map(str::to_owned).collect()
}

/// Sources of `COPY` from the context; those of another stage are left out.
fn copied(dockerfile: &str) -> Vec<String> {
    let lines = dockerfile.lines().filter_map(|line| line.strip_prefix("COPY "));
    let sources = lines.filter(|line| !line.contains("--from=")).flat_map(|line| {
        let words: Vec<&str> = line.split_whitespace().filter(|word| !word.starts_with("--")).collect();
        words[..words.len().saturating_sub(1)].iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()
    });
    sources.collect()
}

/// Cargo reads the manifests of all members, whatever it builds.
fn needed_to_build(manifest: &str) -> Vec<String> {
    let list = manifest.split_once("members = [").and_then(|(_, rest)| rest.split_once(']'));
    let members = list.map_or("", |(members, _)| members).split('"').skip(1).step_by(2).map(str::to_owned);
    members.chain(["Cargo.toml".to_owned(), "Cargo.lock".to_owned()]).collect()
}

fn not_admitted(image: &str, needed: &[String], admitted: &[String]) -> Vec<String> {
    let out = needed.iter().filter(|path| !admitted.iter().any(|open| within(path, open)));
    out.map(|path| format!("{image}: `{path}` is needed, and its .dockerignore keeps it out")).collect()
}

/// `path` is `folder` or lies in it.
fn within(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The first `key = "value"`.
fn quoted<'a>(toml: &'a str, key: &str) -> Option<&'a str> {
    let line =
        toml.lines().find_map(|line| line.trim_start().strip_prefix(key)?.trim_start().strip_prefix('='))?;
    line.split('"').nth(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(dockerfile: &str, ignore: &str) -> Vec<TextFile> {
        let file = |path: &str, text: &str| TextFile { path: path.to_owned(), text: text.to_owned() };
        let tagged = "windlass:0.1.0";
        vec![
            file("Cargo.toml", "members = [\n    \"a/b\",\n    \"c\",\n]\nversion = \"0.1.0\"\n"),
            file("Cargo.lock", ""),
            file("a/b/Cargo.toml", ""),
            file("c/Cargo.toml", ""),
            file("rust-toolchain.toml", "channel = \"1.95.0\""),
            file("deploy/Dockerfile", dockerfile),
            file("deploy/Dockerfile.dockerignore", ignore),
            file("deploy/README.md", tagged),
            file("deploy/helm/values.yaml", tagged),
            file("deploy/migrate-job.yaml", tagged),
        ]
    }

    #[test]
    fn what_an_image_build_would_miss_is_named() {
        let good =
            "# windlass:0.1.0\nARG RUST_IMAGE=rust:1.95.0-bookworm\nCOPY . .\nCOPY --from=build /out/x /x\n";
        let ignore = "**\n!Cargo.toml\n!Cargo.lock\n!a\n!c\n";
        assert_eq!(check(&files(good, ignore)), Vec::<String>::new());
        assert_eq!(
            check(&files(
                &good.replace("COPY . .", "COPY . .\nCOPY --chown=1:0 gone /x"),
                &ignore.replace("!c\n", "!d\n")
            )),
            [
                "deploy/Dockerfile: `c` is needed, and its .dockerignore keeps it out",
                "deploy/Dockerfile: COPY gone: there is no such file",
                "deploy/Dockerfile.dockerignore: !d: there is no such file",
            ]
        );
        assert_eq!(
            check(&files("COPY . .\nARG RUST_IMAGE=rust:1.90.0-bookworm", ignore)),
            [
                "deploy/Dockerfile: RUST_IMAGE is not of 1.95.0 (rust-toolchain.toml)",
                "deploy/Dockerfile: names no image windlass:0.1.0 (version in Cargo.toml)",
            ]
        );
    }
}
