//! The value of an expression. It recurses as deep as the tree is high, which is bounded; its steps are counted.

use alloc::borrow::Cow;
use alloc::format;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cmp::Ordering;

use super::tree::{Kind, Literal, Macro, Node, Operator, Over};
use super::value::{Steps, double, whole};
use super::{Failure, STEPS_MAX, Value, Variables, functions};

/// The element that a macro looks at, and those of the macros around it.
pub(super) struct Local<'l, 'v> {
    name: &'l str,
    value: Value<'v>,
    outer: Option<&'l Self>,
}

type Locals<'l, 'v> = Option<&'l Local<'l, 'v>>;

pub(super) struct Evaluator<'v, 'e> {
    variables: &'e dyn Variables<'v>,
    steps: Steps,
}

impl<'v, 'e> Evaluator<'v, 'e> {
    pub fn new(variables: &'e dyn Variables<'v>) -> Self {
        Self {
            variables,
            steps: Steps(STEPS_MAX),
        }
    }

    pub fn evaluate(&mut self, node: &'v Node, locals: Locals<'_, 'v>) -> Result<Value<'v>, Failure> {
        self.steps.take(1)?;
        self.value(node, locals).map_err(|failure| failure.at(node.span))
    }

    fn value(&mut self, node: &'v Node, locals: Locals<'_, 'v>) -> Result<Value<'v>, Failure> {
        match &node.kind {
            Kind::Literal(literal) => Ok(match literal {
                Literal::Null => Value::Null,
                Literal::Bool(value) => Value::Bool(*value),
                Literal::Int(number) => Value::Int(*number),
                Literal::Double(number) => Value::Double(*number),
                Literal::Text(text) => Value::Text(Cow::Borrowed(text)),
            }),
            Kind::Name(name) => match local(name, locals) {
                Some(value) => Ok(value.clone()),
                None => self.variables.value(name),
            },
            Kind::Field(of, name) => self
                .field(of, name, locals)?
                .ok_or_else(|| Failure::new(format!("there is no `{name}`"))),
            Kind::Has(of, name) => Ok(Value::Bool(self.field(of, name, locals)?.is_some())),
            Kind::Index(pair) => {
                let (of, index) = (self.evaluate(&pair.0, locals)?, self.evaluate(&pair.1, locals)?);
                self.index(&of, &index)
            }
            Kind::List(items) => {
                let values = items.iter().map(|item| self.evaluate(item, locals));
                Ok(Value::List(Rc::new(values.collect::<Result<_, _>>()?)))
            }
            Kind::Map(entries) => self.map(entries, locals),
            Kind::Not(of) => match self.evaluate(of, locals)? {
                Value::Bool(value) => Ok(Value::Bool(!value)),
                other => Err(not_taken("!", &other)),
            },
            Kind::Negate(of) => match self.evaluate(of, locals)? {
                Value::Int(number) => number.checked_neg().map(Value::Int).ok_or_else(overflow),
                Value::Double(number) => Ok(Value::Double(-number)),
                other => Err(not_taken("-", &other)),
            },
            Kind::All(terms) => self.logical(terms.iter(), locals, false),
            Kind::Any(terms) => self.logical(terms.iter(), locals, true),
            Kind::Choose(three) => match self.evaluate(&three.0, locals)? {
                Value::Bool(true) => self.evaluate(&three.1, locals),
                Value::Bool(false) => self.evaluate(&three.2, locals),
                other => Err(not_taken("?:", &other)),
            },
            Kind::Binary(operator, pair) => {
                let (left, right) = (self.evaluate(&pair.0, locals)?, self.evaluate(&pair.1, locals)?);
                self.binary(*operator, left, right)
            }
            Kind::Call(function, arguments) => {
                let mut values = arguments.iter().map(|argument| self.evaluate(argument, locals));
                let (first, second) = (values.next().transpose()?, values.next().transpose()?);
                functions::call(*function, first.unwrap_or(Value::Null), second, &mut self.steps)
            }
            Kind::Part(part, of, zone) => {
                let of = self.evaluate(of, locals)?;
                functions::part(*part, &of, zone.as_ref())
            }
            Kind::Over(over) => self.over(over, locals),
        }
    }

    /// The field of a part; the part is not taken as a whole where it is a variable.
    fn field(&mut self, of: &'v Node, name: &str, locals: Locals<'_, 'v>) -> Result<Option<Value<'v>>, Failure> {
        match &of.kind {
            Kind::Name(variable) if local(variable, locals).is_none() => {
                self.steps.take(1)?;
                self.variables.field(variable, name)
            }
            _ => self.evaluate(of, locals)?.field(name),
        }
    }

    fn index(&mut self, of: &Value<'v>, index: &Value<'v>) -> Result<Value<'v>, Failure> {
        let place = match index {
            Value::Int(number) => Some(*number),
            Value::Double(number) => {
                whole(*number).filter(|cut| double(*cut).partial_cmp(number) == Some(Ordering::Equal))
            }
            _ => None,
        };
        let place_in_list = place.and_then(|place| usize::try_from(place).ok());
        let none = || Failure::new(format!("there is no element {}", named(index)));
        match of {
            Value::List(items) => place_in_list
                .and_then(|place| items.get(place))
                .cloned()
                .ok_or_else(none),
            Value::JsonList(items) => {
                let found = place_in_list.and_then(|place| items.get(place));
                found.map(Value::of_json).ok_or_else(none)
            }
            Value::Map(_) | Value::JsonMap(_) => of.under(index, &mut self.steps)?.ok_or_else(none),
            other => Err(not_taken("[]", other)),
        }
    }

    fn map(&mut self, entries: &'v [(Node, Node)], locals: Locals<'_, 'v>) -> Result<Value<'v>, Failure> {
        let mut values: Vec<(Value<'v>, Value<'v>)> = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let key = self.evaluate(key, locals)?;
            if !matches!(key, Value::Bool(_) | Value::Int(_) | Value::Text(_)) {
                return Err(Failure::new(format!("{} cannot be the key of a map", key.kind())));
            }
            for (known, _) in &values {
                if known.equals(&key, &mut self.steps)? {
                    return Err(Failure::new(format!("the map has the key {} twice", named(&key))));
                }
            }
            values.push((key, self.evaluate(value, locals)?));
        }
        Ok(Value::Map(Rc::new(values)))
    }

    /// `&&` and `||`: the value that decides does so wherever it stands, even behind a term that fails.
    fn logical<'n>(
        &mut self,
        terms: impl Iterator<Item = &'v Node> + 'n,
        locals: Locals<'_, 'v>,
        deciding: bool,
    ) -> Result<Value<'v>, Failure> {
        let mut failed = None;
        for term in terms {
            let value = self.evaluate(term, locals);
            if let Some(decided) = self.decided(value, deciding, &mut failed) {
                return decided;
            }
        }
        failed.map_or(Ok(Value::Bool(!deciding)), Err)
    }

