//! The providers, one row each. A new one is a row here and a vector in `conformance/inbound/vectors.json`, which one test
//! checks row by row: accepted as it is, refused after any change of what is signed.
//!
//! A comment says what the row rests on where that is not the vendor's own library (those that sign or check the vectors
//! are named there, in `made_by`).

use std::time::Duration;

use crate::inbound::handshake::Handshake;
use crate::inbound::provider::{
    Algorithm, Answer, Encoding, KeyForm, Part, Provider, Recipe, Scheme, Signature, Text, Time, TimePlace, Unit,
    UrlRule,
};

/// All rows. The first is what an unknown source is taken for.
pub static PROVIDERS: &[Provider] = &[
    // Our own: Standard Webhooks, or the signature that forwarded requests carry.
    Provider {
        name: "custom",
        schemes: &[STANDARD, STANDARD_ED25519, stamped("x-alumia-signature", ',', "t", "v1", DOTTED, 300)],
        event_type: &[Text::Header("x-alumia-event")],
        event_id: &[Text::Header("webhook-id"), Text::Header("x-alumia-delivery")],
        ..BARE
    },
    // A shared bearer token: says who sends, and nothing about what.
    Provider { name: "token", aliases: &["bearer"], schemes: &[Scheme::Token(Text::Bearer)], ..BARE },
    // Standard Webhooks and everybody who uses it. `v1,whsec_…` is how Supabase shows its secrets.
    Provider {
        name: "svix",
        aliases: &[
            "standard",
            "standardwebhooks",
            "standard-webhooks",
            "standard_webhooks",
            "clerk",
            "resend",
            "openai",
            "replicate",
            "supabase",
            "brex",
            "render",
            "increase",
            "loops",
        ],
        schemes: &[SVIX, STANDARD_LENIENT, SVIX_ED25519, STANDARD_ED25519],
        event_id: &[Text::Header("svix-id"), Text::Header("webhook-id")],
        ..BARE
    },
    // Standard Webhooks with the secret's text as the key.
    Provider {
        name: "polar",
        schemes: &[Scheme::Signed(Recipe { key: KeyForm::Utf8, ..STANDARD_RECIPE })],
        event_id: &[Text::Header("webhook-id")],
        ..BARE
    },
    Provider {
        name: "stripe",
        schemes: &[stamped("stripe-signature", ',', "t", "v1", DOTTED, 300)],
        event_type: &[Text::Json(&["type"])],
        event_id: &[Text::Json(&["id"])],
        ..BARE
    },
    // The older SHA-1 signature counts only where the newer one is not sent. A body sent as a form has its event in
    // `payload=`, of which the type's second half is not read.
    Provider {
        name: "github",
        schemes: &[
            over_body("x-hub-signature-256", "sha256=", Encoding::Hex),
            over_body_sha1("x-hub-signature", "sha1="),
        ],
        event_type: &[Text::Joined(&[Text::Header("x-github-event"), Text::Json(&["action"])])],
        event_id: &[Text::Header("x-github-delivery")],
        ..BARE
    },
    // Signing tokens (2026) are `whsec_<base64 of 32 bytes>` (GitLab's merge requests 230944 and 231325); secret tokens are
    // sent as they are. A hook may have both.
    Provider {
        name: "gitlab",
        schemes: &[STANDARD, Scheme::Token(Text::Header("x-gitlab-token"))],
        event_type: &[Text::Json(&["object_kind"]), Text::Json(&["event_name"]), Text::Header("x-gitlab-event")],
        event_id: &[Text::Header("webhook-id"), Text::Header("idempotency-key"), Text::Header("x-gitlab-event-uuid")],
        ..BARE
    },
    Provider {
        name: "slack",
        schemes: &[v0("x-slack-signature", TimePlace::Header("x-slack-request-timestamp"))],
        event_type: &[
            Text::Json(&["event", "type"]),
            Text::Json(&["type"]),
            Text::Prefixed("command.", &Text::Form("command")),
            Text::Named("interaction", &Text::Form("payload")),
        ],
        event_id: &[Text::Json(&["event_id"]), Text::Form("trigger_id")],
        handshakes: &[Handshake::Slack],
        answer: Answer::OkEmpty,
        ..BARE
    },
    // The second header is that of Shopify's "events" (API library 13).
    Provider {
        name: "shopify",
        schemes: &[
            over_body("x-shopify-hmac-sha256", "", Encoding::Base64),
            over_body("shopify-hmac-sha256", "", Encoding::Base64),
        ],
        event_type: &[Text::Header("x-shopify-topic"), Text::Header("shopify-topic")],
        event_id: &[Text::Header("x-shopify-webhook-id"), Text::Header("shopify-webhook-id")],
        ..BARE
    },
    // The library trusts only the time inside the signed body, never the header `linear-timestamp`.
    Provider {
        name: "linear",
        schemes: &[Scheme::Signed(Recipe {
            signature: Signature::Header { name: "linear-signature", prefix: "" },
            time: Some(Time {
                place: TimePlace::Json(&["webhookTimestamp"]),
                unit: Unit::Milliseconds,
                tolerance: Some(Duration::from_secs(60)),
            }),
            ..BODY
        })],
        event_type: &[
            Text::Joined(&[Text::Header("linear-event"), Text::Json(&["action"])]),
            Text::Joined(&[Text::Json(&["type"]), Text::Json(&["action"])]),
        ],
        event_id: &[Text::Header("linear-delivery")],
        answer: Answer::Ok,
        ..BARE
    },
    Provider {
        name: "twilio",
        schemes: &[Scheme::Signed(Recipe {
            signature: Signature::Header { name: "x-twilio-signature", prefix: "" },
            message: &[Part::Url, Part::SortedFormUnlessHashed],
            algorithm: Algorithm::HmacSha1,
            encoding: Encoding::Base64,
            url: UrlRule::DefaultPortOptional,
            ..BODY
        })],
        event_type: &[
            Text::Form("EventType"),
            Text::Prefixed("message.", &Text::Form("MessageStatus")),
            Text::Prefixed("message.", &Text::Form("SmsStatus")),
            Text::Prefixed("call.", &Text::Form("CallStatus")),
        ],
        event_id: &[Text::Header("i-twilio-idempotency-token")],
        answer: Answer::NoContent,
        ..BARE
    },
    // The SHA-1 signature in `x-square-signature` is retired and not accepted.
    Provider {
        name: "square",
        schemes: &[Scheme::Signed(Recipe {
            signature: Signature::Header { name: "x-square-hmacsha256-signature", prefix: "" },
            message: &[Part::Url, Part::Body],
            encoding: Encoding::Base64,
            ..BODY
        })],
        event_type: &[Text::Json(&["type"])],
        event_id: &[Text::Json(&["event_id"])],
        ..BARE
    },
    // Versions 1 and 2 (plain SHA-256 of secret and text) are sent beside version 3 and not accepted. A body is a list of
    // events and repeats with another `attemptNumber`, so there is no id to tell repeats by. The library takes the URL
    // as its caller gives it; which characters to decode is HubSpot's documentation.
    Provider {
        name: "hubspot",
        schemes: &[Scheme::Signed(Recipe {
            signature: Signature::Header { name: "x-hubspot-signature-v3", prefix: "" },
            message: &[Part::Method, Part::Url, Part::Body, Part::Time],
            encoding: Encoding::Base64,
            time: Some(Time {
                place: TimePlace::Header("x-hubspot-request-timestamp"),
                unit: Unit::Milliseconds,
                tolerance: Some(Duration::from_secs(300)),
            }),
            url: UrlRule::Decoded,
            ..BODY
        })],
        event_type: &[Text::Json(&["0", "subscriptionType"]), Text::Json(&["subscriptionType"])],
        ..BARE
    },
    Provider {
        name: "paypal",
        schemes: &[Scheme::PayPal],
        event_type: &[Text::Json(&["event_type"])],
        event_id: &[Text::Json(&["id"])],
        ..BARE
    },
    // No library of Zoom's checks signatures; the recipe is that of its documentation and sample application.
    Provider {
        name: "zoom",
        schemes: &[v0("x-zm-signature", TimePlace::Header("x-zm-request-timestamp"))],
        event_type: &[Text::Json(&["event"])],
        event_id: &[Text::BodyHash],
        handshakes: &[Handshake::Zoom],
        answer: Answer::OkEmpty,
        ..BARE
    },
    Provider {
        name: "meta",
        aliases: &["facebook", "whatsapp", "messenger", "instagram"],
        schemes: &[
            over_body("x-hub-signature-256", "sha256=", Encoding::Hex),
            over_body_sha1("x-hub-signature", "sha1="),
        ],
        event_type: &[Text::Joined(&[Text::Json(&["object"]), Text::Json(&["entry", "0", "changes", "0", "field"])])],
        event_id: &[Text::BodyHash],
        handshakes: &[Handshake::Meta],
        answer: Answer::OkEmpty,
    },
    // Discord sets no bound on the time's age. It registers a URL only if a bad signature is answered 401.
    Provider {
        name: "discord",
        schemes: &[Scheme::Signed(Recipe {
            signature: Signature::Header { name: "x-signature-ed25519", prefix: "" },
            message: &[Part::Time, Part::Body],
            algorithm: Algorithm::Ed25519,
            key: KeyForm::Hex,
            time: Some(Time {
                place: TimePlace::Header("x-signature-timestamp"),
                unit: Unit::Seconds,
                tolerance: None,
            }),
            ..BODY
        })],
        event_type: &[
            Text::Json(&["event", "type"]),
            Text::Prefixed("interaction.", &Text::Json(&["data", "name"])),
            Text::Prefixed("interaction.", &Text::Json(&["type"])),
        ],
        event_id: &[Text::Json(&["id"]), Text::BodyHash],
        handshakes: &[Handshake::Discord],
        answer: Answer::NoContent,
        ..BARE
    },
    // SendGrid retries for a day with the first signature, so the time's age is not looked at.
    Provider {
        name: "sendgrid",
        schemes: &[Scheme::Signed(Recipe {
            signature: Signature::Header { name: "x-twilio-email-event-webhook-signature", prefix: "" },
            message: &[Part::Time, Part::Body],
            algorithm: Algorithm::EcdsaP256,
            encoding: Encoding::Base64,
            key: KeyForm::Spki,
            time: Some(Time {
                place: TimePlace::Header("x-twilio-email-event-webhook-timestamp"),
                unit: Unit::Seconds,
                tolerance: None,
            }),
            ..BODY
        })],
        event_type: &[Text::Json(&["0", "event"])],
        event_id: &[Text::BodyHash],
        ..BARE
    },
    // Only time and token are signed, not what happened: the token is the id, so that a captured one cannot be used
    // twice. Rests on Mailgun's documentation; the older form mode and `parent-signature` are not read.
    Provider {
        name: "mailgun",
        schemes: &[Scheme::Signed(Recipe {
            signature: Signature::Json(&["signature", "signature"]),
            message: &[Part::Json(&["signature", "timestamp"]), Part::Json(&["signature", "token"])],
            ..BODY
        })],
        event_type: &[Text::Json(&["event-data", "event"])],
        event_id: &[Text::Json(&["signature", "token"])],
        ..BARE
    },
    Provider {
        name: "paddle",
        schemes: &[stamped(
            "paddle-signature",
            ';',
            "ts",
            "h1",
            &[Part::Time, Part::Literal(":"), Part::Body],
            // What its library enforces; retries are signed afresh.
            5,
        )],
        event_type: &[Text::Json(&["event_type"])],
        event_id: &[Text::Json(&["event_id"])],
        ..BARE
    },
    // Banking and management webhooks sign the body in a header, payment webhooks each item.
    Provider {
        name: "adyen",
        schemes: &[
            Scheme::Signed(Recipe {
                signature: Signature::Header { name: "hmacsignature", prefix: "" },
                encoding: Encoding::Base64,
                key: KeyForm::Hex,
                ..BODY
            }),
            Scheme::AdyenItems,
        ],
        event_type: &[
            Text::Json(&["notificationItems", "0", "NotificationRequestItem", "eventCode"]),
            Text::Json(&["type"]),
        ],
        event_id: &[Text::BodyHash],
        ..BARE
    },
    // Rests on Intercom's documentation: its library does not check signatures.
    Provider {
        name: "intercom",
        schemes: &[over_body_sha1("x-hub-signature", "sha1=")],
        event_type: &[Text::Json(&["topic"])],
        event_id: &[Text::Json(&["id"])],
        ..BARE
    },
    // Rests on Typeform's documentation.
    Provider {
        name: "typeform",
        schemes: &[over_body("typeform-signature", "sha256=", Encoding::Base64)],
        event_type: &[Text::Json(&["event_type"])],
        event_id: &[Text::Json(&["event_id"])],
        ..BARE
    },
    // Retries keep the secret they were first signed with: keep the old one active for a day.
    Provider {
        name: "razorpay",
        schemes: &[over_body("x-razorpay-signature", "", Encoding::Hex)],
        event_type: &[Text::Json(&["event"])],
        event_id: &[Text::Header("x-razorpay-event-id")],
        ..BARE
    },
    // Rests on Xero's documentation. Its "intent to receive" is answered like any other request: 200 without a body if
    // the signature is right, else 401.
    Provider {
        name: "xero",
        schemes: &[over_body("x-xero-signature", "", Encoding::Base64)],
        event_type: &[
            Text::Joined(&[Text::Json(&["events", "0", "eventCategory"]), Text::Json(&["events", "0", "eventType"])]),
            Text::Named("intent_to_receive", &Text::Json(&["entropy"])),
        ],
        event_id: &[Text::BodyHash],
        answer: Answer::OkEmpty,
        ..BARE
    },
    // One header a key. Rests on DocuSign's documentation.
    Provider {
        name: "docusign",
        schemes: &[Scheme::Signed(Recipe {
            signature: Signature::Numbered { prefix: "x-docusign-signature-" },
            encoding: Encoding::Base64,
            ..BODY
        })],
        event_type: &[Text::Json(&["event"])],
        event_id: &[Text::BodyHash],
        answer: Answer::Ok,
        ..BARE
    },
    // Rests on Calendly's documentation, whose samples allow three minutes.
    Provider {
        name: "calendly",
        schemes: &[stamped("calendly-webhook-signature", ',', "t", "v1", DOTTED, 180)],
        event_type: &[Text::Json(&["event"])],
        event_id: &[Text::BodyHash],
        ..BARE
    },
    // Bodies only say whose files changed, so two different changes look the same: there is no id. Rests on Dropbox's
    // documentation.
    Provider {
        name: "dropbox",
        schemes: &[over_body("x-dropbox-signature", "", Encoding::Hex)],
        event_type: &[Text::Named("list_folder", &Text::Json(&["list_folder", "accounts", "0"]))],
        handshakes: &[Handshake::EchoToken("challenge")],
        ..BARE
    },
    Provider {
        name: "sns",
        aliases: &["aws-sns", "aws_sns"],
        schemes: &[Scheme::Sns],
        event_type: &[Text::Json(&["Type"])],
        event_id: &[Text::Json(&["MessageId"])],
        ..BARE
    },
    // Retried for hours with the first signature, so the time's age is not looked at.
    Provider {
        name: "sanity",
        schemes: &[Scheme::Signed(Recipe {
            signature: Signature::Pairs { name: "sanity-webhook-signature", separator: ',', key: "v1" },
            message: DOTTED,
            encoding: Encoding::Base64Url,
            time: Some(Time { place: TimePlace::Pair("t"), unit: Unit::Milliseconds, tolerance: None }),
            ..BODY
        })],
        event_type: &[Text::Joined(&[Text::Json(&["_type"]), Text::Header("sanity-operation")])],
        event_id: &[Text::Header("idempotency-key")],
        ..BARE
    },
    // Rests on Paystack's documentation.
    Provider {
        name: "paystack",
        schemes: &[Scheme::Signed(Recipe {
            signature: Signature::Header { name: "x-paystack-signature", prefix: "" },
            algorithm: Algorithm::HmacSha512,
            ..BODY
        })],
        event_type: &[Text::Json(&["event"])],
        event_id: &[Text::BodyHash],
        answer: Answer::Ok,
        ..BARE
    },
    // From here on one source each, and mostly for the handshake.
    Provider {
        name: "x",
        aliases: &["twitter"],
        schemes: &[over_body("x-twitter-webhooks-signature", "sha256=", Encoding::Base64)],
        event_id: &[Text::BodyHash],
        handshakes: &[Handshake::Crc],
        ..BARE
    },
    Provider {
        name: "twitch",
        schemes: &[Scheme::Signed(Recipe {
            signature: Signature::Header { name: "twitch-eventsub-message-signature", prefix: "sha256=" },
            message: &[Part::Header("twitch-eventsub-message-id"), Part::Time, Part::Body],
            time: Some(Time {
                place: TimePlace::Header("twitch-eventsub-message-timestamp"),
                unit: Unit::Rfc3339,
                tolerance: Some(Duration::from_secs(600)),
            }),
            ..BODY
        })],
        event_type: &[Text::Header("twitch-eventsub-subscription-type")],
        event_id: &[Text::Header("twitch-eventsub-message-id")],
        handshakes: &[Handshake::Twitch],
        ..BARE
    },
    Provider {
        name: "asana",
        schemes: &[over_body("x-hook-signature", "", Encoding::Hex)],
        event_type: &[Text::Joined(&[
            Text::Json(&["events", "0", "resource", "resource_type"]),
            Text::Json(&["events", "0", "action"]),
        ])],
        event_id: &[Text::BodyHash],
        handshakes: &[Handshake::Asana],
        answer: Answer::OkEmpty,
        ..BARE
    },
    Provider {
        name: "braintree",
        schemes: &[Scheme::Signed(Recipe {
            signature: Signature::FormPairs("bt_signature"),
            message: &[Part::Form("bt_payload")],
            algorithm: Algorithm::HmacSha1,
            key: KeyForm::Sha1OfPrivate,
            ..BODY
        })],
        event_id: &[Text::BodyHash],
        handshakes: &[Handshake::Braintree],
        answer: Answer::OkEmpty,
        ..BARE
    },
    // The secret is what the hook was told to send as `Authorization`.
    Provider {
        name: "okta",
        schemes: &[Scheme::Token(Text::Header("authorization"))],
        event_type: &[Text::Json(&["data", "events", "0", "eventType"]), Text::Json(&["eventType"])],
        event_id: &[Text::Json(&["eventId"])],
        handshakes: &[Handshake::Okta],
        answer: Answer::OkEmpty,
        ..BARE
    },
    // The secret is the subscription's `clientState`.
    Provider {
        name: "msgraph",
        aliases: &["microsoft-graph", "microsoft_graph", "graph"],
        schemes: &[Scheme::Token(Text::Json(&["value", "0", "clientState"]))],
        event_type: &[Text::Json(&["value", "0", "changeType"]), Text::Json(&["value", "0", "lifecycleEvent"])],
        event_id: &[Text::BodyHash],
        handshakes: &[Handshake::EchoText("validationToken")],
        ..BARE
    },
    // The application's client id, which every request carries, is its token.
    Provider {
        name: "adobesign",
        aliases: &["adobe-sign", "adobe_sign"],
        schemes: &[Scheme::ClientId(Text::Header("x-adobesign-clientid"))],
        event_type: &[Text::Json(&["event"])],
        event_id: &[Text::BodyHash],
        handshakes: &[Handshake::AdobeSign],
        answer: Answer::OkEmpty,
    },
    // Webhooks carry a JWT, which is not read: unattempted.
    Provider {
        name: "monday",
        event_type: &[Text::Json(&["event", "type"])],
        event_id: &[Text::Json(&["event", "triggerUuid"])],
        handshakes: &[Handshake::Monday],
        answer: Answer::OkEmpty,
        ..BARE
    },
    // Notifications are signed with a key that has to be asked for with an application's token: unattempted.
    Provider {
        name: "ebay",
        event_type: &[Text::Json(&["metadata", "topic"])],
        event_id: &[Text::Json(&["notification", "notificationId"])],
        handshakes: &[Handshake::Ebay],
        answer: Answer::OkEmpty,
        ..BARE
    },
];

