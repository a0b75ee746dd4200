//! Endpoints of a tenant's customers: who is told of an end, where to, and when one is disabled.

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;
use serde_json::json;
use tidegate_protocol::calls::Caller;
use tidegate_protocol::calls::executor::{Execute, Outcome};
use tidegate_protocol::calls::jobs::{Call, Filter, ManyAction, Reply, Selection, Sort};
use tidegate_protocol::error::Retry;
use tidegate_protocol::event::{JobState, JsonText};
use tidegate_protocol::http::{AuditEntry, AuditWhat, Endpoint, EndpointEvent, Signature};
use tidegate_protocol::ids::EndpointId;
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};

use super::super::Effect;
use super::bench::*;
use crate::endpoints::FAILING_MS_MAX;

fn endpoint(name: &str) -> Endpoint {
    Endpoint {
        endpoint_id: EndpointId::parse(&std::format!("end_{name}")).unwrap(),
        url: std::format!("https://{name}.example.com/"),
        description: String::new(),
        events: EndpointEvent::ALL.to_vec(),
        filter: None,
        signature: Signature::V1,
        ordered: false,
        enabled: true,
        disabled_at: None,
        disabled_reason: None,
        created_at: UnixMs(1),
        updated_at: UnixMs(1),
    }
}

fn set(bench: &mut Bench, version: u64, endpoints: &[Endpoint]) {
    let endpoints = JsonText::of(&endpoints.to_vec()).unwrap();
    let (reply, _) = bench.call(Call::SetEndpoints { version, endpoints });
    assert_eq!(reply, Ok(Reply::Done));
}

fn messages(effects: &[Effect]) -> Vec<Execute> {
    let mut messages = executions(effects);
    messages.retain(|execute| execute.message.is_some());
    messages
}

/// Ends a job, and gives the messages of its end.
fn end(bench: &mut Bench, customer: &str, outcome: Outcome) -> Vec<Execute> {
    let execute = bench.start(noted("customer", customer));
    messages(&bench.finish(&execute, outcome).1)
}

fn refused() -> Outcome {
    let error = Error::new(ErrorCode::UpstreamError, "The endpoint answered 500.").with_retry(Retry::Later);
    Outcome::Failed { error }
}

/// What the effects tell the gate of endpoints, with the reasons.
fn disabled(effects: &[Effect]) -> Vec<(String, String)> {
    let recorded = effects.iter().filter_map(|effect| match effect {
        Effect::Record { entries } => Some(entries),
        _ => None,
    });
    let entries = recorded
        .flatten()
        .map(|told| serde_json::from_str::<AuditEntry>(told.entry.as_str()).unwrap());
    entries
        .filter(|entry| entry.what == AuditWhat::EndpointDisabled)
        .map(|entry| {
            (
                entry.target.endpoint_id.unwrap().to_string(),
                entry.target.reason.unwrap(),
            )
        })
        .collect()
}

#[test]
fn each_endpoint_is_told_of_the_ends_that_it_asks_for_in_the_turn_of_the_end() {
    let mut bench = Bench::new();
    assert!(end(&mut bench, "acme", success()).is_empty(), "there is no endpoint");
    let mut acme = endpoint("acme");
    acme.filter = Some("data.metadata.customer == 'acme'".into());
    let mut failed = endpoint("failed");
    failed.events = vec![EndpointEvent::Failed];
    failed.signature = Signature::V1a;
    let mut broken = endpoint("broken");
    broken.filter = Some("1 +".into());
    set(&mut bench, 1, &[endpoint("all"), acme, failed, broken]);
    let told = |messages: Vec<Execute>| -> Vec<(String, Signature)> {
        let messages = messages.into_iter().map(|execute| execute.message.unwrap());
        let mut told: Vec<_> = messages
            .map(|message| (message.endpoint.unwrap().to_string(), message.signature))
            .collect();
        told.sort_by(|one, other| one.0.cmp(&other.0));
        told
    };
    let (all, acme, failed) = (
        ("end_all".to_string(), Signature::V1),
        ("end_acme".to_string(), Signature::V1),
        ("end_failed".to_string(), Signature::V1a),
    );
    assert_eq!(told(end(&mut bench, "acme", success())), [acme.clone(), all.clone()]);
    assert_eq!(told(end(&mut bench, "beta", success())), core::slice::from_ref(&all));
    bench.crash();
    assert_eq!(told(end(&mut bench, "acme", failure(false))), [acme, all, failed]);
}

