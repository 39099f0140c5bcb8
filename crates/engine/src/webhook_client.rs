//! The outbound HTTP client of webhooks: where it may go, how long it may take, what it sends.

use std::{error::Error as StdError, io, sync::Arc, time::Duration};

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use threadyard_core::{
    own_app::{OwnAnswer, OwnApp, OwnDelivery},
    webhook_policy::{Forbidden, WebhookHeaders, WebhookPolicy},
    webhooks::{ClaimedDelivery, own_route},
};

use crate::{
    Error, Result, Settings,
    webhook_dns::{Unresolved, VettingResolver},
};

/// What is said of a name whose address the policy refuses.
pub(crate) const BLOCKED: &str = "the name leads to an address that may not be called; see webhooks.network";
/// What is said of a delivery that the project's own handlers can't decrypt now.
pub(crate) const UNREADABLE: &str = "it can't be decrypted";
const TOO_LATE: &str = "the receiver did not answer in time";
const BROKEN_OFF: &str = "the exchange with the receiver broke off";
/// So much of an answer's body is read.
const MAX_ANSWER: usize = 64 << 10;
/// So long a connection waits for another delivery to the same receiver.
const IDLE: Duration = Duration::from_secs(10);

/// Refuses a URL that could never be delivered to.
pub(crate) fn check_webhook_url(url: &str, policy: &WebhookPolicy) -> Result<()> {
    policy.check(url).map_err(|why| Error::Invalid(format!("webhook: {why}")))
}

/// Who says that it sends them.
const USER_AGENT: &str = concat!("threadyard/", env!("CARGO_PKG_VERSION"));
/// Upstream: the host that the project's own application is asked for.
const OWN_HOST: &str = "api";

/// Sends deliveries.
pub(crate) struct WebhookClient {
    http: reqwest::Client,
    policy: WebhookPolicy,
    /// What all deliveries carry.
    headers: HeaderMap,
    own_app: Option<Arc<dyn OwnApp>>,
    /// How long an exchange may take.
    total: Duration,
}

/// What came of one request.
pub(crate) enum Sent {
    /// The receiver answered.
    Answer(Answer),
    /// It could not be reached or did not answer.
    Failure(&'static str),
    /// Its name leads, for now, to an address that may not be called.
    Blocked,
    /// It may not be called at all.
    Refused,
    /// What is to be sent can't be decrypted now.
    Unreadable,
}

/// What a receiver says of a delivery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// When to try again, in the receiver's own words.
    pub(crate) retry_after: Option<RetryAfter>,
    /// Never again.
    pub(crate) aborts: bool,
}

/// The header `Retry-After`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RetryAfter {
    Wait(Duration),
    /// In seconds since 1970.
    At(u64),
}

impl RetryAfter {
    fn read(text: &str) -> Option<Self> {
        let text = text.trim();
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Some(Self::Wait(Duration::from_secs(text.parse().unwrap_or(u64::MAX))));
        }
        let at = httpdate::parse_http_date(text).ok()?;
        at.duration_since(std::time::UNIX_EPOCH).ok().map(|since| Self::At(since.as_secs()))
    }
}

impl Answer {
    fn of<'a>(status: u16, header: impl Fn(&'static str) -> Option<&'a str>) -> Self {
        Self {
            status,
            retry_after: header("retry-after").and_then(RetryAfter::read),
            aborts: header("webhook-delivery") == Some("abort-message"),
        }
    }

    /// What the project's own application answers.
    fn own(OwnAnswer { status, headers }: &OwnAnswer) -> Self {
        let header = |wanted| headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value);
        Self::of(*status, |wanted| header(wanted).and_then(|value| std::str::from_utf8(value).ok()))
    }

    /// Reads so much of an answer that the connection can be used again, but no more: the status decides.
    async fn read(mut response: reqwest::Response) -> Self {
        let headers = response.headers();
        let answer = Self::of(response.status().as_u16(), |name| headers.get(name).and_then(|it| it.to_str().ok()));
        let mut read = 0;
        while let Ok(Some(chunk)) = response.chunk().await {
            read += chunk.len();
            if read > MAX_ANSWER {
                break;
            }
        }
        answer
    }
}

impl WebhookClient {
    pub(crate) fn new(settings: &Settings, own_app: Option<Arc<dyn OwnApp>>) -> Result<Self> {
        let (policy, pace) = (settings.webhook_policy.clone(), &settings.webhook_pace);
        let builder = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(pace.connect)
            .timeout(pace.total)
            .pool_max_idle_per_host(pace.at_once_to_one as usize)
            .pool_idle_timeout(IDLE)
            .no_proxy()
            .dns_resolver(Arc::new(VettingResolver::new(policy.clone())));
        let http = builder.build().map_err(|error| Error::Internal(format!("no HTTP client: {error}")))?;
        Ok(Self { http, policy, headers: sensitive(&settings.webhook_headers)?, own_app, total: pace.total })
    }

