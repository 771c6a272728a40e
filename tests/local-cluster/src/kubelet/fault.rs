//! Faults on demand, by an annotation of the pod: works through any API server, also with `kubectl annotate`.

use std::time::Duration;

/// The annotation: `oom`, `kill` or `evict`, optionally ` after 500` (milliseconds from when it is seen on a running
/// pod).
pub const ANNOTATION: &str = "local-cluster.windlass.dev/fault";

/// What is done to the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Killed, and reported as `OOMKilled`.
    Oom,
    /// SIGKILL from outside, reported as what it is.
    Kill,
    /// Ended by the kubelet for want of a resource: phase Failed, reason `Evicted`.
    Evict,
}

/// Reads the annotation; `None` if it says nothing that is known.
pub(crate) fn parse(text: &str) -> Option<(Fault, Duration)> {
    let mut words = text.split_whitespace();
    let fault = match words.next()? {
        "oom" => Fault::Oom,
        "kill" => Fault::Kill,
        "evict" => Fault::Evict,
        _ => return None,
    };
    match (words.next(), words.next(), words.next()) {
        (None, _, _) => Some((fault, Duration::ZERO)),
        (Some("after"), Some(ms), None) => Some((fault, Duration::from_millis(ms.parse().ok()?))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_annotation_is_read() {
        assert_eq!(parse("oom"), Some((Fault::Oom, Duration::ZERO)));
        assert_eq!(parse("evict after 20"), Some((Fault::Evict, Duration::from_millis(20))));
        for bad in ["", "boom", "kill after", "kill after x", "kill 5"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