const BARE: Provider = Provider {
    name: "",
    aliases: &[],
    schemes: &[],
    event_type: &[],
    event_id: &[],
    handshakes: &[],
    answer: Answer::Any,
};

/// HMAC-SHA256 of the body with the secret's text, in hexadecimal.
const BODY: Recipe = Recipe {
    signature: Signature::Header { name: "", prefix: "" },
    message: &[Part::Body],
    algorithm: Algorithm::HmacSha256,
    encoding: Encoding::Hex,
    key: KeyForm::Utf8,
    time: None,
    url: UrlRule::Exact,
};

const DOTTED: &[Part] = &[Part::Time, Part::Literal("."), Part::Body];

const STANDARD_RECIPE: Recipe = Recipe {
    signature: Signature::Tagged { name: "webhook-signature", tag: "v1" },
    message: &[Part::Header("webhook-id"), Part::Literal("."), Part::Time, Part::Literal("."), Part::Body],
    algorithm: Algorithm::HmacSha256,
    encoding: Encoding::Base64,
    key: KeyForm::Whsec,
    time: Some(Time {
        place: TimePlace::Header("webhook-timestamp"),
        unit: Unit::Seconds,
        tolerance: Some(Duration::from_secs(300)),
    }),
    url: UrlRule::Exact,
};

