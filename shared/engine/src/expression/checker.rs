//! What can be known of an expression before there are values: names that nobody gives, and operations that no value
//! of the known types has. Every flaw is found, not only the first.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::tree::{Function, Kind, Literal, Macro, Node, Operator};
use super::{Flaw, flaw, nearest};

/// What is known of a value before it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// Nothing: CEL's `dyn`.
    Any,
    /// `null`.
    Null,
    /// True or false.
    Bool,
    /// A whole number of 64 bits, with a sign.
    Int,
    /// A double.
    Double,
    /// A text.
    Text,
    /// A moment.
    Timestamp,
    /// A length of time.
    Duration,
    /// A list.
    List,
    /// A map.
    Map,
}

impl Type {
    /// The type as CEL calls it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Any => "dyn",
            Self::Null => "null",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Double => "double",
            Self::Text => "string",
            Self::Timestamp => "timestamp",
            Self::Duration => "duration",
            Self::List => "list",
            Self::Map => "map",
        }
    }

    /// Whether a value of this type can be one of the other.
    fn fits(self, other: Self) -> bool {
        self == other || self == Self::Any || other == Self::Any
    }

    fn is_number(self) -> bool {
        matches!(self, Self::Int | Self::Double)
    }

    /// Whether two values can be equal.
    fn compares(self, other: Self) -> bool {
        self.fits(other) || (self.is_number() && other.is_number()) || self == Self::Null || other == Self::Null
    }
}

/// What the arithmetic operators take and give.
const ARITHMETIC: &[(Operator, Type, Type, Type)] = &[
    (Operator::Add, Type::Int, Type::Int, Type::Int),
    (Operator::Add, Type::Double, Type::Double, Type::Double),
    (Operator::Add, Type::Text, Type::Text, Type::Text),
    (Operator::Add, Type::List, Type::List, Type::List),
    (Operator::Add, Type::Timestamp, Type::Duration, Type::Timestamp),
    (Operator::Add, Type::Duration, Type::Timestamp, Type::Timestamp),
    (Operator::Add, Type::Duration, Type::Duration, Type::Duration),
    (Operator::Subtract, Type::Int, Type::Int, Type::Int),
    (Operator::Subtract, Type::Double, Type::Double, Type::Double),
    (Operator::Subtract, Type::Timestamp, Type::Timestamp, Type::Duration),
    (Operator::Subtract, Type::Timestamp, Type::Duration, Type::Timestamp),
    (Operator::Subtract, Type::Duration, Type::Duration, Type::Duration),
    (Operator::Multiply, Type::Int, Type::Int, Type::Int),
    (Operator::Multiply, Type::Double, Type::Double, Type::Double),
    (Operator::Divide, Type::Int, Type::Int, Type::Int),
    (Operator::Divide, Type::Double, Type::Double, Type::Double),
    (Operator::Remainder, Type::Int, Type::Int, Type::Int),
];

/// Every flaw of an expression that could be read.
pub(super) fn check(text: &str, root: &Node, variables: &[(&str, Type)], wanted: Type) -> Vec<Flaw> {
    let mut checker = Checker {
        text,
        variables,
        flaws: Vec::new(),
    };
    checker.wants(root, &[wanted], None);
    checker.flaws
}

/// The names of elements, the innermost first.
struct Local<'l> {
    name: &'l str,
    outer: Option<&'l Self>,
}

struct Checker<'t> {
    text: &'t str,
    variables: &'t [(&'t str, Type)],
    flaws: Vec<Flaw>,
}

