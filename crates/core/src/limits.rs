//! Every bound of the system on one page, with its unit and reason. Each has a test at the bound.

use std::time::Duration;

/// Body of `POST /v1/events`, bytes: what the contract promises.
pub const EVENT_BODY_BYTES_MAX: usize = 1024 * 1024;
/// Events in one batch: the contract's bound.
pub const EVENT_BATCH_MAX: usize = 1000;
/// Any other JSON body of the management API, bytes: far above what a form needs.
pub const MANAGEMENT_BODY_BYTES_MAX: usize = 128 * 1024;
/// Nesting of any JSON that is parsed into a tree: keeps recursion bounded.
pub const JSON_DEPTH_MAX: usize = 64;
/// Name of an event type, bytes.
pub const EVENT_TYPE_BYTES_MAX: usize = 128;
/// Subscriptions of one webhook.
pub const SUBSCRIPTIONS_MAX: usize = 100;
/// An idempotency key, bytes.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 256;
/// How long an idempotency key is remembered: the contract's span.
pub const IDEMPOTENCY_SPAN: Duration = Duration::from_secs(24 * 60 * 60);
/// An ordering key, bytes.
pub const ORDERING_KEY_BYTES_MAX: usize = 256;
/// An event id chosen by the publisher, bytes.
pub const EXTERNAL_ID_BYTES_MAX: usize = 64;
/// Webhooks of one tenant: bounds fan-out, and with it the size of one acceptance.
pub const WEBHOOKS_PER_TENANT_MAX: usize = 1000;

/// A webhook's URL, bytes.
pub const URL_BYTES_MAX: usize = 2048;
/// Name of a tenant, webhook, key or partner, characters.
pub const NAME_CHARS_MAX: usize = 120;
/// Description, characters.
pub const DESCRIPTION_CHARS_MAX: usize = 2000;
/// Custom headers of one webhook.
pub const CUSTOM_HEADERS_MAX: usize = 32;
/// Name plus value of one custom header, bytes.
pub const CUSTOM_HEADER_BYTES_MAX: usize = 4096;
/// Metadata of a webhook, as JSON, bytes.
pub const METADATA_BYTES_MAX: usize = 8 * 1024;
/// Conditions in one filter, at any depth.
pub const FILTER_TESTS_MAX: usize = 64;
/// Depth of one filter.
pub const FILTER_DEPTH_MAX: usize = 8;
/// A path in a filter, bytes.
pub const FILTER_PATH_BYTES_MAX: usize = 256;
/// Values that op `in` of a filter chooses from.
pub const FILTER_CHOICES_MAX: usize = 100;
/// One value of a filter, as JSON, bytes.
pub const FILTER_VALUE_BYTES_MAX: usize = 4096;
/// A signing secret, bytes.
pub const SECRET_BYTES_MAX: usize = 256;

/// Waits in a retry schedule of a webhook's own.
pub const SCHEDULE_WAITS_MAX: usize = 20;
/// One wait of a schedule: longer than history is kept makes no sense.
pub const SCHEDULE_WAIT_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Tries in all that `max_attempts` may ask for.
pub const ATTEMPTS_MAX: u32 = 30;
/// The furthest a `Retry-After` can push the next try.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Bounds of a webhook's own timeout.
pub const TIMEOUT_MIN: Duration = Duration::from_millis(100);
pub const TIMEOUT_MAX: Duration = Duration::from_secs(300);
/// Bounds of a webhook's own rate limit, attempts a second.
pub const RATE_PER_SECOND_MIN: f64 = 0.01;
pub const RATE_PER_SECOND_MAX: f64 = 100_000.0;

/// Response body kept per attempt, bytes: the contract's bound.
pub const RESPONSE_SNIPPET_BYTES_MAX: usize = 16 * 1024;
/// Response body read before the connection is dropped, bytes: reading a little more than is kept lets the
/// connection be used again.
pub const RESPONSE_READ_BYTES_MAX: usize = 64 * 1024;
/// Response head, bytes, and number of headers that are accepted.
pub const RESPONSE_HEAD_BYTES_MAX: usize = 64 * 1024;
pub const RESPONSE_HEADERS_MAX: usize = 100;
/// Response headers kept per attempt, bytes.
pub const RESPONSE_HEADERS_KEPT_BYTES_MAX: usize = 8 * 1024;
/// From SYN to an established connection (TLS included), at most.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Idle connections kept per host and in all, and for how long.
pub const IDLE_PER_HOST_MAX: usize = 64;
pub const IDLE_CONNECTIONS_MAX: usize = 1024;
pub const IDLE_SPAN: Duration = Duration::from_secs(30);