#[test]
fn a_tenant_without_endpoints_pays_nothing_and_messages_are_told_to_nobody() {
    let mut bench = Bench::new();
    end(&mut bench, "a", success());
    assert_eq!(bench.count("SELECT count(*) FROM job"), 1);
    set(&mut bench, 1, &[endpoint("a"), endpoint("b")]);
    let sent = end(&mut bench, "a", success());
    assert_eq!(sent.len(), 2);
    for message in &sent {
        assert!(messages(&bench.finish(message, success()).1).is_empty());
    }
    assert_eq!(bench.count("SELECT count(*) FROM job"), 4);
    assert_eq!(bench.count("SELECT count(*) FROM endpoint_failing"), 0);
}

#[test]
fn an_older_list_changes_nothing_and_an_empty_one_ends_it() {
    let mut bench = Bench::new();
    set(&mut bench, 2, &[endpoint("a")]);
    set(&mut bench, 1, &[]);
    assert_eq!(end(&mut bench, "a", success()).len(), 1);
    set(&mut bench, 3, &[]);
    bench.crash();
    assert!(end(&mut bench, "a", success()).is_empty());
}

#[test]
fn a_message_goes_to_where_the_endpoint_is_when_it_is_sent() {
    let mut bench = Bench::new();
    set(&mut bench, 1, &[endpoint("a")]);
    let message = end(&mut bench, "a", success()).remove(0);
    assert_eq!(message.message.as_ref().unwrap().url, "https://a.example.com/");
    bench.finish(&message, refused()).0.unwrap();
    let mut moved = endpoint("a");
    moved.url = "https://new.example.com/".into();
    moved.signature = Signature::V1a;
    set(&mut bench, 2, &[moved]);
    let again = messages(&bench.alarm()).remove(0).message.unwrap();
    assert_eq!(
        (again.url.as_str(), again.signature),
        ("https://new.example.com/", Signature::V1a)
    );
    assert_eq!(again.held, None);
    // Deleted, it is sent to nobody.
    let message = end(&mut bench, "a", success()).remove(0);
    bench.finish(&message, refused()).0.unwrap();
    set(&mut bench, 3, &[]);
    let held = messages(&bench.alarm()).remove(0).message.unwrap().held;
    assert_eq!(held.as_deref(), Some("It was deleted."));
}

#[test]
fn what_is_gone_is_disabled_at_once_and_what_it_misses_is_kept() {
    let mut bench = Bench::new();
    set(&mut bench, 1, &[endpoint("a"), endpoint("b")]);
    let sent = end(&mut bench, "a", success());
    let (_, effects) = bench.finish(&sent[0], failure(false));
    let told = disabled(&effects);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].0, "end_a");
    bench.finish(&sent[1], success()).0.unwrap();
    let held: Vec<bool> = end(&mut bench, "a", success())
        .iter()
        .map(|execute| execute.message.as_ref().unwrap().held.is_some())
        .collect();
    assert_eq!(held, [true, false], "before the gate has said anything");
    // The gate agrees; and a message that is held is no failure of the endpoint's.
    let mut gone = endpoint("a");
    gone.enabled = false;
    gone.disabled_reason = Some("It is gone.".into());
    set(&mut bench, 2, &[gone, endpoint("b")]);
    let held = end(&mut bench, "a", success()).remove(0);
    assert_eq!(held.message.as_ref().unwrap().held.as_deref(), Some("It is gone."));
    let error = Error::new(ErrorCode::Conflict, "The endpoint is disabled.");
    let (_, effects) = bench.finish(&held, Outcome::Failed { error });
    assert!(disabled(&effects).is_empty());
    assert_eq!(bench.status(held.job), JobState::Failed);
    let letters = bench.dead_letters(everything()).dead_letters;
    assert!(
        letters.iter().all(|letter| letter.metadata["endpoint_id"] == "end_a"),
        "{letters:?}"
    );
    assert_eq!(letters.len(), 2);
}

/// The history of the simulation in which a message was sent to an endpoint that had answered `410`.
#[test]
fn what_is_gone_hears_nothing_more_after_a_restart_and_another_change_of_the_list() {
    let mut bench = Bench::new();
    set(&mut bench, 1, &[endpoint("a"), endpoint("b")]);
    let sent = end(&mut bench, "a", success());
    bench.finish(&sent[0], failure(false)).0.unwrap();
    bench.finish(&sent[1], success()).0.unwrap();
    let held = |bench: &mut Bench| -> Vec<bool> {
        let sent = end(bench, "a", success());
        let held = sent
            .iter()
            .map(|execute| execute.message.as_ref().unwrap().held.is_some());
        let held = held.collect();
        sent.iter().for_each(|execute| drop(bench.finish(execute, success())));
        held
    };
    bench.crash();
    assert_eq!(held(&mut bench), [true, false], "the gate has not heard of it");
    // Another endpoint is changed before the gate hears of it.
    let mut moved = endpoint("b");
    moved.updated_at = UnixMs(2);
    set(&mut bench, 2, &[endpoint("a"), moved.clone()]);
    bench.crash();
    assert_eq!(held(&mut bench), [true, false]);
    // Somebody has enabled it again.
    let mut back = endpoint("a");
    back.updated_at = UnixMs(3);
    set(&mut bench, 3, &[back, moved]);
    assert_eq!(held(&mut bench), [false, false]);
}

