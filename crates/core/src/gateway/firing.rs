//! What a firing of one webhook comes to: its request, and the keys that tell repeats and count against the cap.

use ring::digest;
use serde_json::Value;
use url::Url;

use super::template::{
    BodyTemplate, Column, Context, Found, HeaderTemplate, Lookup, Occasion, RenderError, Template, UrlTemplate, Values,
    wanted,
};
use super::webhook::{Cap, GatewaySpec, HttpMethod, LookupKey};
use crate::webhook::InvalidField;

/// The templates of a gateway webhook, parsed once for all its firings.
#[derive(Clone, Debug)]
pub struct Templates {
    number: i64,
    method: HttpMethod,
    url: UrlTemplate,
    /// By names in lower case.
    headers: Vec<(String, HeaderTemplate)>,
    body: Option<BodyTemplate>,
    state_key: Option<Template>,
    idempotency: Option<Template>,
    lookup_keys: std::collections::BTreeMap<String, LookupKey>,
    cap: Option<Cap>,
}

/// The request of a firing, without what signs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    pub method: HttpMethod,
    pub url: Url,
    /// Names in lower case, each once; values without control characters.
    pub headers: Vec<(String, String)>,
    /// Empty: there is none.
    pub body: Vec<u8>,
}

const CONTENT_TYPE: &str = "content-type";

impl Templates {
    /// # Errors
    /// The first field that is no template.
    pub fn of(spec: &GatewaySpec) -> Result<Templates, InvalidField> {
        let url = UrlTemplate::parse(&spec.url_template).map_err(|error| InvalidField::new("url_template", error.0))?;
        let mut headers = Vec::with_capacity(spec.headers_templates.len());
        for (name, text) in &spec.headers_templates {
            let template = HeaderTemplate::parse(text)
                .map_err(|error| InvalidField::new(format!("headers_templates.{name}"), error.0))?;
            headers.push((name.to_ascii_lowercase(), template));
        }
        // One that is made from values says nothing about the body beforehand.
        let declared = spec.headers_templates.iter().find(|(name, _)| name.eq_ignore_ascii_case(CONTENT_TYPE));
        let content_type = declared.map(|(_, text)| text.as_str()).filter(|text| !text.contains("{{"));
        let body = spec.body_template.as_deref().map(|text| BodyTemplate::parse(text, content_type));
        let body = body.transpose().map_err(|error| InvalidField::new("body_template", error.0))?;
        Ok(Templates {
            number: spec.number,
            method: spec.http_method,
            url,
            headers,
            body,
            state_key: key_template("state_key_template", spec.state_key_template.as_deref())?,
            idempotency: key_template("idempotency_template", spec.idempotency_template.as_deref())?,
            lookup_keys: spec.lookup_keys.clone(),
            cap: spec.cap(),
        })
    }

    pub fn origin(&self) -> &Url {
        self.url.origin()
    }

    pub fn cap(&self) -> Option<Cap> {
        self.cap
    }

    fn columns(&self) -> impl Iterator<Item = &Column> {
        let headers = self.headers.iter().map(|(_, header)| header.template());
        let body = self.body.as_ref().map(BodyTemplate::template);
        std::iter::once(self.url.tail()).chain(headers).chain(body).flat_map(Template::columns)
    }

    /// What has to be looked up before a request can be made.
    pub fn lookups(&self, context: &Value) -> Vec<Lookup> {
        wanted(self.columns(), &self.lookup_keys, context)
    }

    /// Where the request of the firing with this context goes, if that does not take a look-up to know.
    pub fn resolved_url(&self, context: &Value) -> Option<Url> {
        let is_known = self.url.tail().columns().next().is_none();
        let url = is_known.then(|| self.url.render(Values { context, found: &Found::default() }))?;
        url.ok()
    }

    /// The request of the firing with this context. Without a template of its own, its body is the context.
    ///
    /// # Errors
    /// A value would make it what it must not be, or too long.
    pub fn request(&self, context_json: &str, context: &Value, found: &Found) -> Result<Made, RenderError> {
        let values = Values { context, found };
        let url = self.url.render(values)?;
        let mut headers = Vec::with_capacity(self.headers.len() + 1);
        for (name, template) in &self.headers {
            headers.push((name.clone(), template.render(values)?));
        }
        let (body, content_type) = match &self.body {
            Some(template) => (template.render(values)?.into_bytes(), Some(template.content_type())),
            None if self.method.carries_context() => (context_json.as_bytes().to_vec(), Some("application/json")),
            None => (Vec::new(), None),
        };
        if let Some(content_type) = content_type
            && !headers.iter().any(|(name, _)| name == CONTENT_TYPE)
        {
            headers.push((CONTENT_TYPE.to_owned(), content_type.to_owned()));
        }
        Ok(Made { method: self.method, url, headers, body })
    }

    /// What the cap counts together, hashed.
    pub fn state_key(&self, context: &Value) -> [u8; 32] {
        sha256(self.key(self.state_key.as_ref(), context).unwrap_or_default().as_bytes())
    }

    /// Tells repeats: 64 hexadecimal digits.
    ///
    /// A template that comes to nothing tells nothing, so the firing is then known by its operation.
    pub fn idempotency_key(&self, occasion: &Occasion<'_>, context: &Value) -> String {
        let own = self.key(self.idempotency.as_ref(), context).filter(|text| !text.trim().is_empty());
        let text = own.unwrap_or_else(|| {
            let content = Value::from(vec![
                context.get("payload").cloned().unwrap_or_default(),
                context.get("response").cloned().unwrap_or_default(),
            ]);
            let fingerprint = hex::encode(sha256(content.to_string().as_bytes()));
            let (request, table) = (occasion.request_id.unwrap_or_default(), occasion.table.unwrap_or_default());
            format!("{}|{request}|{}|{table}|{fingerprint}", self.number, occasion.route_key)
        });
        hex::encode(sha256(text.as_bytes()))
    }

    fn key(&self, template: Option<&Template>, context: &Value) -> Option<String> {
        template.map(|template| template.text(Values { context, found: &Found::default() }))
    }
}

/// The template of a key. Keys are made while the operation's caller waits, and must not depend on when.
fn key_template(field: &str, text: Option<&str>) -> Result<Option<Template>, InvalidField> {
    let Some(text) = text else { return Ok(None) };
    let template = Template::parse(text).map_err(|error| InvalidField::new(field, error.0))?;
    if template.columns().next().is_some() {
        return Err(InvalidField::new(field, "must not have ATHENA placeholders"));
    }
    Ok(Some(template))
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest::digest(&digest::SHA256, bytes).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// A firing of one webhook, ready to be committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fired {
    /// The context as JSON: the data of the event that it becomes.
    pub data: String,
    /// Tells repeats; see [`Templates::idempotency_key`].
    pub idempotency_key: String,
}

impl Fired {
    /// # Errors
    /// The webhook's templates are none, which nobody can have kept.
    pub fn of(spec: &GatewaySpec, occasion: &Occasion<'_>) -> Result<Fired, InvalidField> {
        let templates = Templates::of(spec)?;
        let data = Context::of(occasion, spec.include_request_body_in_context).to_json();
        let context: Value = serde_json::from_str(&data).unwrap_or_default();
        let idempotency_key = templates.idempotency_key(occasion, &context);
        Ok(Fired { data, idempotency_key })
    }
}

#[cfg(test)]
mod tests;
