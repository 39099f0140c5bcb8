//! The wire over PostgreSQL's notifications, where there is no Redis: one connection listens and one notifies.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use threadyard_core::ambient::Ambient;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Notify,
};
use tokio_postgres::{AsyncMessage, Client, Connection, Error, Statement};

use super::{
    notifications::{Packer, Unpacker, channel},
    shared::{SharedBus, SharedBusConfig},
    wire::{Batch, Ends, Heard, To, Tries, Wire},
};
use crate::postgres::{Dedicated, PostgresConfig};

/// How long the database may take for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a connection that hears nothing is tried.
const PING: Duration = Duration::from_secs(5);

/// Notifies and listens.
struct PostgresWire {
    config: PostgresConfig,
    prefix: String,
    batch: Batch,
}

/// Why the connections can't be used any more.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("{0}")]
    Postgres(#[from] Error),
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Silent(#[from] tokio::time::error::Elapsed),
    #[error("the connection was closed")]
    Closed,
    #[error(
        "it does not hear its own notifications; connect to the database itself and not to a pooler in transaction mode"
    )]
    Deaf,
}

impl SharedBus {
    /// A bus whose replicas are connected by notifications of their database. The prefix keeps several servers apart that
    /// share a database. It connects by itself, and again whenever it has to.
    pub fn over_postgres(database: PostgresConfig, prefix: &str, config: SharedBusConfig, ambient: Ambient) -> Self {
        let wire = PostgresWire { config: database, prefix: prefix.into(), batch: Batch::default() };
        Self::over(wire, config, ambient)
    }
}

impl Wire for PostgresWire {
    async fn carry(mut self, ends: Ends) {
        let mut tries = Tries::new();
        loop {
            let lost = match self.connect().await {
                Ok(both) => self.serve(&ends, both, &mut tries).await,
                Err(lost) => lost,
            };
            tries.fail(lost).await;
        }
    }
}

impl PostgresWire {
    async fn connect(&self) -> Result<(Dedicated, Dedicated), Lost> {
        let both = async { tokio::try_join!(self.config.connect(), self.config.connect()) };
        Ok(tokio::time::timeout(PATIENCE, both).await??)
    }

    /// Sends and receives until one of the connections fails.
    async fn serve(&mut self, ends: &Ends, both: (Dedicated, Dedicated), tries: &mut Tries) -> Lost {
        let ((listener, listening), (notifier, notifying)) = both;
        let echo = Notify::new();
        tokio::select! {
            lost = receive(ends, listening, &echo) => lost,
            ended = notifying => ended.err().map_or(Lost::Closed, Lost::from),
            lost = self.speak(ends, (listener, notifier), &echo, tries) => lost,
        }
    }

    async fn speak(&mut self, ends: &Ends, both: (Client, Client), echo: &Notify, tries: &mut Tries) -> Lost {
        let (listener, notifier) = both;
        let notify = match self.begin(ends, (&listener, &notifier), echo).await {
            Ok(notify) => notify,
            Err(lost) => return lost,
        };
        tries.succeed();
        tracing::info!("connected to other replicas through the database");
        let _ = ends.heard.send(Heard::Connected).await;
        tokio::select! {
            lost = self.notify(ends, &notifier, &notify) => lost,
            lost = ping(&listener) => lost,
        }
    }

    /// Listens, and makes sure that something can be heard.
    async fn begin(&self, ends: &Ends, both: (&Client, &Client), echo: &Notify) -> Result<Statement, Lost> {
        let mine = channel(&self.prefix, To::One(ends.replica));
        let listen = format!("LISTEN {}; LISTEN {mine}", channel(&self.prefix, To::All));
        let prepared = async {
            both.0.batch_execute(&listen).await?;
            let notify =
                both.1.prepare("SELECT pg_notify(c, p) FROM unnest($1::text[], $2::text[]) AS t (c, p)").await?;
            both.1.query(&notify, &[&vec![&mine], &vec![""]]).await?;
            Ok::<_, Error>(notify)
        };
        let notify = tokio::time::timeout(PATIENCE, prepared).await??;
        tokio::time::timeout(PATIENCE, echo.notified()).await.map_err(|_| Lost::Deaf)?;
        Ok(notify)
    }

    async fn notify(&mut self, ends: &Ends, notifier: &Client, notify: &Statement) -> Lost {
        let mut packer = Packer::new(ends.replica);
        loop {
            self.batch.fill(&ends.outgoing).await;
            let notifications = packer.pack(&self.batch.frames).into_iter();
            let (channels, texts): (Vec<_>, Vec<_>) =
                notifications.map(|(to, text)| (channel(&self.prefix, to), text)).unzip();
            match tokio::time::timeout(PATIENCE, notifier.query(notify, &[&channels, &texts])).await {
                Ok(Ok(_)) => self.batch.is_sent(),
                Ok(Err(lost)) => return lost.into(),
                Err(silent) => return silent.into(),
            }
        }
    }
}

async fn receive<S, T>(ends: &Ends, mut listening: Connection<S, T>, echo: &Notify) -> Lost
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut unpacker = Unpacker::default();
    let mut messages = stream::poll_fn(move |context| listening.poll_message(context));
    while let Some(message) = messages.next().await {
        match message {
            Ok(AsyncMessage::Notification(notification)) if notification.payload().is_empty() => echo.notify_one(),
            Ok(AsyncMessage::Notification(notification)) => {
                for frame in unpacker.unpack(notification.payload()) {
                    let _ = ends.heard.send(Heard::Frame(frame)).await;
                }
            }
            Ok(_) => {}
            Err(lost) => return lost.into(),
        }
    }
    Lost::Closed
}

/// Finds out about a connection that is gone without a word.
async fn ping(listener: &Client) -> Lost {
    loop {
        tokio::time::sleep(PING).await;
        match tokio::time::timeout(PATIENCE, listener.batch_execute("")).await {
            Ok(Ok(())) => {}
            Ok(Err(lost)) => return lost.into(),
            Err(silent) => return silent.into(),
        }
    }
}
