//! `#[derive(Columns)]`.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{DeriveInput, Error, Field, Ident, LitInt, LitStr, Result, Token, parenthesized, punctuated::Punctuated};

use crate::attributes::{fields, lifetime};

pub fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let fields = fields(input, "what an enricher adds")?;
    let of_added = lifetime(input)?.map(|lifetime| quote!(<#lifetime>));
    let added = &input.ident;
    let produced = fields.clone().map(produced).collect::<Result<Vec<_>>>()?;
    let names: Vec<_> = fields.clone().map(|field| &field.ident).collect();
    let puts: Vec<_> = fields
        .map(|field| {
            let ty = &field.ty;
            quote_spanned!(ty.span()=> <#ty as ::sluice::columns::Put>)
        })
        .collect();
    let indexes: Vec<_> = (0..names.len()).map(syn::Index::from).collect();
    Ok(quote! {
        #[automatically_derived]
        impl #of_added ::sluice::columns::Columns for #added #of_added {
            type Builders = (#(#puts::Builder,)*);
            const PRODUCES: &'static [::sluice::columns::Produced] = &[#(#produced),*];

            fn push(self, builders: &mut Self::Builders) {
                #(#puts::put(self.#names, &mut builders.#indexes);)*
            }

            fn finish(
                builders: Self::Builders,
            ) -> ::core::result::Result<::std::vec::Vec<::sluice::batch::Column>, ::sluice::batch::PluginError> {
                let produces = <Self as ::sluice::columns::Columns>::PRODUCES;
                ::core::result::Result::Ok(::std::vec![
                    #(::sluice::columns::Builder::finish(builders.#indexes, &produces[#indexes])?),*
                ])
            }
        }

        #[automatically_derived]
        impl #of_added ::sluice::plugin::Answer for #added #of_added {
            type Columns = Self;
            const ONE_TO_MANY: ::core::primitive::bool = false;

            fn push(self, builders: &mut <Self as ::sluice::columns::Columns>::Builders) -> ::core::primitive::usize {
                ::sluice::columns::Columns::push(self, builders);
                1
            }
        }
    })
}

/// The column that a field adds.
fn produced(field: &Field) -> Result<TokenStream> {
    let mut name = field.ident.as_ref().map(|ident| ident.unraw().to_string()).unwrap_or_default();
    let (mut precision, mut scale) = (0u8, 0i8);
    for attribute in field.attrs.iter().filter(|attribute| attribute.path().is_ident("column")) {
        for argument in attribute.parse_args_with(Punctuated::<Argument, Token![,]>::parse_terminated)? {
            match argument {
                Argument::Name(text) => name = text.value(),
                Argument::Decimal(digits, behind) => (precision, scale) = (digits, behind),
            }
        }
    }
    let ty = &field.ty;
    let text = quote!(#ty).to_string();
    let is_decimal = text.split(|c: char| !c.is_alphanumeric()).any(|word| word == "Decimal");
    if is_decimal && precision == 0 {
        return Err(Error::new_spanned(ty, "say how many digits the decimal has: `#[column(decimal(10, 2))]`"));
    }
    Ok(quote! {
        ::sluice::columns::Produced {
            name: #name,
            ty: <#ty as ::sluice::columns::Put>::TYPE,
            precision: #precision,
            scale: #scale,
        }
    })
}

enum Argument {
    Name(LitStr),
    Decimal(u8, i8),
}

impl syn::parse::Parse for Argument {
    fn parse(input: syn::parse::ParseStream<'_>) -> Result<Self> {
        if input.peek(LitStr) {
            return input.parse().map(Argument::Name);
        }
        let word: Ident = input.parse()?;
        if word != "decimal" {
            return Err(Error::new(word.span(), "expected a name in quotes or `decimal(digits, behind the point)`"));
        }
        let digits;
        parenthesized!(digits in input);
        let precision: u8 = digits.parse::<LitInt>()?.base10_parse()?;
        digits.parse::<Token![,]>()?;
        let scale: i8 = digits.parse::<LitInt>()?.base10_parse()?;
        if !(1..=38).contains(&precision) || !(0..=precision as i8).contains(&scale) {
            return Err(Error::new(word.span(), "a decimal has 1 to 38 digits, not more of them behind the point"));
        }
        Ok(Argument::Decimal(precision, scale))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal;

    fn derive(input: TokenStream) -> Result<TokenStream> {
        expand(&syn::parse2(input)?)
    }

    #[test]
    fn a_field_is_a_column() {
        let expanded = derive(quote! {
            struct Added {
                #[column("browser_engine")]
                engine: Option<&'static str>,
                #[column(decimal(10, 2))]
                price: Option<Decimal>,
            }
        });
        let text = expanded.expect("good columns").to_string();
        assert!(text.contains(r#"name : "browser_engine""#), "{text}");
        assert!(text.contains("precision : 10u8 , scale : 2i8"), "{text}");
    }

    #[test]
    fn refusals_say_what_to_write() {
        let check = |input: TokenStream, expected: &str| assert_eq!(refusal(derive(input)), expected);
        check(
            quote!(
                struct A {
                    a: Option<Decimal>,
                }
            ),
            "say how many digits the decimal has: `#[column(decimal(10, 2))]`",
        );
        check(
            quote!(
                struct A {
                    #[column(decimal(39, 2))]
                    a: Decimal,
                }
            ),
            "a decimal has 1 to 38 digits, not more of them behind the point",
        );
        check(
            quote!(
                struct A {
                    #[column(name = "b")]
                    a: i32,
                }
            ),
            "expected a name in quotes or `decimal(digits, behind the point)`",
        );
        check(
            quote!(
                struct A();
            ),
            "what an enricher adds has named fields, one for each column",
        );
    }
}
