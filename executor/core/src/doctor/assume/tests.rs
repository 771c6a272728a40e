use super::*;
use crate::doctor::Severity;
use crate::time::UtcMicros;

const ROLE: &str = "arn:aws:iam::111122223333:role/teams/etl";
const ISSUER: &str = "https://oidc.eks.eu-west-1.amazonaws.com/id/ABC";
const PROVIDER: &str = "arn:aws:iam::111122223333:oidc-provider/oidc.eks.eu-west-1.amazonaws.com/id/ABC";

fn chain() -> Chain {
    Chain {
        namespace: "data".into(),
        account: "etl".into(),
        role: ROLE.into(),
        rules: vec!["nightly".into()],
    }
}

fn claims(audience: &str) -> Claims {
    Claims {
        issuer: ISSUER.into(),
        subject: "system:serviceaccount:data:etl".into(),
        audiences: vec![audience.into()],
        issued_at: UtcMicros(1_795_489_200_000_000),
        expires_at: UtcMicros(1_795_489_800_000_000),
    }
}

fn of(why: Why, call: &'static str, audience: &str) -> Finding {
    let refusal = Refusal { call, region: "eu-west-1".into(), why };
    Proven {
        chain: chain(),
        claims: Some(claims(audience)),
        audience_unread: String::new(),
        result: Err(Broken::Refused(refusal)),
    }
    .finding()
    .unwrap()
}

fn answered(code: &str, message: &str) -> Finding {
    let why = Why::Answered { code: code.into(), message: message.into() };
    of(why, "AssumeRoleWithWebIdentity", "sts.amazonaws.com")
}

#[test]
fn a_trust_policy_that_does_not_name_the_account_is_told_word_for_word() {
    let finding = answered("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity");
    assert_eq!(finding.code, Code::RoleRefused);
    assert_eq!(finding.object, format!("rule nightly: {ROLE} for service account data/etl"));
    assert_eq!(
        finding.what,
        "STS in eu-west-1 (AssumeRoleWithWebIdentity) answers AccessDenied: Not authorized to perform \
         sts:AssumeRoleWithWebIdentity (the trust policy does not let this service account in, or there is no such role)"
    );
    assert_eq!(
        finding.remedy,
        format!(
            "the trust policy of {ROLE} must allow sts:AssumeRoleWithWebIdentity to Federated {PROVIDER} where \
             `oidc.eks.eu-west-1.amazonaws.com/id/ABC:sub` is `system:serviceaccount:data:etl` and \
             `oidc.eks.eu-west-1.amazonaws.com/id/ABC:aud` is `sts.amazonaws.com`; it has: `aws iam get-role --role-name \
             etl --query Role.AssumeRolePolicyDocument`; it needs: `windlass identity render --what trust-policy \
             --oidc-issuer oidc.eks.eu-west-1.amazonaws.com/id/ABC`"
        )
    );
    let denied =
        answered("AccessDenied", "not authorized, with an explicit deny in a service control policy");
    assert!(denied.remedy.contains("service control policies of account 111122223333"), "{}", denied.remedy);
}

