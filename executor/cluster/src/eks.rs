//! What an EKS cluster holds that identities stand on: reads that the daemon itself does not need, so each may be
//! refused without the others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt, stream};
use http::Method;
use serde_json::{Value, json};
use windlass_core::doctor::eks::{
    Access, Blind, ClusterSeen, DryRun, EventSeen, Named, NodeSeen, PodSeen, Read, aws_node_config_maps,
};

use crate::create::is_path_segment;
use crate::error::ClusterError;
use crate::observe::Verb;
use crate::page::{Page, page_path};
use crate::selector::Selector;
use crate::status::{ApiStatus, words};
use crate::transport::{Call, Cluster};

/// Pages of a list that are read: 20,000 nodes or pods.
const PAGES_MAX: usize = 40;
/// Objects of a page; a page of 500 nodes is some 10 MB.
const PAGE: u32 = 500;
const PAGE_BYTES_MAX: usize = 256 << 20;
/// Reads of single objects and dry runs at once.
const AT_ONCE: usize = 8;
/// Of one dry run: longer than the ten seconds that the API server waits for each of two webhooks.
const DRY_RUN_LIMIT: Duration = Duration::from_secs(25);
/// ConfigMaps of kube-system that are read beside those that aws-node names.
const CONFIG_MAPS: [&str; 2] = ["amazon-vpc-cni", "kube-proxy-config"];
/// Events of AWS's controller that mean something is wrong, as field selectors.
const EVENTS: [Selector; 6] = [
    Selector::Fields("reason=NodeTrunkFailedInit"),
    Selector::Fields("reason=TrunkENICreationFailed"),
    Selector::Fields("reason=Unsupported"),
    Selector::Fields("reason=SecurityGroupRequested,type=Warning"),
    Selector::Fields("reason=BranchAllocationFailed"),
    Selector::Fields("reason=BranchENIAnnotationFailed"),
];

/// A list: what it is called, and the right that it needs.
struct Kind {
    path: &'static str,
    what: &'static str,
    grant: &'static str,
}

const fn kind(path: &'static str, what: &'static str, grant: &'static str) -> Kind {
    Kind { path, what, grant }
}

const NODES: Kind = kind("/api/v1/nodes", "nodes", "list nodes");
const PODS: Kind = kind("/api/v1/pods", "pods of all namespaces", "list pods in all namespaces");
/// Of pods: the rest have given their addresses back.
const NOT_ENDED: Selector = Selector::Fields("status.phase!=Succeeded,status.phase!=Failed");
const POLICIES: Kind = kind(
    "/apis/vpcresources.k8s.aws/v1beta1/securitygrouppolicies",
    "SecurityGroupPolicies",
    "list securitygrouppolicies.vpcresources.k8s.aws",
);
const CNI_NODES: Kind =
    kind("/apis/vpcresources.k8s.aws/v1alpha1/cninodes", "CNINodes", "list cninodes.vpcresources.k8s.aws");
const DAEMON_SETS: Kind = kind(
    "/apis/apps/v1/namespaces/kube-system/daemonsets",
    "DaemonSets of kube-system",
    "list daemonsets.apps in kube-system",
);
const MUTATING: Kind = kind(
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
    "MutatingWebhookConfigurations",
    "list mutatingwebhookconfigurations.admissionregistration.k8s.io",
);
const VALIDATING: Kind = kind(
    "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
    "ValidatingWebhookConfigurations",
    "list validatingwebhookconfigurations.admissionregistration.k8s.io",
);
const ADMISSION: Kind = kind(
    "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
    "ValidatingAdmissionPolicies",
    "list validatingadmissionpolicies.admissionregistration.k8s.io",
);
const BINDINGS: Kind = kind(
    "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings",
    "ValidatingAdmissionPolicyBindings",
    "list validatingadmissionpolicybindings.admissionregistration.k8s.io",
);

