//! Subscriptions against a simulated hub, cut off at every possible point.

use std::collections::VecDeque;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::channels::{Epoch, Offset};
use crate::link::{Loss, Patience};

const CHANNEL: &str = "chat:1";
const WELCOME: &str = r#"{"type":"welcome","connection_id":"con_1","heartbeat_ms":1000}"#;

/// A hub with one socket and one channel, as the protocol describes it: it follows the channel once for the socket, and a
/// `subscribe` moves what the socket is sent.
#[derive(Default)]
struct Hub {
    epoch: u64,
    /// The latest message of the log.
    head: u64,
    /// Messages up to this one are no longer kept.
    forgotten: u64,
    /// The last message that the socket was sent, or need not be; `None`: it does not follow.
    sent: Option<u64>,
    connected: bool,
    busy: bool,
    /// `subscribe`s that said that a cursor could not be recovered, and gaps told by the hub itself.
    lost: u32,
    up: VecDeque<String>,
    down: VecDeque<String>,
}

impl Hub {
    fn name(&self) -> String {
        format!("e{}", self.epoch)
    }

    fn message(&self, offset: u64) -> String {
        let data = format!("{}:{offset}", self.name());
        json!({"type":"message","channel":CHANNEL,"epoch":self.name(),"offset":offset,"data":data}).to_string()
    }

    fn send_after(&mut self, from: u64) {
        let messages: Vec<String> = (from + 1..=self.head).map(|offset| self.message(offset)).collect();
        self.down.extend(messages);
    }

    fn cut(&mut self) {
        (self.connected, self.sent) = (false, None);
        self.up.clear();
        self.down.clear();
    }

    /// Sends the socket what is new.
    fn broadcast(&mut self) {
        if let Some(sent) = self.sent {
            self.send_after(sent);
            self.sent = Some(sent.max(self.head));
        }
    }

    /// Tells the socket by itself that there is a gap.
    fn skip(&mut self) {
        if self.sent.is_some_and(|sent| sent < self.head) {
            self.tell_gap();
        }
    }

    fn begin_anew(&mut self) {
        (self.epoch, self.head, self.forgotten) = (self.epoch + 1, 0, 0);
        if self.sent.is_some() {
            self.tell_gap();
        }
    }

    fn tell_gap(&mut self) {
        self.lost += 1;
        self.sent = Some(self.head);
        let gap =
            json!({"type":"subscribed","channel":CHANNEL,"epoch":self.name(),"offset":self.head,"recovered":false});
        self.down.push_back(gap.to_string());
    }

    fn take(&mut self) {
        let Some(text) = self.up.pop_front() else {
            return;
        };
        if text == tidegate_protocol::frames::PING {
            self.down.push_back(tidegate_protocol::frames::PONG.into());
            return;
        }
        let frame: Value = serde_json::from_str(&text).unwrap();
        let id = &frame["id"];
        match frame["type"].as_str().unwrap() {
            "subscribe" if std::mem::take(&mut self.busy) && frame.get("after").is_some() => {
                let error = json!({"code":"UNAVAILABLE","message":"m","retryable":true,"retry_after_ms":5});
                let refusal = json!({"type":"error","request_id":id,"error":error});
                self.down.push_back(refusal.to_string());
            }
            "subscribe" => self.subscribe(id, frame.get("after")),
            "unsubscribe" => {
                self.sent = None;
                self.down.push_back(json!({"type":"ok","request_id":id}).to_string());
            }
            other => panic!("the hub was sent {other}"),
        }
    }

    fn subscribe(&mut self, id: &Value, after: Option<&Value>) {
        let asked = after.map(|after| (after["epoch"].as_str().unwrap(), after["offset"].as_u64().unwrap()));
        let recovered = match asked {
            Some((epoch, offset)) => {
                let kept = epoch == self.name() && (self.forgotten..=self.head).contains(&offset);
                self.lost += u32::from(!kept);
                kept
            }
            None => false,
        };
        let from = asked.filter(|_| recovered).map_or(self.head, |(_, offset)| offset);
        let answer = json!({"type":"subscribed","request_id":id,"channel":CHANNEL,"epoch":self.name(),"offset":from,
            "recovered":recovered});
        self.down.push_back(answer.to_string());
        self.send_after(from);
        self.sent = Some(self.head);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Publish(u64),
    Broadcast,
    Skip,
    Forget,
    BeginAnew,
    Take,
    Give,
    GiveTwice,
    Busy,
    Cut,
    Pass(u64),
    Join,
    Leave,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (1_u64..4).prop_map(Step::Publish),
        5 => Just(Step::Broadcast),
        1 => Just(Step::Skip),
        1 => Just(Step::Forget),
        1 => Just(Step::BeginAnew),
        6 => Just(Step::Take),
        8 => Just(Step::Give),
        2 => Just(Step::GiveTwice),
        1 => Just(Step::Busy),
        2 => Just(Step::Cut),
        3 => (0_u64..3000).prop_map(Step::Pass),
        2 => Just(Step::Join),
        1 => Just(Step::Leave),
    ]
}

