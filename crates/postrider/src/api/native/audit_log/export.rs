//! The whole log as lines of JSON. It is read from the store as fast as the client takes it, a bounded piece at a time.

use std::io;
use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use postrider_core::ids::TenantId;
use postrider_core::limits::AUDIT_EXPORT_STEP;
use postrider_core::time::UnixMs;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::IntoParams;

use crate::api::call::{Call, Reply};
use crate::api::error::{ApiError, Code, Result};
use crate::app::App;
use crate::store::{AuditQuery, AuditRecord, Page, Scope, chain};

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ExportQuery {
    /// Only this tenant's; implied by a tenant's key.
    #[param(value_type = Option<String>)]
    tenant_id: Option<TenantId>,
    /// From the first entry of this time or later on.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<UnixMs>,
}

/// One line. Number and hash belong to the log of the platform; to a tenant they would tell of others.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<i64>,
    /// Null: written by a version that knew no chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<Option<String>>,
    entry: &'a RawValue,
}

/// An export on its way.
struct Export {
    app: Arc<App>,
    scope: Scope,
    since: Option<UnixMs>,
    /// Where to go on: after it with the chain, before it with one tenant's.
    place: Option<i64>,
    is_over: bool,
}

pub(super) async fn export(call: Call) -> Result<Reply> {
    let query: ExportQuery = call.query()?;
    let scope = call.narrowed(query.tenant_id)?;
    let mut export = Export { app: call.app().clone(), scope, since: query.since, place: None, is_over: false };
    // What goes wrong with the first piece can still be told by a status.
    let first = export.next().await?;
    let rest = stream::unfold(export, |mut export| async move {
        match export.next().await {
            Ok(Some(lines)) => Some((Ok(lines), export)),
            Ok(None) => None,
            Err(error) => {
                let cause = error.cause.as_ref().map(|cause| format!("{cause:#}"));
                tracing::warn!(cause, "an export of the audit log broke off: {}", error.message);
                export.is_over = true;
                Some((Err(io::Error::other(error.message)), export))
            }
        }
    });
    let first = stream::iter(first.map(Ok::<Bytes, io::Error>));
    Ok(Reply::other("application/x-ndjson", Body::from_stream(first.chain(rest))))
}

impl Export {
    /// The next lines, at least one; none at the end.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        while !self.is_over {
            if self.app.stopping.is_cancelled() {
                return Err(ApiError::new(Code::ShuttingDown, "the process is stopping"));
            }
            let records = match self.scope {
                Scope::Platform => self.chained().await?,
                Scope::Tenant(_) => self.of_tenant().await?,
            };
            if !records.is_empty() {
                return Ok(Some(self.lines(&records)?));
            }
        }
        Ok(None)
    }

    /// Of all, oldest first. Times are not quite in the order of numbers: from the first wanted entry on none is left out.
    async fn chained(&mut self) -> Result<Vec<AuditRecord>> {
        let mut records = self.app.store.audit_chain(self.place.unwrap_or(0), AUDIT_EXPORT_STEP).await?;
        let Some(last) = records.last() else {
            self.is_over = true;
            return Ok(records);
        };
        self.place = Some(last.number);
        if let Some(since) = self.since {
            let early = records.iter().position(|record| record.entry.at >= since);
            records.drain(..early.unwrap_or(records.len()));
            self.since = self.since.filter(|_| early.is_none());
        }
        Ok(records)
    }

    /// Of one tenant, newest first.
    async fn of_tenant(&mut self) -> Result<Vec<AuditRecord>> {
        let page = Page { before: self.place, limit: AUDIT_EXPORT_STEP };
        let query = AuditQuery { scope: self.scope, actor: None, action: None, since: self.since, page };
        let listed = self.app.store.audit_log(query).await?;
        self.place = listed.next;
        self.is_over = listed.next.is_none();
        Ok(listed.items)
    }

    fn lines(&self, records: &[AuditRecord]) -> Result<Bytes> {
        let is_chain = self.scope == Scope::Platform;
        let mut lines = Vec::new();
        for record in records {
            let entry = String::from_utf8(chain::line(&record.entry)).map_err(ApiError::internal)?;
            let line = Line {
                number: is_chain.then_some(record.number),
                hash: is_chain.then(|| record.hash.map(hex::encode)),
                entry: &RawValue::from_string(entry).map_err(ApiError::internal)?,
            };
            serde_json::to_writer(&mut lines, &line).map_err(ApiError::internal)?;
            lines.push(b'\n');
        }
        Ok(lines.into())
    }
}
