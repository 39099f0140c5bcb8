//! What must hold whatever comes: the targets of `fuzz`, which tests give the kept corpus, too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::Value;
use url::{Host, Url};

use crate::{
    filter::{contains, satisfies},
    json::Object,
    metadata_filter::MetadataFilter,
    stream::EventId,
    webhook_policy::WebhookPolicy,
    webhooks::{origin, without_secrets},
};

/// `Last-Event-ID` of a client that comes back: what is read is read as the same when it is written.
pub fn event_ids(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(id) = EventId::parse(text) {
        assert_eq!(EventId::parse(&id.to_string()), Some(id), "{text:?}");
        assert!(id >= EventId::START, "{text:?} comes before every event");
    }
}

/// Filters of searches and of authorization handlers: two JSON texts with a line break between, the second about the
/// first.
pub fn filters(data: &[u8]) {
    let Some(middle) = data.iter().position(|byte| *byte == b'\n') else { return };
    let json = |part: &[u8]| serde_json::from_slice::<Value>(part).ok();
    let (Some(document), Some(condition)) = (json(&data[..middle]), json(&data[middle + 1..])) else { return };
    satisfies(&document, &condition);
    assert!(contains(&document, &document), "{document} contains itself");
    let (Value::Object(metadata), Value::Object(written)) = (&document, &condition) else { return };
    let Ok(filter) = MetadataFilter::read(written) else { return };
    let admitted = filter.admits(metadata);
    let Value::Object(again) = filter.written() else { panic!("{filter:?} is written as an object") };
    assert_eq!(MetadataFilter::read(&again).as_ref(), Ok(&filter), "what is written is read as the same");
    let mut pattern = Object::new();
    let rest = filter.clone().narrowing(&mut pattern);
    let narrowed = contains(&document, &Value::Object(pattern)) && rest.admits(metadata);
    assert_eq!(narrowed, admitted, "{filter:?} of {document}");
    if let Some(patterns) = filter.patterns().filter(|_| admitted) {
        let is_within = |pattern: Object| contains(&document, &Value::Object(pattern));
        assert!(patterns.into_iter().any(is_within), "{filter:?} of {document}");
    }
}

/// URLs of webhooks: production calls nothing that is not public, and nothing shows their secrets.
pub fn webhook_urls(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let shown = without_secrets(text);
    if let Ok(shown) = Url::parse(&shown) {
        assert!(shown.query().is_none() && shown.fragment().is_none(), "{text:?} is shown as {shown}");
        assert!(shown.username().is_empty() && shown.password().is_none(), "{text:?} is shown as {shown}");
    }
    if WebhookPolicy::production().check(text).is_err() {
        return;
    }
    assert!(WebhookPolicy::development().check(text).is_ok(), "{text:?} may be called in production alone");
    assert!(origin(text).is_some(), "{text:?} leads nowhere");
    match Url::parse(text).ok().as_ref().and_then(Url::host) {
        Some(Host::Ipv4(ip)) => assert!(is_public(ip.into()), "{text:?} leads to {ip}"),
        Some(Host::Ipv6(ip)) => assert!(is_public(ip.into()), "{text:?} leads to {ip}"),
        Some(Host::Domain(name)) => {
            let last = name.trim_end_matches('.').rsplit('.').next();
            assert_ne!(last, Some("localhost"), "{text:?}");
        }
        None => panic!("{text:?} has no host"),
    }
}

/// Public as the standard library has it, which the policy does not ask.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(v4) => is_public_v4(v4),
            None => is_public_v6(ip),
        },
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    !(ip.is_loopback()
        || ip.is_private()
        || ip.is_link_local()
        || ip.is_unspecified()
        || ip.is_broadcast()
        || ip.is_multicast()
        || ip.is_documentation())
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    !(ip.is_loopback()
        || ip.is_unspecified()
        || ip.is_multicast()
        || ip.is_unique_local()
        || ip.is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn each(target: &str, check: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
        let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(!files.is_empty(), "there is no corpus for {target}");
        for file in files {
            check(&std::fs::read(file).unwrap());
        }
    }

    #[test]
    fn what_must_hold_of_the_corpus_does() {
        each("event_ids", event_ids);
        each("filters", filters);
        each("webhook_urls", webhook_urls);
    }
}
