//! The sections that say how a pipeline runs, and not what it does: `[commit]`, `[mask]`, `[metrics]`, `[upkeep]`, `[admin]` and
//! `[shadow]`.

use super::section::{Reader, Section};
use super::{AdminConfig, CommitConfig, Listen, Place, UpkeepConfig, defaults};
use crate::shadow::Rules;

pub(super) fn commit(r: &mut Reader<'_>, mut section: Section<'_>) -> CommitConfig {
    let commit = CommitConfig {
        every: section.duration(r, "every").unwrap_or(defaults::COMMIT.every),
        rows: section.count(r, "rows", i64::MAX as u64).unwrap_or(defaults::COMMIT.rows),
        bytes: section.size(r, "bytes").unwrap_or(defaults::COMMIT.bytes),
    };
    section.finish(r);
    commit
}

/// `[mask] columns`
pub(super) fn mask(r: &mut Reader<'_>, root: &mut Section<'_>) -> Vec<(String, Place)> {
    let Some(mut section) = root.section(r, "mask") else { return Vec::new() };
    let columns = section.required("columns", "for example `columns = [\"context.user.login\"]`");
    let columns = columns.and_then(|value| r.texts("mask.columns", value, Reader::text));
    section.finish(r);
    columns.into_iter().flatten().map(|text| (text.value, text.place)).collect()
}

/// `[metrics] listen`
pub(super) fn metrics(r: &mut Reader<'_>, root: &mut Section<'_>) -> Listen {
    let Some(mut section) = root.section(r, "metrics") else { return Listen::Default };
    let listen = section.expanded(r, "listen");
    section.finish(r);
    let Some(listen) = listen else { return Listen::Default };
    match listen.value.as_str() {
        "off" => Listen::Off,
        address if is_address(address) => Listen::At(address.to_owned()),
        _ => {
            let help = "as in \"127.0.0.1:9187\", or \"off\"; left out: the next free port on loopback";
            r.mistake(listen.place.span, "`metrics.listen` must be a host and a port", "", help);
            Listen::Default
        }
    }
}

fn is_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

/// `[upkeep] every`, `older_than`
pub(super) fn upkeep(r: &mut Reader<'_>, root: &mut Section<'_>, commit: &CommitConfig) -> Option<UpkeepConfig> {
    let mut section = root.section(r, "upkeep")?;
    let span = section.span.clone();
    let every = section.duration(r, "every").unwrap_or(defaults::UPKEEP);
    let older_than = section.duration(r, "older_than").unwrap_or(defaults::ORPHANS);
    section.finish(r);
    if older_than < commit.every * 2 {
        let help = "an entry is open for up to `commit.every`, and its files must not be taken for orphans";
        r.mistake(span, "`upkeep.older_than` is less than twice `commit.every`", "", help);
    }
    Some(UpkeepConfig { every, older_than })
}

/// `[admin] listen`, `token`
pub(super) fn admin(r: &mut Reader<'_>, root: &mut Section<'_>) -> Option<AdminConfig> {
    let mut section = root.section(r, "admin")?;
    let listen = section.required("listen", "for example `listen = \"127.0.0.1:9188\"`");
    let listen = listen.and_then(|value| r.expanded("admin.listen", value));
    let token = section.required(
        "token",
        "for example `token = \"${file:/run/secrets/sluice}\"`: who knows it may change what judges",
    );
    let token = token.and_then(|value| r.expanded("admin.token", value));
    section.finish(r);
    let (listen, token) = (listen?, token?);
    if !is_address(&listen.value) {
        r.mistake(listen.place.span, "`admin.listen` must be a host and a port", "", "as in \"127.0.0.1:9188\"");
        return None;
    }
    let token_text = token.value.trim().to_owned();
    if token_text.is_empty() {
        r.mistake(token.place.span, "`admin.token` must not be empty", "", "anybody could change what judges");
        return None;
    }
    Some(AdminConfig { listen: listen.value, token: token_text })
}

/// `[shadow] promote_after`, `max_flips`, `max_errors`
pub(super) fn shadow(r: &mut Reader<'_>, root: &mut Section<'_>) -> Rules {
    let Some(mut section) = root.section(r, "shadow") else { return Rules::default() };
    let promote_after = section.count(r, "promote_after", i64::MAX as u64);
    let max_flips = percent(r, &mut section, "max_flips");
    let max_errors = percent(r, &mut section, "max_errors");
    if promote_after.is_none() && !section.has("promote_after") {
        let span = section.span.clone();
        let help = "records that are compared before the rule decides, for example `promote_after = 100_000`";
        r.mistake(span, "`shadow.promote_after` is missing", "", help);
    }
    section.finish(r);
    Rules { promote_after, max_flips: max_flips.unwrap_or(0.0), max_errors }
}

/// `"0.1%"`
fn percent(r: &mut Reader<'_>, section: &mut Section<'_>, key: &'static str) -> Option<f64> {
    let text = section.text(r, key)?;
    let percent = text.value.strip_suffix('%').and_then(|percent| percent.trim().parse().ok());
    let percent = percent.filter(|percent| (0.0..=100.0).contains(percent));
    if percent.is_none() {
        let title = format!("`{}` must be a share, as in \"0.1%\"", section.name(key));
        r.mistake(text.place.span, title, "", "");
    }
    percent
}
