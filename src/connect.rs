//! `GET /v1/connect`: authenticates an upgrade and hands it to the user's hub; `POST /v1/tickets`.

use tidegate_durable_objects::hub::TICKET_HEADER;
use tidegate_durable_objects::platform::{deployment_key, now, random, unavailable};
use tidegate_durable_objects::remote;
use tidegate_durable_objects::tokens::verify;
use tidegate_engine::hub::hub_of;
use tidegate_identity::ticket::{self, TicketClaims, TicketId};
use tidegate_identity::{Tenant, User};
use tidegate_protocol::calls::hub::Reply;
use tidegate_protocol::calls::network::Network;
use tidegate_protocol::calls::{Answered, PRINCIPAL_HEADER, Principal};
use tidegate_protocol::envelope;
use tidegate_protocol::frames::PROTOCOL;
use tidegate_protocol::http::Ticket;
use tidegate_protocol::ids::{HubIndex, ObjectName, TenantId, UserId};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};
use worker::{Env, Headers, Request, RequestInit, Response};

use crate::identify::{header, network, unauthorized};
use crate::request_log::Served;
use crate::tenants::scale;
use crate::{address_limits, answer};

/// How long a ticket is good. Milliseconds.
const TICKET_MS: u64 = 30_000;

struct Caller {
    principal: Principal,
    ticket: Option<(String, HubIndex)>,
}

/// Upgrades the connection.
///
/// Errors: `VALIDATION_ERROR` for a request that is no upgrade, `RATE_LIMITED` for an address that opens too many sockets,
/// `UNAUTHORIZED`, and the hub's refusals.
pub async fn handle(request: &Request, env: &Env, served: &Served) -> Result<Response, Error> {
    let text = |name: &str| request.headers().get(name).ok().flatten();
    if !text("upgrade").is_some_and(|upgrade| upgrade.eq_ignore_ascii_case("websocket")) {
        let message = "This is the address of a WebSocket: send `Upgrade: websocket`.";
        return Err(Error::new(ErrorCode::ValidationError, message));
    }
    let from = network(request, env);
    address_limits::check_connect(env, &from).await?;
    let offered = text("sec-websocket-protocol").unwrap_or_default();
    let protocols: Vec<&str> = offered
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .collect();
    let mut caller = identify(request, env, &protocols).await?;
    caller.principal.network = from;
    served.identified(&caller.principal);
    let hub = match &caller.ticket {
        Some((_, hub)) => *hub,
        None => hub_of(&caller.principal.user, scale(env, &caller.principal.tenant).await?.hubs),
    };
    let headers = Headers::new();
    let principal = ascii_json(&caller.principal)?;
    let set = |name: &str, value: &str| headers.set(name, value).map_err(unavailable("an upgrade"));
    set("upgrade", "websocket")?;
    set(PRINCIPAL_HEADER, &principal)?;
    if let Some((id, _)) = &caller.ticket {
        set(TICKET_HEADER, id)?;
    }
    if let Some(origin) = text("origin") {
        set("origin", &origin)?;
    }
    if protocols.contains(&PROTOCOL) {
        set("sec-websocket-protocol", PROTOCOL)?;
    }
    let mut init = RequestInit::new();
    init.with_headers(headers);
    let upgrade = Request::new_with_init("http://object/connect", &init).map_err(unavailable("an upgrade"))?;
    let name = ObjectName::Hub(caller.principal.tenant, hub);
    let mut response = remote::stub(env, &name)?
        .fetch_with_request(upgrade)
        .await
        .map_err(unavailable("a hub"))?;
    if response.status_code() == 101 {
        return Ok(response);
    }
    let bytes = response.bytes().await.map_err(unavailable("a hub's refusal"))?;
    match envelope::decode::<Answered<Reply>>(&bytes)? {
        Answered::Refused(error) => Err(error),
        Answered::Reply(_) => Err(Error::new(
            ErrorCode::InternalError,
            "The hub answered another question.",
        )),
    }
}

