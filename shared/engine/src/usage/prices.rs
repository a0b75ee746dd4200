//! What units cost: an estimate, by the platform's published prices or the deployment's own.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde_json::Value as Json;
use tidegate_protocol::calls::usage::{Counts, Meter};
use tidegate_protocol::http::UsagePrices;
use tidegate_protocol::{Error, ErrorCode, Fault};

use crate::composition::{Object, describe, note};
use tidegate_protocol::SortedMap;

/// Prices of the platform for a million units, beyond what a plan includes, in US dollars, as of November 2026:
/// <https://developers.cloudflare.com/durable-objects/platform/pricing/> and <https://developers.cloudflare.com/r2/pricing/>.
/// A call of an object is a request; twenty incoming messages of a socket are billed as one. Awake time is $12.50 for a million
/// GB-s, of the 128 MB that each object is billed for. An object stored is an operation of class A.
const PUBLISHED: &[(Meter, f64)] = &[
    (Meter::ObjectCalls, 0.15),
    (Meter::MessagesIn, 0.0075),
    (Meter::RowsRead, 0.001),
    (Meter::RowsWritten, 1.0),
    (Meter::AwakeMs, 0.0016),
    (Meter::ObjectsStored, 4.5),
];

/// Parts of a unit of the currency that prices are counted in: a price for a million units of a meter is exact to a millionth.
const PARTS: f64 = 1e12;
/// The largest price of a million units.
const PRICE_MAX: f64 = 1e9;

/// What a unit of each meter costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prices {
    /// What the prices are in.
    pub currency: String,
    /// By the meters' order, in [`PARTS`] of the currency.
    pub parts: Vec<u64>,
}

impl Default for Prices {
    fn default() -> Self {
        let mut prices = Self {
            currency: String::from("USD"),
            parts: Vec::new(),
        };
        for (meter, price) in PUBLISHED {
            prices.set(*meter, *price);
        }
        prices
    }
}

impl Prices {
    fn set(&mut self, meter: Meter, per_million: f64) {
        let mut parts = Counts(core::mem::take(&mut self.parts));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "from 0 to 10^15, rounded to a whole number"
        )]
        parts.add(meter, (per_million * PARTS / 1e6 + 0.5) as u64);
        self.parts = parts.0;
    }

    /// Reads the deployment's own prices: `{"currency": "EUR", "per_million": {"rows_written": 1.0}}`.
    ///
    /// Errors: `UNAVAILABLE` with every fault.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut faults = Vec::new();
        let json: Json = serde_json::from_str(text).unwrap_or_default();
        let mut prices = Self {
            currency: String::new(),
            parts: Vec::new(),
        };
        if let Some(mut fields) = Object::read(&json, "", &mut faults) {
            fields.require("currency", "what the prices are in, such as \"USD\"");
            let is_currency = |text: &str| text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_uppercase());
            let currency = fields.text("currency", "three capital letters, such as \"USD\"", |text| {
                Some(text.to_string()).filter(|text| is_currency(text))
            });
            prices.currency = currency.unwrap_or_default();
            let listed = fields.require("per_million", "what a million units cost, by the meter");
            let pointer = fields.at("per_million");
            if let Some(listed) = listed.and_then(|value| Object::read(value, &pointer, fields.faults)) {
                for (name, value, pointer) in listed.entries() {
                    let price = value.as_f64().filter(|price| (0.0..=PRICE_MAX).contains(price));
                    match (Meter::parse(name), price) {
                        (Some(meter), Some(price)) => prices.set(meter, price),
                        (None, _) => note(listed.faults, || {
                            let fault = Fault::new(pointer, "the name of a meter", name);
                            crate::composition::suggest(fault, name, Meter::NAMES)
                        }),
                        (_, None) => note(listed.faults, || {
                            Fault::new(pointer, "a number from 0 to 1000000000", &describe(value))
                        }),
                    }
                }
            }
            fields.finish();
        }
        if faults.is_empty() {
            return Ok(prices);
        }
        Err(Error {
            details: faults,
            ..Error::new(
                ErrorCode::Unavailable,
                "The deployment's variable TIDEGATE_PRICES cannot be used.",
            )
        })
    }

    /// What `counts` cost.
    pub fn cost(&self, counts: &Counts) -> f64 {
        let parts: u128 = counts
            .0
            .iter()
            .zip(&self.parts)
            .map(|(count, part)| u128::from(*count) * u128::from(*part))
            .fold(0, u128::saturating_add);
        #[expect(
            clippy::cast_precision_loss,
            reason = "an estimate of money: fifteen digits are more than it has"
        )]
        let cost = parts as f64 / PARTS;
        cost
    }

    /// As the API shows them.
    pub fn view(&self) -> UsagePrices {
        let per_million: SortedMap<String, f64> = Meter::ALL
            .into_iter()
            .zip(&self.parts)
            .filter(|(_, parts)| **parts > 0)
            .map(|(meter, parts)| {
                #[expect(clippy::cast_precision_loss, reason = "below 2^53 by the bound on prices")]
                let price = *parts as f64 * 1e6 / PARTS;
                (meter.as_str().to_string(), price)
            })
            .collect();
        UsagePrices {
            currency: self.currency.clone(),
            per_million,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cost_is_the_sum_of_what_is_priced() {
        let mut counts = Counts::default();
        counts.add(Meter::RowsWritten, 2_000_000);
        counts.add(Meter::ObjectCalls, 1_000_000);
        counts.add(Meter::BytesOut, u64::MAX);
        let prices = Prices::default();
        assert!((prices.cost(&counts) - 2.15).abs() < 1e-9);
        assert_eq!(prices.view().per_million.get("messages_in"), Some(&0.0075));
        assert_eq!(prices.view().per_million.get("bytes_out"), None);
        // An hour awake, of one object.
        let mut awake = Counts::default();
        awake.add(Meter::AwakeMs, 3_600_000);
        assert!((prices.cost(&awake) - 0.005_76).abs() < 1e-9);
    }

    #[test]
    fn all_faults_of_prices_are_named() {
        let own = r#"{"currency":"EUR","per_million":{"jobs":5,"rows_read":0}}"#;
        let mut counts = Counts::default();
        counts.add(Meter::Jobs, 1_000);
        assert!((Prices::parse(own).unwrap().cost(&counts) - 0.005).abs() < 1e-12);
        let error = Prices::parse(r#"{"currency":"euro","per_million":{"job":1,"jobs":-1,"rows_read":"x"},"x":1}"#);
        let error = error.unwrap_err();
        let pointers: Vec<&str> = error.details.iter().map(|fault| fault.pointer.as_str()).collect();
        assert_eq!(
            pointers,
            [
                "/currency",
                "/per_million/job",
                "/per_million/jobs",
                "/per_million/rows_read",
                "/x"
            ]
        );
        assert_eq!(error.code, ErrorCode::Unavailable);
        assert!(Prices::parse("nonsense").is_err());
    }
}
