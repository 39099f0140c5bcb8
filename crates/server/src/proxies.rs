//! Who may say for whom a request is asked: proxies in front of the server, by `FORWARDED_ALLOW_IPS`, as uvicorn does.

use std::{
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use axum::http::HeaderMap;
use ipnet::{IpNet, Ipv4Net};

use crate::api::Peer;

const FOR: &str = "x-forwarded-for";
const PROTO: &str = "x-forwarded-proto";

/// The addresses whose word is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrustedProxies {
    /// Whoever connects is believed.
    All,
    /// Those in these networks are.
    Within(Vec<IpNet>),
}

/// What is no address, no network and no star.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no address such as 10.0.0.1, no network such as 10.0.0.0/8, and not `*`")]
pub struct NoNetwork(String);

impl FromStr for TrustedProxies {
    type Err = NoNetwork;

    /// Addresses and networks with commas between. Nothing trusts nobody.
    fn from_str(text: &str) -> Result<Self, NoNetwork> {
        let parts = || text.split(',').map(str::trim).filter(|part| !part.is_empty());
        if parts().any(|part| part == "*") {
            return Ok(Self::All);
        }
        let network = |part: &str| {
            let address = || part.parse::<IpAddr>().map(|it| IpNet::from(it.to_canonical()));
            address().or_else(|_| part.parse().map(canonical)).map_err(|_| NoNetwork(part.to_owned()))
        };
        parts().map(network).collect::<Result<_, _>>().map(Self::Within)
    }
}

impl TrustedProxies {
    fn trusts(&self, address: IpAddr) -> bool {
        match self {
            Self::All => true,
            Self::Within(networks) => networks.iter().any(|network| network.contains(&address)),
        }
    }

    /// From where a request comes, when who connects is `peer`.
    pub(crate) fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> Peer {
        let direct = Peer { address: peer, secure: false };
        if !self.trusts(peer.ip().to_canonical()) {
            return direct;
        }
        let secure = match headers.get_all(PROTO).iter().next_back().and_then(|it| it.to_str().ok()).map(str::trim) {
            Some(said) => said.eq_ignore_ascii_case("https") || said.eq_ignore_ascii_case("wss"),
            None => false,
        };
        // A proxy does not tell the port of who asks it.
        let address = self.original(headers).map_or(peer, |ip| SocketAddr::new(ip, 0));
        Peer { address, secure }
    }

    /// The first, from the end, that is no proxy of ours: what stands before it may be made up. If there is none but
    /// proxies, or all are trusted, it is the one at the beginning.
    fn original(&self, headers: &HeaderMap) -> Option<IpAddr> {
        let lines = headers.get_all(FOR).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
        // Bytes that are no text name nobody, and say nothing of what stands beside them.
        let hops: Vec<_> =
            lines.map(|hop| str::from_utf8(hop).unwrap_or("unknown").trim()).filter(|hop| !hop.is_empty()).collect();
        if *self == Self::All {
            return hops.first().and_then(|hop| address(hop));
        }
        let mut seen = None;
        for hop in hops.into_iter().rev() {
            // Behind what names nobody, nothing is known.
            let Some(hop) = address(hop) else { break };
            seen = Some(hop);
            if !self.trusts(hop) {
                break;
            }
        }
        seen
    }
}

/// A network in the form that addresses are compared in.
fn canonical(network: IpNet) -> IpNet {
    const MAPPED: u8 = 96;
    let IpAddr::V4(address) = network.network().to_canonical() else { return network };
    let length = network.prefix_len().checked_sub(MAPPED);
    length.and_then(|length| Ipv4Net::new(address, length).ok()).map_or(network, IpNet::from)
}

