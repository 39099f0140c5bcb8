//! The outbound HTTP client of webhooks: where it may go, how long it may take, what it sends.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use threadyard_core::webhooks::ClaimedDelivery;
use url::{Host, Url};

use crate::{Error, Result};

/// Where webhooks may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetPolicy {
    /// Anywhere, this machine included: for development, where receivers run beside the server.
    AnyHost,
    /// Only addresses of the public internet, so that callers of the API can't reach into the network of the server.
    PublicOnly,
}

const MAX_URL_LENGTH: usize = 65_536;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const TOTAL_TIMEOUT: Duration = Duration::from_secs(30);

/// Refuses a URL that could never be delivered to. Names are only resolved when the delivery is sent.
pub fn check_webhook_url(text: &str, policy: TargetPolicy) -> Result<()> {
    let refused = |why: &str| Err(Error::Invalid(format!("webhook: {why}")));
    if text.is_empty() || text.len() > MAX_URL_LENGTH {
        return refused("the URL must have between 1 and 65536 characters");
    }
    let Ok(url) = Url::parse(text) else {
        return refused("the URL must be absolute, such as https://example.com/hook");
    };
    if !matches!(url.scheme(), "http" | "https") {
        return refused("the scheme must be http or https");
    }
    let literal = match url.host() {
        None => return refused("the URL must name a host"),
        Some(Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
        Some(Host::Ipv6(ip)) => Some(IpAddr::V6(ip)),
        Some(Host::Domain(_)) => None,
    };
    match literal {
        Some(ip) if policy == TargetPolicy::PublicOnly && !is_public(ip) => {
            refused("the address is not public; `threadyard serve` only calls public addresses")
        }
        _ => Ok(()),
    }
}

/// Sends deliveries.
pub(crate) struct WebhookClient {
    http: reqwest::Client,
    policy: TargetPolicy,
}

/// What came of one request.
pub(crate) enum Sent {
    /// The receiver answered.
    Answer(u16),
    /// It could not be reached or did not answer.
    Failure(&'static str),
    /// It may not be called at all.
    Refused,
}

impl WebhookClient {
    pub(crate) fn new(policy: TargetPolicy) -> Result<Self> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("threadyard/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TOTAL_TIMEOUT)
            .no_proxy();
        if policy == TargetPolicy::PublicOnly {
            builder = builder.dns_resolver(Arc::new(PublicResolver));
        }
        let http = builder.build().map_err(|error| Error::Internal(format!("no HTTP client: {error}")))?;
        Ok(Self { http, policy })
    }

    /// Makes one attempt. What it says about failures never holds the URL, whose query may hold a token.
    pub(crate) async fn send(&self, delivery: &ClaimedDelivery, timestamp: i64) -> Sent {
        if check_webhook_url(&delivery.url, self.policy).is_err() {
            return Sent::Refused;
        }
        let request = self
            .http
            .post(&delivery.url)
            .header("content-type", "application/json")
            .header("accept", "*/*")
            .header("webhook-id", &delivery.id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-attempt", delivery.attempt)
            .body(delivery.body.clone());
        match request.send().await {
            Ok(answer) => Sent::Answer(answer.status().as_u16()),
            Err(error) if error.is_timeout() => Sent::Failure("the receiver did not answer in time"),
            Err(error) if error.is_connect() => Sent::Failure("no connection to the receiver"),
            Err(_) => Sent::Failure("the exchange with the receiver broke off"),
        }
    }
}

/// Resolves names, and refuses one as a whole when any of its addresses is not public.
struct PublicResolver;

impl Resolve for PublicResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if found.iter().all(|address| is_public(address.ip())) {
                Ok(Box::new(found.into_iter()) as Addrs)
            } else {
                Err("the name stands for an address that is not public".into())
            }
        })
    }
}

fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let protocol_assignments = (a, b, c) == (192, 0, 0);
    let benchmarking = a == 198 && (b == 18 || b == 19);
    !(a == 0
        || a >= 224
        || ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_documentation()
        || ip == Ipv4Addr::new(168, 63, 129, 16)
        || shared
        || protocol_assignments
        || benchmarking)
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let segments = ip.segments();
    if let [0x64, 0xff9b, 0, 0, 0, 0, high, low] = segments {
        let carried = (u32::from(high) << 16) | u32::from(low);
        return is_public_v4(Ipv4Addr::from_bits(carried));
    }
    // Only global unicast is assigned to the public; the documentation, 6to4, Teredo and benchmarking ranges lie within.
    let global_unicast = segments[0] & 0xe000 == 0x2000;
    let special = matches!(segments, [0x2001, 0 | 2 | 0x0db8, ..] | [0x2002 | 0x3fff, ..]);
    global_unicast && !special
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_needs_an_absolute_http_url() {
        for bad in ["", "not a url", "/relative", "ftp://example.com/", "http://", "mailto:a@b.c"] {
            assert!(check_webhook_url(bad, TargetPolicy::AnyHost).is_err(), "{bad}");
        }
        for good in ["https://example.com/hook?token=1", "http://127.0.0.1:9/x", "http://user:pw@localhost/"] {
            assert!(check_webhook_url(good, TargetPolicy::AnyHost).is_ok(), "{good}");
        }
    }

    #[test]
    fn only_public_addresses_are_called_in_production() {
        for private in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "[::1]",
            "[fe80::1]",
            "[fd00::1]",
            "[::ffff:127.0.0.1]",
            "[64:ff9b::7f00:1]",
            "[2002:7f00:1::]",
            "2130706433",
            "0x7f.1",
        ] {
            let url = format!("http://{private}/");
            assert!(check_webhook_url(&url, TargetPolicy::PublicOnly).is_err(), "{url}");
        }
        for public in ["93.184.216.34", "8.8.8.8", "[2606:4700::1111]", "[64:ff9b::808:808]"] {
            let url = format!("http://{public}/");
            assert!(check_webhook_url(&url, TargetPolicy::PublicOnly).is_ok(), "{url}");
        }
    }
}
