//! Calls through retries, breakers, bulkheads, fallbacks and hedges, against upstreams that fail as they are told, in a time
//! that passes only while somebody waits.

use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::pin::{Pin, pin};
use core::task::{Poll, Waker};

use serde_json::{Value, json};
use tidegate_engine::upstreams::{Breaker, Edge};
use tidegate_protocol::calls::upstreams::{BreakerState, Consult, Standing};
use tidegate_protocol::event::JsonText;
use tidegate_protocol::ids::{ActionName, UserId};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};

use super::super::run;
use crate::operation::{Context, Done, Incoming, Invocation, Outgoing};
use crate::testing::stores_nothing;
use tidegate_protocol::SortedSet;

/// How an upstream answers: after so many milliseconds, with this status; 0 is not to be reached.
#[derive(Clone, Copy)]
struct Behaviour {
    ms: u64,
    status: u16,
    retry_after: Option<&'static str>,
}

const fn after(ms: u64, status: u16) -> Behaviour {
    Behaviour {
        ms,
        status,
        retry_after: None,
    }
}

/// What an isolate remembers: of an upstream, under a key.
type Known = (String, String, Rc<RefCell<Edge>>);

/// The outside: upstreams by host, a gate with one breaker, an isolate's memory.
struct World {
    now: Cell<u64>,
    due: RefCell<SortedSet<u64>>,
    script: RefCell<Vec<Behaviour>>,
    asked: RefCell<Vec<(u64, Outgoing)>>,
    breaker: RefCell<Breaker>,
    consults: Cell<u32>,
    gate_is_there: Cell<bool>,
    edges: RefCell<Vec<Known>>,
}

/// Ready from a moment on.
struct At<'a>(&'a World, u64);

impl Future for At<'_> {
    type Output = ();
    fn poll(self: Pin<&mut Self>, _: &mut core::task::Context<'_>) -> Poll<()> {
        if self.0.now.get() >= self.1 {
            return Poll::Ready(());
        }
        self.0.due.borrow_mut().insert(self.1);
        Poll::Pending
    }
}

impl World {
    fn new(script: &[Behaviour]) -> Self {
        Self {
            now: Cell::new(1_000_000),
            due: RefCell::default(),
            script: RefCell::new(script.iter().rev().copied().collect()),
            asked: RefCell::default(),
            breaker: RefCell::default(),
            consults: Cell::new(0),
            gate_is_there: Cell::new(true),
            edges: RefCell::default(),
        }
    }

    /// Lets time pass until the future is done.
    fn live<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        let mut context = core::task::Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(done) = future.as_mut().poll(&mut context) {
                return done;
            }
            let next = self.due.borrow_mut().pop_first().expect("nothing would ever happen");
            self.now.set(self.now.get().max(next));
        }
    }

    fn call(&self, invocation: &Invocation) -> Result<Value, Error> {
        match self.live(run(self, invocation))? {
            Done::Result(result) => Ok(serde_json::from_str(result.as_str()).unwrap()),
            other => panic!("{other:?}"),
        }
    }

    /// When calls were made, from the beginning on. Milliseconds.
    fn moments(&self) -> Vec<u64> {
        self.asked.borrow().iter().map(|(at, _)| at - 1_000_000).collect()
    }
}

