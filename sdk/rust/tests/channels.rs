//! Channels against a server in the same process, over real sockets.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "these are tests"
)]

#[path = "fake/mod.rs"]
mod fake;

use fake::{Fake, Reply, Socket, within};
use serde_json::{Value, json};
use tidegate_sdk::{ChannelUpdate, Client, Cursor, Error, JsonText, Subscription, inbox};

async fn fake() -> (Fake, Client) {
    let fake = Fake::start(|_| None).await;
    let client = Client::new(&fake.url, "token-1").unwrap();
    (fake, client)
}

fn subscribed(request: &Value, offset: u64, recovered: bool) -> Value {
    json!({"type":"subscribed","request_id":request["id"],"channel":request["channel"],"epoch":"e1","offset":offset,
        "recovered":recovered})
}

fn message(offset: u64) -> Value {
    json!({"type":"message","channel":"chat:1","epoch":"e1","offset":offset,"data":{"n":offset},"publisher":"ann",
        "timestamp":"2026-11-21T07:00:00.000Z","mood":"new"})
}

fn cursor(text: &str) -> Cursor {
    Cursor::parse(text).unwrap()
}

/// The next update but what is said of the connection, as a word.
async fn next(subscription: &mut Subscription) -> String {
    loop {
        return match within(subscription.next()).await {
            Some(ChannelUpdate::Subscribed(at)) => format!("subscribed {at}"),
            Some(ChannelUpdate::Message(message)) => format!("message {} {}", message.cursor(), message.data.as_str()),
            Some(ChannelUpdate::Gap { after, until }) => format!("gap {after} {until}"),
            Some(ChannelUpdate::Ended { error }) => format!("ended {error}"),
            Some(_) => continue,
            None => "over".to_owned(),
        };
    }
}

async fn followed(fake: &mut Fake, subscription: &mut Subscription) -> Socket {
    let mut socket = fake.welcomed().await;
    let request = socket.frame().await;
    socket.send(subscribed(&request, 3, false)).await;
    assert_eq!(next(subscription).await, "subscribed e1:3");
    socket
}

#[tokio::test]
async fn a_subscription_goes_on_from_its_cursor_over_a_cut_and_nothing_comes_twice() {
    let (mut fake, client) = fake().await;
    let mut chat = client.subscribe("chat:1", None).unwrap();
    let mut socket = followed(&mut fake, &mut chat).await;
    socket.send(message(4)).await;
    socket.send(message(5)).await;
    // Dropped, not closed: the connection breaks.
    drop(socket);
    let mut socket = fake.welcomed().await;
    let request = socket.frame().await;
    assert_eq!(request["type"], "subscribe");
    let after = request["after"]["offset"].as_u64().unwrap();
    socket.send(subscribed(&request, after, true)).await;
    for offset in [5, 5, 6] {
        socket.send(message(offset)).await;
    }
    for offset in 4..=6 {
        let expected = format!("message e1:{offset} {{\"n\":{offset}}}");
        assert_eq!(next(&mut chat).await, expected);
    }
    assert_eq!(chat.cursor(), Some(&cursor("e1:6")));
    drop(chat);
    let left = socket.frame().await;
    assert_eq!(
        (&left["type"], &left["channel"]),
        (&json!("unsubscribe"), &json!("chat:1"))
    );
}

#[tokio::test]
async fn a_gap_is_told_after_a_cut_and_where_the_server_says_so_itself() {
    let (mut fake, client) = fake().await;
    let mut chat = client.subscribe("chat:1", Some(cursor("e1:2"))).unwrap();
    let mut socket = fake.welcomed().await;
    let request = socket.frame().await;
    assert_eq!(request["after"], json!({"epoch":"e1","offset":2}));
    socket.send(subscribed(&request, 7, false)).await;
    assert_eq!(next(&mut chat).await, "gap e1:2 e1:7");
    let told = json!({"type":"subscribed","channel":"chat:1","epoch":"e1","offset":9,"recovered":false});
    socket.send(told).await;
    assert_eq!(next(&mut chat).await, "gap e1:7 e1:9");
    socket.close(1012, "restart").await;
    let mut socket = fake.welcomed().await;
    let request = socket.frame().await;
    socket.send(subscribed(&request, 30, false)).await;
    assert_eq!(next(&mut chat).await, "gap e1:9 e1:30");
    socket.send(message(31)).await;
    assert_eq!(next(&mut chat).await, "message e1:31 {\"n\":31}");
}

