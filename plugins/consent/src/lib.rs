//! A private visit carries no login, unless allowed.

use sluice::prelude::*;

#[derive(Row)] // the columns this rule reads; the host passes no others
struct Visit<'a> {
    keep_private: Option<bool>,
    #[row("context.user.login")]
    login: Option<&'a str>,
}

#[derive(Deserialize)]
struct Settings {
    #[serde(default)]
    allow: Vec<String>,
}

#[derive(Codes)]
enum Consent {
    /// a private visit carries a login
    #[code(error, reads(keep_private, login))]
    LoginExposed,
}

#[rule] // name and version come from Cargo.toml
fn consent(visit: Visit, settings: &Settings, found: &mut Found<Consent>) {
    let (Some(true), Some(login)) = (visit.keep_private, visit.login) else { return };
    if !settings.allow.iter().any(|a| a == login) {
        found.push(Consent::LoginExposed)
    }
}
