//! One request of an action, through all that makes calling an upstream reliable.
//!
//! From the outside in: the fallback; retries; the bulkhead; the breaker; a hedge. A call that is refused is not made and not
//! tried again. What is decided is decided in `tidegate_engine::upstreams`: this carries it out.

use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec;
use core::cell::RefCell;
use core::future::{Future, poll_fn};
use core::pin::pin;
use core::task::Poll;

use tidegate_engine::composition::Input;
use tidegate_engine::upstreams::{Edge, Failure, Passage, Tried};
use tidegate_protocol::calls::upstreams::{BreakerState, Consult, Outcomes, Standing};
use tidegate_protocol::event::JsonText;
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode, Fault};

use super::answer::{classify, result};
use super::config::{Config, Upstream};
use super::reliability::{Breaker, Fallback};
use super::request::{Around, prepare};
use super::secrets;
use super::settings::Settings;
use crate::operation::{Context, Incoming, Invocation, Outgoing};
use tidegate_protocol::SortedMap;

/// What each call earns of a retry or a hedge, where `retry` does not say. Percent.
const BUDGET_PERCENT: u32 = 20;
/// How much longer than its call a probe's place is kept. Milliseconds.
const PROBE_GRACE_MS: u64 = 5_000;
/// When to try again where a bulkhead is full: the calls in it last about as long as a call. Milliseconds.
const FULL_MS: u64 = 1_000;

/// Why there is no answer.
struct Failed {
    error: Error,
    /// Whether the upstream cannot have seen the request.
    unsent: bool,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { error, unsent: true }
    }
}

