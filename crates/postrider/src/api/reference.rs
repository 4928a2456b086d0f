//! `/docs`: the reference, one page rendered from the OpenAPI document. No script, no network, no asset.

use std::fmt::Write as _;

use axum::body::Bytes;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest;
use serde_json::{Map, Value};
use utoipa::openapi::OpenApi;

/// The page and the policy it is served with.
#[derive(Debug)]
pub(super) struct Page {
    pub html: Bytes,
    pub content_security_policy: String,
}

const STYLE: &str = include_str!("reference/style.css");
const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

impl Page {
    pub(super) fn of(document: &OpenApi) -> Page {
        let document = serde_json::to_value(document).expect("an OpenAPI document is plain JSON");
        let hash = STANDARD.encode(digest::digest(&digest::SHA256, STYLE.as_bytes()));
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        );
        Page { html: Writer::new(&document).page().into(), content_security_policy: policy }
    }
}

/// Writes the page; everything from the document is escaped.
struct Writer<'a> {
    document: &'a Value,
    html: String,
}

impl<'a> Writer<'a> {
    fn new(document: &'a Value) -> Writer<'a> {
        Writer { document, html: String::with_capacity(256 * 1024) }
    }

    fn put(&mut self, html: &str) {
        self.html.push_str(html);
    }

    fn page(mut self) -> String {
        let title = text(&self.document["info"]["title"]);
        let version = text(&self.document["info"]["version"]);
        let _ = write!(
            self.html,
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
             content=\"width=device-width, initial-scale=1\"><title>{title} API reference</title><style>{STYLE}</style>\
             </head><body><a class=\"skip\" href=\"#main\">Skip to content</a><header><h1>{title} API \
             <small>{version}</small></h1>"
        );
        let description = markdown(self.document["info"]["description"].as_str().unwrap_or_default());
        let _ = write!(
            self.html,
            "{description}<p>The same as a machine reads it: <a href=\"/openapi.json\">/openapi.json</a></p></header>"
        );
        let tags: Vec<&str> = names(&self.document["tags"]);
        self.contents(&tags);
        self.put("<main id=\"main\">");
        for tag in &tags {
            self.resource(tag);
        }
        self.shapes();
        self.put("</main></body></html>\n");
        self.html
    }

    fn contents(&mut self, tags: &[&str]) {
        self.put("<nav aria-label=\"Contents\"><ul>");
        for tag in tags.iter().chain(&["Shapes"]) {
            let _ = write!(self.html, "<li><a href=\"#{}\">{}</a></li>", anchor(tag), escaped(tag));
        }
        self.put("</ul></nav>");
    }

    fn resource(&mut self, tag: &str) {
        let _ =
            write!(self.html, "<section aria-labelledby=\"{0}\"><h2 id=\"{0}\">{1}</h2>", anchor(tag), escaped(tag));
        for (path, item) in object(&self.document["paths"]) {
            for method in METHODS {
                let operation = &item[method];
                if names_of(&operation["tags"]).any(|name| name == tag) {
                    self.operation(method, path, operation);
                }
            }
        }
        self.put("</section>");
    }

    fn operation(&mut self, method: &str, path: &str, operation: &Value) {
        let id = text(&operation["operationId"]);
        let summary = text(&operation["summary"]);
        let _ = write!(
            self.html,
            "<article id=\"{id}\"><h3><a href=\"#{id}\"><span class=\"method {method}\">{}</span> <code>{}</code></a> \
             <span class=\"summary\">{summary}</span></h3>",
            method.to_ascii_uppercase(),
            escaped(path).replace('/', "/<wbr>")
        );
        self.put(&markdown(operation["description"].as_str().unwrap_or_default()));
        if let Some(parameters) = operation["parameters"].as_array().filter(|all| !all.is_empty()) {
            self.put("<h4>Parameters</h4><dl>");
            for parameter in parameters {
                let place = parameter["in"].as_str().unwrap_or_default();
                let required = parameter["required"].as_bool().unwrap_or_default();
                self.field(
                    parameter["name"].as_str().unwrap_or_default(),
                    &parameter["schema"],
                    required,
                    (place, parameter["description"].as_str().unwrap_or_default()),
                );
            }
            self.put("</dl>");
        }
        let body = &operation["requestBody"]["content"]["application/json"]["schema"];
        if !body.is_null() {
            let optional = if operation["requestBody"]["required"] == true { "" } else { " (optional)" };
            let _ = write!(self.html, "<h4>Body{optional}</h4><p>{}</p>", kind(body));
            self.fields(resolved(self.document, body));
        }
        self.replies(&operation["responses"]);
        self.put("</article>");
    }

    /// What a call gives in full; its errors, which most calls share, folded up.
    fn replies(&mut self, responses: &Value) {
        let (errors, successes): (Vec<_>, Vec<_>) =
            object(responses).partition(|(status, _)| status.starts_with(['4', '5']));
        self.put("<h4>Replies</h4><dl>");
        successes.iter().for_each(|(status, response)| self.reply(status, response));
        let statuses: Vec<_> = errors.iter().map(|(status, _)| escaped(status)).collect();
        let _ = write!(
            self.html,
            "</dl><details><summary>Errors <code>{}</code></summary><dl>",
            statuses.join("</code> <code>")
        );
        errors.iter().for_each(|(status, response)| self.reply(status, response));
        self.put("</dl></details>");
    }

    fn reply(&mut self, status: &str, response: &Value) {
        let _ = write!(self.html, "<dt><code>{}</code>", escaped(status));
        match object(&response["content"]).next() {
            Some((media_type, content)) if media_type == "application/json" => {
                let _ = write!(self.html, " {}", kind(&content["schema"]));
            }
            Some((media_type, _)) => {
                let _ = write!(self.html, " {}", escaped(media_type));
            }
            None => {}
        }
        let description = markdown(response["description"].as_str().unwrap_or_default());
        let _ = write!(self.html, "</dt><dd>{description}</dd>");
    }

    fn shapes(&mut self) {
        self.put("<section aria-labelledby=\"shapes\"><h2 id=\"shapes\">Shapes</h2>");
        for (name, schema) in object(&self.document["components"]["schemas"]) {
            let _ =
                write!(self.html, "<article id=\"shape-{0}\"><h3><a href=\"#shape-{0}\">{0}</a></h3>", escaped(name));
            self.shape(schema);
            self.put("</article>");
        }
        self.put("</section>");
    }

    fn shape(&mut self, schema: &Value) {
        self.put(&markdown(schema["description"].as_str().unwrap_or_default()));
        for (keyword, says) in [("oneOf", "One of"), ("anyOf", "Any of")] {
            if let Some(choices) = schema[keyword].as_array() {
                let choices: Vec<_> = choices.iter().map(kind).collect();
                let _ = write!(self.html, "<p>{says}: {}</p>", choices.join(" or "));
            }
        }
        if let Some(values) = schema["enum"].as_array() {
            let values: Vec<_> = values.iter().map(|value| format!("<code>{}</code>", text(value))).collect();
            let _ = write!(self.html, "<p>{}</p>", values.join(" "));
        }
        for part in schema["allOf"].as_array().into_iter().flatten() {
            if part["$ref"].is_string() {
                let _ = write!(self.html, "<p>All of {}, and:</p>", kind(part));
            }
            self.fields(part);
        }
        self.fields(schema);
    }

    fn fields(&mut self, schema: &Value) {
        let required: Vec<&str> = names_of(&schema["required"]).collect();
        if object(&schema["properties"]).next().is_none() {
            return;
        }
        self.put("<dl>");
        for (name, field) in object(&schema["properties"]) {
            let description = field["description"].as_str().unwrap_or_default();
            self.field(name, field, required.contains(&name.as_str()), ("", description));
        }
        self.put("</dl>");
    }

    /// `place` is where a parameter stands, if it is one.
    fn field(&mut self, name: &str, schema: &Value, required: bool, (place, description): (&str, &str)) {
        let required = if required { " <strong>required</strong>" } else { "" };
        let place = if place.is_empty() { String::new() } else { format!(" <em>{}</em>", escaped(place)) };
        let _ = write!(self.html, "<dt><code>{}</code> {}{place}{required}</dt>", escaped(name), kind(schema));
        let _ = write!(self.html, "<dd>{}{}</dd>", markdown(description), bounds(schema));
    }
}

fn object(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

/// What a schema refers to, or itself.
fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#')) {
        Some(place) => document.pointer(place).unwrap_or(schema),
        None => schema,
    }
}