    /// Makes one attempt. What it says about failures never holds the URL, whose query may hold a token.
    pub(crate) async fn send(&self, delivery: &ClaimedDelivery, timestamp: i64, signature: &str) -> Sent {
        if self.policy.check(&delivery.url).is_err() {
            return Sent::Refused;
        }
        let Ok(headers) = self.headers(delivery, timestamp, signature) else { return Sent::Refused };
        if let Some(route) = own_route(&delivery.url) {
            return self.send_own(route, &headers, delivery).await;
        }
        let request = self.http.post(&delivery.url).headers(headers).body(delivery.body.clone());
        match request.send().await {
            Ok(response) => Sent::Answer(Answer::read(response).await),
            Err(error) if error.is_builder() => Sent::Refused,
            Err(error) if is_forbidden(&error) => Sent::Blocked,
            Err(error) if error.is_timeout() => Sent::Failure(TOO_LATE),
            Err(error) if error.is_connect() => Sent::Failure(unconnected(&error)),
            Err(_) => Sent::Failure(BROKEN_OFF),
        }
    }

    fn headers(&self, delivery: &ClaimedDelivery, timestamp: i64, signature: &str) -> Result<HeaderMap> {
        let mut headers = self.headers.clone();
        let text = |value: &str| {
            HeaderValue::from_str(value).map_err(|_| Error::Internal(format!("`{value}` is no value of a header")))
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        headers.insert("webhook-id", text(&delivery.id)?);
        headers.insert("webhook-timestamp", timestamp.into());
        headers.insert("webhook-signature", text(signature)?);
        headers.insert("webhook-attempt", delivery.attempt.into());
        headers.extend(sensitive(&delivery.headers)?);
        Ok(headers)
    }

    /// Has the project's own application take a delivery, on behalf of who made the run.
    async fn send_own(&self, route: String, headers: &HeaderMap, delivery: &ClaimedDelivery) -> Sent {
        let Some(app) = &self.own_app else { return Sent::Failure("this server does not have the application") };
        let headers = own_headers(headers, delivery.body.len());
        let delivery = OwnDelivery { route, headers, body: delivery.body.clone(), maker: delivery.maker.clone() };
        match tokio::time::timeout(self.total, app.take(delivery)).await {
            Ok(Ok(answer)) => Sent::Answer(Answer::own(&answer)),
            Ok(Err(_)) => Sent::Failure(BROKEN_OFF),
            Err(_) => Sent::Failure(TOO_LATE),
        }
    }
}

/// The headers of a delivery to the project's own application, which no client of HTTP completes.
fn own_headers(headers: &HeaderMap, length: usize) -> Vec<(String, Vec<u8>)> {
    let given = headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()));
    let added =
        [("host", OWN_HOST.to_owned()), ("user-agent", USER_AGENT.to_owned()), ("content-length", length.to_string())];
    given.chain(added.map(|(name, value)| (name.to_owned(), value.into_bytes()))).collect()
}

/// Whether the policy refused an address that the name stands for.
pub(crate) fn is_forbidden(error: &reqwest::Error) -> bool {
    causes(error).any(<dyn StdError>::is::<Forbidden>)
}

fn causes<'a>(error: &'a reqwest::Error) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(error.source(), |error: &&'a (dyn StdError + 'static)| (*error).source())
}

/// What kind of error it is that may be wrapped in others, which hide it from `source`.
fn innermost(mut error: &io::Error) -> io::ErrorKind {
    while let Some(inner) = error.get_ref().and_then(|inner| inner.downcast_ref()) {
        error = inner;
    }
    error.kind()
}

/// Why there is no connection.
fn unconnected(error: &reqwest::Error) -> &'static str {
    for cause in causes(error) {
        if cause.is::<Unresolved>() {
            return "the receiver's name can't be resolved";
        }
        match cause.downcast_ref().map(innermost) {
            Some(io::ErrorKind::ConnectionRefused) => return "the receiver refuses connections",
            // What TLS finds wrong comes as that.
            Some(io::ErrorKind::InvalidData) => return "the receiver's certificate or protocol is not to be trusted",
            _ => {}
        }
    }
    "no connection to the receiver"
}

/// Headers that are between whoever chose them and the receiver, never shown by anybody who prints a request.
fn sensitive(headers: &WebhookHeaders) -> Result<HeaderMap> {
    let wrong = |name: &str| Error::Internal(format!("webhooks.headers: `{name}` is no header"));
    let mut map = HeaderMap::new();
    for (name, value) in &headers.0 {
        let mut value = HeaderValue::from_str(value).map_err(|_| wrong(name))?;
        value.set_sensitive(true);
        map.insert(HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong(name))?, value);
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        for (text, expected) in [
            ("0", Some(RetryAfter::Wait(Duration::ZERO))),
            (" 120 ", Some(RetryAfter::Wait(Duration::from_mins(2)))),
            ("99999999999999999999999", Some(RetryAfter::Wait(Duration::from_secs(u64::MAX)))),
            ("Fri, 31 Dec 1999 23:59:59 GMT", Some(RetryAfter::At(946_684_799))),
            ("Friday, 31-Dec-99 23:59:59 GMT", Some(RetryAfter::At(946_684_799))),
            ("-1", None),
            ("1.5", None),
            ("", None),
            ("soon", None),
        ] {
            assert_eq!(RetryAfter::read(text), expected, "{text}");
        }
    }
}