#[tokio::test]
async fn a_refusal_ends_a_subscription_at_its_beginning_and_in_its_midst() {
    let (mut fake, client) = fake().await;
    let mut chat = client.subscribe("chat:1", None).unwrap();
    let mut socket = followed(&mut fake, &mut chat).await;
    let mut staff = client.subscribe("staff:1", None).unwrap();
    let request = socket.frame().await;
    let error = json!({"code":"NOT_FOUND","message":"No.","retryable":false});
    socket
        .send(json!({"type":"error","request_id":request["id"],"error":error}))
        .await;
    assert_eq!(next(&mut staff).await, "ended NOT_FOUND: No.");
    assert_eq!(next(&mut staff).await, "over");
    let error = json!({"code":"FORBIDDEN","message":"No more.","retryable":false});
    socket
        .send(json!({"type":"unsubscribed","channel":"chat:1","error":error}))
        .await;
    assert_eq!(next(&mut chat).await, "ended FORBIDDEN: No more.");
}

#[tokio::test]
async fn two_subscriptions_of_one_channel_share_a_socket_and_what_comes() {
    let (mut fake, client) = fake().await;
    let mut first = client.subscribe("chat:1", None).unwrap();
    let mut socket = followed(&mut fake, &mut first).await;
    let mut second = client.clone().subscribe("chat:1", Some(cursor("e1:1"))).unwrap();
    let request = socket.frame().await;
    socket.send(subscribed(&request, 1, true)).await;
    for offset in 2..=4 {
        socket.send(message(offset)).await;
    }
    assert_eq!(next(&mut second).await, "subscribed e1:1");
    for offset in 2..=4 {
        assert_eq!(
            next(&mut second).await,
            format!("message e1:{offset} {{\"n\":{offset}}}")
        );
    }
    assert_eq!(next(&mut first).await, "message e1:4 {\"n\":4}");
    drop(second);
    drop(first);
    // The first that goes says nothing: the other follows still.
    assert_eq!(socket.frame().await["type"], "unsubscribe");
    drop(client);
    socket.gone().await;
    assert_eq!(fake.received().len(), 1, "one upgrade for both");
}

#[tokio::test]
async fn a_publication_without_its_answer_is_sent_again_with_the_same_key() {
    let (mut fake, client) = fake().await;
    let publisher = client.clone();
    let publishing = tokio::spawn(async move { publisher.publish("chat:1", &json!({"a": 1}), None).await });
    let mut socket = fake.welcomed().await;
    let first = socket.text().await;
    drop(socket);
    let mut socket = fake.welcomed().await;
    let second = socket.text().await;
    assert_eq!(first, second);
    let request: Value = serde_json::from_str(&second).unwrap();
    assert_eq!(
        (&request["type"], &request["data"]),
        (&json!("publish"), &json!({"a":1}))
    );
    assert!(request["idempotency_key"].as_str().unwrap().len() > 20);
    let answer = json!({"type":"published","request_id":request["id"],"channel":"chat:1","epoch":"e1","offset":8,
        "deduplicated":true});
    socket.send(answer).await;
    let published = within(publishing).await.unwrap().unwrap();
    assert_eq!((published.cursor(), published.deduplicated), (cursor("e1:8"), true));

    let publisher = client.clone();
    let publishing = tokio::spawn(async move { publisher.publish("chat:1", &1, Some("k")).await });
    let request = socket.frame().await;
    assert_eq!(request["idempotency_key"], "k");
    let error = json!({"code":"FORBIDDEN","message":"No.","retryable":false});
    socket
        .send(json!({"type":"error","request_id":request["id"],"error":error}))
        .await;
    assert!(matches!(within(publishing).await.unwrap(), Err(Error::Api(error)) if error.code.as_str() == "FORBIDDEN"));
}

