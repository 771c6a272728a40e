//! Service accounts, as far as policies select by them and pods get their role from them.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::identity::Labels;
use crate::identity::field::Field;
use crate::identity::irsa::{ANNOTATION_AUDIENCE, ANNOTATION_ROLE, DEFAULT_AUDIENCE};
use crate::pod::FieldError;

/// All known service accounts, by namespace and name. A watch keeps it with [`ServiceAccounts::insert`] and
/// [`ServiceAccounts::remove`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceAccounts {
    namespaces: BTreeMap<String, BTreeMap<String, Account>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Account {
    labels: Labels,
    /// Annotation `eks.amazonaws.com/role-arn`.
    role: Option<String>,
    /// Annotation `eks.amazonaws.com/audience`.
    audience: Option<String>,
}

impl ServiceAccounts {
    /// Adds a service account, or replaces the one of the same name.
    pub fn insert(&mut self, namespace: &str, name: &str, labels: Labels) {
        let account = Account { labels, role: None, audience: None };
        self.namespaces.entry(namespace.to_owned()).or_default().insert(name.to_owned(), account);
    }

    /// Notes the role that a known service account carries, and the audience of its tokens.
    pub fn set_role(&mut self, namespace: &str, name: &str, role: Option<String>, audience: Option<String>) {
        if let Some(account) = self.namespaces.get_mut(namespace).and_then(|names| names.get_mut(name)) {
            account.role = role;
            account.audience = audience;
        }
    }

    /// Adds the service account of a JSON object.
    ///
    /// # Errors
    /// `metadata` has no name, or a field of another type.
    pub fn read(&mut self, object: &Value) -> Result<(), FieldError> {
        self.read_at(&Field::root("", object))
    }

    /// [`Self::read`] with the place of the object for errors.
    pub(crate) fn read_at(&mut self, object: &Field<'_>) -> Result<(), FieldError> {
        let metadata = object.get("metadata")?;
        let name = metadata.get("name")?.required_text()?;
        let namespace = metadata.get("namespace")?.text()?;
        self.insert(&namespace, &name, metadata.get("labels")?.map()?);
        let annotations = metadata.get("annotations")?.map()?;
        let of = |name: &str| annotations.get(name).cloned();
        self.set_role(&namespace, &name, of(ANNOTATION_ROLE), of(ANNOTATION_AUDIENCE));
        Ok(())
    }

    /// Forgets a service account; nothing happens if it is not known.
    pub fn remove(&mut self, namespace: &str, name: &str) {
        if let Some(names) = self.namespaces.get_mut(namespace) {
            names.remove(name);
            if names.is_empty() {
                self.namespaces.remove(namespace);
            }
        }
    }

    /// The labels of a service account; `None` if it is not known.
    pub fn labels(&self, namespace: &str, name: &str) -> Option<&Labels> {
        Some(&self.namespaces.get(namespace)?.get(name)?.labels)
    }

    /// The ARN of the role that a service account carries.
    pub fn role(&self, namespace: &str, name: &str) -> Option<&str> {
        self.namespaces.get(namespace)?.get(name)?.role.as_deref()
    }

    /// The audience of a known service account's tokens for its role.
    pub fn audience(&self, namespace: &str, name: &str) -> Option<&str> {
        let account = self.namespaces.get(namespace)?.get(name)?;
        Some(account.audience.as_deref().unwrap_or(DEFAULT_AUDIENCE))
    }
}
