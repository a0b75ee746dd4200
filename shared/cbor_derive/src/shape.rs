//! A type as both derives see it: its fields with their names and bits, and the tables of names.

use proc_macro2::{Ident, Literal, Span, TokenStream};
use quote::{format_ident, quote};
use syn::spanned::Spanned;
use syn::{Data, DataEnum, DeriveInput, Error, Field, Fields, GenericParam, Generics, Path, Result, Type};

use crate::attributes::{Missing, OfPart, OfType, of_part, of_type};

/// How many fields a type may have: a bit each.
const FIELDS_MAX: usize = 64;

/// What stands before a name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// Nothing: a field, or a variant that holds nothing.
    Nothing,
    /// The head of a map of one entry: a variant that holds something.
    MapOfOne,
}

/// A name as it stands in a table of `tidegate_cbor::names`.
pub fn written(name: &str, before: Before, span: Span) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if before == Before::MapOfOne {
        bytes.push(0xa1);
    }
    match u8::try_from(name.len()) {
        Ok(short @ 0..=23) => bytes.push(0x60 | short),
        Ok(long) => bytes.extend([0x78, long]),
        Err(_) => return Err(Error::new(span, "the name is too long")),
    }
    bytes.extend(name.as_bytes());
    Ok(bytes)
}

/// A table as a literal.
pub fn table(names: &[Vec<u8>]) -> Literal {
    Literal::byte_string(&names.concat())
}

/// A named field.
pub struct Named {
    /// How it is called in the type.
    pub ident: Ident,
    /// Its type.
    pub kind: Type,
    /// Its attributes.
    pub about: OfPart,
    /// As it stands in the table.
    pub written: Vec<u8>,
}

/// The last word of a type's path.
fn last_word(kind: &Type) -> Option<String> {
    match kind {
        Type::Path(path) => path.path.segments.last().map(|last| last.ident.to_string()),
        Type::Group(group) => last_word(&group.elem),
        _ => None,
    }
}

impl Named {
    fn new(field: &Field) -> Result<Self> {
        let about = of_part(&field.attrs)?;
        if !about.aliases.is_empty() {
            return Err(Error::new(field.span(), "`serde(alias)` is known of variants alone"));
        }
        let Some(ident) = field.ident.clone() else {
            return Err(Error::new(field.span(), "a field without a name"));
        };
        let text = ident.to_string();
        let name = about.rename.clone();
        let name = name.unwrap_or_else(|| text.strip_prefix("r#").unwrap_or(&text).to_owned());
        Ok(Self {
            written: written(&name, Before::Nothing, field.span())?,
            ident,
            kind: field.ty.clone(),
            about,
        })
    }

    /// Whether it may not be missing. As with `serde`, an `Option` may.
    pub fn is_required(&self) -> bool {
        self.about.missing.is_none() && last_word(&self.kind).as_deref() != Some("Option")
    }

