//! The servers that replicas are connected by: those that are there, or one of the test's own.

use std::process::Stdio;

use tempfile::TempDir;
use threadyard_backends::{PostgresConfig, RedisConfig, SharedBus, SharedBusConfig};
use threadyard_core::ambient::Ambient;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpStream,
    process::{Child, Command},
};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::server;

/// A Redis to test with.
pub(crate) struct RedisServer {
    pub(crate) uri: String,
    /// One that was started for the test, with its folder.
    _own: Option<(Child, TempDir)>,
}

impl RedisServer {
    pub(crate) async fn find() -> Self {
        if let Some(uri) = setting("TEST_REDIS_URL") {
            return Self { uri, _own: None };
        }
        if TcpStream::connect("127.0.0.1:6379").await.is_ok() {
            return Self { uri: "redis://127.0.0.1:6379".into(), _own: None };
        }
        Self::start().await
    }

    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..10 {
            let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let own = ["redis-server", "valkey-server"].iter().find_map(|program| spawn(program, port, &folder));
            let Some(mut own) = own else { break };
            // One that finds its port taken meanwhile ends.
            if is_ready(&mut own).await {
                return Self { uri: format!("redis://127.0.0.1:{port}"), _own: Some((own, folder)) };
            }
        }
        panic!("no Redis: set TEST_REDIS_URL, start one on port 6379, or install redis-server or valkey-server");
    }
}

/// Waits until a server says that it accepts connections, or ends.
async fn is_ready(server: &mut Child) -> bool {
    let mut log = BufReader::new(server.stdout.take().unwrap()).lines();
    while let Some(line) = log.next_line().await.unwrap() {
        if line.contains("Ready to accept connections") {
            // It goes on writing, and must not wait for a reader.
            TaskTracker::new().spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
            return true;
        }
    }
    false
}

#[expect(clippy::disallowed_methods, reason = "the server is the test's own, and ends with it")]
fn spawn(program: &str, port: u16, folder: &TempDir) -> Option<Child> {
    Command::new(program)
        .args(["--bind", "127.0.0.1", "--save", "", "--port", &port.to_string()])
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .ok()
}

/// The database whose notifications are tested.
pub(crate) fn database() -> PostgresConfig {
    PostgresConfig::parse(&server::uri("postgres")).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "tests have no settings")]
fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Keeps the channels of one test apart from those of others.
#[expect(clippy::disallowed_methods, reason = "tests share a server, and their ids repeat")]
pub(crate) fn prefix() -> String {
    format!("test:{}:", Uuid::new_v4())
}

pub(crate) fn over_redis(uri: &str, prefix: &str, config: SharedBusConfig, ambient: &Ambient) -> SharedBus {
    SharedBus::over_redis(RedisConfig::parse(uri, prefix).unwrap(), config, ambient.clone())
}
