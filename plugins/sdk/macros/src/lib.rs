//! The derive and attribute macros of the Sluice SDK; `sluice::prelude` exports them, and their traits say what they promise.
//!
//! Every macro is a function from tokens to tokens in a module of its own, so that its messages are tested as values.

use proc_macro::TokenStream;

mod attributes;
mod codes;
mod columns;
mod plugin;
mod row;
mod settings;

/// Makes a struct a row: one column per field. `#[row("path", optional, setting = "key")]`.
#[proc_macro_derive(Row, attributes(row))]
pub fn row(input: TokenStream) -> TokenStream {
    finish(syn::parse(input).and_then(|input| row::expand(&input)))
}

/// Makes an enum the codes of a rule: one per variant. `#[code(error | warn, reads(field, …))]`.
#[proc_macro_derive(Codes, attributes(code))]
pub fn codes(input: TokenStream) -> TokenStream {
    finish(syn::parse(input).and_then(|input| codes::expand(&input)))
}

/// Makes a struct what an enricher adds: one column per field. `#[column("name", decimal(10, 2))]`.
#[proc_macro_derive(Columns, attributes(column))]
pub fn columns(input: TokenStream) -> TokenStream {
    finish(syn::parse(input).and_then(|input| columns::expand(&input)))
}

/// Serde's `Deserialize` for settings, without a dependency on serde: a key that no field has is refused.
#[proc_macro_derive(Deserialize, attributes(serde))]
pub fn deserialize(input: TokenStream) -> TokenStream {
    finish(syn::parse(input).and_then(|input| settings::expand(&input)))
}

/// Makes a function a rule: `fn(row, settings, found)`, or without settings. `#[rule(columns)]` takes the whole columns by
/// reference instead of a row; `#[rule(reused)]` lets one instance serve many calls.
#[proc_macro_attribute]
pub fn rule(arguments: TokenStream, item: TokenStream) -> TokenStream {
    finish(plugin::rule(arguments.into(), item.into()))
}

/// Makes a function an enricher: `fn(row, settings) -> Added`, or without settings, or `-> Vec<Added>`.
#[proc_macro_attribute]
pub fn enricher(arguments: TokenStream, item: TokenStream) -> TokenStream {
    finish(plugin::enricher(arguments.into(), item.into()))
}

fn finish(expanded: syn::Result<proc_macro2::TokenStream>) -> TokenStream {
    expanded.unwrap_or_else(|error| error.into_compile_error()).into()
}

/// The message with which an expansion fails.
#[cfg(test)]
#[track_caller]
fn refusal(expanded: syn::Result<proc_macro2::TokenStream>) -> String {
    expanded.expect_err("the macro must refuse this").to_string()
}
