//! Service accounts, and the roles that they name.

use super::*;

#[test]
fn service_accounts_and_their_roles() {
    let with = |annotations: Value| {
        after(move |facts| {
            facts.cluster.accounts.insert(of("data", "etl"), account(&annotations));
        })
    };
    let at = "service account data/etl";
    assert_eq!(
        after(|facts| {
            facts.cluster.accounts.insert(of("data", "etl"), Value::Null);
        }),
        [format!("error service-account-missing: {at}: it does not exist, and rule etl (line 2) names it")]
    );
    let demands = format!("and rule etl (line 2) demands {ROLE}");
    assert_eq!(
        with(json!({})),
        [format!("error role-annotation: {at}: it has no such annotation, {demands}")]
    );
    let other = "arn:aws:iam::111122223333:role/other";
    assert_eq!(
        with(json!({ "eks.amazonaws.com/role-arn": other })),
        [format!("error role-annotation: {at}: it names {other}, {demands}")]
    );
    let with_role = |key: &str, value: &str| with(json!({ "eks.amazonaws.com/role-arn": ROLE, key: value }));
    let found = with_role("eks.amazonaws.com/audience", "vault");
    let expected = format!(
        "error token-audience: {at}: the audience is `vault`, and rule etl (line 2) expects `sts.amazonaws.com`"
    );
    assert_eq!(found[0], expected);
    let empty = with_role("eks.amazonaws.com/audience", "");
    assert!(
        empty[0].contains("the audience is empty, so its tokens are for the API server, and"),
        "{empty:?}"
    );
    let expires = |text: &str| with_role("eks.amazonaws.com/token-expiration", text).join("\n");
    let warning = format!("warning token-expiration: {at}: ");
    assert_eq!((expires("600"), expires("86400")), (String::new(), String::new()));
    assert_eq!((expires("599"), expires("86401")), (format!("{warning}599 s"), format!("{warning}86401 s")));
    assert_eq!(
        expires("1h"),
        format!("{warning}`1h` is no number of seconds: the webhook's default (86400 s) holds")
    );
    let global = with_role("eks.amazonaws.com/sts-regional-endpoints", "false");
    let expected = format!(
        "warning sts-global: {at}: eks.amazonaws.com/sts-regional-endpoints is `false`, and no container of rule etl (line \
         2) sets AWS_STS_REGIONAL_ENDPOINTS"
    );
    assert_eq!(global, [expected]);
    assert_eq!(with_role("eks.amazonaws.com/sts-regional-endpoints", "true"), [""; 0]);
    let pods_own = after(|facts| {
        change_pod(facts, |pod| {
            pod["metadata"]["annotations"]["eks.amazonaws.com/token-expiration"] = "5".into()
        })
    });
    assert_eq!(pods_own, ["warning token-expiration: rule etl (line 2): 5 s"]);
    let default = info(Code::DefaultAccount, |facts| {
        change_pod(facts, |pod| pod["spec"]["serviceAccountName"] = "default".into());
    });
    assert_eq!(
        default.unwrap(),
        "service account data/default: rule etl (line 2) gives its pods a role by it"
    );
}

#[test]
fn an_arn_is_one_and_of_this_partition() {
    let with = |role: &str| {
        let role = role.to_owned();
        let found = after(move |facts| facts.rules[0].gives.role_arn = Some(role));
        found.into_iter().filter(|line| line.contains("role-arn-malformed")).collect::<String>()
    };
    let said = |role: &str, why: &str| {
        format!("error role-arn-malformed: rule etl (line 2): it demands `{role}`: {why}")
    };
    assert_eq!(with("etl-role"), said("etl-role", "it is no arn:PARTITION:iam::ACCOUNT:role/NAME"));
    assert_eq!(
        with("arn:aws:iam::1:role/a"),
        said("arn:aws:iam::1:role/a", "`1` is no account of 12 digits")
    );
    assert_eq!(
        with("arn:aws:iam::111122223333:user/a"),
        said("arn:aws:iam::111122223333:user/a", "`user/a` is no role")
    );
    let china = "arn:aws-cn:iam::111122223333:role/etl";
    assert_eq!(with(china), said(china, "its partition is `aws-cn`, and this cluster's nodes are in `aws`"));
    assert_eq!(with("arn:aws:iam::111122223333:role/team/etl"), "");
}
