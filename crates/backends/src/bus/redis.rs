//! The wire over Redis: a channel for all replicas and one for each, and nothing stored.

use std::time::Duration;

use futures_util::StreamExt;
use redis::{
    AsyncConnectionConfig, Client, Pipeline, RedisError,
    aio::{MultiplexedConnection, PubSubSink, PubSubStream},
};
use threadyard_core::ambient::Ambient;

use super::{
    frames::ReplicaId,
    redis_uri::{RedisConfig, Source},
    shared::{SharedBus, SharedBusConfig},
    wire::{Batch, Ends, Heard, To, Tries, Wire},
};

/// How long Redis may take for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a connection that hears nothing is tried.
const PING: Duration = Duration::from_secs(5);

/// Publishes and subscribes.
struct RedisWire {
    source: Source,
    prefix: String,
    batch: Batch,
}

/// A connection that publishes, and one that is subscribed.
struct Connected {
    publisher: MultiplexedConnection,
    subscriber: PubSubSink,
    messages: PubSubStream,
}

/// Why a connection can't be used any more. Nothing here repeats the URI, which may hold a password.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("{0}")]
    Redis(#[from] RedisError),
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Silent(#[from] tokio::time::error::Elapsed),
    #[error("the connection was closed")]
    Closed,
}

impl SharedBus {
    /// A bus whose replicas are connected by Redis. It connects by itself, and again whenever it has to.
    pub fn over_redis(redis: RedisConfig, config: SharedBusConfig, ambient: Ambient) -> Self {
        if redis.has_tls {
            // Already there when another part of the process has chosen.
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        }
        let wire = RedisWire { source: redis.source, prefix: redis.prefix, batch: Batch::default() };
        Self::over(wire, config, ambient)
    }
}

impl Wire for RedisWire {
    async fn carry(mut self, ends: Ends) {
        let mut tries = Tries::new();
        loop {
            let lost = match self.connect(ends.replica).await {
                Ok(connected) => {
                    tries.succeed();
                    tracing::info!("connected to other replicas through Redis");
                    let _ = ends.heard.send(Heard::Connected).await;
                    self.serve(&ends, connected).await
                }
                Err(lost) => lost,
            };
            tries.fail(lost).await;
        }
    }
}

impl RedisWire {
    async fn connect(&mut self, replica: ReplicaId) -> Result<Connected, Lost> {
        let client = tokio::time::timeout(PATIENCE, self.client()).await??;
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(PATIENCE)).set_response_timeout(Some(PATIENCE));
        let publisher = client.get_multiplexed_async_connection_with_config(&config).await?;
        let channels = [self.channel(To::All), self.channel(To::One(replica))];
        let subscribe = async {
            let (mut subscriber, messages) = client.get_async_pubsub().await?.split();
            subscriber.subscribe(&channels).await?;
            Ok::<_, RedisError>((subscriber, messages))
        };
        let (subscriber, messages) = tokio::time::timeout(PATIENCE, subscribe).await??;
        Ok(Connected { publisher, subscriber, messages })
    }

    async fn client(&mut self) -> Result<Client, RedisError> {
        match &mut self.source {
            Source::One(client) => Ok(client.as_ref().clone()),
            Source::Sentinels(sentinels) => sentinels.async_get_client().await,
        }
    }

    /// Sends and receives until one of the two fails.
    async fn serve(&mut self, ends: &Ends, connected: Connected) -> Lost {
        let Connected { publisher, subscriber, messages } = connected;
        tokio::select! {
            lost = self.publish(ends, publisher) => lost,
            lost = receive(ends, messages) => lost,
            lost = ping(subscriber) => lost,
        }
    }

    async fn publish(&mut self, ends: &Ends, mut publisher: MultiplexedConnection) -> Lost {
        loop {
            self.batch.fill(&ends.outgoing).await;
            let mut together = Pipeline::with_capacity(self.batch.frames.len());
            for (to, frame) in &self.batch.frames {
                together.cmd("PUBLISH").arg(self.channel(*to)).arg(&frame[..]).ignore();
            }
            if let Err(lost) = together.exec_async(&mut publisher).await {
                return lost.into();
            }
            self.batch.is_sent();
        }
    }

    fn channel(&self, to: To) -> String {
        match to {
            To::All => format!("{}all", self.prefix),
            To::One(ReplicaId(id)) => format!("{}replica:{id}", self.prefix),
        }
    }
}

async fn receive(ends: &Ends, mut messages: PubSubStream) -> Lost {
    while let Some(message) = messages.next().await {
        let frame = bytes::Bytes::copy_from_slice(message.get_payload_bytes());
        if ends.heard.send(Heard::Frame(frame)).await.is_err() {
            break;
        }
    }
    Lost::Closed
}

/// Finds out about a connection that is gone without a word.
async fn ping(mut subscriber: PubSubSink) -> Lost {
    loop {
        tokio::time::sleep(PING).await;
        match tokio::time::timeout(PATIENCE, subscriber.ping::<redis::Value>()).await {
            Ok(Ok(_)) => {}
            Ok(Err(lost)) => return lost.into(),
            Err(silent) => return silent.into(),
        }
    }
}
