//! The wire breaks and comes back.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use threadyard_backends::{LocalBusConfig, PostgresConfig, SharedBusConfig};
use threadyard_core::{
    bus::{EventBus, From},
    testkit::ambient,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixStream},
    sync::watch,
    task::JoinSet,
};

use crate::{
    PATIENCE, Speaker, hear, over_postgres, read, replicas, run, server,
    servers::{RedisServer, over_redis, prefix},
    some, thread,
};

#[tokio::test(start_paused = true)]
async fn what_was_said_while_the_wire_was_down_is_heard_when_it_is_up() {
    for outage in [Duration::from_millis(10), Duration::from_secs(5), Duration::from_secs(40)] {
        let (net, [holder, other]) = replicas(SharedBusConfig::default()).await;
        let (mut here, mut there) =
            (holder.follow(run(1), thread(1), From::Start), other.follow(run(1), thread(1), From::Start));
        let mut watch = other.watch(thread(1));
        hear(holder.as_ref(), other.as_ref()).await;
        let mut speaker = Speaker::open(&holder, 1);
        speaker.say(&["a"]);
        assert_eq!(some(&mut there, 1).await, ["a"]);
        net.cut();
        let mut begun = Speaker::open(&holder, 2);
        begun.say(&["x"]);
        begun.close(Some("2"));
        speaker.say(&["b"]);
        assert_eq!(some(&mut here, 2).await.concat(), "ab", "readers here are not disturbed");
        tokio::time::sleep(outage).await;
        speaker.say(&["c"]);
        speaker.close(Some("1"));
        net.mend();
        let heard = read(there).await;
        assert_eq!((heard.names.concat(), heard.lagged, heard.result), ("bc".into(), false, Some("1".into())));
        assert_eq!(watch.next().await.0, run(1));
        let (second, reader) = tokio::time::timeout(PATIENCE, watch.next()).await.unwrap();
        assert_eq!((second, read(reader).await.result), (run(2), Some("2".into())), "after {outage:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_wire_is_down_memory_is_bounded() {
    let config = SharedBusConfig { outgoing_bytes: 1_000, kept_bytes: 1_000, ..SharedBusConfig::default() };
    let (net, [holder, other]) = replicas(config).await;
    let mut reader = other.follow(run(1), thread(1), From::Start);
    hear(holder.as_ref(), other.as_ref()).await;
    let mut speaker = Speaker::open(&holder, 1);
    speaker.say(&["a"]);
    assert_eq!(some(&mut reader, 1).await, ["a"]);
    net.cut();
    for _ in 0..10_000 {
        speaker.say(&["b"]);
    }
    speaker.close(Some("1"));
    net.mend();
    assert!(read(reader).await.lagged, "most of it is gone");
}

#[tokio::test]
async fn redis_comes_back() {
    let (server, prefix) = (RedisServer::find().await, prefix());
    let (login, place, rest) = parts(&server.uri);
    let proxy = Proxy::start(Place::Tcp(place.into())).await;
    let (ambient, uri) = (ambient().0, format!("redis://{login}{}{rest}", proxy.at));
    let make = || Arc::new(over_redis(&uri, &prefix, quick(), &ambient)) as Arc<dyn EventBus>;
    survives(&proxy, &[make(), make()]).await;
}

#[tokio::test]
async fn the_database_comes_back() {
    let (uri, prefix) = (server::uri("postgres"), prefix());
    let (login, place, rest) = parts(&uri);
    // A server of the tests' own listens in a folder.
    let (rest, folder) = rest.split_once("?host=").map_or((rest.to_owned(), None), |(before, query)| {
        let (folder, query) = query.split_once('&').unwrap_or((query, ""));
        (format!("{before}?{query}"), Some(folder))
    });
    let place = match folder {
        Some(folder) => Place::Unix(format!("{folder}/.s.PGSQL.5432")),
        None => Place::Tcp(place.into()),
    };
    let proxy = Proxy::start(place).await;
    let database = PostgresConfig::parse(&format!("postgres://{login}{}{rest}", proxy.at)).unwrap();
    let ambient = ambient().0;
    let make = || Arc::new(over_postgres(&database, &prefix, quick(), &ambient)) as Arc<dyn EventBus>;
    survives(&proxy, &[make(), make()]).await;
}

/// The login of a URI, the host with its port, and the rest.
fn parts(uri: &str) -> (&str, &str, &str) {
    let (_, rest) = uri.split_once("://").unwrap();
    let (place, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (login, place) = place.split_at(place.rfind('@').map_or(0, |at| at + 1));
    (login, place, rest)
}

fn quick() -> SharedBusConfig {
    let local = LocalBusConfig { max_bytes: 1 << 20 };
    SharedBusConfig { local, refresh: Duration::from_millis(300), ..SharedBusConfig::default() }
}

/// Cuts the connections of both replicas over and over.
async fn survives(proxy: &Proxy, [holder, other]: &[Arc<dyn EventBus>; 2]) {
    hear(holder.as_ref(), other.as_ref()).await;
    let mut reader = other.follow(run(1), thread(1), From::Start);
    let mut here = holder.follow(run(1), thread(1), From::Start);
    let mut speaker = Speaker::open(holder, 1);
    for pause in [0, 1, 20, 150] {
        speaker.say(&["a"]);
        proxy.up.send_replace(false);
        speaker.say(&["b"]);
        assert_eq!(some(&mut here, 2).await.concat(), "ab");
        tokio::time::sleep(Duration::from_millis(pause)).await;
        proxy.up.send_replace(true);
        speaker.say(&["c"]);
        assert_eq!(some(&mut here, 1).await.concat(), "c");
        assert_eq!(some(&mut reader, 3).await.concat(), "abc");
    }
    proxy.up.send_replace(false);
    speaker.close(Some("1"));
    proxy.up.send_replace(true);
    assert_eq!(read(reader).await.result, Some("1".into()));
}

/// Where a server listens.
#[derive(Clone)]
enum Place {
    Tcp(String),
    Unix(String),
}

/// Stands before a server, and cuts all connections when it is told to.
struct Proxy {
    at: SocketAddr,
    up: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    async fn start(to: Place) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (up, is_up) = watch::channel(true);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(pass(client, to.clone(), is_up.clone()));
            }
        });
        Self { at, up, _tasks: tasks }
    }
}

async fn pass(client: TcpStream, to: Place, mut is_up: watch::Receiver<bool>) {
    if !*is_up.borrow_and_update() {
        return;
    }
    let passed = async {
        match to {
            Place::Tcp(to) => between(client, TcpStream::connect(to).await.unwrap()).await,
            Place::Unix(to) => between(client, UnixStream::connect(to).await.unwrap()).await,
        }
    };
    tokio::select! {
        () = passed => {}
        _ = is_up.changed() => {}
    }
}

async fn between(mut client: TcpStream, mut server: impl AsyncRead + AsyncWrite + Unpin) {
    // Whichever of them leaves, the other hears of it.
    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
}
