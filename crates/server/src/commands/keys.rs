//! `keys`: makes, lists and revokes API keys, in the database itself, so that it works before the first start, too.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context, bail, ensure};
use clap::{Args, Subcommand};
use threadyard_backends::{KeyFolder, PostgresStorage};
use threadyard_core::{
    ambient::Ambient,
    api_keys::{ApiKey, ApiKeys},
    ownership::names_somebody,
    scopes::Scopes,
    time::Timestamp,
};
use threadyard_engine::{HEARD_WITHIN, new_api_key};

use crate::sharing::DatabaseArgs;

#[derive(Subcommand, Debug)]
pub(super) enum KeysCommand {
    /// Makes a key and prints it, this once. Whoever has it is a user of the server.
    Create(Create),
    /// Lists all keys, the newest first.
    List {
        #[command(flatten)]
        place: KeyPlace,
    },
    /// Takes a key back.
    Revoke {
        /// What the key begins with, `ty_…`, or the name of a valid one.
        key: String,
        #[command(flatten)]
        place: KeyPlace,
    },
}

#[derive(Args, Debug)]
pub(super) struct Create {
    /// What to call it; no two valid keys have one name.
    name: String,
    /// The user that it stands for, who has the same threads with every key; the name unless said.
    #[arg(long)]
    identity: Option<String>,
    /// What its holder may do: `user`, `reader`, `admin`, `*`, or a resource and an action such as `threads:read` or
    /// `store:*`. Several, with commas between.
    #[arg(long = "scope", value_delimiter = ',', default_value = "user", value_parser = scope)]
    scopes: Vec<String>,
    /// When it ends: a time such as 2030-01-01, or how long it is of use, such as 90d; never unless said.
    #[arg(long)]
    expires: Option<String>,
    #[command(flatten)]
    place: KeyPlace,
}

/// Where the keys are: in the shared database, or else in the data folder.
#[derive(Args, Debug)]
pub(super) struct KeyPlace {
    /// The project's configuration file.
    #[arg(long, short, default_value = "langgraph.json")]
    config: PathBuf,
    /// Where state is kept; `.threadyard` beside the configuration file unless said.
    #[arg(long, env = "THREADYARD_DATA_DIR")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    database: DatabaseArgs,
}

pub(super) async fn run(command: KeysCommand) -> anyhow::Result<()> {
    let ambient = Ambient::system();
    match command {
        KeysCommand::Create(options) => create(options, &ambient).await,
        KeysCommand::List { place } => {
            let keys = place.open().await?.api_keys().await?;
            let (made, used) = ("made", "last used");
            println!("{:<16} {:<20} {:<24} {:<20} {made:<11} {used:<17} state", "id", "name", "identity", "scopes");
            for key in &keys {
                println!("{}", line(key, ambient.now()));
            }
            Ok(())
        }
        KeysCommand::Revoke { key, place } => revoke(&key, &place, &ambient).await,
    }
}

async fn create(options: Create, ambient: &Ambient) -> anyhow::Result<()> {
    let now = ambient.now();
    let identity = options.identity.unwrap_or_else(|| options.name.clone());
    ensure!(names_somebody(&identity), "--identity: `{identity}` names nobody");
    let expires_at = options.expires.as_deref().map(|text| moment(text, now)).transpose()?;
    ensure!(expires_at.is_none_or(|end| now < end), "--expires: that is over already");
    let made = new_api_key(ambient);
    let key = ApiKey {
        id: made.id,
        name: options.name,
        identity,
        scopes: options.scopes,
        created_at: now,
        expires_at,
        revoked_at: None,
        last_used_at: None,
    };
    if !options.place.open().await?.create_api_key(key.clone(), made.digest).await? {
        bail!("a valid key is called `{}` already; choose another name, or revoke that one", key.name);
    }
    // The key alone goes where a script can take it from.
    eprintln!("Made {}, which stands for `{}` and permits {}.", key.id, key.identity, key.scopes.join(", "));
    eprintln!("It is shown this once:");
    println!("{}", made.text);
    Ok(())
}

async fn revoke(named: &str, place: &KeyPlace, ambient: &Ambient) -> anyhow::Result<()> {
    let (keys, now) = (place.open().await?, ambient.now());
    let known = keys.api_keys().await?;
    let found = known.iter().find(|key| key.id == named || (key.name == named && key.is_valid(now)));
    let key = found.with_context(|| format!("no key begins with `{named}`, and no valid one is called that"))?;
    if let Some(since) = key.revoked_at {
        bail!("{} was revoked at {since}", key.id);
    }
    keys.revoke_api_key(&key.id, now).await?;
    println!("Revoked {}. Servers that run refuse it within {} seconds.", key.id, HEARD_WITHIN.as_secs());
    Ok(())
}

impl KeyPlace {
    async fn open(&self) -> anyhow::Result<Arc<dyn ApiKeys>> {
        if let Some(config) = self.database.postgres()? {
            let pending = PostgresStorage::pending_migrations(&config).await?;
            ensure!(
                pending.is_empty(),
                "the tables of the database are not up to date; `threadyard migrate` makes them so"
            );
            return Ok(Arc::new(PostgresStorage::api_keys_of(&config.with_max_connections(2)).await?));
        }
        Ok(Arc::new(KeyFolder::open(&self.folder()?)?))
    }

    fn folder(&self) -> anyhow::Result<PathBuf> {
        if let Some(folder) = &self.data_dir {
            return Ok(folder.clone());
        }
        let config = self.config.canonicalize().with_context(|| {
            let config = self.config.display();
            format!("`{config}` does not exist; run this in a folder with a langgraph.json, or name the data folder with --data-dir")
        })?;
        Ok(config.with_file_name(".threadyard"))
    }
}

fn scope(word: &str) -> Result<String, String> {
    Scopes::read(word).map(|_| word.to_owned()).map_err(|error| error.to_string())
}

/// A moment that is written as such, or as how far away it is.
fn moment(text: &str, now: Timestamp) -> anyhow::Result<Timestamp> {
    let away = humantime::parse_duration(text).map(|away| now + away).ok();
    away.or_else(|| text.parse().ok())
        .with_context(|| format!("--expires: `{text}` is neither a time such as 2030-01-01 nor one such as 90d"))
}

fn line(key: &ApiKey, now: Timestamp) -> String {
    let start = |moment: Timestamp, letters| moment.to_string().chars().take(letters).collect::<String>();
    let (day, minute) = (|moment| start(moment, 10), |moment| start(moment, 16).replace('T', " "));
    let state = match (key.revoked_at, key.expires_at) {
        (Some(since), _) => format!("revoked {}", day(since)),
        (None, Some(end)) if end <= now => format!("expired {}", day(end)),
        (None, Some(end)) => format!("valid until {}", day(end)),
        (None, None) => "valid".into(),
    };
    let scopes = key.scopes.join(",");
    // That is known to the hour or so: seconds would say more than there is.
    let used = key.last_used_at.map_or_else(|| "-".into(), minute);
    let ApiKey { id, name, identity, created_at, .. } = key;
    format!("{id:<16} {name:<20} {identity:<24} {scopes:<20} {:<11} {used:<17} {state}", day(*created_at))
}
