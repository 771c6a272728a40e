//! Looks at what the daemon serves: `/metrics` and the probes.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use windlass_lab::plain_http;

/// The body of what the daemon answers with 200.
pub(crate) async fn get(port: u16, path: &str) -> Result<String> {
    match plain_http::get(port, path).await? {
        (200, body) => Ok(body),
        (status, body) => bail!("{path} answered {status}: {body}"),
    }
}

/// Samples by name with labels, as they stand in the text: `windlass_leading`, `x_total{call="intake",result="ok"}`.
#[derive(Debug)]
pub(crate) struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    pub(crate) async fn read(port: u16) -> Result<Self> {
        Ok(Self::parse(&get(port, "/metrics").await?))
    }

    fn parse(text: &str) -> Self {
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        Self(text.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect())
    }

    /// 0 for a sample that is not there: counters appear with their first count.
    pub(crate) fn get(&self, sample: &str) -> f64 {
        self.0.get(sample).copied().unwrap_or(0.0)
    }

    /// All samples of a metric with the value of one of its labels.
    pub(crate) fn by_label(&self, metric: &str, label: &str) -> BTreeMap<String, f64> {
        let mut found = BTreeMap::new();
        for (name, value) in &self.0 {
            let labels = name.strip_prefix(metric).and_then(|rest| rest.strip_prefix('{'));
            let of = labels.and_then(|labels| labels.split_once(&format!("{label}=\""))?.1.split_once('"'));
            if let Some((of, _)) = of {
                *found.entry(of.to_owned()).or_insert(0.0) += value;
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_with_their_labels() {
        let text = "# HELP a_total x\na 1\na_total{call=\"x\",result=\"ok\"} 2\na_total{call=\"x\",result=\"failed\"} 3\n";
        let metrics = Metrics::parse(text);
        assert_eq!((metrics.get("a"), metrics.get("b")), (1.0, 0.0));
        assert_eq!(metrics.get("a_total{call=\"x\",result=\"ok\"}"), 2.0);
        assert_eq!(metrics.by_label("a_total", "call"), BTreeMap::from([("x".to_owned(), 5.0)]));
    }
}
