//! Whom a web identity token becomes: AssumeRoleWithWebIdentity, then GetCallerIdentity with what it gave.
//!
//! As an SDK in a pod does it, on the region's endpoint (or `AWS_ENDPOINT_URL_STS`). The first call is not signed: no
//! credentials of our own are looked for.

use std::fmt;
use std::time::Duration;

use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_sdk_sts::Client;
use aws_sdk_sts::config::Builder;
use aws_sdk_sts::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use crate::account::loader;
use crate::error::chain;

/// The shortest that STS gives, in seconds.
const SESSION_SECONDS: i32 = 900;
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// One try, its connection included.
const TRY_WITHIN: Duration = Duration::from_secs(5);
/// One call with its tries: three, by the SDK's default.
const CALL_WITHIN: Duration = Duration::from_secs(12);
const ASSUME: &str = "AssumeRoleWithWebIdentity";
const WHO_AM_I: &str = "GetCallerIdentity";

/// STS, without credentials.
#[derive(Clone)]
pub struct Sts {
    config: SdkConfig,
    region: Option<Region>,
}

/// Why there is no session, after all tries. Never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which call: `AssumeRoleWithWebIdentity` or `GetCallerIdentity`.
    pub call: &'static str,
    /// That was asked; empty: none is known.
    pub region: String,
    /// What came back.
    pub answer: Answer,
}

/// What came back in the place of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// An error of AWS.
    Error {
        /// Such as `AccessDenied`.
        code: String,
        /// AWS's words; may be empty.
        message: String,
    },
    /// Something that is no answer of STS: a proxy's page.
    Foreign {
        /// HTTP status.
        status: u16,
    },
    /// Nothing in time.
    TimedOut,
    /// No connection, or one that broke.
    Unreachable {
        /// The SDK's words, with their causes.
        cause: String,
    },
    /// No region is known.
    NoRegion,
}

impl Sts {
    /// As the environment says: `AWS_REGION`, `AWS_ENDPOINT_URL_STS` and the like, or a profile.
    pub async fn find() -> Self {
        Self::with(None).await
    }

    /// At this address, whatever the environment says.
    pub async fn at(endpoint: &str) -> Self {
        Self::with(Some(endpoint)).await
    }

    async fn with(endpoint: Option<&str>) -> Self {
        // Without the instance's own: outside of EC2 it is waited for, and an issuer of EKS names its region.
        let chain = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
            .or_else(ProfileFileRegionProvider::new());
        let region = chain.region().await;
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_WITHIN)
            .operation_attempt_timeout(TRY_WITHIN)
            .operation_timeout(CALL_WITHIN)
            .build();
        // A region has to be given, or the loader looks for one itself.
        let known = region.clone().unwrap_or(Region::from_static("us-east-1"));
        let mut loader = loader().no_credentials().region(known).timeout_config(timeouts);
        if let Some(endpoint) = endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        Self { config: loader.load().await, region }
    }

    /// ARN of the session that `token` gets for `role_arn`, named `session`. `home`: the region to ask where the
    /// environment names none.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn become_role(
        &self,
        role_arn: &str,
        token: &str,
        session: &str,
        home: Option<&str>,
    ) -> Result<String, Refused> {
        let region = self.region.clone().or_else(|| home.map(|home| Region::new(home.to_owned())));
        let Some(region) = region else {
            return Err(Refused { call: ASSUME, region: String::new(), answer: Answer::NoRegion });
        };
        let refused = |call, answer| Refused { call, region: region.as_ref().to_owned(), answer };
        let settings = || Builder::from(&self.config).region(region.clone());
        let assumed = Client::from_conf(settings().build())
            .assume_role_with_web_identity()
            .role_arn(role_arn)
            .role_session_name(session)
            .web_identity_token(token)
            .duration_seconds(SESSION_SECONDS)
            .send()
            .await
            .map_err(|error| refused(ASSUME, answer(&error)))?;
        let Some(given) = assumed.credentials else {
            return Err(refused(ASSUME, Answer::Foreign { status: 200 }));
        };
        let credentials = Credentials::new(
            given.access_key_id,
            given.secret_access_key,
            Some(given.session_token),
            None,
            "AssumeRoleWithWebIdentity",
        );
        let known = Client::from_conf(settings().credentials_provider(credentials).build())
            .get_caller_identity()
            .send()
            .await
            .map_err(|error| refused(WHO_AM_I, answer(&error)))?;
        known.arn.ok_or_else(|| refused(WHO_AM_I, Answer::Foreign { status: 200 }))
    }
}

impl fmt::Debug for Sts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sts(region {:?})", self.region)
    }
}

fn answer<E>(error: &SdkError<E, HttpResponse>) -> Answer
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let status = || error.raw_response().map_or(0, |response| response.status().as_u16());
    match error {
        SdkError::TimeoutError(_) => Answer::TimedOut,
        SdkError::DispatchFailure(failure) if failure.is_timeout() => Answer::TimedOut,
        SdkError::ServiceError(service) => match service.err().code() {
            Some(code) => {
                let message = service.err().message().unwrap_or_default().to_owned();
                Answer::Error { code: code.to_owned(), message }
            }
            None => Answer::Foreign { status: status() },
        },
        // Its words may quote what came.
        SdkError::ResponseError(_) => Answer::Foreign { status: status() },
        other => Answer::Unreachable { cause: chain(other) },
    }
}