struct World {
    link: Link,
    hub: Hub,
    now: Ms,
    roll: u64,
    told: Vec<(String, ChannelUpdate)>,
    names: u32,
}

impl World {
    fn new() -> Self {
        let patience = Patience {
            first_ms: None,
            again_ms: None,
        };
        let mut world = Self {
            link: Link::new(patience),
            hub: Hub::default(),
            now: 0,
            roll: 12_345,
            told: Vec::new(),
            names: 0,
        };
        world.join();
        world
    }

    /// One more follows the same channel.
    fn join(&mut self) {
        self.names += 1;
        let follower = Follower::new(format!("s{}", self.names), CHANNEL.into(), None);
        self.link.subscribe(self.now, follower);
        self.settle();
    }

    /// The second follower of those that are there, so that one always stays.
    fn leave(&mut self) {
        if let Some(id) = self.link.followers.keys().nth(1).cloned() {
            self.link.unsubscribe(&id);
            self.settle();
        }
    }

    fn settle(&mut self) {
        while let Some(output) = self.link.poll() {
            match output {
                Output::Connect => {
                    assert!(!self.hub.connected, "a second connection beside the first");
                    self.hub.connected = true;
                    self.hub.down.push_back(WELCOME.into());
                    self.link.opened(self.now);
                }
                Output::Send(text) => {
                    assert!(self.hub.connected, "sent without a connection");
                    self.hub.up.push_back(text);
                }
                Output::Drop => self.hub.cut(),
                Output::Deliver(..) => panic!("there is no call"),
                Output::Tell(id, update) => self.told.push((id, *update)),
            }
        }
    }

    fn next_roll(&mut self) -> u64 {
        self.roll = self.roll.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        self.roll >> 11
    }

    fn give(&mut self, times: u8) {
        if let Some(text) = self.hub.down.pop_front() {
            // Messages may come twice; answers come once.
            let times = if text.contains(r#""type":"message""#) { times } else { 1 };
            for _ in 0..times {
                let roll = self.next_roll();
                self.link.received(self.now, roll, &text);
                self.settle();
            }
        }
    }

    fn pass(&mut self, ms: u64) {
        self.now += ms;
        let roll = self.next_roll();
        self.link.tick(self.now, roll);
        self.settle();
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Publish(count) => self.hub.head += count,
            Step::Broadcast => self.hub.broadcast(),
            Step::Skip => self.hub.skip(),
            Step::Forget => self.hub.forgotten = self.hub.head,
            Step::BeginAnew => self.hub.begin_anew(),
            Step::Take => self.hub.take(),
            Step::Give => self.give(1),
            Step::GiveTwice => self.give(2),
            Step::Busy => self.hub.busy = true,
            Step::Cut => {
                if self.hub.connected {
                    self.hub.cut();
                    let (roll, why) = (self.next_roll(), "reset".to_owned());
                    let loss = Loss::Failed {
                        why,
                        retry_after_ms: None,
                    };
                    self.link.lost(self.now, roll, loss);
                }
            }
            Step::Pass(ms) => self.pass(*ms),
            Step::Join => self.join(),
            Step::Leave => self.leave(),
        }
        self.settle();
    }

