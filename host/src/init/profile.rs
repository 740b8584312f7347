//! What stood at one place of the payloads: how often, of which kinds, within which bounds. It decides nothing.

use std::collections::BTreeMap;

use indexmap::IndexMap;

use super::seen::Seen;
use crate::decode::time;

/// Distinct texts that are told apart: more are no list of allowed values.
pub(super) const DISTINCT: usize = 12;
/// Characters of a text that may be one of few.
const SHORT: usize = 40;
/// Fields of one object that are told apart: what has more is keyed by data, and is no row.
const FIELDS: usize = 2_000;

/// The kinds of value that no column holds together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    Boolean,
    Number,
    Text,
    Object,
    Array,
}

impl Family {
    pub(super) const ALL: [Family; 5] = [Family::Boolean, Family::Number, Family::Text, Family::Object, Family::Array];

    /// In a sentence: `a number`.
    pub(super) fn article(self) -> &'static str {
        match self {
            Family::Boolean => "a boolean",
            Family::Number => "a number",
            Family::Text => "a text",
            Family::Object => "an object",
            Family::Array => "an array",
        }
    }
}

/// How many values there were of a family, and the first record that has one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub count: u64,
    pub first: u32,
}

impl Tally {
    fn add(&mut self, record: u32) {
        if self.count == 0 {
            self.first = record;
        }
        self.count += 1;
    }

    fn merge(&mut self, other: Tally) {
        self.first = match (self.count, other.count) {
            (0, _) => other.first,
            (_, 0) => self.first,
            (_, _) => self.first.min(other.first),
        };
        self.count += other.count;
    }
}

/// Numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Numbers {
    /// integers beyond a BIGINT
    pub large: u64,
    pub floats: u64,
    /// least and greatest
    pub range: Option<(f64, f64)>,
}

impl Numbers {
    /// `-1 to 1.5`; an integer that a float does not hold is not shown as another one.
    pub(super) fn describe(&self) -> String {
        const EXACT: f64 = 9_007_199_254_740_992.0;
        match self.range {
            Some((least, greatest)) if least.abs() <= EXACT && greatest.abs() <= EXACT => {
                format!("{least} to {greatest}")
            }
            Some((least, greatest)) => format!("about {least:e} to {greatest:e}"),
            None => "no numbers".to_owned(),
        }
    }
}

/// Texts.
#[derive(Clone, Debug)]
pub(super) struct Texts {
    pub timestamps: u64,
    pub dates: u64,
    pub empty: u64,
    /// the first that is no timestamp, no date
    pub other_than_timestamp: Option<u32>,
    pub other_than_date: Option<u32>,
    /// how often each came; `None`: too many, or too long
    pub distinct: Option<BTreeMap<String, u64>>,
    /// how many texts had come when the last new one did
    pub last_new: u64,
}

impl Default for Texts {
    fn default() -> Self {
        Texts {
            timestamps: 0,
            dates: 0,
            empty: 0,
            other_than_timestamp: None,
            other_than_date: None,
            distinct: Some(BTreeMap::new()),
            last_new: 0,
        }
    }
}

/// What stood at one place.
#[derive(Clone, Debug, Default)]
pub(super) struct Profile {
    pub nulls: u64,
    pub booleans: Tally,
    pub numbers: Tally,
    pub texts: Tally,
    pub objects: Tally,
    pub arrays: Tally,
    pub number: Numbers,
    pub text: Texts,
    /// of the objects, in the order in which they were first seen
    pub fields: IndexMap<String, Profile>,
    /// values of fields beyond those
    pub overflow: Option<Box<Profile>>,
    /// of the arrays
    pub items: Option<Box<Profile>>,
}

impl Profile {
    /// Values that are there and not null.
    pub(super) fn present(&self) -> u64 {
        Family::ALL.into_iter().map(|family| self.tally(family).count).sum()
    }

    pub(super) fn tally(&self, family: Family) -> Tally {
        match family {
            Family::Boolean => self.booleans,
            Family::Number => self.numbers,
            Family::Text => self.texts,
            Family::Object => self.objects,
            Family::Array => self.arrays,
        }
    }

