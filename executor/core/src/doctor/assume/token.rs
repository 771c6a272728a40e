//! Why there is no token.

use super::{Chain, NoToken};
use crate::doctor::{Code, Finding};

pub(super) fn explain(chain: &Chain, why: &NoToken) -> Finding {
    let Chain { namespace, account, .. } = chain;
    let finding = |what: &str| Finding::new(Code::TokenRefused, chain.object(), what);
    match why {
        NoToken::Missing(words) => finding(&format!("the service account does not exist: {words}"))
            .next("nothing: the API server refuses pods of these rules until it exists")
            .remedy(format!(
                "`windlass identity render | kubectl apply -f -` makes it; or correct service-account and namespace of \
                 the rule: `{account}`, `{namespace}`"
            )),
        NoToken::Forbidden(words) => finding(&format!("Windlass may not request its tokens: {words}")).remedy(format!(
            "if it is to prove roles: `windlass identity render --what assume-grant | kubectl apply -f -` grants it \
             `create` on `serviceaccounts/token` with resourceNames [\"{account}\"] in namespace `{namespace}`"
        )),
        NoToken::Failed { what, hint } => finding(&format!("no token came back: {what}")).remedy(hint.as_str()),
    }
}
