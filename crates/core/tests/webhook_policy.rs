//! Where webhooks may go, in every spelling.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use threadyard_core::webhook_policy::{Forbidden, WebhookHeaders, WebhookPolicy};

fn verdict(policy: &WebhookPolicy, host: &str) -> Result<(), Forbidden> {
    policy.check(&format!("http://{host}/hook?token=1"))
}

/// What browsers and systems take for the same IPv4 address.
fn spellings(ip: Ipv4Addr) -> Vec<String> {
    let [a, b, c, d] = ip.octets();
    let bits = ip.to_bits();
    let (low16, low24) = (bits & 0xffff, bits & 0x00ff_ffff);
    vec![
        ip.to_string(),
        format!("{ip}."),
        format!("{bits}"),
        format!("{bits:#x}"),
        format!("{bits:#o}").replace("0o", "0"),
        format!("{a}.{low24}"),
        format!("{a:#x}.{b}.{low16}"),
        format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
        format!("user:pw@{ip}"),
        format!("{}", ip.to_string().replace('.', "%2e")),
        format!("[::ffff:{ip}]"),
        format!("[::ffff:{:x}:{:x}]", bits >> 16, low16),
        format!("[64:ff9b::{ip}]"),
    ]
}

/// The first and last address of a block, and one within.
fn of_block(block: &str) -> [IpAddr; 3] {
    let block: IpNet = block.parse().unwrap();
    match block {
        IpNet::V4(net) => {
            let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
            [first, first + (last - first) / 3, last].map(|bits| Ipv4Addr::from_bits(bits).into())
        }
        IpNet::V6(net) => {
            let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
            [first, first + (last - first) / 3, last].map(|bits| Ipv6Addr::from_bits(bits).into())
        }
    }
}

fn hosts(ip: IpAddr) -> Vec<String> {
    match ip {
        IpAddr::V4(ip) => spellings(ip),
        IpAddr::V6(ip) => vec![format!("[{ip}]")],
    }
}

#[test]
fn no_special_address_is_called_in_production_however_it_is_spelled() {
    let production = WebhookPolicy::production();
    let mut cases = 0;
    for (reason, blocks) in [
        (Forbidden::Loopback, vec!["127.0.0.0/8", "::1/128"]),
        (Forbidden::Private, vec!["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"]),
        (
            Forbidden::Metadata,
            vec![
                "169.254.0.0/16",
                "168.63.129.16/32",
                "100.100.100.200/32",
                "fe80::/10",
                "fd00:ec2::/32",
                "fd20:ce::/32",
            ],
        ),
        (
            Forbidden::Special,
            vec![
                "0.0.0.0/8",
                "192.0.0.0/24",
                "192.0.2.0/24",
                "192.88.99.0/24",
                "198.18.0.0/15",
                "198.51.100.0/24",
                "203.0.113.0/24",
                "224.0.0.0/4",
                "240.0.0.0/4",
                "::/128",
                "::2/127",
                "100::/64",
                "2001::/32",
                "2001:2::/48",
                "2001:10::/28",
                "2001:db8::/32",
                "2002::/16",
                "2002:7f00:1::/48",
                "3fff::/20",
                "5f00::/16",
                "fec0::/10",
                "ff00::/8",
            ],
        ),
    ] {
        for host in blocks.into_iter().flat_map(of_block).flat_map(hosts) {
            assert_eq!(verdict(&production, &host), Err(reason.clone()), "{host}");
            cases += 1;
        }
    }
    // Carrier-grade NAT has the metadata service of one cloud within it.
    for host in ["100.64.0.0", "100.127.255.255", "[::ffff:100.64.0.1]"] {
        assert_eq!(verdict(&production, host), Err(Forbidden::Private), "{host}");
    }
    assert!(cases >= 300, "{cases} cases");
}

#[test]
fn public_addresses_are_called() {
    let production = WebhookPolicy::production();
    for host in [
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "[2606:4700::1111]",
        "[2001:4860:4860::8888]",
        "[2003::]",
        "[::ffff:8.8.8.8]",
        "[64:ff9b::8.8.8.8]",
        "example.com",
        "user:pw@example.com:9",
        "bücher.example",
    ] {
        assert_eq!(verdict(&production, host), Ok(()), "{host}");
    }
}

#[test]
fn names_that_say_where_they_lead_are_refused() {
    let production = WebhookPolicy::production();
    for (host, reason) in [
        ("localhost", Forbidden::Loopback),
        ("LOCALHOST.", Forbidden::Loopback),
        ("a.localhost:80", Forbidden::Loopback),
        ("metadata.google.internal", Forbidden::Metadata),
    ] {
        assert_eq!(verdict(&production, host), Err(reason), "{host}");
    }
    assert_eq!(verdict(&WebhookPolicy::development(), "localhost"), Ok(()));
}

#[test]
fn development_reaches_neighbours_but_no_metadata() {
    let development = WebhookPolicy::development();
    for host in ["127.0.0.1:9", "[::1]", "10.1.2.3", "[fd00::1]", "100.64.0.1"] {
        assert_eq!(verdict(&development, host), Ok(()), "{host}");
    }
    assert_eq!(verdict(&development, "169.254.169.254"), Err(Forbidden::Metadata));
    assert_eq!(verdict(&development, "224.0.0.1"), Err(Forbidden::Special));
}

