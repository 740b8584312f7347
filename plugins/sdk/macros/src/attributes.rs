//! What the derives have in common: fields, doc comments, lifetimes.

use proc_macro2::Span;
use syn::{
    Attribute, Data, DeriveInput, Error, Expr, ExprLit, Field, Fields, GenericParam, Lifetime, Lit, Meta, Result,
};

/// The named fields of a struct, at least one.
pub fn fields<'i>(input: &'i DeriveInput, what: &str) -> Result<impl Iterator<Item = &'i Field> + Clone> {
    match &input.data {
        Data::Struct(data) => match &data.fields {
            Fields::Named(fields) if !fields.named.is_empty() => Ok(fields.named.iter()),
            Fields::Named(_) | Fields::Unnamed(_) | Fields::Unit => {
                Err(Error::new_spanned(&input.ident, format!("{what} has named fields, one for each column")))
            }
        },
        Data::Enum(_) | Data::Union(_) => {
            Err(Error::new_spanned(&input.ident, format!("{what} is a struct with a field for each column")))
        }
    }
}

/// The lifetime of the struct, if it has one. Types and constants as parameters are refused.
pub fn lifetime(input: &DeriveInput) -> Result<Option<Lifetime>> {
    let mut found = None;
    for parameter in &input.generics.params {
        match parameter {
            GenericParam::Lifetime(lifetime) if found.is_none() => found = Some(lifetime.lifetime.clone()),
            GenericParam::Lifetime(_) | GenericParam::Type(_) | GenericParam::Const(_) => {
                return Err(Error::new_spanned(
                    parameter,
                    "one lifetime is the only parameter that this struct may have",
                ));
            }
        }
    }
    Ok(found)
}

/// The doc comment as one line.
pub fn doc(attributes: &[Attribute]) -> String {
    let line = |attribute: &Attribute| match &attribute.meta {
        Meta::NameValue(meta) if meta.path.is_ident("doc") => match &meta.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value().trim().to_owned()),
            _ => None,
        },
        _ => None,
    };
    attributes.iter().filter_map(line).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The lifetime that generated code uses where the struct has none.
pub fn batch_lifetime() -> Lifetime {
    Lifetime::new("'batch", Span::call_site())
}