    /// Notes one value, found in record number `record` of the sample.
    pub(super) fn add(&mut self, value: &Seen<'_>, record: u32) {
        match value {
            Seen::Null => self.nulls += 1,
            Seen::Boolean => self.booleans.add(record),
            Seen::Integer(n) => self.number(*n as f64, record),
            Seen::Large(n) => {
                self.number.large += 1;
                self.number(*n as f64, record);
            }
            Seen::Float(n) => {
                self.number.floats += 1;
                self.number(*n, record);
            }
            Seen::Text(text) => {
                self.texts.add(record);
                self.text.add(text, self.texts.count, record);
            }
            Seen::Array(items) => {
                self.arrays.add(record);
                let profile = self.items.get_or_insert_default();
                items.iter().for_each(|item| profile.add(item, record));
            }
            Seen::Object(fields) => {
                self.objects.add(record);
                for (name, value) in fields {
                    self.field(name).add(value, record);
                }
            }
        }
    }

    fn field(&mut self, name: &str) -> &mut Profile {
        let known = self.fields.get_index_of(name);
        match known {
            Some(index) => &mut self.fields[index],
            None if self.fields.len() < FIELDS => self.fields.entry(name.to_owned()).or_default(),
            None => self.overflow.get_or_insert_default(),
        }
    }

    fn number(&mut self, value: f64, record: u32) {
        self.numbers.add(record);
        let (least, greatest) = self.number.range.unwrap_or((value, value));
        self.number.range = Some((least.min(value), greatest.max(value)));
    }

    /// The values of all fields together, as those of a map.
    pub(super) fn values(&self) -> Profile {
        let mut all = Profile::default();
        self.fields.values().chain(self.overflow.as_deref()).for_each(|field| all.merge(field));
        all
    }

    fn merge(&mut self, other: &Profile) {
        self.nulls += other.nulls;
        self.booleans.merge(other.booleans);
        self.numbers.merge(other.numbers);
        self.objects.merge(other.objects);
        self.arrays.merge(other.arrays);
        self.text.merge(&other.text, self.texts.count);
        self.texts.merge(other.texts);
        self.number.large += other.number.large;
        self.number.floats += other.number.floats;
        if let Some((least, greatest)) = other.number.range {
            let (a, b) = self.number.range.unwrap_or((least, greatest));
            self.number.range = Some((a.min(least), b.max(greatest)));
        }
        for (name, field) in &other.fields {
            self.field(name).merge(field);
        }
        if let Some(overflow) = &other.overflow {
            self.overflow.get_or_insert_default().merge(overflow);
        }
        if let Some(items) = &other.items {
            self.items.get_or_insert_default().merge(items);
        }
    }
}

impl Texts {
    fn add(&mut self, text: &str, nth: u64, record: u32) {
        self.empty += u64::from(text.is_empty());
        match time::timestamp(text, true) {
            Ok(_) => self.timestamps += 1,
            Err(_) => _ = self.other_than_timestamp.get_or_insert(record),
        }
        match time::date(text) {
            Ok(_) => self.dates += 1,
            Err(_) => _ = self.other_than_date.get_or_insert(record),
        }
        let Some(distinct) = &mut self.distinct else { return };
        if let Some(count) = distinct.get_mut(text) {
            *count += 1;
        } else if distinct.len() == DISTINCT || text.chars().count() > SHORT {
            self.distinct = None;
        } else {
            distinct.insert(text.to_owned(), 1);
            self.last_new = nth;
        }
    }

    fn merge(&mut self, other: &Texts, before: u64) {
        self.timestamps += other.timestamps;
        self.dates += other.dates;
        self.empty += other.empty;
        self.other_than_timestamp = self.other_than_timestamp.or(other.other_than_timestamp);
        self.other_than_date = self.other_than_date.or(other.other_than_date);
        self.last_new = before + other.last_new;
        self.distinct = match (self.distinct.take(), &other.distinct) {
            (Some(mut mine), Some(others)) => {
                for (text, count) in others {
                    *mine.entry(text.clone()).or_default() += count;
                }
                (mine.len() <= DISTINCT).then_some(mine)
            }
            (_, _) => None,
        };
    }
}
