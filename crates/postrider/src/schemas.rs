//! OpenAPI schemas of the closed sets that `postrider-core` and the store define: the names they have on the wire.
//!
//! These types are never made; they only describe. A test holds them to the real ones.

use utoipa::ToSchema;

macro_rules! names {
    ($($(#[doc = $doc:literal])+ $set:ident: $($variant:ident = $name:tt),+;)+) => {
        $(
            $(#[doc = $doc])+
            #[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize, ToSchema)]
            pub enum $set { $(#[serde(rename = $name)] $variant,)+ }

            impl $set {
                pub const NAMES: &'static [&'static str] = &[$($name),+];
            }
        )+
    };
}

names! {
    /// How an event becomes a request: body, headers, signature, timeout and retry schedule.
    Dialect: Standard = "standard", Athenatext = "athenatext", Athenty = "athenty", Scaikey = "scaikey",
        Alumia = "alumia", Athena = "athena";
    /// `paused`: events wait; `disabled`: nothing is delivered, and what was pending is canceled.
    WebhookStatus: Active = "active", Paused = "paused", Disabled = "disabled";
    /// `strict`: one at a time in order of acceptance; `by_key`: one at a time per `ordering_key`.
    Ordering: None = "none", Strict = "strict", ByKey = "by_key";
    /// Each role may do what the ones before it may.
    Role: Viewer = "viewer", Member = "member", Admin = "admin", Owner = "owner";
    /// Where a delivery stands.
    DeliveryStatus: Pending = "pending", Delivering = "delivering", Succeeded = "succeeded", Failed = "failed",
        Canceled = "canceled";
    /// How a delivery can have ended.
    FinalStatus: Succeeded = "succeeded", Failed = "failed", Canceled = "canceled";
    /// Why a delivery exists.
    Trigger: Event = "event", Retry = "retry", Replay = "replay", Test = "test";
    /// Where an event came from. `partner`: in a partner's stream, from one of its tenants; `system`: Postrider's own;
    /// `gateway`: an operation at the data gateway.
    Source: Api = "api", Test = "test", Received = "received", Partner = "partner", System = "system",
        Gateway = "gateway";
    /// What becomes of events that do not fit the schema of their type: nothing is checked; accepted with `warnings`;
    /// refused.
    Validation: Off = "off", Warn = "warn", Enforce = "enforce";
    /// Why an attempt was no success.
    ErrorClass: Dns = "dns", RefusedByPolicy = "refused_by_policy", Connect = "connect", Tls = "tls",
        Timeout = "timeout", Reset = "reset", TooLarge = "too_large", HttpStatus = "http_status",
        Disabled = "disabled", OverLimit = "over_limit", Shutdown = "shutdown";
    /// What verification found: `authenticated` requests carried the secret itself and are not signed; `unattempted`
    /// ones had nothing to be verified with.
    Verdict: Verified = "verified", Authenticated = "authenticated", Failed = "failed", Unattempted = "unattempted";
    /// Why a received request is not believed; see `docs/receiving.md` for what to do.
    Reason: MissingHeader = "missing_header", MalformedHeader = "malformed_header", MissingField = "missing_field",
        MalformedBody = "malformed_body", TimestampOutsideTolerance = "timestamp_outside_tolerance",
        SignatureMismatch = "signature_mismatch", BodyModifiedSuspected = "body_modified_suspected",
        UnknownKey = "unknown_key", UnsupportedAlgorithm = "unsupported_algorithm",
        CertificateNotTrusted = "certificate_not_trusted";
    /// How bytes are written in JSON.
    BodyEncoding: Text = "text", Base64 = "base64";
    /// How a bulk replay stands.
    ReplayStatus: Running = "running", Finished = "finished", Canceled = "canceled";
}
