//! The stand-in for WASI's preview 1: `plugins/adapter/preview1.wat`, ready to be linked into a component.
//!
//! It is text in the binary and assembled at first use: a compiler for it would cost more than it.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use wasmparser::{Parser, Payload};
use wit_component::{StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::plugin::{CONTRACT, contract_version};

/// The module that languages import it as.
pub(super) const MODULE: &str = "wasi_snapshot_preview1";

const TEXT: &str = include_str!("../../../plugins/adapter/preview1.wat");

/// The adapter, with the types of what it imports.
pub(super) fn bytes() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let mut module = wat::parse_str(TEXT.replace("VERSION", contract_version())).expect("a test assembles it");
        let mut resolve = Resolve::default();
        let contract = format!("{CONTRACT}\nworld adapter {{ import host; }}\n");
        let package =
            resolve.push_source("plugin.wit", &contract).expect("the contract parses, and so does one world more");
        let world = resolve.select_world(&[package], Some("adapter")).expect("it stands there");
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false)
            .expect("it imports what its world imports");
        module
    })
}

/// The functions that it stands in for.
pub(super) fn functions() -> &'static BTreeSet<String> {
    static FUNCTIONS: OnceLock<BTreeSet<String>> = OnceLock::new();
    FUNCTIONS.get_or_init(|| {
        let mut names = BTreeSet::new();
        for payload in Parser::new(0).parse_all(bytes()) {
            if let Ok(Payload::ExportSection(section)) = payload {
                names.extend(section.into_iter().flatten().map(|export| export.name.to_owned()));
            }
        }
        names
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_of_preview_1_is_there() {
        assert_eq!(functions().len(), 46);
        for name in
            ["fd_write", "clock_time_get", "poll_oneoff", "random_get", "proc_exit", "path_open", "sock_shutdown"]
        {
            assert!(functions().contains(name), "{name}");
        }
    }
}
