//! `#[rule]` and `#[enricher]`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{Error, Ident, ItemFn, Result, ReturnType, Token, parse::Parser, punctuated::Punctuated};

pub fn rule(arguments: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let words = words(arguments, &["columns", "reused"])?;
    let function = function(item, "a rule is a function: `fn(row, settings, found)`")?;
    if let ReturnType::Type(_, ty) = &function.sig.output {
        return Err(Error::new_spanned(ty, "a rule returns nothing: it pushes what it finds"));
    }
    let is_whole = words.iter().any(|word| word == "columns");
    let shape = match (is_whole, function.sig.inputs.len()) {
        (false, 3) => quote!(Rows<_, _, _>),
        (false, 2) => quote!(BareRows<_, _>),
        (true, 3) => quote!(Whole<_, _, _>),
        (true, 2) => quote!(BareWhole<_, _>),
        _ => {
            let message =
                "a rule takes a row, its settings if it has any, and what it found: `fn(row, settings, found)`";
            return Err(Error::new_spanned(&function.sig, message));
        }
    };
    Ok(export(
        &function,
        &words,
        &Kind {
            plugin: quote!(Rule),
            call: quote!(check),
            configure: quote!(configure_rule),
            run: quote!(check),
            shape,
            guest: quote!(RulePlugin),
            constant: quote!(RULE),
            export: quote!(export_rule),
            world: quote!(rule_world),
            cases: quote!(rule),
        },
    ))
}

pub fn enricher(arguments: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let words = words(arguments, &["reused"])?;
    let function = function(item, "an enricher is a function: `fn(row, settings) -> Added`")?;
    if matches!(function.sig.output, ReturnType::Default) {
        let message = "an enricher returns what it adds: a struct with `#[derive(Columns)]`, or a `Vec` of it";
        return Err(Error::new_spanned(&function.sig, message));
    }
    let shape = match function.sig.inputs.len() {
        2 => quote!(Adds<_, _, _>),
        1 => quote!(BareAdds<_, _>),
        _ => {
            let message = "an enricher takes a row, and its settings if it has any: `fn(row, settings) -> Added`";
            return Err(Error::new_spanned(&function.sig, message));
        }
    };
    Ok(export(
        &function,
        &words,
        &Kind {
            plugin: quote!(Enricher),
            call: quote!(enrich),
            configure: quote!(configure_enricher),
            run: quote!(enrich),
            shape,
            guest: quote!(EnricherPlugin),
            constant: quote!(ENRICHER),
            export: quote!(export_enricher),
            world: quote!(enricher_world),
            cases: quote!(enricher),
        },
    ))
}

/// The names in which the two kinds of plugin differ.
struct Kind {
    plugin: TokenStream,
    call: TokenStream,
    configure: TokenStream,
    run: TokenStream,
    shape: TokenStream,
    guest: TokenStream,
    constant: TokenStream,
    export: TokenStream,
    world: TokenStream,
    cases: TokenStream,
}

/// The function as it is; beside it the plugin as a value, its export for wasm, and the test that runs its cases.
fn export(function: &ItemFn, words: &[Ident], kind: &Kind) -> TokenStream {
    let Kind { plugin, call, configure, run, shape, guest, constant, export, world, cases } = kind;
    let name = &function.sig.ident;
    let reused = words.iter().any(|word| word == "reused");
    let test = format_ident!("{name}_cases");
    quote! {
        #function

        #[doc(hidden)]
        #[allow(dead_code)]
        const __SLUICE_ONE_PLUGIN_PER_CRATE: ::sluice::plugin::#plugin = ::sluice::plugin::#plugin {
            configure: |json| {
                let meta = ::sluice::plugin::Meta {
                    name: ::core::env!("CARGO_PKG_NAME"),
                    version: ::core::env!("CARGO_PKG_VERSION"),
                    reused: #reused,
                };
                ::sluice::plugin::#configure::<_, ::sluice::plugin::#shape>(#name, meta, json)
            },
            #call: |state, batch| ::sluice::plugin::#run::<_, ::sluice::plugin::#shape>(#name, state, batch),
        };

        #[cfg(target_family = "wasm")]
        const _: () = {
            struct Plugin;

            impl ::sluice::guest::#guest for Plugin {
                const #constant: ::sluice::plugin::#plugin = __SLUICE_ONE_PLUGIN_PER_CRATE;
            }

            ::sluice::guest::#export!(Plugin with_types_in ::sluice::guest::#world);
        };

        #[cfg(test)]
        #[test]
        fn #test() {
            ::sluice::cases::#cases(&__SLUICE_ONE_PLUGIN_PER_CRATE, ::core::env!("CARGO_MANIFEST_DIR"));
        }
    }
}

