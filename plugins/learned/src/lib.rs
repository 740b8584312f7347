//! A number over a window lies where it lay in past windows.

use sluice::audit::{Auditor, Decision, Metric, Summary, Window};
use sluice::prelude::*;

/// Microseconds in an hour.
const HOUR: i64 = 3_600_000_000;

/// What makes a median absolute deviation a standard deviation, where values are normally distributed.
const NORMAL: f64 = 1.4826;

#[derive(Deserialize)]
struct Learned {
    #[serde(default = "count")]
    metric: String,
    #[serde(default = "twenty")]
    history: u32,
    #[serde(default = "ten")]
    min_history: u32,
    #[serde(default = "three")]
    tolerance: String,
    #[serde(default = "tenth")]
    floor: String,
    #[serde(default = "last")]
    compare: String,
    #[serde(default = "hold")]
    on_fail: String,
}

fn count() -> String {
    "count(*)".into()
}

fn twenty() -> u32 {
    20
}

fn ten() -> u32 {
    10
}

fn three() -> String {
    "3 MAD".into()
}

fn tenth() -> String {
    "10%".into()
}

fn last() -> String {
    "last".into()
}

fn hold() -> String {
    "hold".into()
}

/// `3 MAD` → 3.
fn deviations(text: &str) -> Option<f64> {
    text.trim().strip_suffix("MAD").and_then(|number| number.trim().parse().ok()).filter(|n: &f64| *n > 0.0)
}

/// `10%` → 0.1.
fn share(text: &str) -> Option<f64> {
    let percent: f64 = text.trim().strip_suffix('%')?.trim().parse().ok()?;
    (percent >= 0.0).then_some(percent / 100.0)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    if values.len() % 2 == 1 { values[half] } else { f64::midpoint(values[half - 1], values[half]) }
}

impl Learned {
    /// Whether a past window is one to compare with.
    fn is_alike(&self, window: &Window, past: &Window) -> bool {
        let hour = |window: &Window| window.starts.map(|starts| starts.div_euclid(HOUR).rem_euclid(24));
        self.compare == "last" || hour(window) == hour(past)
    }
}

impl Auditor for Learned {
    fn metrics(&self) -> Vec<Metric> {
        vec![Metric::new("value", &self.metric)]
    }

    fn history(&self) -> u32 {
        // a day has so many hours, and windows may be rejected
        if self.compare == "last" { self.history.saturating_mul(2).min(1_000) } else { 1_000 }
    }

    fn check(&self) -> Result<(), String> {
        let known = |key: &str, value: &str, words: [&str; 2]| match words.contains(&value) {
            true => Ok(()),
            false => Err(format!("`{key}` is `{value}`: it must be `{}` or `{}`", words[0], words[1])),
        };
        known("compare", &self.compare, ["last", "same-hour"])?;
        known("on_fail", &self.on_fail, ["hold", "reject"])?;
        if deviations(&self.tolerance).is_none() {
            return Err(format!("`tolerance` is `{}`: it must be like `3 MAD`", self.tolerance));
        }
        if share(&self.floor).is_none() {
            return Err(format!("`floor` is `{}`: it must be like `10%`", self.floor));
        }
        if self.min_history == 0 || self.min_history > self.history || self.history > 1_000 {
            return Err("`min_history` must be between 1 and `history`, and that at most 1,000".into());
        }
        Ok(())
    }

