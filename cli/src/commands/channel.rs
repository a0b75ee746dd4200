//! `tidegate channel`: publishes messages, follows a channel, reads what is kept of it and who is there.

use serde::Serialize;
use serde_json::json;
use tidegate_sdk::{ChannelUpdate, Client, Cursor, Message};

use super::call::json_input;
use crate::arguments::Channel;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::follow::{quote, seconds};
use crate::output::{Output, compact, stdout_is_terminal, tame};

/// Messages of one page where all are wanted: the most that the server gives.
const PAGE_MAX: u64 = 1000;

/// Runs one of the commands on channels.
pub async fn channels(client: &Client, command: Channel, output: Output) -> Result<Exit, Failure> {
    match command {
        Channel::Publish { channel, data, key } => publish(client, &channel, &data, key.as_deref(), output).await,
        Channel::Follow { channel, after, count } => follow(client, &channel, after, count, output).await,
        Channel::History {
            channel,
            after,
            limit,
            all,
        } => {
            history(
                client,
                &channel,
                after,
                if all { Some(PAGE_MAX) } else { limit },
                all,
                output,
            )
            .await
        }
        Channel::Presence { channel } => presence(client, &channel, output).await,
    }
}

async fn presence(client: &Client, channel: &str, output: Output) -> Result<Exit, Failure> {
    let there = client.http().list_members(channel).await?;
    if output.is_json() {
        output.event("presence", &OfChannel { channel, what: &there });
        return Ok(Exit::Succeeded);
    }
    for member in &there.members {
        let data = member
            .data
            .as_ref()
            .map_or(String::new(), |data| compact(data.as_str()));
        output.print(tame(&format!("{}  {}  {data}", member.user, member.since)).trim_end());
    }
    let more = there
        .count
        .saturating_sub(u64::try_from(there.members.len()).unwrap_or(u64::MAX));
    if there.count == 0 {
        output.say("Nobody is there.");
    } else if more > 0 {
        output.say(&format!("And {more} more."));
    }
    Ok(Exit::Succeeded)
}

async fn publish(
    client: &Client,
    channel: &str,
    data: &str,
    key: Option<&str>,
    output: Output,
) -> Result<Exit, Failure> {
    let help = "Put JSON in single quotes, a text as '\"hello\"', or name a file with @FILE.";
    let data = json_input(data, "data", "the command line", help)?;
    let published = client.http().publish_message(channel, &data, key).await?;
    if output.is_json() {
        output.event(
            "published",
            &OfChannel {
                channel,
                what: &published,
            },
        );
        return Ok(Exit::Succeeded);
    }
    output.print(&published.cursor().to_string());
    if published.deduplicated {
        output.say("The message was there already by its key.");
    }
    Ok(Exit::Succeeded)
}

/// Shows what comes until Ctrl-C, or until there were enough.
async fn follow(
    client: &Client,
    channel: &str,
    after: Option<Cursor>,
    count: Option<u64>,
    output: Output,
) -> Result<Exit, Failure> {
    let mut subscription = client.subscribe(channel, after)?;
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    let mut left = count;
    loop {
        let update = tokio::select! {
            biased;
            _ = &mut interrupt => {
                if let Some(cursor) = subscription.cursor() {
                    output.say(&format!("Go on with: {}", again("follow", channel, cursor)));
                }
                if output.is_json() {
                    let after = subscription.cursor().map(ToString::to_string);
                    output.event("detached", &json!({"channel": channel, "after": after}));
                }
                return Ok(Exit::Detached);
            }
            update = subscription.next() => update,
        };
        match update {
            Some(ChannelUpdate::Message(message)) => {
                show(channel, &message, output);
                left = left.map(|left| left.saturating_sub(1));
                if left == Some(0) {
                    return Ok(Exit::Succeeded);
                }
            }
            Some(ChannelUpdate::Ended { error }) => return Err(Failure::of(error)),
            Some(update) => note(channel, &update, output),
            // The end comes before this.
            None => return Ok(Exit::Failed),
        }
    }
}

async fn history(
    client: &Client,
    channel: &str,
    mut after: Option<Cursor>,
    limit: Option<u64>,
    all: bool,
    output: Output,
) -> Result<Exit, Failure> {
    let mut shown = 0_u64;
    loop {
        let page = client.http().list_messages(channel, after.as_ref(), limit).await?;
        if let Some(after) = after.clone().filter(|_| !page.recovered) {
            let mut until = page.messages.first().map_or_else(|| page.head.clone(), Message::cursor);
            if !page.messages.is_empty() {
                until.offset.0 = until.offset.0.saturating_sub(1);
            }
            note(channel, &ChannelUpdate::Gap { after, until }, output);
        }
        for message in &page.messages {
            show(channel, message, output);
            shown += 1;
        }
        match page.next {
            Some(next) if all && after.as_ref() != Some(&next) => after = Some(next),
            Some(next) => {
                if output.is_json() {
                    output.event("page", &json!({"channel": channel, "next": next.to_string()}));
                }
                output.say(&format!("More: {}", again("history", channel, &next)));
                return Ok(Exit::Succeeded);
            }
            None => {
                if shown == 0 {
                    output.say(&format!("Nothing is kept there; the log stands at {}.", page.head));
                }
                return Ok(Exit::Succeeded);
            }
        }
    }
}

