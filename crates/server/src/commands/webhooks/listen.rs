//! `webhooks listen`: a receiver on this machine that checks signatures and prints what it gets.

use std::{net::Ipv4Addr, sync::Arc};

use anyhow::Context;
use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode},
};
use clap::Args;
use serde_json::Value;
use threadyard_core::ambient::Ambient;
use threadyard_engine::signing::{Message, ReceiverKey};
use tokio::{net::TcpListener, sync::mpsc};

use super::ServerAddress;

#[derive(Args, Debug)]
pub(in crate::commands) struct Listen {
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

/// What `listen` works with.
#[derive(Clone)]
struct Receiver {
    keys: Arc<Vec<ReceiverKey>>,
    status: StatusCode,
    done: mpsc::UnboundedSender<()>,
}

/// Longer than any body that the server sends.
const LONGEST: usize = 32 << 20;

pub(super) async fn listen(listen: Listen) -> anyhow::Result<()> {
    let keys = match &listen.key {
        Some(key) => vec![key.parse()?],
        None => listen.server.public_keys().await?,
    };
    let (done, mut arrived) = mpsc::unbounded_channel();
    let receiver = Receiver { keys: Arc::new(keys), status: StatusCode::from_u16(listen.status)?, done };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, listen.port)).await?;
    println!("webhook URL: http://{}/", listener.local_addr()?);
    let router = Router::new().fallback(receive).layer(DefaultBodyLimit::max(LONGEST)).with_state(receiver);
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
    let message = Message { id: header("webhook-id"), timestamp, body: &body };
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
