//! The schemas: those of the protocol's types as serde writes them, and by hand what no type of its own writes.

use std::collections::BTreeSet;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};
use tidegate_protocol::ErrorCode;
use tidegate_protocol::calls::queueing::Priority;
use tidegate_protocol::event::{JobState, JsonText};
use tidegate_protocol::frames::{Mode, OnDisconnect, ServerFrame};
use tidegate_protocol::ids::{ActionName, BatchId, IdempotencyKey, RequestId, TraceParent, UserId};
use tidegate_protocol::limits::{
    DELAY_MS_MAX, ID_CHARS_MAX, METADATA_ENTRIES_MAX, METADATA_VALUE_BYTES_MAX, QUEUE_TIMEOUT_MS_MAX, TIMEOUT_MS_MAX,
};
use tidegate_protocol::time::UnixMs;

/// Where the schemas stand in the document.
const PLACE: &str = "#/components/schemas/";
/// The frames that are events of a job.
const EVENTS: [&str; 7] = [
    "progress", "retrying", "output", "complete", "snapshot", "error", "started",
];

/// The schemas that were asked for.
pub struct Schemas(SchemaGenerator);

impl Schemas {
    /// None yet.
    pub fn new() -> Self {
        let settings = SchemaSettings::draft2020_12().for_serialize();
        Self(
            settings
                .with(|settings| settings.definitions_path = "/components/schemas".into())
                .into_generator(),
        )
    }

    /// A reference to the schema of `T`.
    pub fn of<T: JsonSchema>(&mut self) -> Value {
        self.0.subschema_for::<T>().into()
    }

    /// The schema of `T` itself.
    pub fn inline<T: JsonSchema>(&mut self) -> Value {
        T::json_schema(&mut self.0).into()
    }

    /// A reference to `T`, with what it stands for here.
    pub fn field<T: JsonSchema>(&mut self, description: &str) -> Value {
        let mut schema = self.of::<T>();
        schema["description"] = json!(description);
        schema
    }

    /// All schemas that `document` refers to, and those that they refer to.
    pub fn finish(mut self, document: &Value) -> Value {
        let by_hand = [
            ("Request", self.request()),
            ("JobEvent", self.job_event()),
            ("JobFilter", self.job_filter()),
            ("Health", health()),
            ("Readiness", readiness()),
        ];
        let mut all = self.0.take_definitions(true);
        all.extend(by_hand.map(|(name, schema)| (name.to_owned(), schema)));
        if let Some(page) = all.get_mut("EventPage") {
            page["properties"]["events"]["items"] = by_name("JobEvent");
        }
        all.values_mut().for_each(absent_not_null);
        let mut wanted = references(document);
        let mut kept = Map::new();
        while let Some(name) = wanted.pop_first() {
            if let Some(schema) = all.remove(&name) {
                wanted.append(&mut references(&schema));
                kept.insert(name, schema);
            }
        }
        Value::Object(kept)
    }

    /// The body of `POST /v1/requests`. The type reads itself field by field, so that nothing derives its schema.
    fn request(&mut self) -> Value {
        json!({
            "type": "object",
            "description": "A request to run an action: a `request` frame.",
            "required": ["action"],
            "additionalProperties": false,
            "not": { "required": ["delay_ms", "run_at"] },
            "properties": {
                "type": { "const": "request", "description": "The type of the frame." },
                "id": self.field::<RequestId>("The client's id for it; made by the server where it is absent."),
                "action": self.field::<ActionName>("What to run."),
                "payload": self.field::<JsonText>("Its input: any JSON that the action takes."),
                "metadata": {
                    "description": "The client's own notes on it.",
                    "type": "object",
                    "maxProperties": METADATA_ENTRIES_MAX,
                    "propertyNames": { "minLength": 1, "maxLength": ID_CHARS_MAX },
                    "additionalProperties": { "type": "string", "maxLength": METADATA_VALUE_BYTES_MAX },
                },
                "mode": self.field::<Mode>("How the answer is wanted. `auto` where it is absent."),
                "idempotency_key": self.field::<IdempotencyKey>(
                    "The client's name for the work: the same key for the same action, one execution.",
                ),
                "priority": self.field::<Priority>("How soon the job is wanted, where it has to wait. As its action says where it is absent."),
                "timeout_ms": {
                    "description": "How long one attempt may take, shortened from the action's own limit. Milliseconds.",
                    "type": "integer",
                    "minimum": 1,
                    "maximum": TIMEOUT_MS_MAX,
                },
                "queue_timeout_ms": {
                    "description": "How long the job may wait for its first attempt, shortened from the action's own limit. Milliseconds.",
                    "type": "integer",
                    "minimum": 1,
                    "maximum": QUEUE_TIMEOUT_MS_MAX,
                },
                "delay_ms": {
                    "description": "Not before so many milliseconds from now.",
                    "type": "integer",
                    "minimum": 0,
                    "maximum": DELAY_MS_MAX,
                },
                "run_at": self.field::<UnixMs>("Not before this moment (RFC 3339)."),
                "traceparent": self.field::<TraceParent>("The caller's trace (W3C Trace Context)."),
                "on_disconnect": self.field::<OnDisconnect>(
                    "What becomes of the job where nobody follows it any more. As its action says where it is absent.",
                ),
                "on_end": {
                    "description": "Who is told of the job's end, where the action lets requests say so.",
                    "type": "object",
                    "required": ["url"],
                    "additionalProperties": false,
                    "properties": {
                        "url": {
                            "description": "An endpoint that the action's `on_end.from_request` names.",
                            "type": "string",
                            "maxLength": 2048,
                        },
                    },
                },
            },
        })
    }

