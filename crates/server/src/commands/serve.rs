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
    sharing::{RoleArg, SharingArgs},
    telemetry,
};

/// Where `serve` listens unless somebody says otherwise.
pub(super) const HOST: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
pub(super) const PORT: u16 = 8000;

/// The port is taken, or not ours to take.
#[derive(Debug, thiserror::Error)]
#[error("can't listen on {address}: {source}; choose another port with --port")]
pub(super) struct AddressError {
    address: SocketAddr,
    source: io::Error,
}

/// Who is to execute runs has no room for any.
#[derive(Debug, thiserror::Error)]
#[error("--n-jobs-per-worker: {0} executes runs, and needs at least 1")]
pub(super) struct NoJobsError(&'static str);

/// Serves for development, on this machine only.
pub(super) async fn dev(args: &ServerArgs, reload: bool) -> anyhow::Result<()> {
    if args.n_jobs_per_worker == 0 {
        return Err(NoJobsError("`dev`").into());
    }
    telemetry::start("info");
    let mut signals = Signals::listen()?;
    let host = args.host.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let listener = match args.port {
        Some(port) => bind(host, port).await?,
        None => bind_next(host, 2024).await?,
    };
    let mode = Mode {
        reload,
        webhook_policy: WebhookPolicy::development(),
        webhook_pace: WebhookPace::development(),
        trusts_neighbours: true,
        sharing: SharingArgs::default(),
    };
    let starting = App::start(args, mode, listener, step);
    let Some(app) = unless_stopped(starting, &mut signals).await? else { return Ok(()) };
    welcome(&app);
    until_stopped(app, args, signals).await
}

/// Says where everything is, to people.
fn welcome(app: &App) {
    if telemetry::is_json() {
        return tracing::info!(address = %app.address, "serving");
    }
    let url = app.url();
    eprintln!("\n  Threadyard serves your graphs\n");
    eprintln!("  API     {url}");
    eprintln!("  Docs    {url}/docs");
    eprintln!("  Studio  https://smith.langchain.com/studio/?baseUrl={url}");
    eprintln!("  State   {}\n", app.data_folder.display());
}

/// A line of progress: programs that read the log hear of it as of everything else.
fn step(line: &str) {
    if telemetry::is_json() {
        return tracing::info!("{}", line.trim());
    }
    progress(line);
}

/// Serves in production.
pub(super) async fn serve(args: &ServerArgs, mut sharing: SharingArgs) -> anyhow::Result<()> {
    // Upstream: who has no jobs answers requests alone.
    if args.n_jobs_per_worker == 0 {
        sharing.role = match sharing.role {
            RoleArg::All | RoleArg::Api => RoleArg::Api,
            RoleArg::Sender => RoleArg::Sender,
            RoleArg::Worker => return Err(NoJobsError("the role `worker`").into()),
        };
    }
    telemetry::start("info");
    let mut signals = Signals::listen()?;
    let listener = bind(args.host.unwrap_or(HOST), args.port.unwrap_or(PORT)).await?;
    let mode = Mode {
        reload: false,
        webhook_policy: WebhookPolicy::production(),
        webhook_pace: WebhookPace::production(),
        trusts_neighbours: false,
        sharing,
    };
    let starting = App::start(args, mode, listener, step);
    let Some(app) = unless_stopped(starting, &mut signals).await? else { return Ok(()) };
    if app.is_open() && !app.address.ip().is_loopback() {
        tracing::warn!(
            address = %app.address,
            "whoever reaches this server may use all of it; `auth` of the project tells callers apart (docs/auth.md)"
        );
    }
    tracing::info!(address = %app.address, "serving");
    until_stopped(app, args, signals).await
}

/// The server when it has started, or nothing if a signal comes before that.
async fn unless_stopped(
    starting: impl Future<Output = anyhow::Result<App>>,
    signals: &mut Signals,
) -> anyhow::Result<Option<App>> {
    tokio::select! {
        app = starting => app.map(Some),
        () = signals.next() => Ok(None),
    }
}

/// Waits for a signal, then stops; a second signal ends at once.
pub(super) async fn until_stopped(app: App, args: &ServerArgs, mut signals: Signals) -> anyhow::Result<()> {
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