    /// What one term of several comes to; `None` where the others are to be looked at.
    fn decided(
        &self,
        value: Result<Value<'v>, Failure>,
        deciding: bool,
        failed: &mut Option<Failure>,
    ) -> Option<Result<Value<'v>, Failure>> {
        let failure = match value {
            Ok(Value::Bool(value)) if value == deciding => return Some(Ok(Value::Bool(value))),
            Ok(Value::Bool(_)) => return None,
            Ok(other) => not_taken(if deciding { "||" } else { "&&" }, &other),
            Err(failure) => failure,
        };
        if self.steps.0 == 0 {
            return Some(Err(failure));
        }
        failed.get_or_insert(failure);
        None
    }

    fn binary(&mut self, operator: Operator, left: Value<'v>, right: Value<'v>) -> Result<Value<'v>, Failure> {
        let ordered = |wanted: fn(Ordering) -> bool| {
            let order = left.order(&right)?;
            Ok(Value::Bool(order.is_some_and(wanted)))
        };
        match operator {
            Operator::Equal => Ok(Value::Bool(left.equals(&right, &mut self.steps)?)),
            Operator::NotEqual => Ok(Value::Bool(!left.equals(&right, &mut self.steps)?)),
            Operator::Less => ordered(Ordering::is_lt),
            Operator::LessOrEqual => ordered(Ordering::is_le),
            Operator::Greater => ordered(Ordering::is_gt),
            Operator::GreaterOrEqual => ordered(Ordering::is_ge),
            Operator::In => self.is_in(&left, &right),
            _ => functions::arithmetic(operator, left, right, &mut self.steps),
        }
    }

    fn is_in(&mut self, left: &Value<'v>, right: &Value<'v>) -> Result<Value<'v>, Failure> {
        if let Value::Map(_) | Value::JsonMap(_) = right {
            return Ok(Value::Bool(right.under(left, &mut self.steps)?.is_some()));
        }
        let elements = self.elements(right, "in")?;
        for element in elements {
            if element.equals(left, &mut self.steps)? {
                return Ok(Value::Bool(true));
            }
        }
        Ok(Value::Bool(false))
    }

    fn elements(&mut self, of: &Value<'v>, operator: &'static str) -> Result<Vec<Value<'v>>, Failure> {
        self.steps.take(of.count().unwrap_or(0))?;
        of.elements().ok_or_else(|| not_taken(operator, of))
    }

    fn over(&mut self, over: &'v Over, locals: Locals<'_, 'v>) -> Result<Value<'v>, Failure> {
        let range = self.evaluate(&over.range, locals)?;
        let elements = self.elements(&range, "all, exists, filter and map")?;
        let (mut failed, mut found, mut taken) = (None, 0_usize, Vec::new());
        for element in elements {
            let inner = Local {
                name: &over.name,
                value: element,
                outer: locals,
            };
            if let Some(filter) = &over.filter
                && !is_true(self.evaluate(filter, Some(&inner))?)?
            {
                continue;
            }
            let value = self.evaluate(&over.body, Some(&inner));
            match over.what {
                Macro::All | Macro::Exists => {
                    if let Some(decided) = self.decided(value, over.what == Macro::Exists, &mut failed) {
                        return decided;
                    }
                }
                Macro::ExistsOne => found += usize::from(is_true(value?)?),
                Macro::Filter => {
                    if is_true(value?)? {
                        taken.push(inner.value);
                    }
                }
                Macro::Map => taken.push(value?),
            }
        }
        match (over.what, failed) {
            (_, Some(failure)) => Err(failure),
            (Macro::All, None) => Ok(Value::Bool(true)),
            (Macro::Exists, None) => Ok(Value::Bool(false)),
            (Macro::ExistsOne, None) => Ok(Value::Bool(found == 1)),
            (Macro::Filter | Macro::Map, None) => Ok(Value::List(Rc::new(taken))),
        }
    }
}

fn local<'l, 'v>(name: &str, mut locals: Locals<'l, 'v>) -> Option<&'l Value<'v>> {
    while let Some(local) = locals {
        if local.name == name {
            return Some(&local.value);
        }
        locals = local.outer;
    }
    None
}

fn is_true(value: Value<'_>) -> Result<bool, Failure> {
    match value {
        Value::Bool(value) => Ok(value),
        other => Err(Failure::new(format!("{} is neither true nor false", other.kind()))),
    }
}

/// How a message names a key.
fn named(value: &Value<'_>) -> Cow<'static, str> {
    match value {
        Value::Text(text) => format!("`{}`", tidegate_protocol::fault::shorten(text)).into(),
        Value::Int(number) => format!("{number}").into(),
        other => other.kind().into(),
    }
}

pub(super) fn not_taken(operator: &str, value: &Value<'_>) -> Failure {
    Failure::new(format!("`{operator}` does not take {}", value.kind()))
}

pub(super) fn overflow() -> Failure {
    Failure::new("the result is out of range")
}
