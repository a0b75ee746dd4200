//! `GET /v1/jobs/{id}/events`: what is stored of a job is read page by page, as fast as the client takes it; from there on the job is
//! followed over a bridge to the user's hub, so that no object is awake between two events.

use futures_util::StreamExt;
use futures_util::stream;
use tidegate_durable_objects::platform::{now, random};
use tidegate_durable_objects::remote;
use tidegate_engine::event_streams::{KEEP_ALIVE, Told, attach, read};
use tidegate_protocol::calls::jobs::{Call, Reply};
use tidegate_protocol::calls::{Caller, Principal};
use tidegate_protocol::frames::ServerFrame;
use tidegate_protocol::ids::{JobId, ObjectName, RequestId, Seq};
use tidegate_protocol::{Error, ErrorCode};
use worker::{Env, Method, Request, Response};

use crate::bridge::Bridge;
use crate::event_streams::{Chunks, EVENT_STREAM, Live, respond, takes};
use crate::history;
use crate::jobs::{find, queries, query_number, unexpected};

/// `GET /v1/jobs/{id}/events`: a stream, or with `Accept: application/json` a page of stored events.
///
/// Errors: `NOT_FOUND`; `NOT_ACCEPTABLE` for a client that takes neither; for a job that has not ended, the hub's refusals.
pub async fn events(request: &Request, env: &Env, principal: &Principal, job: &str) -> Result<Response, Error> {
    let header = |name: &str| request.headers().get(name).ok().flatten();
    let accept = header("accept").unwrap_or_default();
    let pairs = queries(request)?;
    let after = match header("last-event-id") {
        Some(text) => text.trim().parse::<u64>().ok(),
        None => query_number(&pairs, "after", u64::MAX)?,
    };
    if accept.contains("application/json") && !accept.contains(EVENT_STREAM) {
        return history::events(env, principal, job, after).await;
    }
    let (job, name) = find(env, principal, job).await?;
    if !takes(&accept, EVENT_STREAM) {
        let message = "This path gives `text/event-stream` or `application/json`.";
        return Err(Error::new(ErrorCode::NotAcceptable, message));
    }
    let mut stored = Stored {
        env: env.clone(),
        name,
        job,
        caller: principal.caller(),
        request_id: RequestId::generate(now(), random()),
        after: Seq(after.unwrap_or(0)),
        ended: false,
    };
    let first = stored.page().await?;
    if request.method() == Method::Head {
        return respond(stream::empty().boxed_local());
    }
    if stored.ended {
        // Nothing will come: it takes no connection.
        let all = first.unwrap_or_else(|| KEEP_ALIVE.into());
        return respond(stream::iter([Ok(all.into_bytes())]).boxed_local());
    }
    let bridge = Bridge::open(env, &principal.clone().into()).await?;
    respond(chunks(Following::Stored { stored, bridge, first }))
}

/// Where a stream of a job is.
enum Following {
    /// It reads what is stored: `first` is the page that was read already.
    Stored {
        stored: Stored,
        bridge: Bridge,
        first: Option<String>,
    },
    /// It is told what happens.
    Live(Live),
    /// Nothing more comes.
    Ended,
}

fn chunks(from: Following) -> Chunks {
    stream::unfold(from, |following| async move {
        let (chunk, following) = following.next().await?;
        Some((Ok(chunk.into_bytes()), following))
    })
    .boxed_local()
}

impl Following {
    async fn next(self) -> Option<(String, Self)> {
        match self {
            Self::Stored {
                mut stored,
                bridge,
                first,
            } => {
                let page = match first {
                    Some(first) => Some(first),
                    // The client comes back with its last event id; a stream has no better way to say it.
                    None => stored.page().await.ok()?,
                };
                match page {
                    Some(page) if stored.ended => Some((page, Self::Ended)),
                    Some(page) => Some((
                        page,
                        Self::Stored {
                            stored,
                            bridge,
                            first: None,
                        },
                    )),
                    None if stored.ended => None,
                    None => {
                        bridge.send(&attach(&stored.request_id, stored.job, stored.after));
                        let mut live = Live::new(bridge, KEEP_ALIVE.into());
                        let chunk = live.chunk().await?;
                        Some((chunk, Self::Live(live)))
                    }
                }
            }
            Self::Live(mut live) => {
                let chunk = live.chunk().await?;
                Some((chunk, Self::Live(live)))
            }
            Self::Ended => None,
        }
    }
}

/// What is stored of a job.
struct Stored {
    env: Env,
    name: ObjectName,
    job: JobId,
    caller: Caller,
    request_id: RequestId,
    after: Seq,
    ended: bool,
}

impl Stored {
    /// The events behind the last ones, where there are any.
    async fn page(&mut self) -> Result<Option<String>, Error> {
        let (job, caller) = (self.job, self.caller.clone());
        let call = Call::Watch {
            job,
            caller,
            after: Some(self.after),
            wait_ms: 0,
            until_end: false,
        };
        let reply = remote::jobs(&self.env, &self.name, call).await?;
        let Reply::Following {
            snapshot,
            events,
            ended,
            ..
        } = reply
        else {
            return Err(unexpected());
        };
        self.ended = ended;
        let mut page = String::new();
        let snapshot = snapshot.map(|snapshot| {
            let seq = snapshot.seq;
            (seq, ServerFrame::snapshot(self.request_id.clone(), job, snapshot))
        });
        let events = events.iter().map(|event| {
            let frame = ServerFrame::event(self.request_id.clone(), job, event);
            (event.seq, frame)
        });
        for (seq, frame) in snapshot.into_iter().chain(events) {
            if let Told::Event(event) | Told::Last(event) = read(&frame.encode()) {
                page.push_str(&event);
            }
            self.after = seq;
        }
        Ok(Some(page).filter(|page| !page.is_empty()))
    }
}
