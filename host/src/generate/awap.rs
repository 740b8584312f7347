//! The input of the scenario `awap-visits`: eight windows of a quarter of an hour, each with a number of visits and a number
//! of incomplete ones among them.
//!
//! It is a table and not a random draw: what must come out of each window is known before anything judges it.

use std::fmt::Write;

use super::Generated;

/// Length of a window, milliseconds.
const WINDOW: i64 = 15 * 60_000;

/// Rows of each window, and how many of them are incomplete.
pub const WINDOWS: [(u32, u32); 8] = [(49, 1), (48, 12), (49, 13), (9_999, 0), (10_000, 0), (1, 1), (1, 0), (4, 1)];

/// Rows that end as valid and as error, of each window: volume between 0 and 10,000, both excluded; at most a quarter
/// incomplete.
pub const EXPECTED: [(u32, u32); 8] = [(48, 1), (36, 12), (0, 49), (9_999, 0), (0, 10_000), (0, 1), (1, 0), (3, 1)];

/// Makes the records, window after window.
pub struct Windows {
    start: i64,
    partitions: u32,
    at: (usize, u32),
    incomplete: u32,
    key: Vec<u8>,
    value: String,
}

/// What an incomplete record lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lacks {
    Nothing,
    User,
    Page,
    Context,
    Time,
}

impl Windows {
    /// `start`: the beginning of the first window, milliseconds since the epoch; rounded down to a window.
    pub fn new(start: i64, partitions: u32) -> Windows {
        let start = start.div_euclid(WINDOW) * WINDOW;
        Windows { start, partitions, at: (0, 0), incomplete: 0, key: Vec::new(), value: String::new() }
    }

    /// Where a flow begins whose windows are all over now.
    pub fn over_now() -> i64 {
        chrono::Utc::now().timestamp_millis() - (WINDOWS.len() as i64 + 1) * WINDOW
    }

    /// Records in all.
    pub fn total() -> u64 {
        WINDOWS.iter().map(|(rows, _)| u64::from(*rows)).sum()
    }

    /// The next record.
    #[expect(clippy::should_implement_trait, reason = "a record borrows the generator's buffers")]
    pub fn next(&mut self) -> Option<Generated<'_>> {
        let (window, row) = self.at;
        let (rows, incomplete) = *WINDOWS.get(window)?;
        self.at = if row + 1 < rows { (window, row + 1) } else { (window + 1, 0) };
        // the first is whole where there are others: a row without a time takes that of the one before it
        let lacks = match row {
            0 if rows == incomplete => Lacks::User,
            row if (1..=incomplete).contains(&row) => {
                self.incomplete += 1;
                [Lacks::User, Lacks::Page, Lacks::Context, Lacks::Time][self.incomplete as usize % 4]
            }
            _ => Lacks::Nothing,
        };
        let timestamp = self.start + window as i64 * WINDOW + i64::from(row) * (WINDOW - 1) / i64::from(rows);
        let visit = format!("visit-{window}-{}", row / 20);
        self.key.clear();
        self.key.extend_from_slice(visit.as_bytes());
        self.write(&visit, row, timestamp, lacks);
        let partition = (row / 20) % self.partitions;
        Some(Generated { key: &self.key, value: self.value.as_bytes(), partition, timestamp })
    }

    fn write(&mut self, visit: &str, row: u32, timestamp: i64, lacks: Lacks) {
        let time = chrono::DateTime::from_timestamp_millis(timestamp).unwrap_or_default();
        let text = |there: bool, text: String| if there { format!("\"{text}\"") } else { "null".to_owned() };
        let time = text(lacks != Lacks::Time, time.to_rfc3339_opts(chrono::SecondsFormat::Millis, false));
        let user = text(lacks != Lacks::User, format!("user-{}", row % 97));
        let page = text(lacks != Lacks::Page, format!("page_{}", row % 20 + 1));
        let context = match lacks {
            Lacks::Context => "null",
            Lacks::Nothing | Lacks::User | Lacks::Page | Lacks::Time => {
                "{\"referral\":null,\"ad_id\":\"ad 1\",\"user\":{\"ip\":\"10.1.2.3\",\"login\":\"mlind\",\
                 \"connected_since\":null},\"technical\":{\"browser\":\"Firefox\",\"browser_version\":\"23.2\",\
                 \"network_type\":\"Wi-Fi\",\"device_type\":\"PC\",\"device_version\":\"3.0\"}}"
            }
        };
        self.value.clear();
        let written = write!(
            self.value,
            "{{\"visit_id\":\"{visit}\",\"event_time\":{time},\"user_id\":{user},\"keep_private\":false,\
             \"page\":{page},\"context\":{context}}}"
        );
        written.expect("a string takes everything");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_window_has_its_rows_and_as_many_incomplete_ones() {
        let mut windows = Windows::new(super::super::START, 2);
        let mut found = [(0, 0); 8];
        while let Some(record) = windows.next() {
            let window = ((record.timestamp - super::super::START) / WINDOW) as usize;
            let row: serde_json::Value = serde_json::from_slice(record.value).unwrap();
            found[window].0 += 1;
            let lacks = ["event_time", "user_id", "page", "context"].iter().any(|name| row[*name].is_null());
            found[window].1 += u32::from(lacks);
        }
        assert_eq!(found, WINDOWS);
        assert_eq!(Windows::total(), 20_151);
        for ((rows, _), (valid, error)) in WINDOWS.iter().zip(EXPECTED) {
            assert_eq!(*rows, valid + error);
        }
    }
}
