//! Logging, as the environment asks for it.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt};

/// Starts to log: `LOG_LEVEL` says what, `LOG_JSON` how.
pub(crate) fn start(default_level: &str) {
    let level =
        setting("LOG_LEVEL").map_or_else(|| format!("{default_level},refinery_core=warn"), |it| it.to_lowercase());
    let filter = EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    let log = fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr);
    let json = setting("LOG_JSON").is_some_and(|value| matches!(value.to_lowercase().as_str(), "1" | "true" | "yes"));
    // A second start, as in tests, keeps the first.
    let _ = if json { log.json().try_init() } else { log.with_target(false).compact().try_init() };
}

#[expect(clippy::disallowed_methods, reason = "logging starts before flags are read")]
fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
