//! `demo`: the main job before the user's eyes, on an example that needs no key.

mod example;

use std::{
    io::{Write, stdout},
    net::Ipv4Addr,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use axum::{Router, extract::State, http::HeaderMap, routing::post};
use clap::{Args, Parser};
use serde_json::{Value, json};
use threadyard_core::{ambient::Ambient, webhook_pace::WebhookPace, webhook_policy::WebhookPolicy};
use threadyard_engine::signing::{Message, ReceiverKey};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_util::task::TaskTracker;

use self::example::Language;
use super::{progress, serve::until_stopped};
use crate::{
    app::{App, Mode},
    config::ServerArgs,
    lifecycle::Signals,
    sharing::SharingArgs,
    telemetry,
};

#[derive(Args, Debug)]
pub(super) struct DemoArgs {
    /// End when the demonstration is over instead of leaving the server running.
    #[arg(long)]
    once: bool,
    /// Where the example and its state are kept.
    #[arg(long)]
    folder: Option<std::path::PathBuf>,
    /// The language that the example is written in.
    #[arg(long, value_enum, default_value_t = Language::Python)]
    lang: Language,
}

/// How long the webhook may take to arrive.
const WEBHOOK_WITHIN: Duration = Duration::from_secs(20);

/// What the receiver got.
struct Hook {
    id: String,
    timestamp: i64,
    signatures: String,
    body: String,
}

pub(super) async fn run(args: DemoArgs) -> anyhow::Result<()> {
    telemetry::start("error");
    let mut server = DemoServer::parse_from(["demo"]).server;
    let folder = args.folder.unwrap_or_else(|| server.cache_folder().join(args.lang.folder()));
    server.config = folder.join("langgraph.json");

    println!("Threadyard demo\n");
    tokio::task::spawn_blocking(move || args.lang.unpack(&folder)).await??;
    let tasks = TaskTracker::new();
    let (receiver_url, mut hooks) = start_receiver(&tasks).await?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let mode = Mode {
        reload: !args.once,
        webhook_policy: WebhookPolicy::development(),
        webhook_pace: WebhookPace::development(),
        trusts_neighbours: true,
        sharing: SharingArgs::default(),
    };
    let app = App::start(&server, mode, listener, progress).await?;
    let url = app.url();
    println!("  · server    {url}\n  · receiver  {receiver_url}\n");

    let shown = show(&url, &receiver_url, &mut hooks).await;
    if args.once || shown.is_err() {
        app.stop(Duration::from_secs(2)).await;
        return shown;
    }
    snippets(&url);
    until_stopped(app, &server, Signals::listen()?).await
}

/// The settings of a server as they are when nobody says anything.
#[derive(Parser)]
struct DemoServer {
    #[command(flatten)]
    server: ServerArgs,
}

async fn start_receiver(tasks: &TaskTracker) -> anyhow::Result<(String, mpsc::UnboundedReceiver<Hook>)> {
    let (arrived, hooks) = mpsc::unbounded_channel();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let url = format!("http://{}/hook", listener.local_addr()?);
    let receiver = Router::new().route("/hook", post(receive)).with_state(arrived);
    tasks.spawn(async move { axum::serve(listener, receiver).await });
    Ok((url, hooks))
}

async fn receive(State(arrived): State<mpsc::UnboundedSender<Hook>>, headers: HeaderMap, body: String) {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let timestamp = header("webhook-timestamp").parse().unwrap_or_default();
    let _ = arrived.send(Hook { id: header("webhook-id"), timestamp, signatures: header("webhook-signature"), body });
}

/// Creates a thread, streams a run, and checks the webhook that tells of its end.
async fn show(url: &str, receiver: &str, hooks: &mut mpsc::UnboundedReceiver<Hook>) -> anyhow::Result<()> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let thread: Value = post_json(&client, &format!("{url}/threads"), &json!({})).await?.json().await?;
    let thread_id = thread["thread_id"].as_str().context("the thread has no id")?;
    println!("  thread   {thread_id}");

    let question = "What is a thread yard?";
    println!("  you      {question}");
    let body = json!({
        "assistant_id": "agent",
        "input": { "messages": [{ "role": "human", "content": question }] },
        "stream_mode": "messages-tuple",
        "webhook": receiver,
    });
    let stream = post_json(&client, &format!("{url}/threads/{thread_id}/runs/stream"), &body).await?;
    let (run_id, said) = print_tokens(stream).await?;

    let hook = tokio::time::timeout(WEBHOOK_WITHIN, hooks.recv()).await.context("no webhook arrived within 20 s")?;
    let hook = hook.context("the webhook receiver ended")?;
    check_signature(&client, url, &hook).await?;
    let run: Value = serde_json::from_str(&hook.body)?;
    ensure!(run["run_id"] == run_id, "the webhook tells of run {}, not {run_id}", run["run_id"]);
    ensure!(run["thread_id"] == thread_id, "the webhook tells of another thread");
    ensure!(run["status"] == "success", "the webhook says that the run ended as {}", run["status"]);
    let messages = run["values"]["messages"].as_array().context("the webhook has no messages")?;
    let answer = messages.last().map_or(&Value::Null, |message| &message["content"]);
    ensure!(answer == &Value::from(said.as_str()), "the webhook's values hold another answer than was streamed");

    println!("\n  webhook  received and checked");
    println!("           id      {}", hook.id);
    println!("           signed  as Standard Webhooks, by this server's key");
    println!("           run     {run_id}");
    println!("           status  {}", run["status"].as_str().unwrap_or_default());
    println!("           values  {} messages, the answer as streamed", messages.len());
    println!("           sent    {}", run["webhook_sent_at"].as_str().unwrap_or_default());
    Ok(())
}

