//! Who we are to AWS.

use std::fmt;
use std::time::{Duration, SystemTime};

use aws_config::{BehaviorVersion, ConfigLoader, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_smithy_http_client::{Builder, tls};

use crate::error::{AwsError, chain};
use crate::rds;

/// Credentials that end sooner are fetched anew: a token that is signed with them ends with them.
const LEFT_AT_LEAST: Duration = Duration::from_secs(300);

/// Credentials that renew themselves, and a region.
pub struct Account {
    config: SdkConfig,
    /// The provider keeps none, and asks STS or the node's agent each time.
    kept: tokio::sync::Mutex<Option<Credentials>>,
}

/// The SDK's defaults, with the same TLS library as everywhere else in the daemon.
pub(crate) fn loader() -> ConfigLoader {
    let tls = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring);
    let client = Builder::new().tls_provider(tls).build_https();
    aws_config::defaults(BehaviorVersion::latest()).http_client(client)
}

impl Account {
    /// Looks where the SDK looks: environment, profile, web identity (IRSA), container (EKS Pod Identity), instance.
    /// Credentials themselves are fetched when they are needed. `region` goes before the environment's.
    pub async fn find(region: Option<&str>) -> Self {
        let mut loader = loader();
        if let Some(region) = region.filter(|region| !region.is_empty()) {
            loader = loader.region(Region::new(region.to_owned()));
        }
        Self { config: loader.load().await, kept: tokio::sync::Mutex::default() }
    }

    /// A token for one login from `now` on: see [`rds::token`].
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn rds_token(
        &self,
        host: &str,
        port: u16,
        user: &str,
        now: SystemTime,
    ) -> Result<String, AwsError> {
        let named = self.config.region().map(|region| region.as_ref().to_owned());
        let region = named.or_else(|| rds::region_of(host)).ok_or(AwsError::Region)?;
        let credentials = self.credentials(now).await?;
        rds::token(&rds::Login { host, port, user, region: &region }, credentials, now)
    }

    /// Those of before while they last, also through a time in which no others can be had.
    async fn credentials(&self, now: SystemTime) -> Result<Credentials, AwsError> {
        let none = || AwsError::Credentials { why: "no provider is configured".into() };
        let provider = self.config.credentials_provider().ok_or_else(none)?;
        let mut kept = self.kept.lock().await;
        let good_for = |credentials: &Credentials, left: Duration| {
            credentials.expiry().is_some_and(|end| end > now + left)
        };
        if let Some(credentials) = kept.as_ref().filter(|kept| good_for(kept, LEFT_AT_LEAST)) {
            return Ok(credentials.clone());
        }
        match provider.provide_credentials().await {
            Ok(credentials) => Ok(kept.insert(credentials).clone()),
            Err(error) => match kept.as_ref().filter(|kept| good_for(kept, Duration::ZERO)) {
                Some(credentials) => Ok(credentials.clone()),
                None => Err(AwsError::Credentials { why: chain(&error) }),
            },
        }
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Account(region {:?})", self.config.region())
    }
}