/// Attempts in flight in the whole process.
pub const IN_FLIGHT_MAX: usize = 1024;
/// Attempts in flight of one webhook, unless it asks for fewer.
pub const LANE_IN_FLIGHT_MAX: usize = 64;
/// Where a lane's concurrency starts.
pub const LANE_IN_FLIGHT_START: usize = 8;
/// Deliveries of one webhook that wait in memory; the rest waits in the store.
pub const LANE_WINDOW: usize = 2048;
/// Payload bytes that wait in memory in the whole process; beyond it, new deliveries wait in the store.
pub const HELD_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Deliveries read from the store for one lane at a time.
pub const REFILL_MAX: usize = 256;
/// Payload bytes read from the store for one lane at a time (at least one delivery).
pub const REFILL_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Events accepted in one transaction, and their payload bytes.
pub const ACCEPT_BATCH_MAX: usize = 2000;
pub const ACCEPT_BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Requests that wait for an acceptance: beyond it, 503.
pub const ACCEPT_QUEUE_MAX: usize = 4096;
/// Outcomes of attempts that are not on disk yet; beyond it nothing is sent. With [`IN_FLIGHT_MAX`] it bounds what a
/// crash repeats.
pub const UNRECORDED_MAX: usize = 4096;
/// Deliveries that a dispatch thread was asked to give up while they were still on their way to it: the newest are
/// remembered.
pub const WITHDRAWN_MAX: usize = 1024;
/// Outcomes recorded in one transaction.
pub const RECORD_BATCH_MAX: usize = 4000;
/// Failures in a row that open a lane's breaker, and how long it stays open at first and at most.
pub const BREAKER_FAILURES: u32 = 10;
pub const BREAKER_OPEN_MIN: Duration = Duration::from_secs(1);
pub const BREAKER_OPEN_MAX: Duration = Duration::from_secs(300);
/// How much longer a node keeps its breaker open that another node has opened: time for the other's probe.
pub const BREAKER_FOLLOW_MARGIN: Duration = Duration::from_secs(5);

