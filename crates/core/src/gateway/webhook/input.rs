//! What a caller asks a gateway webhook to be.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{GatewaySpec, HttpMethod, KeySource, LookupKey};
use crate::dialect::Dialect;
use crate::limits;
use crate::signing::Secret;
use crate::subscription::Subscriptions;
use crate::webhook::{InvalidField, Ordering, RetryPolicy, WebhookSpec};

/// The fields of a request to create or change a gateway webhook, `None` where they are omitted or null. An optional text
/// that is empty is one that the webhook shall not have.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GatewayInput {
    pub client_name: Option<String>,
    pub name: Option<String>,
    pub description: Option<String>,
    /// Not checked; an empty one takes the secret away.
    pub secret: Option<Secret>,
    pub route_key: Option<String>,
    pub table_name: Option<String>,
    pub http_method: Option<HttpMethod>,
    pub url_template: Option<String>,
    pub headers_templates: Option<BTreeMap<String, String>>,
    pub body_template: Option<String>,
    /// Clamped already.
    pub timeout_ms: Option<u32>,
    pub include_request_body_in_context: Option<bool>,
    pub lookup_keys: Option<BTreeMap<String, LookupKey>>,
    pub slug: Option<String>,
    pub state_key_template: Option<String>,
    pub state_cap_max_fires: Option<u32>,
    pub state_cap_window_seconds: Option<u32>,
    pub idempotency_template: Option<String>,
    pub max_attempts: Option<u32>,
    pub enabled: Option<bool>,
}

type Read<T> = Result<Option<T>, InvalidField>;

impl GatewayInput {
    /// Reads a request's body. Fields that are not known are passed over, so that a record can be sent back as it was
    /// shown.
    ///
    /// # Errors
    /// The first field that has the wrong type, or a value that no webhook can have.
    pub fn parse(body: &Value) -> Result<GatewayInput, InvalidField> {
        let Value::Object(plain) = body else { return Err(InvalidField::new("body", "must be an object")) };
        let fields = Fields::of(plain)?;
        Ok(GatewayInput {
            client_name: fields.text("client_name")?,
            name: fields.text("name")?,
            description: fields.text("description")?,
            secret: fields.text("secret")?.map(Secret::new),
            route_key: fields.text("route_key")?,
            table_name: fields.text("table_name")?,
            http_method: fields.method("http_method")?,
            url_template: fields.text("url_template")?,
            headers_templates: fields.texts("headers_templates")?,
            body_template: fields.text("body_template")?,
            timeout_ms: fields.timeout("timeout_ms")?,
            include_request_body_in_context: fields.flag("include_request_body_in_context")?,
            lookup_keys: fields.lookup_keys("lookup_keys")?,
            slug: fields.text("slug")?,
            state_key_template: fields.text("state_key_template")?,
            state_cap_max_fires: fields.positive("state_cap_max_fires")?,
            state_cap_window_seconds: fields.positive("state_cap_window_seconds")?,
            idempotency_template: fields.text("idempotency_template")?,
            max_attempts: fields.positive("max_attempts")?,
            enabled: fields.flag("enabled")?,
        })
    }

    /// The webhook asked for, as the contract's number `number`.
    ///
    /// # Errors
    /// A field that is missing or wrong.
    pub fn create(&self, number: i64) -> Result<WebhookSpec, InvalidField> {
        let needed = |field: &str, value: &Option<String>| match value {
            Some(text) if !text.trim().is_empty() => Ok(text.trim().to_owned()),
            _ => Err(InvalidField::new(field, "is required")),
        };
        needed("name", &self.name)?;
        let gateway = GatewaySpec {
            number,
            route_key: needed("route_key", &self.route_key)?,
            table_name: None,
            http_method: self.http_method.ok_or_else(|| InvalidField::new("http_method", "is required"))?,
            url_template: needed("url_template", &self.url_template)?,
            headers_templates: BTreeMap::new(),
            body_template: None,
            timeout_ms: limits::GATEWAY_TIMEOUT_MS_DEFAULT,
            include_request_body_in_context: true,
            lookup_keys: BTreeMap::new(),
            slug: None,
            state_key_template: None,
            state_cap_max_fires: None,
            state_cap_window_seconds: None,
            idempotency_template: None,
            max_attempts: 1,
            enabled: true,
        };
        self.change(&blank(gateway))
    }

