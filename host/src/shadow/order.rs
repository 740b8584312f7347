//! What an operator, or a rule, wants of a shadow: one object of the state folder, `shadow.json`, that the last word replaces.
//!
//! It is no part of the ledger: which generation is in force stands there alone.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::store::{failed, shown};

/// The format that this version writes.
const FORMAT: u32 = 1;

/// A shadow that is, or was, wanted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Order {
    format: u32,
    /// names its numbers and differences
    pub id: Uuid,
    /// hash of the generation that judges beside the one in force
    pub candidate: String,
    /// hash of the generation that was in force when it began
    pub base: String,
    /// of the batches, above 0, at most 1
    pub share: f64,
    /// what ends it without an operator
    #[serde(default)]
    pub rules: Rules,
    /// when it began
    pub since: DateTime<Utc>,
    /// what became of it
    pub state: State,
}

/// `[shadow]`: when a shadow is promoted, and a promotion undone, without an operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rules {
    /// records that are compared before the rule decides; `None`: an operator does
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promote_after: Option<u64>,
    /// percent of these records that may flip
    #[serde(default)]
    pub max_flips: f64,
    /// percent of rows that may end in error or dlq within as many records after a promotion; beyond, it is undone
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_errors: Option<f64>,
}

/// What became of an order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "lowercase")]
pub enum State {
    /// the candidate judges beside
    Running,
    /// it was ended without a promotion
    Stopped {
        /// by whom or what
        why: String,
    },
    /// it is in force
    Promoted {
        /// by whom or what
        why: String,
        /// rows in the ledger then
        rows: u64,
        /// those of them in error and dlq
        bad: u64,
        /// whether what comes is still watched
        watched: bool,
    },
    /// it was in force
    Undone {
        /// by what
        why: String,
    },
}

impl Order {
    /// An order that begins now.
    pub fn new(candidate: &str, base: &str, share: f64, rules: Rules) -> Order {
        Order {
            format: FORMAT,
            id: Uuid::now_v7(),
            candidate: candidate.to_owned(),
            base: base.to_owned(),
            share,
            rules,
            since: Utc::now(),
            state: State::Running,
        }
    }

    /// Whether the candidate judges beside.
    pub fn is_running(&self) -> bool {
        self.state == State::Running
    }

    /// The order of a pipeline; `None` where there never was one.
    pub async fn read(store: &Arc<dyn ObjectStore>, state: &Path) -> Result<Option<Order>> {
        let path = path(state);
        let bytes = match async { store.get(&path).await?.bytes().await }.await {
            Ok(bytes) => bytes,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(e) => return Err(failed(format!("cannot read {}", shown(&path)), e)),
        };
        let order: Order = serde_json::from_slice(&bytes).map_err(|e| {
            Error::Diverged(format!("{} cannot be read: {e}; remove it to end the shadow", shown(&path)))
        })?;
        if order.format > FORMAT {
            return Err(Error::Diverged(format!("{} was written by a newer sluice: use that one", shown(&path))));
        }
        Ok(Some(order))
    }

    /// Replaces the pipeline's order by this one.
    pub async fn write(&self, store: &Arc<dyn ObjectStore>, state: &Path) -> Result<()> {
        let path = path(state);
        let text = serde_json::to_vec_pretty(self).map_err(|e| Error::Host(format!("an order is no JSON: {e}")))?;
        let put = store.put_opts(&path, text.into(), PutOptions::from(PutMode::Overwrite)).await;
        put.map(drop).map_err(|e| failed(format!("cannot write {}", shown(&path)), e))
    }
}

fn path(state: &Path) -> Path {
    state.clone().join("shadow.json")
}
