//! A tree as text that reads as the same tree. For tests.

extern crate std;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::tree::{Function, Kind, Literal, Macro, Node, Part};

pub(super) fn print(node: &Node) -> String {
    let join = |items: &[Node], by: &str| items.iter().map(print).collect::<Vec<_>>().join(by);
    match &node.kind {
        Kind::Literal(Literal::Null) => "null".into(),
        Kind::Literal(Literal::Bool(value)) => value.to_string(),
        Kind::Literal(Literal::Int(number)) => format!("({number})"),
        Kind::Literal(Literal::Double(number)) => format!("({number:?})"),
        Kind::Literal(Literal::Text(text)) => {
            let escaped: String = text
                .chars()
                .map(|c| match c {
                    '"' | '\\' => format!("\\{c}"),
                    c if c.is_control() => format!("\\U{:08x}", u32::from(c)),
                    c => c.to_string(),
                })
                .collect();
            format!("\"{escaped}\"")
        }
        Kind::Name(name) => name.to_string(),
        Kind::Field(of, name) => format!("{}.{name}", print(of)),
        Kind::Has(of, name) => format!("has({}.{name})", print(of)),
        Kind::Index(pair) => format!("{}[{}]", print(&pair.0), print(&pair.1)),
        Kind::List(items) => format!("[{}]", join(items, ", ")),
        Kind::Map(entries) => {
            let entries = entries
                .iter()
                .map(|(key, value)| format!("{}: {}", print(key), print(value)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
        Kind::Not(of) => format!("(!{})", print(of)),
        Kind::Negate(of) => format!("(-({}))", print(of)),
        Kind::All(terms) => format!("({})", join(terms, " && ")),
        Kind::Any(terms) => format!("({})", join(terms, " || ")),
        Kind::Choose(three) => format!("({} ? {} : {})", print(&three.0), print(&three.1), print(&three.2)),
        Kind::Binary(operator, pair) => format!("({} {} {})", print(&pair.0), operator.as_str(), print(&pair.1)),
        Kind::Call(function, arguments) => {
            let global = Function::GLOBAL.iter().find(|(_, known)| known == function);
            let method = Function::METHODS.iter().find(|(_, known, _)| known == function);
            match (global, method) {
                (Some((name, _)), _) => format!("{name}({})", join(arguments, ", ")),
                (None, Some((name, ..))) => format!("{}.{name}({})", print(&arguments[0]), join(&arguments[1..], ", ")),
                (None, None) => String::new(),
            }
        }
        Kind::Part(part, of, zone) => {
            let (name, _) = Part::ALL.iter().find(|(_, known)| known == part).expect("a name");
            let zone = zone.as_ref().map(|zone| format!("\"{}\"", zone.0.name()));
            format!("{}.{name}({})", print(of), zone.unwrap_or_default())
        }
        Kind::Over(over) => {
            let (name, _) = Macro::ALL
                .iter()
                .find(|(_, known)| *known == over.what)
                .expect("a name");
            let filter = over.filter.iter().map(|filter| format!("{}, ", print(filter)));
            let filter: String = filter.collect();
            format!(
                "{}.{name}({}, {filter}{})",
                print(&over.range),
                over.name,
                print(&over.body)
            )
        }
    }
}