const SVIX_RECIPE: Recipe = Recipe {
    signature: Signature::Tagged { name: "svix-signature", tag: "v1" },
    message: &[Part::Header("svix-id"), Part::Literal("."), Part::Time, Part::Literal("."), Part::Body],
    key: KeyForm::WhsecOrBase64,
    time: Some(Time {
        place: TimePlace::Header("svix-timestamp"),
        unit: Unit::Seconds,
        tolerance: Some(Duration::from_secs(300)),
    }),
    ..STANDARD_RECIPE
};

const STANDARD: Scheme = Scheme::Signed(STANDARD_RECIPE);
const STANDARD_LENIENT: Scheme = Scheme::Signed(Recipe { key: KeyForm::WhsecOrBase64, ..STANDARD_RECIPE });
const STANDARD_ED25519: Scheme = Scheme::Signed(Recipe {
    signature: Signature::Tagged { name: "webhook-signature", tag: "v1a" },
    algorithm: Algorithm::Ed25519,
    key: KeyForm::Whpk,
    ..STANDARD_RECIPE
});
const SVIX: Scheme = Scheme::Signed(SVIX_RECIPE);
const SVIX_ED25519: Scheme = Scheme::Signed(Recipe {
    signature: Signature::Tagged { name: "svix-signature", tag: "v1a" },
    algorithm: Algorithm::Ed25519,
    key: KeyForm::Whpk,
    ..SVIX_RECIPE
});

