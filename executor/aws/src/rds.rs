//! IAM database authentication: a signed address in the place of a password.
//!
//! The token is what `generate_db_auth_token` of the other SDKs makes. It is signed here, without a call to AWS, and is
//! good for a login for 15 minutes; a connection that is open goes on after that.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::identity::Identity;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::error::{AwsError, chain};

/// How long a token is good for a login.
pub const LIFE: Duration = Duration::from_secs(900);

/// RFC 3986's unreserved characters stay, as Signature Version 4 wants it.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Where one logs in, and as whom.
#[derive(Clone, Copy, Debug)]
pub struct Login<'a> {
    /// As in the connection string: the token is for this name alone.
    pub host: &'a str,
    /// As in the connection string.
    pub port: u16,
    /// The database's user, which must have been granted `rds_iam`.
    pub user: &'a str,
    /// Of the database.
    pub region: &'a str,
}

/// The token for one login, signed at `now`.
///
/// # Errors
/// [`AwsError::Signing`].
pub fn token(login: &Login<'_>, credentials: Credentials, now: SystemTime) -> Result<String, AwsError> {
    let failed = |why: String| AwsError::Signing { user: login.user.into(), host: login.host.into(), why };
    let mut settings = SigningSettings::default();
    settings.expires_in = Some(LIFE);
    settings.signature_location = SignatureLocation::QueryParams;
    let identity: Identity = credentials.into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(login.region)
        .name("rds-db")
        .time(now)
        .settings(settings)
        .build()
        .map_err(|error| failed(chain(&error)))?
        .into();
    // The name is signed in small letters and stands in the token as it was given.
    let (host, user) = (login.host.to_lowercase(), utf8_percent_encode(login.user, ESCAPED));
    let address = format!("https://{host}:{}/?Action=connect&DBUser={user}", login.port);
    let signable = SignableRequest::new("GET", &address, std::iter::empty(), SignableBody::Bytes(&[]))
        .map_err(|error| failed(chain(&error)))?;
    let (instructions, _) = sign(signable, &params).map_err(|error| failed(chain(&error)))?.into_parts();
    let mut request = http::Request::get(&address).body(()).map_err(|error| failed(chain(&error)))?;
    instructions.apply_to_request_http1x(&mut request);
    let query = request.uri().query().unwrap_or_default();
    Ok(format!("{}:{}/?{query}", login.host, login.port))
}

/// The region in the name that RDS gave a database: `NAME.ID.REGION.rds.amazonaws.com`.
pub fn region_of(host: &str) -> Option<String> {
    let host = host.to_lowercase();
    let (before, _) = host.split_once(".rds.")?;
    let region = before.rsplit('.').next()?;
    let looks_so = region.split('-').count() >= 3 && region.ends_with(|c: char| c.is_ascii_digit());
    looks_so.then(|| region.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_is_in_the_name() {
        let cases = [
            ("airflow.cluster-c0example123.us-east-1.rds.amazonaws.com", Some("us-east-1")),
            ("Airflow.C0EXAMPLE.us-east-1.RDS.amazonaws.com", Some("us-east-1")),
            ("airflow.c0example.us-iso-east-1.rds.c2s.ic.gov", Some("us-iso-east-1")),
            ("metadb.internal.example.org", None),
            ("x.rds.example.org", None),
        ];
        for (host, want) in cases {
            assert_eq!(region_of(host).as_deref(), want, "{host}");
        }
    }
}
