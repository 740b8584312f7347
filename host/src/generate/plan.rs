//! What happens to which record: shares that are met exactly, in one pass, by selection sampling.

use std::fmt;
use std::str::FromStr;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{Damage, Spec};
use crate::error::{Error, Result};
use crate::outcome::Outcome;

/// A share of all records, in millionths: `2%`, `0.5%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(u32);

impl Share {
    /// `n` in a hundred.
    pub const fn percent(n: u32) -> Share {
        Share(n * 10_000)
    }

    /// `n` in a thousand.
    pub const fn per_mille(n: u32) -> Share {
        Share(n * 1_000)
    }

    /// How many of `records` that is, to the nearest.
    pub fn of(self, records: u64) -> u64 {
        let exact = u128::from(records) * u128::from(self.0);
        ((exact + 500_000) / 1_000_000) as u64
    }

    /// Whether a draw falls into it.
    pub(super) fn hits(self, rng: &mut ChaCha8Rng) -> bool {
        rng.random_range(0..1_000_000) < self.0
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = || format!("`{text}` is not a share: write a percentage from 0% to 100%, such as 0.5%");
        let number = text.strip_suffix('%').ok_or_else(wanted)?.trim();
        let percent: f64 = number.parse().map_err(|_| wanted())?;
        if !(0.0..=100.0).contains(&percent) {
            return Err(wanted());
        }
        Ok(Share((percent * 10_000.0).round() as u32))
    }
}

impl fmt::Display for Share {
    /// `2 %`, as the demo's screen has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", f64::from(self.0) / 10_000.0)
    }
}

/// One thing that is wrong with one record: it breaks one rule of the demo and no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `user_id` is null
    NoUser,
    /// `page` is null
    NoPage,
    /// a private visit carries a login
    LoginExposed,
    /// `keep_private` is a text
    WrongType,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 4] = [Kind::NoUser, Kind::NoPage, Kind::LoginExposed, Kind::WrongType];

    /// Those of the demo, with their weights.
    pub fn demo() -> Vec<(Kind, u32)> {
        vec![(Kind::NoUser, 3), (Kind::LoginExposed, 1)]
    }

    /// As it is written in `--kinds` and in the tally.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::NoUser => "no-user",
            Kind::NoPage => "no-page",
            Kind::LoginExposed => "login-exposed",
            Kind::WrongType => "wrong-type",
        }
    }

    /// What the demo's pipeline must say of it.
    pub fn expected(self) -> (Outcome, &'static str) {
        match self {
            Kind::NoUser => (Outcome::Error, "expect/has-user"),
            Kind::NoPage => (Outcome::Error, "expect/has-page"),
            Kind::LoginExposed => (Outcome::Error, "consent/login-exposed"),
            Kind::WrongType => (Outcome::Dlq, "decode/wrong-type"),
        }
    }

    /// Reads `no-user` or `no-user=3`.
    pub fn weighted(text: &str) -> Result<(Kind, u32), String> {
        let (name, weight) = text.split_once('=').unwrap_or((text, "1"));
        let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == name).ok_or_else(|| {
            format!("there is no kind of damage `{name}`; there are {}", Kind::ALL.map(Kind::as_str).join(", "))
        })?;
        match weight.parse() {
            Ok(weight @ 1..=1_000_000) => Ok((kind, weight)),
            Ok(_) | Err(_) => Err(format!("`{weight}` is not a weight: write a whole number from 1, as in {name}=3")),
        }
    }
}

/// What happens to one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Good,
    Damaged(Kind),
    NotJson,
    Duplicate,
    Late,
}

/// What is still to be planted among the records that are still to come.
pub(super) struct Plan {
    left: u64,
    due: Vec<(Slot, u64)>,
}

