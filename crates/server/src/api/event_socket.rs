//! Event streaming over a WebSocket: commands, their answers, and the events of subscriptions on one connection.

use std::{future::pending, sync::Arc, time::Duration};

use axum::{
    Extension,
    extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code},
    response::Response,
};
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use serde_json::{Value, json};
use threadyard_core::{ids::ThreadId, sealing};
use threadyard_engine::{Error, Tape, TapeEvent};
use tokio::time::Instant;

use super::{
    caller::Staying,
    event_commands::{Command, Refusal, execute},
    event_streaming::{plain, subscription, success},
    extract::Ids,
    http_metrics::HttpMetrics,
    request_id::Configurable,
    sse::heartbeats,
};
use crate::listen::Place;

/// How long a client may take what it is sent.
const PATIENCE: Duration = Duration::from_mins(1);
/// More subscriptions than a client of the SDKs comes to.
const MOST: usize = 256;
/// So many commands of a client may be under way.
const MOST_COMMANDS: usize = 64;
/// How long it holds who a client is that says nothing.
const PROVEN_FOR: Duration = Duration::from_mins(1);

pub(super) async fn connect(
    caller: Staying,
    Ids((thread,)): Ids<(ThreadId,)>,
    of_request: Configurable,
    (Extension(metrics), place): (Extension<Arc<HttpMetrics>>, Option<Extension<Place>>),
    upgrade: WebSocketUpgrade,
) -> Response {
    let proven_at = Instant::now();
    let context = sealing::current();
    let conversation = async move |socket| {
        let (subscriptions, commands) = (Vec::new(), FuturesUnordered::new());
        let session =
            Session { caller, proven_at, thread, of_request, socket, subscriptions, tape: None, made: 0, commands };
        let open = metrics.stream("websocket");
        session.talk().await;
        drop((open, place));
    };
    upgrade.on_upgrade(move |socket| sealing::within(context, conversation(socket)))
}

/// One connection.
struct Session {
    caller: Staying,
    /// When it was asked last who that is.
    proven_at: Instant,
    thread: ThreadId,
    of_request: Configurable,
    socket: WebSocket,
    /// Their names, in the order in which they joined the tape.
    subscriptions: Vec<String>,
    tape: Option<Tape>,
    /// How many subscriptions there were.
    made: u64,
    /// Commands that are being executed: a run may wait for another to end.
    commands: FuturesUnordered<BoxFuture<'static, Value>>,
}

/// The client is gone, or can't be told what it wants to know.
struct Over;

impl Session {
    async fn talk(mut self) {
        let mut beats = heartbeats();
        loop {
            let done = tokio::select! {
                message = self.socket.recv() => match message {
                    Some(Ok(Message::Text(text))) => self.command(text.as_bytes()).await,
                    Some(Ok(Message::Binary(bytes))) => self.command(&bytes).await,
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(()),
                    Some(Ok(Message::Close(_)) | Err(_)) | None => Err(Over),
                },
                events = said(&mut self.tape) => match events {
                    Some(events) => tell(&mut self.socket, &events).await,
                    None => Err(Over),
                },
                Some(answer) = self.commands.next() => send(&mut self.socket, answer.to_string()).await,
                _ = beats.tick() => self.beat().await,
            };
            if done.is_err() {
                return;
            }
        }
    }

    /// Tells the client that the connection lives, as long as whoever opened it may still do so.
    async fn beat(&mut self) -> Result<(), Over> {
        if self.proven_at.elapsed() > PROVEN_FOR
            && let Err(Error::Denied { .. }) = self.prove().await
        {
            let reason = "who opened this connection is not let in any more".into();
            let goodbye = CloseFrame { code: close_code::POLICY, reason };
            return sent(&mut self.socket, Message::Close(Some(goodbye))).await.and(Err(Over));
        }
        sent(&mut self.socket, Message::Ping(Vec::new().into())).await
    }

    /// Asks again who the caller is.
    async fn prove(&mut self) -> Result<(), Error> {
        self.caller.prove().await?;
        self.proven_at = Instant::now();
        Ok(())
    }