impl Context for World {
    stores_nothing!();
    fn now(&self) -> UnixMs {
        UnixMs(self.now.get())
    }
    async fn sleep(&self, ms: u64) {
        At(self, self.now.get() + ms).await;
    }
    async fn fetch(&self, request: Outgoing) -> Result<Incoming, Error> {
        let behaviour = self
            .script
            .borrow_mut()
            .pop()
            .expect("no more calls than the script has");
        let timeout_ms = request.timeout_ms;
        self.asked.borrow_mut().push((self.now.get(), request));
        At(self, self.now.get() + behaviour.ms.min(timeout_ms)).await;
        if behaviour.ms >= timeout_ms {
            return Err(Error::new(ErrorCode::Timeout, "late"));
        }
        if behaviour.status == 0 {
            return Err(Error::new(ErrorCode::UpstreamError, "gone").with_retry(tidegate_protocol::error::Retry::Later));
        }
        Ok(Incoming {
            status: behaviour.status,
            content_type: Some("application/json".into()),
            retry_after: behaviour.retry_after.map(ToString::to_string),
            body: Some(self.asked.borrow().len().to_string().into_bytes()),
        })
    }
    fn random(&self) -> u64 {
        u64::MAX
    }
    fn edge(&self, upstream: &str, key: &str) -> Rc<RefCell<Edge>> {
        let mut edges = self.edges.borrow_mut();
        if let Some((.., edge)) = edges.iter().find(|(of, known, _)| of == upstream && known == key) {
            return edge.clone();
        }
        let edge = Rc::<RefCell<Edge>>::default();
        edges.push((upstream.into(), key.into(), edge.clone()));
        edge
    }
    async fn consult(&self, consult: Consult) -> Result<Standing, Error> {
        self.consults.set(self.consults.get() + 1);
        if !self.gate_is_there.get() {
            return Err(Error::new(ErrorCode::Unavailable, "away"));
        }
        let (mut breaker, now) = (self.breaker.borrow_mut(), UnixMs(self.now.get()));
        let Consult {
            rule,
            generation,
            outcomes,
            probe,
            ..
        } = &consult;
        breaker.record(rule, now, *generation, outcomes, *probe);
        Ok(match consult.wants {
            true => breaker.ask(rule, now, consult.probe_ms).0,
            false => breaker.standing(now),
        })
    }
}

fn invocation(method: &str, sections: &Value) -> Invocation {
    let text = |value: &Value| JsonText::parse(&value.to_string()).unwrap();
    let mut main = json!({ "base_url": "https://main.example", "timeout": "10s" });
    for (name, value) in sections.as_object().unwrap() {
        main[name] = value.clone();
    }
    let backup = json!({ "base_url": "https://backup.example" });
    Invocation {
        pattern: "http".into(),
        operation: "call".into(),
        instance: "bank".into(),
        action: ActionName::parse("pay").unwrap(),
        config: text(&json!({ "upstreams": { "main": main, "backup": backup } })),
        settings: text(&json!({ "upstream": "main", "method": method })),
        payload: JsonText::null(),
        user: UserId::parse("u").unwrap(),
        attempt: 1,
        effect_key: Some("job_1".into()),
        traceparent: None,
        timeout_ms: 60_000,
        job: None,
    }
}

#[test]
fn one_call_is_one_call_where_nothing_is_said() {
    let world = World::new(&[after(5, 503)]);
    let error = world.call(&invocation("GET", &json!({}))).unwrap_err();
    assert_eq!((error.code, error.retryable), (ErrorCode::UpstreamError, true));
    assert_eq!((world.moments(), world.consults.get()), (vec_of(&[0]), 0));
}

fn vec_of(moments: &[u64]) -> Vec<u64> {
    moments.to_vec()
}

#[test]
fn retries_come_after_one_second_two_and_four() {
    let sections = json!({ "retry": { "preset": "payments", "jitter": "none" } });
    let world = World::new(&[after(0, 503), after(0, 0), after(0, 500), after(0, 201)]);
    let result = world.call(&invocation("GET", &sections)).unwrap();
    assert_eq!(result, json!({ "status": 201, "body": 4 }));
    assert_eq!(world.moments(), [0, 1_000, 3_000, 7_000]);
}

#[test]
fn what_is_not_tried_again() {
    let retry = json!({ "retry": "standard" });
    let honoured = json!({ "retry": "standard", "idempotent": true });
    let keyless = |mut invocation: Invocation| {
        invocation.effect_key = None;
        invocation
    };
    for (invocation, behaviour, calls) in [
        (invocation("GET", &retry), after(1, 400), 1),
        (invocation("GET", &retry), after(1, 404), 1),
        (invocation("GET", &retry), after(1, 302), 1),
        (invocation("POST", &retry), after(1, 503), 1),
        (invocation("PATCH", &retry), after(1, 0), 1),
        (keyless(invocation("POST", &honoured)), after(1, 503), 1),
        (invocation("POST", &honoured), after(1, 503), 3),
        (keyless(invocation("DELETE", &honoured)), after(1, 0), 3),
        (invocation("PUT", &retry), after(20_000, 200), 3),
    ] {
        let world = World::new(&[behaviour; 3]);
        world.call(&invocation).unwrap_err();
        assert_eq!(world.moments().len(), calls, "{invocation:?}");
    }
}

