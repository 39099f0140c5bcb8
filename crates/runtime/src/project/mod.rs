//! The user's project: what `langgraph.json` says, and what of it this server can honour. Each section has a module.

mod auth;
pub(crate) mod document;
mod encryption;
mod env;
mod graphs;
mod http;
mod needs;
mod refusals;
mod sections;
mod tokens;
mod ui;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use document::Wrong;
use sections::Sections;
use threadyard_core::{
    items::{ItemIndex, ItemTtl},
    retention::ThreadTtl,
    runtime::Language,
};

pub(crate) use self::http::is_token;
pub use self::{
    auth::{AuthDecider, AuthOptions},
    env::Env,
    graphs::Graph,
    http::{CorsRules, Disabled, HeaderPatterns, HttpOptions, mount_prefix},
    ui::UiOptions,
};
use crate::{
    environment, index, language,
    retention::{self, SweepChoice},
    serde_rules::{self, SerdeRules},
    webhooks::{self, WebhookRules},
};

/// A project with its configuration.
#[derive(Clone, Debug)]
pub struct Project {
    /// The folder of the configuration file, absolute; paths are relative to it.
    pub folder: PathBuf,
    /// The configuration file itself, whether it exists or variables stand for it.
    pub file: PathBuf,
    /// The graphs, in the order of the file.
    pub graphs: Vec<Graph>,
    /// What the graphs need: folders of the project and packages.
    pub dependencies: Vec<String>,
    /// The oldest major version of Node that its scripts run on, if it says one.
    pub node_version: Option<u32>,
    /// Environment variables for the graphs.
    pub env: Env,
    /// How callers are known, if they are.
    pub auth: Option<AuthOptions>,
    /// Where the project's own encryption is, if it has one.
    pub encryption: Option<String>,
    /// How it is served over HTTP.
    pub http: HttpOptions,
    /// What of components is bundled for pages, if anything is.
    pub ui: Option<UiOptions>,
    /// Where webhooks may go, and what they carry.
    pub webhooks: WebhookRules,
    /// How long threads are kept, unless who makes them says otherwise.
    pub thread_ttl: Option<ThreadTtl>,
    /// How often threads whose time is over are looked for, and how many at once.
    pub sweep: SweepChoice,
    /// How values of checkpoints become objects of Python again, if anything is said of it.
    pub serde: Option<SerdeRules>,
    /// How long store items are kept.
    pub item_ttl: ItemTtl,
    /// How often items whose time is over are looked for.
    pub item_sweep: SweepChoice,
    /// How items are found by their meaning, if they are.
    pub item_index: Option<ItemIndex>,
    /// Where each section was read, as `file:line:column`.
    pub sections: Vec<(&'static str, String)>,
    /// What is there but does nothing here: keys of images, and keys that nobody knows.
    pub without_effect: Vec<WithoutEffect>,
    /// The sections as they were read, for the place of a key that turns out to be wrong later.
    read_from: Box<Sections>,
}

/// A key that does nothing here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WithoutEffect {
    /// The key with those that it is below.
    pub key: String,
    /// Where it is, as `file:line:column`.
    pub place: String,
    /// Whether it has a meaning elsewhere, in the building of images.
    pub is_known: bool,
}

/// Why a project can't be served.
#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    /// There is no configuration.
    #[error("`{0}` does not exist; run this in a folder with a langgraph.json, or name one with --config")]
    Missing(PathBuf),
    /// It can't be read.
    #[error("`{file}` can't be read")]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// It is not what a configuration looks like.
    #[error("{place}: {why}")]
    Invalid {
        /// Where it is wrong, as `file:line:column`.
        place: String,
        /// What is wrong with it.
        why: String,
    },
    /// It asks for something that would change what is served, and that this server can't do yet.
    #[error("{place}: {why}")]
    Unsupported {
        /// Where it is asked for, as `file:line:column`.
        place: String,
        /// What is asked for.
        why: String,
    },
}

impl ProjectError {
    fn at(place: String, wrong: &Wrong) -> Self {
        let why = wrong.to_string();
        if wrong.unsupported { Self::Unsupported { place, why } } else { Self::Invalid { place, why } }
    }
}

/// Keys that matter for building images only.
const IMAGE_KEYS: [&str; 13] = [
    "$schema",
    "_INTERNAL_docker_tag",
    "api_version",
    "base_image",
    "dockerfile_lines",
    "image_distro",
    "internal_docker_tag",
    "keep_pkg_tools",
    "name",
    "pip_config_file",
    "pip_installer",
    "python_version",
    "source",
];
const KNOWN_KEYS: [&str; 12] = [
    "auth",
    "encryption",
    "graphs",
    "dependencies",
    "env",
    "http",
    "node_version",
    "store",
    "checkpointer",
    "webhooks",
    "ui",
    "ui_config",
];

