//! Files that are offered as plugins, and were made by no toolchain.

use wasm_encoder::{
    Component, ComponentSection, ComponentType, ComponentTypeSection, ComponentValType, CustomSection, InstanceSection,
    MemorySection, MemoryType, Module, ModuleArg, ModuleSection, NestedComponentSection, PrimitiveValType,
};
use wasmparser::{Parser, Payload};

use crate::guests::{COPY, Guest, INT32, NOTHING, enricher, rule};

/// The file that a case names.
pub fn code(name: &str) -> Vec<u8> {
    let honest = rule(NOTHING);
    let with = |change: &dyn Fn(&mut Guest)| {
        let mut guest = honest.clone();
        change(&mut guest);
        guest.component()
    };
    match name {
        "script" => b"#!/bin/sh\n".to_vec(),
        "machine-code" => b"\x7fELF\x02\x01\x01".to_vec(),
        "core-module" => honest.core(),
        "half" => honest.component()[..200].to_vec(),
        "too-large" => with(&|guest| guest.extra = format!(r#"(data (i32.const 70000) "{}")"#, "x".repeat(2 << 20))),
        "files" => with(&|guest| {
            let package = "package wasi:filesystem@0.2.6; interface preopens { open: func(); }";
            guest.foreign = Some((package, "wasi:filesystem/preopens@0.2.6", "open"));
            guest.call = format!("(call $foreign) {NOTHING}");
        }),
        "next-contract" => with(&|guest| guest.contract = guest.contract.replace("@0.1.0", "@0.2.0")),
        "other-types" => with(&|guest| guest.contract = guest.contract.replace("code: u16,", "code: u32,")),
        "enricher-for-rule" => enricher(INT32, COPY).component(),
        "rule-for-enricher" => honest.component(),
        "tail-calls" => with(&|guest| {
            guest.call = "(return_call $again (local.get $rows))".into();
            guest.extra = "(func $again (param i32) (result i32) (i32.const 1024))".into();
        }),
        "nested-components" => {
            let mut inner = Component::new();
            for _ in 0..5_000 {
                let mut outer = Component::new();
                outer.section(&NestedComponentSection(&inner));
                inner = outer;
            }
            and(honest.component(), &[&NestedComponentSection(&inner)])
        }
        "nested-types" => {
            let mut inner = ComponentType::new();
            for _ in 0..5_000 {
                let mut outer = ComponentType::new();
                outer.ty().component(&inner);
                inner = outer;
            }
            let mut types = ComponentTypeSection::new();
            types.component(&inner);
            and(honest.component(), &[&types])
        }
        "doubling-type" => {
            let mut types = ComponentTypeSection::new();
            types.defined_type().primitive(PrimitiveValType::U64);
            for n in 0..30 {
                types.defined_type().tuple([n, n].map(ComponentValType::Type)); // a pair of the type before it
            }
            let mut inner = Component::new();
            inner.section(&types);
            and(honest.component(), &[&NestedComponentSection(&inner)])
        }
        "instances" => {
            let code = honest.component();
            let modules = modules(&code);
            let mut module = Module::new();
            let mut memories = MemorySection::new();
            let (memory64, shared) = (false, false);
            memories.memory(MemoryType { minimum: 0, maximum: None, memory64, shared, page_size_log2: None });
            module.section(&memories);
            let mut instances = InstanceSection::new();
            for _ in 0..1_000 {
                instances.instantiate::<[(&str, ModuleArg); 0], _>(modules, []);
            }
            and(code, &[&ModuleSection(&module), &instances])
        }
        other => panic!("no fixture {other}"),
    }
}

/// A component that carries cases.
pub fn with_cases(component: Vec<u8>, cases: &str) -> Vec<u8> {
    let data = format!("cases.ndjson\n{cases}");
    let section = CustomSection { name: "sluice:cases".into(), data: data.as_bytes().into() };
    and(component, &[&section])
}

/// A component with further sections at its end.
fn and(mut code: Vec<u8>, sections: &[&dyn ComponentSection]) -> Vec<u8> {
    sections.iter().for_each(|section| section.append_to_component(&mut code));
    code
}

/// How many core modules a component has of its own.
fn modules(code: &[u8]) -> u32 {
    let mut depth = 0;
    let mut modules = 0;
    for payload in Parser::new(0).parse_all(code) {
        match payload.expect("the component was encoded a moment ago") {
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ModuleSection { .. } => modules += u32::from(depth == 1),
            _ => {}
        }
    }
    modules
}