fn words(arguments: TokenStream, known: &[&str]) -> Result<Vec<Ident>> {
    let words = Punctuated::<Ident, Token![,]>::parse_terminated.parse2(arguments)?;
    for word in &words {
        if !known.iter().any(|known| word == known) {
            return Err(Error::new(word.span(), format!("expected `{}`", known.join("` or `"))));
        }
    }
    Ok(words.into_iter().collect())
}

fn function(item: TokenStream, what: &str) -> Result<ItemFn> {
    let function: ItemFn = syn::parse2(item).map_err(|error| Error::new(error.span(), what))?;
    let signature = &function.sig;
    if signature.asyncness.is_some() || signature.unsafety.is_some() {
        return Err(Error::new_spanned(signature, "a plugin's function is neither async nor unsafe"));
    }
    Ok(function)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal;

    #[test]
    fn the_shape_follows_the_arguments() {
        let shape = |arguments: TokenStream, item: TokenStream| rule(arguments, item).expect("a rule").to_string();
        assert!(
            shape(
                quote!(),
                quote!(
                    fn a(r: R, s: &S, f: &mut F) {}
                )
            )
            .contains("Rows < _ , _ , _ >")
        );
        assert!(
            shape(
                quote!(),
                quote!(
                    fn a(r: R, f: &mut F) {}
                )
            )
            .contains("BareRows < _ , _ >")
        );
        assert!(
            shape(
                quote!(columns),
                quote!(
                    fn a(r: &R, s: &S, f: &mut F) {}
                )
            )
            .contains("Whole < _ , _ , _ >")
        );
        assert!(
            shape(
                quote!(reused),
                quote!(
                    fn a(r: R, f: &mut F) {}
                )
            )
            .contains("reused : true")
        );
        assert!(
            shape(
                quote!(),
                quote!(
                    fn a(r: R, f: &mut F) {}
                )
            )
            .contains("fn a_cases")
        );
    }

    #[test]
    fn refusals_say_what_to_write() {
        let check = |expanded, expected: &str| assert_eq!(refusal(expanded), expected);
        check(
            rule(
                quote!(),
                quote!(
                    struct A;
                ),
            ),
            "a rule is a function: `fn(row, settings, found)`",
        );
        check(
            rule(
                quote!(fast),
                quote!(
                    fn a() {}
                ),
            ),
            "expected `columns` or `reused`",
        );
        check(
            rule(
                quote!(),
                quote!(
                    fn a(r: R) {}
                ),
            ),
            "a rule takes a row, its settings if it has any, and what it found: `fn(row, settings, found)`",
        );
        check(
            rule(
                quote!(),
                quote!(
                    fn a(r: R, f: &mut F) -> bool {
                        true
                    }
                ),
            ),
            "a rule returns nothing: it pushes what it finds",
        );
        check(
            enricher(
                quote!(),
                quote!(
                    fn a(r: R) {}
                ),
            ),
            "an enricher returns what it adds: a struct with `#[derive(Columns)]`, or a `Vec` of it",
        );
        check(
            rule(
                quote!(),
                quote!(
                    async fn a() {}
                ),
            ),
            "a plugin's function is neither async nor unsafe",
        );
    }
}
