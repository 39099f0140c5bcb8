//! `/ui`: bundles of the project's components. `LoadExternalComponent` of the JavaScript SDK asks for a piece of HTML that
//! brings one of them into the page.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{FromRequestParts, Path},
    http::{HeaderMap, StatusCode, header, request::Parts, uri::Authority},
    response::{IntoResponse, Response},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use threadyard_runtime::UiBundles;
use url::Url;

use super::{
    custom_app::Peer,
    edge::Mount,
    error::ApiError,
    extract::{Body, invalid},
};

/// The bundles that are served, if any are.
#[derive(Clone)]
pub(super) struct Bundles(pub(super) Option<Arc<UiBundles>>);

/// Where a page finds this server: the address that it asked, without its scheme where that is the page's own.
pub(super) struct Place(String);

/// Which component is asked for.
#[derive(Deserialize)]
pub(super) struct Wanted {
    name: String,
}

/// What stands for itself in a part of a path.
const PLAIN: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The client puts the id of the element there in which the component is to be shown.
const SHADOW_ROOT: &str = "{{shadowRootId}}";
/// A page asks again each time, and is told whether it has the newest.
const CACHE: &str = "no-cache";

impl<S: Send + Sync> FromRequestParts<S> for Place {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let said = parts.headers.get(header::HOST).map(|host| host.to_str().unwrap_or_default());
        let host = said.or_else(|| parts.uri.authority().map(Authority::as_str)).unwrap_or_default();
        if !is_host(host) {
            return Err(invalid("the header `Host` names no host such as example.com:8000"));
        }
        let is_secure = parts.extensions.get::<Peer>().is_some_and(|peer| peer.secure);
        let is_local = ["localhost", "127.0.0.1"]
            .iter()
            .any(|name| host.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(':')));
        // Upstream: a page of a secure site may use a server on its own machine.
        let scheme = if is_secure {
            "https:"
        } else if is_local {
            "http:"
        } else {
            ""
        };
        let prefix = parts.extensions.get::<Mount>().map_or("", |Mount(prefix)| prefix);
        Ok(Self(format!("{scheme}//{host}{prefix}")))
    }
}

/// Whether a text is a host with or without a port, and nothing that could mean more in a page.
fn is_host(text: &str) -> bool {
    let is_plain = |it: u8| it.is_ascii_alphanumeric() || b"-._:[]".contains(&it);
    text.bytes().all(is_plain) && Url::parse(&format!("http://{text}/")).is_ok()
}

/// The HTML that brings a component into a page.
pub(super) async fn component(
    Extension(Bundles(bundles)): Extension<Bundles>,
    Path(ui): Path<String>,
    Place(place): Place,
    Body(Wanted { name }): Body<Wanted>,
) -> Response {
    let bundle = bundles.and_then(|bundles| bundles.bundle(&ui)).filter(|bundle| !bundle.files.is_empty());
    let Some(bundle) = bundle else {
        return (StatusCode::NOT_FOUND, nosniff(), format!("UI not found for agent \"{ui}\"")).into_response();
    };
    let names: Vec<_> = bundle.files.iter().map(|file| file.name.as_str()).collect();
    // Upstream: a piece of a page is plain text, which no browser shows as a page.
    (nosniff(), html(&format!("{place}/ui"), &ui, &names, &name)).into_response()
}

