//! From tokens to a tree, by precedence. It stops at the first flaw: what follows would be guesses.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::lexer::{Lexer, Token};
use super::tree::{Function, InZone, Kind, Literal, Macro, Node, Operator, Over, Part};
use super::{Flaw, HEIGHT_MAX, TEXT_BYTES_MAX, flaw, nearest};
use crate::schedules::Zone;

/// Words that CEL keeps for itself.
const RESERVED: &[&str] = &[
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "namespace",
    "package",
    "return",
    "var",
    "void",
    "while",
];

/// What binds the terms of `&&` and `||`.
const AND: u8 = 2;
const OR: u8 = 1;

/// Reads the text of an expression.
pub(super) fn parse(text: &str) -> Result<Node, Flaw> {
    if text.len() > TEXT_BYTES_MAX {
        let expected = format!("an expression of at most {TEXT_BYTES_MAX} bytes");
        return Err(flaw(text, 0, expected, &format!("{} bytes", text.len())));
    }
    let mut parser = Parser {
        text,
        lexer: Lexer::new(text),
        token: Token::End,
        span: (0, 0),
        before: 0,
        depth: 0,
    };
    parser.advance()?;
    let root = parser.expression()?;
    match parser.token {
        Token::End => Ok(root),
        _ => Err(parser.unexpected("an operator or the end")),
    }
}

struct Parser<'t> {
    text: &'t str,
    lexer: Lexer<'t>,
    token: Token<'t>,
    span: (u32, u32),
    /// Where the token before this one ends.
    before: u32,
    depth: usize,
}

