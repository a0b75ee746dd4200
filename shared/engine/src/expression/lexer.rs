//! From the text of an expression to its tokens.

use alloc::string::String;

use super::{Flaw, flaw};

/// What a token is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token<'t> {
    /// A name, or a word of the language.
    Name(&'t str),
    /// A whole number, without its sign.
    Int(u64),
    Double(f64),
    Text(String),
    Sign(&'static str),
    End,
}

/// The longer ones first.
const SIGNS: [&str; 24] = [
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", ".", ",", "(", ")", "[", "]",
    "{", "}",
];

/// Reads one token after the other.
pub(super) struct Lexer<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Lexer<'t> {
    pub fn new(text: &'t str) -> Self {
        Self { text, at: 0 }
    }

    /// The next token, and from where to where it stands.
    pub fn token(&mut self) -> Result<(Token<'t>, (u32, u32)), Flaw> {
        self.skip_space();
        let from = self.at;
        let rest = self.rest();
        let token = match rest.chars().next() {
            None => Token::End,
            Some(first) if first.is_ascii_digit() || (first == '.' && second_is_digit(rest)) => self.number()?,
            Some('"' | '\'') => Token::Text(self.string(false)?),
            Some(first) if first.is_ascii_alphabetic() || first == '_' => {
                let name = self.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
                match (name, self.rest().chars().next()) {
                    ("r" | "R", Some('"' | '\'')) => Token::Text(self.string(true)?),
                    ("b" | "B" | "br" | "rb" | "BR" | "RB" | "bR" | "Br" | "rB" | "Rb", Some('"' | '\'')) => {
                        return Err(self.flaw(from, "text: bytes are not supported", name));
                    }
                    _ => Token::Name(name),
                }
            }
            Some(first) => match SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
                Some(sign) => {
                    self.at += sign.len();
                    Token::Sign(sign)
                }
                None => {
                    let found = rest.get(..first.len_utf8()).unwrap_or_default();
                    return Err(self.flaw(from, "a value, a name or an operator", found));
                }
            },
        };
        Ok((token, (offset(from), offset(self.at))))
    }

    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn flaw(&self, at: usize, expected: &'static str, found: &str) -> Flaw {
        flaw(self.text, offset(at), expected, found)
    }

    fn take_while(&mut self, keep: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let end = rest.find(|c| !keep(c)).unwrap_or(rest.len());
        self.at += end;
        rest.get(..end).unwrap_or_default()
    }

    /// White space, and comments up to the end of their line.
    fn skip_space(&mut self) {
        loop {
            self.take_while(|c| matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{c}'));
            if !self.rest().starts_with("//") {
                return;
            }
            self.take_while(|c| c != '\n');
        }
    }

    fn number(&mut self) -> Result<Token<'t>, Flaw> {
        let from = self.at;
        let rest = self.rest();
        if rest.starts_with("0x") || rest.starts_with("0X") {
            self.at += 2;
            let digits = self.take_while(|c| c.is_ascii_hexdigit());
            let number = u64::from_str_radix(digits, 16).ok();
            return self.whole(from, number);
        }
        self.take_while(|c| c.is_ascii_digit());
        let mut is_double = false;
        if self.rest().starts_with('.') && second_is_digit(self.rest()) {
            is_double = true;
            self.at += 1;
            self.take_while(|c| c.is_ascii_digit());
        }
        if let Some(exponent) = self.rest().strip_prefix(['e', 'E']) {
            let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            if digits.starts_with(|c: char| c.is_ascii_digit()) {
                is_double = true;
                self.at = self.text.len() - digits.len();
                self.take_while(|c| c.is_ascii_digit());
            }
        }
        let digits = self.text.get(from..self.at).unwrap_or_default();
        if !is_double {
            return self.whole(from, digits.parse().ok());
        }
        self.no_name_behind(from)?;
        let number = match digits.starts_with('.') {
            true => serde_json::from_str(&alloc::format!("0{digits}")),
            false => serde_json::from_str(digits.trim_start_matches('0')).or_else(|_| {
                // JSON takes no further zeros in front, and needs the one before a point.
                serde_json::from_str(&alloc::format!("0{}", digits.trim_start_matches('0')))
            }),
        };
        let number: f64 = number.map_err(|_| self.flaw(from, "a number that a double can hold", digits))?;
        Ok(Token::Double(number))
    }

    fn whole(&mut self, from: usize, number: Option<u64>) -> Result<Token<'t>, Flaw> {
        self.no_name_behind(from)?;
        let found = self.text.get(from..self.at).unwrap_or_default();
        let number = number.ok_or_else(|| self.flaw(from, "a whole number of 64 bits", found))?;
        Ok(Token::Int(number))
    }

    fn no_name_behind(&mut self, from: usize) -> Result<(), Flaw> {
        let behind = self.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
        let expected = match behind {
            "" => return Ok(()),
            "u" | "U" => "a number with a sign: unsigned numbers (`1u`) are not supported",
            _ => "an operator behind the number",
        };
        let found = self.text.get(from..self.at).unwrap_or_default();
        Err(self.flaw(from, expected, found))
    }

    /// A text in quotes, of which there may be three at each end.
    fn string(&mut self, is_raw: bool) -> Result<String, Flaw> {
        let from = self.at;
        let rest = self.rest();
        let quotes = ["\"\"\"", "'''", "\"", "'"];
        let quote = quotes.into_iter().find(|quote| rest.starts_with(*quote)).unwrap_or("'");
        self.at += quote.len();
        let mut text = String::new();
        loop {
            let at = self.at;
            let rest = self.rest();
            if rest.starts_with(quote) {
                self.at += quote.len();
                return Ok(text);
            }
            let mut characters = rest.chars();
            match characters.next() {
                None => return Err(self.flaw(from, "a text that ends with its quote", "the end")),
                Some('\n' | '\r') if quote.len() == 1 => {
                    return Err(self.flaw(at, "the end of the text, or `\\n` in it", "the end of the line"));
                }
                Some('\\') if !is_raw => {
                    self.at += 1;
                    text.push(self.escape(at)?);
                }
                Some(character) => {
                    self.at += character.len_utf8();
                    text.push(character);
                    // Where nothing is escaped, a quote behind a backslash ends the text all the same.
                }
            }
        }
    }

    /// What stands behind a backslash.
    fn escape(&mut self, from: usize) -> Result<char, Flaw> {
        let kind = self.rest().chars().next().unwrap_or(' ');
        self.at += kind.len_utf8();
        let digits = |lexer: &mut Self, count: usize, radix: u32| {
            let digits = lexer.text.get(lexer.at..lexer.at + count)?;
            lexer.at += count;
            let is_digit = |c: char| c.is_digit(radix);
            digits
                .chars()
                .all(is_digit)
                .then(|| u32::from_str_radix(digits, radix).ok())?
        };
        let code = match kind {
            'a' => Some(7),
            'b' => Some(8),
            'f' => Some(12),
            'n' => Some(10),
            'r' => Some(13),
            't' => Some(9),
            'v' => Some(11),
            '\\' | '?' | '"' | '\'' | '`' => Some(u32::from(kind)),
            'x' | 'X' => digits(self, 2, 16),
            'u' => digits(self, 4, 16),
            'U' => digits(self, 8, 16),
            '0'..='3' => {
                self.at -= 1;
                digits(self, 3, 8)
            }
            _ => None,
        };
        code.and_then(char::from_u32).ok_or_else(|| {
            let found = self.text.get(from..self.at).unwrap_or("\\");
            self.flaw(from, "an escape such as `\\n`, `\\\"`, `\\\\` or `\\u00e9`", found)
        })
    }
}

fn second_is_digit(text: &str) -> bool {
    text.as_bytes().get(1).is_some_and(u8::is_ascii_digit)
}

/// A place in a text that is at most [`super::TEXT_BYTES_MAX`] long.
pub(super) fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}
