//! From the text of a composition to a [`Plan`], or to every fault of it.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use serde_json::{Map, Value};
use tidegate_protocol::calls::executor::{Dispatch, Sharing};
use tidegate_protocol::calls::hooks::OWN_ACTIONS;
use tidegate_protocol::calls::schedules::Schedule;
use tidegate_protocol::calls::tenant::Scale;
use tidegate_protocol::event::JsonText;
use tidegate_protocol::ids::{ActionName, PoolName, Revision};
use tidegate_protocol::{Error, Fault};

use super::admission::{Admission, AdmissionRules};
use super::away::read_away;
use super::browsers::Origins;
use super::channels::Channels;
use super::defaults::{
    ACTIONS_MAX, DESCRIPTION_CHARS_MAX, FAULTS_MAX, FORMAT, HUBS_MAX, PATTERNS_MAX, SCOPE_CHARS_MAX, SCOPES_MAX,
    SHARDS_MAX,
};
use super::document::{canonical, read, revision_of};
use super::hooks::read_on_end;
use super::manifest::{Manifest, Mode, Operation, Runs};
use super::object::{Object, child, describe, note, suggest};
use super::once::read_once;
use super::plan::{Action, PatternInstance, Plan};
use super::policies::Policies;
use super::policy::{read_deadline, read_policy};
use super::queue::Queue;
use super::retention::{Retention, read_retention};
use super::schedules::{Known, read_schedules};
use super::webhooks::{self, Webhooks, read_webhooks};
use crate::connections::Bounds;
use tidegate_protocol::{SortedMap, SortedSet};

/// What the name of an instance looks like: no dot, because a dot ends it in `run`.
const INSTANCE_NAME: &str = "a name of 1 to 48 characters of a-z, 0-9, '_' and '-', a letter first";
const INSTANCE_CHARS_MAX: usize = 48;
/// What a scope looks like.
pub(super) const SCOPE: &str = "a scope: 1 to 128 printable ASCII characters, no space, '\"' or '\\'";

/// Checks the document `text` against what the `manifests` offer, and fills in every default.
///
/// Errors: `PAYLOAD_TOO_LARGE` over the size limit; `VALIDATION_ERROR` with every fault, each with its pointer, up to
/// [`FAULTS_MAX`] of them.
pub fn compile(text: &str, manifests: &[Manifest]) -> Result<Plan, Error> {
    let mut faults = Vec::new();
    let document = read(text, &mut faults)?;
    let revision = revision_of(&document)?;
    let plan = read_document(&document, &revision, manifests, &mut faults);
    if faults.len() > FAULTS_MAX {
        faults.truncate(FAULTS_MAX);
        faults.push(Fault::new("", format!("at most {FAULTS_MAX} faults"), "more of them"));
    }
    match (plan, faults.is_empty()) {
        (Some(read), true) => Ok(Plan {
            revision,
            scale: read.scale,
            connections: read.connections,
            actions: read.actions,
            patterns: read.patterns,
            schedules: read.schedules,
            webhooks: read.webhooks,
            channels: read.channels,
            channel_limits: read.channel_limits,
            origins: read.origins,
        }),
        _ => Err(Error::invalid("The composition is not right.", faults)),
    }
}

pub(super) type Actions = SortedMap<ActionName, Arc<Action>>;
type Patterns = SortedMap<String, PatternInstance>;

struct Read {
    scale: Scale,
    connections: Bounds,
    patterns: Patterns,
    actions: Actions,
    schedules: Vec<Schedule>,
    webhooks: Webhooks,
    channels: Channels,
    channel_limits: AdmissionRules,
    origins: Origins,
}