    async fn command(&mut self, body: &[u8]) -> Result<(), Over> {
        let read = Command::read(body);
        if let Err(refused) = self.caller.count() {
            let id = read.map_or_else(|(id, _)| id, |command| Some(command.id));
            return self.answer(Refusal::from(refused).answer(id)).await;
        }
        let command = match read {
            Ok(command) => command,
            Err((id, why)) => return self.answer(Refusal::invalid(why).answer(id)).await,
        };
        if let Err(refused) = self.prove().await {
            return self.answer(Refusal::from(refused).answer(Some(command.id))).await;
        }
        self.execute(command).await
    }

    async fn execute(&mut self, command: Command) -> Result<(), Over> {
        let id = command.id;
        match command.method.as_str() {
            "subscription.subscribe" => {
                let answer = match self.subscribe(&command).await {
                    Ok(name) => success(id, &json!({ "subscription_id": name })),
                    Err(refusal) => refusal.answer(Some(id)),
                };
                self.answer(answer).await
            }
            "subscription.unsubscribe" => {
                let answer = match self.unsubscribe(&command) {
                    Ok(()) => success(id, &json!({})),
                    Err(refusal) => refusal.answer(Some(id)),
                };
                self.answer(answer).await
            }
            "subscription.reconnect" => {
                let way = "subscribe again, with `since`; events keep their ids";
                self.answer(Refusal::new("not_supported", way).answer(Some(id))).await
            }
            _ if self.commands.len() == MOST_COMMANDS => {
                let many = format!("{MOST_COMMANDS} commands are under way already; wait for an answer");
                self.answer(Refusal::invalid(many).answer(Some(id))).await
            }
            _ => {
                let (engine, thread, of_request) = (self.caller.engine.clone(), self.thread, self.of_request.clone());
                let carried_out = async move { execute(&engine, thread, command, &of_request).await };
                // A command goes on when its client leaves: what has committed must also be announced.
                let task = self.caller.engine.background(sealing::within(sealing::current(), carried_out));
                let failed = move |_| Refusal::unknown("500: internal server error".to_owned()).answer(Some(id));
                self.commands.push(task.map(move |answer| answer.unwrap_or_else(failed)).boxed());
                Ok(())
            }
        }
    }

    async fn subscribe(&mut self, command: &Command) -> Result<String, Refusal> {
        if self.subscriptions.len() == MOST {
            return Err(Refusal::invalid(format!("there are {MOST} subscriptions already; unsubscribe some")));
        }
        let (filter, since) = subscription(&Value::Object(plain(&command.params))).map_err(Refusal::invalid)?;
        let since = since.unwrap_or(0);
        let tape = match &self.tape {
            Some(tape) => tape.joined(filter, since).await?,
            None => self.caller.engine.read_tape(self.thread, filter, since).await?,
        };
        self.tape = Some(tape);
        self.made += 1;
        let name = format!("sub-{}", self.made);
        self.subscriptions.push(name.clone());
        Ok(name)
    }

    fn unsubscribe(&mut self, command: &Command) -> Result<(), Refusal> {
        let params = plain(&command.params);
        let named = params.get("subscription_id").and_then(Value::as_str);
        let named = named.ok_or_else(|| Refusal::invalid("subscription_id: must be a text"))?;
        let place = self.subscriptions.iter().position(|name| name == named);
        let place = place.ok_or_else(|| {
            Refusal::new("no_such_subscription", format!("there is no subscription `{named}` on this connection"))
        })?;
        self.subscriptions.remove(place);
        if let Some(tape) = &mut self.tape {
            tape.leave(place);
        }
        Ok(())
    }

    async fn answer(&mut self, answer: Value) -> Result<(), Over> {
        send(&mut self.socket, answer.to_string()).await
    }
}

/// Waits for what comes next. `None` when it can't go on.
async fn said(tape: &mut Option<Tape>) -> Option<Vec<TapeEvent>> {
    match tape {
        Some(tape) => tape.next().await,
        None => pending().await,
    }
}

async fn tell(socket: &mut WebSocket, events: &[TapeEvent]) -> Result<(), Over> {
    for event in events {
        let mut text = Vec::new();
        event.write(&mut text);
        send(socket, String::from_utf8(text).map_err(|_| Over)?).await?;
    }
    Ok(())
}

async fn send(socket: &mut WebSocket, text: String) -> Result<(), Over> {
    sent(socket, Message::Text(text.into())).await
}

async fn sent(socket: &mut WebSocket, message: Message) -> Result<(), Over> {
    match tokio::time::timeout(PATIENCE, socket.send(message)).await {
        Ok(Ok(())) => Ok(()),
        _ => Err(Over),
    }
}
