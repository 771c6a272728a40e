//! What STS means. Codes are those of its service model; the words that tell one cause of a code from another are
//! those that AWS's documentation and SDKs quote. A message that is not known is shown, with what the code alone says.

use super::{Chain, Refusal, Why};
use crate::doctor::{Code, Finding};
use crate::identity::irsa::{ANNOTATION_AUDIENCE, Claims, DEFAULT_AUDIENCE};

/// What was found, and what to do.
type Told = (Code, String, String);

pub(super) fn explain(chain: &Chain, claims: Option<&Claims>, refusal: &Refusal, unread: &str) -> Finding {
    let place = Place { chain, claims, refusal };
    let (code, what, remedy) = match &refusal.why {
        Why::Answered { code, message } => {
            let (kind, meaning, remedy) = place.answered(code, message);
            (
                kind,
                format!("{} answers {code}: {} ({meaning})", place.sts(), message.trim_end_matches('.')),
                remedy,
            )
        }
        Why::Foreign { status } => {
            let what = format!("what answers in the place of {} is none ({status})", place.sts());
            (Code::RoleUnproven, what, place.way())
        }
        Why::TimedOut => (Code::RoleUnproven, format!("{} gave no answer in time", place.sts()), place.way()),
        Why::Unreachable { cause } => {
            (Code::RoleUnproven, format!("{} cannot be reached: {cause}", place.sts()), place.way())
        }
        Why::NoRegion => (
            Code::RoleUnproven,
            "it is not known which region's STS to ask".to_owned(),
            "set AWS_REGION to the cluster's region; its issuer does not name one".to_owned(),
        ),
    };
    let unread = if unread.is_empty() {
        String::new()
    } else {
        format!(
            "; the token is for {DEFAULT_AUDIENCE}, as the service account's annotations cannot be read: {unread}"
        )
    };
    Finding::new(code, chain.object(), what + &unread).remedy(remedy)
}

/// Everything that a sentence may name.
struct Place<'a> {
    chain: &'a Chain,
    claims: Option<&'a Claims>,
    refusal: &'a Refusal,
}