#[test]
fn what_the_upstream_asks_for_is_waited_for_and_the_deadline_kept() {
    let slow_down = Behaviour {
        retry_after: Some("3"),
        ..after(0, 429)
    };
    let get = invocation("GET", &json!({ "retry": { "jitter": "none" } }));
    let world = World::new(&[slow_down, after(0, 200)]);
    world.call(&get).unwrap();
    assert_eq!(world.moments(), [0, 3_000]);
    // Longer than the cap is for the job's own retries, which are told of it.
    let world = World::new(&[Behaviour {
        retry_after: Some("60"),
        ..after(0, 503)
    }]);
    assert_eq!(world.call(&get).unwrap_err().retry_after_ms, Some(60_000));
    let world = World::new(&[slow_down]);
    let hurried = Invocation {
        timeout_ms: 2_999,
        ..get.clone()
    };
    world.call(&hurried).unwrap_err();
    // A call is given no more time than is left.
    let world = World::new(&[after(900, 503), after(0, 200)]);
    let hurried = Invocation {
        timeout_ms: 2_000,
        ..get
    };
    world.call(&hurried).unwrap();
    let given: Vec<u64> = world
        .asked
        .borrow()
        .iter()
        .map(|(_, request)| request.timeout_ms)
        .collect();
    assert_eq!(given, [2_000, 900]);
}

#[test]
fn a_budget_bounds_the_retries_of_many_calls() {
    let get = invocation(
        "GET",
        &json!({ "retry": { "attempts": 10, "initial": "1ms", "budget_percent": 50 } }),
    );
    let world = World::new(&[after(0, 503); 200]);
    for _ in 0..50 {
        world.call(&get).unwrap_err();
    }
    // Ten that were saved, and one for each two calls.
    assert!((60..=85).contains(&world.moments().len()), "{}", world.moments().len());
}

fn breaker() -> Value {
    json!({ "consecutive_failures": 3, "failure_percent": 0, "open": "30s", "successes": 1 })
}

#[test]
fn an_open_breaker_lets_no_call_through_until_a_probe_closes_it() {
    let get = invocation("GET", &json!({ "breaker": breaker() }));
    let world = World::new(&[
        after(0, 500),
        after(0, 0),
        after(10_000, 200),
        after(0, 503),
        after(0, 200),
        after(0, 200),
    ]);
    for code in [ErrorCode::UpstreamError, ErrorCode::UpstreamError, ErrorCode::Timeout] {
        assert_eq!(world.call(&get).unwrap_err().code, code);
    }
    let consults = world.consults.get();
    for _ in 0..50 {
        let refused = world.call(&get).unwrap_err();
        assert_eq!((refused.code, refused.retryable), (ErrorCode::CircuitOpen, true));
        assert_eq!(refused.retry_after_ms, Some(30_000));
        assert_eq!(refused.details[0].got, "bank.main");
    }
    assert_eq!(
        (world.moments().len(), world.consults.get()),
        (3, consults),
        "nobody is asked"
    );
    world.now.set(world.now.get() + 30_000);
    // The probe fails, and opens it again; the next one closes it.
    assert_eq!(world.call(&get).unwrap_err().code, ErrorCode::UpstreamError);
    assert_eq!(world.call(&get).unwrap_err().code, ErrorCode::CircuitOpen);
    world.now.set(world.now.get() + 30_000);
    world.call(&get).unwrap();
    assert_eq!(world.breaker.borrow().state(), BreakerState::Closed);
    world.call(&get).unwrap();
}

