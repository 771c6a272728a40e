//! Log lines, to standard error: what a command prints for its caller stays on standard output.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::fault::{Fault, Faults};
use crate::config::settings::{Log, LogFormat};

/// Starts logging. Once per process; later calls change nothing.
pub fn start(log: &Log) -> Result<(), Faults> {
    let filter = filter(&log.level).map_err(|fault| Faults(vec![fault]))?;
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    // A second call finds a subscriber in place: the first one stays.
    let _ = match log.format {
        LogFormat::Text => registry.with(layer.with_ansi(std::io::stderr().is_terminal())).try_init(),
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).try_init(),
    };
    panics_are_log_lines();
    Ok(())
}

/// A panic is a fault of ours: it must reach the log in the log's own form.
fn panics_are_log_lines() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(String::new, |at| format!(" at {at}"));
        let words = panic.payload_as_str().unwrap_or("without words");
        tracing::error!("panic{place}: {words}; please report it");
    }));
}

fn filter(level: &str) -> Result<EnvFilter, Fault> {
    EnvFilter::try_new(level).map_err(|error| {
        let remedy =
            "write error, warn, info, debug or trace, or a filter such as info,windlass_cluster=debug";
        Fault::new("log.level", format!("`{level}` is no level: {error}"), remedy)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_that_is_none_is_a_fault() {
        assert!(filter("info,windlass_cluster=debug").is_ok());
        let fault = filter("windlass=loud").unwrap_err().to_string();
        assert!(fault.starts_with("log.level: `windlass=loud` is no level"), "{fault}");
    }
}
