//! Reads the configuration of the issuers, and reports all its faults at once.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{format, vec};

use serde_json::{Map, Value};

use super::{Issuer, JwksUrl, KeySource, Power, TenantSource};
use crate::algorithm::Algorithm;
use crate::fault::{Fault, Faults, child, kind, show};
use crate::jwt::{LEEWAY_SECONDS_DEFAULT, LEEWAY_SECONDS_MAX};
use crate::keys::KeySet;
use crate::principal::Tenant;
use crate::strict_json::{self, CONFIG_DEPTH_MAX};

/// Bytes of the configuration: a Worker's secret or variable holds less.
pub const CONFIG_BYTES_MAX: usize = 256 * 1024;
/// Issuers of one deployment. They are searched one by one for each token.
pub const ISSUERS_MAX: usize = 256;
/// Characters of an issuer, an audience, a claim's name and an address.
pub(super) const TEXT_CHARS_MAX: usize = 1024;

/// The members of an issuer's entry.
pub(super) const MEMBERS: [&str; 9] = [
    "issuer",
    "audience",
    "tenant",
    "tenant_claim",
    "keys",
    "jwks_url",
    "algorithms",
    "leeway_seconds",
    "operator",
];
const TENANT_ID: &str = "a tenant id: 1 to 48 characters of a-z, 0-9 and -, with an optional leading `eu.`";

pub(super) fn parse(text: &str) -> Result<Vec<Issuer>, Vec<Fault>> {
    let mut faults = Faults::default();
    let issuers = document(text, &mut faults).and_then(|value| read_list(&value, &mut faults));
    faults.or(issuers)
}

fn document(text: &str, faults: &mut Faults) -> Option<Value> {
    if text.len() > CONFIG_BYTES_MAX {
        faults.add(
            "",
            format!("at most {CONFIG_BYTES_MAX} bytes"),
            format!("{} bytes", text.len()),
        );
        return None;
    }
    strict_json::parse(text.as_bytes(), CONFIG_DEPTH_MAX)
        .map_err(|error| faults.add("", "a JSON array of issuers", error))
        .ok()
}

fn read_list(value: &Value, faults: &mut Faults) -> Option<Vec<Issuer>> {
    let Value::Array(values) = value else {
        faults.add("", "an array of issuers", kind(value));
        return None;
    };
    if values.len() > ISSUERS_MAX {
        faults.add(
            "",
            format!("at most {ISSUERS_MAX} issuers"),
            format!("{} issuers", values.len()),
        );
        return None;
    }
    let mut names: Vec<&str> = vec![];
    let mut issuers = vec![];
    for (index, value) in values.iter().enumerate() {
        let pointer = format!("/{index}");
        let Value::Object(object) = value else {
            faults.add(&pointer, "an issuer: an object", kind(value));
            continue;
        };
        if let Some(Value::String(name)) = object.get("issuer") {
            if names.contains(&name.as_str()) {
                faults.add(
                    &child(&pointer, "issuer"),
                    "an issuer that is there once",
                    show(&Value::from(name.as_str())),
                );
            }
            names.push(name);
        }
        issuers.extend(
            Entry {
                object,
                pointer: &pointer,
            }
            .read(faults),
        );
    }
    Some(issuers)
}

/// One issuer's entry, and where it stands.
struct Entry<'a> {
    object: &'a Map<String, Value>,
    pointer: &'a str,
}