#[test]
fn five_days_of_nothing_but_failures_disable_an_endpoint_and_one_success_begins_anew() {
    let mut bench = Bench::new();
    set(&mut bench, 1, &[endpoint("a")]);
    let fail = |bench: &mut Bench| {
        let message = end(bench, "a", success()).remove(0);
        disabled(&bench.finish(&message, refused()).1)
    };
    assert!(fail(&mut bench).is_empty());
    bench.later(FAILING_MS_MAX - 1);
    bench.crash();
    assert!(fail(&mut bench).is_empty(), "the time is not over");
    let message = end(&mut bench, "a", success()).remove(0);
    bench.finish(&message, success()).0.unwrap();
    bench.later(10);
    assert!(fail(&mut bench).is_empty(), "it has heard in between");
    bench.later(FAILING_MS_MAX);
    bench.crash();
    let told = fail(&mut bench);
    assert_eq!(
        told,
        [(
            "end_a".to_string(),
            "Nothing has reached it for five days. The endpoint answered 500.".to_string()
        )]
    );
    // Enabled again, it has all the time again.
    set(&mut bench, 2, &[endpoint("a")]);
    assert!(fail(&mut bench).is_empty());
    assert_eq!(json!(bench.count("SELECT count(*) FROM endpoint_failing")), json!(1));
}

/// An endpoint that wants its messages in order.
fn in_order() -> Endpoint {
    Endpoint {
        ordered: true,
        ..endpoint("a")
    }
}

#[test]
fn messages_in_order_are_sent_one_at_a_time_and_one_that_fails_holds_back_those_behind_it() {
    let mut bench = Bench::new();
    set(&mut bench, 1, &[in_order(), endpoint("b")]);
    let mut sent = end(&mut bench, "1", success());
    sent.sort_by_key(|message| message.message.as_ref().unwrap().endpoint.clone());
    assert_eq!(sent.len(), 2);
    let other = sent.remove(1);
    let first = sent.remove(0);
    bench.finish(&other, success()).0.unwrap();
    for customer in ["2", "3"] {
        let own = end(&mut bench, customer, success());
        assert_eq!(own.len(), 1, "to the other endpoint alone");
        bench.finish(&own[0], success()).0.unwrap();
    }
    let (_, effects) = bench.finish(&first, refused());
    assert!(messages(&effects).is_empty(), "they wait with it");
    bench.crash();
    let again = messages(&bench.alarm());
    let tried: Vec<_> = again.iter().map(|one| (one.job, one.attempt)).collect();
    assert_eq!(tried, [(first.job, 2)]);
    let second = messages(&bench.finish(&again[0], success()).1);
    assert_eq!(second.len(), 1);
    bench.crash();
    let third = messages(&bench.finish(&second[0], failure(false)).1);
    assert_eq!(third.len(), 1, "what was given up holds back nobody");
    assert!(second[0].job.number() < third[0].job.number());
    assert!(messages(&bench.finish(&third[0], success()).1).is_empty());
}

#[test]
fn what_is_redriven_in_order_goes_behind_what_waits_the_oldest_first() {
    let mut bench = Bench::new();
    set(&mut bench, 1, &[in_order()]);
    let mut dead = Vec::new();
    for customer in ["1", "2", "3"] {
        let message = end(&mut bench, customer, success()).remove(0);
        let error = Error::new(ErrorCode::Conflict, "held");
        bench.finish(&message, Outcome::Failed { error }).0.unwrap();
        dead.push(message.message.unwrap().id);
    }
    let waiting = end(&mut bench, "4", success()).remove(0);
    let call = Call::Many {
        caller: Caller {
            writes_all: true,
            ..caller("root")
        },
        which: Selection::Filter(Filter {
            sort: Sort::Oldest,
            ..everything()
        }),
        action: ManyAction::Redrive {
            payload: None,
            start: bench.now,
            interval_us: 0,
        },
        dry_run: false,
    };
    let (_, effects) = bench.call(call);
    assert!(messages(&effects).is_empty(), "one is on its way");
    let mut next = messages(&bench.finish(&waiting, success()).1);
    let mut sent = Vec::new();
    while let Some(message) = next.pop() {
        assert!(next.is_empty());
        sent.push(message.message.clone().unwrap().id);
        next = messages(&bench.finish(&message, success()).1);
    }
    assert_eq!(sent, dead);
}

