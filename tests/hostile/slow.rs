//! A component that is good, and takes long to compile. Benchmarks have use for it too.

use wasm_encoder::{
    CodeSection, ComponentSection, Function, FunctionSection, Module, ModuleSection, TypeSection, ValType,
};

/// A component that takes long to compile: it has a module of so many bytes that nobody calls.
pub fn slow(mut component: Vec<u8>, bytes: usize) -> Vec<u8> {
    let mut body = Function::new([]);
    let mut instructions = body.instructions();
    instructions.local_get(0);
    for n in 0..500 {
        instructions.local_get(0).i64_const(n).i64_mul().i64_xor().i64_const(7).i64_rotl();
    }
    instructions.end();
    let functions = bytes / body.byte_len();
    let (mut types, mut declared, mut code) = (TypeSection::new(), FunctionSection::new(), CodeSection::new());
    types.ty().function([ValType::I64], [ValType::I64]);
    for _ in 0..functions {
        declared.function(0);
        code.function(&body);
    }
    let mut module = Module::new();
    module.section(&types).section(&declared).section(&code);
    ModuleSection(&module).append_to_component(&mut component);
    component
}
