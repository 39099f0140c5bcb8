//! The wire breaks and comes back.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use threadyard_backends::{LocalBusConfig, PostgresConfig, SharedBusConfig};
use threadyard_core::{
    bus::{EventBus, From},
    testkit::ambient,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

use crate::{
    PATIENCE, Speaker, hear, over_postgres, read, replicas, run,
    servers::{RedisServer, over_redis, postgres_uri, prefix},
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
    let at = server.uri.split_once("://").unwrap().1.split_once(':').unwrap();
    let to = format!("127.0.0.1:{}", at.1.split('/').next().unwrap());
    let proxy = Proxy::start(to).await;
    let (ambient, config) = (ambient().0, quick());
    let uri = format!("redis://{}", proxy.at);
    let make = || Arc::new(over_redis(&uri, &prefix, config, &ambient)) as Arc<dyn EventBus>;
    survives(&proxy, &[make(), make()]).await;
}

#[tokio::test]
async fn the_database_comes_back() {
    let (uri, prefix) = (postgres_uri(), prefix());
    let (login, rest) = uri.split_once("://").unwrap().1.split_once('@').unwrap();
    let (to, database) = rest.split_once('/').unwrap();
    let proxy = Proxy::start(to.to_owned()).await;
    let database = PostgresConfig::parse(&format!("postgres://{login}@{}/{database}", proxy.at)).unwrap();
    let (ambient, config) = (ambient().0, quick());
    let make = || Arc::new(over_postgres(&database, &prefix, config, &ambient)) as Arc<dyn EventBus>;
    survives(&proxy, &[make(), make()]).await;
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

/// Stands before a server, and cuts all connections when it is told to.
struct Proxy {
    at: SocketAddr,
    up: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    async fn start(to: String) -> Self {
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

async fn pass(mut client: TcpStream, to: String, mut is_up: watch::Receiver<bool>) {
    if !*is_up.borrow_and_update() {
        return;
    }
    let Ok(mut server) = TcpStream::connect(to).await else { return };
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
        _ = is_up.changed() => {}
    }
}
