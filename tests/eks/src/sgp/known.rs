//! What the controller knows of a cluster: its cache of service accounts and SecurityGroupPolicies.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::Value;
use tokio::task::JoinSet;
use windlass_core::identity::sgp::{
    Match, MatchError, PodFacts, Policies, SecurityGroupPolicy, ServiceAccounts, matching_groups,
};

use super::{AnnotationReview, mutate, validate_annotation};
use crate::review::Verdict;
use crate::server::{Handler, MUTATE_SGP, VALIDATE_SGP};

/// Namespace and name.
type Key = (String, String);
type Objects = BTreeMap<Key, Value>;

/// The cache. Clones are the same one: the webhooks and the controller of the interfaces share it, as they do on EKS.
#[derive(Clone, Default)]
pub struct Known(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    accounts: Objects,
    policies: Objects,
    /// Accounts that the cache is not to know yet.
    hidden: BTreeSet<Key>,
}

/// Which of the two a watch fills.
#[derive(Clone, Copy)]
enum Kind {
    Account,
    Policy,
}

impl Inner {
    fn of(&mut self, kind: Kind) -> &mut Objects {
        match kind {
            Kind::Account => &mut self.accounts,
            Kind::Policy => &mut self.policies,
        }
    }
}

impl Known {
    /// The groups of the policies that match the pod.
    ///
    /// # Errors
    /// The account is not in the cache, or an object in it can't be read.
    pub fn find(&self, pod: &PodFacts) -> Result<Match, MatchError> {
        let inner = self.lock();
        let unreadable = |error: windlass_core::pod::FieldError| MatchError::Read(error.to_string());
        let key = (pod.namespace.clone(), pod.service_account.clone());
        let mut accounts = ServiceAccounts::default();
        if let Some(account) = inner.accounts.get(&key).filter(|_| !inner.hidden.contains(&key)) {
            accounts.read(account).map_err(unreadable)?;
        }
        let mut policies = Policies::default();
        for (_, policy) in inner.policies.iter().filter(|((namespace, _), _)| *namespace == pod.namespace) {
            policies.insert(SecurityGroupPolicy::read(policy).map_err(unreadable)?);
        }
        matching_groups(pod, &accounts, &policies)
    }

    /// Both webhooks over this cache, for [`crate::server::Webhooks::start`].
    pub fn handlers(&self) -> [(&'static str, Handler); 2] {
        let known = self.clone();
        let mutating: Handler = Arc::new(move |request| {
            let namespace = request["namespace"].as_str().unwrap_or_default();
            Verdict::from(mutate(&request["object"], namespace, false, |pod| known.find(pod)))
        });
        let validating: Handler = Arc::new(|request| {
            Verdict::from(validate_annotation(&AnnotationReview {
                operation: request["operation"].as_str().unwrap_or_default(),
                user: request["userInfo"]["username"].as_str().unwrap_or_default(),
                pod: &request["object"],
                old_pod: &request["oldObject"],
                windows_ipam: false,
            }))
        });
        [(MUTATE_SGP, mutating), (VALIDATE_SGP, validating)]
    }

    /// From now on the cache does not know this account, as in the moments after it was made.
    pub fn hide_account(&self, namespace: &str, name: &str) {
        self.lock().hidden.insert((namespace.to_owned(), name.to_owned()));
    }

    /// The cache has caught up with an account that was hidden.
    pub fn show_account(&self, namespace: &str, name: &str) {
        self.lock().hidden.remove(&(namespace.to_owned(), name.to_owned()));
    }

    /// Whether a policy of this name has come into the cache.
    pub fn has_policy(&self, namespace: &str, name: &str) -> bool {
        self.lock().policies.contains_key(&(namespace.to_owned(), name.to_owned()))
    }

    /// Whether an account of this name has come into the cache, hidden or not.
    pub fn has_account(&self, namespace: &str, name: &str) -> bool {
        self.lock().accounts.contains_key(&(namespace.to_owned(), name.to_owned()))
    }

    /// Keeps the cache, until the tasks are dropped. The resource of policies must be there.
    pub(crate) fn follow(&self, client: &kube::Client) -> JoinSet<()> {
        let account = ApiResource::erase::<ServiceAccount>(&());
        let policy = GroupVersionKind::gvk("vpcresources.k8s.aws", "v1beta1", "SecurityGroupPolicy");
        let policy = ApiResource::from_gvk_with_plural(&policy, "securitygrouppolicies");
        let mut tasks = JoinSet::new();
        for (kind, resource) in [(Kind::Account, account), (Kind::Policy, policy)] {
            let api = Api::all_with(client.clone(), &resource);
            tasks.spawn(follow(self.clone(), kind, api));
        }
        tasks
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // What is behind it is whole at every moment.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends when it is aborted.
async fn follow(known: Known, kind: Kind, api: Api<DynamicObject>) {
    let mut events = watcher(api, watcher::Config::default()).default_backoff().boxed();
    let mut listed = Objects::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(object)) => listed.extend(entry(&object)),
            Ok(Event::InitDone) => *known.lock().of(kind) = std::mem::take(&mut listed),
            Ok(Event::Apply(object)) => known.lock().of(kind).extend(entry(&object)),
            Ok(Event::Delete(object)) => {
                if let Some((key, _)) = entry(&object) {
                    known.lock().of(kind).remove(&key);
                }
            }
            Err(error) => tracing::debug!(%error, "the fake controller's watch is opened again"),
        }
    }
}

/// None: no object of the API.
fn entry(object: &DynamicObject) -> Option<(Key, Value)> {
    let key = (object.metadata.namespace.clone()?, object.metadata.name.clone()?);
    Some((key, serde_json::to_value(object).ok()?))
}
