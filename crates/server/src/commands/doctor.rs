//! `doctor`: what is in force, and where it comes from. It starts nothing and shows no secret.

mod in_force;

use std::{ffi::OsStr, fmt::Write as _, io::Write as _};

use clap::{Arg, ArgMatches, CommandFactory, parser::ValueSource};
use threadyard_runtime::{CorsRules, Project, WithoutEffect};

use super::{Cli, serve};
use crate::{
    app::{WORKERS, data_folder},
    config::ServerArgs,
    sharing::SharingArgs,
    telemetry::{self, traces_are_wanted},
};

/// Variables of the official server that have no meaning here.
const NOT_READ: [&str; 28] = [
    "A2A_A2UI_ENABLED",
    "A2A_A2UI_TOOL_CALL_RESULTS",
    "A2A_ALLOWED_TOOL_CALL_RESULTS",
    "AGENT_POSTGRES_IAM_AUTH_PROVIDER",
    "AGENT_REDIS_IAM_AUTH_PROVIDER",
    "BG_JOB_HEARTBEAT",
    "BG_JOB_ISOLATED_LOOPS",
    "EXPOSE_INTERNAL_METRICS_PROMETHEUS",
    "LANGGRAPH_AES_JSON_KEYS",
    "LANGGRAPH_AUTH_TYPE",
    "LANGGRAPH_CLOUD_LICENSE_KEY",
    "LANGSMITH_AUTH_ENDPOINT",
    "LANGSMITH_TENANT_ID",
    "LSD_CHECKPOINT_DELETE",
    "LSD_PROM_METRICS_ENABLED",
    "LSD_PROM_METRICS_PORT",
    "LSD_RUN_QUEUE_TRACE_LOG",
    "LS_APM_OTEL_ENABLED",
    "LS_CHECKPOINT_DELETE",
    "LS_DEFAULT_CHECKPOINTER_BACKEND",
    "LS_MONGODB_URI",
    "LS_OTEL_INSTRUMENT",
    "LS_RATE_LIMITS",
    "POSTGRES_URI_CUSTOM",
    "PREFER_GRPC_CHECKPOINTER",
    "REDIS_CLUSTER",
    "REDIS_MAX_CONNECTIONS",
    "REDIS_URI_CUSTOM",
];
/// Variables that are read before any flag.
const OF_THE_LOG: [&str; 3] = ["LOG_LEVEL", "LOG_JSON", "LOG_COLOR"];

pub(super) fn run(server: &ServerArgs, sharing: &SharingArgs) -> anyhow::Result<()> {
    let mut said = format!("Threadyard {}\n", env!("CARGO_PKG_VERSION"));
    settings(&mut said, server);
    // What was found out so far is said even when the project makes no sense.
    let project = Project::load(&server.config).map_err(anyhow::Error::from);
    let checked = project.and_then(|project| {
        show(&mut said, server, &project)?;
        server.webhook_master()?;
        section(&mut said, "Encryption", in_force::encryption(&server.encryption, &project)?);
        in_force::check_files(&project)?;
        telemetry::exporter()?;
        sharing.redis()?;
        sharing.database.postgres().map(drop)
    });
    std::io::stdout().lock().write_all(said.as_bytes())?;
    checked
}

/// Each flag with its value and its origin.
fn settings(said: &mut String, server: &ServerArgs) {
    let command = Cli::command();
    let matches = command.clone().get_matches();
    let (Some(matches), Some(command)) = (matches.subcommand_matches("doctor"), command.find_subcommand("doctor"))
    else {
        return;
    };
    said.push_str("\nSettings\n");
    for argument in command.get_arguments().filter(|it| !it.is_hide_set() && it.get_id() != "help") {
        let name = argument.get_long().unwrap_or_default();
        let _ = writeln!(said, "  --{name:<31} {:<24} {}", value(argument, matches, server), origin(argument, matches));
    }
    for name in OF_THE_LOG {
        let value = variable(name);
        let origin = if value.is_some() { name } else { "default" };
        let _ = writeln!(said, "  {:<33} {:<24} {origin}", name.to_lowercase(), value.unwrap_or_else(|| "-".into()));
    }
    let traces = if traces_are_wanted() { "sent" } else { "not sent" };
    let _ = writeln!(said, "  {:<33} {traces:<24} OTEL_EXPORTER_OTLP_ENDPOINT", "traces");
    for name in NOT_READ.into_iter().filter(|name| variable(name).is_some()) {
        let _ = writeln!(said, "  {name} is set, and has no effect here");
    }
}