#[test]
fn each_refusal_says_what_to_mend() {
    let refused = Code::RoleRefused;
    let unproven = Code::RoleUnproven;
    let cases = [
        ("InvalidIdentityToken", "Incorrect token audience", refused, PROVIDER),
        (
            "InvalidIdentityToken",
            "No OpenIDConnect provider found in your account for https://oidc.eks.eu-west-1.amazonaws.com/id/ABC",
            refused,
            "in account 111122223333: `aws iam create-open-id-connect-provider --url https://oidc.eks.eu-west-1.amazonaws.com/id/ABC \
             --client-id-list sts.amazonaws.com`",
        ),
        (
            "InvalidIdentityToken",
            "Couldn't retrieve verification key from your identity provider, please reference AssumeRoleWithWebIdentity \
             documentation for requirements",
            refused,
            "id/ABC/.well-known/openid-configuration",
        ),
        (
            "InvalidIdentityToken",
            "OpenIDConnect provider's HTTPS certificate doesn't match configured thumbprint",
            refused,
            "update-open-id-connect-provider-thumbprint",
        ),
        ("InvalidIdentityToken", "The ID Token provided is not a valid JWT", refused, "another issuer"),
        ("ExpiredTokenException", "Token expired: current date/time must be before", refused, "NTP"),
        ("IDPRejectedClaim", "x", refused, "iss, sub, aud and exp"),
        ("IDPCommunicationError", "x", unproven, "answers from the internet"),
        ("RegionDisabledException", "x", refused, "activate eu-west-1 in account 111122223333"),
        ("Throttling", "Rate exceeded", unproven, "run it again later"),
        ("InternalFailure", "x", unproven, "run it again"),
        ("ServiceUnavailable", "x", unproven, "run it again"),
        ("ValidationError", "Request ARN is invalid", refused, "correct role-arn of the rule: `arn:"),
        ("PackedPolicyTooLarge", "x", refused, "AWS_ENDPOINT_URL_STS"),
        ("MalformedPolicyDocument", "x", refused, "AWS_ENDPOINT_URL_STS"),
        ("SomethingNew", "x", refused, "must allow sts:AssumeRoleWithWebIdentity"),
    ];
    for (code, message, kind, remedy) in cases {
        let finding = answered(code, message);
        assert_eq!(finding.code, kind, "{code} {message}");
        assert_eq!(finding.code.severity(), Severity::Error);
        let said = format!("answers {code}: {}", message.trim_end_matches('.'));
        assert!(finding.what.contains(&said), "{}", finding.what);
        assert!(finding.remedy.contains(remedy), "{code} {message}: {}", finding.remedy);
    }
}

#[test]
fn a_token_for_another_audience_is_mended_at_the_provider_or_at_the_account() {
    let why =
        || Why::Answered { code: "InvalidIdentityToken".into(), message: "Incorrect token audience".into() };
    let own = of(why(), "AssumeRoleWithWebIdentity", "corp");
    assert_eq!(
        own.remedy,
        format!(
            "`aws iam add-client-id-to-open-id-connect-provider --open-id-connect-provider-arn {PROVIDER} --client-id \
             corp`; or take the annotation eks.amazonaws.com/audience: corp from service account data/etl"
        )
    );
    let usual = of(why(), "AssumeRoleWithWebIdentity", "sts.amazonaws.com");
    assert!(!usual.remedy.contains("annotation"), "{}", usual.remedy);
}

#[test]
fn a_new_token_that_is_expired_tells_of_the_clock() {
    let finding =
        answered("ExpiredTokenException", "Token expired: current date/time 1772600000 must be before 1");
    let clock = "made at 2026-11-24T03:00:00Z and good until 2026-11-24T03:10:00Z by its own clock";
    assert!(finding.what.contains(clock), "{}", finding.what);
    let why = Why::Answered { code: "SignatureDoesNotMatch".into(), message: "Signature expired".into() };
    let finding = of(why, "GetCallerIdentity", "sts.amazonaws.com");
    assert_eq!(finding.code, Code::RoleUnproven);
    assert!(finding.remedy.contains("the clock of this machine"), "{}", finding.remedy);
}

#[test]
fn no_answer_is_no_refusal() {
    let cases = [
        (Why::TimedOut, "STS in eu-west-1 (AssumeRoleWithWebIdentity) gave no answer in time"),
        (
            Why::Unreachable { cause: "connection refused".into() },
            "STS in eu-west-1 (AssumeRoleWithWebIdentity) cannot be reached: connection refused",
        ),
        (
            Why::Foreign { status: 502 },
            "what answers in the place of STS in eu-west-1 (AssumeRoleWithWebIdentity) is none (502)",
        ),
    ];
    for (why, what) in cases {
        let finding = of(why, "AssumeRoleWithWebIdentity", "sts.amazonaws.com");
        assert_eq!((finding.code, finding.what.as_str()), (Code::RoleUnproven, what));
        assert!(finding.remedy.contains("com.amazonaws.eu-west-1.sts"), "{}", finding.remedy);
    }
    let finding = of(Why::NoRegion, "AssumeRoleWithWebIdentity", "sts.amazonaws.com");
    assert!(finding.remedy.starts_with("set AWS_REGION"), "{}", finding.remedy);
}

