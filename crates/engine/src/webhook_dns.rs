//! Resolves the names of receivers, and refuses one as a whole when any of its addresses may not be called: what is
//! connected to is what was judged.

use std::{
    future::Future,
    io,
    net::{SocketAddr, ToSocketAddrs},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use threadyard_core::webhook_policy::WebhookPolicy;
use tokio::sync::Semaphore;

const WITHIN: Duration = Duration::from_secs(5);
/// A lookup that hangs holds a thread until the system gives it up, whoever waits for it; others need threads, too.
const AT_ONCE: usize = 128;

/// A name that can't be resolved.
#[derive(Debug, thiserror::Error)]
#[error("the name can't be resolved")]
pub(crate) struct Unresolved;

type Found = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;
/// Finds the addresses of a name.
type Lookup = Box<dyn Fn(String) -> Found + Send + Sync>;

pub(crate) struct VettingResolver {
    policy: WebhookPolicy,
    lookup: Lookup,
}

impl VettingResolver {
    /// Asks the machine's resolver.
    pub(crate) fn new(policy: WebhookPolicy) -> Self {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        let lookup = move |name: String| -> Found {
            let places = places.clone();
            Box::pin(async move {
                let place = places.acquire_owned().await.map_err(io::Error::other)?;
                let resolve = move || {
                    let found = (name.as_str(), 0).to_socket_addrs().map(Iterator::collect);
                    drop(place);
                    found
                };
                tokio::task::spawn_blocking(resolve).await.map_err(io::Error::other)?
            })
        };
        Self { policy, lookup: Box::new(lookup) }
    }
}

impl Resolve for VettingResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = self.policy.clone();
        let lookup = tokio::time::timeout(WITHIN, (self.lookup)(name.as_str().to_owned()));
        Box::pin(async move {
            let found = lookup.await.ok().and_then(Result::ok).filter(|found| !found.is_empty()).ok_or(Unresolved)?;
            for address in &found {
                policy.admit(name.as_str(), address.ip())?;
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::IpAddr,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;
    use crate::webhook_client::is_forbidden;

    const GOOD: [u8; 4] = [127, 0, 0, 2];
    const BAD: [u8; 4] = [127, 0, 0, 1];

    /// A name server of which one knows what it answers: to question after question, starting over at the end.
    fn scripted(answers: Vec<Vec<IpAddr>>) -> VettingResolver {
        let asked = AtomicUsize::new(0);
        let lookup = move |_: String| -> Found {
            let answer = &answers[asked.fetch_add(1, Ordering::SeqCst) % answers.len()];
            let found = answer.iter().map(|ip| SocketAddr::new(*ip, 0)).collect();
            Box::pin(async move { Ok(found) })
        };
        let policy =
            WebhookPolicy { allowed_cidrs: vec!["127.0.0.2/32".parse().unwrap()], ..WebhookPolicy::production() };
        VettingResolver { policy, lookup: Box::new(lookup) }
    }

    /// Answers every connection, and counts them.
    fn counting(listener: TcpListener, tasks: &mut tokio::task::JoinSet<()>) -> Arc<AtomicUsize> {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        tasks.spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let _ = connection.read(&mut [0; 1024]).await;
                let _ = connection.write_all(b"HTTP/1.1 204 \r\nconnection: close\r\n\r\n").await;
            }
        });
        count
    }

    /// How many of `calls` requests succeed, and how many connections the good and the bad address saw.
    async fn called(answers: Vec<Vec<IpAddr>>, calls: usize) -> (usize, usize, usize) {
        // What is free at the one address may be taken at the other.
        let (good, bad, port) = loop {
            let good = TcpListener::bind((IpAddr::from(GOOD), 0)).await.unwrap();
            let port = good.local_addr().unwrap().port();
            if let Ok(bad) = TcpListener::bind((IpAddr::from(BAD), port)).await {
                break (good, bad, port);
            }
        };
        let mut tasks = tokio::task::JoinSet::new();
        let (good, bad) = (counting(good, &mut tasks), counting(bad, &mut tasks));
        let answers_nothing = answers[0].is_empty();
        let client = reqwest::Client::builder().no_proxy().dns_resolver(Arc::new(scripted(answers))).build().unwrap();
        let mut succeeded = 0;
        for _ in 0..calls {
            match client.get(format!("http://receiver.example:{port}/")).send().await {
                Ok(_) => succeeded += 1,
                Err(error) => assert_eq!(is_forbidden(&error), !answers_nothing, "{error:?}"),
            }
        }
        (succeeded, good.load(Ordering::SeqCst), bad.load(Ordering::SeqCst))
    }

    #[tokio::test]
    async fn a_name_that_leads_elsewhere_the_next_time_is_refused_then() {
        let (good, bad) = (IpAddr::from(GOOD), IpAddr::from(BAD));
        assert_eq!(called(vec![vec![good]], 10).await, (10, 10, 0));
        assert_eq!(called(vec![vec![good], vec![bad]], 200).await, (100, 100, 0));
    }

    #[tokio::test]
    async fn one_bad_address_spoils_a_name() {
        let (good, bad) = (IpAddr::from(GOOD), IpAddr::from(BAD));
        let many: Vec<IpAddr> = std::iter::repeat_n(good, 299).chain([bad]).collect();
        for answer in [vec![bad, good], vec![good, bad], many, vec!["::ffff:127.0.0.1".parse().unwrap()], vec![]] {
            assert_eq!(called(vec![answer], 2).await, (0, 0, 0));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_server_that_does_not_answer_is_not_waited_for() {
        let lookup = |_: String| -> Found { Box::pin(std::future::pending()) };
        let resolver = VettingResolver { policy: WebhookPolicy::production(), lookup: Box::new(lookup) };
        let begin = tokio::time::Instant::now();
        assert!(resolver.resolve("receiver.example".parse().unwrap()).await.is_err());
        assert_eq!(begin.elapsed(), WITHIN);
    }
}