    /// `webhook` with the fields that are given; it must be a gateway webhook.
    ///
    /// # Errors
    /// A field that is wrong.
    pub fn change(&self, webhook: &WebhookSpec) -> Result<WebhookSpec, InvalidField> {
        let mut spec = webhook.clone();
        let no_gateway = || InvalidField::new("id", "is not one of a gateway webhook");
        let mut gateway = spec.gateway.take().ok_or_else(no_gateway)?;
        if let Some(name) = &self.name {
            spec.name = Some(name.trim().to_owned());
        }
        set_text(&mut spec.description, self.description.as_deref());
        self.apply(&mut gateway);
        spec.dialect = Dialect::Athena;
        spec.url = gateway.origin()?.into();
        spec.events = Subscriptions(vec![gateway.route_key.clone()]);
        spec.timeout_ms = Some(gateway.timeout_ms);
        spec.retry = Some(RetryPolicy::MaxAttempts { max_attempts: gateway.max_attempts });
        // First, for it names the fields as this contract does.
        gateway.check()?;
        spec.gateway = Some(gateway);
        spec.check()?;
        Ok(spec)
    }

    fn apply(&self, gateway: &mut GatewaySpec) {
        set(&mut gateway.route_key, self.route_key.as_deref().map(|key| key.trim().to_owned()));
        set_text(&mut gateway.table_name, self.table_name.as_deref().map(str::trim));
        set(&mut gateway.http_method, self.http_method);
        set(&mut gateway.url_template, self.url_template.as_deref().map(|url| url.trim().to_owned()));
        set(&mut gateway.headers_templates, self.headers_templates.clone());
        set_text(&mut gateway.body_template, self.body_template.as_deref());
        set(&mut gateway.timeout_ms, self.timeout_ms);
        set(&mut gateway.include_request_body_in_context, self.include_request_body_in_context);
        set(&mut gateway.lookup_keys, self.lookup_keys.clone());
        set_text(&mut gateway.slug, self.slug.as_deref().map(str::trim));
        set_text(&mut gateway.state_key_template, self.state_key_template.as_deref());
        gateway.state_cap_max_fires = self.state_cap_max_fires.or(gateway.state_cap_max_fires);
        gateway.state_cap_window_seconds = self.state_cap_window_seconds.or(gateway.state_cap_window_seconds);
        set_text(&mut gateway.idempotency_template, self.idempotency_template.as_deref());
        set(&mut gateway.max_attempts, self.max_attempts);
        set(&mut gateway.enabled, self.enabled);
    }
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

fn set_text(field: &mut Option<String>, text: Option<&str>) {
    if let Some(text) = text {
        *field = Some(text.to_owned()).filter(|text| !text.is_empty());
    }
}

/// The webhook around a gateway's part, before anything is said about it.
fn blank(gateway: GatewaySpec) -> WebhookSpec {
    WebhookSpec {
        name: None,
        url: String::new(),
        receiver: None,
        gateway: Some(gateway),
        events: Subscriptions::default(),
        description: None,
        dialect: Dialect::Athena,
        headers: BTreeMap::new(),
        timeout_ms: None,
        retry: None,
        rate_limit: None,
        concurrency: None,
        ordering: Ordering::default(),
        filter: None,
        metadata: BTreeMap::new(),
    }
}

/// A request's fields; some may stand in `resilience_policy` instead.
struct Fields<'a> {
    plain: &'a Map<String, Value>,
    nested: Option<&'a Map<String, Value>>,
}

/// What may be nested, as it is named there in the other spelling.
const NESTED: [(&str, &str); 5] = [
    ("state_key_template", "stateKeyTemplate"),
    ("state_cap_max_fires", "stateCapMaxFires"),
    ("state_cap_window_seconds", "stateCapWindowSeconds"),
    ("idempotency_template", "idempotencyTemplate"),
    ("max_attempts", "maxAttempts"),
];