#[derive(Debug, Clone, Copy)]
enum Turn {
    End,
    Heard,
    Failed,
    Crash,
    Wait,
}

proptest! {
    /// Whatever is heard, fails and crashes: at most one message is on its way, and they are heard in the order of the ends.
    #[test]
    fn an_endpoint_in_order_hears_of_ends_in_their_order(turns in prop::collection::vec(
        prop_oneof![
            4 => Just(Turn::End), 4 => Just(Turn::Heard), 2 => Just(Turn::Failed), 1 => Just(Turn::Crash), 3 => Just(Turn::Wait),
        ],
        1..40,
    )) {
        let mut bench = Bench::new();
        set(&mut bench, 1, &[in_order()]);
        let (mut ended, mut heard, mut under_way) = (Vec::new(), Vec::new(), None);
        let take = |effects: &[Effect], under_way: &mut Option<Execute>| {
            for message in messages(effects) {
                // A lease that was lost is followed by another attempt of the same message.
                assert!(under_way.as_ref().is_none_or(|one| one.job == message.job), "two at once");
                *under_way = Some(message);
            }
        };
        for turn in turns {
            match turn {
                Turn::End => {
                    let execute = bench.start(plain());
                    ended.push(std::format!("evt_{}", execute.job));
                    let (_, effects) = bench.finish(&execute, success());
                    take(&effects, &mut under_way);
                }
                Turn::Heard | Turn::Failed => {
                    if let Some(message) = under_way.take() {
                        let is_heard = matches!(turn, Turn::Heard);
                        let outcome = if is_heard { success() } else { refused() };
                        let (reply, effects) = bench.finish(&message, outcome);
                        // What is said of a lease that was lost counts for nothing.
                        if is_heard && reply.is_ok() {
                            heard.push(message.message.unwrap().id);
                        }
                        take(&effects, &mut under_way);
                    }
                }
                Turn::Crash => bench.crash(),
                Turn::Wait if bench.next_wake().is_some() => {
                    let effects = bench.alarm();
                    take(&effects, &mut under_way);
                }
                Turn::Wait => {}
            }
            // A message that was tried ten times is given up; none of these histories is so long.
        }
        prop_assert_eq!(&heard[..], &ended[..heard.len()]);
        prop_assert!(heard.len() == ended.len() || under_way.is_some() || bench.next_wake().is_some());
    }
}

#[derive(Debug, Clone, Copy)]
enum Attempt {
    Heard,
    Failed,
    Ours,
    Crash,
}

proptest! {
    /// Against the plain definition: an endpoint is disabled by the first failed attempt that comes five days or more after
    /// the first of a row of failures without a success, and by no other.
    #[test]
    fn an_endpoint_is_disabled_exactly_when_it_has_failed_for_five_days(
        history in prop::collection::vec(
            (
                prop_oneof![
                    2 => Just(Attempt::Heard), 6 => Just(Attempt::Failed), 1 => Just(Attempt::Ours), 1 => Just(Attempt::Crash),
                ],
                0_u64..3 * 86_400_000,
            ),
            1..25,
        ),
    ) {
        let mut bench = Bench::new();
        set(&mut bench, 1, &[endpoint("a")]);
        let mut since: Option<UnixMs> = None;
        for (attempt, wait) in history {
            bench.later(wait);
            let outcome = match attempt {
                Attempt::Crash => {
                    bench.crash();
                    continue;
                }
                Attempt::Heard => success(),
                Attempt::Failed => refused(),
                Attempt::Ours => Outcome::Failed { error: Error::new(ErrorCode::Unavailable, "no key") },
            };
            let execute = bench.start(plain());
            let sent = messages(&bench.finish(&execute, success()).1);
            let own = std::format!("evt_{}", execute.job);
            let message = sent.into_iter().find(|one| one.message.as_ref().unwrap().id == own).unwrap();
            let told = disabled(&bench.finish(&message, outcome).1);
            let expected = match attempt {
                Attempt::Heard => {
                    since = None;
                    false
                }
                Attempt::Failed => bench.now.since(*since.get_or_insert(bench.now)) >= FAILING_MS_MAX,
                Attempt::Ours | Attempt::Crash => false,
            };
            prop_assert_eq!(!told.is_empty(), expected);
            // What would be tried again is not: only the attempts above count.
            let caller = Caller { writes_all: true, ..caller("root") };
            let _ended = bench.call(Call::Cancel { job: message.job, caller });
            if expected {
                break;
            }
        }
    }
}
