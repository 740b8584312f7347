//! From what was seen to what is declared: the narrowest type that holds every value, or the reason why none does.
//!
//! Widening: BIGINT → DECIMAL(20,0) (integers of 64 bits without a sign) → DOUBLE; DATE and TIMESTAMP → STRING. Nothing widens
//! from a number, a boolean, an object or an array to text: the decoder takes no value for another.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::profile::{Family, Profile};
use crate::cli::text::thousands;
use crate::generate::Share;
use crate::schema::{RESERVED, is_column_name};

/// Levels that are declared; a schema may have a few more.
const DEEPEST: usize = 60;
/// Fewer fields than this are a struct, however seldom each is there.
const MAP_FIELDS: usize = 64;

/// A declared type.
#[derive(Debug)]
pub(super) enum Shape<'p> {
    Boolean,
    BigInt,
    /// DECIMAL(20,0): integers that a BIGINT does not hold
    Unsigned,
    Double,
    Timestamp,
    Date,
    Text,
    Struct(Vec<Field<'p>>),
    Array(Box<Shape<'p>>),
    /// keyed by data
    Map(Box<Shape<'p>>),
}

impl<'p> Shape<'p> {
    /// The fields of a struct, also of one within an array or a map.
    pub(super) fn fields(&self) -> &[Field<'p>] {
        match self {
            Shape::Struct(fields) => fields,
            Shape::Array(inner) | Shape::Map(inner) => inner.fields(),
            Shape::Boolean
            | Shape::BigInt
            | Shape::Unsigned
            | Shape::Double
            | Shape::Timestamp
            | Shape::Date
            | Shape::Text => &[],
        }
    }
}

/// A field of an object.
#[derive(Debug)]
pub(super) struct Field<'p> {
    pub name: &'p str,
    pub profile: &'p Profile,
    /// its type, or why it is left out
    pub shape: Result<Shape<'p>, String>,
    /// what the type does not hold, and is tolerated
    pub note: Option<String>,
}

/// How to decide.
pub(super) struct Shaping<'a> {
    /// the share of a column's values that may be of another kind
    pub misfits: Share,
    /// the place of a record of the sample
    pub place: &'a dyn Fn(u32) -> String,
}

/// The fields of an object, in the order in which they were seen. `top`: they are columns.
pub(super) fn fields<'p>(profile: &'p Profile, shaping: &Shaping<'_>, top: bool) -> Vec<Field<'p>> {
    at_depth(profile, shaping, top, 1)
}

fn at_depth<'p>(profile: &'p Profile, shaping: &Shaping<'_>, top: bool, depth: usize) -> Vec<Field<'p>> {
    // Delta takes names that differ in case only for one: the one with the most values stays, or the first of them
    let mut winners: BTreeMap<String, (u64, Reverse<usize>)> = BTreeMap::new();
    for (index, (name, seen)) in profile.fields.iter().enumerate() {
        let mine = (seen.present(), Reverse(index));
        winners.entry(name.to_lowercase()).and_modify(|best| *best = mine.max(*best)).or_insert(mine);
    }
    let field = |(index, (name, seen)): (usize, (&'p String, &'p Profile))| {
        let (_, Reverse(winner)) = winners[&name.to_lowercase()];
        let mut note = None;
        let shape = if !is_column_name(name) {
            Err("a column cannot have this name".to_owned())
        } else if top && RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(name)) {
            Err("every row has a column of this name".to_owned())
        } else if winner != index {
            let twin = profile.fields.get_index(winner).map_or("another", |(twin, _)| twin);
            Err(format!("differs from {twin} in case only, and a table takes them for one"))
        } else {
            decide(seen, shaping, depth, &mut note)
        };
        Field { name, profile: seen, shape, note }
    };
    profile.fields.iter().enumerate().map(field).collect()
}

