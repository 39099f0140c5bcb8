//! What a delivery has besides what all of them have, as it is kept with it: headers, and who made its run.

use threadyard_core::{access::User, webhook_policy::WebhookHeaders};

/// What is kept; nothing where there is none.
pub(crate) fn kept(headers: &WebhookHeaders) -> Result<Option<String>, serde_json::Error> {
    (!headers.0.is_empty()).then(|| serde_json::to_string(&headers.0)).transpose()
}

/// The headers again.
pub(crate) fn whole(kept: Option<&str>) -> Result<WebhookHeaders, serde_json::Error> {
    kept.map_or_else(|| Ok(WebhookHeaders::default()), |kept| serde_json::from_str(kept).map(WebhookHeaders))
}

/// Who made the run, as that is kept; nothing where nobody is to know.
pub(crate) fn kept_maker(maker: Option<&User>) -> Result<Option<String>, serde_json::Error> {
    maker.map(serde_json::to_string).transpose()
}

/// Who made the run.
pub(crate) fn whole_maker(kept: Option<&str>) -> Result<Option<User>, serde_json::Error> {
    kept.map(serde_json::from_str).transpose()
}
