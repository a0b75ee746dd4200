//! The channel of a job: its events as messages, from where a cursor says, with honest gaps.

use serde_json::{Value, json};
use tidegate_protocol::event::Snapshot;

use super::*;

fn read(effects: &[Effect]) -> Vec<Value> {
    let frames = frames(effects);
    frames
        .iter()
        .map(|frame| serde_json::from_str(frame).unwrap())
        .collect()
}

fn places(effects: &[Effect]) -> Vec<(String, u64)> {
    let place = |frame: &Value| {
        (
            frame["type"].as_str().unwrap().into(),
            frame["offset"].as_u64().unwrap(),
        )
    };
    read(effects).iter().map(place).collect()
}

fn epoch() -> String {
    alloc::format!("j{}", job().number().0)
}

/// Subscribes, and gives the call that this makes.
fn subscribe(bench: &mut Bench, socket: &ConnectionId, after: Option<(&str, u64)>) -> (CallId, Box<Call>) {
    let channel = alloc::format!("job:{}", job());
    let mut frame = json!({ "type": "subscribe", "id": "s", "channel": channel });
    if let Some((epoch, offset)) = after {
        frame["after"] = json!({ "epoch": epoch, "offset": offset });
    }
    call(&bench.frame(socket, &frame.to_string()))
}

fn found(snapshot: Option<(u64, bool)>, events: Vec<Event>, ended: bool) -> Result<Reply, Error> {
    let snapshot = snapshot.map(|(seq, gap)| Snapshot {
        seq: Seq(seq),
        attempt: 1,
        status: JobState::Running,
        progress: Progress::default(),
        gap,
        at: UnixMs(5),
    });
    Ok(Reply::Following {
        job: job(),
        snapshot,
        events,
        ended,
    })
}

#[test]
fn a_cursor_gives_what_came_after_it_and_says_where_something_is_missing() {
    let events = |seqs: &[u64]| seqs.iter().map(|seq| progress(*seq).event).collect::<Vec<_>>();
    let (own, other) = (epoch(), "0123");
    let own = own.as_str();
    // The cursor, what the job gives, and then: whether nothing was missed, from where on, and the messages.
    for (after, reply, recovered, offset, sent) in [
        (None, found(Some((7, false)), vec![], false), false, 7, vec![]),
        (Some((own, 5)), found(None, events(&[6, 7]), false), true, 5, vec![6, 7]),
        (Some((own, 7)), found(None, vec![], false), true, 7, vec![]),
        (Some((own, 0)), found(None, events(&[2, 3]), false), true, 1, vec![2, 3]),
        (Some((own, 2)), found(Some((7, true)), vec![], false), false, 7, vec![]),
        (Some((own, 5)), found(None, vec![end(6).event], true), true, 5, vec![6]),
        // The end is given again to whoever has it, and alone to whoever has missed too much.
        (Some((own, 6)), found(None, vec![end(6).event], true), true, 6, vec![]),
        (Some((own, 3)), found(None, vec![end(6).event], true), false, 5, vec![6]),
        (Some((own, 9)), found(None, vec![end(6).event], true), false, 5, vec![6]),
        (None, found(None, vec![end(6).event], true), false, 5, vec![6]),
        // A cursor of another log is none.
        (
            Some((other, 5)),
            found(Some((7, false)), vec![], false),
            false,
            7,
            vec![],
        ),
    ] {
        let mut bench = Bench::new();
        let socket = bench.open();
        let (id, asked) = subscribe(&mut bench, &socket, after);
        let Call::Follow { after: asked, .. } = *asked else {
            panic!("{asked:?}")
        };
        let known = after.filter(|(epoch, _)| *epoch == own).map(|(_, seq)| Seq(seq));
        assert_eq!(asked, known);
        let told = read(&bench.replied(id, reply));
        let what = alloc::format!("{after:?}: {told:?}");
        assert_eq!(
            (&told[0]["type"], &told[0]["request_id"]),
            (&json!("subscribed"), &json!("s")),
            "{what}"
        );
        assert_eq!(
            (&told[0]["recovered"], &told[0]["offset"]),
            (&json!(recovered), &json!(offset)),
            "{what}"
        );
        assert_eq!(told[0]["epoch"], own, "{what}");
        let offsets: Vec<u64> = told[1..]
            .iter()
            .map(|frame| frame["offset"].as_u64().unwrap())
            .collect();
        assert_eq!(offsets, sent, "{what}");
        for frame in &told[1..] {
            assert_eq!(
                (&frame["type"], &frame["epoch"]),
                (&json!("message"), &json!(own)),
                "{what}"
            );
            assert_eq!(
                (&frame["data"]["seq"], &frame["data"]["job_id"]),
                (&frame["offset"], &json!(job())),
                "{what}"
            );
        }
    }
}

