//! What a file is, before anything in it is compiled: its names of imports and exports, compared with the contract's.
//!
//! Every refusal is one plain sentence; it reads on from "cannot be loaded: it …". Types are compared afterwards, by
//! `wit_component::targets`.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::OnceLock;

use wasmparser::{Encoding, KnownCustom, Parser, Payload};
use wit_parser::decoding::{DecodedWasm, decode};
use wit_parser::{InterfaceId, Resolve, WorldId, WorldItem, WorldKey};

use super::log::clean;
use super::{Kind, inert};
use crate::config::Wasi;

/// The contract, as plugin authors read it.
pub const CONTRACT: &str = include_str!("../../../wit/plugin.wit");

/// Bytes of a name that are kept for messages.
const NAME: usize = 200;

/// The names in a component.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sections {
    /// in order
    pub imports: Vec<String>,
    /// in order
    pub exports: Vec<String>,
    /// `Rust 1.95`, of the component and of all modules in it
    pub producers: BTreeSet<String>,
}

struct Contract {
    resolve: Resolve,
    rule: WorldId,
    enricher: WorldId,
    auditor: WorldId,
    /// `0.1.0`
    version: String,
    /// `0.1`
    line: String,
}

fn contract() -> &'static Contract {
    static CONTRACT_PARSED: OnceLock<Contract> = OnceLock::new();
    CONTRACT_PARSED.get_or_init(|| {
        let mut resolve = Resolve::default();
        let package = resolve.push_str("plugin.wit", CONTRACT).expect("bindgen has parsed the same text");
        let world = |name| resolve.select_world(&[package], Some(name)).expect("the contract has this world");
        let (rule, enricher, auditor) = (world("rule-plugin"), world("enricher-plugin"), world("auditor-plugin"));
        let version = resolve.packages[package].name.version.clone().expect("the contract has a version");
        let line = if version.major > 0 { format!("{}", version.major) } else { format!("0.{}", version.minor) };
        Contract { version: version.to_string(), line, rule, enricher, auditor, resolve }
    })
}

/// The contract's version that this host speaks: `0.1.0`.
pub fn contract_version() -> &'static str {
    &contract().version
}

