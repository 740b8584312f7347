//! `#[derive(Row)]`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{DeriveInput, Error, Field, LitStr, Result, Token, Type, punctuated::Punctuated};

use crate::attributes::{batch_lifetime, fields, lifetime};

pub fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let fields = fields(input, "a row")?;
    let own = lifetime(input)?;
    let batch = own.clone().unwrap_or_else(batch_lifetime);
    let row = &input.ident;
    let of_row = own.map(|lifetime| quote!(<#lifetime>));
    let view = format_ident!("{row}Columns");
    let vis = &input.vis;
    let doc = format!("The columns of [`{row}`], whole.");

    let mut requests = Vec::new();
    for field in fields.clone() {
        refuse_bare(field)?;
        requests.push(request(field, &batch)?);
    }
    let names: Vec<_> = fields.clone().map(|field| &field.ident).collect();
    let types: Vec<_> = fields.clone().map(|field| &field.ty).collect();
    let visibilities = fields.clone().map(|field| &field.vis);
    let cells: Vec<_> =
        types.iter().map(|ty| quote_spanned!(ty.span()=> <#ty as ::sluice::row::Cell<#batch>>)).collect();
    let indexes = 0..cells.len();

    Ok(quote! {
        #[doc = #doc]
        #[allow(dead_code)]
        #vis struct #view<#batch> {
            #(#[allow(missing_docs)] #visibilities #names: #cells::Column,)*
            __count: ::core::primitive::usize,
        }

        #[allow(dead_code)]
        impl<#batch> #view<#batch> {
            /// The indexes of all rows.
            #vis fn rows(&self) -> ::core::ops::Range<::core::primitive::usize> {
                0..self.__count
            }
        }

        #[automatically_derived]
        impl<#batch> ::sluice::row::View<#batch> for #view<#batch> {
            const COLUMNS: &'static [::sluice::batch::Request] = &[#(#requests),*];

            fn open(batch: &#batch ::sluice::batch::Batch) -> ::core::result::Result<Self, ::sluice::batch::PluginError> {
                let columns = <Self as ::sluice::row::View<#batch>>::COLUMNS;
                ::core::result::Result::Ok(Self {
                    #(#names: ::sluice::row::open_column::<#types>(batch, #indexes, &columns[#indexes])?,)*
                    __count: batch.rows(),
                })
            }

            #[inline(always)]
            fn count(&self) -> ::core::primitive::usize {
                self.__count
            }
        }

        #[automatically_derived]
        impl<#batch> ::sluice::row::Row<#batch> for #row #of_row {
            type View = #view<#batch>;

            #[inline(always)]
            fn read(view: &Self::View, row: ::core::primitive::usize) -> Self {
                Self { #(#names: #cells::read(&view.#names, row),)* }
            }
        }
    })
}

