//! An exchange of ASGI messages with the user's application: a request and its answer, or a WebSocket. Neither side gets
//! more than a window ahead of what the other has taken.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use threadyard_core::runtime::{GraphError, RuntimeError};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::{
    connection::{Connection, Waiter},
    frame::{Frame, FrameError},
    protocol::{self, kind},
};

/// How many bytes of payload either side may send before the other takes some.
const WINDOW: i64 = 256 << 10;
/// Longer bodies are sent in pieces.
const PIECE: usize = 64 << 10;
/// What was taken is told of when it is worth a frame.
const CREDIT_AT: usize = 64 << 10;

/// A message of ASGI.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum AppMessage {
    /// A part of what the client sends.
    #[serde(rename = "http.request")]
    Request {
        /// The bytes.
        #[serde(default)]
        body: Bytes,
        /// Whether more comes.
        #[serde(default)]
        more_body: bool,
    },
    /// The client has left.
    #[serde(rename = "http.disconnect")]
    Disconnect,
    /// The beginning of an answer.
    #[serde(rename = "http.response.start")]
    ResponseStart {
        /// Its status.
        status: u16,
        /// Its headers.
        #[serde(default)]
        headers: Vec<(Bytes, Bytes)>,
    },
    /// A part of an answer.
    #[serde(rename = "http.response.body")]
    ResponseBody {
        /// The bytes.
        #[serde(default)]
        body: Bytes,
        /// Whether more comes.
        #[serde(default)]
        more_body: bool,
    },
    /// A client would like a WebSocket.
    #[serde(rename = "websocket.connect")]
    WsConnect,
    /// It may have one.
    #[serde(rename = "websocket.accept")]
    WsAccept {
        /// The protocol that is spoken on it, of those that the client offers.
        #[serde(default)]
        subprotocol: Option<String>,
        /// More headers of the answer.
        #[serde(default)]
        headers: Vec<(Bytes, Bytes)>,
    },
    /// The client says something.
    #[serde(rename = "websocket.receive")]
    WsReceive {
        /// As bytes.
        #[serde(default)]
        bytes: Option<Bytes>,
        /// As text.
        #[serde(default)]
        text: Option<String>,
    },
    /// The application says something.
    #[serde(rename = "websocket.send")]
    WsSend {
        /// As bytes.
        #[serde(default)]
        bytes: Option<Bytes>,
        /// As text.
        #[serde(default)]
        text: Option<String>,
    },
    /// The client has left its WebSocket.
    #[serde(rename = "websocket.disconnect")]
    WsDisconnect {
        /// Why, as a code.
        code: u16,
        /// Why, in words.
        #[serde(default)]
        reason: Option<String>,
    },
    /// The application closes the WebSocket, or refuses it.
    #[serde(rename = "websocket.close")]
    WsClose {
        /// Why, as a code.
        #[serde(default)]
        code: Option<u16>,
        /// Why, in words.
        #[serde(default)]
        reason: Option<String>,
    },
}

impl AppMessage {
    fn size(&self) -> usize {
        match self {
            Self::Request { body, .. } | Self::ResponseBody { body, .. } => body.len(),
            Self::WsReceive { bytes, text } | Self::WsSend { bytes, text } => {
                bytes.as_ref().map_or(0, Bytes::len) + text.as_ref().map_or(0, String::len)
            }
            _ => 0,
        }
    }
}

/// How the worker ends an exchange.
#[derive(Deserialize)]
struct Closed {
    #[serde(default)]
    error: Option<GraphError>,
}

#[derive(Serialize)]
struct Close {
    error: Option<()>,
}

/// The exchange has ended before it was over.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the exchange with the application ended too early: {0}")]
pub struct ExchangeLost(String);

impl ExchangeLost {
    /// It was done before it had said everything.
    pub fn early() -> Self {
        Self("it was done before its answer was".into())
    }
}

/// The reader's end of an exchange, for the reader of the connection.
pub(crate) struct ExchangeSlot {
    heard: mpsc::UnboundedSender<Heard>,
    window: Arc<Window>,
}

enum Heard {
    Message(AppMessage),
    Closed(Option<String>),
}

/// Passes on what the worker says in an exchange.
pub(crate) fn hear(connection: &Connection, frame: &Frame) -> Result<(), FrameError> {
    match frame.kind {
        kind::ASGI_MESSAGE => {
            let message = protocol::read(&frame.body)?;
            connection.with_exchange(frame.id, |slot| slot.deliver(message));
        }
        kind::ASGI_CREDIT => {
            let bytes = <[u8; 4]>::try_from(&frame.body[..]).map_err(|_| FrameError::Truncated)?;
            connection.with_exchange(frame.id, |slot| slot.credit(u32::from_le_bytes(bytes)));
        }
        _ => {
            let closed: Closed = protocol::read(&frame.body)?;
            if let Some(Waiter::Exchange(slot)) = connection.take(frame.id) {
                slot.close(closed.error.map(|error| error.error));
            }
        }
    }
    Ok(())
}

/// How much may be sent.
#[derive(Default)]
struct Window {
    used: AtomicI64,
    changed: Notify,
    closed: CancellationToken,
}

impl ExchangeSlot {
    fn deliver(&self, message: AppMessage) {
        let _ = self.heard.send(Heard::Message(message));
    }