fn read_document(
    document: &Value,
    revision: &Revision,
    manifests: &[Manifest],
    faults: &mut Vec<Fault>,
) -> Option<Read> {
    let mut fields = Object::read(document, "", faults)?;
    // For editors: it says where the schema of the document is.
    fields.text("$schema", "the address of the document's schema", Some);
    fields.require("tidegate", "the format of the document, 1");
    fields.number("tidegate", FORMAT..=FORMAT);
    let scale = match fields.take("scale") {
        Some(value) => read_scale(value, &fields.at("scale"), fields.faults),
        None => Scale::default(),
    };
    let instances = match fields.require("patterns", "the patterns in use, by name") {
        Some(value) => read_patterns(value, &fields.at("patterns"), manifests, fields.faults),
        None => SortedMap::new(),
    };
    let queue = match fields.take("queue") {
        Some(value) => Queue::read(value, &fields.at("queue"), scale, fields.faults),
        None => Queue::default(),
    };
    let admission = match fields.take("admission") {
        Some(value) => Admission::read(value, &fields.at("admission"), fields.faults),
        None => Admission::default(),
    };
    let policies = match fields.take("policies") {
        Some(value) => Policies::read(value, &fields.at("policies"), fields.faults),
        None => Policies::default(),
    };
    let parts = Parts {
        instances: &instances,
        policies: &policies,
        admission: &admission,
        queue: &queue,
        retention: read_retention(&mut fields),
    };
    let actions = match fields.require("actions", "the actions, by name") {
        Some(value) => read_actions(value, &fields.at("actions"), parts, fields.faults),
        None => SortedMap::new(),
    };
    if fields.faults.is_empty() {
        queue.check_actions(&fields.at("queue"), actions.keys(), fields.faults);
        admission.check_actions(&fields.at("admission"), actions.keys(), fields.faults);
        policies.check_actions(&fields.at("policies"), actions.keys(), fields.faults);
    }
    let schedules = match fields.take("schedules") {
        Some(value) => {
            let known = Known {
                actions: &actions,
                names: names(document.get("actions")),
                revision,
                scale,
            };
            read_schedules(value, &fields.at("schedules"), &known, fields.faults)
        }
        None => Vec::new(),
    };
    let webhooks = match fields.take("webhooks") {
        Some(value) => {
            let known = webhooks::Known {
                actions: &actions,
                names: names(document.get("actions")),
            };
            read_webhooks(value, &fields.at("webhooks"), &known, fields.faults)
        }
        None => Webhooks::new(),
    };
    let channels = match fields.take("channels") {
        Some(value) => Channels::read(value, &fields.at("channels"), fields.faults),
        None => Channels::default(),
    };
    let origins = match fields.take("browsers") {
        Some(value) => Origins::read(value, &fields.at("browsers"), fields.faults),
        None => Origins::default(),
    };
    if fields.faults.is_empty() {
        admission.check_channels(&fields.at("admission"), &channels, fields.faults);
    }
    fields.finish();
    let patterns = instances
        .into_iter()
        .map(|(name, instance)| Some((name.to_string(), instance.compiled()?)));
    Some(Read {
        scale,
        connections: admission.connections,
        patterns: patterns.collect::<Option<_>>()?,
        actions,
        schedules,
        webhooks,
        channels,
        channel_limits: admission.of_channels(),
        origins,
    })
}

/// The names of an object's fields.
fn names(value: Option<&Value>) -> SortedSet<&str> {
    let fields = value.and_then(Value::as_object);
    fields.into_iter().flat_map(Map::keys).map(String::as_str).collect()
}

fn read_scale(value: &Value, pointer: &str, faults: &mut Vec<Fault>) -> Scale {
    let Some(mut fields) = Object::read(value, pointer, faults) else {
        return Scale::default();
    };
    let mut count = |name, max: u16| {
        let number = fields.number(name, 1..=max.into());
        number.and_then(|number| u16::try_from(number).ok()).unwrap_or(1)
    };
    let scale = Scale {
        hubs: count("hubs", HUBS_MAX),
        shards: count("shards", SHARDS_MAX),
    };
    fields.finish();
    scale
}

/// An instance of a pattern, as far as it could be read. It stands in the table even where it is faulty, so that the
/// actions that name it get no fault for that.
struct Instance<'a> {
    manifest: Option<&'a Manifest>,
    config: Value,
}

impl Instance<'_> {
    fn compiled(self) -> Option<PatternInstance> {
        Some(PatternInstance {
            pattern: self.manifest?.pattern.to_string(),
            config: JsonText::parse(&canonical(&self.config))?,
        })
    }
}

fn read_patterns<'a>(
    value: &'a Value,
    pointer: &str,
    manifests: &'a [Manifest],
    faults: &mut Vec<Fault>,
) -> SortedMap<&'a str, Instance<'a>> {
    let mut instances = SortedMap::new();
    let Some(fields) = Object::read(value, pointer, faults) else {
        return instances;
    };
    let entries = fields.entries();
    for (index, (name, value, pointer)) in entries.enumerate() {
        if index == PATTERNS_MAX {
            note(faults, || {
                Fault::new(pointer, format!("at most {PATTERNS_MAX} patterns"), "more of them")
            });
            break;
        }
        if !is_instance(name) {
            note(faults, || Fault::new(pointer.as_str(), INSTANCE_NAME, name));
        }
        let instance = read_instance(value, &pointer, manifests, faults);
        instances.insert(name, instance);
    }
    instances
}

pub(crate) fn is_instance(name: &str) -> bool {
    name.len() <= INSTANCE_CHARS_MAX
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-'))
}

