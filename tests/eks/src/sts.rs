//! A Security Token Service on loopback: AssumeRoleWithWebIdentity by OIDC providers and trust policies, GetCallerIdentity
//! with what the first gave, and any other answer on demand.
//!
//! It judges issuer, audience, expiry and subject of a token in the order of the real one, whose error codes and XML
//! it speaks. It does not check the token's signature, nor that of a signed call.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Error, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use http::{HeaderMap, StatusCode, header};
use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use windlass_core::identity::irsa::WebToken;

const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// A running server. Dropping it ends it.
pub struct Sts {
    url: String,
    shared: Arc<Mutex<World>>,
    serving: JoinHandle<()>,
}

/// What stands in IAM, what goes wrong, and what was asked.
#[derive(Default)]
struct World {
    /// Audiences, by account and issuer.
    providers: BTreeMap<(String, String), BTreeSet<String>>,
    /// Subjects that may assume it, by role.
    trusted: BTreeMap<String, BTreeSet<String>>,
    /// By role, or by action.
    faults: BTreeMap<String, Vec<Fault>>,
    ahead: Duration,
    /// ARN of the session, by access key.
    sessions: BTreeMap<String, String>,
    asked: Vec<Asked>,
}

/// An answer that has nothing to do with the question.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This one.
    Answer {
        /// HTTP status.
        status: u16,
        /// Of any kind.
        body: String,
    },
    /// None at all.
    Silence,
    /// One that ends in the middle.
    Cut,
}

/// A call, without what is secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// `AssumeRoleWithWebIdentity` or `GetCallerIdentity`.
    pub action: String,
    /// Of the first one.
    pub role: String,
    /// Whether it was signed.
    pub signed: bool,
}

type Shared = Arc<Mutex<World>>;
/// Status and body.
type Reply = (u16, String);

impl Sts {
    /// On a free port of loopback.
    ///
    /// # Errors
    /// Loopback does not work.
    pub async fn start() -> Result<Self, Error> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let shared = Shared::default();
        let app = Router::new().route("/", post(answer)).with_state(Arc::clone(&shared));
        let serving = tokio::spawn(async move {
            // Ends when it is aborted.
            let _ = axum::serve(listener, app).await;
        });
        Ok(Self { url, shared, serving })
    }

    /// For `AWS_ENDPOINT_URL_STS`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// An OIDC provider in IAM of `account`, with its client ids. Replaces what was there.
    pub fn provide(&self, account: &str, issuer: &str, audiences: &[&str]) {
        let audiences = audiences.iter().map(|&audience| audience.to_owned()).collect();
        lock(&self.shared).providers.insert((account.to_owned(), issuer.to_owned()), audiences);
    }

    /// Creates a role whose trust policy lets these subjects in, or changes it.
    pub fn trust(&self, role_arn: &str, subjects: &[&str]) {
        let subjects = subjects.iter().map(|&subject| subject.to_owned()).collect();
        lock(&self.shared).trusted.insert(role_arn.to_owned(), subjects);
    }

    /// Answers calls for a role (or of an action) with these in turn, the last one again and again. None: as it should.
    pub fn fail(&self, role_or_action: &str, faults: &[Fault]) {
        lock(&self.shared).faults.insert(role_or_action.to_owned(), faults.to_vec());
    }

    /// Its clock is so far ahead of this machine's.
    pub fn set_ahead(&self, ahead: Duration) {
        lock(&self.shared).ahead = ahead;
    }

    /// All calls until now.
    pub fn asked(&self) -> Vec<Asked> {
        lock(&self.shared).asked.clone()
    }
}

impl Drop for Sts {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn lock(shared: &Mutex<World>) -> MutexGuard<'_, World> {
    // What is behind it is whole at every moment.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An error as the service writes it.
pub fn error(code: &str, message: &str) -> String {
    format!(
        "<ErrorResponse xmlns=\"{NAMESPACE}\"><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message>\
         </Error><RequestId>c6104cbe-af31-11e0-8154-cbc7ccf896c7</RequestId></ErrorResponse>"
    )
}

async fn answer(State(shared): State<Shared>, headers: HeaderMap, body: String) -> Response {
    let form = fields(&body);
    let of = |name: &str| form.get(name).cloned().unwrap_or_default();
    let asked = Asked {
        action: of("Action"),
        role: of("RoleArn"),
        signed: headers.contains_key(header::AUTHORIZATION),
    };
    let (fault, reply) = {
        let mut world = lock(&shared);
        world.asked.push(asked.clone());
        let fault = world.fault(&asked.role).or_else(|| world.fault(&asked.action));
        let reply = match (&fault, asked.action.as_str()) {
            (Some(_), _) => (500, String::new()),
            (None, "AssumeRoleWithWebIdentity") => {
                world.assume(&asked.role, &of("WebIdentityToken"), &of("RoleSessionName"))
            }
            (None, "GetCallerIdentity") => world.caller(&headers),
            (None, action) => (400, error("InvalidAction", &format!("Could not find operation {action}"))),
        };
        (fault, reply)
    };
    match fault {
        None => xml(reply),
        Some(Fault::Answer { status, body }) => xml((status, body)),
        Some(Fault::Silence) => std::future::pending().await,
        Some(Fault::Cut) => {
            let broken = Error::from(ErrorKind::ConnectionReset);
            Response::new(Body::from_stream(futures::stream::iter([Ok("<Assume"), Err(broken)])))
        }
    }
}

fn xml((status, body): Reply) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/xml"));
    response
}