#[derive(Serialize)]
struct OfChannel<'a, T: Serialize> {
    channel: &'a str,
    #[serde(flatten)]
    what: &'a T,
}

fn show(channel: &str, message: &Message, output: Output) {
    if output.is_json() {
        output.event("message", &OfChannel { channel, what: message });
    } else {
        output.print(&line(message));
    }
}

/// A message as one line: its cursor, when, by whom, what.
fn line(message: &Message) -> String {
    let at = message.timestamp.map(|at| at.to_string()).unwrap_or_default();
    let publisher = message.publisher.as_deref().unwrap_or("-");
    let data = compact(message.data.as_str());
    tame(&format!("{}  {at}  {publisher}  {data}", message.cursor()))
}

/// What is said beside the messages.
fn note(channel: &str, update: &ChannelUpdate, output: Output) {
    if output.is_json() {
        match update {
            ChannelUpdate::Subscribed(at) => output.event("subscribed", &OfChannel { channel, what: at }),
            ChannelUpdate::Gap { after, until } => {
                let (after, until) = (after.to_string(), until.to_string());
                output.event("gap", &json!({"channel": channel, "after": after, "until": until}));
            }
            ChannelUpdate::Reconnecting { attempt, in_ms, why } => {
                output.event("reconnecting", &json!({"attempt": attempt, "in_ms": in_ms, "why": why}));
            }
            ChannelUpdate::Reconnected => output.event("reconnected", &json!({})),
            ChannelUpdate::TokenExpiring { expires_at } => {
                output.event("auth_expiring", &json!({"expires_at": expires_at}));
            }
            ChannelUpdate::Message(_) | ChannelUpdate::Ended { .. } => {}
        }
        return;
    }
    match update {
        // A person who looks on learns that it has begun; in a script the line would only be in the way.
        ChannelUpdate::Subscribed(at) if stdout_is_terminal() => {
            output.say(&format!("following {channel} behind {at}"))
        }
        ChannelUpdate::Gap { after, until } => output.say(&gap(after, until)),
        ChannelUpdate::Reconnecting { attempt, in_ms, why } => {
            let wait = seconds(*in_ms);
            output.say(&format!("reconnecting in {wait} s (attempt {attempt}): {}", tame(why)));
        }
        ChannelUpdate::Reconnected => output.say("connected again"),
        ChannelUpdate::TokenExpiring { expires_at } => match expires_at {
            Some(at) => output.say(&format!("the token expires at {at}")),
            None => output.say("the token expires soon"),
        },
        ChannelUpdate::Subscribed(_) | ChannelUpdate::Message(_) | ChannelUpdate::Ended { .. } => {}
    }
}

fn gap(after: &Cursor, until: &Cursor) -> String {
    if after.epoch != until.epoch {
        return format!("gap: the log of {after} is gone; it goes on behind {until}");
    }
    if until.offset <= after.offset {
        return format!("gap: the log is not as far as {after}; it goes on behind {until}");
    }
    let missing = until.offset.0.saturating_sub(after.offset.0);
    let messages = if missing == 1 { "message is" } else { "messages are" };
    format!("gap: {missing} {messages} missing behind {after}")
}

fn again(command: &str, channel: &str, cursor: &Cursor) -> String {
    format!("tidegate channel {command} {} --after {cursor}", quote(channel))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_cannot_move_the_cursor_of_a_terminal_and_stays_one_line() {
        let text = "{\"epoch\":\"e1\",\"offset\":4,\"data\":{ \"a\" :\n \"x\u{9b}2J\"},\"publisher\":\"an\\u001bn\",\
            \"timestamp\":\"2026-11-21T07:00:00.000Z\"}";
        let message = serde_json::from_str(text).unwrap();
        assert_eq!(line(&message), "e1:4  2026-11-21T07:00:00.000Z  ann  {\"a\":\"x2J\"}");
        let bare = serde_json::from_str(r#"{"epoch":"e1","offset":4,"data":null}"#).unwrap();
        assert_eq!(line(&bare), "e1:4    -  null");
    }

    #[test]
    fn a_gap_says_what_is_missing() {
        let at = |text| Cursor::parse(text).unwrap();
        for (after, until, said) in [
            ("e1:3", "e1:4", "gap: 1 message is missing behind e1:3"),
            ("e1:3", "e1:9", "gap: 6 messages are missing behind e1:3"),
            ("e1:3", "e2:9", "gap: the log of e1:3 is gone; it goes on behind e2:9"),
            (
                "e1:9",
                "e1:3",
                "gap: the log is not as far as e1:9; it goes on behind e1:3",
            ),
        ] {
            assert_eq!(gap(&at(after), &at(until)), said);
        }
    }
}