/// An address, with or without a port.
fn address(hop: &str) -> Option<IpAddr> {
    let plain = hop.trim_start_matches('[').trim_end_matches(']');
    let found = plain.parse::<IpAddr>().or_else(|_| hop.parse::<SocketAddr>().map(|it| it.ip()));
    found.ok().map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn asked(trusted: &str, peer: &str, headers: &[(&'static str, &'static str)]) -> (String, bool) {
        let mut all = HeaderMap::new();
        for (name, value) in headers {
            // What is written as `~` is a byte that is no text.
            let bytes: Vec<_> = value.bytes().map(|byte| if byte == b'~' { 0xff } else { byte }).collect();
            all.append(*name, HeaderValue::from_bytes(&bytes).unwrap());
        }
        let peer = SocketAddr::new(peer.parse().unwrap(), 1_234);
        let Peer { address, secure } = trusted.parse::<TrustedProxies>().unwrap().client(peer, &all);
        (address.to_string(), secure)
    }

    #[test]
    fn only_trusted_proxies_say_who_asks() {
        let said = &[(FOR, "6.6.6.6, 9.9.9.9"), (PROTO, "https")];
        for (trusted, peer, address, secure) in [
            ("127.0.0.1", "127.0.0.1", "9.9.9.9:0", true),
            ("127.0.0.1", "::ffff:127.0.0.1", "9.9.9.9:0", true),
            ("127.0.0.1", "10.0.0.1", "10.0.0.1:1234", false),
            ("10.0.0.0/8, ::1", "10.0.0.1", "9.9.9.9:0", true),
            ("10.0.0.0/8, ::1", "::1", "9.9.9.9:0", true),
            ("10.0.0.0/8,9.9.9.9", "10.0.0.1", "6.6.6.6:0", true),
            ("10.0.0.0/8,9.9.9.9,6.6.6.6", "10.0.0.1", "6.6.6.6:0", true),
            ("::ffff:10.0.0.0/104", "10.0.0.1", "9.9.9.9:0", true),
            ("10.0.0.0/8", "::ffff:10.0.0.1", "9.9.9.9:0", true),
            ("*", "8.8.8.8", "6.6.6.6:0", true),
            ("", "127.0.0.1", "127.0.0.1:1234", false),
        ] {
            assert_eq!(asked(trusted, peer, said), (address.to_owned(), secure), "{trusted} {peer}");
        }
    }

    #[test]
    fn what_makes_no_sense_says_nothing() {
        for (headers, address, secure) in [
            (&[][..], "127.0.0.1:1234", false),
            (&[(FOR, "unknown")], "127.0.0.1:1234", false),
            (&[(FOR, "")], "127.0.0.1:1234", false),
            (&[(FOR, "5.5.5.5, unknown, 127.0.0.1")], "127.0.0.1:0", false),
            (&[(FOR, "~, 7.7.7.7")], "7.7.7.7:0", false),
            (&[(FOR, "6.6.6.6"), (FOR, "~, 7.7.7.7")], "7.7.7.7:0", false),
            (&[(FOR, "6.6.6.6, ~, 127.0.0.1")], "127.0.0.1:0", false),
            (&[(FOR, "5.5.5.5"), (FOR, "7.7.7.7:99")], "7.7.7.7:0", false),
            (&[(FOR, "[2001:db8::1]:99")], "[2001:db8::1]:0", false),
            (&[(FOR, "2001:db8::1")], "[2001:db8::1]:0", false),
            (&[(PROTO, "http")], "127.0.0.1:1234", false),
            (&[(PROTO, "javascript")], "127.0.0.1:1234", false),
            (&[(PROTO, "https"), (PROTO, "http")], "127.0.0.1:1234", false),
            (&[(PROTO, "WSS")], "127.0.0.1:1234", true),
        ] {
            assert_eq!(asked("127.0.0.1", "127.0.0.1", headers), (address.to_owned(), secure), "{headers:?}");
        }
        for wrong in ["localhost", "10.0.0.0/40", "10.0.0.1,x"] {
            assert!(wrong.parse::<TrustedProxies>().is_err(), "{wrong}");
        }
    }
}