/// Body of one received request, bytes: the contract's bound.
pub const INBOUND_BODY_BYTES_MAX: usize = 256 * 1024;
/// Headers of one received request that are kept, bytes of names and values; what goes beyond is left out.
pub const INBOUND_HEADERS_KEPT_BYTES_MAX: usize = 16 * 1024;
/// Path and query of a received request that are kept, bytes.
pub const INBOUND_TARGET_BYTES_MAX: usize = 4096;
/// `Content-Type` of a received request that is kept and forwarded, bytes; a longer one is none.
pub const INBOUND_CONTENT_TYPE_BYTES_MAX: usize = 256;
/// Receivers whose opened secrets are kept in memory; beyond it they are opened again when needed.
pub const INBOUND_RECEIVERS_MAX: usize = 10_000;
/// Signers' certificates kept in memory, and answers that there is none.
pub const INBOUND_CERTIFICATES_MAX: usize = 64;
/// From asking for a certificate to its last byte: the provider waits for its answer meanwhile.
pub const INBOUND_CERTIFICATE_TIMEOUT: Duration = Duration::from_secs(5);
/// Webhooks whose secret the built-in receiver of Linear tries: the contract's bound.
pub const INBOUND_CANDIDATES_MAX: usize = 64;
/// Requests to one receiver that are not believed and kept all the same: so many at once, and then so many a second. A
/// provider with a wrong secret stays below it; a stranger cannot fill the disk.
pub const INBOUND_REFUSED_KEPT_BURST: f64 = 1000.0;
pub const INBOUND_REFUSED_KEPT_PER_SECOND: f64 = 20.0;
/// Requests verified again by one call; the next one goes on after them.
pub const INBOUND_REVERIFY_MAX: usize = 5000;
/// Source of a receiver, characters: the contract's bound.
pub const SOURCE_CHARS_MAX: usize = 100;
/// Addresses and networks from where one receiver takes requests.
pub const ALLOWED_ADDRESSES_MAX: usize = 64;
/// Body of an answer of a receiver's own, bytes.
pub const ANSWER_BODY_BYTES_MAX: usize = 16 * 1024;
/// Content type of such an answer, bytes.
pub const ANSWER_CONTENT_TYPE_BYTES_MAX: usize = 256;
/// The token that is verified in a receiver's handshake, bytes: eBay's is at most 80.
pub const VERIFY_TOKEN_BYTES_MAX: usize = 256;
/// Signatures of one received request that are compared: DocuSign, which sends most, documents up to 100 keys.
pub const INBOUND_SIGNATURES_MAX: usize = 100;
/// Signatures of one received request that are checked with a public key, each of which costs tens of microseconds.
pub const INBOUND_PUBLIC_KEY_CHECKS_MAX: usize = 8;
/// A received header that verification reads, bytes: the longest list of signatures with room to spare.
pub const INBOUND_HEADER_BYTES_MAX: usize = 16 * 1024;
/// Active secrets of one receiver that are tried; each is one pass over the body.
pub const INBOUND_SECRETS_MAX: usize = 16;
/// Separately signed items of one received body (Adyen); vendors send one to six.
pub const INBOUND_ITEMS_MAX: usize = 100;
/// An event id given by a provider, bytes; a longer one is hashed.
pub const INBOUND_EVENT_ID_BYTES_MAX: usize = 200;
/// A challenge that is echoed, and a token that is signed in a handshake, bytes: the longest real one is about 300.
pub const CHALLENGE_BYTES_MAX: usize = 1024;
pub const CHALLENGE_TOKEN_BYTES_MAX: usize = 256;
/// PEM text of a provider's certificates, bytes, and how many are read.
pub const CERTIFICATE_PEM_BYTES_MAX: usize = 64 * 1024;
pub const CERTIFICATES_MAX: usize = 8;

/// Clients of the data gateway in a deployment: each may hold connections and caches on every node.
pub const GATEWAY_CLIENTS_MAX: usize = 1000;
/// Public routes to one client.
pub const PUBLIC_ROUTES_PER_CLIENT_MAX: usize = 500;
/// Gateway keys of one client, and of no client in particular.
pub const GATEWAY_KEYS_PER_CLIENT_MAX: usize = 500;
/// How far lists of a gateway webhook's deliveries reach back: a piece is found by walking there.
pub const GATEWAY_DELIVERIES_REACH_MAX: usize = 10_000;
/// Deleted clients that stay known, and deleted public routes: beyond it the one that was deleted first is forgotten.
pub const GATEWAY_DELETED_MAX: usize = 1000;
/// Metadata of a client or a public route as JSON, with the contract of the route, bytes.
pub const GATEWAY_METADATA_BYTES_MAX: usize = 64 * 1024;
/// Key of a public route, bytes.
/// Refused calls of public routes that a node logs in the long run, each second, and at once.
pub const ROUTE_LOG_REFUSED_PER_SECOND: u32 = 100;
pub const ROUTE_LOG_REFUSED_BURST: u32 = 10_000;
pub const ROUTE_KEY_BYTES_MAX: usize = 200;
/// Address of a client's database, bytes.
pub const CLIENT_URI_BYTES_MAX: usize = 2048;