/// The column that a field asks for.
fn request(field: &Field, batch: &syn::Lifetime) -> Result<TokenStream> {
    let name = field.ident.as_ref().map(|ident| ident.unraw().to_string()).unwrap_or_default();
    let (mut path, mut required, mut setting) = (name.clone(), true, quote!(::core::option::Option::None));
    for attribute in field.attrs.iter().filter(|attribute| attribute.path().is_ident("row")) {
        for argument in attribute.parse_args_with(Punctuated::<Argument, Token![,]>::parse_terminated)? {
            match argument {
                Argument::Path(text) => path = checked_path(&text)?,
                Argument::Optional => required = false,
                Argument::Setting(key) => setting = quote!(::core::option::Option::Some(#key)),
            }
        }
    }
    let ty = &field.ty;
    Ok(quote! {
        ::sluice::batch::Request {
            field: #name,
            path: #path,
            ty: <#ty as ::sluice::row::Cell<#batch>>::TYPE,
            required: #required,
            setting: #setting,
        }
    })
}

enum Argument {
    Path(LitStr),
    Optional,
    Setting(LitStr),
}

impl syn::parse::Parse for Argument {
    fn parse(input: syn::parse::ParseStream<'_>) -> Result<Self> {
        if input.peek(LitStr) {
            return input.parse().map(Argument::Path);
        }
        let word: syn::Ident = input.parse()?;
        match word.to_string().as_str() {
            "optional" => Ok(Argument::Optional),
            "setting" => {
                input.parse::<Token![=]>()?;
                input.parse().map(Argument::Setting)
            }
            _ => Err(Error::new(word.span(), "expected a path in quotes, `optional` or `setting = \"key\"`")),
        }
    }
}

fn checked_path(text: &LitStr) -> Result<String> {
    let path = text.value();
    if path.split('.').any(str::is_empty) {
        return Err(Error::new_spanned(text, format!("`{path}` is not a path like \"context.user.login\"")));
    }
    Ok(path)
}

/// A value may always be null: say so where the type is known to be bare, before the trait does in longer words.
fn refuse_bare(field: &Field) -> Result<()> {
    const BARE: [&str; 8] = ["bool", "i32", "i64", "f64", "Date32", "Timestamp", "Decimal", "Json"];
    let is_bare = match &field.ty {
        Type::Reference(_) => true,
        Type::Path(path) => path.path.segments.last().is_some_and(|last| BARE.iter().any(|bare| last.ident == bare)),
        _ => false,
    };
    if is_bare {
        let (name, ty) = (&field.ident, &field.ty);
        let name = quote!(#name).to_string();
        let ty = quote!(#ty).to_string().replace("& ", "&").replace(" <", "<").replace("< ", "<").replace(" >", ">");
        return Err(Error::new_spanned(&field.ty, format!("`{name}` may be null in a row: write `Option<{ty}>`")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal;
    use quote::ToTokens;

    fn derive(input: TokenStream) -> Result<TokenStream> {
        expand(&syn::parse2(input)?)
    }

    #[test]
    fn a_field_asks_for_its_path() {
        let expanded = derive(quote! {
            struct Visit<'a> {
                #[row("context.user.login", optional)]
                login: Option<&'a str>,
                #[row("event_time", setting = "column")]
                r#at: Option<Timestamp>,
            }
        });
        let text = expanded.expect("a good row").into_token_stream().to_string();
        assert!(text.contains(r#"field : "login" , path : "context.user.login""#), "{text}");
        assert!(text.contains("required : false , setting : :: core :: option :: Option :: None"), "{text}");
        assert!(text.contains(r#"field : "at" , path : "event_time""#), "{text}");
        assert!(text.contains(r#"Option :: Some ("column")"#), "{text}");
    }

    #[test]
    fn refusals_say_what_to_write() {
        let check = |input: TokenStream, expected: &str| assert_eq!(refusal(derive(input)), expected);
        check(
            quote!(
                struct A<'a> {
                    page: &'a str,
                }
            ),
            "`page` may be null in a row: write `Option<&'a str>`",
        );
        check(
            quote!(
                struct A {
                    n: i64,
                }
            ),
            "`n` may be null in a row: write `Option<i64>`",
        );
        check(
            quote!(
                struct A;
            ),
            "a row has named fields, one for each column",
        );
        check(
            quote!(
                enum A {
                    B,
                }
            ),
            "a row is a struct with a field for each column",
        );
        check(
            quote!(
                struct A<T> {
                    a: Option<T>,
                }
            ),
            "one lifetime is the only parameter that this struct may have",
        );
        check(
            quote!(
                struct A {
                    #[row("a..b")]
                    a: Option<i32>,
                }
            ),
            "`a..b` is not a path like \"context.user.login\"",
        );
        check(
            quote!(
                struct A {
                    #[row(path = "a")]
                    a: Option<i32>,
                }
            ),
            "expected a path in quotes, `optional` or `setting = \"key\"`",
        );
    }
}
