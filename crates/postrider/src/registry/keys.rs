//! Tenants' API keys. A key is shown once; only its SHA-256 is kept.

use postrider_core::ids::{KeyId, TenantId};
use postrider_core::signing::Secret;
use postrider_core::time::UnixMs;
use serde_json::{Value, json};

use super::{Rejection, Result, audit, check_name};
use crate::ambient::Ambient;
use crate::app::App;
use crate::auth::{self, Permission, Principal, role_name};
use crate::store::{Actor, KeyRecord, Role, Scope};

/// Keys of one tenant: far above what rotation by hand needs, and a bound on what the catalog holds.
pub const KEYS_PER_TENANT_MAX: usize = 1000;
/// Random characters of a key: 43 of 62 kinds are 256 bits.
const RANDOM_CHARS: usize = 43;
/// Random characters that stay visible, to recognise a key by.
const SHOWN_CHARS: usize = 4;

/// What a new key is to be.
#[derive(Debug)]
pub struct NewKey {
    pub tenant_id: TenantId,
    pub name: String,
    pub role: Role,
    pub scopes: Vec<String>,
    pub expires_at: Option<UnixMs>,
    /// `sk` or `alm`.
    pub prefix: &'static str,
    /// `live` or `test`.
    pub mode: &'static str,
}

/// Creates a key on behalf of `creator`, who cannot give more than he has.
pub async fn create(app: &App, creator: &Principal, new: NewKey, actor: &Actor) -> Result<(KeyRecord, Secret)> {
    check_name("name", &new.name)?;
    check_scopes(creator, new.role, &new.scopes)?;
    let now = app.ambient.now();
    if new.expires_at.is_some_and(|at| at <= now) {
        return Err(Rejection::invalid("expires_at", "must be in the future"));
    }
    let _changing = app.catalog.changing(&app.store).await?;
    if app.catalog.tenant(new.tenant_id).is_none() {
        return Err(Rejection::NotFound("tenant"));
    }
    if app.catalog.keys(Some(new.tenant_id)).len() >= KEYS_PER_TENANT_MAX {
        return Err(Rejection::LimitReached(format!("a tenant has at most {KEYS_PER_TENANT_MAX} API keys")));
    }
    let shown_in_full = format!("{}_{}_", new.prefix, new.mode);
    let key = format!("{shown_in_full}{}", random_text(&*app.ambient));
    let record = KeyRecord {
        id: KeyId::from_random(app.ambient.random()),
        tenant_id: new.tenant_id,
        name: new.name,
        role: new.role,
        scopes: new.scopes,
        hash: auth::hash(key.as_bytes()),
        shown_prefix: key[..shown_in_full.len() + SHOWN_CHARS].to_owned(),
        expires_at: new.expires_at,
        created_at: now,
    };
    let entry = audit(app, Some(record.tenant_id), actor, "key.created", record.id, (None, Some(view(&record))));
    app.store.put_key(record.clone(), entry).await?;
    app.catalog.put_key(record.clone());
    Ok((record, Secret::new(key)))
}

/// Revokes a key at once.
pub async fn revoke(app: &App, scope: Scope, id: KeyId, actor: &Actor) -> Result<()> {
    let _changing = app.catalog.changing(&app.store).await?;
    let key = app.catalog.key_by_id(id).filter(|key| scope.covers(key.tenant_id));
    let key = key.ok_or(Rejection::NotFound("API key"))?;
    let entry = audit(app, Some(key.tenant_id), actor, "key.deleted", id, (Some(view(&key)), None));
    app.store.delete_key(id, entry).await?;
    app.catalog.remove_key(id);
    Ok(())
}

fn check_scopes(creator: &Principal, role: Role, scopes: &[String]) -> Result<()> {
    if role > creator.role() {
        let message = format!("a key cannot be above the role of its creator ({})", role_name(creator.role()));
        return Err(Rejection::Forbidden { param: "role".to_owned(), message });
    }
    for (at, name) in scopes.iter().enumerate() {
        let param = format!("scopes[{at}]");
        let Some(permission) = Permission::from_name(name) else {
            let known: Vec<_> = Permission::ALL.iter().map(|permission| permission.name()).collect();
            return Err(Rejection::invalid(param, format!("not a scope; known are {}", known.join(", "))));
        };
        if role < permission.role() {
            let needed = role_name(permission.role());
            return Err(Rejection::invalid(param, format!("{name} needs the role {needed} or above")));
        }
        if scopes[..at].contains(name) {
            return Err(Rejection::invalid(param, format!("{name} is given twice")));
        }
    }
    let beyond = Permission::ALL
        .iter()
        .find(|permission| auth::allows(role, scopes, **permission) && !creator.may(**permission));
    match beyond {
        None => Ok(()),
        Some(permission) => Err(Rejection::Forbidden {
            param: "scopes".to_owned(),
            message: format!("a key cannot be given {}, which its creator does not have", permission.name()),
        }),
    }
}

/// A key as the audit log shows it.
fn view(key: &KeyRecord) -> Value {
    json!({
        "id": key.id, "name": key.name, "role": key.role, "scopes": key.scopes, "prefix": key.shown_prefix,
        "expires_at": key.expires_at,
    })
}

fn random_text(ambient: &dyn Ambient) -> String {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut text = String::with_capacity(RANDOM_CHARS);
    while text.len() < RANDOM_CHARS {
        // 248 is the greatest multiple of 62 in a byte: beyond it, characters would not be equally likely.
        let bytes = ambient.random::<64>().into_iter().filter(|byte| *byte < 248);
        let chars = bytes.map(|byte| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()]));
        text.extend(chars.take(RANDOM_CHARS - text.len()));
    }
    text
}
