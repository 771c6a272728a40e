//! How long an interface that a pod gave back still counts against its node.

use std::time::Duration;

/// Without a readable setting.
pub const DEFAULT: Duration = Duration::from_secs(60);
/// A shorter one is lifted to it.
const MIN: Duration = Duration::from_secs(30);

/// The setting `branch-eni-cooldown` of ConfigMap `kube-system/amazon-vpc-cni`: whole seconds, as Go's `Atoi` reads them.
pub fn cool_down(setting: Option<&str>) -> Duration {
    match setting.and_then(|text| text.parse::<i64>().ok()) {
        None => DEFAULT,
        Some(seconds) => Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).max(MIN),
    }
}
