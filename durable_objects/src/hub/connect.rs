//! New sockets: who they belong to, and tickets.

use std::num::NonZeroU32;
use std::rc::Rc;

use tidegate_engine::connections::Bounds;
use tidegate_engine::hub::Moment;
use tidegate_engine::hub::tickets::{self, Spent};
use tidegate_protocol::calls::hub::Reply;
use tidegate_protocol::calls::tenant;
use tidegate_protocol::calls::{Answered, PRINCIPAL_HEADER, Principal};
use tidegate_protocol::frames::PROTOCOL;
use tidegate_protocol::{Error, ErrorCode, envelope};
use worker::{Request, Response, Result, WebSocketPair};

use super::{Shell, TICKET_HEADER};
use crate::platform::{now, random};
use crate::remote;
use crate::sql::ObjectDatabase;

/// The response to an upgrade that is refused.
fn refusal(error: Error) -> Result<Response> {
    Response::from_bytes(envelope::encode(&Answered::<Reply>::Refused(error)))
}

impl Shell {
    /// Accepts the socket of a principal that the Worker verified.
    pub(super) async fn connect(self: &Rc<Self>, request: &Request) -> Result<Response> {
        // A hub that does not know yet who may not come in lets nobody in, and spends no ticket.
        let known = match self.active().await {
            Ok(known) => known,
            Err(error) => return refusal(error),
        };
        // Before a ticket is spent: the page was the wrong one, not the ticket.
        let origin = request.headers().get("origin")?;
        if let Err(error) = known.plan.origins.check_socket(origin.as_deref()) {
            return refusal(error);
        }
        let principal = match self.principal(request) {
            Ok(principal) => principal,
            Err(error) => return refusal(error),
        };
        let (bounds, hubs) = (known.plan.connections, known.description.scale.hubs);
        if let Err(error) = self.find_place(bounds, hubs).await {
            return refusal(error);
        }
        let pair = WebSocketPair::new()?;
        let opened = {
            let mut chance = random;
            let mut moment = Moment {
                now: now(),
                random: &mut chance,
            };
            self.memory.borrow_mut().open(&mut moment, principal, bounds, hubs)
        };
        let (connection, effects) = match opened {
            Ok(opened) => opened,
            Err(error) => return refusal(error),
        };
        self.state.accept_web_socket(&pair.server);
        self.sockets.borrow_mut().insert(connection, pair.server);
        self.perform(effects);
        self.arm();
        let response = Response::from_websocket(pair.client)?;
        if request.headers().get("sec-websocket-protocol")?.is_some() {
            let headers = worker::Headers::new();
            headers.set("sec-websocket-protocol", PROTOCOL)?;
            return Ok(response.with_headers(headers));
        }
        Ok(response)
    }

    /// Asks the gate for a place, where one is needed and none is at hand. Others may take what it gives, and then it is asked again, for
    /// as long as it has any.
    async fn find_place(&self, bounds: Bounds, hubs: u16) -> core::result::Result<(), Error> {
        loop {
            let Some((live, most)) = self.memory.borrow_mut().ask_for_place(bounds, hubs) else {
                return Ok(());
            };
            let asked = self.ask_for_places(live, most).await;
            self.memory.borrow_mut().hear_places(asked.as_ref().ok().copied());
            if asked? <= live {
                return Ok(());
            }
        }
    }

    async fn ask_for_places(&self, live: u32, most: NonZeroU32) -> core::result::Result<u32, Error> {
        let (tenant, hub) = self.name.as_ref().ok_or_else(Error::not_found)?;
        let call = tenant::Call::Connect { hub: *hub, live, most };
        match remote::tenant(&self.env, tenant, &call).await? {
            tenant::Reply::Places(held) => Ok(held),
            _ => Err(Error::new(
                ErrorCode::InternalError,
                "The gate answered another question.",
            )),
        }
    }

    pub(super) fn principal(&self, request: &Request) -> core::result::Result<Principal, Error> {
        let forbidden = || {
            Error::new(
                ErrorCode::InternalError,
                "A connection reached the hub without a principal.",
            )
        };
        let header = request
            .headers()
            .get(PRINCIPAL_HEADER)
            .ok()
            .flatten()
            .ok_or_else(forbidden)?;
        let principal: Principal = serde_json::from_str(&header).map_err(|_| forbidden())?;
        if self.name.as_ref().is_none_or(|(tenant, _)| *tenant != principal.tenant) {
            return Err(forbidden());
        }
        if let Some(ticket) = request.headers().get(TICKET_HEADER).ok().flatten() {
            self.spend(&ticket)?;
        }
        Ok(principal)
    }

    /// Spends a ticket: the first to come with it passes.
    pub(super) fn spend(&self, ticket: &str) -> core::result::Result<(), Error> {
        let turn = |db: &ObjectDatabase| tickets::spend(db, now(), ticket);
        match self.db.migrated(&self.migrated, tickets::STEPS, turn) {
            Ok(Spent::Now) => Ok(()),
            Ok(Spent::Before) => Err(Error::new(
                ErrorCode::Unauthorized,
                "The ticket was used already: it is good once.",
            )),
            Err(_) => {
                Err(Error::new(ErrorCode::Unavailable, "The ticket cannot be checked right now.").retry_after(1000))
            }
        }
    }
}
