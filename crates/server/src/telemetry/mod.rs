//! Logs and traces, as the environment asks for them.

mod json;
mod traces;

use std::io::IsTerminal;

pub(crate) use self::traces::{Exporting, exporter, traces_are_wanted};

use tracing_subscriber::{EnvFilter, fmt::format::JsonFields};

/// Starts to log: `LOG_LEVEL` says what, `LOG_JSON` how.
pub(crate) fn start(default_level: &str) {
    let wanted = setting("LOG_LEVEL");
    let known = wanted.as_deref().and_then(level);
    let level = known.clone().unwrap_or_else(|| format!("{default_level},refinery_core=warn"));
    let filter = EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"));
    let no_colours =
        setting("LOG_COLOR").is_some_and(|value| matches!(value.to_lowercase().as_str(), "0" | "false" | "no"));
    let colours = std::io::stderr().is_terminal() && !no_colours;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr);
    // A second start, as in tests, keeps the first.
    let _ = if is_json() {
        log.fmt_fields(JsonFields::new()).event_format(json::Json).try_init()
    } else {
        log.with_target(false).compact().try_init()
    };
    if let Some(wanted) = wanted.filter(|_| known.is_none()) {
        tracing::warn!("LOG_LEVEL: `{wanted}` is no level, such as debug, info, warning or error");
    }
}

/// Whether each line is one of JSON, for programs that read the log.
pub(crate) fn is_json() -> bool {
    setting("LOG_JSON").is_some_and(|value| matches!(value.to_lowercase().as_str(), "1" | "true" | "yes"))
}

/// A level, also as Python's programs name it, or several for parts of the program.
fn level(given: &str) -> Option<String> {
    let given = given.trim().to_lowercase();
    Some(match &*given {
        "warning" => "warn".to_owned(),
        "critical" | "fatal" => "error".to_owned(),
        "notset" => "trace".to_owned(),
        "trace" | "debug" | "info" | "warn" | "error" | "off" => given,
        // The filter would take the word for a part of the program.
        word if word.chars().all(char::is_alphanumeric) => return None,
        _ => given,
    })
}

#[expect(clippy::disallowed_methods, reason = "logging starts before flags are read")]
fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_have_the_names_of_python_too() {
        let read = |given| level(given).unwrap_or_default();
        assert_eq!([read("WARNING"), read("Critical"), read("info")], ["warn", "error", "info"]);
        assert_eq!(read("threadyard_engine=debug,warn"), "threadyard_engine=debug,warn");
        assert_eq!(level("verbose"), None);
    }
}
