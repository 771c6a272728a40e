//! AWS's side of an EKS cluster, put on the API server of a test.

use std::time::{Duration, Instant};

use http::Request;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::branch::{Controller, Options};
use crate::configuration::{sgp_mutating, sgp_validating};
use crate::policy::security_group_policy_crd;
use crate::server::{Handler, MUTATE_SGP, StartError, VALIDATE_SGP, Webhooks};
use crate::sgp::Known;

/// On two cores that others use too.
const WITHIN: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// Why it is not there.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The webhooks' server.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The API server's words.
    #[error("the API server refuses {what}")]
    Refused {
        /// What was asked.
        what: String,
        /// Its answer.
        #[source]
        source: Box<kube::Error>,
    },
    /// It did not come to be.
    #[error("{0}: not seen within {WITHIN:?}; see the log of the API server")]
    NotSeen(String),
}

/// Security groups for pods as EKS has them: resource, webhooks, controller. Dropping it ends the webhooks and the
/// controller; the API server keeps the objects.
pub struct SecurityGroups {
    /// Their modes; the paths are [`MUTATE_SGP`] and [`VALIDATE_SGP`].
    pub webhooks: Webhooks,
    /// The cache of webhooks and controller.
    pub known: Known,
    /// It has no node yet: see [`Controller::add_node`].
    pub controller: Controller,
    client: kube::Client,
    _following: JoinSet<()>,
}

impl SecurityGroups {
    /// Puts it on an API server, with `more` handlers of the webhooks' server, whose configurations are the caller's to
    /// make. Both webhooks are asked when this returns. `namespace` is one in which pods can be created.
    ///
    /// # Errors
    /// [`InstallError`].
    pub async fn install(
        config: kube::Config,
        namespace: &str,
        options: Options,
        more: impl IntoIterator<Item = (&'static str, Handler)>,
    ) -> Result<Self, InstallError> {
        let refused = |what: &str| {
            let what = what.to_owned();
            move |source| InstallError::Refused { what, source: Box::new(source) }
        };
        let client = kube::Client::try_from(config.clone()).map_err(refused("a client"))?;
        establish_policies(&client).await?;
        let known = Known::default();
        let following = known.follow(&client);
        let webhooks = Webhooks::start(known.handlers().into_iter().chain(more)).await?;
        let controller =
            Controller::start(config, known.clone(), options).map_err(refused("the controller's client"))?;
        let groups = Self { webhooks, known, controller, client, _following: following };
        groups.create(&sgp_mutating(&groups.webhooks)).await?;
        groups.create(&sgp_validating(&groups.webhooks)).await?;
        for path in [MUTATE_SGP, VALIDATE_SGP] {
            groups.is_asked(path, namespace).await?;
        }
        Ok(groups)
    }

    /// Creates an object of `configuration` or `policy`, or a SecurityGroupPolicy.
    ///
    /// # Errors
    /// [`InstallError::Refused`].
    pub async fn create(&self, object: &Value) -> Result<(), InstallError> {
        create(&self.client, object).await
    }

    /// Creates a SecurityGroupPolicy of this spec, and waits until the controller knows it.
    ///
    /// # Errors
    /// [`InstallError`].
    pub async fn create_policy(&self, namespace: &str, name: &str, spec: &Value) -> Result<(), InstallError> {
        let policy = json!({
            "apiVersion": "vpcresources.k8s.aws/v1beta1", "kind": "SecurityGroupPolicy",
            "metadata": { "name": name, "namespace": namespace }, "spec": spec,
        });
        self.create(&policy).await?;
        until(&format!("SecurityGroupPolicy {namespace}/{name} in the controller's cache"), async || {
            self.known.has_policy(namespace, name)
        })
        .await
    }

    /// Waits until the API server asks the webhook of this path; its configuration takes a moment to be known.
    ///
    /// # Errors
    /// [`InstallError::NotSeen`].
    pub async fn is_asked(&self, path: &str, namespace: &str) -> Result<(), InstallError> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let containers = json!([{ "name": "c", "image": "i" }]);
        let probe = json!({ "metadata": { "name": "probe" }, "spec": { "containers": containers } });
        let probe: Pod = serde_json::from_value(probe).unwrap_or_default();
        let dry = PostParams { dry_run: true, ..PostParams::default() };
        let before = self.webhooks.calls(path);
        until(&format!("a request to the webhook {path}"), async || {
            // Whether such a pod may be is of no account.
            drop(pods.create(&dry, &probe).await);
            self.webhooks.calls(path) > before
        })
        .await
    }
}

/// Makes the resource, and waits until it can be used.
async fn establish_policies(client: &kube::Client) -> Result<(), InstallError> {
    create(client, &security_group_policy_crd()).await?;
    until("the resource SecurityGroupPolicy", async || {
        let list = Request::get("/apis/vpcresources.k8s.aws/v1beta1/securitygrouppolicies").body(Vec::new());
        match list {
            Ok(list) => client.request::<Value>(list).await.is_ok(),
            Err(_) => false,
        }
    })
    .await
}

async fn create(client: &kube::Client, object: &Value) -> Result<(), InstallError> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, name) = (text(&object["kind"]), text(&object["metadata"]["name"]));
    let namespace = match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("namespaces/{namespace}/"),
        None => String::new(),
    };
    let plural = match kind.as_str() {
        "SecurityGroupPolicy" => "securitygrouppolicies".to_owned(),
        other => format!("{}s", other.to_lowercase()),
    };
    let path = format!("/apis/{}/{namespace}{plural}", text(&object["apiVersion"]));
    let refused = |source| InstallError::Refused { what: format!("{kind} {name}"), source: Box::new(source) };
    let request = Request::post(path)
        .header("content-type", "application/json")
        .body(object.to_string().into_bytes())
        .map_err(|error| refused(kube::Error::HttpError(error)))?;
    client.request::<Value>(request).await.map(drop).map_err(refused)
}

async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) -> Result<(), InstallError> {
    let deadline = Instant::now() + WITHIN;
    while !is().await {
        if Instant::now() > deadline {
            return Err(InstallError::NotSeen(what.to_owned()));
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}
