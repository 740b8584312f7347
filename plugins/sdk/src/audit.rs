//! Auditors: what decides over a whole window, from numbers that the host computed over its rows.
//!
//! An auditor is its own settings: the configuration is read into it, and it says what it wants measured. It keeps nothing;
//! what it needs of the past comes with every window.
//!
//! ```
//! use sluice::audit::{Auditor, Decision, Metric, Summary};
//! use sluice::prelude::*;
//!
//! #[derive(Deserialize)]
//! struct Enough {
//!     rows: f64,
//! }
//!
//! impl Auditor for Enough {
//!     fn metrics(&self) -> Vec<Metric> {
//!         vec![Metric::new("rows", "count(*)")]
//!     }
//!
//!     fn audit(&self, summary: &Summary) -> Decision {
//!         match summary.window.values[0] {
//!             Some(rows) if rows >= self.rows => Decision::Publish,
//!             _ => Decision::Hold("fewer rows than there should be".into()),
//!         }
//!     }
//! }
//!
//! sluice::auditor!(Enough); // name and version come from Cargo.toml
//! ```

use serde::de::DeserializeOwned;

use crate::batch::PluginError;
pub use crate::plugin::Meta;
use crate::settings::{Config, State};

/// A number that the host computes over a window's rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metric {
    /// kebab-case, unique within the auditor
    pub name: String,
    /// a SQL expression over the table `window` that answers one number
    pub sql: String,
}

impl Metric {
    /// The metric `name`.
    pub fn new(name: impl Into<String>, sql: impl Into<String>) -> Self {
        Metric { name: name.into(), sql: sql.into() }
    }
}

/// One window in numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Window {
    /// as people type it: `2026-11-20T21:00:00Z`
    pub key: String,
    /// begin of a window of time, microseconds since the epoch
    pub starts: Option<i64>,
    /// its end
    pub ends: Option<i64>,
    /// its rows
    pub rows: u64,
    /// rows with an error finding
    pub rejected: u64,
    /// in the order of [`Auditor::metrics`]; `None` where SQL answers null
    pub values: Vec<Option<f64>>,
}

/// A window before this one.
#[derive(Clone, Debug, PartialEq)]
pub struct Past {
    /// in numbers
    pub window: Window,
    /// whether its rows became valid: published, and not rejected as a whole
    pub published: bool,
}

/// What an auditor sees.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// the window that it decides over
    pub window: Window,
    /// `rule/code` → rows that carry it
    pub findings: Vec<(String, u64)>,
    /// windows before it, oldest first
    pub history: Vec<Past>,
}

/// What becomes of the window's rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// rows without an error finding are valid, the others errors
    Publish,
    /// they wait for a person; why
    Hold(String),
    /// every row is an error; why
    Reject(String),
}

/// Decides over windows.
pub trait Auditor: DeserializeOwned + Send + Sync + 'static {
    /// What the host should compute over each window.
    fn metrics(&self) -> Vec<Metric>;

    /// How many past windows it wants to see.
    fn history(&self) -> u32 {
        0
    }

    /// What is wrong with the settings, where each alone is well-formed: which key, and what would be right.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    /// Decides over a window.
    fn audit(&self, summary: &Summary) -> Decision;
}

/// What an auditor answers to `configure`.
#[derive(Clone, Debug)]
pub struct AuditorDescription {
    /// name, version, instances
    pub meta: Meta,
    /// what the host computes
    pub metrics: Vec<Metric>,
    /// past windows that it sees
    pub history: u32,
}

/// Configures an auditor.
pub fn configure<A: Auditor>(meta: Meta, json: &str) -> Result<(AuditorDescription, State), PluginError> {
    let auditor: A = Config::parse(json)?.read()?;
    auditor.check().map_err(PluginError::Config)?;
    let description = AuditorDescription { meta, metrics: auditor.metrics(), history: auditor.history() };
    Ok((description, Box::new(auditor)))
}

/// Lets a configured auditor decide.
pub fn audit<A: Auditor>(state: &State, summary: &Summary) -> Result<Decision, PluginError> {
    match state.downcast_ref::<A>() {
        Some(auditor) => Ok(auditor.audit(summary)),
        None => Err(PluginError::Internal("configured as another auditor".into())),
    }
}

/// Exports a type as the component's auditor.
#[macro_export]
macro_rules! auditor {
    ($auditor:ty) => {
        // one component is one plugin; natively, what is tested is what is exported
        #[doc(hidden)]
        #[allow(dead_code)]
        const __SLUICE_ONE_PLUGIN_PER_CRATE: () = {
            let _ = ::sluice::audit::configure::<$auditor>;
            let _ = ::sluice::audit::audit::<$auditor>;
        };

        #[cfg(target_family = "wasm")]
        const _: () = {
            struct Plugin;

            impl ::sluice::guest::AuditorPlugin for Plugin {
                type Auditor = $auditor;
                const META: ::sluice::audit::Meta = ::sluice::audit::Meta {
                    name: ::core::env!("CARGO_PKG_NAME"),
                    version: ::core::env!("CARGO_PKG_VERSION"),
                    reused: false,
                };
            }

    ::sluice::guest::export_auditor!(Plugin with_types_in ::sluice::guest::auditor_world);
        };
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;

    #[derive(Deserialize)]
    struct Most {
        rows: f64,
    }

    impl Auditor for Most {
        fn metrics(&self) -> Vec<Metric> {
            vec![Metric::new("rows", "count(*)")]
        }

        fn check(&self) -> Result<(), String> {
            if self.rows > 0.0 { Ok(()) } else { Err("`rows` must be more than 0".into()) }
        }

        fn audit(&self, summary: &Summary) -> Decision {
            match summary.window.values[0] {
                Some(rows) if rows > self.rows => Decision::Reject(format!("{rows} rows")),
                _ => Decision::Publish,
            }
        }
    }

    const META: Meta = Meta { name: "most", version: "1", reused: false };

    #[test]
    fn an_auditor_is_its_settings() {
        let (description, state) = configure::<Most>(META, r#"{"rows": 3}"#).unwrap();
        assert_eq!(description.metrics, [Metric::new("rows", "count(*)")]);
        let window =
            |rows| Summary { window: Window { values: vec![rows], ..Window::default() }, ..Summary::default() };
        for (rows, expected) in
            [(Some(3.0), Decision::Publish), (None, Decision::Publish), (Some(4.0), Decision::Reject("4 rows".into()))]
        {
            assert_eq!(audit::<Most>(&state, &window(rows)), Ok(expected));
        }
    }

    #[test]
    fn wrong_settings_are_refused_by_name() {
        let refusal = |json| configure::<Most>(META, json).err().map(|error| error.to_string());
        assert_eq!(refusal(r#"{"rows": 0}"#).as_deref(), Some("config: `rows` must be more than 0"));
        assert!(refusal(r#"{"row": 1}"#).is_some_and(|why| why.contains("row")));
    }
}
