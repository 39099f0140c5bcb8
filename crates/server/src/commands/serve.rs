//! `dev` and `serve`: one server with different defaults.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use threadyard_core::{webhook_pace::WebhookPace, webhook_policy::WebhookPolicy};
use tokio::net::TcpListener;

use super::progress;
use crate::{
    app::{App, Mode},
    config::ServerArgs,
    lifecycle::Signals,
    sharing::SharingArgs,
    telemetry,
};

/// The port is taken, or not ours to take.
#[derive(Debug, thiserror::Error)]
#[error("can't listen on {address}: {source}; choose another port with --port")]
pub(super) struct AddressError {
    address: SocketAddr,
    source: io::Error,
}

/// Serves for development, on this machine only.
pub(super) async fn dev(args: &ServerArgs, reload: bool) -> anyhow::Result<()> {
    telemetry::start("info");
    let host = args.host.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let listener = match args.port {
        Some(port) => bind(host, port).await?,
        None => bind_next(host, 2024).await?,
    };
    let app = App::start(
        args,
        Mode {
            reload,
            webhook_policy: WebhookPolicy::development(),
            webhook_pace: WebhookPace::development(),
            trusts_neighbours: true,
            sharing: SharingArgs::default(),
        },
        listener,
        progress,
    )
    .await?;
    let url = app.url();
    eprintln!("\n  Threadyard serves your graphs\n");
    eprintln!("  API     {url}");
    eprintln!("  Docs    {url}/docs");
    eprintln!("  Studio  https://smith.langchain.com/studio/?baseUrl={url}");
    eprintln!("  State   {}\n", app.data_folder.display());
    until_stopped(app, args).await
}

/// Serves in production.
pub(super) async fn serve(args: &ServerArgs, sharing: SharingArgs) -> anyhow::Result<()> {
    telemetry::start("info");
    let host = args.host.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let listener = bind(host, args.port.unwrap_or(8000)).await?;
    let mode = Mode {
        reload: false,
        webhook_policy: WebhookPolicy::production(),
        webhook_pace: WebhookPace::production(),
        trusts_neighbours: false,
        sharing,
    };
    let app = App::start(args, mode, listener, progress).await?;
    tracing::info!(address = %app.address, "serving");
    until_stopped(app, args).await
}

/// Waits for a signal, then stops; a second signal ends at once.
pub(super) async fn until_stopped(app: App, args: &ServerArgs) -> anyhow::Result<()> {
    let mut signals = Signals::listen()?;
    signals.next().await;
    tracing::info!("stopping; again to stop at once");
    tokio::select! {
        () = app.stop(args.grace()) => {}
        () = signals.next() => {}
    }
    Ok(())
}

async fn bind(host: IpAddr, port: u16) -> Result<TcpListener, AddressError> {
    let address = SocketAddr::new(host, port);
    TcpListener::bind(address).await.map_err(|source| AddressError { address, source })
}

/// The first free port from `port` on.
async fn bind_next(host: IpAddr, port: u16) -> Result<TcpListener, AddressError> {
    let mut last = bind(host, port).await;
    for next in port.saturating_add(1)..port.saturating_add(100) {
        match &last {
            Err(taken) if taken.source.kind() == io::ErrorKind::AddrInUse => last = bind(host, next).await,
            _ => break,
        }
    }
    last
}
