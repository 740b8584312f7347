//! `#[derive(Codes)]`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{Data, DeriveInput, Error, Fields, Ident, Result, Token, Variant, parenthesized, punctuated::Punctuated};

use crate::attributes::doc;

/// What the contract allows.
const LONGEST: usize = 64;

pub fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let Data::Enum(data) = &input.data else {
        return Err(Error::new_spanned(&input.ident, "codes are an enum with a variant for each reason to object"));
    };
    if data.variants.is_empty() {
        return Err(Error::new_spanned(&input.ident, "a rule needs at least one code"));
    }
    if !input.generics.params.is_empty() {
        return Err(Error::new_spanned(&input.generics, "codes have no parameters"));
    }
    let codes = data.variants.iter().map(code).collect::<Result<Vec<_>>>()?;
    let codes_of = &input.ident;
    let variants = data.variants.iter().map(|variant| &variant.ident);
    let indexes = 0..u16::try_from(codes.len()).map_err(|_| Error::new_spanned(codes_of, "too many codes"))?;
    Ok(quote! {
        #[automatically_derived]
        impl ::core::clone::Clone for #codes_of {
            fn clone(&self) -> Self {
                *self
            }
        }

        #[automatically_derived]
        impl ::core::marker::Copy for #codes_of {}

        #[automatically_derived]
        impl ::sluice::codes::Codes for #codes_of {
            const CODES: &'static [::sluice::codes::Code] = &[#(#codes),*];

            fn index(self) -> ::core::primitive::u16 {
                match self {
                    #(Self::#variants => #indexes,)*
                }
            }
        }
    })
}

fn code(variant: &Variant) -> Result<TokenStream> {
    if !matches!(variant.fields, Fields::Unit) {
        return Err(Error::new_spanned(
            variant,
            "a code carries no fields; what differs from row to row is its detail",
        ));
    }
    let help = doc(&variant.attrs);
    if help.is_empty() {
        let message = "say in a doc comment what is wrong with the row: it is the help that people read";
        return Err(Error::new_spanned(variant, message));
    }
    let (mut severity, mut reads) = (format_ident!("Error"), Vec::new());
    for attribute in variant.attrs.iter().filter(|attribute| attribute.path().is_ident("code")) {
        for argument in attribute.parse_args_with(Punctuated::<Argument, Token![,]>::parse_terminated)? {
            match argument {
                Argument::Severity(name) => severity = format_ident!("{name}", span = proc_macro2::Span::call_site()),
                Argument::Reads(fields) => reads.extend(fields.iter().map(ToString::to_string)),
            }
        }
    }
    let code = kebab(&variant.ident.to_string());
    if code.len() > LONGEST {
        return Err(Error::new_spanned(&variant.ident, format!("`{code}` has more than {LONGEST} characters")));
    }
    Ok(quote! {
        ::sluice::codes::Code {
            code: #code,
            severity: ::sluice::codes::Severity::#severity,
            help: #help,
            reads: &[#(#reads),*],
        }
    })
}

enum Argument {
    Severity(&'static str),
    Reads(Vec<Ident>),
}

impl syn::parse::Parse for Argument {
    fn parse(input: syn::parse::ParseStream<'_>) -> Result<Self> {
        let word: Ident = input.parse()?;
        match word.to_string().as_str() {
            "error" => Ok(Argument::Severity("Error")),
            "warn" => Ok(Argument::Severity("Warn")),
            "reads" => {
                let fields;
                parenthesized!(fields in input);
                Ok(Argument::Reads(Punctuated::<Ident, Token![,]>::parse_terminated(&fields)?.into_iter().collect()))
            }
            _ => Err(Error::new(word.span(), "expected `error`, `warn` or `reads(field, …)`")),
        }
    }
}

/// `LoginExposed` → `login-exposed`.
fn kebab(name: &str) -> String {
    let mut kebab = String::new();
    let mut before = None;
    for letter in name.chars() {
        let is_word = letter.is_uppercase() && before.is_some_and(|before: char| !before.is_uppercase());
        if is_word || letter == '_' {
            kebab.push('-');
        }
        if letter != '_' {
            kebab.extend(letter.to_lowercase());
        }
        before = Some(letter);
    }
    kebab
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal;

    fn derive(input: TokenStream) -> Result<TokenStream> {
        expand(&syn::parse2(input)?)
    }

    #[test]
    fn names_become_kebab_case() {
        for (name, expected) in
            [("LoginExposed", "login-exposed"), ("Late", "late"), ("NoURL", "no-url"), ("Top10", "top10")]
        {
            assert_eq!(kebab(name), expected);
        }
    }

    #[test]
    fn a_variant_is_a_code() {
        let expanded = derive(quote! {
            enum Consent {
                /// a private visit
                /// carries a login
                #[code(warn, reads(keep_private, login))]
                LoginExposed,
            }
        });
        let text = expanded.expect("good codes").to_string();
        assert!(text.contains(r#"code : "login-exposed""#), "{text}");
        assert!(text.contains(r#"help : "a private visit carries a login""#), "{text}");
        assert!(text.contains("Severity :: Warn"), "{text}");
        assert!(text.contains(r#"reads : & ["keep_private" , "login"]"#), "{text}");
    }

    #[test]
    fn refusals_say_what_to_write() {
        let check = |input: TokenStream, expected: &str| assert_eq!(refusal(derive(input)), expected);
        check(
            quote!(
                struct A;
            ),
            "codes are an enum with a variant for each reason to object",
        );
        check(
            quote!(
                enum A {}
            ),
            "a rule needs at least one code",
        );
        check(
            quote!(
                enum A {
                    B,
                }
            ),
            "say in a doc comment what is wrong with the row: it is the help that people read",
        );
        check(
            quote!(
                enum A {
                    #[doc = "b"]
                    B(u8),
                }
            ),
            "a code carries no fields; what differs from row to row is its detail",
        );
        check(
            quote!(
                enum A {
                    #[doc = "b"]
                    #[code(fatal)]
                    B,
                }
            ),
            "expected `error`, `warn` or `reads(field, …)`",
        );
    }
}
