//! The scenario `device-sidecar`: visits of known and unknown devices, batch by batch, and the table of devices.
//!
//! It knows which visits it makes, and nothing of how they are joined: what must come out stands with who asks for it.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use deltalake::DeltaTable;
use serde_json::{Value, json};
use url::Url;

use super::{Generated, START, STEP};
use crate::error::{Doing, Result};

/// A row of the table: type, full name, version.
pub type Device = (&'static str, &'static str, &'static str);

/// What the table holds from the beginning.
pub const DEVICES: [Device; 5] = [
    ("galaxy", "Galaxy Y", "Android 11"),
    ("galaxy", "Galaxy Ace", "Android 13"),
    ("htc", "Amaze 4g", "Android 14"),
    ("iphone", "APPLE iPhone 11 (White, 64 GB)", "iOS 13"),
    ("iphone", "APPLE iPhone SE (Black, 64 GB)", "iOS 14"),
];

/// What comes to it later: a second device of a key that is there.
pub const ADDED: Device = ("iphone", "APPLE iPhone 12 (Black, 128 GB)", "iOS 14");

/// Batches of the scenario.
pub const BATCHES: usize = 5;

/// A visit of a batch: key and payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visit {
    /// the visit's id
    pub key: String,
    /// the payload
    pub value: String,
}

/// What a visit says of its device.
enum Says {
    /// type and version, either of which may be null
    Device(Option<&'static str>, Option<&'static str>),
    /// nothing: its context is null
    NoContext,
}

/// The visits of batch `n`, which is less than [`BATCHES`].
pub fn batch(n: usize) -> Vec<Visit> {
    let known = |times: usize| {
        let devices = DEVICES.iter().map(|(ty, _, version)| (Some(*ty), Some(*version)));
        std::iter::repeat_n(devices, times).flatten().map(|(ty, version)| Says::Device(ty, version))
    };
    let devices: Vec<Says> = match n {
        0 => known(2).collect(),
        1 => known(12).collect(),
        2 => {
            let unknown = (0..7).map(|_| Says::Device(Some("lg"), Some("Android 12")));
            known(1).chain(unknown).chain([Says::NoContext]).collect()
        }
        3 => known(1).collect(),
        _ => vec![
            Says::Device(Some("iphone"), Some("ios 14")),
            Says::Device(Some("iPhone"), Some("iOS 14")),
            Says::Device(None, Some("iOS 14")),
            Says::Device(Some("iphone"), None),
        ],
    };
    devices.iter().enumerate().map(|(i, device)| visit(n, i, device)).collect()
}

fn visit(batch: usize, i: usize, device: &Says) -> Visit {
    let at = START + STEP * (batch as i64 * 1000 + i as i64);
    let at = chrono::DateTime::from_timestamp_millis(at).map(|at| at.to_rfc3339()).unwrap_or_default();
    let context = match device {
        Says::NoContext => Value::Null,
        Says::Device(ty, version) => json!({
            "referral": null, "ad_id": null,
            "user": {"ip": format!("10.0.{batch}.{i}"), "login": null, "connected_since": null},
            "technical": {"browser": "Firefox", "browser_version": "140.0", "network_type": "Wi-Fi",
                "device_type": ty, "device_version": version},
        }),
    };
    let key = format!("visit-{batch}-{i}");
    let value = json!({"visit_id": key, "event_time": at, "user_id": format!("user-{i}"), "keep_private": false,
        "page": "index", "context": context});
    Visit { key, value: value.to_string() }
}

/// The visits as records of two partitions.
pub fn records(visits: &[Visit]) -> impl Iterator<Item = Generated<'_>> {
    // what brokers keep is decided by a record's time: these must not be old
    let now = chrono::Utc::now().timestamp_millis();
    visits.iter().enumerate().map(move |(i, visit)| Generated {
        key: visit.key.as_bytes(),
        value: visit.value.as_bytes(),
        partition: (i % 2) as u32,
        timestamp: now,
    })
}

/// Appends devices to the Delta table in a folder, which begins with the first of them.
pub async fn append(table: &Url, devices: &[Device]) -> Result<()> {
    let column = |of: fn(&Device) -> &'static str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(devices.iter().map(of)))
    };
    let columns = [("type", column(|d| d.0)), ("full_name", column(|d| d.1)), ("version", column(|d| d.2))];
    let columns = columns.into_iter().map(|(name, values)| (name, values, true));
    let doing = || format!("cannot write the devices to {table}");
    let rows = RecordBatch::try_from_iter_with_nullable(columns).doing(doing)?;
    let table = DeltaTable::try_from_url(table.clone()).await.doing(doing)?;
    table.write([rows]).await.doing(doing)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_batches_are_those_of_the_scenario() {
        let sizes: Vec<usize> = (0..BATCHES).map(|n| batch(n).len()).collect();
        assert_eq!(sizes, [10, 60, 13, 5, 4]);
        assert_eq!(batch(2).iter().filter(|visit| visit.value.contains("\"context\":null")).count(), 1);
        assert_eq!(batch(1), batch(1), "the same each time");
    }
}
