//! `webhooks`: a receiver to try webhooks with, and the keys that receivers check signatures with.

mod listen;

use std::{io::Read, path::PathBuf, time::Duration};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use listen::{Listen, listen};
use reqwest::Method;
use serde_json::{Value, json};
use threadyard_core::ambient::Ambient;
use threadyard_engine::signing::{Message, ReceiverKey};

#[derive(Subcommand, Debug)]
pub(super) enum WebhooksCommand {
    /// Receives webhooks on this machine, checks their signatures, and prints them.
    Listen(Listen),
    /// Prints what the receiver at a URL checks signatures with.
    Secret {
        /// The receiver's URL; its scheme, host and port count.
        receiver: String,
        #[command(flatten)]
        server: ServerAddress,
    },
    /// Prints what anybody can check signatures with.
    PublicKey {
        #[command(flatten)]
        server: ServerAddress,
    },
    /// Makes a new key; the old ones sign beside it for a while.
    Rotate {
        /// How long, in seconds.
        #[arg(long, default_value_t = 86_400.0)]
        grace_seconds: f64,
        #[command(flatten)]
        server: ServerAddress,
    },
    /// Checks a message as a receiver would.
    Verify(Verify),
    /// Lists deliveries, the newest first.
    List(List),
    /// Shows a delivery with its attempts.
    Show {
        /// Its id, `msg_…`.
        delivery: String,
        /// What was sent, too.
        #[arg(long)]
        body: bool,
        #[command(flatten)]
        server: ServerAddress,
    },
    /// Has a delivery sent now, besides its schedule.
    Resend {
        /// Its id, `msg_…`.
        delivery: String,
        #[command(flatten)]
        server: ServerAddress,
    },
    /// Lists receivers, how they fare, and what waits for them.
    Destinations {
        #[command(flatten)]
        server: ServerAddress,
    },
    /// Sends a receiver a signed sample, and prints what it answers.
    Test {
        /// Where to send it.
        url: String,
        #[command(flatten)]
        server: ServerAddress,
    },
    /// Has everything sent again that was given up, cancelled or skipped.
    Recover {
        /// Only of runs that ended at or after this time.
        #[arg(long)]
        since: Option<String>,
        /// Only of runs that ended before this time.
        #[arg(long)]
        until: Option<String>,
        /// Only to URLs that begin with this.
        #[arg(long)]
        url: Option<String>,
        /// Only those in this state: failed, cancelled or skipped.
        #[arg(long)]
        state: Option<String>,
        #[command(flatten)]
        server: ServerAddress,
    },
}

#[derive(Args, Debug)]
pub(super) struct List {
    /// Only those in this state: pending, delivered, failed, cancelled or skipped.
    #[arg(long)]
    state: Option<String>,
    /// Only those of this run.
    #[arg(long)]
    run: Option<String>,
    /// Only those of this thread.
    #[arg(long)]
    thread: Option<String>,
    /// Only to URLs that begin with this.
    #[arg(long)]
    url: Option<String>,
    /// How many at most.
    #[arg(long, default_value_t = 20)]
    limit: u32,
    #[command(flatten)]
    server: ServerAddress,
}

/// Where a server is.
#[derive(Args, Debug)]
pub(super) struct ServerAddress {
    /// The server's URL.
    #[arg(long, env = "THREADYARD_URL", default_value = "http://127.0.0.1:2024")]
    server: String,
    /// What tells operators from others, where the server asks for it.
    #[arg(long, env = "THREADYARD_OPERATOR_TOKEN", hide_env_values = true)]
    operator_token: Option<String>,
}

#[derive(Args, Debug)]
pub(super) struct Verify {
    /// `whsec_…` or `whpk_…`.
    #[arg(long)]
    key: String,
    /// The header `webhook-id`.
    #[arg(long)]
    id: String,
    /// The header `webhook-timestamp`.
    #[arg(long)]
    timestamp: i64,
    /// The header `webhook-signature`.
    #[arg(long)]
    signature: String,
    /// The file with the body; standard input unless said.
    body: Option<PathBuf>,
}

pub(super) async fn run(command: WebhooksCommand) -> anyhow::Result<()> {
    match command {
        WebhooksCommand::Listen(options) => listen(options).await,
        WebhooksCommand::Secret { receiver, server } => {
            let origin = url::form_urlencoded::byte_serialize(receiver.as_bytes()).collect::<String>();
            print_keys(&server.ask(Method::GET, &format!("/webhooks/secret?origin={origin}"), None).await?);
            Ok(())
        }
        WebhooksCommand::PublicKey { server } => {
            print_keys(&server.ask(Method::GET, "/webhooks/public-key", None).await?);
            Ok(())
        }
        WebhooksCommand::Rotate { grace_seconds, server } => {
            let body = json!({ "grace_seconds": grace_seconds });
            let rotated = server.ask(Method::POST, "/webhooks/secret/rotate", Some(body)).await?;
            println!("the old keys sign until {}", rotated["previous_expire_at"].as_str().unwrap_or_default());
            Ok(())
        }
        WebhooksCommand::Verify(verify) => self::verify(&verify),
        WebhooksCommand::List(list) => self::list(&list).await,
        WebhooksCommand::Show { delivery, body, server } => show(&delivery, body, &server).await,
        WebhooksCommand::Resend { delivery, server } => {
            server.ask(Method::POST, &format!("/webhooks/deliveries/{delivery}/resend"), None).await?;
            println!("{delivery} is sent now");
            Ok(())
        }
        WebhooksCommand::Recover { since, until, url, state, server } => {
            recover(json!({ "since": since, "until": until, "url": url, "state": state }), &server).await
        }
        WebhooksCommand::Destinations { server } => destinations(&server).await,
        WebhooksCommand::Test { url, server } => test(&url, &server).await,
    }
}

