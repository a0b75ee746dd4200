//! Expressions of the Common Expression Language (CEL): read, checked and evaluated, each within bounds.
//!
//! The language is that of the specification at `google/cel-spec`, in the part that `docs/reference/expressions.md`
//! names. What an expression may speak of is declared by whoever compiles it, and given by whoever evaluates it:
//! nothing here knows a policy, an event or a clock. An expression changes nothing, and the same values give the same
//! result.
//!
//! Nothing is unbounded: not the text ([`TEXT_BYTES_MAX`]), not how it nests ([`HEIGHT_MAX`]), not the work of one
//! evaluation ([`STEPS_MAX`]). What goes wrong in an evaluation is a [`Failure`], never a panic.

mod checker;
mod evaluator;
mod functions;
mod lexer;
mod parser;
#[cfg(test)]
mod print;
#[cfg(test)]
mod tests;
mod tree;
mod value;

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use tidegate_protocol::Fault;

use evaluator::Evaluator;
use tree::{Kind, Node};

pub use checker::Type;
pub use value::Value;

/// Bytes of an expression's text: a page of conditions. What is longer is a program.
pub const TEXT_BYTES_MAX: usize = 2048;
/// How high the tree of an expression may be. Reading and evaluating recurse with it, and the stack in wasm is 1 MiB.
pub const HEIGHT_MAX: usize = 48;
/// Steps of one evaluation at most: one for each part of the expression that is evaluated, each element that is looked
/// at, and every 16 bytes of text that are compared or copied. Some 50 ns each at worst.
pub const STEPS_MAX: u32 = 10_000;

/// What is wrong with the text of an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// Where: the character's number, from 1.
    pub at: usize,
    /// What would have been right there.
    pub expected: Cow<'static, str>,
    /// What stood there.
    pub found: String,
    /// What may have been meant.
    pub suggestion: Option<String>,
}

impl Flaw {
    /// The flaw as a fault of the document whose field `pointer` holds the expression.
    pub fn fault(self, pointer: &str) -> Fault {
        let expected = format!("{}, at character {}", self.expected, self.at);
        Fault {
            suggestion: self.suggestion,
            ..Fault::new(pointer, expected, &self.found)
        }
    }
}

/// Why an evaluation gave no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What happened.
    pub message: Cow<'static, str>,
    /// Where: bytes of the text from and to. `None` where the value that was asked for could not be given.
    at: Option<(u32, u32)>,
}

impl Failure {
    /// A failure of whoever gives a variable its value.
    pub fn new(message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            message: message.into(),
            at: None,
        }
    }

    fn at(mut self, span: (u32, u32)) -> Self {
        self.at.get_or_insert(span);
        self
    }
}

/// The values that an expression speaks of.
pub trait Variables<'v> {
    /// The value of the variable `name`, one of those declared when the expression was compiled.
    ///
    /// Errors: where it cannot be given.
    fn value(&self, name: &str) -> Result<Value<'v>, Failure>;

    /// The field `field` of the variable `name`; `None` where it has no such field. For what can say so without giving
    /// the whole.
    ///
    /// Errors: where it cannot be given, or has no fields at all.
    fn field(&self, name: &str, field: &str) -> Result<Option<Value<'v>>, Failure> {
        self.value(name)?.field(field)
    }
}

/// A compiled expression.
#[derive(Debug, Clone, PartialEq)]
pub struct Expression {
    text: Box<str>,
    root: Node,
}

impl Expression {
    /// Compiles `text`, which may speak of the `variables` and gives a value of the type `wanted`.
    ///
    /// Errors: every flaw of it; of a text that cannot be read, the first.
    pub fn compile(text: &str, variables: &[(&str, Type)], wanted: Type) -> Result<Self, Vec<Flaw>> {
        let expression = Self::parse(text).map_err(|flaw| alloc::vec![flaw])?;
        let flaws = checker::check(text, &expression.root, variables, wanted);
        if flaws.is_empty() { Ok(expression) } else { Err(flaws) }
    }

    /// Reads `text`, whatever it speaks of.
    fn parse(text: &str) -> Result<Self, Flaw> {
        let root = parser::parse(text)?;
        Ok(Self {
            text: text.into(),
            root,
        })
    }

    /// The value of the expression, where `variables` gives those of what it speaks of.
    ///
    /// Errors: as CEL says: an operation on values that it does not take, a field or element that is not there, a number
    /// out of range; beyond that, more than [`STEPS_MAX`] steps, and whatever `variables` cannot give.
    pub fn evaluate<'v>(&'v self, variables: &dyn Variables<'v>) -> Result<Value<'v>, Failure> {
        Evaluator::new(variables).evaluate(&self.root, None)
    }

    /// Whether the expression is true.
    ///
    /// Errors: as [`Self::evaluate`], and where the value is neither true nor false.
    pub fn holds<'v>(&'v self, variables: &dyn Variables<'v>) -> Result<bool, Failure> {
        match self.evaluate(variables)? {
            Value::Bool(holds) => Ok(holds),
            other => Err(Failure::new(format!("it gives {}, not true or false", other.kind()))),
        }
    }

    /// The expression as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The part of the text where an evaluation failed.
    pub fn place<'t>(&'t self, failure: &Failure) -> Option<&'t str> {
        failure.at.and_then(|span| self.part(span))
    }

    /// What made the expression true or false, as it is written: of terms joined by `&&` the one that is false, of terms
    /// joined by `||` the one that is true. `None` where all of it had to be looked at.
    pub fn because<'v>(&'v self, variables: &dyn Variables<'v>) -> Option<&'v str> {
        let (terms, deciding) = match &self.root.kind {
            Kind::All(terms) => (terms, false),
            Kind::Any(terms) => (terms, true),
            _ => return None,
        };
        let mut evaluator = Evaluator::new(variables);
        for term in terms {
            if matches!(evaluator.evaluate(term, None), Ok(Value::Bool(holds)) if holds == deciding) {
                return self.part(term.span);
            }
        }
        None
    }

    fn part(&self, (from, to): (u32, u32)) -> Option<&str> {
        self.text.get(usize::try_from(from).ok()?..usize::try_from(to).ok()?)
    }
}

/// A flaw at the byte `at` of `text`.
fn flaw(text: &str, at: u32, expected: impl Into<Cow<'static, str>>, found: &str) -> Flaw {
    let before = text.get(..usize::try_from(at).unwrap_or(usize::MAX)).unwrap_or(text);
    Flaw {
        at: before.chars().count() + 1,
        expected: expected.into(),
        found: tidegate_protocol::fault::shorten(found),
        suggestion: None,
    }
}

/// The nearest of `known` to `name`.
fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    tidegate_protocol::fault::closest(name, known).map(ToString::to_string)
}
