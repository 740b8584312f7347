//! The encoder on modules that are wrong in one way each, and the contract against its last release.

use wit_component::{dummy_module, semver_check};
use wit_parser::{LiftLowerAbi, ManglingAndAbi, Resolve};

use super::*;

/// The newest contract that components in the field were built for. A release adds a file and changes this line.
const RELEASED: &str = include_str!("../../../wit/released/0.1.0.wit");

/// A module with all that a plugin of `kind` must export, as a compiler would make it, but without a `component-type`.
fn module(kind: Kind) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let package = resolve.push_source("plugin.wit", CONTRACT).unwrap();
    let world = resolve.select_world(&[package], Some(&format!("{}-plugin", kind.interface()))).unwrap();
    dummy_module(&resolve, world, ManglingAndAbi::Legacy(LiftLowerAbi::Sync))
}

#[track_caller]
fn refused(core: &[u8], expected: &str) {
    let error = encode(core).expect_err("the encoder must refuse this").to_string();
    assert!(error.contains(expected), "{error}");
}

/// A module of text, with these exports.
fn exporting(names: &[&str]) -> Vec<u8> {
    let exports: String = names.iter().map(|name| format!("(export \"{name}\" (func $f))")).collect();
    wat::parse_str(format!("(module (func $f) {exports})")).unwrap()
}

#[test]
fn exports_decide_the_world() {
    for kind in KINDS {
        assert_eq!(kind_of(&module(kind)), Ok(kind));
        let component = encode(&module(kind)).unwrap();
        assert!(Parser::is_component(&component));
        assert_eq!(crate::plugin::inspect(&crate::plugin::Engine::new(None).unwrap(), &component).kind, Some(kind));
    }
}

#[test]
fn what_cannot_be_a_plugin_is_told_in_one_sentence() {
    refused(b"not wasm at all", "is not WebAssembly");
    refused(&encode(&module(Kind::Rule)).unwrap(), "is a component already");
    refused(&exporting(&["main"]), "exports neither a rule nor an enricher");
    let (rule, enricher) = ("sluice:plugin/rule@0.1.0", "sluice:plugin/enricher@0.1.0");
    refused(
        &exporting(&[&format!("{rule}#check"), &format!("{enricher}#enrich")]),
        "exports several of a rule, an enricher and an auditor",
    );
    refused(&exporting(&[&format!("{rule}#configure")]), "does not export sluice:plugin/rule@0.1.0#check");
    refused(&exporting(&[&format!("{rule}#configure"), &format!("{rule}#check")]), "does not export memory");
    refused(&exporting(&["sluice:plugin/rule@9.0.0#check"]), "speaks version 9.0.0 of the contract");
    let wasi = "(module (import \"wasi_unstable\" \"fd_write\" (func)))";
    refused(&wat::parse_str(wasi).unwrap(), "imports wasi_unstable.fd_write: a plugin has no files");
    let wasi = "(module (import \"wasi_snapshot_preview1\" \"fd_write\" (func)))";
    refused(&wat::parse_str(wasi).unwrap(), "exports neither a rule nor an enricher");
    let wasi = "(module (import \"wasi_snapshot_preview1\" \"fd_gaze\" (func)))";
    refused(&wat::parse_str(wasi).unwrap(), "imports wasi_snapshot_preview1.fd_gaze: a plugin has no files");
    let browser = "(module (import \"__wbindgen_placeholder__\" \"now\" (func)))";
    refused(&wat::parse_str(browser).unwrap(), "some crate of it expects a browser");
    let unknown = "(module (import \"env\" \"now\" (func)))";
    refused(&wat::parse_str(unknown).unwrap(), "imports env.now, which nobody provides");
}

#[test]
fn every_embedded_plugin_is_a_component_of_the_contract() {
    let engine = crate::plugin::Engine::new(None).unwrap();
    for name in BUILTINS {
        let component = builtin(name).unwrap().unwrap();
        let inspection = crate::plugin::inspect(&engine, &component);
        let kind = if *name == "learned" { Kind::Auditor } else { Kind::Rule };
        assert_eq!((inspection.problem, inspection.kind), (None, Some(kind)), "{name}");
    }
    assert!(builtin("no-such").is_none());
}