impl Cluster {
    /// Everything at once; `accounts`: the service accounts of the rules.
    pub async fn look_at_eks(&self, accounts: &BTreeSet<Named>) -> ClusterSeen {
        let look = Look { cluster: self, blind: Mutex::default() };
        let whole = |object: &Value| object.clone();
        let of_aws = async {
            let sets = look.all(&DAEMON_SETS, &Selector::All, whole).await;
            let maps = look.config_maps(sets.as_deref().unwrap_or_default()).await;
            (sets, maps)
        };
        let nodes = async {
            (
                look.all(&NODES, &Selector::All, NodeSeen::read).await,
                look.all(&PODS, &NOT_ENDED, PodSeen::read).await,
            )
        };
        let policies =
            async { (look.serves_policies().await, look.all(&POLICIES, &Selector::All, whole).await) };
        let webhooks = async {
            (
                look.all(&MUTATING, &Selector::All, whole).await,
                look.all(&VALIDATING, &Selector::All, whole).await,
            )
        };
        let admission = async {
            (
                look.all(&ADMISSION, &Selector::All, whole).await,
                look.all(&BINDINGS, &Selector::All, whole).await,
            )
        };
        let identities =
            async { (look.accounts(accounts).await, look.access(accounts).await, look.issuer().await) };
        let (
            aws,
            (nodes, pods),
            policies,
            cni_nodes,
            events,
            webhooks,
            admission,
            (accounts, access, issuer),
        ) = tokio::join!(
            of_aws,
            nodes,
            policies,
            look.all(&CNI_NODES, &Selector::All, features),
            look.events(),
            webhooks,
            admission,
            identities,
        );
        let mut blind = look.blind.into_inner().unwrap_or_else(PoisonError::into_inner);
        blind.sort_by(|a, b| a.what.cmp(&b.what));
        ClusterSeen {
            serves_policies: policies.0,
            policies: policies.1,
            cni_nodes: cni_nodes.map(BTreeMap::from_iter),
            mutating: webhooks.0,
            validating: webhooks.1,
            daemon_sets: aws.0,
            config_maps: aws.1,
            nodes,
            pods,
            events,
            accounts,
            access,
            admission_policies: admission.0,
            admission_bindings: admission.1,
            issuer,
            blind,
        }
    }

    /// What creates of these pods are answered now, in their order; nothing is stored.
    pub async fn dry_runs(&self, pods: Vec<Option<Value>>) -> Vec<DryRun> {
        let each = pods.into_iter().map(|pod| async move {
            match pod {
                Some(pod) => self.dry_run_of(&pod).await,
                None => DryRun::NotTried,
            }
        });
        stream::iter(each).buffered(AT_ONCE).collect().await
    }

    async fn dry_run_of(&self, pod: &Value) -> DryRun {
        let name = pod["metadata"]["name"].as_str().unwrap_or("windlass-doctor");
        let answer = match self.dry_run(pod, name, DRY_RUN_LIMIT).await {
            Ok(answer) => answer,
            Err(error) => return DryRun::Unknown(error.line()),
        };
        if answer.is_success() {
            return match serde_json::from_slice(&answer.body) {
                Ok(pod) => DryRun::Admitted(Box::new(pod)),
                Err(error) => DryRun::Unknown(format!("the answer is no pod: {error}")),
            };
        }
        let said = words(&answer.body);
        // Only an API server refuses; the rest is about rights, room or the server, not about this pod.
        let of_pod = ApiStatus::read(&answer.body).is_some_and(|status| {
            !status.is_full_quota()
                && !said.contains("cannot create resource \"pods\"")
                && (400..500).contains(&answer.status)
                && !matches!(answer.status, 401 | 408 | 409 | 429)
        });
        if of_pod { DryRun::Refused(said) } else { DryRun::Unknown(format!("{}: {said}", answer.status)) }
    }
}

/// Name and features of a CNINode.
fn features(node: &Value) -> (String, BTreeSet<String>) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let features = node["spec"]["features"].as_array().into_iter().flatten();
    (text(&node["metadata"]["name"]), features.map(|feature| text(&feature["name"])).collect())
}

