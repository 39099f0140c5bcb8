//! `/docs`: the OpenAPI document as a page for people. It needs no script and nothing from elsewhere, and browsers are told
//! to allow neither: what the project's own application says of itself is part of the document.

use std::fmt::Write;

use axum::{
    Extension,
    http::header,
    response::{Html, IntoResponse},
};
use serde_json::{Map, Value};

use super::openapi::{Documents, document};

/// Nothing but the page itself, and in no frame of another.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) async fn page(Extension(documents): Extension<Documents>) -> impl IntoResponse {
    let headers = [(header::CONTENT_SECURITY_POLICY, POLICY), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (headers, Html(page_of(&documents.document())))
}

const STYLE: &str = include_str!("docs.css");

fn page_of(document: &Value) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Threadyard API</title>\n<style>\n{STYLE}</style>\n<h1>Threadyard {}</h1>\n<p>{}</p>\n\
         <p>The same as <a href=\"openapi.json\">OpenAPI document</a>. The LangGraph SDKs for Python and JavaScript work unchanged.</p>\n",
        text(&document["info"]["version"]),
        text(&document["info"]["description"]),
    );
    for tag in list(&document["tags"]) {
        let _ = writeln!(page, "<h2>{}</h2>\n<p>{}</p>", text(&tag["name"]), text(&tag["description"]));
        for (path, method, operation) in operations(document).filter(|(_, _, it)| it["tags"][0] == tag["name"]) {
            write_operation(&mut page, path, method, operation);
        }
    }
    page.push_str("<h2>Shapes</h2>\n");
    for (name, schema) in object(&document["components"]["schemas"]) {
        let (name, about) = (escaped(name), text(&schema["description"]));
        let _ = writeln!(page, "<details id=\"{name}\"><summary><b>{name}</b> {about}</summary>");
        write_fields(&mut page, schema);
        page.push_str("</details>\n");
    }
    page.push_str("</html>\n");
    page
}

/// Each operation with its path and method.
fn operations(document: &Value) -> impl Iterator<Item = (&String, &String, &Value)> {
    let of_path = |(path, methods)| object(methods).map(move |(method, operation)| (path, method, operation));
    object(&document["paths"]).flat_map(of_path)
}

fn write_operation(page: &mut String, path: &str, method: &str, operation: &Value) {
    let (method, path) = (escaped(&method.to_uppercase()), escaped(path));
    let _ = writeln!(
        page,
        "<details id=\"{}\"><summary><b class=\"method\">{method}</b> <code>{path}</code> {}</summary>\n<p>{}</p>",
        text(&operation["operationId"]),
        text(&operation["summary"]),
        text(&operation["description"]),
    );
    let parameters = list(&operation["parameters"]);
    if !parameters.is_empty() {
        page.push_str("<h3>Parameters</h3>\n<table>\n");
        for it in parameters {
            let name = format!("{} <small>{}</small>", text(&it["name"]), text(&it["in"]));
            write_row(page, &name, it["required"] == true, &it["schema"], &it["description"]);
        }
        page.push_str("</table>\n");
    }
    let body = &operation["requestBody"]["content"]["application/json"]["schema"];
    if !body.is_null() {
        let _ = writeln!(page, "<h3>Body</h3>\n<p>{}</p>", kind(body));
        write_fields(page, body);
    }
    page.push_str("<h3>Answers</h3>\n<table>\n");
    for (status, answer) in object(&operation["responses"]) {
        let answer = resolved(answer);
        let content = object(&answer["content"]).next();
        let what = match content {
            Some((_, content)) if content["schema"]["$ref"].is_string() || content["schema"]["items"].is_object() => {
                kind(&content["schema"])
            }
            Some((media, _)) => format!("<code>{}</code>", escaped(media)),
            None => String::new(),
        };
        let _ = writeln!(
            page,
            "<tr><td>{}</td><td>{what}</td><td>{}</td></tr>",
            escaped(status),
            text(&answer["description"])
        );
    }
    page.push_str("</table>\n</details>\n");
}

/// The fields of an object, or of each alternative.
fn write_fields(page: &mut String, schema: &Value) {
    for alternative in list(&schema["oneOf"]) {
        write_fields(page, alternative);
    }
    let mut fields = object(&schema["properties"]).peekable();
    if fields.peek().is_none() {
        return;
    }
    page.push_str("<table>\n");
    for (name, field) in fields {
        let required = list(&schema["required"]).iter().any(|it| it == name);
        write_row(page, &escaped(name), required, field, &field["description"]);
    }
    page.push_str("</table>\n");
}

fn write_row(page: &mut String, name: &str, required: bool, schema: &Value, about: &Value) {
    let mark = if required { " <small>required</small>" } else { "" };
    let _ = writeln!(page, "<tr><td>{name}{mark}</td><td>{}</td><td>{}</td></tr>", kind(schema), text(about));
}

/// What a schema takes, in words.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        let name = escaped(name);
        return format!("<a href=\"#{name}\">{name}</a>");
    }
    let any_of = ["anyOf", "oneOf"].into_iter().flat_map(|key| list(&schema[key]));
    let alternatives: Vec<_> = any_of.map(kind).collect();
    if !alternatives.is_empty() {
        return alternatives.join(" or ");
    }
    let values = list(&schema["enum"]);
    if !values.is_empty() {
        return values.iter().map(word).collect::<Vec<_>>().join(" | ");
    }
    let constant = &schema["const"];
    if !constant.is_null() {
        return word(constant);
    }
    match &schema["type"] {
        Value::String(name) if name == "array" => format!("list of {}", kind(&schema["items"])),
        Value::String(name) => named(name, schema),
        Value::Array(names) => {
            let name = |it: &Value| match it.as_str() {
                Some("array") => format!("list of {}", kind(&schema["items"])),
                other => named(other.unwrap_or_default(), schema),
            };
            names.iter().map(name).collect::<Vec<_>>().join(" or ")
        }
        _ => "anything".to_owned(),
    }
}

fn named(name: &str, schema: &Value) -> String {
    match &schema["format"] {
        Value::String(format) if name == "string" => escaped(format),
        _ => escaped(name),
    }
}

fn word(value: &Value) -> String {
    format!("<code>{}</code>", escaped(&value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
}

/// What a reference among the answers leads to.
fn resolved(value: &Value) -> &Value {
    match value["$ref"].as_str().and_then(|path| document().pointer(path.trim_start_matches('#'))) {
        Some(target) => target,
        None => value,
    }
}

fn object(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    escaped(value.as_str().unwrap_or_default())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn whatever_a_document_says_is_text() {
        let evil = "<script>alert(1)</script>\"";
        let page = page_of(&json!({
            "info": { "version": evil, "description": evil },
            "tags": [{ "name": evil, "description": evil }],
            "paths": { evil: { evil: {
                "tags": [evil], "summary": evil, "operationId": evil,
                "parameters": [{ "name": evil, "in": evil, "schema": { "enum": [evil] }, "description": evil }],
                "requestBody": { "content": { "application/json": { "schema": {
                    "properties": { evil: { "type": evil } }, "oneOf": [{ "$ref": format!("#/x/{evil}") }],
                } } } },
                "responses": { evil: { "description": evil, "content": { evil: {} } } },
            } } },
            "components": { "schemas": { evil: { "description": evil } } },
        }));
        assert!(!page.contains("<script") && !page.contains("alert(1)</script>"), "{page}");
        assert!(page.matches("&lt;script&gt;").count() > 12);
    }
}