/// HMAC-SHA256 of the body in a header of its own.
const fn over_body(name: &'static str, prefix: &'static str, encoding: Encoding) -> Scheme {
    Scheme::Signed(Recipe { signature: Signature::Header { name, prefix }, encoding, ..BODY })
}

/// The same with SHA-1, in hexadecimal.
const fn over_body_sha1(name: &'static str, prefix: &'static str) -> Scheme {
    let signature = Signature::Header { name, prefix };
    Scheme::Signed(Recipe { signature, algorithm: Algorithm::HmacSha1, ..BODY })
}

/// Time and signatures as pairs of one header, Unix seconds and hexadecimal, both signed as `message` says.
const fn stamped(
    name: &'static str,
    separator: char,
    time: &'static str,
    key: &'static str,
    message: &'static [Part],
    tolerance_s: u64,
) -> Scheme {
    let tolerance = Some(Duration::from_secs(tolerance_s));
    Scheme::Signed(Recipe {
        signature: Signature::Pairs { name, separator, key },
        message,
        time: Some(Time { place: TimePlace::Pair(time), unit: Unit::Seconds, tolerance }),
        ..BODY
    })
}

/// `v0=<hex>` over `v0:{time}:{body}`, five minutes.
const fn v0(name: &'static str, place: TimePlace) -> Scheme {
    Scheme::Signed(Recipe {
        signature: Signature::Header { name, prefix: "v0=" },
        message: &[Part::Literal("v0:"), Part::Time, Part::Literal(":"), Part::Body],
        time: Some(Time { place, unit: Unit::Seconds, tolerance: Some(Duration::from_secs(300)) }),
        ..BODY
    })
}