fn value(argument: &Arg, matches: &ArgMatches, server: &ServerArgs) -> String {
    let id = argument.get_id().as_str();
    let Some(values) = matches.get_raw(id) else { return usual(id, server).unwrap_or_else(|| "-".into()) };
    if argument.is_hide_env_values_set() {
        let is_empty = values.clone().all(OsStr::is_empty);
        return if is_empty { "(set to nothing)" } else { "(set, and secret)" }.into();
    }
    values.map(|value| value.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// What `serve` does where nobody says anything, and no value stands for that.
fn usual(id: &str, server: &ServerArgs) -> Option<String> {
    Some(match id {
        "host" => serve::HOST.to_string(),
        "port" => serve::PORT.to_string(),
        "workers" => WORKERS.to_string(),
        "data_dir" => data_folder(std::path::absolute(&server.config).ok()?.parent()?).display().to_string(),
        "cache_dir" => server.cache_folder().display().to_string(),
        _ => return None,
    })
}

fn origin(argument: &Arg, matches: &ArgMatches) -> String {
    match matches.value_source(argument.get_id().as_str()) {
        Some(ValueSource::CommandLine) => "command line".into(),
        Some(ValueSource::EnvVariable) => {
            argument.get_env().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
        }
        _ => "default".into(),
    }
}

fn show(said: &mut String, server: &ServerArgs, project: &Project) -> anyhow::Result<()> {
    let _ = writeln!(said, "\nProject {}", project.folder.display());
    for (section, place) in &project.sections {
        let _ = writeln!(said, "  {section:<14} {place}");
    }
    for WithoutEffect { key, place, is_known } in &project.without_effect {
        let why = if *is_known { "matters only for images" } else { "is not known, and does nothing" };
        let _ = writeln!(said, "  {key:<14} {place} {why}");
    }
    said.push_str("\nGraphs\n");
    for graph in &project.graphs {
        let _ = writeln!(said, "  {:<14} {}", graph.id, graph.path);
    }
    if let Some(ui) = &project.ui {
        section(said, "Components", in_force::ui(ui));
    }
    section(said, "Access", in_force::access(project.auth.as_ref()));
    let http = server.http_options(project)?;
    let CorsRules { allow_origins, allow_credentials, .. } = server.cors(http.cors.clone());
    said.push_str("\nHTTP\n");
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(said, "  {name:<14} {}", if value.is_empty() { "-" } else { value });
    };
    line("app", http.app.as_deref().unwrap_or_default());
    line("mount_prefix", &http.mount_prefix);
    line("cors", &format!("{}{}", allow_origins.join(", "), if allow_credentials { ", with credentials" } else { "" }));
    let it = http.disabled;
    let groups = [
        (it.assistants, "assistants"),
        (it.threads, "threads"),
        (it.runs, "runs"),
        (it.store, "store"),
        (it.mcp, "mcp"),
        (it.a2a, "a2a"),
        (it.meta, "meta"),
        (it.webhooks, "webhooks"),
        (it.ui, "ui"),
    ];
    let disabled: Vec<_> = groups.into_iter().filter_map(|(disabled, group)| disabled.then_some(group)).collect();
    line("disabled", &disabled.join(", "));
    section(said, "", in_force::http(&http));
    section(said, "Kept", in_force::kept(project));
    section(said, "Webhooks", in_force::webhooks(project));
    Ok(())
}

/// Adds lines, below a title if there is one.
fn section(said: &mut String, title: &str, lines: Vec<(&'static str, String)>) {
    if !title.is_empty() {
        let _ = writeln!(said, "\n{title}");
    }
    for (name, value) in lines {
        let _ = writeln!(said, "  {name:<14} {}", if value.is_empty() { "-" } else { &value });
    }
}

#[expect(clippy::disallowed_methods, reason = "what is set is what this command is about")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