#[test]
fn a_component_lands_beside_its_folder() {
    let check = |folder, expected| assert_eq!(beside(Path::new(folder), "a_b"), Path::new(expected));
    check("plugins/a-b", "plugins/a_b.wasm");
    check("a-b", "a_b.wasm");
    check(".", "./a_b.wasm");
    check("../a-b", "../a_b.wasm");
    check("..", "../a_b.wasm");
}

/// Whether components built for `old` load under `new`: every world is still there, and takes what it took.
fn is_compatible(old: &str, new: &str) -> Result<(), String> {
    // one resolve cannot hold two packages of one name and version; the check ignores versions
    let old = old.replacen(&format!("@{}", version_of(old)), "@0.0.0-released", 1);
    let mut resolve = Resolve::default();
    let released = resolve.push_source("released.wit", &old).map_err(|error| format!("{error:#}"))?;
    let current = resolve.push_source("plugin.wit", new).map_err(|error| format!("{error:#}"))?;
    for (name, world) in resolve.packages[released].worlds.clone() {
        let now = *resolve.packages[current].worlds.get(&name).ok_or_else(|| format!("the world {name} is gone"))?;
        semver_check(resolve.clone(), world, now).map_err(|error| format!("the world {name}: {error:#}"))?;
    }
    Ok(())
}

fn version_of(wit: &str) -> &str {
    wit.lines().next().and_then(|line| line.split_once('@')).map_or("", |(_, version)| version.trim_end_matches(';'))
}

/// `0.1.x` among themselves, `1.x` among themselves.
fn line_of(version: &str) -> Vec<&str> {
    let parts: Vec<&str> = version.split('.').collect();
    if parts[0] == "0" { parts[..2].to_vec() } else { parts[..1].to_vec() }
}

/// What CI says of a contract beside its last release.
fn verdict(old: &str, new: &str) -> Result<(), String> {
    match is_compatible(old, new) {
        Err(why) if line_of(version_of(old)) == line_of(version_of(new)) => Err(format!(
            "wit/plugin.wit is incompatible with its release {}: bump its version ({why})",
            version_of(old)
        )),
        Err(_) | Ok(()) => Ok(()),
    }
}

#[test]
fn the_contract_is_compatible_with_its_release_or_has_a_new_version() {
    verdict(RELEASED, CONTRACT).unwrap();
}

#[test]
fn a_change_that_breaks_components_is_noticed() {
    let changed = |from: &str, to: &str| {
        assert!(RELEASED.contains(from), "{from}");
        RELEASED.replacen(from, to, 1)
    };
    let broken = [
        changed("    row: u32,", "    row: u64,"),
        changed("    detail: option<string>,\n", "    detail: option<string>,\n    weight: u32,\n"),
        changed("  record varlen {", "  record varlen {\n    first: u8,"),
        changed("    warn,\n", "    warn,\n    fatal,\n"),
        changed("  check: func", "  audit: func(b: batch);\n  check: func"),
        changed("world enricher-plugin", "world adder-plugin"),
    ];
    for new in &broken {
        let error = verdict(RELEASED, new).expect_err("must be refused");
        assert!(
            error.starts_with("wit/plugin.wit is incompatible with its release 0.1.0: bump its version"),
            "{error}"
        );
        assert_eq!(verdict(RELEASED, &new.replacen("@0.1.0", "@0.2.0", 1)), Ok(()));
        assert!(verdict(RELEASED, &new.replacen("@0.1.0", "@0.1.1", 1)).is_err(), "a patch is no new version");
    }
    let wider = changed("interface host {", "interface host {\n  flush: func();");
    assert_eq!(verdict(RELEASED, &wider), Ok(()), "the host may offer more");
}