#[test]
fn events_are_messages_to_whoever_subscribed_and_frames_to_whoever_attached() {
    let mut bench = Bench::new();
    let socket = bench.following();
    let (id, _) = subscribe(&mut bench, &socket, None);
    bench.replied(id, found(Some((1, false)), vec![], false));
    let (effects, _) = bench.deliver(vec![progress(2)]);
    let told = read(&effects);
    assert_eq!(
        told.iter().filter(|frame| frame["type"] == "progress").count(),
        1,
        "{told:?}"
    );
    assert_eq!(
        told.iter().filter(|frame| frame["type"] == "message").count(),
        1,
        "{told:?}"
    );
    // A second subscription moves the first; it does not double it.
    let (id, _) = subscribe(&mut bench, &socket, Some((&epoch(), 1)));
    let effects = bench.replied(id, found(None, vec![progress(2).event], false));
    assert_eq!(places(&effects), [("subscribed".into(), 1), ("message".into(), 2)]);
    let (effects, _) = bench.deliver(vec![progress(3)]);
    assert_eq!(frames(&effects).len(), 2);
    // It outlives a nap.
    let session = bench.hub.session(&socket).unwrap().clone();
    bench.hub = Hub::new(HubIndex(3));
    bench.hub.restore(session);
    let (effects, _) = bench.deliver(vec![progress(3), progress(4)]);
    assert_eq!(frames(&effects).len(), 2, "what was sent is not sent again");
    // Neither ends the other.
    let unsubscribe = json!({ "type": "unsubscribe", "channel": alloc::format!("job:{}", job()) });
    bench.frame(&socket, &unsubscribe.to_string());
    let (effects, not_followed) = bench.deliver(vec![progress(5)]);
    assert_eq!(
        (read(&effects)[0]["type"].as_str(), frames(&effects).len()),
        (Some("progress"), 1)
    );
    assert_eq!(not_followed, []);
    let (id, _) = subscribe(&mut bench, &socket, None);
    bench.replied(id, found(Some((5, false)), vec![], false));
    bench.frame(&socket, &json!({ "type": "detach", "job_id": job() }).to_string());
    let (effects, _) = bench.deliver(vec![progress(6)]);
    assert_eq!(
        (read(&effects)[0]["type"].as_str(), frames(&effects).len()),
        (Some("message"), 1)
    );
    // Nothing follows the end.
    let (effects, _) = bench.deliver(vec![end(7), progress(8)]);
    assert_eq!(places(&effects), [("message".into(), 7)]);
    assert_eq!(bench.deliver(vec![end(7)]).1, [job()]);
}

#[test]
fn what_is_no_job_is_not_found_and_nobody_publishes_there() {
    let mut bench = Bench::new();
    let socket = bench.open();
    for (frame, code) in [
        (json!({ "type": "subscribe", "channel": "job:1" }), "NOT_FOUND"),
        (json!({ "type": "subscribe", "channel": "job" }), "NOT_FOUND"),
        (
            json!({ "type": "publish", "channel": alloc::format!("job:{}", job()), "data": 1 }),
            "FORBIDDEN",
        ),
    ] {
        let told = read(&bench.frame(&socket, &frame.to_string()));
        assert_eq!(told[0]["error"]["code"], code, "{told:?}");
    }
    let (id, _) = subscribe(&mut bench, &socket, None);
    let told = read(&bench.replied(id, Err(Error::not_found())));
    assert_eq!(
        (&told[0]["type"], &told[0]["error"]["code"]),
        (&json!("error"), &json!("NOT_FOUND"))
    );
}