    /// Publishes a last message and lets it reach everybody, without further cuts.
    fn finish(&mut self) {
        self.hub.busy = false;
        for round in 0..400 {
            while !self.hub.up.is_empty() || !self.hub.down.is_empty() {
                self.hub.take();
                self.give(1);
            }
            if self.hub.sent == Some(self.hub.head) && round > 20 && self.link.again.is_empty() {
                return;
            }
            if round == 10 {
                self.hub.head += 1;
            }
            self.hub.broadcast();
            let wait = self
                .link
                .next_timeout()
                .map_or(1, |at| at.saturating_sub(self.now).max(1));
            self.pass(wait);
        }
        panic!("it never comes to rest: {:?}", self.link);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn whatever_is_cut_messages_come_once_and_in_order_and_what_is_missing_is_told(
        steps in proptest::collection::vec(step(), 0..120),
    ) {
        let mut world = World::new();
        for step in &steps {
            world.run(step);
        }
        let stayed: Vec<String> = world.link.followers.keys().cloned().collect();
        world.finish();
        let head = Cursor { epoch: Epoch::parse(&world.hub.name()).unwrap(), offset: Offset(world.hub.head) };
        let mut gaps = 0;
        for name in (1..=world.names).map(|n| format!("s{n}")) {
            let mut at: Option<Cursor> = None;
            for (_, update) in world.told.iter().filter(|(id, _)| *id == name) {
                match update {
                    ChannelUpdate::Subscribed(first) => {
                        prop_assert!(at.is_none(), "told where it begins twice");
                        at = Some(first.clone());
                    }
                    ChannelUpdate::Message(message) => {
                        let before = at.clone().unwrap();
                        prop_assert_eq!(&message.epoch, &before.epoch);
                        prop_assert_eq!(message.offset, before.offset.next(), "{} of {}", message.cursor(), name);
                        let data = format!("\"{}\"", message.cursor());
                        prop_assert_eq!(message.data.as_str(), data);
                        at = Some(message.cursor());
                    }
                    ChannelUpdate::Gap { after, until } => {
                        prop_assert_eq!(Some(after), at.as_ref(), "a gap begins at the latest message");
                        gaps += 1;
                        at = Some(until.clone());
                    }
                    ChannelUpdate::Ended { error } => prop_assert!(false, "{}", error),
                    _ => {}
                }
            }
            if stayed.contains(&name) {
                prop_assert_eq!(at.as_ref(), Some(&head), "{} was not told of the end", name);
            }
        }
        // A gap that the hub tells by itself is told to each of the followers.
        prop_assert!(gaps <= world.hub.lost * world.names, "{} gaps without reason", gaps);
        prop_assert!(world.hub.lost > 0 || gaps == 0);
    }
}

fn open(link: &mut Link) -> Vec<String> {
    link.opened(0);
    link.received(0, 0, WELCOME);
    sent(link)
}

fn sent(link: &mut Link) -> Vec<String> {
    std::iter::from_fn(|| link.poll())
        .filter_map(|output| match output {
            Output::Send(text) => Some(text),
            _ => None,
        })
        .collect()
}

fn follow(link: &mut Link, id: &str) {
    link.subscribe(0, Follower::new(id.into(), CHANNEL.into(), None));
}

fn answer(link: &mut Link, id: &str) {
    let text = format!(
        r#"{{"type":"subscribed","request_id":"{id}","channel":"{CHANNEL}","epoch":"e1","offset":3,"recovered":false}}"#
    );
    link.received(0, 0, &text);
}

#[test]
fn the_channel_is_left_with_the_last_who_follows_it() {
    let mut link = Link::new(Patience::default());
    follow(&mut link, "a");
    assert_eq!(open(&mut link).len(), 1);
    answer(&mut link, "a");
    follow(&mut link, "b");
    answer(&mut link, "b");
    sent(&mut link);
    link.unsubscribe("a");
    assert!(sent(&mut link).is_empty(), "b follows still");
    link.unsubscribe("b");
    let left = r#"{"type":"unsubscribe","id":"b.unsubscribe","channel":"chat:1"}"#;
    assert_eq!(sent(&mut link), [left]);
}

#[test]
fn an_answer_that_crossed_the_end_leaves_the_channel_again() {
    let mut link = Link::new(Patience::default());
    follow(&mut link, "a");
    open(&mut link);
    link.unsubscribe("a");
    let left = r#"{"type":"unsubscribe","id":"a.unsubscribe","channel":"chat:1"}"#;
    assert_eq!(sent(&mut link), [left]);
    answer(&mut link, "a");
    assert_eq!(sent(&mut link), [left]);
}

#[test]
fn what_ends_a_connection_for_good_ends_every_subscription() {
    let mut link = Link::new(Patience::default());
    follow(&mut link, "a");
    follow(&mut link, "b");
    open(&mut link);
    let (code, reason) = (3502, "tenant suspended".to_owned());
    link.lost(1, 0, Loss::Closed { code, reason });
    let ended = std::iter::from_fn(|| link.poll())
        .filter(|output| matches!(output, Output::Tell(_, update) if matches!(**update, ChannelUpdate::Ended { .. })));
    assert_eq!(ended.count(), 2);
    assert_eq!(link.next_timeout(), None);
}
