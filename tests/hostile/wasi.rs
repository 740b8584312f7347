//! Components that import WASI 0.2, where the pipeline stands in for it.

use sluice_host::config::{PluginConfig, Wasi};
use sluice_host::outcome::Reason;
use sluice_host::plugin::Kind;

use super::{check, config, load, reasons};
use crate::guests::{Guest, NOTHING, at_thirteen, rule};

fn inert() -> PluginConfig {
    PluginConfig { wasi: Wasi::Inert, ..config() }
}

fn importing(package: &'static str, interface: &'static str, function: &'static str, guest: Guest) -> Guest {
    Guest { foreign: Some((package, interface, function)), ..guest }
}

/// Whatever it asks for is answered by its type, of a version that this host has never seen.
#[test]
fn what_is_imported_of_wasi_is_answered_with_nothing() {
    let package = "package wasi:filesystem@0.2.77; interface preopens { open: func(); }";
    let call = Guest { call: format!("(call $foreign) {NOTHING}"), ..rule(NOTHING) };
    let guest = importing(package, "wasi:filesystem/preopens@0.2.77", "open", call);
    let refused = load(Kind::Rule, &config(), &guest.component()).unwrap_err().to_string();
    assert!(refused.ends_with("rebuild it with `sluice build`, or set `wasi = \"inert\"`"), "{refused}");
    let checked = check(&guest, &inert(), 20).unwrap();
    assert!(checked.findings.is_empty() && checked.dead.is_empty(), "{checked:?}");
}

#[test]
fn a_guest_that_exits_costs_the_row_at_which_it_does() {
    let package = "package wasi:cli@0.2.6; interface exit { exit: func(); }";
    let guest = importing(package, "wasi:cli/exit@0.2.6", "exit", at_thirteen("(call $foreign)"));
    let checked = check(&guest, &inert(), 20).unwrap();
    assert_eq!(reasons(&checked.dead), [(13, Reason::PluginTrap)]);
    assert!(checked.dead[0].detail.contains("it called exit"), "{}", checked.dead[0].detail);
}