#[test]
fn an_open_breaker_is_never_tried_again() {
    let mut rule = breaker();
    rule["consecutive_failures"] = json!(2);
    let get = invocation(
        "GET",
        &json!({ "breaker": rule, "retry": { "attempts": 10, "initial": "1ms" } }),
    );
    let world = World::new(&[after(0, 500); 10]);
    assert_eq!(world.call(&get).unwrap_err().code, ErrorCode::UpstreamError);
    assert_eq!(world.moments().len(), 2, "the second failure opened it");
    assert_eq!(world.call(&get).unwrap_err().code, ErrorCode::CircuitOpen);
    assert_eq!(world.moments().len(), 2);
}

#[test]
fn answers_with_4xx_open_nothing() {
    let get = invocation("GET", &json!({ "breaker": breaker() }));
    let world = World::new(&[after(0, 400); 20]);
    for _ in 0..20 {
        assert_eq!(world.call(&get).unwrap_err().code, ErrorCode::UpstreamError);
    }
    assert_eq!(
        (world.moments().len(), world.breaker.borrow().state()),
        (20, BreakerState::Closed)
    );
}

#[test]
fn a_healthy_upstream_is_called_without_asking_and_the_gate_hears_once_a_second() {
    let get = invocation("GET", &json!({ "breaker": breaker() }));
    let world = World::new(&[after(10, 200); 300]);
    for _ in 0..300 {
        world.call(&get).unwrap();
    }
    assert_eq!(world.now.get(), 1_003_000, "nothing but the calls takes time");
    assert!(world.consults.get() <= 4, "{}", world.consults.get());
}

#[test]
fn who_gives_up_early_says_nothing_of_the_upstream() {
    for (timeout_ms, state) in [(4_000, BreakerState::Closed), (6_000, BreakerState::Open)] {
        let get = Invocation {
            timeout_ms,
            ..invocation("GET", &json!({ "breaker": breaker() }))
        };
        let world = World::new(&[after(20_000, 200); 3]);
        for _ in 0..3 {
            world.call(&get).unwrap_err();
        }
        assert_eq!(world.breaker.borrow().state(), state, "{timeout_ms}");
    }
}

#[test]
fn a_call_that_is_dropped_is_told_with_the_next_and_its_place_is_free() {
    let get = invocation(
        "GET",
        &json!({ "breaker": { "consecutive_failures": 1 }, "bulkhead": { "calls": 1 } }),
    );
    let world = World::new(&[after(60_000, 200)]);
    {
        let mut call = pin!(run(&world, &get));
        let mut context = core::task::Context::from_waker(Waker::noop());
        assert!(call.as_mut().poll(&mut context).is_pending());
        // Its place is taken as long as it is under way.
        assert_eq!(world.call(&get).unwrap_err().code, ErrorCode::Unavailable);
        world.now.set(world.now.get() + 6_000);
    }
    assert_eq!(world.call(&get).unwrap_err().code, ErrorCode::CircuitOpen);
}

#[test]
fn a_gate_that_is_away_stops_no_call() {
    let get = invocation("GET", &json!({ "breaker": breaker() }));
    let world = World::new(&[after(0, 200), after(0, 500), after(0, 200)]);
    world.gate_is_there.set(false);
    for ok in [true, false, true] {
        assert_eq!(world.call(&get).is_ok(), ok);
    }
}

