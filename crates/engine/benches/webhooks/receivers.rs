//! Receivers of webhooks that answer at once, or behave as badly as they can.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Instant,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::task::TaskTracker;

/// What a receiver does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    Answers,
    /// Nobody listens.
    Refuses,
    /// Reads the request and never answers.
    Hangs,
    /// Sends a body without end, as fast as it is read.
    Floods,
    /// Sends one byte of its body a second.
    Trickles,
    /// Sends headers without end.
    Headers,
    /// Sends compressed zeros without end, and says so.
    Bombs,
    /// Sends the caller to itself.
    Redirects,
}

/// When each delivery was first heard of, by its id.
pub(crate) type Heard = Arc<Mutex<HashMap<String, Instant>>>;

/// Listens on a free port; the URL to call.
pub(crate) async fn start(tasks: &TaskTracker, manner: Manner, heard: &Heard) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let url = format!("http://{address}/hook");
    if manner == Manner::Refuses {
        return url;
    }
    let (tasks_inside, heard) = (tasks.clone(), heard.clone());
    tasks.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let heard = heard.clone();
            tasks_inside.spawn(async move {
                let _ = serve(stream, address, manner, &heard).await;
            });
        }
    });
    url
}

async fn serve(mut stream: TcpStream, address: SocketAddr, manner: Manner, heard: &Heard) -> std::io::Result<()> {
    let mut buffer = Vec::new();
    while let Some(id) = request(&mut stream, &mut buffer).await? {
        heard.lock().unwrap().entry(id).or_insert_with(Instant::now);
        match manner {
            Manner::Answers => stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await?,
            Manner::Refuses | Manner::Hangs => std::future::pending().await,
            Manner::Floods => {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10000000000\r\n\r\n").await?;
                let chunk = vec![b'x'; 64 << 10];
                loop {
                    stream.write_all(&chunk).await?;
                }
            }
            Manner::Trickles => {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10000\r\n\r\n").await?;
                loop {
                    stream.write_all(b"x").await?;
                    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                }
            }
            Manner::Headers => {
                stream.write_all(b"HTTP/1.1 200 OK\r\n").await?;
                loop {
                    stream
                        .write_all(b"x-flood: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n")
                        .await?;
                }
            }
            Manner::Bombs => {
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n")
                    .await?;
                let mut chunk = format!("{:x}\r\n", 64 << 10).into_bytes();
                chunk.resize(chunk.len() + (64 << 10), 0);
                chunk.extend(b"\r\n");
                loop {
                    stream.write_all(&chunk).await?;
                }
            }
            Manner::Redirects => {
                let answer =
                    format!("HTTP/1.1 302 Found\r\nlocation: http://{address}/hook\r\ncontent-length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).await?;
            }
        }
    }
    Ok(())
}

/// Reads one request; its `webhook-id`.
async fn request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> std::io::Result<Option<String>> {
    let head = loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    };
    let text = String::from_utf8_lossy(&buffer[..head]).to_ascii_lowercase();
    let header = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_default().trim().to_owned()
    };
    let (id, length) = (header("webhook-id:"), header("content-length:").parse().unwrap_or(0));
    while buffer.len() < head + length {
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
    buffer.drain(..head + length);
    Ok(Some(id))
}
