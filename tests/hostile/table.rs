//! Runs `guests/hostile.toml`: every hostile guest, in one engine, with a good rule after each.

use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use serde::Deserialize;
use sluice_host::config::PluginConfig;
use sluice_host::error::Error;
use sluice_host::outcome::Reason;
use sluice_host::plugin::{Caller, DeadRow, Kind, Plugin};

use super::{ENGINE, batch, caller, config, fixtures, reasons, schema};
use crate::guests::{self, ALLOCATE, COPY, Guest, NOTHING, TYPES, enricher, rule, where_thirteen};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    guest: Vec<Case>,
}

/// One kind of misdeed; what the fields mean stands at the head of the data.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Case {
    name: String,
    kind: Option<String>,
    at_thirteen: Option<String>,
    call: Option<String>,
    configure: Option<String>,
    allocate: Option<String>,
    #[serde(default)]
    extra: String,
    #[serde(default)]
    says: Says,
    #[serde(default)]
    limits: Limits,
    fixture: Option<String>,
    dead: Option<String>,
    detail: Option<String>,
    refused: Option<String>,
    stops: Option<String>,
    #[serde(default)]
    harmless: bool,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Says {
    name: Option<String>,
    version: Option<String>,
    help: Option<String>,
    codes: Option<Vec<(String, Vec<u16>)>>,
    reads: Option<Vec<(String, String)>>,
    adds: Option<Vec<(String, String)>>,
    #[serde(default)]
    one_to_many: bool,
    #[serde(default)]
    reused: bool,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Limits {
    fuel: Option<u64>,
    time_ms: Option<u64>,
    call_rows: Option<usize>,
}

/// Texts of 3 bytes at 4000, all of them in the last row; `$first` and `$last` are the offsets at both ends.
const TEXT: &str = "
    (i32.store (i32.const 3000) (call $first))
    (i32.store (i32.add (i32.const 3000) (i32.mul (local.get $rows) (i32.const 4))) (call $last))
    (call $column (local.get $rows) (i32.const KIND) (i32.const 4000) (i32.const 3)
        (i32.const 3000) (i32.mul (i32.add (local.get $rows) (i32.const 1)) (i32.const 4)))";

fn logical(name: &str) -> u8 {
    TYPES.iter().position(|ty| *ty == name).unwrap_or_else(|| panic!("no type {name}")) as u8
}

impl Case {
    fn kind(&self) -> Kind {
        match self.kind.as_deref() {
            None => Kind::Rule,
            Some("enricher") => Kind::Enricher,
            Some(other) => panic!("no kind {other}"),
        }
    }

    fn config(&self) -> PluginConfig {
        let mut config = config();
        let limits = &mut config.limits;
        limits.fuel = self.limits.fuel.unwrap_or(limits.fuel);
        limits.time = self.limits.time_ms.map_or(limits.time, Duration::from_millis);
        limits.call_rows = self.limits.call_rows.unwrap_or(limits.call_rows);
        config
    }

    fn guest(&self) -> Guest {
        let written = |text: &str| {
            let text = text.replace("COPY", COPY).replace("ALLOCATE", ALLOCATE);
            let text = text.replace("TEXT", &TEXT.replace("KIND", "8")).replace("JSON", &TEXT.replace("KIND", "10"));
            text.replace("MEMORIES", &"(memory 0)".repeat(99))
        };
        let mut guest = match self.kind() {
            Kind::Rule => rule(NOTHING),
            Kind::Enricher => enricher(guests::INT64, COPY),
            Kind::Auditor => unreachable!("these guests are called with rows"),
        };
        if let Some(misdeed) = &self.at_thirteen {
            guest.call = where_thirteen(&written(misdeed), &guest.call);
        }
        for (given, body) in [
            (&self.call, &mut guest.call),
            (&self.configure, &mut guest.configure),
            (&self.allocate, &mut guest.allocate),
        ] {
            if let Some(given) = given {
                *body = written(given);
            }
        }
        guest.extra = written(&self.extra);
        let (says, given) = (&mut guest.says, &self.says);
        let set = |text: &mut String, given: &Option<String>| {
            if let Some(given) = given {
                *text = given.replace("HELP", &"h".repeat(2000));
            }
        };
        set(&mut says.name, &given.name);
        set(&mut says.version, &given.version);
        set(&mut says.help, &given.help);
        if let Some(codes) = &given.codes {
            says.codes.clone_from(codes);
        }
        if let Some(reads) = &given.reads {
            says.reads = reads.iter().map(|(path, ty)| (path.clone(), logical(ty), true)).collect();
        }
        if let Some(adds) = &given.adds {
            says.produces = adds.iter().map(|(name, ty)| (name.clone(), logical(ty), 0, 0)).collect();
        }
        (says.one_to_many, says.reused) = (given.one_to_many, given.reused);
        guest
    }

    fn code(&self) -> Vec<u8> {
        match &self.fixture {
            Some(fixture) => fixtures::code(fixture),
            None => self.guest().component(),
        }
    }

    /// What became of it, if that is not what the case says.
    fn wrong(&self) -> Option<String> {
        let ends = [self.dead.is_some(), self.refused.is_some(), self.stops.is_some(), self.harmless];
        assert_eq!(ends.iter().filter(|end| **end).count(), 1, "{}: one end", self.name);
        let config = self.config();
        let plugin = match (Plugin::load(&ENGINE, self.kind(), &config, &self.code(), &schema()), &self.refused) {
            (Ok(_), Some(_)) => return Some("it was loaded".into()),
            (Ok(plugin), None) => plugin,
            (Err(error), Some(expected)) => {
                let text = error.to_string();
                println!("    {text}");
                let begins = text.starts_with("plugin `guest` cannot be loaded from guest.wasm: ");
                let is_sentence = begins && !text.contains(char::is_control) && text.len() < 1200;
                return (!is_sentence || !text.contains(expected)).then_some(text);
            }
            (Err(error), None) => return Some(error.to_string()),
        };
        let mut caller = Caller::new(plugin, super::breaker(&config));
        // a stream of batches; only a plugin that fails at all of them sees more than the first
        let batches = if self.stops.is_some() { 12 } else { 1 };
        let mut last = None;
        for _ in 0..batches {
            match (call(&mut caller), &self.stops) {
                (Err(error), Some(expected)) => {
                    let text = error.to_string().to_lowercase();
                    let is_expected = matches!(error, Error::Plugin { .. }) && text.contains(expected);
                    return (!is_expected).then_some(text);
                }
                (Err(error), None) => return Some(error.to_string()),
                (Ok(dead), _) => last = Some(dead),
            }
        }
        let dead = last.expect("there was a batch");
        match (&self.dead, &dead[..]) {
            (None, []) if self.stops.is_none() => None,
            (Some(reason), [row]) if row.row == 13 && row.reason.as_str() == reason => {
                let expected = self.detail.as_deref().unwrap_or_default();
                (!row.detail.to_lowercase().contains(expected)).then(|| row.detail.clone())
            }
            _ => Some(format!("{dead:?}")),
        }
    }
}

/// The rows that are dead; the others are as they should be.
fn call(caller: &mut Caller) -> Result<Vec<DeadRow>, Error> {
    match caller.plugin().kind() {
        Kind::Rule => {
            let checked = caller.check(&batch(20))?;
            assert!(checked.findings.is_empty(), "{:?}", checked.findings);
            Ok(checked.dead)
        }
        Kind::Enricher => {
            let added = caller.enrich(&batch(20))?;
            let lives = |row: &u32| added.dead.iter().all(|dead| dead.row != *row);
            assert_eq!(added.rows, (0..20).filter(lives).collect::<Vec<_>>());
            let values = added.columns[0].as_primitive_opt::<Int64Type>().map(|values| values.values().to_vec());
            assert_eq!(values.unwrap_or_default(), added.rows.iter().map(|row| i64::from(*row)).collect::<Vec<_>>());
            Ok(added.dead)
        }
        Kind::Auditor => unreachable!("these guests are called with rows"),
    }
}

#[test]
fn every_hostile_guest_costs_what_its_case_says_and_the_host_goes_on() {
    let cases = toml::from_str::<Table>(include_str!("../guests/hostile.toml")).unwrap_or_else(|e| panic!("{e}")).guest;
    let good = where_thirteen(
        "(call $finding (i32.const 3000) (local.get $bad) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const -1))
         (return (call $answer (i32.const 3000) (i32.const 1)))",
        NOTHING,
    );
    let mut good = caller(&rule(&good), &config());
    let mut wrong = Vec::new();
    for case in &cases {
        println!("{}", case.name); // for a panic, which names no case
        if let Some(found) = case.wrong() {
            wrong.push(format!("{}: {found}", case.name));
        }
        let checked = good.check(&batch(20)).unwrap();
        let found: Vec<_> = checked.findings.iter().map(|finding| (finding.row, &*finding.code)).collect();
        assert_eq!((&found[..], reasons(&checked.dead)), (&[(13, "unlucky")][..], vec![]), "after {}", case.name);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let kinds: std::collections::BTreeSet<_> = cases.iter().map(|case| &case.name).collect();
    assert_eq!(kinds.len(), cases.len(), "a name stands twice");
    let reasons =
        [Reason::PluginTrap, Reason::PluginTimeout, Reason::PluginMemory, Reason::PluginOutput, Reason::PluginError];
    assert!(reasons.iter().all(|reason| cases.iter().any(|case| case.dead.as_deref() == Some(reason.as_str()))));
}