    /// The filter of a change of several jobs.
    fn job_filter(&mut self) -> Value {
        json!({
            "type": "object",
            "description": "Which jobs. All conditions hold together; none stands for all jobs that the token may change.",
            "additionalProperties": false,
            "properties": {
                "status": self.field::<JobState>("Only jobs in this state. For a cancel."),
                "action": self.field::<ActionName>("Only jobs of this action."),
                "user": self.field::<UserId>("Only jobs of this user."),
                "code": self.field::<ErrorCode>("Only jobs that failed with this code. For dead letters."),
                "batch": self.field::<BatchId>("Only jobs of this batch."),
                "created_after": self.field::<UnixMs>("Only jobs accepted at this moment or later."),
                "created_before": self.field::<UnixMs>("Only jobs accepted before this moment."),
                "metadata": {
                    "description": "Only jobs with all of these notes.",
                    "type": "object",
                    "maxProperties": METADATA_ENTRIES_MAX,
                    "additionalProperties": { "type": "string" },
                },
            },
        })
    }

    /// An event of a job: those frames of the socket that tell of one.
    fn job_event(&mut self) -> Value {
        let frames = self.inline::<ServerFrame>();
        let is_event = |frame: &&Value| EVENTS.iter().any(|kind| frame["properties"]["type"]["const"] == *kind);
        let events: Vec<&Value> = frames["oneOf"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(is_event)
            .collect();
        json!({ "description": "An event of a job, as the frame that a socket gets.", "oneOf": events })
    }
}

/// A reference to the schema `name`.
pub fn by_name(name: &str) -> Value {
    json!({ "$ref": format!("{PLACE}{name}") })
}

fn health() -> Value {
    json!({
        "type": "object",
        "required": ["status"],
        "properties": { "status": { "const": "ok" } },
    })
}

fn readiness() -> Value {
    json!({
        "type": "object",
        "required": ["status", "checks"],
        "properties": {
            "status": { "enum": ["ready", "not ready"] },
            "checks": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["name", "status", "ready"],
                    "properties": {
                        "name": { "type": "string", "description": "What is looked at." },
                        "status": {
                            "enum": ["pass", "warn", "fail"],
                            "description": "How it went; `warn`: it works, and not as configured.",
                        },
                        "ready": { "type": "boolean", "description": "Whether it can be used." },
                        "remedy": { "type": "string", "description": "What to do, where it did not pass." },
                    },
                },
            },
        },
    })
}

/// The names of the schemas that `value` refers to.
fn references(value: &Value) -> BTreeSet<String> {
    match value {
        Value::Object(members) => {
            let own = members
                .get("$ref")
                .and_then(Value::as_str)
                .and_then(|text| text.strip_prefix(PLACE));
            let below = members.values().flat_map(references);
            own.map(str::to_owned).into_iter().chain(below).collect()
        }
        Value::Array(values) => values.iter().flat_map(references).collect(),
        _ => BTreeSet::new(),
    }
}

