//! Code that reads a type.

use proc_macro2::{Literal, TokenStream};
use quote::quote;
use syn::{DeriveInput, Error, Result, parse_quote};

use crate::shape::{Named, Parts, Shape, Variant, bounded, read, table};

pub fn derive(input: &DeriveInput) -> Result<TokenStream> {
    let (of, shape) = read(input)?;
    let (blank, body) = match (&of.from, &shape) {
        (Some(from), _) => (
            quote!(::core::convert::From::from(<#from as ::tidegate_cbor::Decode>::blank())),
            quote! {
                let mut written = <#from as ::tidegate_cbor::Decode>::blank();
                ::tidegate_cbor::Decode::decode(&mut written, reader);
                *self = ::core::convert::From::from(written);
            },
        ),
        (None, Shape::Struct(parts)) => of_struct(parts),
        (None, Shape::Enum(variants)) => of_enum(input, variants)?,
    };
    let ident = &input.ident;
    let generics = bounded(&input.generics, &parse_quote!(::tidegate_cbor::Decode));
    let (of_impl, _, bounds) = generics.split_for_impl();
    let (_, of_type, _) = input.generics.split_for_impl();
    Ok(quote! {
        #[automatically_derived]
        impl #of_impl ::tidegate_cbor::Decode for #ident #of_type #bounds {
            fn blank() -> Self {
                #blank
            }

            fn decode(&mut self, reader: &mut ::tidegate_cbor::Reader<'_>) {
                #body
            }
        }
    })
}

fn blank() -> TokenStream {
    quote!(::tidegate_cbor::Decode::blank())
}

/// A blank value behind `path`.
fn blank_of(path: &TokenStream, parts: &Parts) -> TokenStream {
    let inner: Vec<_> = parts.bound().iter().map(|_| blank()).collect();
    let inner = parts.braced(&inner);
    quote!(#path #inner)
}

/// Reads a map over fields. Each of `places` is the field, and each of `references` points to it.
fn of_fields(fields: &[Named], places: &[TokenStream], references: &[TokenStream]) -> TokenStream {
    let written: Vec<_> = fields.iter().map(|field| field.written.clone()).collect();
    let names = table(&written);
    let required = fields.iter().enumerate().filter(|(_, field)| field.is_required());
    let required = Literal::u64_suffixed(required.fold(0, |bits, (bit, _)| bits | 1 << bit));
    let missing: Vec<_> = fields
        .iter()
        .zip(places)
        .enumerate()
        .filter_map(|(bit, (field, place))| {
            let value = field.missing()?;
            let bit = Literal::u64_suffixed(1 << bit);
            Some(quote!(if seen & #bit == 0 { #place = #value; }))
        })
        .collect();
    let read = quote!(reader.fields(#names, #required, &mut [#(#references),*]););
    if missing.is_empty() {
        read
    } else {
        quote!(let seen = #read #(#missing)*)
    }
}

fn of_struct(parts: &Parts) -> (TokenStream, TokenStream) {
    let body = match parts {
        Parts::None => quote!(reader.items(&mut []);),
        Parts::One => quote!(::tidegate_cbor::Decode::decode(&mut self.0, reader);),
        Parts::Several(several) => {
            let items = (0..*several).map(syn::Index::from);
            quote!(reader.items(&mut [#(&mut self.#items),*]);)
        }
        Parts::Named(fields) => {
            let idents = || fields.iter().map(|field| &field.ident);
            let places: Vec<_> = idents().map(|ident| quote!(self.#ident)).collect();
            let references: Vec<_> = idents().map(|ident| quote!(&mut self.#ident)).collect();
            of_fields(fields, &places, &references)
        }
    };
    (blank_of(&quote!(Self), parts), body)
}

fn of_enum(input: &DeriveInput, variants: &[Variant]) -> Result<(TokenStream, TokenStream)> {
    // The blank one is one that holds nothing, where there is such a one.
    let holds_nothing = |variant: &&Variant| matches!(variant.parts, Parts::None);
    let Some(first) = variants.iter().find(holds_nothing).or_else(|| variants.first()) else {
        return Err(Error::new_spanned(input, "an enum without variants cannot be read"));
    };
    let mut written: Vec<_> = variants.iter().map(|variant| variant.written.clone()).collect();
    let mut arms = Vec::new();
    for (index, variant) in variants.iter().enumerate() {
        let mut indices = vec![Literal::usize_suffixed(index)];
        for alias in &variant.aliases {
            indices.push(Literal::usize_suffixed(written.len()));
            written.push(alias.clone());
        }
        let ident = &variant.ident;
        let value = blank_of(&quote!(Self::#ident), &variant.parts);
        arms.push(quote!(#(#indices)|* => #value,));
    }
    let names = table(&written);
    let chosen = quote! {
        *self = match reader.variant(#names) {
            #(#arms)*
            _ => return,
        };
    };
    let first_ident = &first.ident;
    let blank = blank_of(&quote!(Self::#first_ident), &first.parts);
    if variants.iter().all(|variant| holds_nothing(&variant)) {
        return Ok((blank, chosen));
    }
    let held = variants.iter().map(|variant| {
        let pattern = variant.pattern();
        let bound = variant.parts.bound();
        let held = match &variant.parts {
            Parts::None => quote!(),
            Parts::One => quote!(#(::tidegate_cbor::Decode::decode(#bound, reader);)*),
            Parts::Several(_) => quote!(reader.items(&mut [#(#bound),*]);),
            Parts::Named(fields) => {
                let places: Vec<_> = bound.iter().map(|bound| quote!(*#bound)).collect();
                let references: Vec<_> = bound.iter().map(|bound| quote!(#bound)).collect();
                of_fields(fields, &places, &references)
            }
        };
        quote!(#pattern => { #held })
    });
    Ok((blank, quote!(#chosen match self { #(#held)* })))
}