impl Checker<'_> {
    fn wants(&mut self, node: &Node, wanted: &[Type], locals: Option<&Local<'_>>) -> Type {
        let found = self.check(node, locals);
        if !wanted.iter().any(|wanted| found.fits(*wanted)) {
            let names: Vec<&str> = wanted.iter().map(|wanted| wanted.as_str()).collect();
            self.note(node, names.join(" or "), found.as_str());
        }
        found
    }

    fn note(&mut self, node: &Node, expected: impl Into<alloc::borrow::Cow<'static, str>>, found: &str) {
        self.flaws.push(flaw(self.text, node.span.0, expected, found));
    }

    fn check(&mut self, node: &Node, locals: Option<&Local<'_>>) -> Type {
        match &node.kind {
            Kind::Literal(literal) => match literal {
                Literal::Null => Type::Null,
                Literal::Bool(_) => Type::Bool,
                Literal::Int(_) => Type::Int,
                Literal::Double(_) => Type::Double,
                Literal::Text(_) => Type::Text,
            },
            Kind::Name(name) => self.name(node, name, locals),
            Kind::Field(of, _) => {
                self.wants(of, &[Type::Map], locals);
                Type::Any
            }
            Kind::Has(of, _) => {
                self.wants(of, &[Type::Map], locals);
                Type::Bool
            }
            Kind::Index(pair) => {
                let keys: &[Type] = match self.wants(&pair.0, &[Type::List, Type::Map], locals) {
                    Type::List => &[Type::Int, Type::Double],
                    _ => &[Type::Int, Type::Double, Type::Text, Type::Bool],
                };
                self.wants(&pair.1, keys, locals);
                Type::Any
            }
            Kind::List(items) => {
                for item in items {
                    self.check(item, locals);
                }
                Type::List
            }
            Kind::Map(entries) => {
                for (key, value) in entries {
                    self.wants(key, &[Type::Int, Type::Text, Type::Bool], locals);
                    self.check(value, locals);
                }
                Type::Map
            }
            Kind::Not(of) => {
                self.wants(of, &[Type::Bool], locals);
                Type::Bool
            }
            Kind::Negate(of) => self.wants(of, &[Type::Int, Type::Double], locals),
            Kind::All(terms) | Kind::Any(terms) => {
                for term in terms {
                    self.wants(term, &[Type::Bool], locals);
                }
                Type::Bool
            }
            Kind::Choose(three) => {
                self.wants(&three.0, &[Type::Bool], locals);
                let (one, other) = (self.check(&three.1, locals), self.check(&three.2, locals));
                if one == other { one } else { Type::Any }
            }
            Kind::Binary(operator, pair) => {
                let (left, right) = (self.check(&pair.0, locals), self.check(&pair.1, locals));
                self.binary(node, *operator, left, right)
            }
            Kind::Call(function, arguments) => self.call(*function, arguments, locals),
            Kind::Part(part, of, zone) => {
                let of_both = part.of_duration() && zone.is_none();
                let wanted: &[Type] = if of_both {
                    &[Type::Timestamp, Type::Duration]
                } else {
                    &[Type::Timestamp]
                };
                self.wants(of, wanted, locals);
                Type::Int
            }
            Kind::Over(over) => {
                self.wants(&over.range, &[Type::List, Type::Map], locals);
                let inner = Local {
                    name: &over.name,
                    outer: locals,
                };
                if let Some(filter) = &over.filter {
                    self.wants(filter, &[Type::Bool], Some(&inner));
                }
                match over.what {
                    Macro::Map => self.check(&over.body, Some(&inner)),
                    _ => self.wants(&over.body, &[Type::Bool], Some(&inner)),
                };
                match over.what {
                    Macro::Map | Macro::Filter => Type::List,
                    _ => Type::Bool,
                }
            }
        }
    }

    fn name(&mut self, node: &Node, name: &str, mut locals: Option<&Local<'_>>) -> Type {
        while let Some(local) = locals {
            if local.name == name {
                return Type::Any;
            }
            locals = local.outer;
        }
        if let Some((_, found)) = self.variables.iter().find(|(known, _)| *known == name) {
            return *found;
        }
        let names: Vec<&str> = self.variables.iter().map(|(known, _)| *known).collect();
        let expected: String = format!("one of the names {}", names.join(", "));
        self.note(node, expected, name);
        if let Some(flaw) = self.flaws.last_mut() {
            flaw.suggestion = nearest(name, names);
        }
        Type::Any
    }

    fn binary(&mut self, node: &Node, operator: Operator, left: Type, right: Type) -> Type {
        let fits = match operator {
            Operator::Equal | Operator::NotEqual => left.compares(right),
            Operator::In => right.fits(Type::List) || right.fits(Type::Map),
            Operator::Less | Operator::LessOrEqual | Operator::Greater | Operator::GreaterOrEqual => {
                let ordered = |of: Type| !matches!(of, Type::Null | Type::List | Type::Map);
                ordered(left) && ordered(right) && left.compares(right)
            }
            _ => {
                let mut given = None;
                for (of, one, other, gives) in ARITHMETIC {
                    if *of == operator && left.fits(*one) && right.fits(*other) {
                        given = match given {
                            None => Some(*gives),
                            Some(already) if already == *gives => given,
                            Some(_) => Some(Type::Any),
                        };
                    }
                }
                if let Some(given) = given {
                    return given;
                }
                false
            }
        };
        if !fits {
            let (left, right) = (left.as_str(), right.as_str());
            let expected = format!("values that `{}` can be used with", operator.as_str());
            self.note(node, expected, &format!("{left} {} {right}", operator.as_str()));
        }
        match operator {
            Operator::Add | Operator::Subtract | Operator::Multiply | Operator::Divide | Operator::Remainder => {
                Type::Any
            }
            _ => Type::Bool,
        }
    }

    fn call(&mut self, function: Function, arguments: &[Node], locals: Option<&Local<'_>>) -> Type {
        let (takes, gives): (&[Type], Type) = match function {
            Function::Size => (&[Type::Text, Type::List, Type::Map], Type::Int),
            Function::StartsWith | Function::EndsWith | Function::Contains => (&[Type::Text], Type::Bool),
            Function::Bool => (&[Type::Bool, Type::Text], Type::Bool),
            Function::Int => (&[Type::Int, Type::Double, Type::Text, Type::Timestamp], Type::Int),
            Function::Double => (&[Type::Double, Type::Int, Type::Text], Type::Double),
            Function::Text => (
                &[
                    Type::Text,
                    Type::Bool,
                    Type::Int,
                    Type::Double,
                    Type::Timestamp,
                    Type::Duration,
                ],
                Type::Text,
            ),
            Function::Timestamp => (&[Type::Timestamp, Type::Text, Type::Int], Type::Timestamp),
            Function::Duration => (&[Type::Duration, Type::Text], Type::Duration),
            Function::Dyn => (&[Type::Any], Type::Any),
        };
        for argument in arguments {
            self.wants(argument, takes, locals);
        }
        gives
    }
}