fn decide<'p>(
    seen: &'p Profile,
    shaping: &Shaping<'_>,
    depth: usize,
    note: &mut Option<String>,
) -> Result<Shape<'p>, String> {
    if depth > DEEPEST {
        return Err(format!("nested deeper than {DEEPEST} levels"));
    }
    let present = seen.present();
    if present == 0 {
        return Err("always null".to_owned());
    }
    let mut families: Vec<Family> = Family::ALL.into_iter().filter(|f| seen.tally(*f).count > 0).collect();
    families.sort_by_key(|family| Reverse(seen.tally(*family).count));
    let (most, others) = (families[0], &families[1..]);
    if !others.is_empty() {
        let others: Vec<String> = others.iter().map(|family| odd(seen, *family, shaping)).collect();
        let text = format!("{} in {}, {}", most.article(), thousands(seen.tally(most).count), others.join(", "));
        if present - seen.tally(most).count > shaping.misfits.of(present) {
            return Err(text);
        }
        *note = Some(text);
    }
    match most {
        Family::Boolean => Ok(Shape::Boolean),
        Family::Number => Ok(match (seen.number.floats, seen.number.large) {
            (0, 0) => Shape::BigInt,
            (0, _) => Shape::Unsigned,
            (_, _) => Shape::Double,
        }),
        Family::Text => Ok(text(seen, shaping, note)),
        Family::Array => {
            let items =
                seen.items.as_deref().filter(|items| items.present() > 0).ok_or("an array that is always empty")?;
            let inner = decide(items, shaping, depth + 1, note);
            inner.map(|inner| Shape::Array(Box::new(inner))).map_err(|why| format!("an array of items that are {why}"))
        }
        Family::Object if is_keyed_by_data(seen) => keyed_by_data(seen, shaping, depth, note),
        Family::Object => {
            let fields = at_depth(seen, shaping, false, depth + 1);
            match fields.iter().any(|field| field.shape.is_ok()) {
                true => Ok(Shape::Struct(fields)),
                false if fields.is_empty() => Err("an object without fields".to_owned()),
                false => Err("an object of which no field can be declared".to_owned()),
            }
        }
    }
}

/// `a number in 1 (first visits.ndjson:17)`.
fn odd(seen: &Profile, family: Family, shaping: &Shaping<'_>) -> String {
    let tally = seen.tally(family);
    format!("{} in {} (first {})", family.article(), thousands(tally.count), (shaping.place)(tally.first))
}

fn text<'p>(seen: &Profile, shaping: &Shaping<'_>, note: &mut Option<String>) -> Shape<'p> {
    let (all, text) = (seen.texts.count, &seen.text);
    let tolerated = shaping.misfits.of(all);
    for (shape, what, fitting, first) in [
        (Shape::Timestamp, "timestamp", text.timestamps, text.other_than_timestamp),
        (Shape::Date, "date", text.dates, text.other_than_date),
    ] {
        match (all - fitting, first) {
            (0, _) => return shape,
            (others, Some(first)) if others <= tolerated => {
                let other = format!("no {what} in {} (first {})", thousands(others), (shaping.place)(first));
                *note = Some(note.take().map_or(other.clone(), |note| format!("{note}, {other}")));
                return shape;
            }
            (_, _) => {}
        }
    }
    Shape::Text
}

/// Whether the names of an object's fields are data: there are many, and each object has only a few of them.
fn is_keyed_by_data(seen: &Profile) -> bool {
    let names = seen.fields.len() as u64;
    let values: u64 = seen.fields.values().map(|field| field.present() + field.nulls).sum();
    seen.overflow.is_some() || (names > MAP_FIELDS as u64 && values * 10 < names * seen.objects.count)
}

fn keyed_by_data<'p>(
    seen: &Profile,
    shaping: &Shaping<'_>,
    depth: usize,
    note: &mut Option<String>,
) -> Result<Shape<'p>, String> {
    let values = seen.values();
    let shape = decide(&values, shaping, depth + 1, note).and_then(owned);
    shape
        .map(|shape| Shape::Map(Box::new(shape)))
        .map_err(|why| format!("an object keyed by data ({} names) with values that are {why}", seen.fields.len()))
}

/// The same without a struct in it: what is merged for a map has no profile that outlives it.
fn owned<'p>(shape: Shape<'_>) -> Result<Shape<'p>, String> {
    Ok(match shape {
        Shape::Boolean => Shape::Boolean,
        Shape::BigInt => Shape::BigInt,
        Shape::Unsigned => Shape::Unsigned,
        Shape::Double => Shape::Double,
        Shape::Timestamp => Shape::Timestamp,
        Shape::Date => Shape::Date,
        Shape::Text => Shape::Text,
        Shape::Array(inner) => Shape::Array(Box::new(owned(*inner)?)),
        Shape::Map(inner) => Shape::Map(Box::new(owned(*inner)?)),
        Shape::Struct(_) => return Err("objects: declare the MAP by hand".to_owned()),
    })
}
