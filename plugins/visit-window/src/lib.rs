//! A window has neither too few nor too many rows, and few enough incomplete ones.

use sluice::audit::{Auditor, Decision, Metric, Summary};
use sluice::prelude::*;

#[derive(Deserialize)]
struct VisitWindow {
    /// there must be fewer rows than this
    below: u64,
    /// percent of the rows that may have an error finding
    rejected: u64,
}

impl Auditor for VisitWindow {
    /// Rows and rejected ones come with every window.
    fn metrics(&self) -> Vec<Metric> {
        Vec::new()
    }

    fn audit(&self, summary: &Summary) -> Decision {
        let (rows, rejected) = (summary.window.rows, summary.window.rejected);
        if rows == 0 || rows >= self.below {
            return Decision::Reject(format!("{rows} rows, and there must be some, and fewer than {}", self.below));
        }
        if rejected * 100 > rows * self.rejected {
            return Decision::Reject(format!(
                "{rejected} of {rows} rows are incomplete, more than {} %",
                self.rejected
            ));
        }
        Decision::Publish
    }
}

sluice::auditor!(VisitWindow);

#[cfg(test)]
mod tests {
    use super::*;
    use sluice::audit::Window;

    #[test]
    fn every_window_of_the_scenario_is_decided_as_it_says() {
        let auditor = VisitWindow { below: 10_000, rejected: 25 };
        for (rows, rejected, passes) in [
            (49, 1, true),
            (48, 12, true),
            (49, 13, false),
            (9_999, 0, true),
            (10_000, 0, false),
            (1, 1, false),
            (1, 0, true),
            (4, 1, true),
            (0, 0, false),
        ] {
            let window = Window { rows, rejected, ..Window::default() };
            let decision = auditor.audit(&Summary { window, ..Summary::default() });
            assert_eq!(decision == Decision::Publish, passes, "{rows} rows, {rejected} incomplete");
        }
    }
}
