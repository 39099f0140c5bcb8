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
mod tests {
    use super::*;

    fn read_with(text: &str, variable: &str, said: &str) -> Result<Project, String> {
        let read = Sections::of_file(Path::new("/p/langgraph.json"), text.into()).and_then(|mut sections| {
            sections.add_variables(|name| (name == variable).then(|| said.to_owned()))?;
            Project::read(sections, "/p/langgraph.json".into(), "/p".into())
        });
        read.map_err(|error| error.to_string())
    }

    fn read(text: &str) -> Result<Project, String> {
        read_with(text, "", "")
    }

    #[test]
    fn both_forms_of_a_graph_are_read_in_order() {
        let project =
            read(r#"{"graphs": {"b": "./b.py:g", "a": {"path": "m:g", "description": "d"}}, "env": {"X": 1}}"#)
                .unwrap();
        let shown: Vec<_> =
            project.graphs.iter().map(|it| (it.id.as_str(), it.path.as_str(), it.description.as_deref())).collect();
        assert_eq!(shown, [("b", "./b.py:g", None), ("a", "m:g", Some("d"))]);
        assert_eq!(project.env, Env::Map([("X".to_owned(), "1".to_owned())].into()));
        assert!(!project.http.disabled.webhooks);
    }

    #[test]
    fn a_project_has_the_languages_of_its_code() {
        let languages = |text: &str| read(text).unwrap().languages().into_iter().collect::<Vec<_>>();
        assert_eq!(languages(r#"{"graphs": {"a": "./a.ts:g", "b": "./b.mjs"}}"#), [Language::Node]);
        assert_eq!(languages(r#"{"graphs": {"a": "./a.py:g", "b": "./b.mjs:g"}}"#), [Language::Python, Language::Node]);
        let auth = r#"{"graphs": {"a": "./a.ts:g"}, "auth": {"path": "./auth.py:auth"}, "node_version": "22"}"#;
        assert_eq!(languages(auth), [Language::Python, Language::Node]);
        assert_eq!(read(auth).unwrap().node_version, Some(22));
    }

    #[test]
    fn variables_stand_for_sections_that_the_file_does_not_have() {
        let file = r#"{"graphs": {"a": "./a.py:g"}, "http": {"mount_prefix": "/file"}}"#;
        let prefix = |file, variable, said| read_with(file, variable, said).map(|it| it.http.mount_prefix);
        let said = r#"{"mount_prefix": "/variable"}"#;
        assert_eq!(prefix(file, "LANGGRAPH_HTTP", said), Ok("/file".into()));
        assert_eq!(prefix(r#"{"graphs": {"a": "./a.py:g"}}"#, "LANGGRAPH_HTTP", said), Ok("/variable".into()));
        let graphs = read_with("{}", "LANGSERVE_GRAPHS", r#"{"b": "./b.py:g"}"#).unwrap().graphs;
        assert_eq!(graphs[0].id, "b");
        let wrong = prefix(r#"{"graphs": {"a": "./a.py:g"}}"#, "LANGGRAPH_HTTP", "{\n \"disable_runs\": 1}");
        assert!(wrong.unwrap_err().starts_with("the variable LANGGRAPH_HTTP:2:2: `http.disable_runs`: "));
        let wrong = prefix(r#"{"graphs": {"a": "./a.py:g"}}"#, "LANGGRAPH_HTTP", "{");
        assert!(wrong.unwrap_err().starts_with("the variable LANGGRAPH_HTTP:1:1: EOF"));
    }

    #[test]
    fn keys_without_effect_are_told_with_their_place() {
        let text = "{\"graphs\": {\"a\": \"./a.py:g\"},\n\"python_version\": \"3.12\",\n\"htpp\": {},\n\"store\": {\"ttl\": {\"x\": 1}}}";
        let told = read(text).unwrap().without_effect;
        let told: Vec<_> = told.iter().map(|it| (it.key.as_str(), it.place.as_str(), it.is_known)).collect();
        let expected = [
            ("python_version", "/p/langgraph.json:2:1", true),
            ("htpp", "/p/langgraph.json:3:1", false),
            ("store.ttl.x", "/p/langgraph.json:4:19", false),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn what_can_t_be_served_is_refused_by_name_and_place() {
        for (more, place, named) in [
            (r#""auth": {"path": "./auth.py"}"#, "2:10", "`auth.path`"),
            (r#""encryption": {}"#, "2:1", "`encryption`"),
            (r#""encryption": {"path": "./e.py"}"#, "2:16", "`encryption.path`"),
            (r#""encryption": {"path": "./e.ts:e"}"#, "2:16", "`encryption.path`"),
            (r#""encryption": {"path": "./e.py:e", "keys": 1}"#, "2:36", "`encryption.keys`"),
            (r#""priority": {"path": "./p.py:p"}"#, "2:1", "`priority`"),
            (r#""store": {"path": "x"}"#, "2:11", "`store.path`: is not supported"),
            (r#""store": {"indez": {}}"#, "2:11", "`store.indez`: is not a key"),
            (r#""encryption": {"patz": "./e.py:e"}"#, "2:16", "`encryption.patz`: is not a key"),
            (r#""store": []"#, "2:1", "`store`"),
            (r#""checkpointer": {"serde": []}"#, "2:18", "`checkpointer.serde`"),
            (r#""checkpointer": {"backend": "mongo"}"#, "2:18", "`checkpointer.backend`"),
            (r#""ui": {"a/b": "./ui.tsx"}"#, "2:8", "`ui.a/b`"),
            (r#""ui_config": {"shared": 1}"#, "2:15", "`ui_config.shared`"),
            (r#""dependencies": ["/", "./gone"]"#, "2:23", "`./gone`"),
            (r#""node_version": 20"#, "2:1", "`node_version`"),
            (r#""env": "gone.env""#, "2:1", "`gone.env`"),
            (r#""env": {"A": "a", "B": []}"#, "2:19", "`env.B`"),
            (r#""store": {"index": {"embed": "a:b", "dims": 0}}"#, "2:37", "`store.index.dims`"),
            (r#""store": {"index": {"embed": "a:b", "dims": "x"}}"#, "2:37", "`store.index.dims`"),
            (r#""checkpointer": {"ttl": {"default_ttl": -1}}"#, "2:26", "`checkpointer.ttl.default_ttl`"),
            (r#""http": {"enable_custom_route_auth": true}"#, "2:10", "`http.enable_custom_route_auth`"),
            (r#""http": {"cors": {"max_age": "x"}}"#, "2:19", "`http.cors.max_age`"),
            (r#""webhooks": {"retry": {"statuses": [1]}}"#, "2:24", "`webhooks.retry.statuses`"),
            (r#""webhooks": {"retry": {"schedule": ["1s", "x"]}}"#, "2:43", "`webhooks.retry.schedule[1]`"),
        ] {
            let why = read(&format!("{{\"graphs\": {{\"a\": \"./a.py:g\"}},\n{more}}}")).unwrap_err();
            assert!(why.starts_with(&format!("/p/langgraph.json:{place}: ")) && why.contains(named), "{more}: {why}");
        }
        for (text, place, named) in [
            (r#"{"graphs": {"a": "./a.py"}}"#, "1:13", "`graphs.a`"),
            (r#"{"graphs": {"a": {}}}"#, "1:13", "`graphs.a`"),
            (r#"{"graphs": {"a.b": {"path": "./a.py:g", "description": 1}}}"#, "1:41", "`graphs.a.b.description`"),
            (r#"{"graphs": {}}"#, "1:2", "`graphs`: is empty"),
            (r#"{"graphs": {"": "./a.py:g"}}"#, "1:2", "without a name"),
            ("", "1:1", "is empty"),
            (" \n", "1:1", "is empty"),
            ("\u{feff}{\"graphs\": []}", "1:2", "must be an object"),
            (r#"{"graphs": "#, "1:11", "EOF"),
            ("{}", "1:1", "`graphs`: is missing"),
            ("[]", "1:1", "must be an object"),
        ] {
            let why = read(text).unwrap_err();
            assert!(why.starts_with(&format!("/p/langgraph.json:{place}: ")) && why.contains(named), "{text}: {why}");
        }
    }
}
