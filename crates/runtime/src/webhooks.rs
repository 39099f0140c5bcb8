//! What `langgraph.json` says of webhooks: where they go (`webhooks.url`, `webhooks.network`), what they carry
//! (`webhooks.headers`), and how long they are kept (`webhooks.log`). How they are sent is in `webhook_pace.rs`.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;
use threadyard_core::{
    json::Value,
    retention::DeliveryTimes,
    webhook_pace::WebhookPace,
    webhook_policy::{WebhookHeaders, WebhookPolicy},
};

use crate::{
    project::{
        document::{Wrong, read_all},
        is_token,
    },
    webhook_pace::{Limits, PaceRules, Retry, Timeouts},
};

/// What the project says of webhooks.
#[derive(Clone, Debug)]
pub struct WebhookRules {
    url: Option<UrlRules>,
    network: NetworkRules,
    pace: PaceRules,
    /// What every delivery carries besides.
    pub headers: WebhookHeaders,
    /// How long settled deliveries are kept.
    pub deliveries_kept: DeliveryTimes<Duration>,
}

/// Bodies for three days, the rest for thirty.
const USUALLY_KEPT: DeliveryTimes<Duration> =
    DeliveryTimes { body: Duration::from_hours(72), row: Duration::from_hours(24 * 30) };

impl Default for WebhookRules {
    fn default() -> Self {
        let (network, pace, headers) = (NetworkRules::default(), PaceRules::default(), WebhookHeaders::default());
        Self { url: None, network, pace, headers, deliveries_kept: USUALLY_KEPT }
    }
}

/// `webhooks`.
#[derive(Deserialize)]
struct Webhooks {
    #[serde(default)]
    env_prefix: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    url: UrlRules,
    #[serde(default)]
    network: NetworkRules,
    #[serde(default)]
    retry: Retry,
    #[serde(default)]
    timeouts: Timeouts,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    log: Log,
}

/// `webhooks.log`: texts such as `72h` and `30d`.
#[derive(Default, Deserialize)]
struct Log {
    retention_body: Option<String>,
    retention_rows: Option<String>,
}

impl Log {
    fn read(&self) -> Result<DeliveryTimes<Duration>, Wrong> {
        let time = |name: &str, text: &Option<String>, usual: Duration| match text {
            None => Ok(usual),
            Some(text) => humantime::parse_duration(text).map_err(|why| {
                Wrong::new(format!("webhooks.log.{name}"), format!("`{text}` is no time such as 72h or 30d: {why}"))
            }),
        };
        let row = time("retention_rows", &self.retention_rows, USUALLY_KEPT.row)?;
        let body = time("retention_body", &self.retention_body, USUALLY_KEPT.body.min(row))?;
        Ok(DeliveryTimes { body, row })
    }
}

/// `webhooks.url`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
struct UrlRules {
    allowed_domains: Option<Vec<String>>,
    allowed_ports: Option<Vec<u16>>,
    require_https: Option<bool>,
    disable_loopback: Option<bool>,
    max_url_length: Option<usize>,
}

/// `webhooks.network`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
struct NetworkRules {
    allow_private: Option<bool>,
    #[serde(default)]
    allowed_cidrs: Vec<ipnet::IpNet>,
}