/// Reads the sections of a component.
pub(super) fn parse(code: &[u8]) -> Result<Sections, String> {
    if code.is_empty() {
        return Err("it is empty".into());
    }
    if code.starts_with(b"\x7fELF") || wasmtime::Engine::detect_precompiled(code).is_some() {
        return Err("it is compiled machine code, which is never accepted; name the .wasm it was made from".into());
    }
    if !code.starts_with(b"\0asm") {
        let begin = clean(&String::from_utf8_lossy(&code[..code.len().min(16)]), NAME);
        return Err(format!("it is not WebAssembly: it begins with `{begin}`"));
    }
    if Parser::is_core_wasm(code) {
        return Err("it is a core module and no component; make one of it with `sluice build`".into());
    }
    let mut sections = Sections::default();
    let damaged = |e: wasmparser::BinaryReaderError| format!("it is damaged: {}", e.message());
    let mut depth = 0usize;
    for payload in Parser::new(0).parse_all(code) {
        match payload.map_err(damaged)? {
            Payload::Version { encoding: Encoding::Component | Encoding::Module, .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentImportSection(imports) if depth == 1 => {
                for import in imports {
                    sections.imports.push(clean(import.map_err(damaged)?.name.name, NAME));
                }
            }
            Payload::ComponentExportSection(exports) if depth == 1 => {
                for export in exports {
                    sections.exports.push(clean(export.map_err(damaged)?.name.name, NAME));
                }
            }
            Payload::CustomSection(custom) => {
                if let KnownCustom::Producers(fields) = custom.as_known() {
                    for field in fields.into_iter().flatten() {
                        for value in field.values.into_iter().flatten() {
                            let text = format!("{} {}", value.name, value.version);
                            sections.producers.insert(clean(text.trim(), NAME));
                        }
                    }
                }
            }
            _ => {} // what wasmparser adds one day is not ours to know; the validator sees it
        }
    }
    Ok(sections)
}

impl Sections {
    /// The kind it is by its exports, whatever their version.
    pub(super) fn kind(&self) -> Option<Kind> {
        self.exports.iter().find_map(|name| match own(name)?.0 {
            "rule" => Some(Kind::Rule),
            "enricher" => Some(Kind::Enricher),
            "auditor" => Some(Kind::Auditor),
            _ => None,
        })
    }

    /// Compares the names with those of the world of `kind`, and with what of WASI is stood in for.
    pub(super) fn fit(&self, kind: Kind, wasi: Wasi) -> Result<(), String> {
        let line = &contract().line;
        let is_inert = |name: &str| wasi == Wasi::Inert && inert::is_stood_in(name);
        let mut foreign = self.imports.iter().filter(|name| !is_offered(name) && !is_inert(name));
        if let Some(first) = foreign.next() {
            let more = match foreign.count() {
                0 => String::new(),
                n => format!(" (and {n} more)"),
            };
            return Err(match own(first) {
                Some(("host" | "types" | "reference", _)) => format!("it imports {first}; this host speaks {line}"),
                Some(_) => format!("it imports {first}, which this host does not have"),
                None => format!("it imports {first}{more}: {}", refusal(first)),
            });
        }
        let wanted = kind.interface();
        let mut ours = self.exports.iter().filter_map(|name| Some((name, own(name)?)));
        if ours.clone().any(|(_, (interface, version))| interface == wanted && speaks(version)) {
            return Ok(());
        }
        if let Some((name, _)) = ours.clone().find(|(_, (interface, _))| *interface == wanted) {
            return Err(format!("it exports {name}; this host speaks {line}"));
        }
        Err(match (ours.next(), kind) {
            (Some((_, ("rule", _))), kind) => {
                format!("it is a rule where an {kind} was expected: name it under [rule.<name>]")
            }
            (Some((_, ("enricher", _))), Kind::Auditor) => {
                "it is an enricher where an auditor was expected: name it under [[enrich]]".into()
            }
            (Some((_, ("enricher", _))), _) => {
                "it is an enricher where a rule was expected: name it under [[enrich]]".into()
            }
            (Some((_, ("auditor", _))), kind) => {
                let article = if kind == Kind::Rule { "a" } else { "an" };
                format!("it is an auditor where {article} {kind} was expected: name it under [auditor.<name>]")
            }
            (Some((name, _)), _) => {
                format!("it exports {name}, which this host does not call; a {wanted} exports sluice:plugin/{wanted}")
            }
            (None, _) => {
                format!(
                    "it exports nothing of sluice:plugin; a {wanted} exports sluice:plugin/{wanted}@{}",
                    contract_version()
                )
            }
        })
    }

    /// The full comparison of types. Call it after [`fit`](Self::fit).
    pub(super) fn check_types(&self, code: &[u8], kind: Kind, wasi: Wasi) -> Result<(), String> {
        let contract = contract();
        let world = match kind {
            Kind::Rule => contract.rule,
            Kind::Enricher => contract.enricher,
            Kind::Auditor => contract.auditor,
        };
        // an older or newer patch of the contract's version: compare by structure
        let other_patch = self
            .imports
            .iter()
            .chain(&self.exports)
            .filter_map(|name| own(name))
            .any(|(_, version)| version != Some(&contract.version));
        let differs = |e| format!("its types differ from the contract {}{}", contract.version, difference(&e));
        let wider = match wasi {
            Wasi::Inert if self.imports.iter().any(|name| inert::is_stood_in(name)) => {
                Some(with_wasi(contract, world, code).map_err(differs)?)
            }
            Wasi::None | Wasi::Inert => None,
        };
        let resolve = wider.as_ref().unwrap_or(&contract.resolve);
        wit_component::targets(resolve, world, code, other_patch).map_err(differs)
    }
}

/// The contract, its `world` with what the component imports of WASI as well, in the component's own words: the host's
/// stand-ins have whatever types they are asked for.
fn with_wasi(contract: &Contract, world: WorldId, code: &[u8]) -> anyhow::Result<Resolve> {
    let DecodedWasm::Component(own, own_world) = decode(code)? else { anyhow::bail!("it is a package of WIT") };
    let imports: Vec<_> = own.worlds[own_world].imports.values().cloned().collect();
    let mut resolve = contract.resolve.clone();
    let is_ours = |id: InterfaceId| own.id_of(id).is_some_and(|name| inert::is_stood_in(&name));
    let wasi: Vec<_> = imports
        .into_iter()
        .filter_map(|import| match import {
            WorldItem::Interface { id, stability, external_id, docs, span } if is_ours(id) => {
                Some((id, stability, external_id, docs, span))
            }
            WorldItem::Interface { .. } | WorldItem::Function(_) | WorldItem::Type { .. } => None,
        })
        .collect();
    let merged = resolve.merge(own)?;
    for (id, stability, external_id, docs, span) in wasi {
        let id = merged.map_interface(id, span)?;
        let item = WorldItem::Interface { id, stability, external_id, docs, span };
        resolve.worlds[world].imports.insert(WorldKey::Interface(id), item);
    }
    Ok(resolve)
}

/// The validator's lines, `type mismatch in record field `code``, as the path to the difference.
fn difference(error: &dyn fmt::Display) -> String {
    let text = format!("{error:#}");
    let path: Vec<&str> = text.split("type mismatch").skip(2).filter_map(|part| part.split('`').nth(1)).collect();
    let last = text.lines().last().unwrap_or_default();
    let last = last.split(" (at offset").next().unwrap_or_default();
    if path.is_empty() { format!(": {last}") } else { format!(" in {} ({last})", path.join(", ")) }
}

/// `sluice:plugin/rule@0.1.0` → `rule`, `0.1.0`; `None` for names that are not of the contract's package.
fn own(name: &str) -> Option<(&str, Option<&str>)> {
    let rest = name.strip_prefix("sluice:plugin/")?;
    Some(match rest.split_once('@') {
        Some((interface, version)) => (interface, Some(version)),
        None => (rest, None),
    })
}

/// Whether a version is compatible with the host's: the same major, or below 1 the same minor.
fn speaks(version: Option<&str>) -> bool {
    version
        .is_some_and(|version| version.strip_prefix(contract().line.as_str()).is_some_and(|rest| rest.starts_with('.')))
}

fn is_offered(import: &str) -> bool {
    matches!(own(import), Some(("host" | "types" | "reference", version)) if speaks(version))
}

fn refusal(import: &str) -> String {
    let refused = [
        ("wasi:filesystem", "files"),
        ("wasi:sockets", "network"),
        ("wasi:http", "network"),
        ("wasi:clocks", "clock"),
        ("wasi:random", "randomness"),
    ];
    if !import.starts_with("wasi:") {
        return "a rule gets nothing but sluice:plugin/host".into();
    }
    let known = refused.iter().find(|(prefix, _)| import.starts_with(prefix));
    let gets = known.map_or("nothing of the system".to_owned(), |(_, what)| format!("no {what}"));
    let or = if inert::is_stood_in(import) { ", or set `wasi = \"inert\"`" } else { "" };
    format!("a rule gets {gets}; rebuild it with `sluice build`{or}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_with_the_contract() {
        let fit = |imports: &[&str], exports: &[&str], kind: Kind| {
            let own = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
            Sections { imports: own(imports), exports: own(exports), producers: BTreeSet::new() }.fit(kind, Wasi::None)
        };
        let (host, types) = ("sluice:plugin/host@0.1.0", "sluice:plugin/types@0.1.0");
        let (rule, enricher) = ("sluice:plugin/rule@0.1.0", "sluice:plugin/enricher@0.1.0");
        assert_eq!(fit(&[host, types], &[rule], Kind::Rule), Ok(()));
        assert_eq!(fit(&["sluice:plugin/reference@0.1.0"], &[rule], Kind::Rule), Ok(()));
        assert_eq!(fit(&[], &["sluice:plugin/rule@0.1.7"], Kind::Rule), Ok(()));
        assert_eq!(fit(&[host], &[rule, enricher], Kind::Enricher), Ok(()));
        for (imports, exports, kind, expected) in [
            (
                &["wasi:filesystem/preopens@0.2.6", "wasi:io/streams@0.2.6"][..],
                &[rule][..],
                Kind::Rule,
                "it imports wasi:filesystem/preopens@0.2.6 (and 1 more): a rule gets no files; rebuild it with `sluice build`, or set `wasi = \"inert\"`",
            ),
            (&["a:b/c"], &[rule], Kind::Rule, "it imports a:b/c: a rule gets nothing but sluice:plugin/host"),
            (
                &["sluice:plugin/host@0.2.0"],
                &[rule],
                Kind::Rule,
                "it imports sluice:plugin/host@0.2.0; this host speaks 0.1",
            ),
            (
                &["sluice:plugin/clock@0.1.0"],
                &[rule],
                Kind::Rule,
                "it imports sluice:plugin/clock@0.1.0, which this host does not have",
            ),
            (
                &[],
                &["sluice:plugin/rule@0.2.0"],
                Kind::Rule,
                "it exports sluice:plugin/rule@0.2.0; this host speaks 0.1",
            ),
            (
                &[],
                &["sluice:plugin/rule@0.10.0"],
                Kind::Rule,
                "it exports sluice:plugin/rule@0.10.0; this host speaks 0.1",
            ),
            (&[], &[enricher], Kind::Rule, "it is an enricher where a rule was expected: name it under [[enrich]]"),
            (&[], &[rule], Kind::Enricher, "it is a rule where an enricher was expected: name it under [rule.<name>]"),
            (
                &[],
                &["wasi:cli/run@0.2.0"],
                Kind::Rule,
                "it exports nothing of sluice:plugin; a rule exports sluice:plugin/rule@0.1.0",
            ),
        ] {
            assert_eq!(fit(imports, exports, kind), Err(expected.to_owned()));
        }
    }

    #[test]
    fn wasi_0_2_is_stood_in_for_and_nothing_else_is() {
        let fit = |import: &str| {
            let (imports, exports) = (vec![import.to_owned()], vec!["sluice:plugin/rule@0.1.0".to_owned()]);
            Sections { imports, exports, producers: BTreeSet::new() }.fit(Kind::Rule, Wasi::Inert)
        };
        for import in ["wasi:cli/environment@0.2.0", "wasi:sockets/tcp@0.2.6", "wasi:io/poll@0.2.3"] {
            assert_eq!(fit(import), Ok(()));
        }
        for (import, expected) in [
            ("wasi:clocks/monotonic-clock@0.3.0", "a rule gets no clock; rebuild it with `sluice build`"),
            ("wasi:nn/tensor", "a rule gets nothing of the system; rebuild it with `sluice build`"),
            ("my:wasi/files@0.2.0", "a rule gets nothing but sluice:plugin/host"),
        ] {
            assert_eq!(fit(import), Err(format!("it imports {import}: {expected}")));
        }
    }

    #[test]
    fn what_is_no_component_is_named() {
        for (code, expected) in [
            (&b""[..], "it is empty"),
            (b"\x7fELF\x02\x01", "it is compiled machine code"),
            (b"print('hi')", "it is not WebAssembly: it begins with `print('hi')`"),
            (b"\0asm\x01\0\0\0", "it is a core module"),
            (b"\0asm\x0d\0\x01\0\xff\xff", "it is damaged"),
        ] {
            let found = parse(code).unwrap_err();
            assert!(found.starts_with(expected), "{found}");
        }
    }
}
