//! One container: what its environment and its mounts give it.

use serde_json::Value;

use super::env::{Variable, shadow, variable};
use super::{Credentials, POD_IDENTITY_AUDIENCE, POD_IDENTITY_URI, Wrong, list};

const ROLE_ARN: &str = "AWS_ROLE_ARN";
const TOKEN_FILE: &str = "AWS_WEB_IDENTITY_TOKEN_FILE";
const FULL_URI: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
const AUTHORIZATION_FILE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";

/// Any of these in a container keeps the webhook from setting its partner.
pub(in super::super) const CREDENTIALS_BY_HAND: [&str; 4] =
    [ROLE_ARN, TOKEN_FILE, FULL_URI, AUTHORIZATION_FILE];

/// What a container has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// No variable of any kind.
    Nothing,
    /// The right ones, with their token.
    Role(Credentials),
}

impl Found {
    pub(super) fn credentials(self) -> Option<Credentials> {
        match self {
            Self::Nothing => None,
            Self::Role(credentials) => Some(credentials),
        }
    }
}

/// What the container would get from AWS. Web identity goes before container credentials, as in the SDKs.
pub(super) fn judge(
    container: &Value,
    volumes: &[Value],
    role: &str,
    audience: &str,
) -> Result<Found, Wrong> {
    let has = |name| variable(container, name) != Variable::Absent;
    let web = has(ROLE_ARN) || has(TOKEN_FILE);
    let pod_identity = !web && (has(FULL_URI) || has(AUTHORIZATION_FILE));
    if web {
        let found = plain(container, ROLE_ARN)?;
        if found != role {
            return Err(Wrong::Role { found: found.to_owned() });
        }
        token(container, volumes, TOKEN_FILE, audience)?;
    } else if pod_identity {
        let found = plain(container, FULL_URI)?;
        if found != POD_IDENTITY_URI {
            return Err(Wrong::Uri { found: found.to_owned() });
        }
        token(container, volumes, AUTHORIZATION_FILE, POD_IDENTITY_AUDIENCE)?;
    }
    if let Some(name) = shadow(container, pod_identity) {
        return Err(Wrong::Shadowed { name });
    }
    Ok(match (web, pod_identity) {
        (true, _) => Found::Role(Credentials::WebIdentity),
        (false, true) => Found::Role(Credentials::PodIdentity),
        (false, false) => Found::Nothing,
    })
}

fn plain<'a>(container: &'a Value, name: &'static str) -> Result<&'a str, Wrong> {
    match variable(container, name) {
        Variable::Plain(value) => Ok(value),
        Variable::ValueFrom => Err(Wrong::ValueFrom { name }),
        Variable::Absent => Err(Wrong::Half { name }),
    }
}

/// The file that the variable names is a token of the service account, for `audience`.
fn token(container: &Value, volumes: &[Value], name: &'static str, audience: &str) -> Result<(), Wrong> {
    let path = plain(container, name)?;
    let found = mounted_token(container, volumes, path)
        .ok_or_else(|| Wrong::NoToken { name, path: path.to_owned() })?;
    let found = found["audience"].as_str().unwrap_or_default();
    if found == audience {
        Ok(())
    } else {
        Err(Wrong::Audience { found: found.to_owned(), expected: audience.to_owned() })
    }
}

/// The projection that `path` in the container leads to.
fn mounted_token<'a>(container: &Value, volumes: &'a [Value], path: &str) -> Option<&'a Value> {
    let path = unix_path(path);
    // The deepest mount holds the file; of two at one path the later lies on top.
    let (mount, rest) = list(&container["volumeMounts"])
        .iter()
        .rev()
        .filter_map(|mount| Some((mount, below(&path, &unix_path(mount["mountPath"].as_str()?))?)))
        .min_by_key(|(_, rest)| rest.len())?;
    let sub = mount["subPath"].as_str().unwrap_or_default();
    let file = [sub, rest].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
    let volume = volumes.iter().find(|volume| volume["name"] == mount["name"])?;
    list(&volume["projected"]["sources"])
        .iter()
        .map(|source| &source["serviceAccountToken"])
        .find(|token| token["path"] == file.as_str())
}

/// What of `path` is below the folder; empty: the folder itself.
fn below<'a>(path: &'a str, folder: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(folder.trim_end_matches('/'))?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
}

/// On Windows nodes the webhook writes `C:\var\...` into the variable and `/var/...` into the mount.
fn unix_path(path: &str) -> String {
    path.strip_prefix("C:").map_or_else(|| path.to_owned(), |rest| rest.replace('\\', "/"))
}