/// One look, with what it could not see.
struct Look<'a> {
    cluster: &'a Cluster,
    blind: Mutex<Vec<Blind>>,
}

impl Look<'_> {
    /// A read that gave nothing. What is asked many times (accounts, events) is told once.
    fn blind(&self, what: &str, grant: &str, error: &ClusterError) {
        let grant = (error.status() == Some(403)).then(|| grant.to_owned());
        self.add(Blind { what: what.to_owned(), why: error.to_string(), grant });
    }

    fn add(&self, blind: Blind) {
        let mut all = self.blind.lock().unwrap_or_else(PoisonError::into_inner);
        if all.iter().all(|told| told.what != blind.what) {
            all.push(blind);
        }
    }

    /// None: there is no such path or object.
    async fn get(&self, path: String, name: String) -> Result<Option<Value>, ClusterError> {
        let call = Call::plain(Verb::Get, Method::GET, path, name.clone());
        let answer = self.cluster.call(call, self.cluster.inner.config.request_timeout).await?;
        match answer.status {
            404 => Ok(None),
            200..300 => {
                let object = serde_json::from_slice(&answer.body);
                object.map(Some).map_err(|error| self.cluster.unreadable(name, error.to_string()))
            }
            _ => Err(self.cluster.refused(name, &answer)),
        }
    }

    /// A whole list, each object as far as it decides; empty where the kind is not served.
    async fn all<T>(&self, kind: &Kind, of: &Selector, read: impl Fn(&Value) -> T) -> Read<Vec<T>> {
        match self.pages(kind, of, read).await {
            Ok(items) => Some(items),
            Err(error) => {
                self.blind(kind.what, kind.grant, &error);
                None
            }
        }
    }

    async fn pages<T>(
        &self,
        kind: &Kind,
        of: &Selector,
        read: impl Fn(&Value) -> T,
    ) -> Result<Vec<T>, ClusterError> {
        let (cluster, name) = (self.cluster, format!("list {}", kind.what));
        let (mut items, mut token) = (Vec::new(), None::<String>);
        for _ in 0..PAGES_MAX {
            let path = page_path(kind.path, PAGE, of, token.as_deref());
            let call = Call {
                answer_max: PAGE_BYTES_MAX,
                ..Call::plain(Verb::List, Method::GET, path, name.clone())
            };
            let answer = cluster.call(call, cluster.inner.config.request_timeout).await?;
            if answer.status == 404 {
                return Ok(items);
            }
            if !answer.is_success() {
                return Err(cluster.refused(name, &answer));
            }
            let unreadable = |error: serde_json::Error| cluster.unreadable(name.clone(), error.to_string());
            let page = Page::decode(&answer.body).map_err(unreadable)?;
            for item in page.items() {
                items.push(read(&serde_json::from_str(item.get()).map_err(unreadable)?));
            }
            token = page.next().map(str::to_owned);
            if token.is_none() {
                return Ok(items);
            }
        }
        let why = format!("there are more than the {} that were read", PAGES_MAX * PAGE as usize);
        self.add(Blind { what: format!("the rest of: {}", kind.what), why, grant: None });
        Ok(items)
    }

    /// By discovery, which every account may read.
    async fn serves_policies(&self) -> Read<bool> {
        let path = "/apis/vpcresources.k8s.aws/v1beta1";
        match self.get(path.into(), format!("get {path}")).await {
            Ok(found) => Some(found.is_some_and(|group| {
                let kinds = group["resources"].as_array().into_iter().flatten();
                kinds.into_iter().any(|kind| kind["name"] == "securitygrouppolicies")
            })),
            Err(error) => {
                self.blind("API group vpcresources.k8s.aws", "get /apis/*", &error);
                None
            }
        }
    }

    async fn config_maps(&self, daemon_sets: &[Value]) -> BTreeMap<Named, Value> {
        let fixed = CONFIG_MAPS.map(|name| ("kube-system".to_owned(), name.to_owned()));
        let names: BTreeSet<Named> = aws_node_config_maps(daemon_sets).into_iter().chain(fixed).collect();
        let each = names.into_iter().map(|at| async {
            let what = format!("ConfigMap {}/{}", at.0, at.1);
            let grant = format!("get configmaps {} in {}", at.1, at.0);
            let seen = self.object("configmaps", &at, &what, &grant).await?;
            Some((at, seen))
        });
        stream::iter(each).buffer_unordered(AT_ONCE).filter_map(|seen| async { seen }).collect().await
    }

    async fn accounts(&self, accounts: &BTreeSet<Named>) -> BTreeMap<Named, Value> {
        let each = accounts.iter().map(|at| async {
            let seen = self
                .object("serviceaccounts", at, "service accounts of rules", "get serviceaccounts")
                .await?;
            Some((at.clone(), seen))
        });
        stream::iter(each).buffer_unordered(AT_ONCE).filter_map(|seen| async { seen }).collect().await
    }

    /// A namespaced object of the core group; null: there is none.
    async fn object(&self, kind: &str, at: &Named, what: &str, grant: &str) -> Option<Value> {
        if !is_path_segment(&at.0) || !is_path_segment(&at.1) {
            return Some(Value::Null);
        }
        let path = format!("/api/v1/namespaces/{}/{kind}/{}", at.0, at.1);
        match self.get(path, format!("get {kind} {}/{}", at.0, at.1)).await {
            Ok(found) => Some(found.unwrap_or_default()),
            Err(error) => {
                self.blind(what, grant, &error);
                None
            }
        }
    }

    /// Whether the accounts may create pods where they are.
    async fn access(&self, accounts: &BTreeSet<Named>) -> BTreeMap<Named, Access> {
        let each = accounts.iter().map(|at| async { Some((at.clone(), self.access_of(at).await?)) });
        stream::iter(each).buffer_unordered(AT_ONCE).filter_map(|seen| async { seen }).collect().await
    }

    async fn access_of(&self, (namespace, name): &Named) -> Option<Access> {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": format!("system:serviceaccount:{namespace}:{name}"),
                "groups": [
                    "system:serviceaccounts", format!("system:serviceaccounts:{namespace}"), "system:authenticated",
                ],
                "resourceAttributes": { "namespace": namespace, "resource": "pods", "verb": "create" },
            },
        });
        let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews".to_owned();
        let name = format!("access review of service account {namespace}/{name}");
        let call = Call {
            body: Some(review.to_string().into_bytes()),
            ..Call::plain(Verb::Review, Method::POST, path, name)
        };
        let answer = self.cluster.read(call, self.cluster.inner.config.request_timeout).await;
        let answer = answer.map_err(|error| {
            self.blind(
                "rights of the rules' service accounts",
                "create subjectaccessreviews.authorization.k8s.io",
                &error,
            );
        });
        let review: Value = serde_json::from_slice(&answer.ok()?.body).ok()?;
        Some(if review["status"]["allowed"] == true { Access::CreatesPods } else { Access::No })
    }

    /// Of service account tokens, from the discovery document that workloads verify tokens with.
    async fn issuer(&self) -> Read<String> {
        let path = "/.well-known/openid-configuration";
        match self.get(path.into(), format!("get {path}")).await {
            Ok(found) => Some(found?["issuer"].as_str()?.to_owned()),
            Err(error) => {
                self.blind(
                    "issuer of service account tokens",
                    "get /.well-known/openid-configuration",
                    &error,
                );
                None
            }
        }
    }

    async fn events(&self) -> Read<Vec<EventSeen>> {
        const KIND: Kind = kind("/api/v1/events", "events", "list events in all namespaces");
        let mut events = Vec::new();
        for selector in &EVENTS {
            events.extend(self.all(&KIND, selector, EventSeen::read).await?);
        }
        Some(events)
    }
}
