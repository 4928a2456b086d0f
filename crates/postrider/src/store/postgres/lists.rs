//! The statements behind lists of deliveries: where they come from, each by the index that fits the question.
//!
//! One statement sees one moment, so a delivery is found pending or finished, never both and never neither. It gathers
//! the greatest numbers below the cursor (`looked`), takes those that the filters leave (`matched`), and only then reads
//! what a record shows. An order by all columns of an index names the index that is meant: no other gives it, whatever
//! the statistics say.

use postrider_core::delivery::DeliveryStatus;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use super::paging::Look;
use super::row::{ATTEMPT_COLUMNS, SHOWN_EXTERNAL_ID};

/// Whose deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Everybody's, by number; of one webhook where that is all that is known.
    Everybody,
    /// A tenant's, merged from its webhooks.
    Tenant,
    /// A webhook's whose tenant is known.
    Webhook,
    /// An event's: the range after it, and later ones by their own index.
    Event,
    /// One, by its number.
    Number,
}

/// A list's question. What is `None` filters nothing.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) source: Source,
    pub(super) tenant: Option<Uuid>,
    pub(super) webhook: Option<Uuid>,
    pub(super) event_type: Option<String>,
    pub(super) status: Option<DeliveryStatus>,
    /// Numbers from here on.
    pub(super) low: i64,
    /// For [`Source::Event`]: its number; for [`Source::Number`]: the delivery's.
    pub(super) number: i64,
    /// The last number of the event's first deliveries.
    pub(super) number_last: i64,
}

/// How many columns stand before those of the record.
pub(super) const BEFORE_RECORD: usize = 2;

/// What a record shows, of a pending row `p` with its event `e`; `{shown}` is [`SHOWN_EXTERNAL_ID`].
const PENDING: &str = "p.n, p.event, e.entropy, p.tenant, p.webhook, e.type, 0::smallint AS status, p.trigger, p.replay, \
                       p.attempts, p.due_at, NULL::bigint AS finished_at, {shown} AS external_id, \
                       NULL::smallint AS ended_class, NULL::text AS ended_detail";
/// The same, of a finished row `d`.
const FINISHED: &str = "d.n, d.event, d.entropy, d.tenant, d.webhook, d.type, d.status, d.trigger, d.replay, d.attempts, \
                        NULL::bigint, d.finished_at, {shown}, \
                        CASE WHEN d.attempt IS NULL THEN d.error_class END, \
                        CASE WHEN d.attempt IS NULL THEN d.error_detail END";

/// Every webhook of the tenant that has a row in `pending`, one descent each.
const LANES: &str = "(SELECT webhook FROM pending WHERE tenant = $1 ORDER BY webhook LIMIT 1) UNION ALL \
                     SELECT (SELECT p.webhook FROM pending AS p WHERE p.tenant = $1 AND p.webhook > lanes.webhook \
                             ORDER BY p.webhook LIMIT 1) FROM lanes WHERE lanes.webhook IS NOT NULL";
/// Every webhook of the tenant that ever had an outcome, deleted ones included.
const ENDED: &str = "SELECT DISTINCT webhook FROM webhook_health WHERE tenant = $1";

const PENDING_ROW: &str = "n, 0::smallint AS status, tenant, webhook, event, NULL::text AS type FROM pending";
const FINISHED_ROW: &str = "n, status, tenant, webhook, event, type FROM deliveries";

impl Question {
    fn wants_pending(&self) -> bool {
        matches!(self.status, None | Some(DeliveryStatus::Pending | DeliveryStatus::Delivering))
    }

    fn wants_finished(&self) -> bool {
        !matches!(self.status, Some(DeliveryStatus::Pending | DeliveryStatus::Delivering))
    }

    /// Whether rows are looked at that are no items.
    pub(super) fn is_filtered(&self) -> bool {
        self.filters() != "true"
    }

    /// What the source has not seen to.
    fn filters(&self) -> String {
        let mut filters = Vec::new();
        if self.wants_finished() && self.status.is_some() {
            filters.push("l.status = $8");
        }
        if self.event_type.is_some() {
            // A pending row does not know its type.
            filters.push(
                "coalesce(l.type, (SELECT e.type FROM events AS e WHERE e.tenant = l.tenant AND e.n = l.event LIMIT 1)) \
                 = $7",
            );
        }
        if self.webhook.is_some() && self.source != Source::Webhook {
            filters.push("l.webhook = $6");
        }
        if self.tenant.is_some() && matches!(self.source, Source::Event | Source::Number) {
            filters.push("l.tenant = $1");
        }
        if filters.is_empty() { "true".to_owned() } else { filters.join(" AND ") }
    }

