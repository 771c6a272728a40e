//! The real SDK against a Security Token Service on loopback: what each answer comes out as, and how often it is asked.

#![expect(clippy::unwrap_used, reason = "a test that reads its fixtures")]

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use windlass_aws::sts::{Answer, Refused, Sts};
use windlass_eks::sts::{self, Fault};

/// Answers of STS, and how often botocore asks before it takes them.
const CASES: &str = include_str!("../../../tests/fixtures/eks/sts_web_identity.json");
const ISSUER: &str = "https://oidc.eks.eu-west-1.amazonaws.com/id/ABC";
const ACCOUNT: &str = "111122223333";
const SUBJECT: &str = "system:serviceaccount:data:etl";

fn role(name: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:role/{name}")
}

fn token(audience: &str) -> String {
    let now = jiff::Timestamp::now().as_second();
    let claims = json!({ "iss": ISSUER, "sub": SUBJECT, "aud": [audience], "iat": now, "exp": now + 600 });
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

async fn world() -> (sts::Sts, Sts) {
    let server = sts::Sts::start().await.unwrap();
    server.provide(ACCOUNT, ISSUER, &["sts.amazonaws.com"]);
    server.trust(&role("teams/etl"), &[SUBJECT]);
    let client = Sts::at(server.url()).await;
    (server, client)
}

async fn become_role(client: &Sts, role: &str) -> Result<String, Refused> {
    client.become_role(role, &token("sts.amazonaws.com"), "s", Some("eu-west-1")).await
}

fn code(result: &Result<String, Refused>) -> &str {
    match result {
        Err(Refused { answer: Answer::Error { code, .. }, .. }) => code,
        _ => "",
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_told_apart_and_asked_for_again_as_by_botocore() {
    let (server, client) = world().await;
    let cases: Vec<Value> = serde_json::from_str(CASES).unwrap();
    assert!(cases.len() >= 11);
    let mut running = Vec::new();
    for case in cases {
        let role = role(case["id"].as_str().unwrap());
        let fault = |answer: &Value| Fault::Answer {
            status: u16::try_from(answer["status"].as_u64().unwrap()).unwrap(),
            body: answer["body"].as_str().unwrap().to_owned(),
        };
        server.fail(&role, &case["answers"].as_array().unwrap().iter().map(fault).collect::<Vec<_>>());
        let client = client.clone();
        running.push(tokio::spawn(async move {
            let result = become_role(&client, &role).await;
            (case, role, result)
        }));
    }
    for done in running {
        let (case, role, result) = done.await.unwrap();
        if let Some(expected) = case["code"].as_str() {
            assert_eq!(code(&result), expected, "{case}: {result:?}");
        }
        let asked = server.asked().iter().filter(|asked| asked.role == role).count();
        assert_eq!(asked as u64, case["requests"].as_u64().unwrap(), "{case}: {result:?}");
        if let Err(refused) = &result {
            assert_eq!(refused.region, "eu-west-1");
        }
        match case["id"].as_str().unwrap() {
            // What it gives after a 503 is a session of no key that this server knows.
            "sts-017" => {
                assert_eq!(result.as_ref().unwrap_err().call, "GetCallerIdentity");
                assert_eq!(code(&result), "InvalidClientTokenId");
            }
            "sts-021" => assert_eq!(result.unwrap_err().answer, Answer::Foreign { status: 502 }),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_error_of_the_service_model_keeps_its_code_and_words() {
    let (server, client) = world().await;
    let errors = [
        ("MalformedPolicyDocument", 400, 1),
        ("PackedPolicyTooLarge", 400, 1),
        ("IDPRejectedClaim", 403, 1),
        ("IDPCommunicationError", 400, 3),
        ("InvalidIdentityToken", 400, 1),
        ("ExpiredTokenException", 400, 1),
        ("RegionDisabledException", 403, 1),
        ("AccessDenied", 403, 1),
        ("Throttling", 400, 3),
    ];
    for (code, status, times) in errors {
        let (client, role) = (client.clone(), role(code));
        server.fail(&role, &[Fault::Answer { status, body: sts::error(code, "Words of &quot;it&quot;") }]);
        let result = become_role(&client, &role).await;
        let answer = Answer::Error { code: code.into(), message: "Words of \"it\"".into() };
        assert_eq!(result.unwrap_err().answer, answer, "{code}");
        assert_eq!(server.asked().iter().filter(|asked| asked.role == role).count(), times, "{code}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_judged_by_provider_audience_clock_and_trust_policy() {
    let (server, client) = world().await;
    let etl = role("teams/etl");
    let arn = become_role(&client, &etl).await.unwrap();
    assert_eq!(arn, "arn:aws:sts::111122223333:assumed-role/etl/s");
    let signed: Vec<(String, bool)> = server.asked().into_iter().map(|a| (a.action, a.signed)).collect();
    let expected = [("AssumeRoleWithWebIdentity".to_owned(), false), ("GetCallerIdentity".to_owned(), true)];
    assert_eq!(signed, expected, "no credentials are needed for the first");

    let result = become_role(&client, &role("absent")).await;
    assert_eq!(code(&result), "AccessDenied", "{result:?}");
    let result = become_role(&client, "arn:aws:iam::444455556666:role/etl").await;
    assert!(format!("{result:?}").contains("No OpenIDConnect provider found"), "{result:?}");
    let other = token("corp");
    let result = client.become_role(&etl, &other, "s", Some("eu-west-1")).await;
    assert!(format!("{result:?}").contains("Incorrect token audience"), "{result:?}");
    assert!(!format!("{result:?} {client:?}").contains(&other));
    server.set_ahead(Duration::from_secs(3_600));
    assert_eq!(code(&become_role(&client, &etl).await), "ExpiredTokenException");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_answer_the_call_ends_in_seconds() {
    let (server, client) = world().await;
    server.fail(&role("silent"), &[Fault::Silence]);
    server.fail(&role("cut"), &[Fault::Cut]);
    let started = Instant::now();
    let (silent_role, cut_role) = (role("silent"), role("cut"));
    let (silent, cut) = tokio::join!(become_role(&client, &silent_role), become_role(&client, &cut_role));
    assert_eq!(silent.unwrap_err().answer, Answer::TimedOut);
    assert!(started.elapsed() < Duration::from_secs(25), "{:?}", started.elapsed());
    let cut = cut.unwrap_err().answer;
    assert!(matches!(cut, Answer::Unreachable { .. } | Answer::Foreign { .. }), "{cut:?}");

    // Port 1 of loopback: nobody listens.
    let nobody = Sts::at("http://127.0.0.1:1").await;
    let refused = become_role(&nobody, &role("etl")).await.unwrap_err();
    let Answer::Unreachable { cause } = refused.answer else { panic!("{refused:?}") };
    assert!(cause.contains("refused"), "{cause}");
}
