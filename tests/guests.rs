//! Guests made on the spot: a core module from `guests/skeleton.wat` and a body, with the contract's types around it.
//!
//! The description is laid out here as the canonical ABI wants it, so that a test can say anything in it, also what no
//! SDK would say.

use sluice_host::plugin::CONTRACT;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// A guest to be made.
#[derive(Clone)]
pub struct Guest {
    /// `rule` or `enricher`
    pub kind: &'static str,
    /// further imports of the module, of the contract's interfaces
    pub imports: String,
    /// further functions, globals, tables of the module
    pub extra: String,
    /// body of `configure`; answers the address of a result
    pub configure: String,
    /// body of `check` or `enrich`: `$rows`, `$columns`; answers the address of a result
    pub call: String,
    /// body of `cabi_realloc`: `$size`, a local `$at`; answers an address
    pub allocate: String,
    /// what `configure` answers, if its body is left as it is
    pub says: Says,
    /// the contract that its types are taken from
    pub contract: String,
    /// imports of a world that is not ours: package text, interface, function
    pub foreign: Option<(&'static str, &'static str, &'static str)>,
}

/// A description.
#[derive(Clone)]
pub struct Says {
    pub name: String,
    pub version: String,
    /// of every code
    pub help: String,
    pub reads: Vec<(String, u8, bool)>,
    /// code, reads
    pub codes: Vec<(String, Vec<u16>)>,
    /// name, type, precision, scale
    pub produces: Vec<(String, u8, u8, u8)>,
    pub one_to_many: bool,
    pub reused: bool,
}

/// `logical-type` by number.
pub const INT32: u8 = 1;
pub const INT64: u8 = 2;
pub const UTF8: u8 = 7;

/// `logical-type` in the contract's order.
pub const TYPES: [&str; 10] =
    ["boolean", "int32", "int64", "float64", "date32", "timestamp-us", "decimal", "utf8", "binary", "json"];

/// The empty answer: nothing to object to.
pub const NOTHING: &str = "(i32.const 1024)";

/// The answer of an enricher that copies `n`.
pub const COPY: &str = "(call $column (local.get $rows) (i32.const 3) (i32.load offset=4 (local.get $columns))
    (i32.mul (local.get $rows) (i32.const 8)) (i32.const 0) (i32.const 0))";

/// An allocator that never frees.
pub const ALLOCATE: &str = "(call $bump (local.get $size))";

/// A rule over `n` with two codes.
pub fn rule(call: &str) -> Guest {
    Guest {
        kind: "rule",
        imports: String::new(),
        extra: String::new(),
        configure: "(i32.const 8192)".into(),
        call: call.into(),
        allocate: ALLOCATE.into(),
        says: Says {
            name: "guest".into(),
            version: "1.0.0".into(),
            help: "a code of a test".into(),
            reads: vec![("n".into(), INT64, true)],
            codes: vec![("unlucky".into(), vec![0]), ("odd".into(), vec![])],
            produces: vec![],
            one_to_many: false,
            reused: false,
        },
        contract: CONTRACT.into(),
        foreign: None,
    }
}

/// An enricher over `n` that adds `added`.
pub fn enricher(ty: u8, call: &str) -> Guest {
    let mut guest = rule(call);
    guest.kind = "enricher";
    guest.says.codes.clear();
    guest.says.produces = vec![("added".into(), ty, 0, 0)];
    guest
}

/// A rule that does `misdeed` where a row's n is 13, and objects to nothing.
pub fn at_thirteen(misdeed: &str) -> Guest {
    rule(&where_thirteen(misdeed, NOTHING))
}

/// A body that does `misdeed` where a row's n is 13, and else answers `otherwise`.
pub fn where_thirteen(misdeed: &str, otherwise: &str) -> String {
    format!(
        "(local $bad i32)
        (local.set $bad (call $thirteen (local.get $rows) (local.get $columns)))
        (if (i32.ne (local.get $bad) (i32.const -1)) (then {misdeed}))
        {otherwise}"
    )
}

impl Guest {
    pub fn extra(mut self, extra: &str) -> Self {
        self.extra.push_str(extra);
        self
    }

