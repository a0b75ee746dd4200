//! Code that writes a type.

use proc_macro2::{Literal, TokenStream};
use quote::quote;
use syn::{DeriveInput, Result, parse_quote};

use crate::shape::{Named, Parts, Shape, Variant, bounded, read, table};

/// Predicates that `Encode::is_absent` answers, so that no code is needed for them.
const ABSENT: [&str; 8] = [
    "Option::is_none",
    "Vec::is_empty",
    "VecDeque::is_empty",
    "String::is_empty",
    "SortedMap::is_empty",
    "SortedSet::is_empty",
    "BTreeMap::is_empty",
    "core::ops::Not::not",
];

pub fn derive(input: &DeriveInput) -> Result<TokenStream> {
    let (of, shape) = read(input)?;
    let body = match (&of.into, &shape) {
        (Some(into), _) => quote! {
            let written: #into = ::core::convert::Into::into(::core::clone::Clone::clone(self));
            ::tidegate_cbor::Encode::encode(&written, writer);
        },
        (None, Shape::Struct(parts)) => of_struct(parts),
        (None, Shape::Enum(variants)) => of_enum(variants),
    };
    let ident = &input.ident;
    let generics = bounded(&input.generics, &parse_quote!(::tidegate_cbor::Encode));
    let (of_impl, _, bounds) = generics.split_for_impl();
    let (_, of_type, _) = input.generics.split_for_impl();
    Ok(quote! {
        #[automatically_derived]
        impl #of_impl ::tidegate_cbor::Encode for #ident #of_type #bounds {
            fn encode(&self, writer: &mut ::tidegate_cbor::Writer) {
                #body
            }
        }
    })
}

/// The fields of a map. Each of `values` is a reference.
fn of_fields(fields: &[Named], values: &[TokenStream]) -> TokenStream {
    let written: Vec<_> = fields.iter().map(|field| field.written.clone()).collect();
    let names = table(&written);
    let (mut optional, mut left_out) = (0_u64, Vec::new());
    for (bit, (field, value)) in fields.iter().zip(values).enumerate() {
        let Some(skip_if) = &field.about.skip_if else {
            continue;
        };
        let text = quote!(#skip_if).to_string().replace(' ', "");
        if ABSENT.contains(&text.as_str()) {
            optional |= 1 << bit;
        } else {
            left_out.push(quote!((u64::from(#skip_if(#value)) << #bit)));
        }
    }
    let optional = Literal::u64_suffixed(optional);
    quote! {
        writer.fields(#names, #optional, 0_u64 #(| #left_out)*, &[#(#values),*]);
    }
}

fn of_struct(parts: &Parts) -> TokenStream {
    match parts {
        Parts::None => quote!(writer.array(0);),
        Parts::One => quote!(::tidegate_cbor::Encode::encode(&self.0, writer);),
        Parts::Several(several) => {
            let items = (0..*several).map(syn::Index::from);
            quote!(writer.items(&[#(&self.#items),*]);)
        }
        Parts::Named(fields) => {
            let values: Vec<_> = fields
                .iter()
                .map(|field| {
                    let ident = &field.ident;
                    quote!(&self.#ident)
                })
                .collect();
            of_fields(fields, &values)
        }
    }
}

fn of_enum(variants: &[Variant]) -> TokenStream {
    // Of an enum that holds nothing, the name alone is looked up.
    if variants.iter().all(|variant| matches!(variant.parts, Parts::None)) {
        let arms = variants.iter().map(|variant| {
            let pattern = variant.pattern();
            let written = Literal::byte_string(&variant.written);
            quote!(#pattern => #written,)
        });
        return quote! {
            let name: &[u8] = match self { #(#arms)* };
            writer.raw(name);
        };
    }
    let arms = variants.iter().map(|variant| {
        let pattern = variant.pattern();
        let written = Literal::byte_string(&variant.written);
        let bound = variant.parts.bound();
        let values: Vec<_> = bound.iter().map(|bound| quote!(#bound)).collect();
        let held = match &variant.parts {
            Parts::None => quote!(),
            Parts::One => quote!(#(::tidegate_cbor::Encode::encode(#bound, writer);)*),
            Parts::Several(_) => quote!(writer.items(&[#(#bound),*]);),
            Parts::Named(fields) => of_fields(fields, &values),
        };
        quote!(#pattern => { writer.raw(#written); #held })
    });
    quote!(match self { #(#arms)* })
}
