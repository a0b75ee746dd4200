//! What goes to stdout (results) and to stderr (everything said around them); with `--json`, one line for each.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;
use serde_json::{Value, json};
use tidegate_sdk::{Error, JsonText};

use crate::failure::Failure;

/// Where and how to write.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    json: bool,
}

impl Output {
    /// Output for people, or for machines.
    pub const fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether a machine reads.
    pub const fn is_json(self) -> bool {
        self.json
    }

    /// A line of the result.
    pub fn print(self, text: &str) {
        // A reader that has gone, as `head` does, is no reason to complain.
        let _ = writeln!(io::stdout(), "{text}");
    }

    /// Text of the result as it is, or, on a terminal, without what could change anything there.
    pub fn text(self, text: &str) {
        let mut out = io::stdout();
        let _ = if stdout_is_terminal() {
            let kept = |c: &char| !c.is_control() || matches!(c, '\n' | '\t');
            write!(out, "{}", text.chars().filter(kept).collect::<String>())
        } else {
            write!(out, "{text}")
        };
        let _ = out.flush();
    }

    /// A line for machines: `fields` as an object of the type `kind`.
    pub fn event(self, kind: &str, fields: &impl Serialize) {
        if let Ok(text) = serde_json::to_string(&Event { kind, fields }) {
            self.print(&text);
        }
    }

    /// A line beside the result, for people.
    pub fn say(self, text: &str) {
        if !self.json {
            let _ = writeln!(io::stderr(), "{text}");
        }
    }

    /// The end of a command that did not do what it was asked to.
    pub fn failure(self, failure: &Failure) {
        if !self.json {
            let _ = writeln!(io::stderr(), "{failure}");
            return;
        }
        let error = match &failure.error {
            Some(Error::Api(error)) => json!(error),
            _ => {
                let retryable = failure.exit == crate::exit::Exit::Unavailable;
                json!({"code": Value::Null, "message": failure.message, "retryable": retryable})
            }
        };
        self.event(
            "error",
            &json!({"error": error, "exit": failure.exit.number(), "help": failure.remedy}),
        );
    }

    /// A JSON value: indented for people, on one line for machines.
    pub fn json_value(self, kind: &str, name: &str, value: &JsonText) {
        if self.json {
            self.print(&format!(
                "{{\"type\":\"{kind}\",\"{name}\":{}}}",
                compact(value.as_str())
            ));
        } else {
            self.print(&pretty(value.as_str()));
        }
    }
}

#[derive(Serialize)]
struct Event<'a, T: Serialize> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(flatten)]
    fields: &'a T,
}

/// Whether a person sees stdout.
pub fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whether a person sees stderr.
pub fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Indents JSON by two spaces. Order and numbers stay as they came.
pub fn pretty(json: &str) -> String {
    layout(json, true)
}

/// JSON on one line.
pub fn compact(json: &str) -> String {
    layout(json, false)
}

fn layout(json: &str, indented: bool) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let mut depth = 0_usize;
    let (mut in_string, mut escaped) = (false, false);
    let mut characters = json.chars().filter(|c| !c.is_control()).peekable();
    let line = |out: &mut String, depth: usize| {
        if indented {
            out.push('\n');
            out.extend(std::iter::repeat_n("  ", depth));
        }
    };
    while let Some(c) = characters.next() {
        if in_string {
            out.push(c);
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
            continue;
        }
        match c {
            ' ' => {}
            '"' => {
                in_string = true;
                out.push(c);
            }
            '{' | '[' => {
                out.push(c);
                while characters.next_if_eq(&' ').is_some() {}
                if let Some(end) = characters.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(end);
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                line(&mut out, depth);
            }
            ':' => out.push_str(if indented { ": " } else { ":" }),
            c => out.push(c),
        }
    }
    out
}

/// Text that someone else wrote, fit for a terminal: no control characters, so that it can change nothing there.
pub fn tame(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_indented_and_nothing_of_it_changes() {
        let json = "{\"b\":[1.10,{}, [ ]],\n\t\"a\":\"x, {\\\"y\\\": [1]} \\\\\",\"n\":12345678901234567890123}";
        let indented = pretty(json);
        assert_eq!(
            indented,
            "{\n  \"b\": [\n    1.10,\n    {},\n    []\n  ],\n  \"a\": \"x, {\\\"y\\\": [1]} \\\\\",\n  \"n\": 12345678901234567890123\n}"
        );
        let expected: Value = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&indented).unwrap(), expected);
        assert_eq!(serde_json::from_str::<Value>(&compact(json)).unwrap(), expected);
        assert!(!compact(json).contains('\n'));
    }
}
