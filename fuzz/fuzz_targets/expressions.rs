//! Expressions, and what they are evaluated over.

#![no_main]

use std::borrow::Cow;
use std::rc::Rc;

use libfuzzer_sys::fuzz_target;
use tidegate_engine::expression::{Expression, Failure, Type, Value, Variables};

struct Given<'g> {
    text: &'g str,
    number: i64,
    ratio: f64,
    list: Vec<&'g str>,
}

impl<'v> Variables<'v> for &'v Given<'v> {
    fn value(&self, name: &str) -> Result<Value<'v>, Failure> {
        let texts = || self.list.iter().map(|text| Value::Text(Cow::Borrowed(*text)));
        Ok(match name {
            "a" => Value::Text(Cow::Borrowed(self.text)),
            "b" => Value::Int(self.number),
            "c" => Value::Double(self.ratio),
            "d" => Value::List(Rc::new(texts().collect())),
            "e" => Value::Map(Rc::new(texts().zip(texts().rev()).collect())),
            "f" => Value::Timestamp(self.number),
            _ => return Err(Failure::new("nobody gives it")),
        })
    }
}

fuzz_target!(|input: (&str, &str, i64, f64, Vec<&str>)| {
    let (expression, text, number, ratio, list) = input;
    let given = Given { text, number, ratio, list };
    let names = ["a", "b", "c", "d", "e", "f", "g"].map(|name| (name, Type::Any));
    let expression = match Expression::compile(expression, &names, Type::Any) {
        Ok(expression) => expression,
        Err(flaws) => {
            assert!(!flaws.is_empty(), "a refusal without a reason");
            return;
        }
    };
    let value = || expression.evaluate(&&given).map(|value| value.to_json());
    assert_eq!(value(), value(), "the same each time");
    if let Err(failure) = value() {
        let _ = expression.place(&failure);
    }
    let _ = expression.because(&&given);
});