impl Place<'_> {
    fn answered(&self, code: &str, message: &str) -> Told {
        let signed = self.refusal.call == "GetCallerIdentity";
        match code {
            "AccessDenied" | "AccessDeniedException" => self.denied(message),
            "InvalidIdentityToken" => self.invalid(message),
            "ExpiredTokenException" | "ExpiredToken" => self.clock(),
            "SignatureDoesNotMatch" | "RequestExpired" | "InvalidClientTokenId" if signed => self.own_clock(),
            "IDPRejectedClaim" => self.rejected(),
            "IDPCommunicationError" => self.no_communication(),
            "RegionDisabledException" => self.region_disabled(),
            "Throttling" | "ThrottlingException" | "RequestLimitExceeded" | "TooManyRequestsException" => {
                let remedy = "run it again later: other callers of this account use up its rate of STS calls in the region";
                (
                    Code::RoleUnproven,
                    "the account's rate of calls is used up, after three tries".into(),
                    remedy.into(),
                )
            }
            "InternalFailure" | "InternalError" | "ServiceUnavailable" | "IDPInternalError" => {
                let remedy =
                    "run it again; if it stays so, see AWS's health dashboard for STS in this region";
                (Code::RoleUnproven, "a fault of AWS itself, after three tries".into(), remedy.into())
            }
            "ValidationError" => {
                let meaning = "it cannot use the request as it is".to_owned();
                (Code::RoleRefused, meaning, format!("correct role-arn of the rule: `{}`", self.chain.role))
            }
            "MalformedPolicyDocument" | "PackedPolicyTooLarge" => {
                let meaning = "policies or tags of the session; Windlass sends none".to_owned();
                let remedy =
                    "see what stands between Windlass and STS: AWS_ENDPOINT_URL_STS, a proxy".to_owned();
                (Code::RoleRefused, meaning, remedy)
            }
            _ => {
                let meaning = "a refusal that Windlass does not know".to_owned();
                (Code::RoleRefused, meaning, self.trust())
            }
        }
    }

    /// STS says the same of a role that is not there, so as not to tell which are.
    fn denied(&self, message: &str) -> Told {
        if message.contains("explicit deny") {
            let meaning = "a policy denies it outright, which no trust policy outweighs".to_owned();
            let remedy = format!(
                "find the Deny in the trust policy of {} and in the service control policies of account {}",
                self.chain.role,
                self.chain.home().1
            );
            return (Code::RoleRefused, meaning, remedy);
        }
        let meaning =
            "the trust policy does not let this service account in, or there is no such role".to_owned();
        (Code::RoleRefused, meaning, self.trust())
    }

    fn invalid(&self, message: &str) -> Told {
        let (provider, account) = (self.provider_arn(), self.chain.home().1);
        let (issuer, audience) = (self.issuer(), self.audience());
        let (meaning, remedy) = if message.contains("Incorrect token audience") {
            let back = if audience == DEFAULT_AUDIENCE {
                String::new()
            } else {
                format!(
                    "; or take the annotation {ANNOTATION_AUDIENCE}: {audience} from service account {}/{}",
                    self.chain.namespace, self.chain.account
                )
            };
            (
                format!("the OIDC provider of IAM does not know the audience `{audience}`"),
                format!(
                    "`aws iam add-client-id-to-open-id-connect-provider --open-id-connect-provider-arn {provider} \
                     --client-id {audience}`{back}"
                ),
            )
        } else if message.contains("No OpenIDConnect provider found") {
            (
                format!("account {account} of the role has no OIDC provider for this cluster"),
                format!(
                    "in account {account}: `aws iam create-open-id-connect-provider --url {issuer} --client-id-list \
                     {audience}`, or `eksctl utils associate-iam-oidc-provider --cluster NAME --approve`"
                ),
            )
        } else if message.contains("verification key") || message.contains("discovery") {
            (
                "STS cannot read the keys that tokens of this cluster are signed with".to_owned(),
                format!(
                    "{issuer}/.well-known/openid-configuration and the jwks_uri in it must answer to anybody on the \
                     internet; see that it is the issuer of this cluster: `aws eks describe-cluster --name NAME --query \
                     cluster.identity.oidc.issuer`"
                ),
            )
        } else if message.contains("thumbprint") {
            (
                "the certificate of the issuer is not the one that the OIDC provider names".to_owned(),
                format!("`aws iam update-open-id-connect-provider-thumbprint` for {provider}"),
            )
        } else {
            (
                "the token is none that the OIDC provider takes".to_owned(),
                format!(
                    "compare {provider} with the token: issuer {issuer}, audience {audience}; a cluster that was made \
                     anew has another issuer"
                ),
            )
        };
        (Code::RoleRefused, meaning, remedy)
    }

    /// A token that is seconds old is expired only by another clock.
    fn clock(&self) -> Told {
        let times = self.claims.map_or_else(String::new, |claims| {
            format!(
                ", made at {:.0} and good until {:.0} by its own clock",
                claims.issued_at, claims.expires_at
            )
        });
        let meaning = format!("the API server's clock is behind AWS's: the token is new{times}");
        let remedy = "set the clock of the control plane (NTP), and run it again".to_owned();
        (Code::RoleRefused, meaning, remedy)
    }

    /// The one call that Windlass signs with its own clock.
    fn own_clock(&self) -> Told {
        let meaning = "the role was given, and a call that was signed with it is not taken".to_owned();
        let remedy =
            "compare the clock of this machine with AWS's: more than five minutes are refused".to_owned();
        (Code::RoleUnproven, meaning, remedy)
    }

    fn rejected(&self) -> Told {
        let meaning = "the issuer's keys or a claim of the token do not hold".to_owned();
        let remedy = format!(
            "compare iss, sub, aud and exp of the token with {} and the clocks of API server and AWS; an issuer whose \
             keys were replaced has to publish the new ones",
            self.provider_arn()
        );
        (Code::RoleRefused, meaning, remedy)
    }

    fn no_communication(&self) -> Told {
        let meaning = "STS cannot reach the issuer, after three tries".to_owned();
        let remedy = format!(
            "run it again; if it stays so, see that {}/.well-known/openid-configuration answers from the internet",
            self.issuer()
        );
        (Code::RoleUnproven, meaning, remedy)
    }

    fn region_disabled(&self) -> Told {
        let (region, account) = (&self.refusal.region, self.chain.home().1);
        let meaning = format!("STS of {region} is not active for account {account}");
        let remedy = format!(
            "activate {region} in account {account}: IAM, Account settings, Security Token Service; or use the \
             cluster's own region in AWS_REGION"
        );
        (Code::RoleRefused, meaning, remedy)
    }

    /// What the trust policy has to say, word for word.
    fn trust(&self) -> String {
        let Some(claims) = self.claims else {
            return format!("compare the trust policy of {} with docs/IDENTITY.md", self.chain.role);
        };
        let (provider, subject) = (claims.provider(), &claims.subject);
        format!(
            "the trust policy of {} must allow sts:AssumeRoleWithWebIdentity to Federated {} where `{provider}:sub` is \
             `{subject}` and `{provider}:aud` is `{}`; it has: `aws iam get-role --role-name {} --query \
             Role.AssumeRolePolicyDocument`; it needs: `windlass identity render --what trust-policy --oidc-issuer \
             {provider}`",
            self.chain.role,
            self.provider_arn(),
            self.audience(),
            self.chain.role_name()
        )
    }

    fn sts(&self) -> String {
        let Refusal { call, region, .. } = self.refusal;
        if region.is_empty() { format!("STS ({call})") } else { format!("STS in {region} ({call})") }
    }

    /// To STS, for who has no answer.
    fn way(&self) -> String {
        let region = &self.refusal.region;
        format!(
            "let pods reach STS in {region} on port 443: a NAT gateway or an interface endpoint for \
             com.amazonaws.{region}.sts with its security group, DNS, network policies; AWS_ENDPOINT_URL_STS and \
             HTTPS_PROXY lead elsewhere where they are set"
        )
    }

    fn issuer(&self) -> &str {
        self.claims.map_or("the cluster's issuer", |claims| claims.issuer.as_str())
    }

    fn audience(&self) -> String {
        self.claims.map_or_else(|| DEFAULT_AUDIENCE.to_owned(), |claims| claims.audiences.join(", "))
    }

    fn provider_arn(&self) -> String {
        let (partition, account) = self.chain.home();
        let provider = self.claims.map_or("ISSUER", Claims::provider);
        format!("arn:{partition}:iam::{account}:oidc-provider/{provider}")
    }
}
