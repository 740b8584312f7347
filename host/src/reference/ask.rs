//! `sluice reference refresh`, as running processes hear it: an object in the state folder, whose content is new each time.
//!
//! Every process of a group looks at it every second or so, so that one word reaches all of them, wherever they run; nobody
//! removes it, so that nobody can miss it.

use std::sync::Arc;

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Doing, Error, Result};
use crate::store::{failed, shown};

/// What somebody asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// another one each time
    pub id: Uuid,
    /// the tables; none = all
    pub tables: Vec<String>,
}

fn place(state: &Path) -> Path {
    state.clone().join("references").join("refresh.json")
}

/// Asks every running process to look for new versions of these tables now.
pub async fn ask(store: &Arc<dyn ObjectStore>, state: &Path, tables: &[String]) -> Result<()> {
    let asked = Asked { id: Uuid::now_v7(), tables: tables.to_vec() };
    let text = serde_json::to_vec(&asked).doing(|| "cannot write down what to refresh".into())?;
    let path = place(state);
    store.put(&path, text.into()).await.map_err(|e| failed(format!("cannot write {}", shown(&path)), e))?;
    Ok(())
}

/// What was asked for last, if ever.
pub async fn asked(store: &Arc<dyn ObjectStore>, state: &Path) -> Result<Option<Asked>> {
    let path = place(state);
    let text = match async { store.get(&path).await?.bytes().await }.await {
        Ok(text) => text,
        Err(object_store::Error::NotFound { .. }) => return Ok(None),
        Err(e) => return Err(failed(format!("cannot read {}", shown(&path)), e)),
    };
    let unreadable = |e| Error::Diverged(format!("{} is not of `sluice reference refresh`: {e}", shown(&path)));
    serde_json::from_slice(&text).map(Some).map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;

    #[tokio::test]
    async fn each_word_is_another_one() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let state = Path::from("lake/_sluice/visits");
        assert_eq!(asked(&store, &state).await.unwrap(), None);
        ask(&store, &state, &[]).await.unwrap();
        let first = asked(&store, &state).await.unwrap().unwrap();
        assert_eq!(asked(&store, &state).await.unwrap().unwrap(), first);
        ask(&store, &state, &["devices".into()]).await.unwrap();
        let second = asked(&store, &state).await.unwrap().unwrap();
        assert_ne!(first.id, second.id);
        assert_eq!(second.tables, ["devices"]);
    }
}