/// Checks the signature as any receiver can, with the server's public key.
async fn check_signature(client: &reqwest::Client, url: &str, hook: &Hook) -> anyhow::Result<()> {
    let keys: Value = client.get(format!("{url}/webhooks/public-key")).send().await?.json().await?;
    let key: ReceiverKey = keys["key"].as_str().context("the server has no public key")?.parse()?;
    let message = Message { id: &hook.id, timestamp: hook.timestamp, body: hook.body.as_bytes() };
    let now = Ambient::system().now().as_millis() / 1_000;
    key.verify(message, &hook.signatures, now).context("the webhook's signature is not valid")
}

async fn post_json(client: &reqwest::Client, url: &str, body: &Value) -> anyhow::Result<reqwest::Response> {
    let request = client.post(url).header("content-type", "application/json").body(body.to_string());
    let answer = request.send().await.with_context(|| format!("POST {url}"))?;
    let status = answer.status();
    if !status.is_success() {
        bail!("POST {url} answered {status}: {}", answer.text().await.unwrap_or_default());
    }
    Ok(answer)
}

/// Prints what the model says as it says it. Returns the run's id and the whole text.
async fn print_tokens(mut stream: reqwest::Response) -> anyhow::Result<(String, String)> {
    print!("  agent    ");
    let (mut buffer, mut run_id, mut said) = (Vec::new(), String::new(), String::new());
    while let Some(chunk) = stream.chunk().await? {
        buffer.extend_from_slice(&chunk);
        while let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let event: Vec<u8> = buffer.drain(..end + 4).collect();
            let (name, data) = parse_event(&String::from_utf8_lossy(&event));
            match name.as_str() {
                "metadata" => run_id.push_str(data["run_id"].as_str().unwrap_or_default()),
                "messages" => {
                    let token = data[0]["content"].as_str().unwrap_or_default();
                    said.push_str(token);
                    print!("{token}");
                    stdout().flush()?;
                }
                "error" => bail!("the run failed: {data}"),
                _ => {}
            }
        }
    }
    println!();
    ensure!(!said.is_empty(), "the run said nothing");
    Ok((run_id, said))
}

fn parse_event(text: &str) -> (String, Value) {
    let field =
        |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned();
    (field("event:"), serde_json::from_str(&field("data:")).unwrap_or_default())
}

fn snippets(url: &str) {
    println!(
        r#"
  The server goes on at {url} (Ctrl-C ends it). Try it:

  Python   pip install langgraph-sdk
           from langgraph_sdk import get_sync_client
           client = get_sync_client(url="{url}")
           for part in client.runs.stream(None, "agent", input={{"messages": [{{"role": "human", "content": "hi"}}]}}, stream_mode="messages-tuple"):
               print(part.event, part.data)

  JS       npm install @langchain/langgraph-sdk
           import {{ Client }} from "@langchain/langgraph-sdk";
           const client = new Client({{ apiUrl: "{url}" }});
           const input = {{ messages: [{{ role: "human", content: "hi" }}] }};
           for await (const part of client.runs.stream(null, "agent", {{ input, streamMode: "messages-tuple" }})) console.log(part);

  curl     curl -N {url}/runs/stream -H 'content-type: application/json' \
             -d '{{"assistant_id": "agent", "input": {{"messages": [{{"role": "human", "content": "hi"}}]}}, "stream_mode": "messages-tuple"}}'
"#
    );
}