#[test]
fn a_fallback_answers_where_the_failure_may_pass_and_says_so() {
    let stored = json!({ "fallback": { "body": { "rates": [] } } });
    let world = World::new(&[after(0, 503)]);
    let answer = world.call(&invocation("POST", &stored)).unwrap();
    assert_eq!(
        answer,
        json!({ "status": 200, "body": { "rates": [] }, "fallback": true })
    );
    let world = World::new(&[after(0, 400)]);
    assert_eq!(
        world.call(&invocation("POST", &stored)).unwrap_err().code,
        ErrorCode::UpstreamError
    );

    let other = json!({ "fallback": { "upstream": "backup" } });
    let world = World::new(&[after(0, 503), after(0, 200)]);
    let answer = world.call(&invocation("GET", &other)).unwrap();
    assert_eq!(answer, json!({ "status": 200, "body": 2, "fallback": true }));
    let urls: Vec<String> = world
        .asked
        .borrow()
        .iter()
        .map(|(_, request)| request.url.clone())
        .collect();
    assert_eq!(urls, ["https://main.example/", "https://backup.example/"]);
    // Both fail: the first failure is told.
    let world = World::new(&[after(0, 503), after(0, 400)]);
    assert!(
        world
            .call(&invocation("GET", &other))
            .unwrap_err()
            .message
            .contains("503")
    );
    // What may not be done twice is not done by another, unless the first cannot have begun.
    let world = World::new(&[after(0, 503)]);
    world.call(&invocation("POST", &other)).unwrap_err();
    let open = json!({ "fallback": { "upstream": "backup" }, "breaker": { "consecutive_failures": 1 } });
    let world = World::new(&[after(0, 503), after(0, 200)]);
    world.call(&invocation("POST", &open)).unwrap_err();
    assert_eq!(world.call(&invocation("POST", &open)).unwrap()["fallback"], true);
}

#[test]
fn a_hedge_is_a_second_call_whose_answer_counts_where_it_comes_first() {
    let hedged = json!({ "hedge": { "after": "200ms" } });
    for (script, moments, took) in [
        (&[after(100, 200)][..], &[0][..], 100),
        (&[after(900, 200), after(50, 200)], &[0, 200], 250),
        (&[after(300, 200), after(900, 200)], &[0, 200], 300),
        // A poor answer is not taken while a better one may come.
        (&[after(900, 200), after(50, 503)], &[0, 200], 900),
        (&[after(300, 0), after(400, 200)], &[0, 200], 600),
    ] {
        let world = World::new(script);
        world.call(&invocation("GET", &hedged)).unwrap();
        assert_eq!((world.moments(), world.now.get() - 1_000_000), (vec_of(moments), took));
    }
    let world = World::new(&[after(900, 200)]);
    world.call(&invocation("POST", &hedged)).unwrap();
    assert_eq!(world.moments(), [0], "not what may not be done twice");
    let world = World::new(&[after(900, 500), after(800, 502)]);
    world.call(&invocation("GET", &hedged)).unwrap_err();
    assert_eq!(world.now.get(), 1_001_000);
}

#[test]
fn a_breaker_of_each_key_stands_by_itself() {
    let mut get = invocation(
        "GET",
        &json!({ "breaker": { "consecutive_failures": 1, "key": "user" } }),
    );
    let world = World::new(&[after(0, 200), after(0, 200)]);
    world.call(&get).unwrap();
    get.user = UserId::parse("other").unwrap();
    world.call(&get).unwrap();
    let keys: Vec<String> = world.edges.borrow().iter().map(|(_, key, _)| key.clone()).collect();
    assert_eq!(keys, ["", "u", "other"]);
}

#[test]
fn while_a_probe_is_under_way_others_are_refused_and_do_not_all_ask() {
    let get = invocation("GET", &json!({ "breaker": breaker() }));
    let world = World::new(&[
        after(0, 500),
        after(0, 500),
        after(0, 500),
        after(3_000, 200),
        after(0, 200),
    ]);
    for _ in 0..3 {
        world.call(&get).unwrap_err();
    }
    world.now.set(world.now.get() + 30_000);
    let mut probe = pin!(run(&world, &get));
    let mut context = core::task::Context::from_waker(Waker::noop());
    assert!(probe.as_mut().poll(&mut context).is_pending());
    let consults = world.consults.get();
    for _ in 0..100 {
        assert_eq!(world.call(&get).unwrap_err().code, ErrorCode::CircuitOpen);
    }
    assert_eq!(world.consults.get(), consults + 1, "one asked, and told the others");
    assert_eq!(world.moments().len(), 4, "one probe at once");
    assert!(matches!(world.live(probe).unwrap(), Done::Result(_)));
    assert_eq!(world.breaker.borrow().state(), BreakerState::Closed);
    world.call(&get).unwrap();
}