    /// The core module.
    pub fn core(&self) -> Vec<u8> {
        let interface = format!("sluice:plugin/{}@{}", self.kind, self.version());
        let function = if self.kind == "rule" { "check" } else { "enrich" };
        let mut imports =
            format!(r#"(import "sluice:plugin/host@{}" "log" (func $log (param i32 i32 i32)))"#, self.version());
        if let Some((_, interface, function)) = self.foreign {
            imports.push_str(&format!(r#"(import "{interface}" "{function}" (func $foreign))"#));
        }
        imports.push_str(&self.imports.replace("VERSION", &self.version()));
        let data: String = self.says.image(self.kind).iter().map(|byte| format!("\\{byte:02x}")).collect();
        let text = include_str!("guests/skeleton.wat")
            .replace("IMPORTS", &imports)
            .replace("EXTRA", &self.extra)
            .replace("ALLOCATE_BODY", &self.allocate)
            .replace("CONFIGURE_BODY", &self.configure)
            .replace("CALL_BODY", &self.call)
            .replace("CONFIGURE", &format!("{interface}#configure"))
            .replace("CALL", &format!("{interface}#{function}"))
            .replace("\"DATA\"", &format!("\"{data}\""));
        wat::parse_str(&text).unwrap_or_else(|e| panic!("{e}\n{text}"))
    }

    fn version(&self) -> String {
        let line = self.contract.lines().next().expect("the contract begins with its package");
        line.trim_start_matches("package sluice:plugin@").trim_end_matches(';').to_owned()
    }

    /// The component.
    pub fn component(&self) -> Vec<u8> {
        let mut core = self.core();
        let mut resolve = Resolve::default();
        let mut contract = self.contract.clone();
        if let Some((package, interface, _)) = self.foreign {
            resolve.push_str("foreign.wit", package).expect("the foreign package parses");
            contract = contract.replace("  import host;", &format!("  import host;\n  import {interface};"));
        }
        let package = resolve.push_str("plugin.wit", &contract).expect("the contract parses");
        let world =
            resolve.select_world(&[package], Some(&format!("{}-plugin", self.kind))).expect("the world is there");
        embed_component_metadata(&mut core, &resolve, world, StringEncoding::UTF8, false)
            .expect("the types are embedded");
        let mut encoder = ComponentEncoder::default();
        encoder.validate(true).module(&core).expect("the module fits the world");
        encoder.encode().expect("the component is encoded")
    }
}

/// Bytes at address 8192.
struct Image(Vec<u8>);

impl Image {
    const BASE: usize = 8192;

    /// Appends, and answers the address.
    fn put(&mut self, bytes: &[u8]) -> u32 {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        let at = Self::BASE + self.0.len();
        self.0.extend(bytes);
        at as u32
    }

    fn list(&mut self, bytes: &[u8], len: usize) -> [u8; 8] {
        let at = self.put(bytes);
        [at.to_le_bytes(), (len as u32).to_le_bytes()].concat().try_into().expect("two words")
    }

    fn text(&mut self, text: &str) -> [u8; 8] {
        self.list(text.as_bytes(), text.len())
    }
}

impl Says {
    /// `result<description, plugin-error>`, at the beginning of the image.
    fn image(&self, kind: &str) -> Vec<u8> {
        let mut image = Image(vec![0; 40]);
        let mut reads = Vec::new();
        for (path, ty, required) in &self.reads {
            reads.extend(image.text(path));
            reads.extend([*ty, u8::from(*required), 0, 0]);
        }
        let mut second = Vec::new();
        let len = if kind == "rule" {
            for (code, columns) in &self.codes {
                second.extend(image.text(code));
                second.extend([0; 4]); // severity: error
                second.extend(image.text(&self.help));
                let indexes: Vec<u8> = columns.iter().flat_map(|i| i.to_le_bytes()).collect();
                second.extend(image.list(&indexes, columns.len()));
            }
            self.codes.len()
        } else {
            for (name, ty, precision, scale) in &self.produces {
                second.extend(image.text(name));
                second.extend([*ty, *precision, *scale, 0]);
            }
            self.produces.len()
        };
        let head = [
            vec![0; 4], // ok
            image.text(&self.name).to_vec(),
            image.text(&self.version).to_vec(),
            image.list(&reads, self.reads.len()).to_vec(),
            image.list(&second, len).to_vec(),
            if kind == "rule" {
                vec![u8::from(self.reused)]
            } else {
                vec![u8::from(self.one_to_many), u8::from(self.reused)]
            },
        ]
        .concat();
        image.0[..head.len()].copy_from_slice(&head);
        image.0
    }
}
