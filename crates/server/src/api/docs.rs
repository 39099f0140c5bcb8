//! `/docs`: the routes of this server as a page for people, made from the table of routes.

use std::fmt::Write;

use axum::response::Html;

use super::router::{REFUSED, SERVED};

/// What the routes take and answer is described where their clients' users look.
const REFERENCE: &str = "https://docs.langchain.com/langsmith/server-api-ref";

pub(super) async fn page() -> Html<String> {
    let served = SERVED.iter().fold(String::new(), |mut rows, (method, path)| {
        let _ = writeln!(rows, "<tr><td>{}</td><td><code>{path}</code></td></tr>", method.to_uppercase());
        rows
    });
    let refused = REFUSED.iter().fold(String::new(), |mut items, path| {
        let _ = writeln!(items, "<li><code>{path}</code></li>");
        items
    });
    let version = env!("CARGO_PKG_VERSION");
    Html(format!(
        "<!doctype html>
<html lang=\"en\">
<meta charset=\"utf-8\">
<title>Threadyard API</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 3rem auto; padding: 0 1rem; }}
td {{ padding: .1rem 1rem .1rem 0; }} td:first-child {{ color: #666; }}
</style>
<h1>Threadyard {version}</h1>
<p>This server speaks the LangGraph Server API. Bodies and answers are those of the
<a href=\"{REFERENCE}\">API reference</a>; the LangGraph SDKs for Python and JavaScript work unchanged.</p>
<h2>Served</h2>
<table>
{served}</table>
<h2>Not supported yet</h2>
<p>These answer 501.</p>
<ul>
{refused}</ul>
</html>
"
    ))
}