fn read_instance<'a>(value: &Value, pointer: &str, manifests: &'a [Manifest], faults: &mut Vec<Fault>) -> Instance<'a> {
    let empty = || Value::Object(Map::new());
    let Some(mut fields) = Object::read(value, pointer, faults) else {
        return Instance {
            manifest: None,
            config: empty(),
        };
    };
    let expected = "a pattern of this deployment";
    let manifest = fields.require("use", expected).and_then(|value| {
        let found = manifests
            .iter()
            .find(|manifest| value.as_str() == Some(manifest.pattern));
        if found.is_none() {
            let pointer = fields.at("use");
            note(fields.faults, || {
                let names = manifests.iter().map(|manifest| manifest.pattern);
                let fault = Fault::new(pointer, expected, &describe(value));
                suggest(fault, value.as_str().unwrap_or_default(), names)
            });
        }
        found
    });
    let config = fields.take("config").cloned().unwrap_or_else(empty);
    let pointer = fields.at("config");
    match manifest {
        Some(manifest) => (manifest.check_config)(&config, &pointer, fields.faults),
        None => {
            Object::read(&config, &pointer, fields.faults);
        }
    }
    fields.finish();
    Instance { manifest, config }
}

/// What actions refer to.
#[derive(Clone, Copy)]
struct Parts<'a> {
    instances: &'a SortedMap<&'a str, Instance<'a>>,
    policies: &'a Policies,
    admission: &'a Admission,
    queue: &'a Queue,
    retention: Retention,
}

fn read_actions(value: &Value, pointer: &str, parts: Parts<'_>, faults: &mut Vec<Fault>) -> Actions {
    let mut actions = SortedMap::new();
    let Some(fields) = Object::read(value, pointer, faults) else {
        return actions;
    };
    let entries = fields.entries();
    for (index, (name, value, pointer)) in entries.enumerate() {
        if index == ACTIONS_MAX {
            note(faults, || {
                Fault::new(pointer, format!("at most {ACTIONS_MAX} actions"), "more of them")
            });
            break;
        }
        let parsed = ActionName::parse(name);
        if parsed.is_none() {
            note(faults, || Fault::new(pointer.as_str(), ActionName::EXPECTED, name));
        } else if name.starts_with(OWN_ACTIONS) {
            note(faults, || {
                Fault::new(pointer.as_str(), "a name that does not begin with `tidegate.`", name)
            });
        }
        let action = read_action(parsed, value, &pointer, parts, faults);
        actions.extend(action.map(|action| (action.name.clone(), Arc::new(action))));
    }
    actions
}

/// Reads one action. `None` where what is missing or wrong has been noted.
fn read_action(
    name: Option<ActionName>,
    value: &Value,
    pointer: &str,
    parts: Parts<'_>,
    faults: &mut Vec<Fault>,
) -> Option<Action> {
    let mut fields = Object::read(value, pointer, faults)?;
    let run = read_run(&mut fields, parts.instances);
    let description = fields.text("description", "a text of at most 1000 characters", |text| {
        (text.chars().count() <= DESCRIPTION_CHARS_MAX).then(|| text.to_string())
    });
    let operation = run.as_ref().map(|run| run.operation);
    let mode = read_mode(&mut fields, operation);
    let sharing = operation.map_or_else(Sharing::default, |operation| operation.sharing);
    let mut policy = read_policy(&mut fields, mode, sharing, parts.retention);
    policy.pool = run.as_ref().and_then(Run::pool);
    if policy.pool.is_some() && policy.dispatch.rings() {
        let expected = "`direct`: the workers of a pool ask for their jobs";
        let got = if policy.dispatch == Dispatch::Auto {
            "auto"
        } else {
            "queue"
        };
        fields.fault("dispatch", expected, got);
    }
    let declared = mode;
    let mode = read_deadline(&mut fields, mode, policy.timeout_ms);
    let policies = name.as_ref().map(|name| parts.policies.about(name));
    let admission = name.as_ref().map(|name| parts.admission.rules_of(name));
    let queue = parts.queue.rules(&mut fields, name.as_ref());
    let once = read_once(&mut fields, declared);
    let on_end = read_on_end(&mut fields, policy.retention_ms);
    let away = read_away(&mut fields, declared);
    let scopes = match fields.take("scopes") {
        Some(value) => read_scopes(value, &fields.at("scopes"), fields.faults),
        None => Vec::new(),
    };
    let settings = fields
        .take("with")
        .cloned()
        .unwrap_or_else(|| Value::Object(Map::new()));
    let pointer = fields.at("with");
    match &run {
        Some(run) => (run.operation.check_settings)(&settings, run.config, &pointer, fields.faults),
        None => {
            Object::read(&settings, &pointer, fields.faults);
        }
    }
    fields.finish();
    let run = run?;
    Some(Action {
        name: name?,
        description,
        instance: run.instance.to_string(),
        pattern: run.manifest.pattern.to_string(),
        operation: run.operation.name.to_string(),
        mode: mode?,
        policy,
        policies: policies.unwrap_or_default(),
        admission: admission.unwrap_or_default(),
        queue,
        once,
        on_end,
        away,
        scopes,
        settings: JsonText::parse(&canonical(&settings))?,
        runs_in_hub: run.operation.runs_in_hub,
    })
}

