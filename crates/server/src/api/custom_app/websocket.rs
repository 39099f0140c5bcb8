//! A WebSocket of the user's application.

use std::time::Duration;

use axum::{
    extract::{
        FromRequestParts, Request, WebSocketUpgrade,
        ws::{CloseFrame, Message, WebSocket},
    },
    http::StatusCode,
    response::{IntoResponse, Response},
};
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use threadyard_runtime::{AppMessage, Exchange, ExchangeReceiver, ExchangeSender};

use super::{failed, headers_of};
use crate::listen::Place;

/// How long a client may take what it is sent.
const PATIENCE: Duration = Duration::from_mins(1);
/// Codes of RFC 6455.
const NORMAL: u16 = 1000;
const NO_CODE: u16 = 1005;
const BROKEN_OFF: u16 = 1006;
const FAILED: u16 = 1011;

/// Has the application accept or refuse, and then passes on what both sides say.
pub(super) async fn serve(mut exchange: Exchange, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    let place = parts.extensions.get::<Place>().cloned();
    let upgrade = match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => upgrade,
        Err(refused) => return refused.into_response(),
    };
    exchange.sender.send(AppMessage::WsConnect).await;
    match exchange.receiver.next().await {
        Ok(Some(AppMessage::WsAccept { subprotocol, headers })) => {
            let upgrade = upgrade.protocols(subprotocol);
            let mut answer = upgrade.on_upgrade(async move |socket| {
                relay(socket, exchange, place).await;
            });
            answer.headers_mut().extend(headers_of(&headers));
            answer
        }
        Ok(Some(AppMessage::WsClose { .. })) => StatusCode::FORBIDDEN.into_response(),
        _ => failed(),
    }
}

async fn relay(socket: WebSocket, Exchange { receiver, sender }: Exchange, place: Option<Place>) {
    let (to_client, from_client) = socket.split();
    // Both ways at once: a client that does not read must not keep the application from hearing it, nor the reverse.
    tokio::select! {
        () = up(from_client, sender.clone(), place) => {}
        () = down(receiver, to_client) => {}
    }
}

/// What the client says, and at last that it has left; then the application has its say until it is done.
async fn up(mut client: SplitStream<WebSocket>, app: ExchangeSender, place: Option<Place>) {
    let (mut code, mut reason) = (BROKEN_OFF, None);
    while let Some(Ok(message)) = client.next().await {
        match message {
            Message::Text(text) => app.send(AppMessage::WsReceive { bytes: None, text: Some(text.to_string()) }).await,
            Message::Binary(bytes) => app.send(AppMessage::WsReceive { bytes: Some(bytes), text: None }).await,
            Message::Close(frame) => {
                code = frame.as_ref().map_or(NO_CODE, |frame| frame.code);
                reason = frame.map(|frame| frame.reason.to_string());
                break;
            }
            Message::Ping(_) | Message::Pong(_) => {}
        }
    }
    // Whoever has left needs no place, however long the application goes on.
    drop(place);
    app.send(AppMessage::WsDisconnect { code, reason }).await;
    app.closed().await;
}

/// What the application says, until it closes.
async fn down(mut app: ExchangeReceiver, mut client: SplitSink<WebSocket, Message>) {
    let (code, reason) = loop {
        let message = match app.next().await {
            Ok(Some(AppMessage::WsSend { bytes: Some(bytes), .. })) => Message::Binary(bytes),
            Ok(Some(AppMessage::WsSend { text, .. })) => Message::Text(text.unwrap_or_default().into()),
            Ok(Some(AppMessage::WsClose { code, reason })) => {
                break (code.unwrap_or(NORMAL), reason.unwrap_or_default());
            }
            Ok(Some(_)) => continue,
            Ok(None) => break (NORMAL, String::new()),
            Err(_) => break (FAILED, String::new()),
        };
        match tokio::time::timeout(PATIENCE, client.send(message)).await {
            Ok(Ok(())) => {}
            // The other way hears of it.
            Ok(Err(_)) => return std::future::pending().await,
            Err(_) => return,
        }
    };
    let _ = client.send(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await;
    let _ = client.close().await;
}
