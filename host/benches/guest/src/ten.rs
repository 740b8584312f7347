//! Ten columns: two times, a flag and seven texts, each of them looked at in every row.

use sluice::prelude::*;

#[derive(Row)]
struct Visit<'a> {
    event_time: Option<Timestamp>,
    keep_private: Option<bool>,
    user_id: Option<&'a str>,
    page: Option<&'a str>,
    #[row("context.referral")]
    referral: Option<&'a str>,
    #[row("context.ad_id")]
    ad_id: Option<&'a str>,
    #[row("context.user.login")]
    login: Option<&'a str>,
    #[row("context.user.connected_since")]
    connected_since: Option<Timestamp>,
    #[row("context.technical.browser")]
    browser: Option<&'a str>,
    #[row("context.technical.network_type")]
    network: Option<&'a str>,
}

#[derive(Codes)]
enum Visits {
    /// a visit says when, who, where and with what
    #[code(error, reads(event_time, user_id, page, browser, network))]
    Incomplete,
    /// a private visit carries a login
    #[code(error, reads(keep_private, login))]
    LoginExposed,
    /// a visit ends before its user came
    #[code(error, reads(event_time, connected_since))]
    BeforeConnected,
    /// whoever comes by an advertisement comes from somewhere
    #[code(warn, reads(referral, ad_id))]
    Unreferred,
}

#[cfg_attr(feature = "reused", rule(reused))]
#[cfg_attr(not(feature = "reused"), rule)]
fn ten(visit: Visit, found: &mut Found<Visits>) {
    let texts = [visit.user_id, visit.page, visit.browser, visit.network];
    if visit.event_time.is_none() || texts.iter().any(|text| text.is_none_or(str::is_empty)) {
        found.push(Visits::Incomplete)
    }
    if visit.keep_private == Some(true) && visit.login.is_some_and(|login| !login.is_empty()) {
        found.push(Visits::LoginExposed)
    }
    if let (Some(at), Some(since)) = (visit.event_time, visit.connected_since)
        && at < since
    {
        found.push(Visits::BeforeConnected)
    }
    if visit.referral.is_some_and(str::is_empty) && visit.ad_id.is_some() {
        found.push(Visits::Unreferred)
    }
}

/// The rule as a native function.
#[cfg(not(target_family = "wasm"))]
pub const TWIN: sluice::plugin::Rule = __SLUICE_ONE_PLUGIN_PER_CRATE;