/// What `run` names.
struct Run<'a> {
    instance: &'a str,
    config: &'a Value,
    manifest: &'a Manifest,
    operation: &'static Operation,
}

impl Run<'_> {
    /// Whose workers run it, where workers do. A pool that is none has been noted where it stands.
    fn pool(&self) -> Option<PoolName> {
        match self.operation.runs {
            Runs::Executor => None,
            Runs::Pull => {
                let named = self.config.get("pool").and_then(Value::as_str);
                PoolName::parse(named.unwrap_or(self.instance))
            }
        }
    }
}

fn read_run<'a>(fields: &mut Object<'a, '_>, instances: &'a SortedMap<&str, Instance<'a>>) -> Option<Run<'a>> {
    let form = "`<pattern instance>.<operation>`";
    fields.require("run", form)?;
    let (text, instance, operation) = fields.text("run", form, |text| {
        let (instance, operation) = text.split_once('.')?;
        let known = is_instance(instance) && is_operation(operation);
        known.then_some((text, instance, operation))
    })?;
    let pointer = fields.at("run");
    let Some((instance, found)) = instances.get_key_value(instance) else {
        note(fields.faults, || {
            let fault = Fault::new(pointer, "an instance named in `patterns`, and its operation", text);
            let mut fault = suggest(fault, instance, instances.keys().copied());
            fault.suggestion = fault.suggestion.map(|meant| format!("{meant}.{operation}"));
            fault
        });
        return None;
    };
    // Where the instance itself is faulty, its operations are not known: one fault is enough.
    let manifest = found.manifest?;
    let known = manifest.operation(operation);
    if known.is_none() {
        note(fields.faults, || {
            let names: Vec<String> = manifest
                .operations
                .iter()
                .map(|known| format!("{instance}.{}", known.name))
                .collect();
            let expected = format!("an operation of the pattern `{}`", manifest.pattern);
            suggest(
                Fault::new(pointer, expected, text),
                text,
                names.iter().map(String::as_str),
            )
        });
    }
    Some(Run {
        instance,
        config: &found.config,
        manifest,
        operation: known?,
    })
}

fn is_operation(name: &str) -> bool {
    (1..=INSTANCE_CHARS_MAX).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// The action's mode; the operation's own where none is given. `None` where it is not known.
fn read_mode(fields: &mut Object<'_, '_>, operation: Option<&Operation>) -> Option<Mode> {
    let given = fields.one_of("mode", &["sync", "async", "auto"]);
    let Some(mode) = given.and_then(Mode::parse) else {
        // A wrong mode is noted already, and must bring no further faults with it.
        return if fields.take("mode").is_some() {
            None
        } else {
            Some(operation?.default_mode)
        };
    };
    let Some(operation) = operation else {
        return Some(mode);
    };
    if operation.modes.contains(mode) {
        return Some(mode);
    }
    let names: Vec<&str> = Mode::ALL
        .iter()
        .filter(|mode| operation.modes.contains(**mode))
        .map(|mode| mode.as_str())
        .collect();
    let expected = format!("a mode that `{}` supports: {}", operation.name, names.join(", "));
    fields.fault("mode", expected, mode.as_str());
    None
}

pub(super) fn read_scopes(value: &Value, pointer: &str, faults: &mut Vec<Fault>) -> Vec<String> {
    let Some(items) = value.as_array().filter(|items| items.len() <= SCOPES_MAX) else {
        let expected = format!("a list of at most {SCOPES_MAX} scopes");
        note(faults, || Fault::new(pointer, expected, &describe(value)));
        return Vec::new();
    };
    let mut scopes: Vec<String> = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let expected = match item.as_str() {
            Some(scope) if scopes.iter().any(|earlier| earlier == scope) => "each scope once",
            Some(scope) if is_scope(scope) => {
                scopes.push(scope.to_string());
                continue;
            }
            _ => SCOPE,
        };
        let pointer = child(pointer, &index.to_string());
        note(faults, || Fault::new(pointer, expected, &describe(item)));
    }
    scopes
}

/// A scope-token of RFC 6749, section 3.3.
pub(super) fn is_scope(text: &str) -> bool {
    (1..=SCOPE_CHARS_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\'))
}
