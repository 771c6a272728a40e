//! Service accounts: what is written on them, and tokens for others than the API server.

use std::collections::BTreeMap;

use http::Method;
use serde::Deserialize;
use serde_json::json;
use windlass_core::identity::irsa::WebToken;

use crate::create::is_path_segment;
use crate::error::ClusterError;
use crate::observe::Verb;
use crate::transport::{Call, Cluster};

/// The shortest that the API server gives.
const TOKEN_SECONDS: u32 = 600;

#[derive(Deserialize)]
struct Account {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct TokenRequest {
    status: TokenStatus,
}

#[derive(Deserialize)]
struct TokenStatus {
    token: String,
}

impl Cluster {
    /// The annotations of a service account. Needs `get` on `serviceaccounts`, which deploy/rbac does not give.
    ///
    /// # Errors
    /// [`ClusterError`]; with status 404 there is no such account.
    pub async fn account_annotations(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<BTreeMap<String, String>, ClusterError> {
        let what = format!("get service account {namespace}/{name}");
        let call = Call::plain(Verb::Review, Method::GET, path(namespace, name, &what)?, what.clone());
        let answer = self.read(call, self.inner.config.request_timeout).await?;
        let account: Account =
            serde_json::from_slice(&answer.body).map_err(|error| self.unreadable(what, error.to_string()))?;
        Ok(account.metadata.annotations)
    }

    /// A token of a service account for `audience`, good for ten minutes, as the kubelet requests them for pods. Needs
    /// `create` on `serviceaccounts/token`, which deploy/rbac does not give.
    ///
    /// # Errors
    /// [`ClusterError`]; with status 404 there is no such account.
    pub async fn account_token(
        &self,
        namespace: &str,
        name: &str,
        audience: &str,
    ) -> Result<WebToken, ClusterError> {
        let what = format!("request a token of service account {namespace}/{name}");
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": { "audiences": [audience], "expirationSeconds": TOKEN_SECONDS },
        });
        let path = format!("{}/token", path(namespace, name, &what)?);
        let call = Call {
            body: Some(request.to_string().into_bytes()),
            ..Call::plain(Verb::Review, Method::POST, path, what.clone())
        };
        let answer = self.read(call, self.inner.config.request_timeout).await?;
        // What serde says of a broken answer may quote it, and the token is in it.
        let broken = |_| self.unreadable(what, "it holds no token".to_owned());
        let answer: TokenRequest = serde_json::from_slice(&answer.body).map_err(broken)?;
        Ok(WebToken::new(answer.status.token))
    }
}

fn path(namespace: &str, name: &str, call: &str) -> Result<String, ClusterError> {
    if is_path_segment(namespace) && is_path_segment(name) {
        return Ok(format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}"));
    }
    let why = "the name is none of Kubernetes".to_owned();
    Err(ClusterError::Setting { what: format!("request `{call}`"), why })
}