/// Variables with this prefix may be used in headers, unless the project says otherwise.
const USUAL_PREFIX: &str = "LG_WEBHOOK_";
/// What the sender says by itself.
const OUR_HEADERS: [&str; 12] = [
    "accept",
    "accept-encoding",
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The rules, with the variables of headers put in. A mistyped key would open what should be closed, and is refused.
pub(crate) fn rules(
    webhooks: Option<&Value>,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<WebhookRules, Wrong> {
    let Some(webhooks) = webhooks else { return Ok(WebhookRules::default()) };
    let webhooks: Webhooks = read_all("webhooks", webhooks)?;
    let prefix = webhooks.env_prefix.as_deref().unwrap_or(USUAL_PREFIX);
    let headers = webhooks.headers.into_iter().map(|(name, template)| {
        let lower = name.to_ascii_lowercase();
        if OUR_HEADERS.contains(&lower.as_str()) || lower.starts_with("webhook-") {
            return Err(Wrong::new(format!("webhooks.headers.{name}"), "is set by the server itself"));
        }
        if !is_token(&name) {
            return Err(Wrong::new(format!("webhooks.headers.{name}"), "is no name of a header"));
        }
        let value = filled(&template, prefix, &variable);
        let value = value.map_err(|why| Wrong::new(format!("webhooks.headers.{name}"), why))?;
        Ok((name, value))
    });
    let deliveries_kept = webhooks.log.read()?;
    let pace = PaceRules::read(&webhooks.retry, &webhooks.timeouts, &webhooks.limits)?;
    let url = (webhooks.url != UrlRules::default()).then_some(webhooks.url);
    let headers = WebhookHeaders(headers.collect::<Result<_, _>>()?);
    Ok(WebhookRules { url, network: webhooks.network, pace, headers, deliveries_kept })
}

/// A text with the values of variables in the place of `${{ env.NAME }}`.
fn filled(template: &str, prefix: &str, variable: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let (mut text, mut rest) = (String::new(), template);
    while let Some((before, after)) = rest.split_once("${{") {
        let (inner, behind) = after.split_once("}}").ok_or("`${{` without `}}`")?;
        let name = inner.trim().strip_prefix("env.").ok_or("a template must be `${{ env.NAME }}`")?;
        if !name.starts_with(prefix) {
            return Err(format!("`{name}` does not begin with `{prefix}`; see webhooks.env_prefix"));
        }
        text.push_str(before);
        text.push_str(&variable(name).ok_or_else(|| format!("the environment variable `{name}` is not set"))?);
        rest = behind;
    }
    text.push_str(rest);
    if text.chars().any(|letter| letter.is_control() && letter != '\t') {
        return Err("a header can't hold control characters".into());
    }
    Ok(text)
}

impl WebhookRules {
    /// Where webhooks may go, by these rules on top of what is usual.
    pub fn policy(&self, usual: &WebhookPolicy) -> WebhookPolicy {
        let url = self.url.clone().unwrap_or_default();
        WebhookPolicy {
            loopback: url.disable_loopback.map_or(usual.loopback, |disabled| !disabled),
            own_app: usual.own_app,
            private: self.network.allow_private.unwrap_or(usual.private),
            allowed_cidrs: self.network.allowed_cidrs.clone(),
            allowed_domains: url.allowed_domains.unwrap_or_default(),
            allowed_ports: url.allowed_ports.unwrap_or_default(),
            // Upstream: who says anything about URLs means https, unless they say otherwise.
            require_https: url.require_https.unwrap_or(self.url.is_some()),
            max_url_length: url.max_url_length.unwrap_or(usual.max_url_length),
        }
    }

    /// How webhooks are sent, by these rules on top of what is usual.
    pub fn pace(&self, usual: &WebhookPace) -> WebhookPace {
        self.pace.pace(usual)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(webhooks: &Value) -> Result<WebhookRules, Wrong> {
        rules(Some(webhooks), |name| (name == "LG_WEBHOOK_TOKEN" || name == "HOOK_X").then(|| "t0ken".into()))
    }

    #[test]
    fn headers_are_filled_from_the_environment() {
        for (template, expected) in [
            ("plain", "plain"),
            ("Bearer ${{ env.LG_WEBHOOK_TOKEN }}", "Bearer t0ken"),
            ("a-${{env.LG_WEBHOOK_TOKEN}}-${{ env.LG_WEBHOOK_TOKEN }}", "a-t0ken-t0ken"),
            ("${ env.X }", "${ env.X }"),
        ] {
            let rules = read(&json!({"headers": {"X-A": template}})).unwrap();
            assert_eq!(rules.headers.0, [("X-A".to_owned(), expected.to_owned())]);
            assert!(!format!("{rules:?}").contains("t0ken"));
        }
        let other = read(&json!({"env_prefix": "HOOK_", "headers": {"A": "${{ env.HOOK_X }}"}})).unwrap();
        assert_eq!(other.headers.0[0].1, "t0ken");
    }

    #[test]
    fn deliveries_are_kept_as_long_as_it_says() {
        let hours = |body, row| DeliveryTimes { body: Duration::from_hours(body), row: Duration::from_hours(row) };
        for (log, expected) in [
            (json!({}), hours(72, 720)),
            (json!({"retention_rows": "1d"}), hours(24, 24)),
            (json!({"retention_body": "90m 30m", "retention_rows": "60d"}), hours(2, 1_440)),
        ] {
            assert_eq!(read(&json!({ "log": log })).unwrap().deliveries_kept, expected);
        }
    }

    #[test]
    fn what_can_t_be_honoured_is_named() {
        for (webhooks, word) in [
            (json!({"headers": {"A": "${{ env.LG_WEBHOOK_NONE }}"}}), "LG_WEBHOOK_NONE"),
            (json!({"headers": {"A": "${{ env.SECRET }}"}}), "env_prefix"),
            (json!({"headers": {"A": "${{ secrets.X }}"}}), "env.NAME"),
            (json!({"headers": {"A": "${{ env.LG_WEBHOOK_TOKEN"}}), "}}"),
            (json!({"headers": {"A": 1}}), "webhooks"),
            (json!({"headers": {"A": "a\nb"}}), "control"),
            (json!({"headers": {"Webhook-Id": "x"}}), "Webhook-Id"),
            (json!({"headers": {"content-type": "x"}}), "content-type"),
            (json!({"headers": {"Accept": "x"}}), "Accept"),
            (json!({"headers": {"Upgrade": "x"}}), "Upgrade"),
            (json!({"url": {"allowed_ports": [70000]}}), "webhooks"),
            (json!({"network": {"allowed_cidrs": ["10.0.0.0/40"]}}), "webhooks"),
            (json!({"log": {"retention_body": "soon"}}), "retention_body"),
            (json!({"retry": {"schedule": ["2"]}}), "webhooks.retry.schedule"),
            (json!({"retry": {"schedule": ["31d"]}}), "30 days"),
            (json!({"retry": {"schedule": vec!["1s"; 101]}}), "100 waits"),
            (json!({"retry": {"jitter": 1.5}}), "jitter"),
            (json!({"retry": {"statuses": [500]}}), "statuses"),
            (json!({"timeouts": {"total": "0s"}}), "webhooks.timeouts.total"),
            (json!({"timeouts": {"connect": "soon"}}), "webhooks.timeouts.connect"),
            (json!({"limits": {"max_concurrency": 0}}), "max_concurrency"),
            (json!({"limits": {"per_destination_concurrency": 100_000}}), "per_destination_concurrency"),
            (json!({"limits": {"per_destination_rate": 5}}), "per_destination_rate"),
            (json!({"signing": {}}), "signing"),
        ] {
            let error = read(&webhooks).unwrap_err().to_string();
            assert!(error.contains(word), "{webhooks}: {error}");
        }
    }

    #[test]
    fn the_pace_is_as_it_says_and_else_as_usual() {
        let usual = WebhookPace::production();
        let pace = |webhooks: Value| read(&webhooks).unwrap().pace(&usual);
        assert_eq!(pace(json!({"retry": {}, "timeouts": {}, "limits": {}})), usual);
        let waits = vec![Duration::from_millis(10), Duration::from_mins(90)];
        let said = json!({"retry": {"schedule": ["10ms", "1h 30m"], "jitter": 0},
            "timeouts": {"total": "2s"}, "limits": {"max_concurrency": 4, "per_destination_concurrency": 2}});
        let second = Duration::from_secs(2);
        let expected =
            WebhookPace { waits, jitter: 0.0, connect: second, total: second, at_once: 4, at_once_to_one: 2 };
        assert_eq!(pace(said), expected);
        assert_eq!(pace(json!({"retry": {"schedule": []}})).wait(1, 0.0), None);
    }

    #[test]
    fn rules_come_on_top_of_what_is_usual() {
        let policy = |webhooks: Value| read(&webhooks).unwrap().policy(&WebhookPolicy::production());
        assert_eq!(rules(None, |_| None).unwrap().policy(&WebhookPolicy::development()), WebhookPolicy::development());
        assert_eq!(policy(json!({"url": {}})), WebhookPolicy::production());
        let https = WebhookPolicy { require_https: true, max_url_length: 100, ..WebhookPolicy::production() };
        assert_eq!(policy(json!({"url": {"max_url_length": 100}})), https);
        let open = WebhookPolicy { loopback: true, private: true, ..WebhookPolicy::production() };
        let said =
            json!({"url": {"disable_loopback": false, "require_https": false}, "network": {"allow_private": true}});
        assert_eq!(policy(said), open);
        let closed = read(&json!({"url": {"disable_loopback": true, "require_https": false}})).unwrap();
        assert!(!closed.policy(&WebhookPolicy::development()).loopback);
    }
}
