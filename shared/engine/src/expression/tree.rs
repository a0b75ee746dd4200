//! The tree of an expression, as it is read.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use crate::schedules::Zone;

/// A part of an expression.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Where it stands: bytes of the text from and to.
    pub span: (u32, u32),
    /// The longest way down from here.
    pub height: usize,
    /// What it is.
    pub kind: Kind,
}

impl PartialEq for Node {
    /// Where it stands does not count.
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

/// What a part of an expression is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Literal(Literal),
    Name(Box<str>),
    Field(Box<Node>, Box<str>),
    Has(Box<Node>, Box<str>),
    Index(Box<(Node, Node)>),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
    Not(Box<Node>),
    Negate(Box<Node>),
    /// Terms joined by `&&`.
    All(Vec<Node>),
    /// Terms joined by `||`.
    Any(Vec<Node>),
    /// `test ? then : otherwise`.
    Choose(Box<(Node, Node, Node)>),
    Binary(Operator, Box<(Node, Node)>),
    /// A function; the target of a method comes first.
    Call(Function, Vec<Node>),
    /// A part of a date or duration, in a zone.
    Part(Part, Box<Node>, Option<InZone>),
    Over(Box<Over>),
}

/// A value that stands in the text.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(String),
}

/// A macro over the elements of a list or the keys of a map.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Over {
    pub what: Macro,
    pub range: Node,
    /// What an element is called.
    pub name: Box<str>,
    /// Which elements `map` takes, where it is given three arguments.
    pub filter: Option<Node>,
    pub body: Node,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Macro {
    All,
    Exists,
    ExistsOne,
    Filter,
    Map,
}

impl Macro {
    pub const ALL: [(&'static str, Self); 5] = [
        ("all", Self::All),
        ("exists", Self::Exists),
        ("exists_one", Self::ExistsOne),
        ("filter", Self::Filter),
        ("map", Self::Map),
    ];
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

impl Operator {
    /// Each with how it is written and how strongly it binds. `&&` is 2 and `||` 1.
    pub const ALL: [(&'static str, Self, u8); 12] = [
        ("==", Self::Equal, 3),
        ("!=", Self::NotEqual, 3),
        ("<", Self::Less, 3),
        ("<=", Self::LessOrEqual, 3),
        (">", Self::Greater, 3),
        (">=", Self::GreaterOrEqual, 3),
        ("in", Self::In, 3),
        ("+", Self::Add, 4),
        ("-", Self::Subtract, 4),
        ("*", Self::Multiply, 5),
        ("/", Self::Divide, 5),
        ("%", Self::Remainder, 5),
    ];

    pub fn as_str(self) -> &'static str {
        let found = Self::ALL.iter().find(|(_, operator, _)| *operator == self);
        found.map_or("", |(text, ..)| text)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Size,
    StartsWith,
    EndsWith,
    Contains,
    Bool,
    Int,
    Double,
    Text,
    Timestamp,
    Duration,
    Dyn,
}

impl Function {
    /// Functions, each with one argument.
    pub const GLOBAL: [(&'static str, Self); 8] = [
        ("size", Self::Size),
        ("bool", Self::Bool),
        ("int", Self::Int),
        ("double", Self::Double),
        ("string", Self::Text),
        ("timestamp", Self::Timestamp),
        ("duration", Self::Duration),
        ("dyn", Self::Dyn),
    ];
    /// Methods, each with so many arguments.
    pub const METHODS: [(&'static str, Self, usize); 4] = [
        ("size", Self::Size, 0),
        ("startsWith", Self::StartsWith, 1),
        ("endsWith", Self::EndsWith, 1),
        ("contains", Self::Contains, 1),
    ];
}

/// A part of a date, or of a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Year,
    Month,
    DayOfMonth,
    Date,
    DayOfWeek,
    Hours,
    Minutes,
    Seconds,
    Milliseconds,
}

impl Part {
    pub const ALL: [(&'static str, Self); 9] = [
        ("getFullYear", Self::Year),
        ("getMonth", Self::Month),
        ("getDayOfMonth", Self::DayOfMonth),
        ("getDate", Self::Date),
        ("getDayOfWeek", Self::DayOfWeek),
        ("getHours", Self::Hours),
        ("getMinutes", Self::Minutes),
        ("getSeconds", Self::Seconds),
        ("getMilliseconds", Self::Milliseconds),
    ];

    /// Whether a duration has it.
    pub fn of_duration(self) -> bool {
        matches!(self, Self::Hours | Self::Minutes | Self::Seconds | Self::Milliseconds)
    }
}

/// A zone that an expression names.
#[derive(Debug, Clone)]
pub(super) struct InZone(pub Zone);

impl PartialEq for InZone {
    fn eq(&self, other: &Self) -> bool {
        self.0.name() == other.0.name()
    }
}

impl Kind {
    /// Calls `visit` with each part of this one.
    pub fn parts<'n>(&'n self, visit: &mut dyn FnMut(&'n Node)) {
        match self {
            Self::Literal(_) | Self::Name(_) => {}
            Self::Field(of, _) | Self::Has(of, _) | Self::Not(of) | Self::Negate(of) | Self::Part(_, of, _) => {
                visit(of);
            }
            Self::Index(pair) | Self::Binary(_, pair) => {
                visit(&pair.0);
                visit(&pair.1);
            }
            Self::List(items) | Self::All(items) | Self::Any(items) | Self::Call(_, items) => {
                items.iter().for_each(visit);
            }
            Self::Map(entries) => entries.iter().for_each(|(key, value)| {
                visit(key);
                visit(value);
            }),
            Self::Choose(three) => {
                visit(&three.0);
                visit(&three.1);
                visit(&three.2);
            }
            Self::Over(over) => {
                visit(&over.range);
                over.filter.iter().for_each(&mut *visit);
                visit(&over.body);
            }
        }
    }
}
