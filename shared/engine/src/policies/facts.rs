//! What a policy's condition can speak of, and how much of a token's claims is kept for it.

use alloc::borrow::Cow;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::OnceCell;

use serde_json::{Map, Value as Json};
use tidegate_protocol::calls::Principal;
use tidegate_protocol::calls::access::Credential;
use tidegate_protocol::event::JsonText;
use tidegate_protocol::ids::{ActionName, ChannelName};
use tidegate_protocol::time::UnixMs;

use crate::expression::{Failure, Type, Value, Variables};
use crate::hub::SCOPES_BYTES_MAX;

/// Bytes of claims that are kept of a token: a sleeping socket keeps them, next to the jobs that it follows.
pub const CLAIMS_BYTES_MAX: usize = 2 * 1024;

/// The variables of a condition.
pub const VARIABLES: &[(&str, Type)] = &[
    ("claims", Type::Map),
    ("user", Type::Text),
    ("tenant", Type::Text),
    ("scopes", Type::List),
    ("action", Type::Text),
    ("payload_bytes", Type::Int),
    ("now", Type::Timestamp),
    ("transport", Type::Text),
];

/// The variables of a condition about a channel.
pub const CHANNEL_VARIABLES: &[(&str, Type)] = &[
    ("claims", Type::Map),
    ("user", Type::Text),
    ("tenant", Type::Text),
    ("scopes", Type::List),
    ("channel", Type::Text),
    ("now", Type::Timestamp),
    ("transport", Type::Text),
];

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject<'a> {
    /// A run of an action.
    Action(&'a ActionName),
    /// Something with a channel.
    Channel(&'a ChannelName),
}

impl<'a> Subject<'a> {
    /// The name of what is asked for.
    pub fn as_str(self) -> &'a str {
        match self {
            Self::Action(action) => action.as_str(),
            Self::Channel(channel) => channel.as_str(),
        }
    }
}

/// How a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Over a socket.
    Socket,
    /// Over HTTP, by itself or in a batch.
    Http,
}

impl Transport {
    /// Its name in conditions.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Socket => "socket",
            Self::Http => "http",
        }
    }

    /// The transport of this name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Socket, Self::Http]
            .into_iter()
            .find(|known| known.as_str() == name)
    }
}

/// What is known of a request.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// Who asks.
    pub principal: &'a Principal,
    /// For what.
    pub subject: Subject<'a>,
    /// Bytes of the payload's JSON as it came, 0 without one.
    pub payload_bytes: usize,
    /// The clock.
    pub now: UnixMs,
    /// How the request came.
    pub transport: Transport,
    claims: OnceCell<Json>,
}

impl<'a> Facts<'a> {
    /// What is known of a request.
    pub fn new(
        principal: &'a Principal,
        subject: Subject<'a>,
        payload_bytes: usize,
        now: UnixMs,
        transport: Transport,
    ) -> Self {
        Self {
            principal,
            subject,
            payload_bytes,
            now,
            transport,
            claims: OnceCell::new(),
        }
    }

    /// The claims that were kept; an API key has none. They are read where a condition asks for them, once.
    fn claims(&self) -> &Json {
        self.claims.get_or_init(|| {
            let Credential::Token { claims: Some(text), .. } = &self.principal.credential else {
                return Json::Object(Map::new());
            };
            serde_json::from_str(text.as_str()).unwrap_or(Json::Null)
        })
    }

    fn claims_are_cut(&self) -> bool {
        matches!(self.principal.credential, Credential::Token { claims_cut: true, .. })
    }
}

impl<'v> Variables<'v> for &'v Facts<'v> {
    fn value(&self, name: &str) -> Result<Value<'v>, Failure> {
        let facts: &'v Facts<'v> = self;
        let principal = facts.principal;
        Ok(match name {
            "claims" if facts.claims_are_cut() => {
                return Err(Failure::new("the claims are too large to be kept as a whole"));
            }
            "claims" => Value::of_json(facts.claims()),
            "user" => Value::Text(Cow::Borrowed(principal.user.as_str())),
            "tenant" => Value::Text(Cow::Borrowed(principal.tenant.as_str())),
            "scopes" => {
                let scopes = principal.scopes.iter();
                Value::List(Rc::new(scopes.map(|scope| Value::Text(Cow::Borrowed(scope))).collect()))
            }
            "action" | "channel" => Value::Text(Cow::Borrowed(facts.subject.as_str())),
            "payload_bytes" => Value::Int(i64::try_from(facts.payload_bytes).unwrap_or(i64::MAX)),
            "now" => Value::Timestamp(i64::try_from(facts.now.0).unwrap_or(i64::MAX)),
            "transport" => Value::Text(Cow::Borrowed(facts.transport.as_str())),
            _ => return Err(Failure::new("there is no such variable")),
        })
    }

    fn field(&self, name: &str, field: &str) -> Result<Option<Value<'v>>, Failure> {
        let facts: &'v Facts<'v> = self;
        if name != "claims" {
            return facts.value(name)?.field(field);
        }
        match Value::of_json(facts.claims()).field(field)? {
            None if facts.claims_are_cut() => Err(Failure::new(
                "the claim is not among those that were kept: together they are too large",
            )),
            found => Ok(found),
        }
    }
}