    /// What it takes where it is missing; `None`: what it was before it was read over.
    pub fn missing(&self) -> Option<TokenStream> {
        const BLANK: [&str; 14] = [
            "Option",
            "Vec",
            "VecDeque",
            "String",
            "SortedMap",
            "SortedSet",
            "BTreeMap",
            "BTreeSet",
            "bool",
            "u8",
            "u16",
            "u32",
            "u64",
            "f64",
        ];
        match &self.about.missing {
            Some(Missing::Function(function)) => Some(quote!(#function())),
            Some(Missing::Default) if last_word(&self.kind).is_none_or(|word| !BLANK.contains(&word.as_str())) => {
                Some(quote!(::core::default::Default::default()))
            }
            _ => None,
        }
    }
}

/// The fields of a struct or a variant.
pub enum Parts {
    /// None at all.
    None,
    /// One without a name: written as what it holds.
    One,
    /// So many without names: a list.
    Several(usize),
    /// With names: a map.
    Named(Vec<Named>),
}

impl Parts {
    fn new(fields: &Fields) -> Result<Self> {
        Ok(match fields {
            Fields::Unit => Self::None,
            Fields::Unnamed(fields) => {
                for field in &fields.unnamed {
                    let about = of_part(&field.attrs)?;
                    if about.missing.is_some() || about.skip_if.is_some() || about.rename.is_some() {
                        return Err(Error::new(field.span(), "a field without a name has no attributes"));
                    }
                }
                match fields.unnamed.len() {
                    1 => Self::One,
                    several => Self::Several(several),
                }
            }
            Fields::Named(fields) => {
                let named = fields.named.iter().map(Named::new).collect::<Result<Vec<_>>>()?;
                if named.len() > FIELDS_MAX {
                    return Err(Error::new(fields.span(), "more fields than there are bits"));
                }
                Self::Named(named)
            }
        })
    }

    /// The names that the fields are bound to in a pattern.
    pub fn bound(&self) -> Vec<Ident> {
        match self {
            Self::None => Vec::new(),
            Self::One => vec![format_ident!("item_0")],
            Self::Several(several) => (0..*several).map(|n| format_ident!("item_{n}")).collect(),
            Self::Named(named) => named.iter().map(|field| field.ident.clone()).collect(),
        }
    }

    /// Around the fields' values, what makes a value of them.
    pub fn braced(&self, inner: &[TokenStream]) -> TokenStream {
        match self {
            Self::None => quote!(),
            Self::One | Self::Several(_) => quote!((#(#inner),*)),
            Self::Named(named) => {
                let idents = named.iter().map(|field| &field.ident);
                quote!({ #(#idents: #inner),* })
            }
        }
    }
}

/// A variant of an enum.
pub struct Variant {
    /// How it is called in the type.
    pub ident: Ident,
    /// What it holds.
    pub parts: Parts,
    /// As it stands in the table.
    pub written: Vec<u8>,
    /// Names that are read too, as they stand in the table.
    pub aliases: Vec<Vec<u8>>,
}

impl Variant {
    /// The pattern that binds its fields.
    pub fn pattern(&self) -> TokenStream {
        let (ident, bound) = (&self.ident, self.parts.bound());
        match &self.parts {
            Parts::None => quote!(Self::#ident),
            Parts::One | Parts::Several(_) => quote!(Self::#ident(#(#bound),*)),
            Parts::Named(_) => quote!(Self::#ident { #(#bound),* }),
        }
    }
}

/// What a type consists of.
pub enum Shape {
    /// Fields.
    Struct(Parts),
    /// Variants.
    Enum(Vec<Variant>),
}

fn variants(data: &DataEnum, of: &OfType) -> Result<Vec<Variant>> {
    let read = data.variants.iter().map(|variant| {
        let about = of_part(&variant.attrs)?;
        if about.missing.is_some() || about.skip_if.is_some() {
            return Err(Error::new(variant.span(), "a variant is always written"));
        }
        let parts = Parts::new(&variant.fields)?;
        let before = match parts {
            Parts::None => Before::Nothing,
            _ => Before::MapOfOne,
        };
        let name = about.rename.clone();
        let name = name.unwrap_or_else(|| of.case.of_variant(&variant.ident.to_string()));
        let aliases = about.aliases.iter().map(|alias| written(alias, before, variant.span()));
        Ok(Variant {
            written: written(&name, before, variant.span())?,
            aliases: aliases.collect::<Result<_>>()?,
            ident: variant.ident.clone(),
            parts,
        })
    });
    read.collect()
}

/// Reads a type.
pub fn read(input: &DeriveInput) -> Result<(OfType, Shape)> {
    let of = of_type(&input.attrs)?;
    let shape = match &input.data {
        Data::Struct(data) => Shape::Struct(Parts::new(&data.fields)?),
        Data::Enum(data) => Shape::Enum(variants(data, &of)?),
        Data::Union(_) => return Err(Error::new(input.span(), "a union cannot be written")),
    };
    Ok((of, shape))
}

/// The type's generics, each of which is `bound`.
pub fn bounded(generics: &Generics, bound: &Path) -> Generics {
    let mut bounded = generics.clone();
    for parameter in &mut bounded.params {
        if let GenericParam::Type(parameter) = parameter {
            parameter.bounds.push(syn::parse_quote!(#bound));
        }
    }
    bounded
}