impl Entry<'_> {
    /// Reads every member before it gives up, so that all faults are found.
    fn read(&self, faults: &mut Faults) -> Option<Issuer> {
        faults.unknown_members(self.pointer, self.object, &MEMBERS);
        let name = self.text(faults, "issuer", "the issuer, as the tokens' `iss` writes it");
        let audiences = self.audiences(faults);
        let tenant = self.tenant(faults);
        let algorithms = self.algorithms(faults);
        let keys = self.keys(faults, algorithms.as_deref());
        let leeway_seconds = self.leeway(faults);
        let power = self.power(faults);
        Some(Issuer {
            name: name?,
            audiences: audiences?,
            tenant: tenant?,
            keys: keys?,
            algorithms: algorithms?,
            leeway_seconds: leeway_seconds?,
            power: power?,
        })
    }

    fn at(&self, name: &str) -> String {
        child(self.pointer, name)
    }

    /// A required text.
    fn text(&self, faults: &mut Faults, name: &str, expected: &str) -> Option<String> {
        match self.object.get(name) {
            Some(value) => check_text(value, &self.at(name), expected, faults),
            None => {
                faults.add(&self.at(name), expected, "nothing");
                None
            }
        }
    }

    fn audiences(&self, faults: &mut Faults) -> Option<Vec<String>> {
        let expected = "the audience that tokens are made for, or an array of them";
        match self.object.get("audience") {
            Some(Value::Array(values)) if !values.is_empty() => {
                let pointer = self.at("audience");
                let audience = |(index, value): (usize, &Value)| {
                    check_text(value, &child(&pointer, &index.to_string()), "an audience", faults)
                };
                let audiences: Vec<Option<String>> = values.iter().enumerate().map(audience).collect();
                audiences.into_iter().collect()
            }
            _ => Some(vec![self.text(faults, "audience", expected)?]),
        }
    }

    /// Exactly one of two members, and which.
    fn either(&self, faults: &mut Faults, first: &str, second: &str) -> Option<(bool, &Value)> {
        match (self.object.get(first), self.object.get(second)) {
            (Some(value), None) => Some((true, value)),
            (None, Some(value)) => Some((false, value)),
            (there, _) => {
                let got = if there.is_some() { "both" } else { "neither" };
                faults.add(self.pointer, format!("either `{first}` or `{second}`"), got);
                None
            }
        }
    }

    fn tenant(&self, faults: &mut Faults) -> Option<TenantSource> {
        let (fixed, value) = self.either(faults, "tenant", "tenant_claim")?;
        if !fixed {
            let name = check_text(
                value,
                &self.at("tenant_claim"),
                "the name of the claim that holds the tenant",
                faults,
            );
            return name.map(TenantSource::Claim);
        }
        let tenant = value.as_str().and_then(Tenant::parse);
        if tenant.is_none() {
            faults.add(&self.at("tenant"), TENANT_ID, show(value));
        }
        tenant.map(TenantSource::Fixed)
    }

    fn algorithms(&self, faults: &mut Faults) -> Option<Vec<Algorithm>> {
        let names = Algorithm::ALL.map(Algorithm::name);
        let pointer = self.at("algorithms");
        let values = match self.object.get("algorithms") {
            None => return Some(Algorithm::ALL.to_vec()),
            Some(Value::Array(values)) if !values.is_empty() => values,
            Some(other) => {
                faults.add(
                    &pointer,
                    format!("an array of some of {}", names.join(", ")),
                    kind(other),
                );
                return None;
            }
        };
        let mut algorithms = vec![];
        for (index, value) in values.iter().enumerate() {
            let pointer = child(&pointer, &index.to_string());
            let expected = format!("one of {}", names.join(", "));
            match (value, value.as_str().and_then(Algorithm::parse)) {
                (_, Some(algorithm)) => algorithms.push(algorithm),
                (Value::String(given), None) => faults.add_name(&pointer, expected, given, &names),
                (other, None) => faults.add(&pointer, expected, kind(other)),
            }
        }
        (algorithms.len() == values.len()).then_some(algorithms)
    }

    fn keys(&self, faults: &mut Faults, algorithms: Option<&[Algorithm]>) -> Option<KeySource> {
        let (configured, value) = self.either(faults, "keys", "jwks_url")?;
        let narrowed = algorithms.filter(|_| self.object.contains_key("algorithms"));
        if configured {
            let before = faults.0.len();
            let keys = KeySet::read(value, &self.at("keys"), faults)?;
            let usable = |allowed: &[Algorithm]| keys.keys().iter().any(|key| allowed.contains(&key.algorithm()));
            if faults.0.len() == before && narrowed.is_some_and(|allowed| !usable(allowed)) {
                faults.add(
                    &self.at("algorithms"),
                    "an algorithm that one of the keys is for",
                    "others",
                );
            }
            return Some(KeySource::Configured(keys));
        }
        if narrowed == Some(&[Algorithm::Hs256]) {
            let expected = "an algorithm for a public key: a shared secret is never fetched";
            faults.add(&self.at("algorithms"), expected, "`HS256`");
        }
        let url = value.as_str().and_then(parse_url);
        if url.is_none() {
            let expected = "an https address without credentials and fragment (http to the machine itself)";
            // Not shown: what is wrong with an address may be that it holds a password.
            faults.add(&self.at("jwks_url"), expected, kind(value));
        }
        url.map(KeySource::Fetched)
    }

    fn leeway(&self, faults: &mut Faults) -> Option<u64> {
        let Some(value) = self.object.get("leeway_seconds") else {
            return Some(LEEWAY_SECONDS_DEFAULT);
        };
        let seconds = value.as_u64().filter(|seconds| *seconds <= LEEWAY_SECONDS_MAX);
        if seconds.is_none() {
            faults.add(
                &self.at("leeway_seconds"),
                format!("whole seconds from 0 to {LEEWAY_SECONDS_MAX}"),
                show(value),
            );
        }
        seconds
    }

    fn power(&self, faults: &mut Faults) -> Option<Power> {
        match self.object.get("operator") {
            None | Some(Value::Bool(false)) => Some(Power::OneTenant),
            Some(Value::Bool(true)) => Some(Power::Deployment),
            Some(other) => {
                faults.add(&self.at("operator"), "true or false", show(other));
                None
            }
        }
    }
}