/// Takes `null` out of the optional properties: the protocol leaves out what is absent.
fn absent_not_null(schema: &mut Value) {
    let required: BTreeSet<String> = serde_json::from_value(schema["required"].clone()).unwrap_or_default();
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        for (name, property) in properties {
            if !required.contains(name) {
                without_null(property);
            }
        }
    }
    match schema {
        Value::Object(members) => members.values_mut().for_each(absent_not_null),
        Value::Array(values) => values.iter_mut().for_each(absent_not_null),
        _ => {}
    }
}

fn without_null(property: &mut Value) {
    let Some(members) = property.as_object_mut() else {
        return;
    };
    if let Some(Value::Array(types)) = members.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            members.insert("type".into(), only);
        }
    }
    if let Some(Value::Array(choices)) = members.get_mut("anyOf") {
        choices.retain(|choice| choice["type"] != "null");
        if let [Value::Object(only)] = choices.as_slice() {
            let only = only.clone();
            members.remove("anyOf");
            members.extend(only);
        }
    }
}

#[cfg(test)]
mod tests {
    use regex::Regex;
    use tidegate_protocol::frames::{REQUEST_FIELDS, Request};
    use tidegate_protocol::ids::{JobId, TenantId, UserId};

    use super::*;

    #[test]
    fn a_request_has_the_fields_that_are_read() {
        let schema = Schemas::new().request();
        let described: BTreeSet<&str> = schema["properties"]
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(described, BTreeSet::from(REQUEST_FIELDS));
        let faults = Request::parse("{}").unwrap_err().details;
        let missing: Vec<&str> = faults
            .iter()
            .map(|fault| fault.pointer.trim_start_matches('/'))
            .collect();
        assert_eq!(schema["required"], json!(missing));
    }

    #[test]
    fn the_pattern_of_an_id_takes_what_the_protocol_takes() {
        const TEXTS: [&str; 22] = [
            "",
            "a",
            "A b",
            "a:b",
            "a.b-c_d",
            "eu.acme",
            "xx.acme",
            "fedramp.acme",
            "eu.",
            "Jörg",
            "tab\there",
            "line\u{85}end",
            "job_00pks2kw0001fd3e4g",
            "job_7zzzzzzzzzzzzzzzz",
            "job_8zzzzzzzzzzzzzzzz",
            "job_00pks2kw0001fd3e4",
            "job_00pks2kw0001fd3eI",
            "job_00pks2kw0001fd3el",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "fe-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ];
        fn check<T: JsonSchema>(takes: fn(&str) -> bool) {
            let schema = Schemas::new().inline::<T>();
            let pattern = Regex::new(schema["pattern"].as_str().unwrap()).unwrap();
            let long = [48, 49, 128, 129].map(|length| "a".repeat(length));
            let umlauts = [128, 129].map(|length| "ä".repeat(length));
            for text in TEXTS.into_iter().chain(long.iter().chain(&umlauts).map(String::as_str)) {
                assert_eq!(pattern.is_match(text), takes(text), "{} {text:?}", T::schema_name());
            }
        }
        check::<JobId>(|text| JobId::parse(text).is_some());
        check::<ActionName>(|text| ActionName::parse(text).is_some());
        check::<IdempotencyKey>(|text| IdempotencyKey::parse(text).is_some());
        check::<RequestId>(|text| RequestId::parse(text).is_some());
        check::<TenantId>(|text| TenantId::parse(text).is_some());
        check::<TraceParent>(|text| TraceParent::parse(text).is_some());
        check::<UserId>(|text| UserId::parse(text).is_some());
    }

    #[test]
    fn the_frames_of_a_jobs_events_are_all_found() {
        let schema = Schemas::new().job_event();
        assert_eq!(schema["oneOf"].as_array().unwrap().len(), EVENTS.len());
    }

    #[test]
    fn what_may_be_absent_is_never_null() {
        let mut schema = json!({
            "required": ["kept"],
            "properties": {
                "kept": { "type": ["string", "null"] },
                "plain": { "type": ["string", "null"] },
                "named": { "anyOf": [{ "$ref": "#/x" }, { "type": "null" }] },
            },
        });
        absent_not_null(&mut schema);
        let expected = json!({
            "kept": { "type": ["string", "null"] },
            "plain": { "type": "string" },
            "named": { "$ref": "#/x" },
        });
        assert_eq!(schema["properties"], expected);
    }
}