#[tokio::test]
async fn one_who_does_not_read_is_told_from_where_to_read_the_history() {
    let (mut fake, client) = fake().await;
    let mut chat = client.subscribe("chat:1", None).unwrap();
    let mut socket = followed(&mut fake, &mut chat).await;
    let last = 3 + inbox::UPDATES_MAX as u64 + 500;
    for offset in 4..=last {
        socket.send(message(offset)).await;
    }
    // What the client answers after all of these has come behind them.
    let publisher = client.clone();
    let publishing = tokio::spawn(async move { publisher.publish("chat:1", &1, None).await });
    let request = socket.frame().await;
    let answer =
        json!({"type":"published","request_id":request["id"],"channel":"chat:1","epoch":"e1","offset":last + 1});
    socket.send(answer).await;
    within(publishing).await.unwrap().unwrap();
    assert_eq!(next(&mut chat).await, "gap e1:3 e1:503");
    for offset in 504..=last {
        assert_eq!(next(&mut chat).await, format!("message e1:{offset} {{\"n\":{offset}}}"));
    }
}

#[tokio::test]
async fn names_and_keys_that_cannot_be_are_refused_before_anything_is_asked() {
    let (fake, client) = fake().await;
    for channel in ["", "a b", "a/b", &"x".repeat(129)] {
        assert!(
            matches!(client.subscribe(channel, None), Err(Error::Invalid(_))),
            "{channel}"
        );
        let published = client.publish(channel, &1, None).await;
        assert!(matches!(published, Err(Error::Invalid(_))), "{channel}");
        let page = client.http().list_messages(channel, None, None).await;
        assert!(matches!(page, Err(Error::Invalid(_))), "{channel}");
    }
    assert!(matches!(
        client.publish("a", &1, Some("")).await,
        Err(Error::Invalid(_))
    ));
    assert!(fake.received().is_empty());
}

#[tokio::test]
async fn messages_are_published_and_read_over_http() {
    let fake = Fake::start(|request| match (request.method.as_str(), request.path.as_str()) {
        ("POST", "/v1/channels/chat:1/messages") => Some(Reply::json(
            200,
            &json!({"epoch":"e1","offset":4,"deduplicated":false,"new":1}),
        )),
        ("GET", "/v1/channels/chat:1/messages?after=e1%3A2&limit=2") => Some(Reply::json(
            200,
            &json!({"epoch":"e1","offset":9,"recovered":true,"next":"e1:4","messages":[
                {"offset":3,"data":null,"timestamp":"2026-11-21T07:00:00.000Z","publisher":"ann"},{"offset":4,"data":[1]}]}),
        )),
        _ => None,
    })
    .await;
    let http = Client::new(&fake.url, "t").unwrap().http().clone();
    let data = JsonText::parse("{\"a\":1.10}").unwrap();
    let published = http.publish_message("chat:1", &data, None).await.unwrap();
    assert_eq!(published.cursor(), cursor("e1:4"));
    let body = fake.received()[0].json();
    assert_eq!(body["data"], json!({"a":1.10}));
    assert!(body["idempotency_key"].is_string());
    let page = http
        .list_messages("chat:1", Some(&cursor("e1:2")), Some(2))
        .await
        .unwrap();
    assert_eq!((page.head, page.next), (cursor("e1:9"), Some(cursor("e1:4"))));
    let cursors: Vec<_> = page
        .messages
        .iter()
        .map(|message| message.cursor().to_string())
        .collect();
    assert_eq!(cursors, ["e1:3", "e1:4"]);
    assert_eq!(page.messages[0].publisher.as_deref(), Some("ann"));
}