    /// The statement. Parameters: see [`Question::ask`].
    pub(super) fn sql(&self) -> String {
        let mut sources = Vec::new();
        if self.wants_pending() {
            sources.extend(self.pending());
        }
        if self.wants_finished() {
            sources.extend(self.finished());
        }
        let (lanes, ended) = match self.source {
            Source::Webhook => ("SELECT $6::uuid", "SELECT $6::uuid"),
            _ => (LANES, ENDED),
        };
        let (sources, filters) = (sources.join(" UNION ALL "), self.filters());
        let [pending, finished] = [PENDING, FINISHED].map(|columns| columns.replace("{shown}", SHOWN_EXTERNAL_ID));
        let earlier = |of: &str| {
            format!(
                "(SELECT {ATTEMPT_COLUMNS} FROM attempts AS a WHERE {of}.attempts > 0 AND a.tenant = {of}.tenant \
                 AND a.delivery = {of}.n ORDER BY a.attempt DESC LIMIT 1)"
            )
        };
        let inlined = "SELECT d.attempt, d.attempt_at, d.duration_ms, d.http_status, d.error_class, d.error_detail, \
                       d.address, d.response_headers, d.response_body WHERE d.attempt IS NOT NULL UNION ALL";
        format!(
            "WITH RECURSIVE lanes (webhook) AS ({lanes}), ended (webhook) AS ({ended}), \
             looked AS MATERIALIZED (SELECT * FROM ({sources}) AS all_sources ORDER BY n DESC LIMIT $4), \
             matched AS MATERIALIZED (SELECT l.* FROM looked AS l WHERE {filters} ORDER BY l.n DESC LIMIT $5), \
             records AS ( \
               SELECT {pending}, last.* FROM matched AS m \
               CROSS JOIN LATERAL (SELECT * FROM pending AS p WHERE p.tenant = m.tenant AND p.webhook = m.webhook \
                                   AND p.n = m.n LIMIT 1) AS p \
               CROSS JOIN LATERAL (SELECT * FROM events AS e WHERE e.tenant = m.tenant AND e.n = m.event LIMIT 1) AS e \
               LEFT JOIN LATERAL {earlier_of_pending} AS last ON true WHERE m.status = 0 \
               UNION ALL \
               SELECT {finished}, last.* FROM matched AS m \
               CROSS JOIN LATERAL (SELECT * FROM deliveries AS d WHERE d.tenant = m.tenant AND d.webhook = m.webhook \
                                   AND d.n = m.n LIMIT 1) AS d \
               LEFT JOIN LATERAL (SELECT * FROM events AS e WHERE e.tenant = m.tenant AND e.n = m.event LIMIT 1) AS e \
               ON true LEFT JOIN LATERAL ({inlined} {earlier_of_finished} LIMIT 1) AS last ON true \
               WHERE m.status <> 0) \
             SELECT (SELECT count(*) FROM looked), (SELECT min(n) FROM looked), records.* \
             FROM (VALUES (1)) AS always LEFT JOIN records ON true ORDER BY records.n DESC",
            earlier_of_pending = earlier("p"),
            earlier_of_finished = earlier("d"),
        )
    }

    fn pending(&self) -> Vec<String> {
        match self.source {
            Source::Everybody => {
                vec![format!("(SELECT {PENDING_ROW} WHERE n >= $3 AND n < $2 ORDER BY n DESC LIMIT $4)")]
            }
            Source::Tenant | Source::Webhook => vec![format!(
                "(SELECT found.* FROM lanes CROSS JOIN LATERAL (SELECT {PENDING_ROW} \
                 WHERE tenant = $1 AND (webhook, n) >= (lanes.webhook, $3) AND (webhook, n) < (lanes.webhook, $2) \
                 ORDER BY pending.webhook DESC, n DESC LIMIT $4) AS found)"
            )],
            Source::Event => self.of_event(PENDING_ROW),
            Source::Number => vec![format!("(SELECT {PENDING_ROW} WHERE n = $9)")],
        }
    }

    fn finished(&self) -> Vec<String> {
        // What a partial index is on.
        let bad = match self.status {
            Some(DeliveryStatus::Failed | DeliveryStatus::Canceled) => "status <> 1 AND",
            _ => "",
        };
        match self.source {
            Source::Everybody => {
                vec![format!("(SELECT {FINISHED_ROW} WHERE {bad} n >= $3 AND n < $2 ORDER BY n DESC LIMIT $4)")]
            }
            // The range of n alone is for leaving out days.
            Source::Tenant | Source::Webhook => vec![format!(
                "(SELECT found.* FROM ended CROSS JOIN LATERAL (SELECT {FINISHED_ROW} WHERE {bad} tenant = $1 \
                 AND (webhook, n) >= (ended.webhook, $3) AND (webhook, n) < (ended.webhook, $2) \
                 AND n >= $3 AND n < $2 ORDER BY deliveries.webhook DESC, n DESC LIMIT $4) AS found)"
            )],
            Source::Event => self.of_event(FINISHED_ROW),
            Source::Number => vec![format!("(SELECT {FINISHED_ROW} WHERE n = $9)")],
        }
    }

    fn of_event(&self, rows: &str) -> Vec<String> {
        let inside = "n >= $3 AND n < $2";
        vec![
            format!("(SELECT {rows} WHERE event = $9 AND n > $9 AND n <= $10 AND {inside} ORDER BY n DESC LIMIT $4)"),
            format!(
                "(SELECT {rows} WHERE tenant = $1 AND event = $9 AND n - event > 1000 AND {inside} \
                 ORDER BY n DESC LIMIT $4)"
            ),
        ]
    }

    /// Parameters of the statement, for one look.
    pub(super) fn ask<'a>(&'a self, look: &'a Look, status: &'a i16) -> [(&'a (dyn ToSql + Sync), Type); 10] {
        [
            (&self.tenant, Type::UUID),
            (&look.before, Type::INT8),
            (&self.low, Type::INT8),
            (&look.rows, Type::INT8),
            (&look.items, Type::INT8),
            (&self.webhook, Type::UUID),
            (&self.event_type, Type::TEXT),
            (status, Type::INT2),
            (&self.number, Type::INT8),
            (&self.number_last, Type::INT8),
        ]
    }
}
