//! Numbers → what a person reads: sections of aligned rows. Pure; how they are drawn is another's.

use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::super::text::{bytes, rate, share, thousands};
use crate::telemetry::names::{self, Name};
use crate::telemetry::scrape::{Series, Snapshot};

/// Rows of one section at most: with more the largest are shown.
const MOST: usize = 12;

/// One screen.
#[derive(Debug)]
pub struct View {
    /// the pipeline's name
    pub name: String,
    /// what is watched
    pub title: String,
    /// why it is not ready
    pub not_ready: Option<String>,
    /// from top to bottom
    pub sections: Vec<Section>,
}

/// Rows of cells; the first is left, the others right aligned, except where they are text.
#[derive(Debug, Default)]
pub struct Section {
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Section {
    fn table(head: &[&'static str]) -> Section {
        Section { head: head.to_vec(), rows: Vec::new() }
    }

    /// Whether its first line says what the columns are.
    pub fn has_head(&self) -> bool {
        !self.head.is_empty()
    }

    fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Lines, each with its end and two spaces in.
    pub fn render(&self) -> String {
        let mut out = String::new();
        let head: Vec<String> = self.head.iter().map(|&cell| cell.to_owned()).collect();
        let rows = self.rows.iter();
        let all: Vec<&Vec<String>> =
            if head.is_empty() { rows.collect() } else { [&head].into_iter().chain(rows).collect() };
        let columns = all.iter().map(|row| row.len()).max().unwrap_or(0);
        let wide = |column: usize| all.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
        let widths: Vec<usize> = (0..columns).map(|column| wide(column).unwrap_or(0)).collect();
        for row in &all {
            let mut line = String::new();
            for (column, (cell, wide)) in row.iter().zip(&widths).enumerate() {
                match column {
                    0 => write!(line, "  {cell:wide$}"),
                    _ if self.head.is_empty() => write!(line, "   {cell}"),
                    _ => write!(line, "   {cell:>wide$}"),
                }
                .expect("a String takes all");
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

/// What grew, by how much, and in what time.
struct Growth<'s> {
    now: &'s Snapshot,
    before: Option<&'s Snapshot>,
    seconds: f64,
}

impl Growth<'_> {
    fn rate(&self, name: &Name, series: &Series) -> String {
        let values: Vec<&str> = series.labels.iter().map(|(_, value)| value.as_str()).collect();
        let before = self.before.map_or(0.0, |before| before.of(name, &values));
        rate((series.value - before).max(0.0) as u64, self.seconds)
    }

    fn of(&self, name: &Name) -> f64 {
        (self.now.sum(name) - self.before.map_or(0.0, |before| before.sum(name))).max(0.0)
    }

    fn one(&self, name: &Name, values: &[&str]) -> f64 {
        (self.now.of(name, values) - self.before.map_or(0.0, |before| before.of(name, values))).max(0.0)
    }

    /// Of a span in which something happened, else since the start.
    fn nanos_per(&self, seconds: (&Name, &[&str]), rows: (&Name, &[&str])) -> String {
        let lately = (self.one(seconds.0, seconds.1), self.one(rows.0, rows.1));
        let ever = (self.now.of(seconds.0, seconds.1), self.now.of(rows.0, rows.1));
        let pair = [lately, ever].into_iter().find(|(_, rows)| *rows > 0.0);
        pair.map_or_else(|| "-".into(), |(seconds, rows)| thousands((seconds * 1e9 / rows).round() as u64))
    }
}

impl View {
    /// What `now` says; `before` was so long ago. Without it rates are averages since the process started.
    pub fn of(url: &str, now: &Snapshot, before: Option<(&Snapshot, Duration)>, not_ready: Option<String>) -> View {
        let started = Some(now.sum(&names::STARTED)).filter(|at| *at > 0.0);
        let up = started.map_or(0.0, |at| (unix_now() - at).max(0.0));
        let growth = Growth {
            now,
            before: before.map(|(before, _)| before),
            seconds: before.map_or(up, |(_, span)| span.as_secs_f64()),
        };
        let info = now.all(&names::PIPELINE).first();
        let label = |name| info.map_or("?", |info| info.label(name)).to_owned();
        let place = url.trim_start_matches("http://").trim_end_matches("/metrics");
        View {
            name: label("pipeline"),
            title: format!("generation {} · {place} · up {}", label("generation"), span(up)),
            not_ready,
            sections: vec![outcomes(&growth), why(&growth), times(&growth), lag(&growth), state(&growth)],
        }
    }

    /// A line below everything else.
    pub fn note(&mut self, text: String) {
        let mut section = Section::default();
        section.row([text]);
        self.sections.push(section);
    }

    /// The screen as text.
    pub fn plain(&self) -> String {
        let ready = self.not_ready.as_ref().map_or("ready".to_owned(), |why| format!("not ready: {why}"));
        let mut text = format!("{} · {} · {ready}\n", self.name, self.title);
        for section in &self.sections {
            text.push('\n');
            text.push_str(&section.render());
        }
        text
    }
}

fn outcomes(growth: &Growth) -> Section {
    let mut section = Section::table(&["outcome", "rows", "share", "rate"]);
    let all = growth.now.all(&names::RECORDS);
    let of = |outcome: &str| all.iter().find(|series| series.label("outcome") == outcome);
    let made = |outcome: &str| of(outcome).map_or(0, |series| series.value as u64);
    let total = made("valid") + made("error") + made("dlq");
    for series in ["valid", "error", "dlq", "skipped"].into_iter().filter_map(of) {
        let outcome = series.label("outcome");
        let part = if outcome == "skipped" { String::new() } else { share(series.value as u64, total) };
        let rows = thousands(series.value as u64);
        section.row([outcome.to_owned(), rows, part, growth.rate(&names::RECORDS, series)]);
    }
    let read = thousands(growth.now.sum(&names::READ_RECORDS) as u64);
    let per_second = growth.of(&names::READ_BYTES) / growth.seconds.max(0.001);
    let read_rate = rate(growth.of(&names::READ_RECORDS) as u64, growth.seconds);
    section.row(["read".into(), read, String::new(), read_rate, format!("{}/s", bytes(per_second as u64))]);
    section
}

fn why(growth: &Growth) -> Section {
    let mut section = Section::table(&["why", "severity", "rows", "rate"]);
    let findings = growth.now.all(&names::FINDINGS).iter().map(|series| {
        let code = format!("{}/{}", series.label("rule"), series.label("code"));
        (code, series.label("severity").to_owned(), growth.rate(&names::FINDINGS, series), series.value)
    });
    let dead = growth.now.all(&names::DEAD_LETTERS).iter().map(|series| {
        let code = format!("{}/{}", series.label("at"), series.label("reason"));
        (code, "dlq".to_owned(), growth.rate(&names::DEAD_LETTERS, series), series.value)
    });
    let mut all: Vec<_> = findings.chain(dead).filter(|(.., rows)| *rows > 0.0).collect();
    all.sort_by(|one, two| two.3.total_cmp(&one.3).then_with(|| one.0.cmp(&two.0)));
    let more = all.len().saturating_sub(MOST);
    for (code, severity, rate, rows) in all.into_iter().take(MOST) {
        section.row([code, severity, thousands(rows as u64), rate]);
    }
    if section.rows.is_empty() {
        section.row(["nothing so far".to_owned()]);
    }
    if more > 0 {
        section.row([format!("and {more} more")]);
    }
    section
}

/// Where the time goes, and what a row costs in each rule.
fn times(growth: &Growth) -> Section {
    let mut section = Section::table(&["time", "share", "ns/row", "failed"]);
    let total = growth.of(&names::STAGE_SECONDS);
    let part = |seconds: f64| share((seconds * 1e6) as u64, (total * 1e6) as u64);
    let mut stage = |name: &'static str, rows: &Name| {
        let seconds = growth.one(&names::STAGE_SECONDS, &[name]);
        let nanos = growth.nanos_per((&names::STAGE_SECONDS, &[name]), (rows, &[]));
        section.row([name.to_owned(), part(seconds), nanos, String::new()]);
    };
    stage("decode", &names::READ_RECORDS);
    stage("expect", &names::JUDGED_ROWS);
    stage("write", &names::READ_RECORDS);
    for plugin in growth.now.all(&names::PLUGIN) {
        let name = plugin.label("plugin");
        let digest = plugin.label("digest");
        let shown = format!("{name} {} ({})", plugin.label("version"), digest.get(..6).unwrap_or(digest));
        let seconds = growth.one(&names::PLUGIN_SECONDS, &[name]);
        let nanos = growth.nanos_per((&names::PLUGIN_SECONDS, &[name]), (&names::PLUGIN_ROWS, &[name]));
        let failures = growth.now.all(&names::PLUGIN_FAILURES).iter().filter(|series| series.label("plugin") == name);
        let failed: f64 = failures.map(|series| series.value).sum();
        section.row([shown, part(seconds), nanos, thousands(failed as u64)]);
    }
    section
}

fn lag(growth: &Growth) -> Section {
    let all = growth.now.all(&names::LAG);
    let mut section = Section::table(if all.is_empty() { &[] } else { &["lag", "records"] });
    let mut all: Vec<_> = all.iter().collect();
    all.sort_by(|one, two| two.value.total_cmp(&one.value)); // stable: by topic and partition where they are equal
    for series in all.iter().take(MOST) {
        let partition = format!("{} p{}", series.label("topic"), series.label("partition"));
        section.row([partition, thousands(series.value as u64)]);
    }
    if all.len() > 1 {
        let total = thousands(growth.now.sum(&names::LAG) as u64);
        section.row([format!("all {} partitions", all.len()), total]);
    }
    section
}

/// Commits, queues, the process.
fn state(growth: &Growth) -> Section {
    let now = growth.now;
    let whole = |name| thousands(now.sum(name) as u64);
    let mut section = Section::default();
    let (commits, seconds) = now.observed(&names::COMMIT_SECONDS);
    let each = if commits > 0.0 {
        format!(" · {} ms each", thousands((seconds * 1000.0 / commits) as u64))
    } else {
        String::new()
    };
    let last = now.sum(&names::LAST_COMMIT);
    let ago =
        if last > 0.0 { format!("last {} ago", span((unix_now() - last).max(0.0))) } else { "none yet".to_owned() };
    section.row([
        "commits".into(),
        format!("{} · {ago}{each} · ledger {}", thousands(commits as u64), whole(&names::LEDGER_HEAD)),
    ]);
    let open = now.sum(&names::OPEN_RECORDS);
    section.row([
        "open".into(),
        format!("{} records for {}", thousands(open as u64), span(now.sum(&names::OPEN_SECONDS))),
    ]);
    let behind: Vec<String> = now
        .all(&names::SINK_LAG)
        .iter()
        .filter(|series| series.value > 0.0)
        .map(|series| format!("{} waits for {}", series.label("outcome"), plural_entries(series.value as u64)))
        .collect();
    let sinks = if behind.is_empty() { "every table follows the ledger".to_owned() } else { behind.join(", ") };
    section.row(["sinks".into(), format!("{sinks} · {} retries", whole(&names::SINK_RETRIES))]);
    let paused = if now.sum(&names::PAUSED) > 0.0 { " · the source waits for room" } else { "" };
    section.row([
        "in flight".into(),
        format!(
            "{} of {} batches · {} of {}{paused}",
            whole(&names::IN_FLIGHT_BATCHES),
            whole(&names::IN_FLIGHT_BATCHES_LIMIT),
            bytes(now.sum(&names::IN_FLIGHT_BYTES) as u64),
            bytes(now.sum(&names::IN_FLIGHT_BYTES_LIMIT) as u64)
        ),
    ]);
    let cores = growth.of(&names::CPU) / growth.seconds.max(0.001);
    section.row([
        "process".into(),
        format!(
            "{} resident, {} anonymous · {cores:.2} cores · {} threads judge",
            bytes(now.sum(&names::MEMORY) as u64),
            bytes(now.sum(&names::ANONYMOUS) as u64),
            whole(&names::WORKERS)
        ),
    ]);
    section
}

fn plural_entries(n: u64) -> String {
    if n == 1 { "1 entry".into() } else { format!("{} entries", thousands(n)) }
}

fn unix_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// `4 s`, `12 min`, `3 h 20 min`, `2 d 3 h`.
fn span(seconds: f64) -> String {
    let n = seconds as u64;
    match n {
        0..60 => format!("{n} s"),
        60..3_600 => format!("{} min", n / 60),
        3_600..86_400 => format!("{} h {} min", n / 3_600, n % 3_600 / 60),
        86_400.. => format!("{} d {} h", n / 86_400, n % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "\
sluice_pipeline_info{pipeline=\"visits\",generation=\"7f3a1c\",state=\"x\"} 1
sluice_plugin_info{plugin=\"consent\",kind=\"rule\",version=\"1.2.0\",digest=\"9c1e04aa\"} 1
sluice_records_total{outcome=\"valid\"} 97502
sluice_records_total{outcome=\"error\"} 1998
sluice_records_total{outcome=\"dlq\"} 500
sluice_records_total{outcome=\"skipped\"} 0
sluice_read_records_total 120000
sluice_read_bytes_total 60000000
sluice_judged_rows_total 110000
sluice_findings_total{rule=\"expect\",code=\"has-user\",severity=\"error\"} 1204
sluice_findings_total{rule=\"expect\",code=\"has-page\",severity=\"error\"} 0
sluice_dead_letters_total{at=\"decode\",reason=\"not-json\"} 500
sluice_stage_seconds_total{stage=\"decode\"} 0.12
sluice_stage_seconds_total{stage=\"expect\"} 0.022
sluice_stage_seconds_total{stage=\"write\"} 0.24
sluice_plugin_seconds_total{plugin=\"consent\"} 0.018
sluice_plugin_rows_total{plugin=\"consent\"} 120000
sluice_plugin_failures_total{plugin=\"consent\",reason=\"plugin-trap\"} 2
sluice_lag_records{topic=\"visits\",partition=\"0\"} 12
sluice_lag_records{topic=\"visits\",partition=\"1\"} 4000
";

    #[test]
    fn rates_are_over_the_window_and_a_row_costs_nanoseconds() {
        let (now, before) = (Snapshot::parse(NOW), Snapshot::parse("sluice_records_total{outcome=\"valid\"} 77502\n"));
        let view = View::of("http://127.0.0.1:9187/metrics", &now, Some((&before, Duration::from_secs(10))), None);
        let text = view.plain();
        for line in [
            "  valid      97,502   97.5 %    2.0 k/s",
            "  read      120,000            12.0 k/s   5.7 MiB/s",
            "  expect/has-user      error   1,204   120 /s",
            "  decode/not-json        dlq     500    50 /s",
            "  decode                   31.4 %    1,000",
            "  consent 1.2.0 (9c1e04)    4.7 %      150        2",
            "  visits p1            4,000",
            "  all 2 partitions     4,012",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\nin\n{text}");
        }
        assert!(!text.contains("has-page"), "a code that nobody met is no news: {text}");
        let title = text.lines().next().unwrap_or_default();
        assert!(
            title.starts_with("visits · generation 7f3a1c · 127.0.0.1:9187 · up ") && title.ends_with(" · ready"),
            "{title}"
        );
    }

    #[test]
    fn nothing_yet_is_shown_as_nothing() {
        let text = View::of("h:1", &Snapshot::default(), None, Some("starting".into())).plain();
        assert!(text.contains("nothing so far") && text.contains("not ready: starting"), "{text}");
        assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
    }
}
