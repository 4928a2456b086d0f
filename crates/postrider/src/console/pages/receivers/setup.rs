//! What people are told of a provider: its name, where webhooks are set up there, and which secret goes where.

use postrider_core::inbound::{PROVIDERS, Provider, Reason};

use crate::console::kit::Choice;

/// How providers write themselves, where that is not the name with a capital; where to set up webhooks there; and the
/// secret to give to the receiver.
const KNOWN: &[(&str, &str, &str, &str)] = &[
    (
        "custom",
        "Your own systems",
        "Sign with Standard Webhooks or X-Alumia-Signature.",
        "The receiver's own (whsec_…), or your ed25519 public key (whpk_…).",
    ),
    ("token", "Bearer token", "Send Authorization: Bearer and the secret.", "The receiver's own."),
    ("adyen", "Adyen", "Customer Area, Developers, Webhooks: generate an HMAC key.", "The HMAC key, hexadecimal."),
    ("calendly", "Calendly", "POST /webhook_subscriptions with signing_key.", "The signing key."),
    ("discord", "Discord", "Developer Portal, Webhooks endpoint URL.", "The application's public key, hexadecimal."),
    ("docusign", "DocuSign", "Connect, Include HMAC Signature: must be switched on.", "A Connect key."),
    ("dropbox", "Dropbox", "App Console, Webhook URIs.", "The app secret."),
    ("github", "GitHub", "Settings, Webhooks; content type application/json.", "Enter the receiver's own there."),
    ("gitlab", "GitLab", "Settings, Webhooks.", "A signing token (whsec_…), or a secret token."),
    ("hubspot", "HubSpot", "Private or public app, Webhooks.", "The app's client secret."),
    ("intercom", "Intercom", "Developer Hub, Webhooks.", "The app's client secret."),
    ("linear", "Linear", "Settings, API, Webhooks.", "The signing secret shown there."),
    ("mailgun", "Mailgun", "Sending, Webhooks.", "The HTTP webhook signing key."),
    ("meta", "Meta", "App, Webhooks: callback URL and verify token.", "The app secret, and the verify token."),
    ("paddle", "Paddle", "Developer tools, Notifications.", "The destination's secret, pdl_ntfset_…"),
    ("paypal", "PayPal", "App, Webhooks.", "The webhook id."),
    ("polar", "Polar", "Settings, Webhooks.", "The secret as you entered it."),
    ("razorpay", "Razorpay", "Settings, Webhooks.", "Enter the receiver's own there."),
    ("sendgrid", "SendGrid", "Mail settings, Event webhook, Signature verification.", "The verification key (base64)."),
    ("shopify", "Shopify", "App configuration or API.", "The app's client secret."),
    ("slack", "Slack", "Event Subscriptions, Request URL.", "The signing secret."),
    ("sns", "AWS SNS", "A subscription of protocol HTTPS.", "The topic's ARN."),
    ("square", "Square", "Developer Console, Webhooks.", "The subscription's signature key."),
    ("stripe", "Stripe", "Workbench, Webhooks.", "The endpoint's signing secret, whole, whsec_…"),
    ("svix", "Svix", "The service's webhook page.", "The signing secret shown there."),
    ("twilio", "Twilio", "The number's or service's webhook URL.", "The account's auth token."),
    ("typeform", "Typeform", "Connect, Webhooks, Edit, Secret.", "Enter the receiver's own there."),
    ("xero", "Xero", "Developer portal, Webhooks.", "The webhooks key."),
    ("zoom", "Zoom", "App, Feature, Event subscriptions, Validate.", "The secret token."),
    ("asana", "Asana", "", "Taken over in Asana's handshake: leave it empty."),
    ("x", "X", "", "The consumer secret."),
    ("twitch", "Twitch", "", "The secret of the subscription."),
    ("braintree", "Braintree", "", "public key|private key"),
    ("paystack", "Paystack", "", "The secret key."),
    ("okta", "Okta", "", "The Authorization value that you chose."),
    ("msgraph", "Microsoft Graph", "", "The subscription's clientState."),
    ("adobesign", "Adobe Sign", "", "The client id."),
    ("monday", "monday.com", "", "None: only its handshake is answered."),
    ("ebay", "eBay", "", "Only a verify token: its handshake is answered."),
];