async fn identify(request: &Request, env: &Env, protocols: &[&str]) -> Result<Caller, Error> {
    let url = request.url().map_err(unavailable("an address"))?;
    let mut ticket = None;
    for (name, value) in url.query_pairs() {
        match name.as_ref() {
            "ticket" => ticket = Some(value.into_owned()),
            "token" | "access_token" | "bearer" | "authorization" => {
                return Err(unauthorized(
                    "A token in an address is written to logs: use the header, or a ticket.",
                ));
            }
            _ => {}
        }
    }
    if let Some(text) = ticket {
        return redeem(env, &text);
    }
    let bearer = protocols.iter().find_map(|name| name.strip_prefix("bearer."));
    let principal = match bearer {
        Some(_) if !protocols.contains(&PROTOCOL) => {
            return Err(unauthorized("A token in the subprotocol list goes with `tidegate.v1`."));
        }
        Some(token) => verify(env, token).await?,
        None => header(request, env).await?,
    };
    Ok(Caller {
        principal,
        ticket: None,
    })
}

fn redeem(env: &Env, text: &str) -> Result<Caller, Error> {
    let key = deployment_key(env)?;
    let claims =
        ticket::open(&key, text, now().0).map_err(|error| Error::new(ErrorCode::Unauthorized, error.message()))?;
    let tenant = TenantId::parse(claims.tenant.as_str());
    let user = UserId::parse(claims.user.as_str());
    let (Some(tenant), Some(user), Ok(hub)) = (tenant, user, u16::try_from(claims.hub)) else {
        return Err(unauthorized("The ticket cannot be used."));
    };
    let expires_at = UnixMs(claims.token_expires_at_ms);
    let principal = Principal {
        tenant,
        user,
        scopes: claims.scopes.into_iter().collect(),
        expires_at,
        credential: serde_json::from_str(&claims.credential).map_err(|_| unauthorized("The ticket cannot be used."))?,
        network: Network::default(),
    };
    Ok(Caller {
        principal,
        ticket: Some((claims.id.to_string(), HubIndex(hub))),
    })
}

/// A principal as JSON that a header takes: every character beyond ASCII is escaped.
fn ascii_json(principal: &Principal) -> Result<String, Error> {
    let text = serde_json::to_string(principal)
        .map_err(|_| Error::new(ErrorCode::InternalError, "The principal could not be written."))?;
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_ascii() {
            escaped.push(character);
        } else {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    Ok(escaped)
}

/// Mints a ticket for the principal's own hub.
///
/// Errors: `UNAUTHORIZED` where the token is about to expire.
pub async fn ticket(env: &Env, principal: &Principal) -> Result<Response, Error> {
    let key = deployment_key(env)?;
    let now = now();
    let hub = hub_of(&principal.user, scale(env, &principal.tenant).await?.hubs);
    let expires_at = now.plus(TICKET_MS).min(principal.expires_at);
    let unnameable = || unauthorized("The token names a tenant or user that a ticket cannot carry.");
    let mut id = [0; 16];
    for (place, byte) in id
        .iter_mut()
        .zip(random().to_le_bytes().into_iter().chain(random().to_le_bytes()))
    {
        *place = byte;
    }
    let claims = TicketClaims {
        id: TicketId(id),
        tenant: Tenant::parse(principal.tenant.as_str()).ok_or_else(unnameable)?,
        user: User::parse(principal.user.as_str()).ok_or_else(unnameable)?,
        credential: serde_json::to_string(&principal.credential).unwrap_or_default(),
        scopes: principal.scopes.iter().cloned().collect(),
        token_expires_at_ms: principal.expires_at.0,
        expires_at_ms: expires_at.0,
        hub: u32::from(hub.0),
    };
    let ticket =
        ticket::mint(&key, &claims, now.0).map_err(|error| Error::new(ErrorCode::Unauthorized, error.message()))?;
    answer::json(&Ticket { ticket, expires_at }, 201)
}