impl<'a> Fields<'a> {
    fn of(plain: &'a Map<String, Value>) -> Result<Fields<'a>, InvalidField> {
        let nested = match plain.get("resilience_policy").or_else(|| plain.get("resiliencePolicy")) {
            None | Some(Value::Null) => None,
            Some(Value::Object(nested)) => Some(nested),
            Some(_) => return Err(InvalidField::new("resilience_policy", "must be an object")),
        };
        Ok(Fields { plain, nested })
    }

    /// The value of a field that is given; the plain one before the nested one.
    fn get(&self, field: &str) -> Option<&'a Value> {
        let given = |value: &&Value| !value.is_null();
        let plain = self.plain.get(field).filter(given);
        plain.or_else(|| {
            let (snake, camel) = NESTED.iter().find(|(snake, _)| *snake == field)?;
            let nested = self.nested?;
            nested.get(*snake).filter(given).or_else(|| nested.get(*camel).filter(given))
        })
    }

    fn text(&self, field: &str) -> Read<String> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(InvalidField::new(field, "must be a string")),
        }
    }

    fn flag(&self, field: &str) -> Read<bool> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(InvalidField::new(field, "must be true or false")),
        }
    }

    fn method(&self, field: &str) -> Read<HttpMethod> {
        let Some(text) = self.text(field)? else { return Ok(None) };
        let method = text.trim().parse::<HttpMethod>();
        method.map(Some).map_err(|error| InvalidField::new(field, error.to_string()))
    }

    /// Milliseconds, moved into the bounds.
    fn timeout(&self, field: &str) -> Read<u32> {
        let (least, most) = (limits::GATEWAY_TIMEOUT_MS_MIN, limits::GATEWAY_TIMEOUT_MS_MAX);
        match self.get(field) {
            None => Ok(None),
            Some(Value::Number(ms)) if ms.is_i64() || ms.is_u64() => {
                let ms = ms.as_i64().unwrap_or(i64::MAX).clamp(least.into(), most.into());
                Ok(Some(u32::try_from(ms).unwrap_or(most)))
            }
            Some(_) => Err(InvalidField::new(field, "must be a whole number")),
        }
    }

    fn positive(&self, field: &str) -> Read<u32> {
        match self.get(field) {
            None => Ok(None),
            Some(value) => match value.as_u64().and_then(|number| u32::try_from(number).ok()) {
                Some(number) if number > 0 => Ok(Some(number)),
                _ => Err(InvalidField::new(field, "must be a whole number greater than 0")),
            },
        }
    }

    fn object(&self, field: &str) -> Read<&'a Map<String, Value>> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(object)),
            Some(_) => Err(InvalidField::new(field, "must be an object")),
        }
    }

    fn texts(&self, field: &str) -> Read<BTreeMap<String, String>> {
        let Some(object) = self.object(field)? else { return Ok(None) };
        let entries = object.iter().map(|(name, value)| match value {
            Value::String(text) => Ok((name.clone(), text.clone())),
            _ => Err(InvalidField::new(field, "must have strings only")),
        });
        entries.collect::<Result<_, _>>().map(Some)
    }

    fn lookup_keys(&self, field: &str) -> Read<BTreeMap<String, LookupKey>> {
        let Some(object) = self.object(field)? else { return Ok(None) };
        let entries = object.iter().map(|(place, value)| {
            let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::trim);
            let source = text("key_source").and_then(|source| source.parse::<KeySource>().ok());
            let key_source = source.ok_or_else(|| {
                InvalidField::new(field, format!("need a key_source each, which {}", super::InvalidKeySource))
            })?;
            let key_column = text("key_column").unwrap_or("id").to_owned();
            Ok((place.trim().to_owned(), LookupKey { key_column, key_source }))
        });
        entries.collect::<Result<_, _>>().map(Some)
    }
}
