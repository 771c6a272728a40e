//! What AWS names: roles, audiences, security groups, regions.

use std::collections::BTreeSet;

use super::{Item, Reader};

/// EC2 takes so many security groups on one interface.
const GROUPS_MAX: usize = 5;

impl Reader<'_> {
    pub(super) fn role(&mut self, item: &Item<'_>) -> Option<String> {
        let arn = self.text_of("role-arn", item)?;
        if !is_role_arn(&arn) {
            let remedy = "write it as arn:aws:iam::111122223333:role/NAME";
            self.fault(item.span().start, format!("role-arn `{arn}` is no ARN of an IAM role"), remedy);
        }
        Some(arn)
    }

    pub(super) fn audience(&mut self, item: &Item<'_>, has_role: bool) -> Option<String> {
        let audience = self.text_of("token-audience", item)?;
        let at = item.span().start;
        if !has_role {
            self.fault(at, "`token-audience` is of no role", "add role-arn, or leave it out");
        }
        if audience.is_empty() {
            let what = "an empty `token-audience` is the API server's own";
            self.fault(at, what, "write the audience that the role's OIDC provider lists, or leave it out");
        }
        Some(audience)
    }

    pub(super) fn groups(&mut self, item: &Item<'_>) -> BTreeSet<String> {
        let texts = self.texts("security-groups", item);
        for (at, id) in &texts {
            let hex = id.strip_prefix("sg-").unwrap_or_default();
            let is_hex = hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
            if !is_hex || !matches!(hex.len(), 8 | 17) {
                let what = format!("`{id}` is no id of a security group");
                self.fault(*at, what, "write sg- and 17 (or 8) hexadecimal digits");
            }
        }
        let groups: BTreeSet<String> = texts.into_iter().map(|(_, id)| id).collect();
        if groups.len() > GROUPS_MAX {
            let what = format!("{} security groups, and an interface takes {GROUPS_MAX}", groups.len());
            self.fault(item.span().start, what, "join their rules in fewer groups");
        }
        groups
    }

    pub(super) fn region(&mut self, item: &Item<'_>) -> Option<String> {
        let region = self.text_of("region", item)?;
        let parts: Vec<&str> = region.split('-').collect();
        let plain = |part: &&str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        };
        if parts.len() < 3 || !parts.iter().all(plain) || !region.ends_with(|c: char| c.is_ascii_digit()) {
            let what = format!("region `{region}` is no name of an AWS region");
            self.fault(item.span().start, what, "write it as eu-central-1");
        }
        Some(region)
    }
}

/// `arn:PARTITION:iam::ACCOUNT:role/PATH/NAME`.
pub(super) fn is_role_arn(text: &str) -> bool {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let [arn, partition, service, region, account, resource] = parts.as_slice() else { return false };
    let name = resource.strip_prefix("role/").unwrap_or_default();
    let good = |c: char| c.is_ascii_alphanumeric() || "+=,.@_-/".contains(c);
    *arn == "arn"
        && partition.starts_with("aws")
        && *service == "iam"
        && region.is_empty()
        && account.len() == 12
        && account.bytes().all(|b| b.is_ascii_digit())
        && !name.is_empty()
        && !name.ends_with('/')
        && name.chars().all(good)
}