/// Timeout of a gateway webhook, milliseconds: the contract's bounds, to which others are moved, and its default.
pub const GATEWAY_TIMEOUT_MS_MIN: u32 = 1000;
pub const GATEWAY_TIMEOUT_MS_MAX: u32 = 300_000;
pub const GATEWAY_TIMEOUT_MS_DEFAULT: u32 = 30_000;
/// Body template of a gateway webhook, bytes.
pub const GATEWAY_BODY_TEMPLATE_BYTES_MAX: usize = 64 * 1024;
/// Template of a state key or an idempotency key, bytes.
pub const GATEWAY_KEY_TEMPLATE_BYTES_MAX: usize = 2048;
/// Placeholders of one template.
pub const GATEWAY_PLACEHOLDERS_MAX: usize = 256;
/// What templates come to, bytes: the value of one header, and a body. (A URL is bounded as all URLs are.)
pub const GATEWAY_HEADER_BYTES_MAX: usize = 8 * 1024;
pub const GATEWAY_BODY_BYTES_MAX: usize = 1024 * 1024;
/// The contract's caps on what templates are filled from: nesting of payload and response, bytes of a string, items of an
/// array, members of an object.
pub const GATEWAY_DEPTH_MAX: usize = 12;
pub const GATEWAY_STRING_BYTES_MAX: usize = 4096;
pub const GATEWAY_ITEMS_MAX: usize = 50;
pub const GATEWAY_KEYS_MAX: usize = 64;
/// Payload, and response, in a context, about so many bytes of JSON each: the caps alone multiply without end.
pub const GATEWAY_CONTEXT_BYTES_MAX: usize = 256 * 1024;
/// A dotted path in a template, bytes.
pub const GATEWAY_PATH_BYTES_MAX: usize = 256;
/// Tables that the templates of one webhook look rows up in: each costs a query.
pub const GATEWAY_LOOKUP_KEYS_MAX: usize = 16;
/// How long an attempt waits for them; what is not there by then is left out.
pub const GATEWAY_LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);
/// Name of a schema, table or column in a template, bytes: what PostgreSQL keeps of one.
pub const GATEWAY_IDENTIFIER_BYTES_MAX: usize = 63;
/// Name of a table with its schema, bytes.
pub const GATEWAY_TABLE_BYTES_MAX: usize = 128;
/// A cap on firings: how many, and within which time, seconds (31 days).
pub const GATEWAY_CAP_FIRES_MAX: u32 = 1_000_000;
pub const GATEWAY_CAP_WINDOW_SECONDS_MAX: u32 = 31 * 24 * 60 * 60;

/// Rights of one gateway key, and one right, bytes.
pub const GATEWAY_RIGHTS_MAX: usize = 200;
pub const GATEWAY_RIGHT_BYTES_MAX: usize = 256;
/// The part of a tenant's hostname that is its own, bytes: the contract's bound.
pub const GATEWAY_TOKEN_BYTES_MAX: usize = 64;

/// Event types described by one tenant, or by the platform: a bound on what the catalog holds.
pub const EVENT_TYPES_MAX: usize = 2000;
/// Subschemas that one schema of event data can reach.
pub const SCHEMA_SUBSCHEMAS_MAX: usize = 2000;
/// Subschemas that a schema applies within each other to one value: each takes some stack.
pub const SCHEMA_CHAIN_MAX: usize = 32;
/// The same, times the depth of the data: what fits on the stack of a thread of the runtime, with room to spare.
pub const SCHEMA_STACK_MAX: usize = 512;
/// Subschemas that checking the events of one request applies to values: about a tenth of a second.
pub const SCHEMA_WORK_MAX: u64 = 2_000_000;
/// Regular expressions in one schema, and bytes of each when compiled.
pub const SCHEMA_PATTERNS_MAX: usize = 64;
pub const SCHEMA_PATTERN_BYTES_MAX: usize = 256 * 1024;
/// Compiled schemas kept in memory, bytes as estimated; beyond it they are compiled again when needed.
pub const SCHEMAS_HELD_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Events of one answer of which it is said that they do not fit their schema.
pub const WARNINGS_MAX: usize = 100;
/// Findings of one comparison of schemas that are told.
pub const SCHEMA_BREAKS_MAX: usize = 50;

/// Bounds of what a tenant may be allowed: events a second, and a UTC day.
pub const TENANT_EVENTS_PER_SECOND_MAX: u32 = 1_000_000;
pub const TENANT_EVENTS_PER_DAY_MAX: u64 = 1_000_000_000_000;
/// A node takes its share of a tenant's day in so many steps: what a crash can cost the tenant, and how often the store is
/// asked.
pub const QUOTA_STEPS_PER_DAY: u64 = 100;