fn names_of(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn names(tags: &Value) -> Vec<&str> {
    tags.as_array().into_iter().flatten().filter_map(|tag| tag["name"].as_str()).collect()
}

fn anchor(title: &str) -> String {
    title.to_ascii_lowercase().replace(' ', "-")
}

fn text(value: &Value) -> String {
    escaped(value.as_str().unwrap_or_default())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// What kind of value a schema describes, in a few words.
fn kind(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = escaped(reference.rsplit('/').next().unwrap_or_default());
        return format!("<a href=\"#shape-{name}\">{name}</a>");
    }
    for keyword in ["oneOf", "anyOf"] {
        if let Some(choices) = schema[keyword].as_array() {
            return choices.iter().map(kind).collect::<Vec<_>>().join(" or ");
        }
    }
    let types: Vec<&str> = schema["type"].as_str().into_iter().chain(names_of(&schema["type"])).collect();
    match types[..] {
        [] => "any JSON".to_owned(),
        ["array"] => format!("list of {}", kind(&schema["items"])),
        ["object"] if schema["properties"]["next_cursor"].is_object() => {
            format!("a page of {}", kind(&schema["properties"]["items"]["items"]))
        }
        ["array", "null"] | ["null", "array"] => format!("list of {} or null", kind(&schema["items"])),
        _ if schema["format"] == "date-time" => types.join(" or ").replace("string", "time"),
        _ => types.join(" or "),
    }
}

fn bounds(schema: &Value) -> String {
    let ranges =
        [("minimum", "maximum", ""), ("minLength", "maxLength", " characters"), ("minItems", "maxItems", " items")];
    let mut said = Vec::new();
    for (least, most, unit) in ranges {
        match (&schema[least], &schema[most]) {
            (Value::Null, Value::Null) => {}
            (least, Value::Null) => said.push(format!("at least {least}{unit}")),
            (Value::Null, most) => said.push(format!("at most {most}{unit}")),
            (least, most) => said.push(format!("{least} to {most}{unit}")),
        }
    }
    match &schema["example"] {
        Value::Null => {}
        example => {
            said.push(format!("such as <code>{}</code>", escaped(example.as_str().unwrap_or(&example.to_string()))));
        }
    }
    if said.is_empty() { String::new() } else { format!("<p class=\"bounds\">{}</p>", said.join(", ")) }
}

/// The little Markdown that our own texts use: paragraphs, lists and code.
fn markdown(text: &str) -> String {
    let mut html = String::new();
    for block in text.split("\n\n").filter(|block| !block.trim().is_empty()) {
        let (open, close) = if block.starts_with("- ") { ("<ul>", "</ul>") } else { ("<p>", "</p>") };
        html.push_str(open);
        for line in block.lines() {
            match line.strip_prefix("- ") {
                Some(item) => {
                    let _ = write!(html, "<li>{}</li>", inline(item));
                }
                None => {
                    let _ = write!(html, "{} ", inline(line));
                }
            }
        }
        html.push_str(close);
    }
    html
}

fn inline(text: &str) -> String {
    let parts = escaped(text);
    let mut html = String::new();
    for (at, part) in parts.split('`').enumerate() {
        let _ = if at % 2 == 1 { write!(html, "<code>{part}</code>") } else { write!(html, "{part}") };
    }
    html
}