#[test]
fn without_a_token_the_api_server_is_the_place_to_mend() {
    let of = |why| {
        let result = Err(Broken::Token(why));
        Proven { chain: chain(), claims: None, audience_unread: String::new(), result }.finding().unwrap()
    };
    let missing = of(NoToken::Missing("serviceaccounts \"etl\" not found".into()));
    assert_eq!(missing.code, Code::TokenRefused);
    assert_eq!(missing.what, "the service account does not exist: serviceaccounts \"etl\" not found");
    assert!(missing.next.contains("refuses pods"), "{}", missing.next);
    let forbidden = of(NoToken::Forbidden("User \"u\" cannot create resource".into()));
    assert!(
        forbidden.remedy.ends_with(
            "`create` on `serviceaccounts/token` with resourceNames [\"etl\"] in namespace `data`"
        ),
        "{}",
        forbidden.remedy
    );
    let failed = of(NoToken::Failed { what: "the API server sheds load".into(), hint: "wait".into() });
    assert_eq!(
        (failed.what.as_str(), failed.remedy.as_str()),
        ("no token came back: the API server sheds load", "wait")
    );
}

#[test]
fn a_session_of_the_role_is_proof_and_of_another_is_none() {
    let with = |arn: &str| {
        let (claims, audience_unread) = (Some(claims("sts.amazonaws.com")), String::new());
        Proven { chain: chain(), claims, audience_unread, result: Ok(arn.into()) }.finding()
    };
    assert_eq!(with("arn:aws:sts::111122223333:assumed-role/etl/windlass-doctor"), None);
    for other in [
        "arn:aws:sts::111122223333:assumed-role/etl2/windlass-doctor",
        "arn:aws:sts::444455556666:assumed-role/etl/windlass-doctor",
        "arn:aws:iam::111122223333:user/etl",
    ] {
        assert_eq!(with(other).map(|finding| finding.code), Some(Code::RoleRefused), "{other}");
    }
}

#[test]
fn what_could_not_be_read_of_the_account_is_said_with_the_refusal() {
    let refusal =
        Refusal { call: "AssumeRoleWithWebIdentity", region: "eu-west-1".into(), why: Why::TimedOut };
    let result = Err(Broken::Refused(refusal));
    let (claims, audience_unread) = (Some(claims("sts.amazonaws.com")), "forbidden".into());
    let finding = Proven { chain: chain(), claims, audience_unread, result }.finding().unwrap();
    let end = "; the token is for sts.amazonaws.com, as the service account's annotations cannot be read: forbidden";
    assert!(finding.what.ends_with(end), "{}", finding.what);
}

#[test]
fn rules_of_one_account_and_role_are_one_chain_and_sharing_is_warned_of() {
    let link = |rule: &str, account: &str, role: &str| {
        (rule.to_owned(), ["data".to_owned(), account.to_owned(), role.to_owned()])
    };
    let chains = Chain::of([link("a", "etl", ROLE), link("b", "etl", ROLE), link("c", "default", "arn:x")]);
    assert_eq!(chains.len(), 2);
    assert_eq!(chains[1].object(), format!("rules a, b: {ROLE} for service account data/etl"));
    let found: Vec<_> = warnings(&chains).into_iter().map(|f| (f.code, f.object, f.what)).collect();
    assert_eq!(found, [(Code::RoleShared, ROLE.to_owned(), "2 rules give it: `a`, `b`".to_owned())]);
    let apart = Chain::of([link("a", "etl", ROLE), link("b", "load", "arn:x")]);
    assert_eq!(warnings(&apart), []);
}
