//! Takes connections and speaks HTTP/1.1 on them. Made from hyper's parts since thousands of clients may do nothing but
//! listen: what waits on a connection for a version of HTTP that nobody speaks would be most of its memory.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, http::Request, response::Response, routing::future::RouteFuture};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::Service;

use crate::{config::ServerArgs, proxies::TrustedProxies};

/// A client that takes longer to say what it wants holds a connection for nothing. The same goes for one that rests between
/// two requests, so it is longer than proxies let theirs rest: they should be the ones to close.
const HEADERS_WITHIN: Duration = Duration::from_secs(150);
/// The pause after an error that is not the client's, such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// How many come in, and with how much.
pub(crate) struct Doorway {
    places: Arc<Semaphore>,
    /// Headers that are longer are not even read to their end.
    most_read: usize,
    /// Who may say for whom they ask.
    proxies: Arc<TrustedProxies>,
}

impl Doorway {
    pub(crate) fn new(args: &ServerArgs) -> Self {
        let places = Arc::new(Semaphore::new(args.limits.max_connections as usize));
        let proxies = Arc::new(args.forwarded_allow_ips.clone());
        // Those that are too long, but not by much, are told so like all other requests.
        let most_read = 2 * args.limits.max_header_bytes as usize;
        Self { places, most_read, proxies }
    }
}

/// A connection's place among those that may be open. It is free again when nobody holds it any more.
#[derive(Clone)]
pub(crate) struct Place(#[expect(dead_code, reason = "it is held, not read")] Arc<OwnedSemaphorePermit>);

/// What is said to a connection for which there is no place.
const FULL: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: 50\r\nretry-after: 1\r\nconnection: close\r\n\r\n{\"detail\":\"too many connections; try again later\"}";
/// So long it may take to hear that.
const HEARD_WITHIN: Duration = Duration::from_secs(1);

/// Tells a connection that there is no place for it. Its request is read and forgotten, since closing beside what is unread
/// would take the answer away from who is to read it.
async fn turn_away(mut stream: TcpStream) {
    let told = async {
        stream.write_all(FULL.as_bytes()).await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
    };
    let _ = tokio::time::timeout(HEARD_WITHIN, told).await;
}

/// Serves until it closes; then what is being answered is answered.
pub(crate) async fn listen(
    listener: TcpListener,
    router: Router,
    doorway: Doorway,
    (closing, connections): (CancellationToken, TaskTracker),
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADERS_WITHIN).max_buf_size(doorway.most_read);
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    refused(&error).await;
                    continue;
                }
            },
            () = closing.cancelled() => break,
        };
        let Ok(permit) = doorway.places.clone().try_acquire_owned() else {
            connections.spawn(turn_away(stream));
            continue;
        };
        let place = Place(Arc::new(permit));
        // Without this, small events wait for acknowledgements of earlier ones.
        let _ = stream.set_nodelay(true);
        let (router, proxies) = (router.clone(), doorway.proxies.clone());
        let service = TowerToHyperService::new(OfConnection { router, peer, proxies, place: place.clone() });
        let connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
        let closing = closing.clone();
        connections.spawn(async move {
            let _place = place;
            let mut connection = pin!(connection);
            tokio::select! {
                // What ends a connection early is the client's business.
                _ = connection.as_mut() => return,
                () = closing.cancelled_owned() => {}
            }
            connection.as_mut().graceful_shutdown();
            drop(connection.await);
        });
    }
    // Dropping the listener sends who comes now elsewhere at once.
}

/// Says of each request from where it came, and whose place it holds: a connection that becomes a WebSocket keeps its own.
#[derive(Clone)]
struct OfConnection {
    router: Router,
    peer: SocketAddr,
    proxies: Arc<TrustedProxies>,
    place: Place,
}

impl Service<Request<Incoming>> for OfConnection {
    type Response = Response;
    type Error = Infallible;
    type Future = RouteFuture<Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Incoming>) -> Self::Future {
        let client = self.proxies.client(self.peer, request.headers());
        request.extensions_mut().insert(client);
        request.extensions_mut().insert(self.place.clone());
        self.router.call(request)
    }
}

/// A client that was gone before it was accepted is nobody's problem; other errors may last.
async fn refused(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset};
    if !matches!(error.kind(), ConnectionAborted | ConnectionReset) {
        tracing::error!(%error, "no connection could be accepted; trying again");
        tokio::time::sleep(PAUSE).await;
    }
}
