//! `#[derive(Deserialize)]` for settings.
//!
//! Serde's own derive names the crate `serde`, which a plugin need not depend on. So the definition is repeated in a scope of
//! its own as a *remote* definition, with the path of the SDK's serde; keys that no field has are refused unless fields
//! are flattened.

use proc_macro2::TokenStream;
use quote::{ToTokens, format_ident, quote};
use syn::{Attribute, Data, DeriveInput, Error, Fields, Result};

pub fn expand(input: &DeriveInput) -> Result<TokenStream> {
    if !input.generics.params.is_empty() {
        let message = "settings own their data: write String for &str, and no parameters";
        return Err(Error::new_spanned(&input.generics, message));
    }
    let mut copy = input.clone();
    let settings = &input.ident;
    let shadow = format_ident!("__{settings}Definition");
    let name = settings.to_string();
    copy.ident = shadow.clone();
    keep_serde(&mut copy.attrs);
    let attributes = |fields: &mut Fields| fields.iter_mut().for_each(|field| keep_serde(&mut field.attrs));
    match &mut copy.data {
        Data::Struct(data) => attributes(&mut data.fields),
        Data::Enum(data) => data.variants.iter_mut().for_each(|variant| {
            keep_serde(&mut variant.attrs);
            attributes(&mut variant.fields);
        }),
        Data::Union(_) => return Err(Error::new_spanned(settings, "settings are a struct or an enum")),
    }
    let is_flexible = copy.to_token_stream().to_string().contains("flatten");
    let says_so = copy.attrs.iter().any(|attribute| attribute.to_token_stream().to_string().contains("deny_unknown"));
    let deny = (!is_flexible && !says_so).then(|| quote!(#[serde(deny_unknown_fields)]));
    Ok(quote! {
        const _: () = {
            #[derive(::sluice::serde::Deserialize)]
            #[serde(crate = "::sluice::serde", remote = #name)]
            #deny
            #[allow(dead_code)]
            #copy

            #[automatically_derived]
            impl<'de> ::sluice::serde::Deserialize<'de> for #settings {
                fn deserialize<D: ::sluice::serde::Deserializer<'de>>(
                    deserializer: D,
                ) -> ::core::result::Result<Self, D::Error> {
                    #shadow::deserialize(deserializer)
                }
            }
        };
    })
}

/// Serde's attributes and conditions; others (a default variant, documentation) belong to the original alone.
fn keep_serde(attributes: &mut Vec<Attribute>) {
    attributes.retain(|attribute| attribute.path().is_ident("serde") || attribute.path().is_ident("cfg"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal;

    fn derive(input: TokenStream) -> Result<TokenStream> {
        expand(&syn::parse2(input)?)
    }

    #[test]
    fn unknown_keys_are_refused_unless_flattened() {
        let text = |input| derive(input).expect("good settings").to_string();
        let plain = text(quote!(
            struct S {
                #[serde(default)]
                #[doc = "d"]
                allow: Vec<String>,
            }
        ));
        assert!(plain.contains("deny_unknown_fields") && plain.contains("serde (default)"), "{plain}");
        assert!(!plain.contains("doc"), "{plain}");
        let flat = text(quote!(
            struct S {
                #[serde(flatten)]
                all: Map,
            }
        ));
        assert!(!flat.contains("deny_unknown_fields"), "{flat}");
    }

    #[test]
    fn refusals_say_what_to_write() {
        assert_eq!(
            refusal(derive(quote!(
                struct S<'a> {
                    a: &'a str,
                }
            ))),
            "settings own their data: write String for &str, and no parameters"
        );
    }
}