/// A file of a bundle.
pub(super) async fn file(
    Extension(Bundles(bundles)): Extension<Bundles>,
    Path((ui, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let bundle = bundles.and_then(|bundles| bundles.bundle(&ui));
    let Some(file) = bundle.as_ref().and_then(|bundle| bundle.files.iter().find(|file| file.name == name)) else {
        return (StatusCode::NOT_FOUND, nosniff(), "File not found").into_response();
    };
    let tag = format!("\"{}\"", file.digest);
    let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|it| it.to_str().ok());
    let is_known = known.flat_map(|it| it.split(',')).any(|it| it.trim().trim_start_matches("W/") == tag);
    let cached = [(header::CACHE_CONTROL, CACHE.to_owned()), (header::ETAG, tag)];
    if is_known {
        return (StatusCode::NOT_MODIFIED, cached).into_response();
    }
    (cached, nosniff(), [(header::CONTENT_TYPE, media(&name))], file.contents.clone()).into_response()
}

fn html(place: &str, ui: &str, files: &[&str], component: &str) -> String {
    let ending = |wanted: &'static str| files.iter().filter(move |name| extension(name) == wanted);
    let url = |file: &str| {
        let [ui, file] = [ui, file].map(|part| utf8_percent_encode(part, &PLAIN).to_string());
        escaped(&format!("{place}/{ui}/{file}"))
    };
    let mut lines: Vec<_> =
        ending("css").map(|file| format!("<link rel=\"stylesheet\" href=\"{}\" />", url(file))).collect();
    if let Some(file) = ending("js").next() {
        // A name with the mark in it must not be taken for the place of the id.
        let component = serde_json::json!(component).to_string().replace('{', "\\u007b");
        let call = format!("__LGUI_{}.render({component}, \"{SHADOW_ROOT}\")", variable(ui));
        let call = call.replace('&', "&amp;").replace('\'', "&#39;");
        lines.push(format!("<script src=\"{}\" onload='{call}'></script>", url(file)));
    }
    lines.join("\n")
}

/// The name of a bundle as part of the variable that the bundler puts it into.
fn variable(ui: &str) -> String {
    let letters = ui.encode_utf16().map(|unit| u8::try_from(unit).ok().filter(u8::is_ascii_alphanumeric));
    letters.map(|letter| letter.map_or('_', char::from)).collect()
}

fn extension(name: &str) -> &str {
    name.rsplit_once('.').map_or("", |(_, extension)| extension)
}

fn media(name: &str) -> &'static str {
    match extension(name) {
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        _ => "text/plain; charset=utf-8",
    }
}

fn nosniff() -> [(header::HeaderName, &'static str); 1] {
    [(header::X_CONTENT_TYPE_OPTIONS, "nosniff")]
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn place(host: &str, secure: bool) -> Option<String> {
        let mut parts = axum::http::Request::builder().header(header::HOST, host).body(()).unwrap().into_parts().0;
        parts.extensions.insert(Mount("/api".into()));
        parts.extensions.insert(Peer { address: ([127, 0, 0, 1], 1).into(), secure });
        Place::from_request_parts(&mut parts, &()).await.ok().map(|Place(place)| place)
    }

    #[tokio::test]
    async fn a_page_finds_the_server_where_it_asked_it() {
        for (host, secure, found) in [
            ("localhost:2024", false, "http://localhost:2024/api"),
            ("127.0.0.1", false, "http://127.0.0.1/api"),
            ("localhost.example.com", false, "//localhost.example.com/api"),
            ("app.example.com", false, "//app.example.com/api"),
            ("app.example.com", true, "https://app.example.com/api"),
            ("[::1]:2024", false, "//[::1]:2024/api"),
        ] {
            assert_eq!(place(host, secure).await.as_deref(), Some(found), "{host} {secure}");
        }
    }

    #[tokio::test]
    async fn a_host_is_no_more_than_that() {
        for host in
            ["", "a\"><script>", "a'b", "a b", "evil.example/x", "user@evil.example", "a?b", "a#b", "a&b", "a:b:c"]
        {
            assert_eq!(place(host, false).await, None, "{host}");
        }
    }

    #[test]
    fn the_html_is_that_of_the_official_server() {
        let files = ["entrypoint.css", "entrypoint.js"];
        let plain = "<link rel=\"stylesheet\" href=\"http://localhost/ui/agent/entrypoint.css\" />\n\
            <script src=\"http://localhost/ui/agent/entrypoint.js\" onload='__LGUI_agent.render(\"weather\", \"{{shadowRootId}}\")'></script>";
        assert_eq!(html("http://localhost/ui", "agent", &files, "weather"), plain);
        let other = html("http://localhost/ui", "my-other.ui", &files[1..], "weather");
        assert!(
            other.starts_with(
                "<script src=\"http://localhost/ui/my-other.ui/entrypoint.js\" onload='__LGUI_my_other_ui."
            )
        );
    }

    #[test]
    fn names_stay_within_their_quotes() {
        let made = html("//a/ui", "it's <b>\"&😀", &["entrypoint.js"], "'</script><script>\\\" &amp; {{shadowRootId}}");
        let src = "<script src=\"//a/ui/it%27s%20%3Cb%3E%22%26%F0%9F%98%80/entrypoint.js\" ";
        let call = "onload='__LGUI_it_s__b_____.render(\"&#39;</script><script>\\\\\\\" &amp;amp; \\u007b\\u007bshadowRootId}}\", \
            \"{{shadowRootId}}\")'></script>";
        assert_eq!(made, format!("{src}{call}"));
    }
}
