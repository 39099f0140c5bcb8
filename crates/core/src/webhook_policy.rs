//! Where webhooks may go. Every address is judged, also those that a name stands for at the moment of sending.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;
use url::{Host, Url};

use crate::webhooks::own_route;

/// What the operator allows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a rule of its own")]
pub struct WebhookPolicy {
    /// Whether this machine may be called.
    pub loopback: bool,
    /// Whether there is an application of the project's own, whose routes URLs without a host name.
    pub own_app: bool,
    /// Whether private networks may be called.
    pub private: bool,
    /// Networks that may be called whatever they are.
    pub allowed_cidrs: Vec<IpNet>,
    /// Only these hosts, unless empty: names, addresses, or `*.` before the name of a domain for what is below it. A
    /// host that is named exactly may be on this machine or in a private network.
    pub allowed_domains: Vec<String>,
    /// Only these ports, unless empty.
    pub allowed_ports: Vec<u16>,
    /// Whether only encrypted connections are made.
    pub require_https: bool,
    /// How long a URL may be.
    pub max_url_length: usize,
}

impl WebhookPolicy {
    /// For development: this machine and private networks may be called.
    pub fn development() -> Self {
        Self { loopback: true, private: true, ..Self::production() }
    }

    /// For production: only the public internet, so that callers of the API can't reach into the server's network.
    pub fn production() -> Self {
        Self {
            loopback: false,
            own_app: false,
            private: false,
            allowed_cidrs: Vec::new(),
            allowed_domains: Vec::new(),
            allowed_ports: Vec::new(),
            require_https: false,
            max_url_length: 65_536,
        }
    }
}

/// What the operator adds to every request, such as credentials.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct WebhookHeaders(pub Vec<(String, String)>);

impl fmt::Debug for WebhookHeaders {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// Why a webhook may not go somewhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Forbidden {
    #[error("the URL must have between 1 and {0} characters")]
    Length(usize),
    #[error("the URL must be absolute, such as https://example.com/hook")]
    Relative,
    #[error(
        "a URL without a host is a route of the project's own application, which it is called at without credentials; webhooks.url.disable_loopback: false of langgraph.json allows it"
    )]
    OwnRoute,
    #[error(
        "a URL without a host is a route of http.app, which langgraph.json does not name; the URL must be absolute"
    )]
    NoOwnApp,
    #[error("the scheme must be http or https")]
    Scheme,
    #[error("the URL must begin with https; webhooks.url.require_https of langgraph.json says so")]
    NotEncrypted,
    #[error("the URL must name a host")]
    NoHost,
    #[error("the host is not one of webhooks.url.allowed_domains of langgraph.json")]
    Domain,
    #[error("port {0} is not one of webhooks.url.allowed_ports of langgraph.json")]
    Port(u16),
    #[error("the address is on this machine; webhooks.url.disable_loopback: false of langgraph.json allows it")]
    Loopback,
    #[error(
        "the address is in a private network; webhooks.network.allow_private or allowed_cidrs of langgraph.json allow it"
    )]
    Private,
    #[error(
        "the address serves the metadata of machines; only itself in webhooks.network.allowed_cidrs of langgraph.json can allow it"
    )]
    Metadata,
    #[error("the address is not public; only webhooks.network.allowed_cidrs of langgraph.json can allow it")]
    Special,
}

impl WebhookPolicy {
    /// Refuses a URL that could never be sent to. Names are only resolved when something is sent.
    pub fn check(&self, text: &str) -> Result<(), Forbidden> {
        if text.is_empty() || text.len() > self.max_url_length {
            return Err(Forbidden::Length(self.max_url_length));
        }
        if own_route(text).is_some() {
            return self.check_own_route();
        }
        let url = Url::parse(text).map_err(|_| Forbidden::Relative)?;
        match url.scheme() {
            "https" => {}
            "http" if !self.require_https => {}
            "http" => return Err(Forbidden::NotEncrypted),
            _ => return Err(Forbidden::Scheme),
        }
        let host = url.host().ok_or(Forbidden::NoHost)?;
        let name = host.to_string();
        if !self.allowed_domains.is_empty() && !self.allowed_domains.iter().any(|pattern| fits(pattern, &name)) {
            return Err(Forbidden::Domain);
        }
        match url.port_or_known_default() {
            Some(port) if !self.allowed_ports.is_empty() && !self.allowed_ports.contains(&port) => {
                return Err(Forbidden::Port(port));
            }
            _ => {}
        }
        match host {
            Host::Ipv4(ip) => self.admit(&name, ip.into()),
            Host::Ipv6(ip) => self.admit(&name, ip.into()),
            Host::Domain(domain) => self.admit_name(domain),
        }
    }

