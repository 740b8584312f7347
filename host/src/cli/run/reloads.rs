//! What a running pipeline says when what judges changes, or refuses to.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use super::{Screen, plural, say, short};
use crate::admin::SharedStatus;
use crate::chain::Chain;
use crate::outcome::Severity;
use crate::reload::Reloaded;
use crate::reload::trial::Tried;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::Reload;

/// A line about the generation that judges from now on, or about the one that does not.
pub(super) fn tell(reloaded: &Reloaded<'_>, screen: Screen, metrics: &Metrics, status: &SharedStatus) {
    let (word, what) = match reloaded {
        Reloaded::Activated { chain, before, entry, tried } => {
            metrics.reloaded(Reload::Activated);
            let (hash, what) = (chain.generation.short(), differences(before, chain));
            ("reload", format!("{what}: {}generation {hash} from entry {entry}", passed(tried)))
        }
        Reloaded::Followed { chain, before } => {
            metrics.reloaded(Reload::Followed);
            let (hash, what) = (chain.generation.short(), differences(before, chain));
            ("reload", format!("{what}: generation {hash}, by the ledger's word"))
        }
        Reloaded::Same { is_written: true, going_on: _ } => (
            "reload",
            "nothing that judges changed; connections, sinks and commits count from the next start".to_owned(),
        ),
        Reloaded::Same { is_written: false, going_on } => {
            let hash = going_on.generation.short();
            (
                "reload",
                format!("nothing that judges changed; generation {hash} goes on, which an operator put in force"),
            )
        }
        Reloaded::Shadow { what } => ("shadow", (*what).to_owned()),
        Reloaded::Refused { error, going_on } => {
            metrics.reloaded(Reload::Refused);
            ("refused", format!("{}; generation {} goes on", error.sentence(), going_on.generation.short()))
        }
    };
    {
        let mut status = status.lock().unwrap_or_else(PoisonError::into_inner);
        match reloaded {
            Reloaded::Activated { chain, .. } | Reloaded::Followed { chain, .. } => {
                status.generation.clone_from(&chain.generation.hash);
            }
            Reloaded::Refused { .. } => status.last_refused = Some(what.clone()),
            Reloaded::Same { .. } | Reloaded::Shadow { .. } => {}
        }
        status.last_reload = Some(format!("{word}: {what}"));
    }
    match screen {
        Screen::Text(_) => say(&format!("{} {word:<11} {what}", chrono::Local::now().format("%H:%M:%S"))),
        Screen::Bar | Screen::Json => tracing::warn!(what, "{word}"),
    }
}

/// `14 of 14 cases, `
fn passed(tried: &Tried) -> String {
    if tried.cases == 0 {
        String::new()
    } else {
        format!("{} of {}, ", tried.cases, plural(tried.cases as u64, "case"))
    }
}

/// `consent 1.2.0 → 1.3.0 (41aa7b), + expect/has-page`: what judges otherwise.
fn differences(before: &Chain, after: &Chain) -> String {
    let mut changes = Vec::new();
    let plugin = |chain: &Chain, name: &str| chain.plugins().find(|p| &**p.name() == name).cloned();
    for new in after.plugins() {
        match plugin(before, new.name()) {
            None => changes.push(format!("+ {} {}", new.name(), new.version())),
            Some(old) if old.digest() == new.digest() => {}
            Some(old) if old.version() == new.version() => {
                changes.push(format!(
                    "{} {} ({} → {})",
                    new.name(),
                    new.version(),
                    short(old.digest()),
                    short(new.digest())
                ));
            }
            Some(old) => {
                let digest = short(new.digest());
                changes.push(format!("{} {} → {} ({digest})", new.name(), old.version(), new.version()));
            }
        }
    }
    changes.extend(before.plugins().filter(|p| plugin(after, p.name()).is_none()).map(|p| format!("- {}", p.name())));
    let sql = |chain: &Chain| -> BTreeMap<Arc<str>, (String, Severity)> {
        chain.config.expect.iter().map(|e| (e.name.clone(), (e.sql.text.clone(), e.severity))).collect()
    };
    let (old, new) = (sql(before), sql(after));
    changes.extend(new.iter().filter(|(name, _)| !old.contains_key(*name)).map(|(name, _)| format!("+ expect/{name}")));
    changes.extend(old.keys().filter(|name| !new.contains_key(*name)).map(|name| format!("- expect/{name}")));
    let changed = new.iter().filter(|(name, sql)| old.get(*name).is_some_and(|old| old != *sql));
    changes.extend(changed.map(|(name, _)| format!("expect/{name}")));
    if before.schema() != after.schema() {
        changes.push("columns".into());
    }
    if changes.is_empty() { "settings".into() } else { changes.join(", ") }
}