/// Makes the request and gives the result.
///
/// Errors: those of [`super::run`].
pub(super) async fn call<C: Context>(
    context: &C,
    call: &Invocation,
    config: &Config,
    settings: &Settings,
) -> Result<JsonText, Error> {
    let deadline = context.now().plus(call.timeout_ms);
    let mut settings = settings.clone();
    let mut first: Option<Error> = None;
    loop {
        let failed = match reliably(context, call, config, &settings, deadline).await {
            Ok(result) if first.is_some() => return Ok(marked(&result)),
            Ok(result) => return Ok(result),
            Err(failed) => failed,
        };
        // Of another upstream's failure nothing is told: the action is about the first one.
        if let Some(first) = first {
            return Err(first);
        }
        let upstream = config.upstreams.get(&settings.upstream);
        let fallback = upstream.and_then(|upstream| upstream.reliability.fallback.as_ref());
        match fallback.filter(|_| failed.error.retryable) {
            Some(Fallback::Body(body)) => {
                let answer = format!(r#"{{"status":200,"body":{}}}"#, body.as_str());
                return Ok(marked(&JsonText::parse(&answer).unwrap_or_else(JsonText::null)));
            }
            Some(Fallback::Upstream(other))
                if failed.unsent || upstream.is_some_and(|upstream| repeatable(&settings, upstream, call)) =>
            {
                settings.upstream.clone_from(other);
                first = Some(failed.error);
            }
            _ => return Err(failed.error),
        }
    }
}

/// The result, which says that it is not what the action is about.
fn marked(result: &JsonText) -> JsonText {
    let open = result.as_str().strip_suffix('}').unwrap_or_default();
    JsonText::parse(&format!(r#"{open},"fallback":true}}"#)).unwrap_or_else(|| result.clone())
}

/// Whether the request may be made twice: by its method, or because it carries a key that the upstream honours.
fn repeatable(settings: &Settings, upstream: &Upstream, call: &Invocation) -> bool {
    let by_method = matches!(settings.method, "GET" | "HEAD" | "PUT" | "DELETE");
    by_method || (upstream.reliability.idempotent && call.effect_key.is_some())
}

async fn reliably<C: Context>(
    context: &C,
    call: &Invocation,
    config: &Config,
    settings: &Settings,
    deadline: UnixMs,
) -> Result<JsonText, Failed> {
    let around = Around {
        effect_key: call.effect_key.as_deref(),
        traceparent: call.traceparent.as_ref(),
        timeout_ms: deadline.since(context.now()),
    };
    let mut request = prepare(config, settings, call.payload.as_str(), around)?;
    let upstream = config.upstreams.get(&settings.upstream);
    let upstream = upstream.ok_or_else(|| Error::new(ErrorCode::InternalError, "The upstream is not configured."))?;
    // The configured headers are the first. What the payload says is sent as it is.
    let sent = secrets::fill(context, &mut request.headers, upstream.headers.len()).await?;
    let reliability = &upstream.reliability;
    let name = format!("{}.{}", call.instance, settings.upstream);
    let repeatable = repeatable(settings, upstream, call);
    let own = context.edge(&name, "");
    let percent = reliability
        .retry
        .as_ref()
        .map_or(BUDGET_PERCENT, |retry| retry.budget_percent);
    own.borrow_mut().earn(percent);
    let (mut made, mut last) = (0, None);
    loop {
        let entered = enter(context, call, upstream, &name, &own).await;
        let (ticket, place) = match (entered, last.take()) {
            (Ok(entered), _) => entered,
            // A retry that is not let through was none: what the call before came to is told.
            (Err(_), Some(error)) => return Err(Failed { error, unsent: false }),
            (Err(error), None) => return Err(error.into()),
        };
        request.timeout_ms = upstream.timeout_ms.min(deadline.since(context.now()).max(1));
        let hedge_ms = reliability.hedge_ms.filter(|_| repeatable);
        let mut answer = fetch(context, &request, hedge_ms, &own).await;
        if let Ok(answer) = &mut answer {
            secrets::mask(answer, &sent);
        }
        drop(place);
        made += 1;
        let failure = match &answer {
            Ok(answer) if answer.status < 300 => None,
            Ok(answer) => Some(Failure::Status(answer.status)),
            Err(error) if error.code == ErrorCode::Timeout => Some(Failure::Timeout),
            Err(_) => Some(Failure::Unreachable),
        };
        let open = match ticket {
            Some(ticket) => ticket.end(failure).await,
            None => false,
        };
        let error = match answer.and_then(|answer| result(&answer, context.now())) {
            Ok(result) => return Ok(result),
            Err(error) => error,
        };
        let wait = failure.zip(reliability.retry.as_ref()).and_then(|(failure, retry)| {
            let tried = Tried {
                failure,
                made,
                retry_after_ms: error.retry_after_ms,
                left_ms: deadline.since(context.now()),
                repeatable,
                open,
            };
            retry.wait_ms(&tried, context.random())
        });
        match wait.filter(|_| own.borrow_mut().spend()) {
            Some(ms) => context.sleep(ms).await,
            None => return Err(Failed { error, unsent: false }),
        }
        last = Some(error);
    }
}

/// Makes the call, and a second one beside it where the first is not answered in `hedge_ms`. The first good answer counts.
async fn fetch<C: Context>(
    context: &C,
    request: &Outgoing,
    hedge_ms: Option<u64>,
    own: &RefCell<Edge>,
) -> Result<Incoming, Error> {
    let mut one = pin!(context.fetch(request.clone()));
    let Some(hedge_ms) = hedge_ms.filter(|hedge_ms| *hedge_ms < request.timeout_ms) else {
        return one.await;
    };
    let mut timer = pin!(context.sleep(hedge_ms));
    let early = poll_fn(|waker| match one.as_mut().poll(waker) {
        Poll::Ready(answer) => Poll::Ready(Some(answer)),
        Poll::Pending => timer.as_mut().poll(waker).map(|()| None),
    });
    if let Some(answer) = early.await {
        return answer;
    }
    if !own.borrow_mut().spend() {
        return one.await;
    }
    let mut request = request.clone();
    request.timeout_ms = request.timeout_ms.saturating_sub(hedge_ms);
    let mut other = pin!(context.fetch(request));
    let (mut one_done, mut other_done, mut poor) = (false, false, None);
    let answer = poll_fn(|waker| {
        if !one_done && let Poll::Ready(answer) = one.as_mut().poll(waker) {
            if is_good(&answer) {
                return Poll::Ready(Some(answer));
            }
            (one_done, poor) = (true, Some(answer));
        }
        if !other_done && let Poll::Ready(answer) = other.as_mut().poll(waker) {
            if is_good(&answer) {
                return Poll::Ready(Some(answer));
            }
            (other_done, poor) = (true, Some(answer));
        }
        if one_done && other_done {
            return Poll::Ready(poor.take());
        }
        Poll::Pending
    });
    answer.await.unwrap_or_else(|| {
        Err(Error::new(
            ErrorCode::InternalError,
            "Both calls ended without an answer.",
        ))
    })
}

/// Whether nothing better can come: an answer that the same request would get again.
fn is_good(answer: &Result<Incoming, Error>) -> bool {
    match answer {
        Ok(answer) => !matches!(classify(answer.status, None, UnixMs(0)), Err(error) if error.retryable),
        Err(_) => false,
    }
}

/// A place in a bulkhead, given back when it is dropped.
struct Place(Rc<RefCell<Edge>>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.borrow_mut().leave();
    }
}

/// The right to make one call, and what tells how it went. Dropped before the call has ended, it notes a failure where the
/// upstream was waited for at least half as long as it may take: whoever gave up sooner says nothing of the upstream.
struct Ticket<'a, C: Context> {
    context: &'a C,
    edge: Rc<RefCell<Edge>>,
    upstream: &'a str,
    breaker: &'a Breaker,
    key: String,
    generation: u64,
    probe: Option<u64>,
    began: UnixMs,
    timeout_ms: u64,
    ended: bool,
}

impl<C: Context> Drop for Ticket<'_, C> {
    fn drop(&mut self) {
        let now = self.context.now();
        if self.ended || !waited(now.since(self.began), self.timeout_ms) {
            return;
        }
        let mut edge = self.edge.borrow_mut();
        match self.probe {
            Some(probe) => edge.lose_probe(probe),
            None => {
                edge.note(now, self.generation, true, true);
            }
        }
    }
}