impl<'t> Parser<'t> {
    fn advance(&mut self) -> Result<Token<'t>, Flaw> {
        let (token, span) = self.lexer.token()?;
        self.before = self.span.1;
        self.span = span;
        Ok(core::mem::replace(&mut self.token, token))
    }

    fn unexpected(&self, expected: impl Into<Cow<'static, str>>) -> Flaw {
        let found = match self.token {
            Token::End => "the end",
            _ => self.slice(self.span),
        };
        flaw(self.text, self.span.0, expected, found)
    }

    fn slice(&self, (from, to): (u32, u32)) -> &'t str {
        let (from, to) = (usize::try_from(from).unwrap_or(0), usize::try_from(to).unwrap_or(0));
        self.text.get(from..to).unwrap_or_default()
    }

    fn is(&self, sign: &str) -> bool {
        matches!(self.token, Token::Sign(found) if found == sign)
    }

    fn takes(&mut self, sign: &str) -> Result<bool, Flaw> {
        let found = self.is(sign);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn expect(&mut self, sign: &'static str) -> Result<(), Flaw> {
        if self.takes(sign)? {
            return Ok(());
        }
        Err(self.unexpected(format!("`{sign}`")))
    }

    /// A part that begins at `from` and ends with the last token.
    fn node(&self, from: u32, kind: Kind) -> Result<Node, Flaw> {
        let mut below = 0;
        kind.parts(&mut |part| below = below.max(part.height));
        let height = below + 1;
        if height > HEIGHT_MAX {
            return Err(self.too_deep(from));
        }
        Ok(Node {
            span: (from, self.before),
            height,
            kind,
        })
    }

    fn too_deep(&self, from: u32) -> Flaw {
        let expected = format!("an expression that nests at most {HEIGHT_MAX} deep");
        flaw(self.text, from, expected, "a deeper one")
    }

    fn expression(&mut self) -> Result<Node, Flaw> {
        self.depth += 1;
        if self.depth > HEIGHT_MAX {
            return Err(self.too_deep(self.span.0));
        }
        let from = self.span.0;
        let mut node = self.binary(OR)?;
        if self.takes("?")? {
            let then = self.binary(OR)?;
            self.expect(":")?;
            let otherwise = self.expression()?;
            node = self.node(from, Kind::Choose(Box::new((node, then, otherwise))))?;
        }
        self.depth -= 1;
        Ok(node)
    }

    /// The operator at hand, and how strongly it binds.
    fn operator(&self) -> Option<(Option<Operator>, u8)> {
        let text = match self.token {
            Token::Sign("&&") => return Some((None, AND)),
            Token::Sign("||") => return Some((None, OR)),
            Token::Sign(sign) => sign,
            Token::Name("in") => "in",
            _ => return None,
        };
        let mut all = Operator::ALL.iter();
        let (_, operator, binds) = all.find(|(written, ..)| *written == text)?;
        Some((Some(*operator), *binds))
    }

    /// Operators that bind at least so strongly, and what they join.
    fn binary(&mut self, at_least: u8) -> Result<Node, Flaw> {
        let from = self.span.0;
        let mut left = self.unary()?;
        // Of which kind of logical operator `left` is a chain by itself, without parentheses.
        let mut chain = None;
        while let Some((operator, binds)) = self.operator().filter(|(_, binds)| *binds >= at_least) {
            self.advance()?;
            let right = self.binary(binds + 1)?;
            let kind = match operator {
                Some(operator) => Kind::Binary(operator, Box::new((left, right))),
                None => {
                    let mut terms = match left.kind {
                        Kind::All(terms) | Kind::Any(terms) if chain == Some(binds) => terms,
                        _ => alloc::vec![left],
                    };
                    terms.push(right);
                    if binds == AND {
                        Kind::All(terms)
                    } else {
                        Kind::Any(terms)
                    }
                }
            };
            chain = operator.is_none().then_some(binds);
            left = self.node(from, kind)?;
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Node, Flaw> {
        let mut signs = Vec::new();
        while self.is("!") || self.is("-") {
            signs.push((self.is("-"), self.span.0));
            self.advance()?;
        }
        let minus = match (&self.token, signs.last()) {
            (Token::Int(_) | Token::Double(_), Some((true, at))) => {
                let at = *at;
                signs.pop();
                Some(at)
            }
            _ => None,
        };
        let mut node = self.member(minus)?;
        for (is_minus, at) in signs.into_iter().rev() {
            let of = Box::new(node);
            node = self.node(at, if is_minus { Kind::Negate(of) } else { Kind::Not(of) })?;
        }
        Ok(node)
    }

    fn member(&mut self, minus: Option<u32>) -> Result<Node, Flaw> {
        let from = minus.unwrap_or(self.span.0);
        let mut node = self.primary(minus)?;
        loop {
            let kind = if self.takes(".")? {
                let at = self.span;
                let name = self.name("the name of a field or method")?;
                if self.takes("(")? {
                    self.method(node, name, at.0)?
                } else {
                    Kind::Field(Box::new(node), name.into())
                }
            } else if self.takes("[")? {
                let index = self.expression()?;
                self.expect("]")?;
                Kind::Index(Box::new((node, index)))
            } else {
                return Ok(node);
            };
            node = self.node(from, kind)?;
        }
    }

    fn name(&mut self, expected: &'static str) -> Result<&'t str, Flaw> {
        match self.token {
            Token::Name(name) => {
                self.advance()?;
                Ok(name)
            }
            _ => Err(self.unexpected(expected)),
        }
    }

    fn primary(&mut self, minus: Option<u32>) -> Result<Node, Flaw> {
        const EXPECTED: &str = "a value, a name or `(`";
        let (from, at) = (minus.unwrap_or(self.span.0), self.span);
        let kind = match &self.token {
            Token::Int(number) => {
                let number = i128::from(*number);
                let number = i64::try_from(if minus.is_some() { -number } else { number });
                let number = number.map_err(|_| self.unexpected("a whole number of 64 bits"))?;
                self.advance()?;
                Kind::Literal(Literal::Int(number))
            }
            Token::Double(number) => {
                let number = if minus.is_some() { -*number } else { *number };
                self.advance()?;
                Kind::Literal(Literal::Double(number))
            }
            Token::Text(text) => {
                let text = text.clone();
                self.advance()?;
                Kind::Literal(Literal::Text(text))
            }
            Token::Name(name) => {
                let name = *name;
                if RESERVED.contains(&name) {
                    return Err(self.unexpected(EXPECTED));
                }
                self.advance()?;
                match name {
                    "true" | "false" => Kind::Literal(Literal::Bool(name == "true")),
                    "null" => Kind::Literal(Literal::Null),
                    _ if self.takes("(")? => self.function(name, at.0)?,
                    _ => Kind::Name(name.into()),
                }
            }
            Token::Sign("(") => {
                self.advance()?;
                let mut node = self.expression()?;
                self.expect(")")?;
                node.span = (from, self.before);
                return Ok(node);
            }
            Token::Sign("[") => {
                self.advance()?;
                Kind::List(self.items("]")?)
            }
            Token::Sign("{") => {
                self.advance()?;
                let mut entries = Vec::new();
                while !self.is("}") {
                    let key = self.expression()?;
                    self.expect(":")?;
                    entries.push((key, self.expression()?));
                    if !self.takes(",")? {
                        break;
                    }
                }
                self.expect("}")?;
                Kind::Map(entries)
            }
            _ => return Err(self.unexpected(EXPECTED)),
        };
        self.node(from, kind)
    }

    /// Expressions up to `end`, which is taken.
    fn items(&mut self, end: &'static str) -> Result<Vec<Node>, Flaw> {
        let mut items = Vec::new();
        while !self.is(end) {
            items.push(self.expression()?);
            // The last item of a list may have a comma behind it, the last argument may not.
            if !self.takes(",")? || (end == ")" && self.is(end)) {
                break;
            }
        }
        if end == ")" && self.slice((self.before.saturating_sub(1), self.before)) == "," {
            return Err(self.unexpected("an argument"));
        }
        self.expect(end)?;
        Ok(items)
    }

    /// A call of the function `name`, whose parenthesis is open.
    fn function(&mut self, name: &str, at: u32) -> Result<Kind, Flaw> {
        let arguments = self.items(")")?;
        if name == "has" {
            let mut arguments = arguments;
            return match (arguments.pop(), arguments.is_empty()) {
                (
                    Some(Node {
                        kind: Kind::Field(of, field),
                        ..
                    }),
                    true,
                ) => Ok(Kind::Has(of, field)),
                _ => Err(flaw(
                    self.text,
                    at,
                    "the field of something, as in `has(a.b)`",
                    "has(…)",
                )),
            };
        }
        let Some((_, function)) = Function::GLOBAL.iter().find(|(known, _)| *known == name) else {
            let known = Function::GLOBAL.iter().map(|(known, _)| *known).chain(["has"]);
            return Err(self.unknown(name, at, "a function", known.collect()));
        };
        self.count(name, at, 1, arguments.len())?;
        Ok(Kind::Call(*function, arguments))
    }

    /// A call of the method `name` of `target`, whose parenthesis is open.
    fn method(&mut self, target: Node, name: &str, at: u32) -> Result<Kind, Flaw> {
        if let Some((_, what)) = Macro::ALL.iter().find(|(known, _)| *known == name) {
            return self.over(*what, target, name, at);
        }
        let mut arguments = self.items(")")?;
        if let Some((_, part)) = Part::ALL.iter().find(|(known, _)| *known == name) {
            let zone = match arguments.pop() {
                None => None,
                Some(zone) => {
                    self.count(name, at, 1, arguments.len() + 1)?;
                    Some(self.zone(&zone)?)
                }
            };
            return Ok(Kind::Part(*part, Box::new(target), zone));
        }
        let Some((_, function, count)) = Function::METHODS.iter().find(|(known, ..)| *known == name) else {
            if name == "matches" {
                let expected = "`startsWith`, `endsWith` or `contains`: regular expressions are not supported";
                return Err(flaw(self.text, at, expected, name));
            }
            let methods = Function::METHODS.iter().map(|(known, ..)| *known);
            let macros = Macro::ALL.iter().map(|(known, _)| *known);
            let parts = Part::ALL.iter().map(|(known, _)| *known);
            return Err(self.unknown(name, at, "a method", methods.chain(macros).chain(parts).collect()));
        };
        self.count(name, at, *count, arguments.len())?;
        arguments.insert(0, target);
        Ok(Kind::Call(*function, arguments))
    }

    /// A zone has to stand in the text, so that it is looked for once.
    fn zone(&self, node: &Node) -> Result<InZone, Flaw> {
        const EXPECTED: &str = "a time zone of the IANA database, as a text, such as \"Europe/Berlin\"";
        let found = match &node.kind {
            Kind::Literal(Literal::Text(name)) => Zone::find(name),
            _ => None,
        };
        found.map(InZone).ok_or_else(|| {
            let given = self.slice(node.span);
            Flaw {
                suggestion: nearest(given.trim_matches(['"', '\'']), Zone::names()),
                ..flaw(self.text, node.span.0, EXPECTED, given)
            }
        })
    }

    fn over(&mut self, what: Macro, range: Node, name: &str, at: u32) -> Result<Kind, Flaw> {
        let mut arguments = self.items(")")?;
        let most = if what == Macro::Map { 3 } else { 2 };
        if !(2..=most).contains(&arguments.len()) {
            self.count(name, at, 2, arguments.len())?;
        }
        let body = arguments.pop();
        let filter = if arguments.len() == 2 { arguments.pop() } else { None };
        match (arguments.pop().map(|node| (node.kind, node.span)), body) {
            (Some((Kind::Name(element), _)), Some(body)) => Ok(Kind::Over(Box::new(Over {
                what,
                range,
                name: element,
                filter,
                body,
            }))),
            (other, _) => {
                let (at, found) = other.map_or((at, ""), |(_, span)| (span.0, self.slice(span)));
                Err(flaw(self.text, at, "a name for the elements", found))
            }
        }
    }

    fn count(&self, name: &str, at: u32, wanted: usize, found: usize) -> Result<(), Flaw> {
        if wanted == found {
            return Ok(());
        }
        let expected = format!("{wanted} arguments for `{name}`");
        Err(flaw(self.text, at, expected, &format!("{found}")))
    }

    fn unknown(&self, name: &str, at: u32, what: &str, known: Vec<&'static str>) -> Flaw {
        let expected: String = format!("{what}: {}", known.join(", "));
        Flaw {
            suggestion: nearest(name, known),
            ..flaw(self.text, at, expected, name)
        }
    }
}
