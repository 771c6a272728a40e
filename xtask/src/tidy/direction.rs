//! Which crate may use which: the arrows of ARCHITECTURE.md, and who holds the clients of the outside world.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::step::cargo;

/// What is shipped, and the crates of this workspace that each may use. `[dev-dependencies]` are free.
const SHIPPED: [(&str, &[&str]); 7] = [
    ("windlass-core", &[]),
    ("windlass-aws", &[]),
    ("windlass-engine", &["windlass-core"]),
    ("windlass-cluster", &["windlass-core"]),
    ("windlass-migrations", &[]),
    ("scheduler-bridge", &["windlass-core", "windlass-migrations"]),
    (
        "windlass",
        &[
            "windlass-core",
            "windlass-engine",
            "windlass-aws",
            "windlass-cluster",
            "scheduler-bridge",
            "windlass-migrations",
        ],
    ),
];

/// A client of the outside world belongs to one shipped crate; what is not shipped may use it too.
const CLIENTS: [(&str, &[&str]); 7] = [
    ("aws-config", &["windlass-aws"]),
    ("aws-sdk-sts", &["windlass-aws"]),
    ("aws-sigv4", &["windlass-aws"]),
    ("kube", &["windlass-cluster"]),
    ("k8s-openapi", &["windlass-cluster"]),
    ("sqlx", &["scheduler-bridge", "windlass-migrations"]),
    ("sqlx-core", &["scheduler-bridge", "windlass-migrations"]),
];

/// Pure and synchronous: no IO, no clock, no randomness (clippy.toml of each bans what std has of these).
const PURE: [&str; 2] = ["windlass-core", "windlass-engine"];
const IMPURE: [&str; 11] = [
    "axum",
    "futures",
    "getrandom",
    "hyper",
    "kube",
    "rand",
    "reqwest",
    "rustix",
    "sqlx",
    "tokio",
    "tracing-subscriber",
];

struct Package {
    name: String,
    /// Names of normal and build dependencies.
    uses: BTreeSet<String>,
}

pub(super) fn check() -> Result<Vec<String>> {
    let output = cargo()
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .output()
        .context("run `cargo metadata`")?;
    let metadata: Value =
        serde_json::from_slice(&output.stdout).context("read the output of `cargo metadata`")?;
    Ok(findings(&packages(&metadata)))
}

fn packages(metadata: &Value) -> Vec<Package> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let read = |package: Value| Package {
        name: text(&package["name"]),
        uses: list(&package["dependencies"])
            .iter()
            .filter(|dependency| dependency["kind"] != "dev")
            .map(|dependency| text(&dependency["name"]))
            .collect(),
    };
    list(&metadata["packages"]).into_iter().map(read).collect()
}

fn findings(packages: &[Package]) -> Vec<String> {
    let ours: BTreeSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let mut found = Vec::new();
    for package in packages {
        let Some((_, allowed)) = SHIPPED.iter().find(|(name, _)| *name == package.name) else { continue };
        for used in package.uses.iter().map(String::as_str) {
            if ours.contains(used) && !allowed.contains(&used) {
                found.push(format!(
                    "{} must not depend on {used} (ARCHITECTURE.md, the arrows)",
                    package.name
                ));
            }
            let client = CLIENTS.iter().find(|(name, _)| *name == used);
            if let Some((_, owners)) = client.filter(|(_, owners)| !owners.contains(&package.name.as_str())) {
                found.push(format!(
                    "{} must not use {used}: it belongs to {}",
                    package.name,
                    owners.join(", ")
                ));
            }
            if PURE.contains(&package.name.as_str()) && IMPURE.contains(&used) {
                found.push(format!("{} is pure and must not use {used}", package.name));
            }
        }
    }
    for (name, _) in SHIPPED.iter().filter(|(name, _)| !ours.contains(name)) {
        found.push(format!("xtask/src/tidy/direction.rs names {name}, which is no package"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &str, uses: &[&str]) -> Vec<String> {
        let mut packages: Vec<Package> = SHIPPED
            .iter()
            .map(|(name, _)| Package { name: (*name).to_owned(), uses: BTreeSet::new() })
            .collect();
        packages.push(Package { name: "windlass-lab".to_owned(), uses: BTreeSet::new() });
        packages.retain(|package| package.name != name);
        packages.push(Package {
            name: name.to_owned(),
            uses: uses.iter().map(|&used| used.to_owned()).collect(),
        });
        findings(&packages)
    }

    #[test]
    fn arrows_point_one_way() {
        assert!(with("windlass-cluster", &["windlass-core", "kube"]).is_empty());
        assert_eq!(
            with("windlass-cluster", &["scheduler-bridge"]),
            ["windlass-cluster must not depend on scheduler-bridge (ARCHITECTURE.md, the arrows)"]
        );
        assert_eq!(
            with("windlass", &["windlass-lab"]),
            ["windlass must not depend on windlass-lab (ARCHITECTURE.md, the arrows)"]
        );
    }

    #[test]
    fn clients_of_the_outside_world_have_one_owner() {
        assert_eq!(
            with("windlass", &["sqlx"]),
            ["windlass must not use sqlx: it belongs to scheduler-bridge, windlass-migrations"]
        );
        assert_eq!(with("windlass-engine", &["tokio"]), ["windlass-engine is pure and must not use tokio"]);
        assert!(with("windlass-lab", &["sqlx", "kube"]).is_empty(), "not shipped");
    }
}
