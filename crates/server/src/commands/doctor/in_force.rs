//! What the sections of a project come to, in lines of a name and a value.

use std::{iter, path::Path, time::Duration};

use humantime::format_duration;
use threadyard_core::{
    checkpoints::PruneStrategy, retention::ThreadTtl, tokens::TokenRules, webhook_pace::WebhookPace,
    webhook_policy::WebhookPolicy,
};
use threadyard_engine::Sweep;
use threadyard_runtime::{
    AuthCache, AuthConfig, AuthDecider, AuthOptions, Classes, HttpOptions, Project, ProjectError, SerdeRules,
    SweepChoice, UiOptions,
};
use url::Url;

use crate::encryption::EncryptionArgs;

type Line = (&'static str, String);

/// How callers are told apart.
pub(super) fn access(auth: Option<&AuthOptions>) -> Vec<Line> {
    match auth.map(|auth| &auth.decider) {
        None => vec![("callers", "nobody asks who calls: whoever reaches the server may use all of it".into())],
        Some(AuthDecider::Custom(config)) => custom(config),
        Some(AuthDecider::Builtin { keys, tokens }) => {
            let keys = if *keys { "on; `threadyard keys` looks after them" } else { "off" };
            let keys = [("keys", keys.to_owned())];
            keys.into_iter().chain(tokens.iter().flat_map(jwt)).collect()
        }
    }
}

fn custom(AuthConfig { path, deny, cache }: &AuthConfig) -> Vec<Line> {
    let remembered = |AuthCache { keys, ttl, max_size }: &AuthCache| {
        format!("by {}, for {}, of {max_size} callers at most", keys.join(", "), format_duration(*ttl))
    };
    vec![
        ("path", path.clone()),
        ("default", format!("what no handler looks at is {}", if *deny { "refused" } else { "allowed" })),
        ("cache", cache.as_ref().map_or_else(|| "off".into(), remembered)),
    ]
}

fn jwt(rules: &TokenRules) -> [Line; 5] {
    let keys = rules.jwks_url.as_ref().map_or("as the issuer's configuration says", Url::as_str);
    let of_claim = |claim: &String| format!("those of the claim `{claim}`");
    [
        ("jwt issuer", rules.issuer.clone()),
        ("jwt audience", rules.audience.join(", ")),
        ("jwt keys", keys.into()),
        ("jwt algorithms", listed(&rules.algorithms)),
        ("jwt scopes", rules.scopes_claim.as_ref().map_or_else(|| rules.scopes.join(", "), of_claim)),
    ]
}

/// What pages find of the project's components.
pub(super) fn ui(ui: &UiOptions) -> Vec<Line> {
    let bundles: Vec<_> = ui.bundles.iter().map(|(name, file)| format!("{name} of {file}")).collect();
    vec![("bundles", bundles.join(", ")), ("shared", ui.shared.join(", "))]
}

/// What is said of headers and of the project's application.
pub(super) fn http(http: &HttpOptions) -> Vec<Line> {
    let order = if http.auth_first { "auth_first" } else { "middleware_first" };
    vec![
        ("enable_custom_route_auth", yes(http.custom_route_auth)),
        ("middleware_order", order.into()),
        ("configurable_headers", http.configurable_headers.to_string()),
        ("logging_headers", http.logging_headers.to_string()),
    ]
}

/// What is stored is encrypted with which keys, by the names that logs and errors have for them.
pub(super) fn encryption(args: &EncryptionArgs, project: &Project) -> anyhow::Result<Vec<Line>> {
    let cipher = args.cipher()?;
    let path = project.encryption.iter().map(|path| ("path", path.clone()));
    let at_rest = match (cipher.key_id(), &project.encryption) {
        (None, None) => return Ok(vec![("at rest", "off: LANGGRAPH_AES_KEY is not set, or set to nothing".into())]),
        (None, Some(_)) => return Ok(iter::once(("at rest", "on".into())).chain(path).collect()),
        (Some(key), _) => [("at rest", "on".into()), ("key", key), ("older keys", cipher.older_key_ids().join(", "))],
    };
    Ok(at_rest.into_iter().chain(path).collect())
}

/// How long things are kept.
pub(super) fn kept(project: &Project) -> Vec<Line> {
    let threads = match project.thread_ttl {
        None => "for ever, unless who makes them says otherwise".to_owned(),
        Some(ThreadTtl { strategy, ttl }) => {
            let then = if strategy == PruneStrategy::Delete { "deleted" } else { "reduced to their newest checkpoint" };
            format!("{then} {} after their last change", format_duration(ttl))
        }
    };
    let items = match project.item_ttl.default {
        None => "for ever, unless who writes them says otherwise".to_owned(),
        Some(ttl) if project.item_ttl.refresh_on_read => {
            format!("{} after they were written or read", format_duration(ttl))
        }
        Some(ttl) => format!("{} after they were written", format_duration(ttl)),
    };
    let deliveries = project.webhooks.deliveries_kept;
    let (body, row) = (format_duration(deliveries.body), format_duration(deliveries.row));
    vec![
        ("threads", format!("{threads}; {}", swept(project.sweep))),
        ("items", format!("{items}; {}", swept(project.item_sweep))),
        ("serde", project.serde.as_ref().map_or_else(|| "as LangGraph has it".into(), serde)),
        ("deliveries", format!("their bodies for {body}, the rest for {row}")),
    ]
}

fn serde(SerdeRules { json, msgpack, pickle }: &SerdeRules) -> String {
    let told = |name: &str, classes: &Option<Classes>| {
        format!("{name}: {}", classes.as_ref().map_or_else(|| "as LangGraph has it".into(), ToString::to_string))
    };
    format!("{}; {}; pickles: {}", told("msgpack", msgpack), told("json", json), yes(*pickle))
}

fn swept(chosen: SweepChoice) -> String {
    let usual = Sweep::default();
    let (every, limit) = (chosen.every.unwrap_or(usual.every), chosen.limit.unwrap_or(usual.limit));
    format!("looked for every {}, {limit} at once", format_duration(every))
}

/// Where webhooks may go, and how they are sent.
pub(super) fn webhooks(project: &Project) -> Vec<Line> {
    let WebhookPolicy { loopback, private, allowed_cidrs, allowed_domains, allowed_ports, require_https, .. } =
        project.webhooks.policy(&WebhookPolicy::production());
    let WebhookPace { waits, connect, total, at_once, at_once_to_one, .. } =
        project.webhooks.pace(&WebhookPace::production());
    let names: Vec<_> = project.webhooks.headers.0.iter().map(|(name, _)| name.as_str()).collect();
    let in_all = format_duration(waits.iter().sum::<Duration>());
    vec![
        ("sent", yes(!project.http.disabled.webhooks)),
        ("allowed_domains", or_all(&allowed_domains)),
        ("allowed_ports", or_all(&allowed_ports)),
        ("require_https", yes(require_https)),
        ("this machine", yes(loopback)),
        ("private networks", yes(private)),
        ("allowed_cidrs", listed(&allowed_cidrs)),
        ("headers", names.join(", ")),
        ("attempts", format!("{}, over {in_all}", waits.len() + 1)),
        ("timeouts", format!("{} to connect, {} in all", format_duration(connect), format_duration(total))),
        ("at once", format!("{at_once}, of them {at_once_to_one} to one receiver")),
    ]
}

/// What files end with; other paths are those of modules.
const FILES: [&str; 8] = ["py", "ts", "tsx", "mts", "cts", "js", "mjs", "cjs"];

/// Refuses a project that names files which do not exist.
pub(super) fn check_files(project: &Project) -> Result<(), ProjectError> {
    let of_graphs = project.graphs.iter().map(|graph| (format!("graphs.{}", graph.id), &graph.path));
    let of_app = project.http.app.iter().map(|path| ("http.app".to_owned(), path));
    let of_auth = project.auth.iter().filter_map(|auth| match &auth.decider {
        AuthDecider::Custom(config) => Some(("auth.path".to_owned(), &config.path)),
        AuthDecider::Builtin { .. } => None,
    });
    let of_index = project.item_index.iter().map(|index| ("store.index.embed".to_owned(), &index.embed));
    let of_ui = project.ui.iter().flat_map(|ui| &ui.bundles).map(|(name, file)| (format!("ui.{name}"), file));
    let of_encryption = project.encryption.iter().map(|path| ("encryption.path".to_owned(), path));
    for (key, path) in of_graphs.chain(of_app).chain(of_auth).chain(of_index).chain(of_ui).chain(of_encryption) {
        let file = path.rsplit_once(':').map_or(path.as_str(), |(file, _)| file);
        let is_file = Path::new(file).extension().is_some_and(|it| FILES.iter().any(|known| it == *known));
        if is_file && !project.folder.join(file).is_file() {
            let why = format!("`{key}` names `{file}`, which does not exist");
            return Err(ProjectError::Invalid { place: project.place(&key), why });
        }
    }
    Ok(())
}

fn yes(is_so: bool) -> String {
    if is_so { "yes" } else { "no" }.into()
}

fn listed(all: &[impl ToString]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn or_all(all: &[impl ToString]) -> String {
    if all.is_empty() { "all".into() } else { listed(all) }
}