    fn audit(&self, summary: &Summary) -> Decision {
        let Some(value) = summary.window.values.first().copied().flatten() else { return Decision::Publish };
        let alike =
            summary.history.iter().filter(|past| past.published && self.is_alike(&summary.window, &past.window));
        let mut known: Vec<f64> = alike.filter_map(|past| past.window.values.first().copied().flatten()).collect();
        known.drain(..known.len().saturating_sub(self.history as usize));
        if known.len() < self.min_history as usize {
            return Decision::Publish;
        }
        let n = known.len();
        let middle = median(&mut known);
        let mut apart: Vec<f64> = known.iter().map(|value| (value - middle).abs()).collect();
        let (tolerance, floor) = (deviations(&self.tolerance).unwrap_or(3.0), share(&self.floor).unwrap_or(0.1));
        let allowed = (tolerance * NORMAL * median(&mut apart)).max(floor * middle.abs());
        if (value - middle).abs() <= allowed {
            return Decision::Publish;
        }
        let (low, high) = (middle - allowed, middle + allowed);
        let value = if value.fract() == 0.0 { format!("{value}") } else { format!("{value:.3}") };
        let why = format!("{} is {value}, and in {n} past windows it lay between {low:.1} and {high:.1}", self.metric);
        if self.on_fail == "hold" { Decision::Hold(why) } else { Decision::Reject(why) }
    }
}

sluice::auditor!(Learned);

#[cfg(test)]
mod tests {
    use super::*;
    use sluice::audit::Past;

    fn learned(compare: &str) -> Learned {
        Learned {
            metric: count(),
            history: 20,
            min_history: 10,
            tolerance: three(),
            floor: tenth(),
            compare: compare.into(),
            on_fail: hold(),
        }
    }

    fn window(hour: i64, value: f64) -> Window {
        Window { starts: Some(hour * HOUR), values: vec![Some(value)], ..Window::default() }
    }

    fn past(hour: i64, value: f64) -> Past {
        Past { window: window(hour, value), published: true }
    }

    fn fires(auditor: &Learned, history: &[Past], window: Window) -> bool {
        let summary = Summary { window, history: history.to_vec(), ..Summary::default() };
        auditor.audit(&summary) != Decision::Publish
    }

    #[test]
    fn a_drop_of_sixty_percent_on_the_twentieth_window_is_noticed_and_nothing_before() {
        let mut history = Vec::new();
        for n in 0..19_i64 {
            // within five percent of a thousand, never twice the same
            let value = (1_000 + (n * 37) % 101 - 50) as f64;
            assert!(!fires(&learned("last"), &history, window(n, value)), "window {n} with {value}");
            history.push(past(n, value));
        }
        assert!(fires(&learned("last"), &history, window(19, 400.0)));
        assert!(fires(&learned("last"), &history, window(19, 1_600.0)));
    }

    #[test]
    fn too_few_windows_rejected_ones_and_nulls_teach_nothing() {
        let nine: Vec<Past> = (0..9).map(|n| past(n, 100.0)).collect();
        assert!(!fires(&learned("last"), &nine, window(9, 1.0)));
        let mut ten = nine.clone();
        ten.push(Past { published: false, ..past(9, 100.0) });
        assert!(!fires(&learned("last"), &ten, window(10, 1.0)));
        ten.push(past(10, 100.0));
        assert!(fires(&learned("last"), &ten, window(11, 1.0)));
        let unknown = Window { values: vec![None], ..window(11, 0.0) };
        assert!(!fires(&learned("last"), &ten, unknown));
    }

    #[test]
    fn the_same_hour_is_compared_with_itself() {
        // busy days and quiet nights, for a fortnight
        let history: Vec<Past> =
            (0..14 * 24).map(|n| past(n, if n % 24 < 12 { 1_000.0 } else { 100.0 } + (n % 7) as f64)).collect();
        let day = 14 * 24;
        for (hour, value, expected) in [(3, 1_000.0, false), (3, 100.0, true), (15, 100.0, false), (15, 1_000.0, true)]
        {
            assert_eq!(fires(&learned("same-hour"), &history, window(day + hour, value)), expected, "{hour}: {value}");
        }
    }

    #[test]
    fn settings_that_mean_nothing_are_refused() {
        assert_eq!(learned("last").check(), Ok(()));
        for wrong in [
            Learned { tolerance: "3".into(), ..learned("last") },
            Learned { floor: "ten".into(), ..learned("last") },
            Learned { on_fail: "stop".into(), ..learned("last") },
            Learned { min_history: 30, ..learned("last") },
            learned("week"),
        ] {
            assert!(wrong.check().is_err());
        }
    }
}
