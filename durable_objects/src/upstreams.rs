//! What this isolate remembers of upstreams, each tenant's apart, and how it asks the tenant's gate.

use std::cell::RefCell;
use std::pin::pin;
use std::rc::Rc;

use futures_util::future::{Either, select};
use tidegate_engine::upstreams::Edge;
use tidegate_protocol::calls::tenant::{Call, Reply};
use tidegate_protocol::calls::upstreams::{Consult, Standing};
use tidegate_protocol::ids::TenantId;
use tidegate_protocol::{Error, ErrorCode};
use worker::Env;

use crate::{remote, timer};

/// Upstreams, or keys of their breakers, that an isolate remembers. Some 200 bytes each.
const EDGES_MAX: usize = 512;
/// How long the gate may take to answer. A call of an upstream is not held up for longer by who guards it. Milliseconds.
const CONSULT_MS: u64 = 1_000;

struct Known {
    tenant: TenantId,
    upstream: String,
    key: String,
    edge: Rc<RefCell<Edge>>,
}

thread_local! {
    static EDGES: RefCell<Vec<Known>> = const { RefCell::new(Vec::new()) };
}

/// What is remembered of the breaker `key` of an upstream. What is in use is not forgotten: it counts calls under way.
pub fn edge(tenant: &TenantId, upstream: &str, key: &str) -> Rc<RefCell<Edge>> {
    EDGES.with_borrow_mut(|edges| {
        let known = edges
            .iter()
            .find(|known| known.key == key && known.upstream == upstream && known.tenant == *tenant);
        if let Some(known) = known {
            return known.edge.clone();
        }
        if edges.len() >= EDGES_MAX
            && let Some(unused) = edges.iter().position(|known| Rc::strong_count(&known.edge) == 1)
        {
            edges.remove(unused);
        }
        let edge = Rc::<RefCell<Edge>>::default();
        edges.push(Known {
            tenant: tenant.clone(),
            upstream: upstream.to_owned(),
            key: key.to_owned(),
            edge: edge.clone(),
        });
        edge
    })
}

/// Tells the gate of calls, and asks it how a breaker stands.
///
/// Errors: `UNAVAILABLE` where it does not answer.
pub async fn consult(env: &Env, tenant: &TenantId, consult: Consult) -> Result<Standing, Error> {
    let call = Call::Consult(Box::new(consult));
    let asked = pin!(remote::tenant(env, tenant, &call));
    match select(asked, pin!(timer::sleep(CONSULT_MS))).await {
        Either::Left((Ok(Reply::Standing(standing)), _)) => Ok(standing),
        Either::Left((Ok(_), _)) => Err(Error::new(
            ErrorCode::InternalError,
            "The gate answered another question.",
        )),
        Either::Left((Err(error), _)) => Err(error),
        Either::Right(_) => Err(Error::new(ErrorCode::Unavailable, "The tenant's gate does not answer.")),
    }
}
