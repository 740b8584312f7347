//! A plugin's configuration, read into its settings once per instance; errors say which key is wrong.

use std::any::Any;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::batch::{PluginError, Request};

/// The settings of an instance, whatever their type.
pub type State = Box<dyn Any + Send + Sync>;

/// The configuration as written, less the keys that name columns.
#[derive(Debug)]
pub struct Config {
    keys: Map<String, Value>,
}

impl Config {
    pub(crate) fn parse(json: &str) -> Result<Self, PluginError> {
        match serde_json::from_str(json) {
            Ok(Value::Object(keys)) => Ok(Config { keys }),
            Ok(_) => Err(PluginError::Config("the configuration must be a table of settings".into())),
            Err(error) => Err(PluginError::Config(format!("the configuration is not JSON: {error}"))),
        }
    }

    /// The path of a column: what the settings say where the row allows it, else the row's own.
    pub(crate) fn take_path(&mut self, request: &Request) -> Result<String, PluginError> {
        let Some(key) = request.setting else { return Ok(request.path.into()) };
        match self.keys.remove(key) {
            None => Ok(request.path.into()),
            Some(Value::String(path)) if !path.is_empty() => Ok(path),
            Some(other) => Err(PluginError::Config(format!(
                "`{key}` is {other}: it must name a column, like \"{}\"",
                request.path
            ))),
        }
    }

    /// The settings of a plugin that takes some.
    pub(crate) fn read<S: DeserializeOwned>(self) -> Result<S, PluginError> {
        let whole = self.keys;
        serde_json::from_value(Value::Object(whole.clone())).map_err(|error| {
            let error = error.to_string();
            // serde does not say at which key it stopped: it is the one without which the error is another
            let culprit = whole.keys().find(|key| {
                let mut rest = whole.clone();
                rest.remove(*key);
                serde_json::from_value::<S>(Value::Object(rest)).err().is_none_or(|other| other.to_string() != error)
            });
            PluginError::Config(match culprit {
                Some(key) if !error.contains(&format!("`{key}`")) => format!("`{key}`: {error}"),
                _ => error,
            })
        })
    }

    /// For a plugin that takes none.
    pub(crate) fn expect_none(self) -> Result<(), PluginError> {
        match self.keys.keys().next() {
            None => Ok(()),
            Some(key) => Err(PluginError::Config(format!("`{key}` is set, but this plugin has no such setting"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;

    #[derive(Deserialize, Debug)]
    struct Settings {
        #[serde(default)]
        allow: Vec<String>,
        max: Span,
    }

    #[track_caller]
    fn check(json: &str, expected: &str) {
        let read = Config::parse(json).and_then(Config::read::<Settings>);
        let shown = read.map_or_else(|error| error.to_string(), |s| format!("{:?} {}", s.allow, s.max.0));
        assert_eq!(shown, expected);
    }

    #[test]
    fn errors_name_the_key() {
        check(r#"{"max": "1s"}"#, "[] 1000000");
        check(r#"{"max": "1s", "allow": ["a"]}"#, r#"["a"] 1000000"#);
        check("{}", "config: missing field `max`");
        check(r#"{"max": "soon"}"#, "config: `max`: `soon` is not a duration like \"7d\", \"5m\" or \"250ms\"");
        check(r#"{"max": "1s", "allow": "a"}"#, "config: `allow`: invalid type: string \"a\", expected a sequence");
        check(r#"{"max": "1s", "alow": []}"#, "config: unknown field `alow`, expected `allow` or `max`");
        check("[]", "config: the configuration must be a table of settings");
    }

    #[test]
    fn a_setting_may_name_a_column() {
        let request = Request {
            field: "at",
            path: "event_time",
            ty: crate::batch::LogicalType::TimestampUs,
            required: true,
            setting: Some("column"),
        };
        let path = |json: &str| Config::parse(json).and_then(|mut config| config.take_path(&request));
        assert_eq!(path("{}"), Ok("event_time".into()));
        assert_eq!(path(r#"{"column": "context.at"}"#), Ok("context.at".into()));
        let wrong = "`column` is 7: it must name a column, like \"event_time\"";
        assert_eq!(path(r#"{"column": 7}"#), Err(PluginError::Config(wrong.into())));
        let left = Config::parse(r#"{"x": 1}"#).and_then(Config::expect_none);
        assert_eq!(left, Err(PluginError::Config("`x` is set, but this plugin has no such setting".into())));
    }
}
