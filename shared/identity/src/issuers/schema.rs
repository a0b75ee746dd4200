//! The configuration of the issuers as a JSON Schema, made of the same constants that it is read by.
//!
//! It is for editors and reviews: what it refuses is refused here too. It cannot say everything; the tests list what is
//! left to the reader (bits of a key, points on curves, names that are there twice).

use alloc::format;
use alloc::string::{String, ToString};

use serde_json::{Value, json};

use super::config::{ISSUERS_MAX, MEMBERS, TEXT_CHARS_MAX};
use crate::algorithm::Algorithm;
use crate::jwt::{LEEWAY_SECONDS_DEFAULT, LEEWAY_SECONDS_MAX};
use crate::keys::{KEYS_MAX, KID_CHARS_MAX, RSA_BITS, SECRET_BYTES_MIN};
use crate::principal::{JURISDICTIONS, TENANT_CHARS_MAX};

/// The JSON Schema (draft 2020-12) of `TIDEGATE_ISSUERS`.
pub fn schema() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:tidegate:issuers:1",
        "title": "Tidegate issuers",
        "description": "Whose tokens a deployment trusts, and which tenant they speak for: the variable TIDEGATE_ISSUERS. \
            At most 256 KiB, no member twice, no issuer twice. Unknown members are errors. Whether keys are sound, and \
            whether an algorithm has one, is checked when the configuration is read.",
        "type": "array",
        "maxItems": ISSUERS_MAX,
        "items": { "$ref": "#/$defs/issuer" },
        "$defs": {
            "issuer": issuer(),
            "text": {
                "description": "Text without control characters.",
                "type": "string",
                "minLength": 1,
                "maxLength": TEXT_CHARS_MAX,
                "pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$",
            },
            "base64url": {
                "description": "Octets as base64url (RFC 4648, section 5), without padding.",
                "type": "string",
                "pattern": "^[A-Za-z0-9_-]*$",
            },
            "key_set": key_set(),
            "key": key(),
            "secret": of_type(Algorithm::Hs256, "A shared secret.", json!({ "kty": { "const": "oct" } }), json!({
                "k": octets("The secret.", SECRET_BYTES_MIN, None),
            })),
            "rsa": of_type(Algorithm::Rs256, "A public RSA key.", json!({ "kty": { "const": "RSA" } }), json!({
                "n": octets("The modulus.", RSA_BITS.start() / 8, None),
                "e": octets("The exponent.", 1, None),
            })),
            "p256": of_type(
                Algorithm::Es256,
                "A public key on the curve P-256.",
                json!({ "kty": { "const": "EC" }, "crv": { "const": "P-256" } }),
                json!({ "x": octets("A coordinate.", 32, Some(32)), "y": octets("A coordinate.", 32, Some(32)) }),
            ),
            "ed25519": of_type(
                Algorithm::EdDsa,
                "A public key on Ed25519.",
                json!({ "kty": { "const": "OKP" }, "crv": { "const": "Ed25519" } }),
                json!({ "x": octets("The point.", 32, Some(32)) }),
            ),
        },
    })
}

fn issuer() -> Value {
    let [
        issuer,
        audience,
        tenant,
        tenant_claim,
        keys,
        jwks_url,
        algorithms,
        leeway_seconds,
        operator,
    ] = MEMBERS;
    let text = |description: &str| json!({ "description": description, "$ref": "#/$defs/text" });
    let either = |one: &str, other: &str| json!({ "oneOf": [{ "required": [one] }, { "required": [other] }] });
    json!({
        "description": "One issuer: whom its tokens are for, which tenant they speak for, and the keys that check them.",
        "type": "object",
        "required": [issuer, audience],
        "additionalProperties": false,
        "allOf": [either(tenant, tenant_claim), either(keys, jwks_url)],
        "properties": {
            issuer: text("The issuer, as the tokens' `iss` writes it, to the letter."),
            audience: {
                "description": "The audience that tokens are made for; of several, a token has to name one.",
                "anyOf": [
                    { "$ref": "#/$defs/text" },
                    { "type": "array", "minItems": 1, "items": { "$ref": "#/$defs/text" } },
                ],
            },
            tenant: {
                "description": "The one tenant that every token of the issuer speaks for.",
                "type": "string",
                "pattern": tenant_pattern(),
            },
            tenant_claim: text("The name of the claim that says which tenant a token speaks for."),
            keys: { "description": "The keys themselves, as a JSON Web Key Set.", "$ref": "#/$defs/key_set" },
            jwks_url: {
                "description": "Where the keys are: https without credentials and fragment, or http to the machine itself.",
                "type": "string",
                "maxLength": TEXT_CHARS_MAX,
                "pattern": url_pattern(),
            },
            algorithms: {
                "description": "The algorithms that its tokens may be signed with; all of them by default.",
                "type": "array",
                "minItems": 1,
                "items": { "enum": Algorithm::ALL.map(Algorithm::name) },
            },
            leeway_seconds: {
                "description": "How much clocks may differ. Seconds.",
                "type": "integer",
                "minimum": 0,
                "maximum": LEEWAY_SECONDS_MAX,
                "default": LEEWAY_SECONDS_DEFAULT,
            },
            operator: {
                "description": "Whether its tokens may have the scope `operator`, which administers all tenants.",
                "type": "boolean",
                "default": false,
            },
        },
    })
}