    /// What goes to the project's own application leaves neither the machine nor the server, so that rules about hosts,
    /// ports and encryption have nothing to say of it.
    fn check_own_route(&self) -> Result<(), Forbidden> {
        match (self.loopback, self.own_app) {
            (false, _) => Err(Forbidden::OwnRoute),
            (true, false) => Err(Forbidden::NoOwnApp),
            (true, true) => Ok(()),
        }
    }

    /// Names that say by themselves where they lead.
    fn admit_name(&self, name: &str) -> Result<(), Forbidden> {
        let name = name.trim_end_matches('.');
        if name == "metadata.google.internal" {
            return Err(Forbidden::Metadata);
        }
        let local = name == "localhost" || name.ends_with(".localhost");
        if local && !self.loopback && !self.names_exactly(name) {
            return Err(Forbidden::Loopback);
        }
        Ok(())
    }

    /// Whether an address may be connected to, for a URL with this host.
    pub fn admit(&self, host: &str, ip: IpAddr) -> Result<(), Forbidden> {
        let ip = plain(ip);
        let reach = reach(ip);
        // Who allows a wide network hardly means what tells machines their secrets within it.
        let said = |network: &&IpNet| reach != Reach::Metadata || network.prefix_len() == network.max_prefix_len();
        if self.allowed_cidrs.iter().filter(said).any(|network| network.contains(&ip)) {
            return Ok(());
        }
        match reach {
            Reach::Public => Ok(()),
            Reach::Loopback if self.loopback || self.names_exactly(host) => Ok(()),
            Reach::Private if self.private || self.names_exactly(host) => Ok(()),
            Reach::Loopback => Err(Forbidden::Loopback),
            Reach::Private => Err(Forbidden::Private),
            Reach::Metadata => Err(Forbidden::Metadata),
            Reach::Special => Err(Forbidden::Special),
        }
    }

    fn names_exactly(&self, host: &str) -> bool {
        self.allowed_domains.iter().any(|pattern| !pattern.starts_with("*.") && fits(pattern, host))
    }
}

fn fits(pattern: &str, host: &str) -> bool {
    let host = host.trim_end_matches('.').trim_start_matches('[').trim_end_matches(']');
    match pattern.strip_prefix("*.") {
        Some(domain) => {
            let host = host.to_ascii_lowercase();
            let below = host.strip_suffix(&domain.to_ascii_lowercase());
            below.is_some_and(|below| below.len() > 1 && below.ends_with('.'))
        }
        None => pattern.trim_start_matches('[').trim_end_matches(']').eq_ignore_ascii_case(host),
    }
}

/// Where an address leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Public,
    Loopback,
    Private,
    /// Services that tell machines of a cloud their secrets, and the links they are on.
    Metadata,
    /// Everything else that is nobody's address on the public internet.
    Special,
}

/// The IPv4 address that an IPv6 address carries to the network, as far as the system would go there.
fn plain(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else { return ip };
    if let Some(v4) = v6.to_ipv4_mapped() {
        return v4.into();
    }
    match v6.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low)).into(),
        _ => ip,
    }
}

fn reach(ip: IpAddr) -> Reach {
    match ip {
        IpAddr::V4(ip) => reach_v4(ip),
        IpAddr::V6(ip) => reach_v6(ip),
    }
}

fn reach_v4(ip: Ipv4Addr) -> Reach {
    match ip.octets() {
        [127, ..] => Reach::Loopback,
        [169, 254, ..] | [168, 63, 129, 16] | [100, 100, 100, 200] => Reach::Metadata,
        [10, ..] | [192, 168, ..] | [100, 64..=127, ..] | [172, 16..=31, ..] => Reach::Private,
        [0 | 224.., ..]
        | [192, 0, 0 | 2, _]
        | [192, 88, 99, _]
        | [198, 18 | 19, ..]
        | [198, 51, 100, _]
        | [203, 0, 113, _] => Reach::Special,
        _ => Reach::Public,
    }
}

fn reach_v6(ip: Ipv6Addr) -> Reach {
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Reach::Loopback,
        [0xfe80..=0xfebf, ..] | [0xfd00, 0xec2, ..] | [0xfd20, 0xce, ..] => Reach::Metadata,
        [0xfc00..=0xfdff, ..] => Reach::Private,
        // Protocol assignments, benchmarking and tunnels, documentation, 6to4.
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x2002, ..] | [0x3fff, 0..=0xfff, ..] => Reach::Special,
        // Only this much of the space has been given to the public.
        [0x2000..=0x3fff, ..] => Reach::Public,
        _ => Reach::Special,
    }
}