/// Where webhooks are set up at a provider, and what its secret is; either may be empty.
pub(super) fn hints(provider: &Provider) -> (&'static str, &'static str) {
    let known = KNOWN.iter().find(|(name, ..)| *name == provider.name);
    known.map_or(("", ""), |(_, _, place, secret)| (place, secret))
}

pub(super) fn label(provider: &Provider) -> String {
    if let Some((_, label, ..)) = KNOWN.iter().find(|(name, ..)| *name == provider.name) {
        return (*label).to_owned();
    }
    let mut chars = provider.name.chars();
    chars.next().map(|first| first.to_uppercase().collect::<String>() + chars.as_str()).unwrap_or_default()
}

/// The source of a receiver with the provider that it is taken for, where the two have different names.
pub(super) fn source_label(source: &str) -> String {
    let provider = Provider::find(source);
    if source.eq_ignore_ascii_case(provider.name) || source.trim().is_empty() {
        return label(provider);
    }
    format!("{source} ({})", label(provider))
}

/// Every provider, and `source` itself if it is another name.
pub(super) fn choices(source: &str) -> Vec<Choice> {
    let of = |provider: &Provider| {
        let also = if provider.aliases.is_empty() {
            String::new()
        } else {
            format!(": {}", provider.aliases.iter().take(6).copied().collect::<Vec<_>>().join(", "))
        };
        Choice {
            value: provider.name.to_owned(),
            label: format!("{}{also}", label(provider)),
            hint: String::new(),
            chosen: source.eq_ignore_ascii_case(provider.name),
        }
    };
    let mut choices: Vec<_> = PROVIDERS.iter().map(of).collect();
    choices[1..].sort_by_key(|choice| choice.label.to_lowercase());
    if !choices.iter().any(|choice| choice.chosen) {
        let label = source_label(source);
        choices.insert(0, Choice { value: source.to_owned(), label, hint: String::new(), chosen: true });
    }
    choices
}

/// What to do about a reason, for whoever set the receiver up.
pub(super) fn advice(reason: Reason) -> &'static str {
    match reason {
        Reason::MissingHeader => {
            "Usually the provider does not sign: switch signing on there. A proxy in front may drop headers it does not know."
        }
        Reason::MalformedHeader => {
            "A header was shortened or rewritten on its way, or the provider of this receiver is another one."
        }
        Reason::MissingField => "Check the provider of this receiver; Adyen: HMAC must be switched on for the webhook.",
        Reason::MalformedBody => {
            "Mailgun: use JSON webhooks, not the older form. SNS: switch raw message delivery off."
        }
        Reason::TimestampOutsideTolerance => {
            "Check this machine's clock. Otherwise something held the request back, or it is a replay."
        }
        Reason::SignatureMismatch => {
            "Copy the secret anew (test and live mode differ). Some providers sign the URL: it must be the one they were told, \
             character by character."
        }
        Reason::BodyModifiedSuspected => {
            "A proxy, gateway or function in front parsed the body and printed it again: let the raw body through."
        }
        Reason::UnknownKey => "The secret is not of the form that this provider's key has, or another key signed.",
        Reason::UnsupportedAlgorithm => "The provider signed in a newer or older way than this version knows.",
        Reason::CertificateNotTrusted => "Usually a forgery: nothing was fetched from where it points.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_provider_that_is_described_is_one_and_all_can_be_chosen() {
        for (name, ..) in KNOWN {
            assert_eq!(Provider::find(name).name, *name);
        }
        assert_eq!(choices("github").len(), PROVIDERS.len());
        let other = choices("Clerk");
        assert_eq!((other.len(), other[0].value.as_str(), other[0].chosen), (PROVIDERS.len() + 1, "Clerk", true));
        assert_eq!(source_label("clerk"), "clerk (Svix)");
        assert_eq!(source_label("GitHub"), "GitHub");
    }
}
