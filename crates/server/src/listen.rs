//! Takes connections and speaks HTTP/1.1 on them. Made from hyper's parts since thousands of clients may do nothing but
//! listen: what waits on a connection for a version of HTTP that nobody speaks would be most of its memory.

use std::{io, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// A client that takes longer to say what it wants holds a connection for nothing. The same goes for one that rests between
/// two requests, so it is longer than proxies let theirs rest: they should be the ones to close.
const HEADERS_WITHIN: Duration = Duration::from_secs(150);
/// The pause after an error that is not the client's, such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves until it closes; then what is being answered is answered.
pub(crate) async fn listen(
    listener: TcpListener,
    router: Router,
    closing: CancellationToken,
    connections: TaskTracker,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADERS_WITHIN);
    let answering = GracefulShutdown::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    refused(&error).await;
                    continue;
                }
            },
            () = closing.cancelled() => break,
        };
        // Without this, small events wait for acknowledgements of earlier ones.
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(router.clone());
        let connection = http.serve_connection(TokioIo::new(stream), service);
        // What ends a connection early is the client's business.
        let connection = answering.watch(connection);
        connections.spawn(async move { drop(connection.await) });
    }
    // Who comes now is to go elsewhere at once.
    drop(listener);
    answering.shutdown().await;
}

/// A client that was gone before it was accepted is nobody's problem; other errors may last.
async fn refused(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset};
    if !matches!(error.kind(), ConnectionAborted | ConnectionReset) {
        tracing::error!(%error, "no connection could be accepted; trying again");
        tokio::time::sleep(PAUSE).await;
    }
}