/// `application/x-www-form-urlencoded`.
fn fields(body: &str) -> BTreeMap<String, String> {
    let plain = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    let pairs = body.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (plain(name), plain(value))).collect()
}

impl World {
    fn fault(&mut self, of: &str) -> Option<Fault> {
        let faults = self.faults.get_mut(of)?;
        if faults.len() > 1 { Some(faults.remove(0)) } else { faults.first().cloned() }
    }

    fn assume(&mut self, role: &str, token: &str, session: &str) -> Reply {
        let invalid = |message: &str| (400, error("InvalidIdentityToken", message));
        let Some(claims) = WebToken::new(token.to_owned()).claims() else {
            return invalid("The ID Token provided is not a valid JWT.");
        };
        let parts: Vec<&str> = role.split(':').collect();
        let [_, partition, _, _, account, resource] = parts.as_slice() else {
            return (400, error("ValidationError", "Request ARN is invalid"));
        };
        let provider = self.providers.get(&((*account).to_owned(), claims.issuer.clone()));
        let Some(audiences) = provider else {
            let message = format!("No OpenIDConnect provider found in your account for {}", claims.issuer);
            return invalid(&message);
        };
        if !claims.audiences.iter().any(|audience| audiences.contains(audience)) {
            return invalid("Incorrect token audience");
        }
        let ahead = i64::try_from(self.ahead.as_secs()).unwrap_or(i64::MAX);
        let now = Timestamp::now().as_second().saturating_add(ahead);
        let until = claims.expires_at.0 / 1_000_000;
        if now >= until {
            let message = format!(
                "Token expired: current date/time {now} must be before the expiration date/time {until}"
            );
            return (400, error("ExpiredTokenException", &message));
        }
        if !self.trusted.get(role).is_some_and(|subjects| subjects.contains(&claims.subject)) {
            return (403, error("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity"));
        }
        let name = resource.rsplit('/').next().unwrap_or_default();
        let arn = format!("arn:{partition}:sts::{account}:assumed-role/{name}/{session}");
        let key = format!("ASIASTUB{:08}", self.sessions.len());
        self.sessions.insert(key.clone(), arn.clone());
        (200, assumed(&key, &arn, &claims.subject))
    }

    fn caller(&self, headers: &HeaderMap) -> Reply {
        let signed =
            headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let key =
            signed.split("Credential=").nth(1).and_then(|rest| rest.split('/').next()).unwrap_or_default();
        let Some(arn) = self.sessions.get(key) else {
            return (
                403,
                error("InvalidClientTokenId", "The security token included in the request is invalid."),
            );
        };
        let body = format!(
            "<GetCallerIdentityResponse xmlns=\"{NAMESPACE}\"><GetCallerIdentityResult><Arn>{arn}</Arn>\
             <UserId>AROASTUB:s</UserId><Account>{}</Account></GetCallerIdentityResult></GetCallerIdentityResponse>",
            arn.split(':').nth(4).unwrap_or_default()
        );
        (200, body)
    }
}

/// What the real one adds to a session (Provider, Audience) is left out: nobody reads it.
fn assumed(key: &str, arn: &str, subject: &str) -> String {
    format!(
        "<AssumeRoleWithWebIdentityResponse xmlns=\"{NAMESPACE}\"><AssumeRoleWithWebIdentityResult>\
         <SubjectFromWebIdentityToken>{subject}</SubjectFromWebIdentityToken><AssumedRoleUser><Arn>{arn}</Arn>\
         <AssumedRoleId>AROASTUB:s</AssumedRoleId></AssumedRoleUser><Credentials>\
         <SessionToken>{SESSION_TOKEN}</SessionToken><SecretAccessKey>{SECRET_KEY}</SecretAccessKey>\
         <Expiration>2099-01-01T00:00:00Z</Expiration><AccessKeyId>{key}</AccessKeyId></Credentials>\
         </AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
    )
}

/// The secret key of every session, to be looked for where it must not be.
pub const SECRET_KEY: &str = "stub-secret-access-key";
/// The session token of every session, to be looked for where it must not be.
pub const SESSION_TOKEN: &str = "stub-session-token";