#[test]
fn what_is_no_url_of_a_host_is_refused() {
    let development = WebhookPolicy::development();
    for (url, reason) in [
        ("", Forbidden::Length(65_536)),
        ("not a url", Forbidden::Relative),
        ("/relative", Forbidden::NoOwnApp),
        ("relative", Forbidden::Relative),
        ("//host/x", Forbidden::Relative),
        ("http://", Forbidden::Relative),
        ("http://[::1", Forbidden::Relative),
        ("http://a:70000/", Forbidden::Relative),
        ("ftp://8.8.8.8/", Forbidden::Scheme),
        ("file:///etc/passwd", Forbidden::Scheme),
        ("javascript:alert(1)", Forbidden::Scheme),
        ("mailto:a@b.c", Forbidden::Scheme),
    ] {
        assert_eq!(development.check(url), Err(reason), "{url}");
    }
    assert_eq!(development.check(&format!("http://a/{}", "x".repeat(65_536))), Err(Forbidden::Length(65_536)));
}

#[test]
fn the_own_application_is_told_where_this_machine_may_be_called() {
    let rules = |loopback, own_app| WebhookPolicy {
        loopback,
        own_app,
        require_https: true,
        allowed_domains: vec!["example.com".into()],
        ..WebhookPolicy::production()
    };
    assert_eq!(rules(true, true).check("/done?token=1"), Ok(()));
    assert_eq!(rules(true, false).check("/done"), Err(Forbidden::NoOwnApp));
    assert_eq!(rules(false, true).check("/done"), Err(Forbidden::OwnRoute));
    for elsewhere in ["//example.org/x", r"/\example.org/x", "/\t/example.org/x"] {
        assert_eq!(rules(true, true).check(elsewhere), Err(Forbidden::Relative), "{elsewhere:?}");
    }
    let long = format!("/{}", "x".repeat(65_536));
    assert_eq!(rules(true, true).check(&long), Err(Forbidden::Length(65_536)));
}

#[test]
fn operators_narrow_and_widen_where_webhooks_go() {
    let domains = |domains: &[&str]| WebhookPolicy {
        allowed_domains: domains.iter().map(|&it| it.into()).collect(),
        ..WebhookPolicy::production()
    };
    let narrow = domains(&["*.corp.example", "hooks.example", "10.9.9.9", "[fd00::9]"]);
    for host in ["a.corp.example", "a.b.corp.example.", "HOOKS.example", "10.9.9.9:80", "[fd00::9]"] {
        assert_eq!(verdict(&narrow, host), Ok(()), "{host}");
    }
    for host in ["corp.example", "evilcorp.example", ".corp.example", "hooks.example.evil", "8.8.8.8", "10.9.9.8"] {
        assert!(verdict(&narrow, host).is_err(), "{host}");
    }
    // What lies below a domain is not named exactly, wherever it leads.
    assert_eq!(narrow.admit("a.corp.example", [10, 0, 0, 1].into()), Err(Forbidden::Private));
    assert_eq!(narrow.admit("hooks.example", [10, 0, 0, 1].into()), Ok(()));
    assert_eq!(narrow.admit("hooks.example", [169, 254, 169, 254].into()), Err(Forbidden::Metadata));

    let cidrs = WebhookPolicy {
        allowed_cidrs: vec!["10.0.0.0/24".parse().unwrap(), "169.254.169.254/32".parse().unwrap()],
        ..WebhookPolicy::production()
    };
    for (host, admitted) in [("10.0.0.7", true), ("10.0.1.0", false), ("169.254.169.254", true), ("169.254.0.1", false)]
    {
        assert_eq!(verdict(&cidrs, host).is_ok(), admitted, "{host}");
    }

    let wide =
        |network: &str| WebhookPolicy { allowed_cidrs: vec![network.parse().unwrap()], ..WebhookPolicy::production() };
    for (network, host, admitted) in [
        ("0.0.0.0/0", "10.0.0.1", true),
        ("0.0.0.0/0", "169.254.169.254", false),
        ("169.254.0.0/16", "169.254.169.254", false),
        ("100.64.0.0/10", "100.64.0.1", true),
        ("100.64.0.0/10", "100.100.100.200", false),
        ("fd00::/8", "[fd00::1]", true),
        ("fd00::/8", "[fd00:ec2::254]", false),
        ("fd00:ec2::254/128", "[fd00:ec2::254]", true),
    ] {
        assert_eq!(verdict(&wide(network), host).is_ok(), admitted, "{host} under {network}");
    }

    let ports = WebhookPolicy { allowed_ports: vec![443, 8443], require_https: true, ..WebhookPolicy::production() };
    assert_eq!(ports.check("https://example.com/"), Ok(()));
    assert_eq!(ports.check("https://example.com:8443/"), Ok(()));
    assert_eq!(ports.check("https://example.com:9000/"), Err(Forbidden::Port(9000)));
    assert_eq!(ports.check("http://example.com:8443/"), Err(Forbidden::NotEncrypted));
}

#[test]
fn what_headers_hold_is_not_shown() {
    let headers = WebhookHeaders(vec![("authorization".into(), "Bearer s3cret".into())]);
    assert_eq!(format!("{headers:?}"), r#"["authorization"]"#);
}