impl Plan {
    pub(super) fn new(spec: &Spec) -> Result<Plan> {
        let mut due = vec![
            (Slot::NotJson, spec.not_json.of(spec.records)),
            (Slot::Duplicate, spec.duplicates.of(spec.records)),
            (Slot::Late, spec.late.of(spec.records)),
        ];
        if let Damage::Records(share, kinds) = &spec.damage {
            due.extend(split(share.of(spec.records), kinds));
        }
        due.retain(|(_, count)| *count > 0);
        if due.iter().map(|(_, count)| count).sum::<u64>() > spec.records {
            return Err(Error::Config("the shares of damage, not-json, duplicates and late exceed 100 %".to_owned()));
        }
        Ok(Plan { left: spec.records, due })
    }

    /// The next record's slot, `None` after the last. Each is as likely as its share of what is left, so that all are
    /// met exactly and none clusters at the end.
    pub(super) fn next(&mut self, rng: &mut ChaCha8Rng) -> Option<Slot> {
        if self.left == 0 {
            return None;
        }
        let mut draw = rng.random_range(0..self.left);
        self.left -= 1;
        for (slot, count) in &mut self.due {
            if draw < *count {
                *count -= 1;
                return Some(*slot);
            }
            draw -= *count;
        }
        Some(Slot::Good)
    }

    /// Takes back a slot that could not be used, for a later record.
    pub(super) fn postpone(&mut self, slot: Slot) {
        if let Some((_, count)) = self.due.iter_mut().find(|(other, _)| *other == slot) {
            *count += 1;
        }
    }
}

/// `total` by weight; what rounding leaves goes to the first kinds, one each.
fn split(total: u64, kinds: &[(Kind, u32)]) -> Vec<(Slot, u64)> {
    let weights: u128 = kinds.iter().map(|(_, weight)| u128::from(*weight)).sum();
    let mut counts: Vec<(Slot, u64)> = kinds
        .iter()
        .map(|(kind, weight)| (Slot::Damaged(*kind), (u128::from(total) * u128::from(*weight) / weights) as u64))
        .collect();
    let rest = total - counts.iter().map(|(_, count)| count).sum::<u64>();
    for (_, count) in counts.iter_mut().take(rest as usize) {
        *count += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn shares_are_read_with_their_unit() {
        for (text, expected) in
            [("2%", Some(20_000)), ("0.5 %", Some(5_000)), ("100%", Some(1_000_000)), ("0%", Some(0))]
        {
            assert_eq!(text.parse::<Share>().ok().map(|share| share.0), expected, "{text}");
        }
        for text in ["2", "", "%", "101%", "-1%", "NaN%", "two%"] {
            assert!(text.parse::<Share>().is_err(), "{text}");
        }
    }

    #[test]
    fn every_share_is_met_exactly() {
        let kinds = vec![(Kind::NoUser, 3), (Kind::LoginExposed, 1), (Kind::NoPage, 1)];
        let spec = Spec {
            records: 1_001,
            damage: Damage::Records(Share::percent(10), kinds),
            duplicates: Share::percent(1),
            ..Spec::default()
        };
        let (mut plan, mut rng) = (Plan::new(&spec).unwrap(), ChaCha8Rng::seed_from_u64(1));
        let slots: Vec<Slot> = std::iter::from_fn(|| plan.next(&mut rng)).collect();
        let count = |wanted| slots.iter().filter(|slot| **slot == wanted).count();
        assert_eq!(slots.len(), 1_001);
        assert_eq!(
            [Kind::NoUser, Kind::LoginExposed, Kind::NoPage, Kind::WrongType].map(|kind| count(Slot::Damaged(kind))),
            [60, 20, 20, 0]
        );
        assert_eq!([Slot::NotJson, Slot::Duplicate, Slot::Late].map(count), [5, 10, 0]);
    }

    #[test]
    fn shares_beyond_all_records_are_refused() {
        let spec = Spec { late: Share::percent(99), ..Spec::default() };
        assert!(Plan::new(&spec).is_err());
    }

    #[test]
    fn kinds_carry_weights() {
        assert_eq!(Kind::weighted("no-user"), Ok((Kind::NoUser, 1)));
        assert_eq!(Kind::weighted("login-exposed=4"), Ok((Kind::LoginExposed, 4)));
        for text in ["nobody", "no-user=0", "no-user=x", ""] {
            assert!(Kind::weighted(text).is_err(), "{text}");
        }
    }
}
