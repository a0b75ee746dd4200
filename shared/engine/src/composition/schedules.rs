//! The schedules of a composition: which action fires when, with everything that its jobs need.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde_json::Value;
use tidegate_protocol::Fault;
use tidegate_protocol::calls::jobs::NewJob;
use tidegate_protocol::calls::schedules::{Overlap, Schedule};
use tidegate_protocol::calls::tenant::Scale;
use tidegate_protocol::event::{JsonText, Payload};
use tidegate_protocol::ids::{ActionName, RequestId, Revision, ScheduleName, ShardIndex, UserId};
use tidegate_protocol::limits::{ID_CHARS_MAX, METADATA_VALUE_BYTES_MAX, PAYLOAD_ROW_BYTES_MAX};

use super::compile::Actions;
use super::defaults::{
    CATCH_UP_MS, CATCH_UP_MS_RANGE, JITTER_MS_RANGE, SCHEDULE_METADATA_MAX, SCHEDULES_MAX, TIME_ZONE,
};
use super::document::canonical;
use super::hooks::OnEndRules;
use super::object::{Object, describe, note, suggest};
use super::request::Input;
use crate::schedules::{Timetable, Unusable, Zone, parse_expression, parse_zone};
use tidegate_protocol::{SortedMap, SortedSet};

/// Expressions without any moment that are searched to their end in one document. Each takes some 30 ms; a document that
/// has one is refused whatever the others are.
const NEVER_MAX: usize = 3;
/// Metadata that every job of a schedule has of its own: from which schedule it comes.
pub const SCHEDULE_KEY: &str = "schedule";
/// Metadata that a job of a nominal time has of its own: that time.
pub const SCHEDULED_FOR_KEY: &str = "scheduled_for";

/// What schedules can name.
pub(super) struct Known<'a> {
    /// The actions that are right.
    pub actions: &'a Actions,
    /// All that stand in the document: one that is faulty has its fault already.
    pub names: SortedSet<&'a str>,
    /// The document's revision.
    pub revision: &'a Revision,
    /// How the tenant is spread. Its schedules fire in the first of the objects.
    pub scale: Scale,
}

/// Reads the schedules. What is missing or wrong has been noted.
pub(super) fn read_schedules(
    value: &Value,
    pointer: &str,
    known: &Known<'_>,
    faults: &mut Vec<Fault>,
) -> Vec<Schedule> {
    let mut schedules = Vec::new();
    let Some(fields) = Object::read(value, pointer, faults) else {
        return schedules;
    };
    let mut never = 0;
    let entries = fields.entries();
    for (index, (name, value, pointer)) in entries.enumerate() {
        if index == SCHEDULES_MAX {
            note(faults, || {
                Fault::new(pointer, format!("at most {SCHEDULES_MAX} schedules"), "more of them")
            });
            break;
        }
        let parsed = ScheduleName::parse(name);
        if parsed.is_none() {
            note(faults, || Fault::new(pointer.as_str(), ScheduleName::EXPECTED, name));
        }
        schedules.extend(read_schedule(parsed, value, &pointer, known, &mut never, faults));
    }
    schedules
}

fn read_schedule(
    name: Option<ScheduleName>,
    value: &Value,
    pointer: &str,
    known: &Known<'_>,
    never: &mut usize,
    faults: &mut Vec<Fault>,
) -> Option<Schedule> {
    let mut fields = Object::read(value, pointer, faults)?;
    let timing = read_timing(&mut fields, never);
    let action = read_action(&mut fields, known);
    let payload = read_payload(&mut fields);
    let metadata = match fields.take("metadata") {
        Some(value) => read_metadata(value, &fields.at("metadata"), fields.faults),
        None => SortedMap::new(),
    };
    let given = fields.text("user", UserId::EXPECTED, UserId::parse);
    let overlap = fields.one_of("overlap", &["skip", "queue_one", "allow", "cancel_old"]);
    let overlap = Overlap::ALL.into_iter().find(|known| overlap == Some(known.as_str()));
    let catch_up_ms = fields.duration("catch_up", CATCH_UP_MS_RANGE).unwrap_or(CATCH_UP_MS);
    let jitter_ms = fields.duration("jitter", JITTER_MS_RANGE).unwrap_or(0);
    let paused = fields.flag("paused").unwrap_or(false);
    fields.finish();
    let (name, (cron, time_zone)) = (name?, timing?);
    let action = known.actions.get(&action?)?;
    let user = match given {
        Some(user) => user,
        None => UserId::parse(&format!("schedule:{name}"))?,
    };
    let payload = payload?;
    let input = Input::new(&user, &action.name, &metadata, &payload);
    let queueing = match action.queue.queueing(&input, None, ShardIndex(0), known.scale) {
        Ok(queueing) => queueing,
        Err(error) => {
            for fault in error.details {
                let pointer = format!("{pointer}{}", fault.pointer);
                note(faults, || Fault { pointer, ..fault });
            }
            return None;
        }
    };
    Some(Schedule {
        job: NewJob {
            request_id: RequestId::parse(&format!("schedule:{name}"))?,
            user,
            action: action.name.clone(),
            revision: known.revision.clone(),
            policy: action.policy.clone(),
            queueing,
            payload: Payload::Inline(payload),
            metadata,
            run_at: None,
            redriven_from: None,
            batch: None,
            // Each nominal time has a key of its own, which lives as long as its job is kept.
            once: None,
            traceparent: None,
            hook: action.on_end.as_ref().and_then(OnEndRules::standing),
        },
        name,
        cron,
        time_zone,
        overlap: overlap.unwrap_or_default(),
        catch_up_ms,
        jitter_ms,
        paused,
    })
}

