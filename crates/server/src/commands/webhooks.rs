//! `webhooks`: a receiver to try webhooks with, and the keys that receivers check signatures with.

use std::{io::Read, net::Ipv4Addr, path::PathBuf, sync::Arc};

use anyhow::{Context, bail};
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};
use threadyard_core::ambient::Ambient;
use threadyard_engine::signing::{Message, ReceiverKey};
use tokio::{net::TcpListener, sync::mpsc};

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
    /// Has everything sent again that was given up or cancelled.
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
        #[command(flatten)]
        server: ServerAddress,
    },
}

#[derive(Args, Debug)]
pub(super) struct List {
    /// Only those in this state: pending, delivered, failed or cancelled.
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
pub(super) struct Listen {
    /// The port to listen on; any free one unless said.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// The status to answer with.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u16).range(200..=599))]
    status: u16,
    /// End after this many webhooks.
    #[arg(long)]
    count: Option<usize>,
    /// What to check signatures with, `whsec_…` or `whpk_…`; the server's public keys unless said.
    #[arg(long)]
    key: Option<String>,
    #[command(flatten)]
    server: ServerAddress,
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
        WebhooksCommand::Listen(listen) => self::listen(listen).await,
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
        WebhooksCommand::Recover { since, until, url, server } => {
            let body = json!({ "since": since, "until": until, "url": url });
            let recovered = server.ask(Method::POST, "/webhooks/recover", Some(body)).await?;
            println!("{} deliveries are sent again", recovered["recovered"]);
            Ok(())
        }
    }
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

/// What `listen` works with.
#[derive(Clone)]
struct Receiver {
    keys: Arc<Vec<ReceiverKey>>,
    status: StatusCode,
    done: mpsc::UnboundedSender<()>,
}

async fn listen(listen: Listen) -> anyhow::Result<()> {
    let keys = match &listen.key {
        Some(key) => vec![key.parse()?],
        None => listen.server.public_keys().await?,
    };
    let (done, mut arrived) = mpsc::unbounded_channel();
    let receiver = Receiver { keys: Arc::new(keys), status: StatusCode::from_u16(listen.status)?, done };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, listen.port)).await?;
    println!("webhook URL: http://{}/", listener.local_addr()?);
    let router = Router::new().fallback(receive).with_state(receiver);
    let counted = async move {
        let mut left = listen.count;
        while left != Some(0) {
            arrived.recv().await;
            left = left.map(|left| left - 1);
        }
    };
    axum::serve(listener, router).with_graceful_shutdown(until(counted)).await.context("receiving broke off")
}

/// Ends with what is waited for, or with Ctrl-C.
async fn until(counted: impl Future<Output = ()>) {
    tokio::select! {
        () = counted => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

async fn receive(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let text = String::from_utf8_lossy(&body);
    let timestamp = header("webhook-timestamp").parse().unwrap_or_default();
    let message = Message { id: header("webhook-id"), timestamp, body: &text };
    let now = Ambient::system().now().as_millis() / 1_000;
    let verdicts = receiver.keys.iter().map(|key| key.verify(message, header("webhook-signature"), now));
    let verdict = match verdicts.reduce(Result::or) {
        Some(Ok(())) => "signature valid".to_owned(),
        Some(Err(error)) => format!("SIGNATURE INVALID: {error}"),
        None => "signature not checked".to_owned(),
    };
    let run: Value = serde_json::from_str(&text).unwrap_or_default();
    let field = |name: &str| run[name].as_str().unwrap_or("-").to_owned();
    println!("\n{} attempt {}: {verdict}", message.id, header("webhook-attempt"));
    println!("{} of run {} on thread {}", field("type"), field("run_id"), field("thread_id"));
    println!("{}", serde_json::to_string_pretty(&run).unwrap_or_else(|_| text.clone().into_owned()));
    let _ = receiver.done.send(());
    receiver.status
}

fn verify(verify: &Verify) -> anyhow::Result<()> {
    let mut body = String::new();
    match &verify.body {
        Some(file) => body = std::fs::read_to_string(file).with_context(|| format!("`{}`", file.display()))?,
        None => drop(std::io::stdin().read_to_string(&mut body)?),
    }
    let key: ReceiverKey = verify.key.parse()?;
    let message = Message { id: &verify.id, timestamp: verify.timestamp, body: &body };
    key.verify(message, &verify.signature, Ambient::system().now().as_millis() / 1_000)?;
    println!("the signature is valid");
    Ok(())
}