impl Project {
    /// Reads a configuration file, or what variables say in its place.
    pub fn load(file: &Path) -> Result<Self, ProjectError> {
        let unreadable = |source| ProjectError::Unreadable { file: file.into(), source };
        let path = std::path::absolute(file).map_err(unreadable)?;
        let sections = if path.is_file() {
            let path = path.canonicalize().map_err(unreadable)?;
            Sections::of_file(&path, std::fs::read_to_string(&path).map_err(unreadable)?)?
        } else if environment::operators("LANGSERVE_GRAPHS").is_some_and(|graphs| !graphs.is_empty()) {
            Sections::without_file(&path)
        } else {
            return Err(ProjectError::Missing(file.into()));
        };
        let path = path.canonicalize().unwrap_or(path);
        let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
        Self::read(sections, path, folder)
    }

    fn read(mut sections: Sections, file: PathBuf, folder: PathBuf) -> Result<Self, ProjectError> {
        let env = env::env(sections.get("env"), &folder).map_err(|wrong| sections.wrong(&wrong))?;
        let variable = |name: &str| environment::variable(&env, name);
        sections.add_variables(variable)?;
        let mut unknown = Vec::new();
        let read = Self::sections(&sections, &mut unknown, &folder, variable);
        let mut project = read
            .and_then(|project| refusals::of_foreign_index(&project).map(|()| project))
            .and_then(|project| refusals::of_foreign_serde(&project).map(|()| project))
            .map_err(|wrong| sections.wrong(&wrong))?;
        let read = KNOWN_KEYS.into_iter().filter(|key| sections.get(key).is_some());
        project.sections = read.map(|key| (key, sections.place(key))).collect();
        for key in sections.names().filter(|key| !KNOWN_KEYS.contains(&key.as_str())) {
            project.without_effect.push(WithoutEffect {
                key: key.clone(),
                place: sections.place(key),
                is_known: IMAGE_KEYS.contains(&key.as_str()),
            });
        }
        project.without_effect.extend(unknown.into_iter().map(|key| WithoutEffect {
            place: sections.place(&key),
            key,
            is_known: false,
        }));
        Ok(Self { folder, file, env, ..project })
    }

    fn sections(
        sections: &Sections,
        unknown: &mut Vec<String>,
        folder: &Path,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, Wrong> {
        refusals::of_sections(sections)?;
        let (item_ttl, item_sweep) = retention::items(sections.below("store", "ttl"), unknown)?;
        let item_index = index::items(sections.below("store", "index"), unknown)?;
        let (thread_ttl, sweep) = retention::threads(sections.below("checkpointer", "ttl"), unknown)?;
        let serde = serde_rules::rules(sections.below("checkpointer", "serde"))?;
        let http = http::options(sections.object("http")?, unknown)?;
        let ui = ui::options(sections.object("ui")?, sections.object("ui_config")?, unknown)?;
        Ok(Self {
            serde,
            graphs: graphs::graphs(sections.get("graphs"), unknown)?,
            dependencies: needs::dependencies(sections.get("dependencies"), folder)?,
            node_version: needs::node_version(sections.get("node_version"))?,
            webhooks: webhooks::rules(sections.object("webhooks")?, variable)?,
            auth: auth::options(sections.object("auth")?)?,
            ui: ui.filter(|_| !http.disabled.ui),
            encryption: encryption::path(sections.object("encryption")?)?,
            http,
            thread_ttl,
            sweep,
            item_ttl,
            item_sweep,
            item_index,
            env: Env::default(),
            sections: Vec::new(),
            without_effect: Vec::new(),
            read_from: Box::new(sections.clone()),
            file: PathBuf::new(),
            folder: PathBuf::new(),
        })
    }

    /// The languages of the project's code.
    pub fn languages(&self) -> BTreeSet<Language> {
        let auth = self.auth.as_ref().and_then(AuthOptions::path);
        let others = [auth, self.http.app.as_ref(), self.embed(), self.encryption.as_ref()];
        let graphs = self.graphs.iter().map(|graph| &graph.path);
        graphs.chain(others.into_iter().flatten()).map(|path| language::of(path)).collect()
    }

    /// The folders among the dependencies; the project's own is always one.
    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        let named = self.dependencies.iter().map(|dependency| self.folder.join(dependency));
        let mut folders: Vec<_> =
            named.filter_map(|folder| folder.canonicalize().ok()).filter(|it| it.is_dir()).collect();
        for folder in folders.clone() {
            let sources = folder.join("src");
            if sources.is_dir() {
                folders.push(sources);
            }
        }
        folders.dedup();
        folders
    }

    /// What makes vectors of texts, if something does.
    fn embed(&self) -> Option<&String> {
        self.item_index.as_ref().map(|index| &index.embed)
    }

    /// Says which keys do nothing here.
    pub fn warn_of_keys_without_effect(&self) {
        for WithoutEffect { key, place, .. } in self.without_effect.iter().filter(|it| !it.is_known) {
            tracing::warn!("{place}: `{key}` is not a key that this server knows; it does nothing");
        }
    }
}

#[cfg(test)]
mod tests;
