//! Every call with every kind of token, as [`access`](super::access) has it for keys.

use axum::body::Body;
use axum::http::Request;
use serde_json::Value;
use tower::ServiceExt;

use super::World;
use super::access::{Needs, Objects, as_platform, table};
use super::scaikey::token;
use crate::auth::{Principal, Reach};

/// What a caller is to hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    /// Not a word against the credential, and what is named exists.
    Served,
    /// It may not, whoever it is about.
    Forbidden,
    /// It might, but what is named does not exist for it.
    Nothing,
}
use Heard::{Forbidden, Nothing, Served};

/// A caller, and how far the objects of the tenant are from it.
struct Caller {
    name: &'static str,
    who: Principal,
    reads: bool,
    writes: bool,
    sees: Sees,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sees {
    Everything,
    /// The tenant as one of its own, where the contract knows partners; on the other surfaces its own stream.
    ItsTenants,
    TheTenant,
    Others,
}

/// Of callers.
const KINDS: usize = 9;

const ADMINISTRATION: &str = "/api/v1/admin/";

impl Caller {
    fn hears(&self, (method, path, needs): (&str, &str, Needs)) -> Heard {
        let only_looks = match needs {
            Needs::Role(_, scope) | Needs::OwnRole(_, scope) => scope.ends_with(":read"),
            _ => method == "GET",
        };
        let may = if only_looks { self.reads } else { self.writes };
        let is_of_platform = self.sees == Sees::Everything;
        match needs {
            Needs::Platform if may && is_of_platform => Served,
            Needs::Platform => Forbidden,
            // What is a tenant's own business is not the platform's.
            Needs::OwnRole(..) if is_of_platform => Forbidden,
            _ if !may => Forbidden,
            _ if !names_something(path) => Served,
            _ if self.sees == Sees::Others => Nothing,
            _ if self.sees == Sees::ItsTenants && !path.starts_with(ADMINISTRATION) => Nothing,
            _ => Served,
        }
    }
}

/// Whether the path names an object of the tenant. A type of event is named by whoever uses it, and no listener is there.
fn names_something(path: &str) -> bool {
    path.contains('{') && !path.contains("{type}") && !path.contains("{listener}")
}

/// The body is not waited for: a listener's has no end.
async fn status(world: &World, who: &Principal, method: &str, path: &str, body: &Value) -> u16 {
    let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
    let request = Request::builder().method(method).uri(path).extension(who.clone());
    world.router.clone().oneshot(request.body(body).unwrap()).await.unwrap().status().as_u16()
}

#[tokio::test]
async fn a_token_makes_the_calls_of_its_reach_and_no_others() {
    let world = World::new().await;
    let [own, other] = [world.partner("Own").await, world.partner("Other").await];
    let (stranger, _) = world.tenant_of(other, "Stranger").await;
    let mut wrong = Vec::new();
    for (method, template, needs, given) in table() {
        // What goes by credentials of its own has its own table.
        if matches!(needs, Needs::Nothing | Needs::Signature | Needs::AdminKey | Needs::GatewayKey) {
            continue;
        }
        for kind in 0..KINDS {
            // A tenant for each: its objects are the only ones of their kind.
            let (tenant, owner) = world.tenant_of(own, "One").await;
            let (name, reach, (reads, writes), sees) = [
                ("super admin", Reach::Platform, (true, true), Sees::Everything),
                ("read-only platform", Reach::Platform, (true, false), Sees::Everything),
                ("write-only platform", Reach::Platform, (false, true), Sees::Everything),
                ("partner", Reach::Partner(own), (true, true), Sees::ItsTenants),
                ("other partner", Reach::Partner(other), (true, true), Sees::Others),
                ("tenant", Reach::Tenant(tenant), (true, true), Sees::TheTenant),
                ("read-only tenant", Reach::Tenant(tenant), (true, false), Sees::TheTenant),
                ("powerless", Reach::Tenant(tenant), (false, false), Sees::TheTenant),
                ("other tenant", Reach::Tenant(stranger), (true, true), Sees::Others),
            ][kind];
            // Nobody gives on what he does not have himself.
            if template == "/v1/api-keys" && writes && !reads {
                continue;
            }
            let caller = Caller { name, who: token(reach, reads, writes), reads, writes, sees };
            let objects = Objects::of(&world, tenant.to_string(), owner).await;
            let (mut path, mut body) = (objects.fill(template), objects.fill_body(&given));
            if caller.sees == Sees::Everything {
                (path, body) = as_platform(method, &path, &body, &tenant.to_string());
            }
            let told = status(&world, &caller.who, method, &path, &body).await;
            let heard = caller.hears((method, template, needs));
            let is_right = match heard {
                Forbidden => told == 403,
                Nothing => told == 404,
                // A reply that says no for another reason than the caller is one, too.
                Served => told < 500 && !matches!(told, 401 | 403) && (told != 404 || !names_something(template)),
            };
            if !is_right {
                wrong.push(format!("{method} {template} as {}: {told}, expected {heard:?}", caller.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
