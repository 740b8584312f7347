//! A plugin's text → into the data of the engine's core module, which then is that plugin.
//!
//! The text goes behind the memory that the module begins with, and where and how long it is, into the variable whose address
//! the module exports. Of what the module exports for a rule and for an enricher one half stays. Nothing else of it changes.

use std::ops::Range;

use wasm_encoder::{
    ConstExpr, DataCountSection, DataSection, ExportKind, ExportSection, MemorySection, MemoryType, Module, RawSection,
};
use wasmparser::{BinaryReaderError, ExternalKind, GlobalSectionReader, Operator, Parser, Payload};

use crate::component::PACKAGE;
use crate::plugin::Kind;

/// What the module exports the variable's address as.
const VARIABLE: &str = "sluice_script";

/// Bytes of a page of memory.
const PAGE: u64 = 1 << 16;

/// The module with that text, of that kind.
pub(super) fn put(core: &[u8], text: &str, kind: Kind) -> Result<Vec<u8>, String> {
    rewrite(core, text, kind).map_err(|error| format!("it is not as expected: {error}"))?
}

fn rewrite(core: &[u8], text: &str, kind: Kind) -> Result<Result<Vec<u8>, String>, BinaryReaderError> {
    let Some((pages, variable)) = room(core)? else {
        return Ok(Err(format!("it has no memory, or exports no {VARIABLE}")));
    };
    let (Ok(at), Ok(size)) = (i32::try_from(pages * PAGE), i32::try_from(text.len())) else {
        return Ok(Err(format!("{} bytes are too many", text.len())));
    };
    let more = (text.len() as u64 + 1).div_ceil(PAGE);
    let mut module = Module::new();
    for payload in Parser::new(0).parse_all(core) {
        let payload = payload?;
        match &payload {
            Payload::MemorySection(memories) => {
                let mut section = MemorySection::new();
                for memory in memories.clone() {
                    let memory = memory?;
                    section.memory(MemoryType {
                        minimum: memory.initial + more,
                        maximum: memory.maximum,
                        memory64: memory.memory64,
                        shared: memory.shared,
                        page_size_log2: memory.page_size_log2,
                    });
                }
                module.section(&section);
            }
            Payload::ExportSection(exports) => {
                let mut section = ExportSection::new();
                for export in exports.clone() {
                    let export = export?;
                    if is_of(export.name, kind) && export.name != VARIABLE {
                        section.export(export.name, kind_of(export.kind), export.index);
                    }
                }
                module.section(&section);
            }
            Payload::DataCountSection { count, .. } => {
                module.section(&DataCountSection { count: count + 2 });
            }
            Payload::DataSection(data) => {
                let mut section = DataSection::new();
                for one in data.clone() {
                    section.raw(part(core, one?.range));
                }
                // the engine wants a zero behind it
                section.active(0, &ConstExpr::i32_const(at), [text.as_bytes(), &[0]].concat());
                let place = [at.to_le_bytes(), size.to_le_bytes()].concat();
                section.active(0, &ConstExpr::i32_const(variable), place);
                module.section(&section);
            }
            other => {
                if let Some((id, range)) = other.as_section() {
                    module.section(&RawSection { id, data: part(core, range) });
                }
            }
        }
    }
    Ok(Ok(module.finish()))
}

fn part(core: &[u8], range: Range<u64>) -> &[u8] {
    &core[range.start as usize..range.end as usize]
}

/// Pages of the memory, and the address of the variable.
fn room(core: &[u8]) -> Result<Option<(u64, i32)>, BinaryReaderError> {
    let (mut pages, mut index, mut globals) = (None, None, None);
    for payload in Parser::new(0).parse_all(core) {
        match payload? {
            Payload::MemorySection(memories) => {
                pages = memories.into_iter().next().transpose()?.map(|memory| memory.initial);
            }
            Payload::GlobalSection(section) => globals = Some(section),
            Payload::ExportSection(exports) => {
                for export in exports {
                    let export = export?;
                    if export.name == VARIABLE && export.kind == ExternalKind::Global {
                        index = Some(export.index);
                    }
                }
            }
            // the rest says nothing of either
            _ => {}
        }
    }
    let (Some(pages), Some(index), Some(globals)) = (pages, index, globals) else { return Ok(None) };
    Ok(constant(globals, index)?.map(|address| (pages, address)))
}

/// The constant that a global begins with.
fn constant(globals: GlobalSectionReader<'_>, index: u32) -> Result<Option<i32>, BinaryReaderError> {
    let Some(global) = globals.into_iter().nth(index as usize).transpose()? else { return Ok(None) };
    match global.init_expr.get_operators_reader().read()? {
        Operator::I32Const { value } => Ok(Some(value)),
        _ => Ok(None),
    }
}

/// Whether a plugin of that kind exports it.
fn is_of(export: &str, kind: Kind) -> bool {
    let name = export.strip_prefix("cabi_post_").unwrap_or(export);
    name.strip_prefix(PACKAGE).is_none_or(|interface| interface.split('@').next() == Some(kind.interface()))
}

/// The same of the other crate.
fn kind_of(kind: ExternalKind) -> ExportKind {
    match kind {
        ExternalKind::Func | ExternalKind::FuncExact => ExportKind::Func,
        ExternalKind::Table => ExportKind::Table,
        ExternalKind::Memory => ExportKind::Memory,
        ExternalKind::Global => ExportKind::Global,
        ExternalKind::Tag => ExportKind::Tag,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::component::javascript::ENGINE;

    /// Names of what a core module exports.
    fn exports(core: &[u8]) -> Vec<String> {
        let mut names = Vec::new();
        for payload in Parser::new(0).parse_all(core) {
            if let Ok(Payload::ExportSection(section)) = payload {
                names.extend(section.into_iter().map(|export| export.unwrap().name.to_owned()));
            }
        }
        names
    }

    #[test]
    fn a_text_makes_a_valid_module_of_one_kind() {
        let text = "x".repeat(100_000);
        for (kind, other) in [(Kind::Rule, Kind::Enricher), (Kind::Enricher, Kind::Rule)] {
            let core = put(ENGINE, &text, kind).unwrap();
            wasmparser::Validator::new().validate_all(&core).unwrap();
            let names = exports(&core);
            assert!(names.iter().any(|name| name.starts_with(&format!("{PACKAGE}{}@", kind.interface()))), "{names:?}");
            assert!(!names.iter().any(|name| name.contains(&format!("{PACKAGE}{}@", other.interface()))), "{names:?}");
            assert_eq!(room(&core).unwrap(), None, "another text has no place in it");
            assert!(core.len() - ENGINE.len() < text.len() + 100);
        }
    }

    #[test]
    fn a_module_without_a_place_for_a_text_is_said_to_have_none() {
        let core = wat::parse_str("(module (memory (export \"memory\") 1))").unwrap();
        assert!(put(&core, "", Kind::Rule).unwrap_err().contains(VARIABLE));
        assert!(put(b"\0asm", "", Kind::Rule).unwrap_err().contains("not as expected"));
    }
}
