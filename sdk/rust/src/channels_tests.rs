use super::*;
use tidegate_protocol::ErrorCode;

fn at(epoch: &str, offset: u64) -> Cursor {
    Cursor {
        epoch: Epoch::parse(epoch).unwrap(),
        offset: Offset(offset),
    }
}

fn message(epoch: &str, offset: u64) -> Message {
    let Cursor { epoch, offset } = at(epoch, offset);
    Message {
        epoch,
        offset,
        data: JsonText::null(),
        publisher: None,
        timestamp: None,
    }
}

fn follower(after: Option<Cursor>) -> Follower {
    Follower::new("s".into(), "chat:1".into(), after)
}

/// A follower that has seen everything up to 3.
fn live() -> Follower {
    let mut follower = follower(None);
    follower.ask();
    follower.subscribed(at("e1", 3), false);
    follower
}

fn told(heard: &Heard) -> String {
    match heard {
        Heard::Nothing => "nothing".into(),
        Heard::Missing => "missing".into(),
        Heard::AskAgain(after) => format!("again {after:?}"),
        Heard::Told(ChannelUpdate::Subscribed(at)) => format!("subscribed {at}"),
        Heard::Told(ChannelUpdate::Message(message)) => format!("message {}", message.cursor()),
        Heard::Told(ChannelUpdate::Gap { after, until }) => format!("gap {after} {until}"),
        Heard::Told(ChannelUpdate::Ended { .. }) => "ended".into(),
        Heard::Told(other) => format!("{other:?}"),
    }
}

fn all(heard: &[Heard]) -> Vec<String> {
    heard.iter().map(told).collect()
}

#[test]
fn it_begins_where_it_is_told_and_asks_again_from_the_latest_message() {
    let mut follower = follower(None);
    assert_eq!(follower.ask(), r#"{"type":"subscribe","id":"s","channel":"chat:1"}"#);
    assert_eq!(told(&follower.subscribed(at("e1", 3), false)), "subscribed e1:3");
    assert_eq!(all(&follower.message(&message("e1", 4))), ["message e1:4"]);
    follower.lost();
    assert!(follower.message(&message("e1", 5)).is_empty(), "not before the answer");
    assert_eq!(
        follower.ask(),
        r#"{"type":"subscribe","id":"s","channel":"chat:1","after":{"epoch":"e1","offset":4}}"#
    );
    assert_eq!(
        told(&follower.subscribed(at("e1", 4), true)),
        "nothing",
        "nothing was missed"
    );
    assert_eq!(all(&follower.message(&message("e1", 5))), ["message e1:5"]);
}

#[test]
fn a_cursor_that_cannot_be_recovered_is_a_gap_from_the_first_answer_on() {
    for (until, recovered, expected) in [
        (at("e1", 7), false, "gap e1:3 e1:7"),
        (at("e2", 7), false, "gap e1:3 e2:7"),
        (at("e1", 2), false, "gap e1:3 e1:2"),
        (at("e1", 3), true, "subscribed e1:3"),
        (at("e1", 5), true, "gap e1:3 e1:5"),
    ] {
        let mut follower = follower(Some(at("e1", 3)));
        follower.ask();
        assert_eq!(told(&follower.subscribed(until, recovered)), expected);
    }
}

#[test]
fn messages_come_once_and_those_that_are_missing_are_asked_for_before_a_gap_is_told() {
    let mut follower = live();
    for offset in [1, 3] {
        assert!(follower.message(&message("e1", offset)).is_empty());
    }
    assert_eq!(all(&follower.message(&message("e1", 6))), ["missing"]);
    assert!(follower.ask().contains(r#""offset":3"#));
    assert!(follower.message(&message("e1", 7)).is_empty());
    assert_eq!(told(&follower.subscribed(at("e1", 3), true)), "nothing");
    // A server that skips them again: honest, and not asked for ever.
    assert_eq!(
        all(&follower.message(&message("e1", 7))),
        ["gap e1:3 e1:6", "message e1:7"]
    );
    assert_eq!(all(&follower.message(&message("e1", 8))), ["message e1:8"]);
    assert_eq!(
        all(&follower.message(&message("e2", 1))),
        ["missing"],
        "another life of the log"
    );
}

#[test]
fn what_the_server_says_by_itself_is_a_gap_for_those_who_are_behind() {
    let mut follower = live();
    assert_eq!(told(&follower.gap(&at("e1", 3))), "nothing");
    assert_eq!(told(&follower.gap(&at("e1", 9))), "gap e1:3 e1:9");
    assert_eq!(told(&follower.gap(&at("e2", 0))), "gap e1:9 e2:0");
    assert_eq!(all(&follower.message(&message("e2", 1))), ["message e2:1"]);
}

#[test]
fn the_answer_to_another_makes_those_ask_who_are_behind_it() {
    let mut follower = live();
    assert_eq!(told(&follower.another_subscribed(&at("e1", 2))), "nothing");
    assert_eq!(told(&follower.another_subscribed(&at("e1", 4))), "missing");
    follower.ask();
    assert_eq!(
        told(&follower.another_subscribed(&at("e1", 9))),
        "nothing",
        "asked already"
    );
}

#[test]
fn the_first_refusal_is_the_end_and_a_later_one_only_where_it_is_final() {
    let busy = || ApiError {
        retry_after_ms: Some(70),
        ..ApiError::new(ErrorCode::Unavailable, "busy")
    };
    let mut first = follower(None);
    first.ask();
    assert_eq!(told(&first.refused(busy())), "ended");
    let mut later = live();
    later.lost();
    later.ask();
    assert_eq!(told(&later.refused(busy())), "again Some(70)");
    later.ask();
    assert_eq!(told(&later.refused(ApiError::new(ErrorCode::NotFound, "no"))), "ended");
    let error = ApiError::new(ErrorCode::Forbidden, "no");
    assert_eq!(told(&live().unsubscribed(&error)), "ended");
    let mut asking = live();
    asking.ask();
    assert_eq!(
        told(&asking.unsubscribed(&error)),
        "nothing",
        "its own answer is on its way"
    );
}

#[test]
fn a_frame_to_publish_is_the_same_each_time() {
    let data = JsonText::parse("{\"a\":1.10}").unwrap();
    assert_eq!(
        publish_frame("p", "chat:1", &data, "k"),
        r#"{"type":"publish","id":"p","channel":"chat:1","data":{"a":1.10},"idempotency_key":"k"}"#
    );
}