/// Items on one page of a list, and by default.
pub const PAGE_MAX: usize = 200;
pub const PAGE_DEFAULT: usize = 50;
/// Items on one page of a list of the contract ScaiKey: the contract's bound.
pub const SCAIKEY_PER_PAGE_MAX: usize = 100;
/// How far numbered pages reach into the deliveries of a webhook, items: a page is found by walking there.
pub const SCAIKEY_REACH_MAX: usize = 10_000;
/// Deliveries of a webhook that are counted one by one for the total of a list; of more, the rollups tell.
pub const SCAIKEY_COUNTED_MAX: u64 = 20_000;
/// Bodies of received requests on one page, bytes (at least one request).
pub const RECEIVED_PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Rows a bulk change touches in one transaction.
pub const BULK_STEP: usize = 500;
/// Entries of the audit log that an export has in memory at a time: an entry can be a few hundred kilobytes.
pub const AUDIT_EXPORT_STEP: usize = 50;
/// One line of an exported audit log, bytes: what a check of it has in memory. Above the largest entry, two views of an
/// object of [`MANAGEMENT_BODY_BYTES_MAX`] with every byte escaped.
pub const AUDIT_LINE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A signed token, bytes: real ones have one or two thousand, and it travels in a header.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// By how much our clock and a token issuer's may differ.
pub const TOKEN_LEEWAY: Duration = Duration::from_secs(60);
/// Whom a token is issued to, characters; the audit log shows it.
pub const TOKEN_SUBJECT_CHARS_MAX: usize = 200;
/// Bounds of the life of a token of ours.
pub const TOKEN_LIFETIME_MIN: Duration = Duration::from_secs(60);
pub const TOKEN_LIFETIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// How long one key signs our tokens; it verifies them as long again, far longer than they live.
pub const TOKEN_KEY_SPAN: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Body of a request for a token, bytes.
pub const TOKEN_REQUEST_BYTES_MAX: usize = 16 * 1024;
/// Issuers whose tokens are accepted.
pub const JWT_ISSUERS_MAX: usize = 32;
/// Name of an issuer or an audience, bytes.
pub const JWT_NAME_BYTES_MAX: usize = 256;
/// An issuer's key set, bytes, and the keys in it.
pub const JWKS_BYTES_MAX: usize = 256 * 1024;
pub const JWKS_KEYS_MAX: usize = 100;
/// From asking for a key set to its last byte.
pub const JWKS_TIMEOUT: Duration = Duration::from_secs(5);
/// How old a key set may get before it is fetched anew, behind the requests that go on with it.
pub const JWKS_FRESH: Duration = Duration::from_secs(10 * 60);
/// How old a key set may get before requests wait until it is fetched anew: bounds how long a key counts that was taken
/// out, also where tokens are few.
pub const JWKS_STALE: Duration = Duration::from_secs(20 * 60);
/// How long it goes on counting while it cannot be fetched anew: the longest outage of an issuer that nobody notices.
pub const JWKS_KEPT_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// From one fetch of a key set to the next because of keys that it does not have, and to the next after a failure.
pub const JWKS_REFETCH_MIN: Duration = Duration::from_secs(30);
pub const JWKS_RETRY_MIN: Duration = Duration::from_secs(10);

/// Connections to the API at once; beyond them, those that only wait are closed for the next one.
pub const SERVE_CONNECTIONS_MAX: usize = 8192;
/// Connections that wait to be accepted; the system may have a lower bound (`net.core.somaxconn`). Whoever finds no place
/// tries again a second later, so a burst must fit in: the usual 128 do not.
pub const SERVE_BACKLOG: u32 = 4096;
/// From the first byte of a request's head to its last.
pub const SERVE_HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a body may be on its way before its connection may have to give way to another one.
pub const SERVE_BODY_PATIENCE: Duration = Duration::from_secs(1);
/// How long a connection may wait between two requests: above the 60 s after which common load balancers close theirs.
pub const SERVE_IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// Headers of one request, and bytes of its head.
pub const SERVE_HEADERS_MAX: usize = 100;
pub const SERVE_HEAD_BYTES_MAX: usize = 64 * 1024;
/// Requests at once on one HTTP/2 connection.
pub const SERVE_STREAMS_MAX: u32 = 256;

