//! Derives `tidegate_cbor`'s `Encode` and `Decode` from a type and its `serde` attributes, so that a type that is also JSON
//! has one description. An attribute that is not known is an error of the compiler that names it.

mod attributes;
mod decode;
mod encode;
mod shape;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Writes the type as `serde` would have `minicbor-serde` write it.
#[proc_macro_derive(Encode, attributes(serde))]
pub fn derive_encode(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    encode::derive(&input)
        .unwrap_or_else(|fault| fault.to_compile_error())
        .into()
}

/// Reads what `Encode` wrote.
#[proc_macro_derive(Decode, attributes(serde))]
pub fn derive_decode(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    decode::derive(&input)
        .unwrap_or_else(|fault| fault.to_compile_error())
        .into()
}