    fn credit(&self, bytes: u32) {
        self.window.used.fetch_sub(bytes.into(), Ordering::AcqRel);
        self.window.changed.notify_waiters();
    }

    pub(crate) fn close(self, why: Option<String>) {
        self.window.closed.cancel();
        let _ = self.heard.send(Heard::Closed(why));
    }
}

/// One end of an exchange.
pub struct Exchange {
    /// What comes from the other side.
    pub receiver: ExchangeReceiver,
    /// What goes there.
    pub sender: ExchangeSender,
}

/// What comes from the application.
pub struct ExchangeReceiver {
    heard: mpsc::UnboundedReceiver<Heard>,
    taken: usize,
    shared: Arc<Shared>,
}

/// What goes to the application.
#[derive(Clone)]
pub struct ExchangeSender {
    shared: Arc<Shared>,
}

struct Shared {
    id: u64,
    connection: Arc<Connection>,
    window: Arc<Window>,
}

impl Exchange {
    /// Begins an exchange.
    pub(crate) fn ours(connection: Arc<Connection>, scope: &impl Serialize) -> Result<Self, RuntimeError> {
        let (slot, heard, window) = slot();
        let id = connection.register(Waiter::Exchange(slot))?;
        connection.send(protocol::frame(kind::ASGI_OPEN, id, scope));
        Ok(Self::new(Shared { id, connection, window }, heard))
    }

    /// Takes part in an exchange that the worker has begun.
    pub(crate) fn theirs(connection: Arc<Connection>, id: u64) -> Self {
        let (slot, heard, window) = slot();
        connection.register_theirs(id, Waiter::Exchange(slot));
        Self::new(Shared { id, connection, window }, heard)
    }

    fn new(shared: Shared, heard: mpsc::UnboundedReceiver<Heard>) -> Self {
        let shared = Arc::new(shared);
        Self {
            receiver: ExchangeReceiver { heard, taken: 0, shared: shared.clone() },
            sender: ExchangeSender { shared },
        }
    }
}

fn slot() -> (ExchangeSlot, mpsc::UnboundedReceiver<Heard>, Arc<Window>) {
    let (tell, heard) = mpsc::unbounded_channel();
    let window = Arc::new(Window::default());
    (ExchangeSlot { heard: tell, window: window.clone() }, heard, window)
}

impl ExchangeReceiver {
    /// The next message; nothing when the other side is done.
    pub async fn next(&mut self) -> Result<Option<AppMessage>, ExchangeLost> {
        match self.heard.recv().await {
            Some(Heard::Message(message)) => {
                self.taken += message.size();
                if self.taken >= CREDIT_AT {
                    let credit = u32::try_from(self.taken).unwrap_or(u32::MAX);
                    self.shared.send(kind::ASGI_CREDIT, Bytes::copy_from_slice(&credit.to_le_bytes()));
                    self.taken = 0;
                }
                Ok(Some(message))
            }
            Some(Heard::Closed(Some(why))) => Err(ExchangeLost(why)),
            Some(Heard::Closed(None)) | None => Ok(None),
        }
    }
}

impl ExchangeSender {
    /// Sends a message as soon as the application has room for it; to who is gone, nothing is sent.
    pub async fn send(&self, message: AppMessage) {
        match message {
            AppMessage::Request { body, more_body } if body.len() > PIECE => {
                self.send_pieces(body, more_body, |body, more_body| AppMessage::Request { body, more_body }).await;
            }
            AppMessage::ResponseBody { body, more_body } if body.len() > PIECE => {
                self.send_pieces(body, more_body, |body, more_body| AppMessage::ResponseBody { body, more_body }).await;
            }
            message => self.send_one(&message).await,
        }
    }

    /// Waits until the application is done with the exchange, or gone.
    pub async fn closed(&self) {
        self.shared.window.closed.cancelled().await;
    }

    async fn send_pieces(&self, mut body: Bytes, more: bool, message: impl Fn(Bytes, bool) -> AppMessage) {
        while body.len() > PIECE {
            let piece = body.split_to(PIECE);
            self.send_one(&message(piece, true)).await;
        }
        self.send_one(&message(body, more)).await;
    }

    async fn send_one(&self, message: &AppMessage) {
        let window = &self.shared.window;
        let size = i64::try_from(message.size()).unwrap_or(i64::MAX);
        loop {
            let changed = window.changed.notified();
            if size == 0 || window.used.load(Ordering::Acquire) < WINDOW {
                break;
            }
            tokio::select! {
                () = changed => {}
                () = window.closed.cancelled() => return,
            }
        }
        window.used.fetch_add(size, Ordering::AcqRel);
        let frame = protocol::frame(kind::ASGI_MESSAGE, self.shared.id, message);
        self.shared.send(frame.kind, frame.body);
    }
}

impl Shared {
    fn send(&self, kind: u8, body: Bytes) {
        if !self.window.closed.is_cancelled() {
            self.connection.send(Frame { kind, id: self.id, body });
        }
    }
}

impl Drop for Shared {
    /// Nobody here takes part any more: for the application, the client has left, unless all was said.
    fn drop(&mut self) {
        self.connection.take(self.id);
        self.send(kind::ASGI_CLOSE, protocol::frame(kind::ASGI_CLOSE, self.id, &Close { error: None }).body);
    }
}