/// Sessions of one user or portal tenant: what somebody can look through; the oldest ends for a new one.
pub const SESSIONS_PER_OWNER_MAX: usize = 50;
/// How long a session lives unused, and at all.
pub const SESSION_IDLE: Duration = Duration::from_secs(24 * 60 * 60);
pub const SESSION_LIFETIME: Duration = Duration::from_secs(14 * 24 * 60 * 60);
/// How often it is written that a session is in use.
pub const SESSION_SEEN_EVERY: Duration = Duration::from_secs(60);
/// What is kept of what a browser calls itself, characters.
pub const AGENT_CHARS_MAX: usize = 200;
/// How long a link for one use is good: into a new deployment, for somebody invited, for a new password, and from leaving
/// for the identity provider to coming back.
pub const SETUP_LINK_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
pub const INVITATION_LIFETIME: Duration = Duration::from_secs(7 * 24 * 60 * 60);
pub const PASSWORD_RESET_LIFETIME: Duration = Duration::from_secs(60 * 60);
pub const OIDC_LOGIN_LIFETIME: Duration = Duration::from_secs(10 * 60);
/// Characters of a password: long enough not to be guessed, and short enough to hash quickly.
pub const PASSWORD_CHARS_MIN: usize = 12;
pub const PASSWORD_CHARS_MAX: usize = 128;
/// Passwords hashed at once, each some 19 MiB and tens of milliseconds of a core; and those that may wait for it.
pub const PASSWORD_HASHES_AT_ONCE: usize = 2;
pub const PASSWORD_HASHES_WAITING_MAX: usize = 64;
/// Longest e-mail address, bytes (RFC 5321, section 4.5.3.1.3).
pub const EMAIL_BYTES_MAX: usize = 254;
/// Users of one deployment: all are in memory.
pub const USERS_MAX: usize = 10_000;
/// Tries to log in within [`LOGIN_WINDOW`]: with one account from one address, with one account, and from one address.
pub const LOGIN_TRIES_PER_ACCOUNT_AND_ADDRESS: u32 = 10;
pub const LOGIN_TRIES_PER_ACCOUNT: u32 = 100;
pub const LOGIN_TRIES_PER_ADDRESS: u32 = 60;
pub const LOGIN_WINDOW: Duration = Duration::from_secs(15 * 60);
/// Counters of such tries in memory; the oldest goes for a new one.
pub const LOGIN_COUNTERS_MAX: usize = 30_000;
/// What is sent by hand within [`SENDS_BY_HAND_WINDOW`] (tests, retries, one event again, pings of new webhooks): of the
/// members of one tenant together, and of its guests in the portal.
pub const SENDS_BY_HAND_MAX: u32 = 60;
pub const SENDS_BY_HAND_WINDOW: Duration = Duration::from_secs(60);
/// Counters of that in memory; the oldest goes for a new one.
pub const SENDS_BY_HAND_COUNTERS_MAX: usize = 10_000;
/// Events that one page of a search in payloads looks at, and their bytes: the reader may go on from there.
pub const EVENTS_SEARCHED_MAX: usize = 2000;
pub const EVENTS_SEARCHED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Deliveries or events that a page looks at to count what a bulk replay would take; of more it says so.
pub const REPLAY_LOOKED_AT_MAX: usize = 10_000;
/// Pages of one session that follow what happens, and of all on this node: each holds a connection.
pub const LIVE_PER_SESSION_MAX: usize = 4;
pub const LIVE_STREAMS_MAX: usize = 512;
/// A form of the console, bytes.
pub const FORM_BYTES_MAX: usize = 512 * 1024;

/// How long a link into the customers' portal, and the session that it becomes, are good: bounds, and unless it is said.
pub const PORTAL_LIFETIME_MIN: Duration = Duration::from_secs(60);
pub const PORTAL_LIFETIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);
pub const PORTAL_LIFETIME: Duration = Duration::from_secs(60 * 60);
/// Links into the portal of one tenant that wait to be used: what somebody can look through; the one that would end first
/// goes for a new one.
pub const PORTAL_LINKS_PER_TENANT_MAX: usize = 1000;
/// Origins that may show the portal in a frame: all are in a header of every page.
pub const PORTAL_FRAME_ANCESTORS_MAX: usize = 32;
/// The portal's logo, bytes: it is in memory, and on every first page.
pub const PORTAL_LOGO_BYTES_MAX: usize = 256 * 1024;
