//! Who we are to AWS.

use std::fmt;
use std::time::SystemTime;

use aws_config::{BehaviorVersion, ConfigLoader, Region, SdkConfig};
use aws_credential_types::provider::ProvideCredentials;
use aws_smithy_http_client::{Builder, tls};

use crate::error::{AwsError, chain};
use crate::rds;

/// Credentials that renew themselves, and a region.
#[derive(Clone)]
pub struct Account {
    config: SdkConfig,
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
        Self { config: loader.load().await }
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
        let none = || AwsError::Credentials { why: "no provider is configured".into() };
        let provider = self.config.credentials_provider().ok_or_else(none)?;
        let credentials = provider.provide_credentials().await;
        let credentials = credentials.map_err(|error| AwsError::Credentials { why: chain(&error) })?;
        rds::token(&rds::Login { host, port, user, region: &region }, credentials, now)
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Account(region {:?})", self.config.region())
    }
}