/// The expression and the zone's own name.
fn read_timing(fields: &mut Object<'_, '_>, never: &mut usize) -> Option<(String, String)> {
    const CRON: &str = "a cron expression after OCPS, such as \"0 3 * * *\"";
    const ZONE: &str = "a time zone of the IANA database, such as \"Europe/Berlin\"";
    fields.require("cron", CRON)?;
    let text = fields.text("cron", CRON, Some);
    let cron = text.and_then(|text| match parse_expression(text) {
        Ok(cron) => Some((text, cron)),
        Err(Unusable::Expression(why)) => {
            fields.fault("cron", CRON, &format!("\"{text}\": {why}"));
            None
        }
        Err(Unusable::Never | Unusable::Zone) => None,
    });
    let name = match fields.take("time_zone") {
        None => Some(TIME_ZONE),
        Some(_) => fields.text("time_zone", ZONE, Some),
    };
    let zone = name.and_then(|name| match parse_zone(name) {
        Ok(zone) => Some(zone),
        Err(_) => {
            let pointer = fields.at("time_zone");
            note(fields.faults, || {
                let near = Zone::names();
                let near = near.filter(|known| known.len().abs_diff(name.len()) <= 2);
                let got = describe(&Value::from(name));
                suggest(Fault::new(pointer, ZONE, &got), name, near)
            });
            None
        }
    });
    let ((text, cron), zone) = (cron?, zone?);
    let zone_name = zone.name().to_string();
    if *never >= NEVER_MAX {
        return None;
    }
    match Timetable::new(cron, zone) {
        Ok(_) => Some((text.to_string(), zone_name)),
        Err(_) => {
            *never += 1;
            let got = format!("\"{text}\", which never comes");
            fields.fault("cron", "a cron expression that some moment matches", &got);
            None
        }
    }
}

fn read_action(fields: &mut Object<'_, '_>, known: &Known<'_>) -> Option<ActionName> {
    const EXPECTED: &str = "an action of the composition";
    fields.require("action", EXPECTED)?;
    let name = fields.text("action", ActionName::EXPECTED, |text| {
        ActionName::parse(text).map(|action| (text, action))
    });
    let (text, action) = name?;
    if !known.names.contains(text) {
        let pointer = fields.at("action");
        note(fields.faults, || {
            suggest(
                Fault::new(pointer, EXPECTED, text),
                text,
                known.names.iter().copied().take(256),
            )
        });
        return None;
    }
    Some(action)
}

/// The payload, which stands in a row for as long as the schedule does.
fn read_payload(fields: &mut Object<'_, '_>) -> Option<JsonText> {
    let text = fields.take("payload").map_or_else(|| String::from("null"), canonical);
    if text.len() > PAYLOAD_ROW_BYTES_MAX {
        let expected = format!("at most {PAYLOAD_ROW_BYTES_MAX} bytes of JSON");
        fields.fault("payload", expected, &format!("{} bytes", text.len()));
        return None;
    }
    JsonText::parse(&text)
}

fn read_metadata(value: &Value, pointer: &str, faults: &mut Vec<Fault>) -> SortedMap<String, String> {
    let mut metadata = SortedMap::new();
    let Some(fields) = Object::read(value, pointer, faults) else {
        return metadata;
    };
    let entries = fields.entries();
    for (index, (name, value, pointer)) in entries.enumerate() {
        if index == SCHEDULE_METADATA_MAX {
            let expected = format!("at most {SCHEDULE_METADATA_MAX} entries");
            note(faults, || Fault::new(pointer, expected, "more of them"));
            break;
        }
        if name.is_empty() || name.chars().count() > ID_CHARS_MAX {
            note(faults, || {
                Fault::new(pointer.as_str(), "a name of 1 to 128 characters", name)
            });
        }
        if matches!(name, SCHEDULE_KEY | SCHEDULED_FOR_KEY) {
            let expected = "another name: `schedule` and `scheduled_for` are filled in for each job";
            note(faults, || Fault::new(pointer.as_str(), expected, name));
        }
        match value.as_str() {
            Some(text) if text.len() <= METADATA_VALUE_BYTES_MAX => {
                metadata.insert(name.to_string(), text.to_string());
            }
            _ => {
                let expected = format!("a string of at most {METADATA_VALUE_BYTES_MAX} bytes");
                note(faults, || Fault::new(pointer, expected, &describe(value)));
            }
        }
    }
    metadata
}