fn waited(ms: u64, timeout_ms: u64) -> bool {
    ms.saturating_mul(2) >= timeout_ms
}

impl<C: Context> Ticket<'_, C> {
    /// Tells how the call went, where it is time to. Says whether the breaker lets no more calls through.
    async fn end(mut self, failure: Option<Failure>) -> bool {
        self.ended = true;
        let now = self.context.now();
        let took_ms = now.since(self.began);
        let failed = match failure {
            None => false,
            Some(Failure::Status(status)) => status >= 500,
            Some(Failure::Unreachable) => true,
            Some(Failure::Timeout) => waited(took_ms, self.timeout_ms),
        };
        let slow = took_ms >= self.breaker.slow_ms;
        let (generation, outcomes) = match self.probe {
            Some(_) => {
                let one = |is: bool| u32::from(is);
                let outcomes = Outcomes {
                    succeeded: one(!failed && !slow),
                    slow: one(!failed && slow),
                    failed: one(failed && !slow),
                    failed_slow: one(failed && slow),
                };
                // A time that was too short says nothing: the probe is given back.
                let said = failed || failure != Some(Failure::Timeout);
                (self.generation, if said { outcomes } else { Outcomes::default() })
            }
            None => {
                let said = failed || failure != Some(Failure::Timeout);
                if !said || !self.edge.borrow_mut().note(now, self.generation, failed, slow) {
                    return is_refused(&self.edge, now);
                }
                let (generation, outcomes, _) = self.edge.borrow_mut().take();
                (generation, outcomes)
            }
        };
        let consult = Consult {
            upstream: self.upstream.into(),
            key: self.key.clone(),
            rule: self.breaker.rule.clone(),
            generation,
            outcomes,
            probe: self.probe,
            wants: false,
            probe_ms: 0,
        };
        // What cannot be told is forgotten: the breaker is there for the upstream, not the other way round.
        let _told = heard(self.context, &self.edge, consult).await;
        is_refused(&self.edge, self.context.now())
    }
}

