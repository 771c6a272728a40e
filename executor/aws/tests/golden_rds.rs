//! Tokens that boto3 made (`tests/fixtures/eks/rds_auth_token.json`), against ours: the same parameters, and so the same
//! signature, whatever their order.

#![expect(clippy::unwrap_used, reason = "a test that reads its fixtures")]

use std::collections::BTreeSet;
use std::time::SystemTime;

use aws_credential_types::Credentials;
use serde_json::Value;
use windlass_aws::rds::{Login, token};

const CASES: &str = include_str!("../../../tests/fixtures/eks/rds_auth_token.json");

/// What stands before the query, and its parameters as they are written.
fn parts(token: &str) -> (String, BTreeSet<String>) {
    let (place, query) = token.split_once('?').unwrap();
    (place.to_owned(), query.split('&').map(str::to_owned).collect())
}

#[test]
fn tokens_are_those_that_boto3_makes() {
    let cases: Vec<Value> = serde_json::from_str(CASES).unwrap();
    assert!(cases.len() >= 22);
    for case in cases {
        let (input, id) = (&case["input"], &case["id"]);
        let text = |name: &str| input[name].as_str().unwrap_or_default().to_owned();
        let time: jiff::Timestamp = text("time").parse().unwrap();
        let session = input["session_token"].as_str().map(str::to_owned);
        let (key, secret) = (text("access_key_id"), text("secret_access_key"));
        let credentials = Credentials::new(key, secret, session, None, "golden");
        let (host, user, region) = (text("host"), text("user"), text("region"));
        let port = input["port"].as_u64().or_else(|| text("port").parse().ok()).unwrap();
        let login = Login { host: &host, port: u16::try_from(port).unwrap(), user: &user, region: &region };
        let made = token(&login, credentials, SystemTime::from(time)).unwrap();
        assert_eq!(
            parts(&made),
            parts(case["expected"]["token"].as_str().unwrap()),
            "{id} {}",
            case["title"]
        );
    }
}