async fn recover(which: Value, server: &ServerAddress) -> anyhow::Result<()> {
    let mut recovery = server.ask(Method::POST, "/webhooks/recover", Some(which)).await?;
    let path = format!("/webhooks/recoveries/{}", text_of(&recovery["recovery_id"]));
    while recovery["finished_at"].is_null() {
        tokio::time::sleep(Duration::from_millis(100)).await;
        recovery = server.ask(Method::GET, &path, None).await?;
    }
    println!("{} deliveries are sent again", recovery["recovered"]);
    Ok(())
}

async fn destinations(server: &ServerAddress) -> anyhow::Result<()> {
    let found = server.ask(Method::GET, "/webhooks/destinations", None).await?;
    for destination in found.as_array().into_iter().flatten() {
        let field = |name: &str| text_of(&destination[name]);
        let (origin, pending, breaker, failures) =
            (field("origin"), field("pending"), field("breaker"), field("failures"));
        println!("{origin}  {pending} pending  breaker {breaker}  {failures} failures");
    }
    Ok(())
}

async fn test(url: &str, server: &ServerAddress) -> anyhow::Result<()> {
    let sent = server.ask(Method::POST, "/webhooks/test", Some(json!({ "url": url }))).await?;
    let came = if sent["failure"].is_null() { &sent["status"] } else { &sent["failure"] };
    println!("{}: {} after {} ms", text_of(&sent["webhook_id"]), text_of(came), sent["took_ms"]);
    Ok(())
}

async fn list(list: &List) -> anyhow::Result<()> {
    let body = json!({
        "state": list.state, "run_id": list.run, "thread_id": list.thread, "url": list.url, "limit": list.limit,
    });
    let found = list.server.ask(Method::POST, "/webhooks/deliveries/search", Some(body)).await?;
    for delivery in found.as_array().into_iter().flatten() {
        print_delivery(delivery);
    }
    Ok(())
}

async fn show(delivery: &str, body: bool, server: &ServerAddress) -> anyhow::Result<()> {
    let place = format!("/webhooks/deliveries/{delivery}");
    print_delivery(&server.ask(Method::GET, &place, None).await?);
    let attempts = server.ask(Method::GET, &format!("{place}/attempts"), None).await?;
    for attempt in attempts.as_array().into_iter().flatten() {
        let field = |name: &str| text_of(&attempt[name]);
        let (number, trigger, state) = (field("n"), field("trigger"), field("state"));
        println!(
            "  {number:>2}  {}  {trigger:8}  {state:7}  {}  {}",
            field("started_at"),
            field("status"),
            field("failure")
        );
    }
    if body {
        let body = server.ask(Method::GET, &format!("{place}/body"), None).await?;
        println!("{}", serde_json::to_string_pretty(&body)?);
    }
    Ok(())
}

fn print_delivery(delivery: &Value) {
    let field = |name: &str| text_of(&delivery[name]);
    let (id, state, event) = (field("delivery_id"), field("state"), field("event"));
    println!("{id}  {state:9}  {event:15}  {}  {}", field("created_at"), field("url"));
}

fn text_of(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

impl ServerAddress {
    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> anyhow::Result<Value> {
        let url = format!("{}{path}", self.server.trim_end_matches('/'));
        let mut request = reqwest::Client::builder().no_proxy().build()?.request(method, &url);
        if let Some(token) = &self.operator_token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.body(body.to_string());
        }
        let answer = request.send().await.with_context(|| format!("no server answers at {}", self.server))?;
        let (status, text) = (answer.status(), answer.text().await?);
        let answer: Value = serde_json::from_str(&text).unwrap_or_default();
        if !status.is_success() {
            bail!("the server answers {status}: {}", answer["detail"].as_str().unwrap_or(&text));
        }
        Ok(answer)
    }

    async fn public_keys(&self) -> anyhow::Result<Vec<ReceiverKey>> {
        let answer = self.ask(Method::GET, "/webhooks/public-key", None).await?;
        let previous = answer["previous"].as_array().into_iter().flatten().map(|it| &it["key"]);
        let texts = std::iter::once(&answer["key"]).chain(previous).filter_map(Value::as_str);
        Ok(texts.map(str::parse).collect::<Result<_, _>>()?)
    }
}

fn print_keys(answer: &Value) {
    println!("{}", answer["key"].as_str().unwrap_or_default());
    for previous in answer["previous"].as_array().into_iter().flatten() {
        let until = previous["expires_at"].as_str().unwrap_or_default();
        eprintln!("until {until} also: {}", previous["key"].as_str().unwrap_or_default());
    }
}

fn verify(verify: &Verify) -> anyhow::Result<()> {
    let mut body = String::new();
    match &verify.body {
        Some(file) => body = std::fs::read_to_string(file).with_context(|| format!("`{}`", file.display()))?,
        None => drop(std::io::stdin().read_to_string(&mut body)?),
    }
    let key: ReceiverKey = verify.key.parse()?;
    let message = Message { id: &verify.id, timestamp: verify.timestamp, body: body.as_bytes() };
    key.verify(message, &verify.signature, Ambient::system().now().as_millis() / 1_000)?;
    println!("the signature is valid");
    Ok(())
}