fn is_refused(edge: &RefCell<Edge>, now: UnixMs) -> bool {
    matches!(edge.borrow().passage(now), Passage::Refused { .. })
}

async fn heard<C: Context>(context: &C, edge: &RefCell<Edge>, consult: Consult) -> Result<Standing, Error> {
    let standing = context.consult(consult).await?;
    edge.borrow_mut().hear(context.now(), &standing);
    Ok(standing)
}

/// Takes a place in the bulkhead and passes the breaker.
///
/// Errors: `UNAVAILABLE` where the bulkhead is full; `CIRCUIT_OPEN`.
async fn enter<'a, C: Context>(
    context: &'a C,
    call: &Invocation,
    upstream: &'a Upstream,
    name: &'a str,
    own: &Rc<RefCell<Edge>>,
) -> Result<(Option<Ticket<'a, C>>, Option<Place>), Error> {
    let place = match upstream.reliability.bulkhead {
        Some(places) if !own.borrow_mut().enter(places) => {
            let expected = "an upstream with fewer calls under way: limit `bulkhead`";
            let message = "The upstream's bulkhead is full.";
            return Err(refused(ErrorCode::Unavailable, message, expected, name).retry_after(FULL_MS));
        }
        Some(_) => Some(Place(own.clone())),
        None => None,
    };
    let Some(breaker) = &upstream.reliability.breaker else {
        return Ok((None, place));
    };
    let none = SortedMap::new();
    let metadata = call.job.as_ref().map_or(&none, |job| &job.metadata);
    let input = Input::new(&call.user, &call.action, metadata, &call.payload);
    let key = breaker.key.as_ref().map(|path| path.key(&input)).unwrap_or_default();
    let edge = context.edge(name, &key);
    let passage = edge.borrow().passage(context.now());
    let (generation, probe) = match passage {
        Passage::Go { generation } => (generation, None),
        Passage::Refused { wait_ms } => return Err(open(name, wait_ms)),
        Passage::Ask => {
            let (generation, outcomes, probe) = edge.borrow_mut().take();
            let consult = Consult {
                upstream: name.into(),
                key: key.clone(),
                rule: breaker.rule.clone(),
                generation,
                outcomes,
                probe,
                wants: true,
                probe_ms: upstream.timeout_ms.saturating_add(PROBE_GRACE_MS),
            };
            match heard(context, &edge, consult).await {
                Ok(standing) => match (standing.state, standing.probe) {
                    (BreakerState::Closed | BreakerState::Disabled, _) | (BreakerState::HalfOpen, Some(_)) => {
                        (standing.generation, standing.probe)
                    }
                    _ => return Err(open(name, standing.wait_ms)),
                },
                Err(_) => match edge.borrow().unheard(context.now()) {
                    Passage::Refused { wait_ms } => return Err(open(name, wait_ms)),
                    Passage::Go { generation } => (generation, None),
                    Passage::Ask => (0, None),
                },
            }
        }
    };
    let ticket = Ticket {
        context,
        edge,
        upstream: name,
        breaker,
        key,
        generation,
        probe,
        began: context.now(),
        timeout_ms: upstream.timeout_ms,
        ended: false,
    };
    Ok((Some(ticket), place))
}

fn open(name: &str, wait_ms: u64) -> Error {
    let expected = "an upstream whose breaker is closed";
    refused(
        ErrorCode::CircuitOpen,
        "The upstream's breaker is open.",
        expected,
        name,
    )
    .retry_after(wait_ms.max(1))
}

fn refused(code: ErrorCode, message: &'static str, expected: &'static str, name: &str) -> Error {
    Error {
        details: vec![Fault::new("/upstream", expected, name)],
        ..Error::new(code, message)
    }
}