/// What is kept of a token's claims, as JSON, and whether some were left out: all but `scope`, which the scopes say, the
/// smallest first, as long as they fit together with the scopes into what a sleeping socket keeps.
pub fn keep_claims<'s>(
    claims: &Map<String, Json>,
    scopes: impl IntoIterator<Item = &'s String>,
) -> (Option<JsonText>, bool) {
    let scopes_bytes: usize = scopes.into_iter().map(|scope| scope.len() + 4).sum();
    let bytes_max = SCOPES_BYTES_MAX.saturating_sub(scopes_bytes).min(CLAIMS_BYTES_MAX);
    let mut fields: Vec<(String, &String)> = claims
        .iter()
        .filter(|(name, _)| name.as_str() != "scope")
        .map(|(name, value)| (alloc::format!("{}:{value}", Json::from(name.as_str())), name))
        .collect();
    fields.sort_by(|(one, name), (other, after)| one.len().cmp(&other.len()).then_with(|| name.cmp(after)));
    let mut text = String::from("{");
    let mut cut = false;
    for (field, _) in &fields {
        // Its comma, and the brace at the end.
        if text.len() + field.len() + 2 > bytes_max {
            cut = true;
            break;
        }
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(field);
    }
    text.push('}');
    let kept = (text.len() > 2).then(|| JsonText::parse(&text)).flatten();
    (kept, cut)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn keep(claims: &Json, scopes: &[String]) -> (Json, bool) {
        let (kept, cut) = keep_claims(claims.as_object().unwrap(), scopes);
        let kept = kept.map_or(json!({}), |text| serde_json::from_str(text.as_str()).unwrap());
        (kept, cut)
    }

    #[test]
    fn small_claims_are_kept_and_the_largest_are_left_out() {
        assert_eq!(
            keep(&json!({"scope": "a b", "role": "x"}), &[]),
            (json!({"role": "x"}), false)
        );
        assert_eq!(keep(&json!({}), &[]), (json!({}), false));
        let large = "x".repeat(1500);
        let claims = json!({"a": large, "b": large, "role": "x", "é\"": [1.5, {"z": null}]});
        let (kept, cut) = keep(&claims, &[]);
        assert!(cut);
        assert_eq!(kept, json!({"a": large, "role": "x", "é\"": [1.5, {"z": null}]}));
        let scopes = alloc::vec!["s".repeat(128); 23];
        assert_eq!(
            keep(&claims, &scopes),
            (json!({"role": "x", "é\"": [1.5, {"z": null}]}), true)
        );
        let scopes = alloc::vec!["s".repeat(128); 40];
        assert_eq!(keep(&claims, &scopes), (json!({}), true));
    }

    proptest! {
        #[test]
        fn what_is_kept_is_bounded_and_true(
            sizes in prop::collection::vec(0_usize..900, 0..12),
            scopes in prop::collection::vec("[a-z]{1,128}", 0..30),
        ) {
            let claims: Map<String, Json> = sizes
                .iter()
                .enumerate()
                .map(|(n, size)| (alloc::format!("c{n}"), json!("x".repeat(*size))))
                .collect();
            let (kept, cut) = keep_claims(&claims, &scopes);
            let bytes = kept.as_ref().map_or(0, |text| text.as_str().len());
            prop_assert!(bytes <= CLAIMS_BYTES_MAX);
            let scopes_bytes: usize = scopes.iter().map(|scope| scope.len() + 4).sum();
            prop_assert!(bytes == 0 || bytes + scopes_bytes <= SCOPES_BYTES_MAX);
            let kept: Map<String, Json> = kept.map(|text| serde_json::from_str(text.as_str()).unwrap()).unwrap_or_default();
            prop_assert!(kept.iter().all(|(name, value)| claims.get(name) == Some(value)));
            prop_assert_eq!(cut, kept.len() < claims.len());
        }
    }

    #[test]
    fn each_variable_has_its_value() {
        let transports = [Transport::Socket, Transport::Http];
        assert!(transports.iter().all(|of| Transport::parse(of.as_str()) == Some(*of)));
        let principal = super::super::tests::principal(json!({"role": "x"}), &["a"]);
        let action = ActionName::parse("a.b").unwrap();
        let facts = Facts::new(
            &principal,
            Subject::Action(&action),
            3,
            UnixMs(1_800_000_000_000),
            Transport::Socket,
        );
        for (name, kind) in VARIABLES {
            assert_eq!((&facts).value(name).unwrap().kind(), kind.as_str(), "{name}");
        }
        assert!((&facts).value("other").is_err());
    }
}
