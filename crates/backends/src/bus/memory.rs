//! A wire within one process, for tests: it loses, delays and breaks when it is told to.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use threadyard_core::ambient::Ambient;
use tokio::sync::{mpsc, watch};

use super::{
    frames::ReplicaId,
    local::guard,
    shared::{SharedBus, SharedBusConfig},
    wire::{Ends, Heard, To, Wire},
};

/// Connects the buses of several replicas within one process.
#[derive(Clone)]
pub struct MemoryNet {
    net: Arc<Mutex<Net>>,
    up: Arc<watch::Sender<bool>>,
}

#[derive(Default)]
struct Net {
    replicas: HashMap<ReplicaId, mpsc::UnboundedSender<Bytes>>,
    lose: usize,
    delay: Duration,
    broadcast: usize,
    addressed: usize,
}

struct MemoryWire(MemoryNet);

impl Default for MemoryNet {
    fn default() -> Self {
        Self { net: Arc::default(), up: Arc::new(watch::Sender::new(true)) }
    }
}

impl MemoryNet {
    /// Another replica.
    pub fn join(&self, config: SharedBusConfig, ambient: Ambient) -> SharedBus {
        SharedBus::over(MemoryWire(self.clone()), config, ambient)
    }

    /// Loses the next frames that are for one replica only.
    pub fn lose_next(&self, frames: usize) {
        guard(&self.net).lose = frames;
    }

    /// Takes its time from now on.
    pub fn delay(&self, by: Duration) {
        guard(&self.net).delay = by;
    }

    /// Breaks every connection.
    pub fn cut(&self) {
        self.up.send_replace(false);
    }

    /// Lets everybody connect again.
    pub fn mend(&self) {
        self.up.send_replace(true);
    }

    /// Hands this to every replica.
    pub fn inject(&self, frame: &[u8]) {
        for replica in guard(&self.net).replicas.values() {
            let _ = replica.send(Bytes::copy_from_slice(frame));
        }
    }

    /// How many frames went out to all, and to one replica.
    pub fn carried(&self) -> (usize, usize) {
        let net = guard(&self.net);
        (net.broadcast, net.addressed)
    }

    /// How many replicas are connected.
    pub fn connected(&self) -> usize {
        guard(&self.net).replicas.values().filter(|replica| !replica.is_closed()).count()
    }

    async fn deliver(&self, frames: Vec<(To, Bytes)>) {
        let delay = guard(&self.net).delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let mut net = guard(&self.net);
        for (to, frame) in frames {
            net.carry(to, &frame);
        }
    }
}

impl Net {
    fn carry(&mut self, to: To, frame: &Bytes) {
        match to {
            To::All => {
                self.broadcast += 1;
                for replica in self.replicas.values() {
                    let _ = replica.send(frame.clone());
                }
            }
            To::One(_) if self.lose > 0 => self.lose -= 1,
            To::One(replica) => {
                self.addressed += 1;
                if let Some(replica) = self.replicas.get(&replica) {
                    let _ = replica.send(frame.clone());
                }
            }
        }
    }
}

impl Wire for MemoryWire {
    async fn carry(self, ends: Ends) {
        let Self(net) = self;
        let mut up = net.up.subscribe();
        while up.wait_for(|up| *up).await.is_ok() {
            let (mine, mut inbox) = mpsc::unbounded_channel();
            guard(&net.net).replicas.insert(ends.replica, mine);
            let _ = ends.heard.send(Heard::Connected).await;
            loop {
                tokio::select! {
                    biased;
                    () = down(&mut up) => break,
                    Some(frame) = inbox.recv() => {
                        let _ = ends.heard.send(Heard::Frame(frame)).await;
                    }
                    frames = ends.outgoing.take() => net.deliver(frames).await,
                }
            }
            guard(&net.net).replicas.remove(&ends.replica);
        }
    }
}

async fn down(up: &mut watch::Receiver<bool>) {
    let _ = up.wait_for(|up| !*up).await;
}
