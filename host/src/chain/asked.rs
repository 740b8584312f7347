//! Who can be asked when not everything of a record is there any more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::parts::{Enricher, Parts};

impl Parts {
    /// Expectations, rules and enrichers that read something which `is_lost`, by name, each with what it would need.
    ///
    /// What an enricher adds from something lost is lost, too. Without those that are named here, a judgement of the rest
    /// is as good as ever: rules do not depend on each other.
    pub fn unasked(&self, is_lost: impl Fn(&str) -> bool) -> BTreeMap<Arc<str>, Vec<Arc<str>>> {
        let mut unasked = BTreeMap::new();
        let mut added: BTreeSet<String> = BTreeSet::new();
        let lacks = |added: &BTreeSet<String>, reads: &[Arc<str>]| -> Vec<Arc<str>> {
            let top = |path: &str| path.split('.').next().unwrap_or(path).to_owned();
            reads.iter().filter(|path| added.contains(&top(path)) || is_lost(path)).cloned().collect()
        };
        for enricher in &self.enrichers {
            let (name, lacking) = match enricher {
                Enricher::Sql(sql) => {
                    let mut lacking = Vec::new();
                    for (column, reads) in sql.reads() {
                        let more = lacks(&added, reads);
                        if !more.is_empty() {
                            added.insert(column.to_owned());
                            lacking.extend(more);
                        }
                    }
                    (sql.name().clone(), lacking)
                }
                Enricher::Reference(join) => {
                    let lacking = lacks(&added, join.reads());
                    if !lacking.is_empty() {
                        added.extend(join.adds().iter().map(|field| field.name().clone()));
                    }
                    (join.name().clone(), lacking)
                }
                Enricher::Plugin(step) => {
                    let lacking = lacks(&added, step.plugin.reads());
                    if !lacking.is_empty() {
                        added.extend(step.plugin.adds().iter().map(|field| field.name().clone()));
                    }
                    (step.plugin.name().clone(), lacking)
                }
            };
            if !lacking.is_empty() {
                unasked.insert(name, lacking);
            }
        }
        let rules = self.rules.iter().map(|step| (step.plugin.name(), step.plugin.reads()));
        for (name, reads) in self.expectations.reads().chain(rules) {
            let lacking = lacks(&added, reads);
            if !lacking.is_empty() {
                unasked.insert(name.clone(), lacking);
            }
        }
        unasked
    }
}