fn tenant_pattern() -> String {
    let jurisdictions = JURISDICTIONS.join("|");
    format!(r"^(?:(?:{jurisdictions})\.)?[a-z0-9-]{{1,{TENANT_CHARS_MAX}}}$")
}

fn url_pattern() -> String {
    // Printable ASCII without what readers of addresses disagree about.
    let rest = r"(?::[0-9]+)?(?:[/?][!$-;=?-\[\]_a-z~]*)?";
    let anywhere = r"https://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])";
    let here = r"http://(?:localhost|127\.0\.0\.1|\[::1\])";
    format!("^(?:{anywhere}|{here}){rest}$")
}

/// Octets of a given length as base64url without padding. At least `min` of them, at most `max`.
fn octets(description: &str, min: usize, max: Option<usize>) -> Value {
    let characters = |octets: usize| (octets * 4).div_ceil(3);
    let mut octets = json!({
        "description": description,
        "$ref": "#/$defs/base64url",
        "minLength": characters(min),
    });
    if let (Some(max), Value::Object(members)) = (max, &mut octets) {
        members.insert("maxLength".to_string(), characters(max).into());
    }
    octets
}

fn key_set() -> Value {
    json!({
        "description": "A JSON Web Key Set (RFC 7517). Keys of other types, and those that are not for checking \
            signatures, are passed over; one at least must be left.",
        "type": "object",
        "required": ["keys"],
        "properties": {
            "keys": {
                "description": "The keys.",
                "type": "array",
                "maxItems": KEYS_MAX,
                "items": { "$ref": "#/$defs/key" },
                "contains": {
                    "allOf": [for_checking()],
                    "anyOf": KINDS.map(|(name, _, _)| json!({ "$ref": format!("#/$defs/{name}") })),
                },
            },
        },
    })
}

/// The kinds of keys that are used: the name of their part of the schema, their `kty`, and their `crv`.
const KINDS: [(&str, &str, Option<&str>); 4] = [
    ("secret", "oct", None),
    ("rsa", "RSA", None),
    ("p256", "EC", Some("P-256")),
    ("ed25519", "OKP", Some("Ed25519")),
];

/// Of a key that checks signatures.
fn for_checking() -> Value {
    json!({ "properties": { "use": { "const": "sig" }, "key_ops": { "contains": { "const": "verify" } } } })
}

fn key() -> Value {
    let is = |kty: &str, crv: Option<&str>| match crv {
        None => json!({ "required": ["kty"], "properties": { "kty": { "const": kty } } }),
        Some(crv) => json!({
            "required": ["kty", "crv"],
            "properties": { "kty": { "const": kty }, "crv": { "const": crv } },
        }),
    };
    let shaped = json!({
        "properties": {
            "use": { "description": "What the key is for: `sig`, or it is passed over.", "type": "string" },
            "key_ops": {
                "description": "What the key is for: with `verify` among them, or it is passed over.",
                "type": "array",
                "items": { "type": "string" },
            },
        },
    });
    let known = KINDS.map(|(_, kty, crv)| is(kty, crv));
    let mut rules = alloc::vec![
        json!({
            "if": { "required": ["kty"], "properties": { "kty": { "enum": ["EC", "OKP"] } } },
            "then": {
                "required": ["crv"],
                "properties": { "crv": { "description": "The curve.", "type": "string" } },
            },
        }),
        json!({ "if": { "anyOf": known }, "then": shaped }),
    ];
    for (name, kty, crv) in KINDS {
        rules.push(json!({
            "if": { "allOf": [is(kty, crv), for_checking()] },
            "then": { "$ref": format!("#/$defs/{name}") },
        }));
    }
    json!({
        "description": "A key (RFC 7517).",
        "type": "object",
        "required": ["kty"],
        "properties": { "kty": { "description": "Its type: oct, RSA, EC or OKP.", "type": "string" } },
        "allOf": rules,
    })
}

/// A key of one type: `kind` says which that is, `material` is what has to be there.
fn of_type(algorithm: Algorithm, description: &str, kind: Value, material: Value) -> Value {
    let (Value::Object(kind), Value::Object(material)) = (kind, material) else {
        return Value::Bool(false);
    };
    let required: alloc::vec::Vec<String> = kind.keys().chain(material.keys()).cloned().collect();
    let mut properties = kind;
    properties.extend(material);
    properties.extend([
        (
            "alg".to_string(),
            json!({ "description": "The only algorithm for a key of this type.", "const": algorithm.name() }),
        ),
        (
            "kid".to_string(),
            json!({ "description": "The key's id.", "type": "string", "minLength": 1, "maxLength": KID_CHARS_MAX }),
        ),
    ]);
    if algorithm != Algorithm::Hs256 {
        // Whoever can read the set could sign with it.
        properties.insert("d".to_string(), Value::Bool(false));
    }
    json!({ "description": description, "required": required, "properties": properties })
}
