//! A web identity token: what a pod shows to STS, and what it says of itself.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::time::UtcMicros;

/// Good for credentials of AWS until it expires, so it is never shown.
#[derive(Clone)]
pub struct WebToken(String);

/// What the trust policy of a role can compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// `iss`: the cluster's OIDC issuer, with `https://`.
    pub issuer: String,
    /// `sub`: `system:serviceaccount:NAMESPACE:NAME`.
    pub subject: String,
    /// `aud`.
    pub audiences: Vec<String>,
    /// `iat`, by the API server's clock.
    pub issued_at: UtcMicros,
    /// `exp`, by the API server's clock.
    pub expires_at: UtcMicros,
}

impl WebToken {
    /// From the answer to a TokenRequest.
    pub fn new(token: String) -> Self {
        Self(token)
    }

    /// For STS alone.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The claims, which are no secret. The signature is STS's to check. None: it is no token of Kubernetes.
    pub fn claims(&self) -> Option<Claims> {
        let mut parts = self.0.split('.');
        let (_header, claims, _signature) = (parts.next()?, parts.next()?, parts.next()?);
        let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
        let text = |name: &str| claims[name].as_str().map(str::to_owned);
        let time =
            |name: &str| claims[name].as_i64().map(|seconds| UtcMicros(seconds.saturating_mul(1_000_000)));
        let audiences = match &claims["aud"] {
            Value::Array(all) => all.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            one => one.as_str().map(str::to_owned).into_iter().collect(),
        };
        Some(Claims {
            issuer: text("iss")?,
            subject: text("sub")?,
            audiences,
            issued_at: time("iat")?,
            expires_at: time("exp")?,
        })
    }
}

impl fmt::Debug for WebToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebToken(***)")
    }
}

impl Claims {
    /// The issuer as IAM names it: in the ARN of its provider and in the conditions of a trust policy.
    pub fn provider(&self) -> &str {
        self.issuer.strip_prefix("https://").unwrap_or(&self.issuer)
    }

    /// The region in an issuer of EKS, `https://oidc.eks.REGION.amazonaws.com/id/ID`: that of the cluster, which EKS
    /// gives to its pods as `AWS_REGION`.
    pub fn region(&self) -> Option<&str> {
        let (region, rest) = self.provider().strip_prefix("oidc.eks.")?.split_once('.')?;
        rest.starts_with("amazonaws.").then_some(region)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(claims: &str) -> WebToken {
        WebToken::new(format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims)))
    }

    #[test]
    fn claims_are_read_and_the_token_is_not_shown() {
        let token = token(
            r#"{"aud":["sts.amazonaws.com"],"exp":1795492800,"iat":1795489200,"nbf":1795489200,
            "iss":"https://oidc.eks.eu-west-1.amazonaws.com/id/ABC","sub":"system:serviceaccount:data:etl"}"#,
        );
        let claims = token.claims().unwrap();
        assert_eq!(claims.subject, "system:serviceaccount:data:etl");
        assert_eq!(claims.audiences, ["sts.amazonaws.com"]);
        assert_eq!(claims.provider(), "oidc.eks.eu-west-1.amazonaws.com/id/ABC");
        assert_eq!(claims.region(), Some("eu-west-1"));
        assert_eq!(format!("{:.0}", claims.expires_at), "2026-11-24T04:00:00Z");
        assert_eq!(format!("{token:?}"), "WebToken(***)");
    }

    #[test]
    fn what_is_no_token_has_no_claims() {
        for text in ["", "a.b", "a.b.c", "e30.e30.c2ln"] {
            assert_eq!(WebToken::new(text.into()).claims(), None, "{text}");
        }
        let one = token(r#"{"aud":"x","exp":2,"iat":1,"iss":"https://kubernetes.default.svc","sub":"s"}"#);
        let claims = one.claims().unwrap();
        assert_eq!(
            (claims.audiences, claims.issuer.as_str()),
            (vec!["x".to_owned()], "https://kubernetes.default.svc")
        );
        assert_eq!(one.claims().unwrap().region(), None);
    }
}