fn check_text(value: &Value, pointer: &str, expected: &str, faults: &mut Faults) -> Option<String> {
    match value {
        Value::String(text)
            if (1..=TEXT_CHARS_MAX).contains(&text.chars().count()) && !text.chars().any(char::is_control) =>
        {
            Some(text.clone())
        }
        other => {
            faults.add(pointer, expected, kind(other));
            None
        }
    }
}

/// Reads the address of a key set. Only what every reader of addresses understands alike is accepted.
fn parse_url(text: &str) -> Option<JwksUrl> {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"\\\"<>^`{|}#".contains(&byte);
    if text.len() > TEXT_CHARS_MAX || !text.bytes().all(plain) {
        return None;
    }
    let (scheme, rest) = text.split_once("://")?;
    let authority = rest.split(['/', '?']).next()?;
    let (host, port) = match authority.strip_prefix('[') {
        Some(bracketed) => {
            let (address, port) = bracketed.split_once(']')?;
            (address, port.strip_prefix(':').or(port.is_empty().then_some("443"))?)
        }
        None => authority.split_once(':').unwrap_or((authority, "443")),
    };
    let name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let host_is_sound = if authority.starts_with('[') {
        host.parse::<core::net::Ipv6Addr>().is_ok()
    } else {
        !host.is_empty() && host.bytes().all(name)
    };
    let local = matches!(host, "localhost" | "127.0.0.1" | "::1");
    let safe = scheme == "https" || (scheme == "http" && local);
    let has_port = port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
    (safe && has_port && host_is_sound).then(|| JwksUrl(text.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_https_or_the_machine_itself() {
        for good in [
            "https://id.example/.well-known/jwks.json",
            "https://id.example:8443/keys?v=1",
            "https://[2001:db8::1]/keys",
            "http://127.0.0.1:9000/jwks",
            "http://localhost:9000",
            "http://[::1]:9000/",
        ] {
            assert!(parse_url(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "https://",
            "https:///keys",
            "http://id.example/keys",
            "ftp://id.example/",
            "file:///etc/passwd",
            "https://user:password@id.example/",
            "https://id.example/#fragment",
            "https://id.example:0/",
            "https://id.example:99999/",
            "https://id.example:+443/",
            "https://id.example\\@other.example/",
            "https://id.exa mple/",
            "https://id.example/\n",
            "https://[nonsense]/",
            "https://[::1]x/",
            "http://localhost.example/",
            "http://127.0.0.1.example/",
            "HTTPS://id.example",
        ] {
            assert!(parse_url(bad).is_none(), "{bad}");
        }
    }
}
