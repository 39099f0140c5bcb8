//! The table of routes in docs/COMPATIBILITY.md is the router's.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;

use threadyard::api::SERVED;

fn listed(section: &str) -> BTreeSet<&str> {
    let text = include_str!("../../../docs/COMPATIBILITY.md");
    let start = text.find(section).unwrap() + section.len();
    let end = text[start..].find("\n## ").unwrap();
    text[start..start + end].lines().filter(|line| line.starts_with("- `")).collect()
}

#[test]
fn every_served_route_is_listed_and_no_other() {
    let mut routes: Vec<(&str, Vec<String>)> = Vec::new();
    for (method, path) in SERVED {
        match routes.last_mut() {
            Some((last, methods)) if last == path => methods.push(method.to_uppercase()),
            _ => routes.push((path, vec![method.to_uppercase()])),
        }
    }
    let lines: Vec<_> = routes.iter().map(|(path, methods)| format!("- `{}` `{path}`", methods.join(", "))).collect();
    assert_eq!(listed("## Served\n"), lines.iter().map(String::as_str).collect());
}
