//! The `serde` attributes that mean something in CBOR.

use syn::meta::ParseNestedMeta;
use syn::{Attribute, Expr, ExprPath, Lit, Result, Type};

/// How the names of variants are written.
#[derive(Clone, Copy, Default)]
pub enum Case {
    /// As in the type.
    #[default]
    Same,
    /// `half_open`.
    Snake,
    /// `halfopen`.
    Lower,
}

impl Case {
    /// A variant's name.
    pub fn of_variant(self, name: &str) -> String {
        match self {
            Self::Same => name.into(),
            Self::Lower => name.to_lowercase(),
            Self::Snake => {
                let mut written = String::new();
                for letter in name.chars() {
                    if letter.is_uppercase() && !written.is_empty() {
                        written.push('_');
                    }
                    written.extend(letter.to_lowercase());
                }
                written
            }
        }
    }
}

/// What stands on a type.
#[derive(Default)]
pub struct OfType {
    /// How variants are written.
    pub case: Case,
    /// The type that is written instead.
    pub into: Option<Type>,
    /// The type that is read instead.
    pub from: Option<Type>,
}

/// What a missing field takes.
pub enum Missing {
    /// `Default::default()`.
    Default,
    /// What this function gives.
    Function(ExprPath),
}

/// What stands on a field or a variant.
#[derive(Default)]
pub struct OfPart {
    /// Another name.
    pub rename: Option<String>,
    /// Names that are read too.
    pub aliases: Vec<String>,
    /// What it takes where it is missing.
    pub missing: Option<Missing>,
    /// Whether it is left out.
    pub skip_if: Option<ExprPath>,
}

fn each(attributes: &[Attribute], mut read: impl FnMut(&ParseNestedMeta<'_>, &str) -> Result<()>) -> Result<()> {
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("serde")) {
        attribute.parse_nested_meta(|meta| {
            let name = meta.path.get_ident().map(ToString::to_string).unwrap_or_default();
            read(&meta, &name)
        })?;
    }
    Ok(())
}

fn unknown(meta: &ParseNestedMeta<'_>, name: &str) -> syn::Error {
    meta.error(format!(
        "`serde({name})` has no meaning in tidegate-cbor, or is not written yet"
    ))
}

/// A text, which may have come through a macro.
fn text(meta: &ParseNestedMeta<'_>) -> Result<String> {
    let mut value: Expr = meta.value()?.parse()?;
    while let Expr::Group(group) = value {
        value = *group.expr;
    }
    match value {
        Expr::Lit(literal) => match literal.lit {
            Lit::Str(text) => Ok(text.value()),
            _ => Err(meta.error("expected a text")),
        },
        _ => Err(meta.error("expected a text")),
    }
}

fn parsed<T: syn::parse::Parse>(meta: &ParseNestedMeta<'_>) -> Result<T> {
    syn::parse_str(&text(meta)?)
}

pub fn of_type(attributes: &[Attribute]) -> Result<OfType> {
    let mut read = OfType::default();
    each(attributes, |meta, name| {
        match name {
            "rename_all" => {
                read.case = match text(meta)?.as_str() {
                    "snake_case" => Case::Snake,
                    "lowercase" => Case::Lower,
                    other => return Err(unknown(meta, &format!("rename_all = \"{other}\""))),
                }
            }
            // A type of one unnamed field is written as that field anyway.
            "transparent" => {}
            "into" => read.into = Some(parsed(meta)?),
            "from" => read.from = Some(parsed(meta)?),
            _ => return Err(unknown(meta, name)),
        }
        Ok(())
    })?;
    Ok(read)
}

pub fn of_part(attributes: &[Attribute]) -> Result<OfPart> {
    let mut read = OfPart::default();
    each(attributes, |meta, name| {
        match name {
            "rename" => read.rename = Some(text(meta)?),
            "alias" => read.aliases.push(text(meta)?),
            "default" if meta.input.peek(syn::Token![=]) => read.missing = Some(Missing::Function(parsed(meta)?)),
            "default" => read.missing = Some(Missing::Default),
            "skip_serializing_if" => read.skip_if = Some(parsed(meta)?),
            _ => return Err(unknown(meta, name)),
        }
        Ok(())
    })?;
    Ok(read)
}
