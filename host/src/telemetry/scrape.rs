//! The other end of the endpoint: fetch the numbers of a running pipeline and read them.
//!
//! It reads what [`metrics`](super::metrics) writes and is no client for any other exposition or for TLS.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use super::http::PORTS;
use super::names::{self, Name};
use crate::error::{Error, Result};

/// Whoever serves numbers from memory answers at once.
const PATIENCE: Duration = Duration::from_secs(2);

/// An exposition has some ten kilobytes; a hundred thousand partitions would have ten megabytes.
const LONGEST: u64 = 32 << 20;

/// The numbers at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot(BTreeMap<String, Vec<Series>>);

/// One line of an exposition.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// in the order in which they stand there
    pub labels: Vec<(String, String)>,
    /// its value
    pub value: f64,
}

impl Series {
    /// The value of a label, empty where there is none.
    pub fn label(&self, name: &str) -> &str {
        self.labels.iter().find(|(label, _)| label == name).map_or("", |(_, value)| value)
    }
}

impl Snapshot {
    /// Reads an exposition; lines that are none are left out.
    pub fn parse(text: &str) -> Snapshot {
        let mut all: BTreeMap<String, Vec<Series>> = BTreeMap::new();
        for (name, series) in text.lines().filter(|line| !line.starts_with('#')).filter_map(line) {
            all.entry(name.to_owned()).or_default().push(series);
        }
        Snapshot(all)
    }

    /// Every series of a metric.
    pub fn all(&self, name: &Name) -> &[Series] {
        self.0.get(name.name).map_or(&[], Vec::as_slice)
    }

    /// The sum over all series of a metric.
    pub fn sum(&self, name: &Name) -> f64 {
        self.all(name).iter().map(|series| series.value).sum()
    }

    /// The value of the series that has these label values, in the order of [`Name::labels`]; 0 where there is none.
    pub fn of(&self, name: &Name, values: &[&str]) -> f64 {
        let has = |series: &&Series| series.labels.iter().map(|(_, value)| value.as_str()).eq(values.iter().copied());
        self.all(name).iter().find(has).map_or(0.0, |series| series.value)
    }

    /// Number and sum of a histogram's observations.
    pub fn observed(&self, name: &Name) -> (f64, f64) {
        let part = |ending| {
            self.0.get(&format!("{}_{ending}", name.name)).and_then(|all| all.first()).map_or(0.0, |s| s.value)
        };
        (part("count"), part("sum"))
    }
}

/// `name{label="value",…} number`.
fn line(line: &str) -> Option<(&str, Series)> {
    let name_end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(name_end);
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (label, after) = rest.trim_start_matches(',').split_once("=\"")?;
            let (value, after) = quoted(after)?;
            labels.push((label.to_owned(), value));
            rest = after;
        }
        rest = &rest[1..];
    }
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some((name, Series { labels, value }))
}

/// A label's value up to its closing quote, and what comes after.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

/// What stands at `http://host:port/path`; the path is `/metrics` where the address has none.
pub fn fetch(url: &str) -> Result<Snapshot> {
    let (status, body) = get(url, PATIENCE)?;
    if status != 200 {
        return Err(Error::environment(format!("cannot read metrics from {url}"), format!("it answers {status}")));
    }
    let snapshot = Snapshot::parse(&body);
    if snapshot.all(&names::BUILD).is_empty() {
        let why = format!("no sluice answers there: {} is missing", names::BUILD.name);
        return Err(Error::environment(format!("cannot read metrics from {url}"), why));
    }
    Ok(snapshot)
}

/// Status and body of a `GET`.
pub fn get(url: &str, patience: Duration) -> Result<(u16, String)> {
    request("GET", url, None, "", patience)
}

/// Status and body of a request; `token` is said as a bearer's, `body` is JSON where there is one.
pub fn request(method: &str, url: &str, token: Option<&str>, body: &str, patience: Duration) -> Result<(u16, String)> {
    let rest = match url.split_once("://") {
        Some(("http", rest)) => rest,
        None => url,
        Some((scheme, _)) => {
            return Err(Error::Config(format!("metrics are read over http, not {scheme}: {url}")));
        }
    };
    let (address, path) = rest.find('/').map_or((rest, "/metrics"), |slash| rest.split_at(slash));
    let fetched = (|| {
        let mut last = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
        for socket in address.to_socket_addrs()? {
            let mut stream = match TcpStream::connect_timeout(&socket, patience) {
                Ok(stream) => stream,
                Err(e) => {
                    last = e;
                    continue;
                }
            };
            stream.set_read_timeout(Some(patience))?;
            stream.set_write_timeout(Some(patience))?;
            // of this version the answer is neither chunked nor kept open
            let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
            let about = match body.len() {
                0 => String::new(),
                n => format!("Content-Type: application/json\r\nContent-Length: {n}\r\n"),
            };
            write!(stream, "{method} {path} HTTP/1.0\r\nHost: {address}\r\n{token}{about}\r\n{body}")?;
            let mut answer = Vec::new();
            stream.take(LONGEST).read_to_end(&mut answer)?;
            return Ok(String::from_utf8_lossy(&answer).into_owned());
        }
        Err(last)
    })();
    let doing = || format!("cannot read metrics from {url}");
    let answer = fetched.map_err(|e| Error::environment(doing(), e))?;
    let status = answer.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok());
    match (status, answer.split_once("\r\n\r\n")) {
        (Some(status), Some((_, body))) => Ok((status, body.to_owned())),
        (Some(_) | None, _) => Err(Error::environment(doing(), "what answers there does not speak HTTP")),
    }
}

/// Where the processes of a pipeline serve their metrics on this machine, if they chose the place themselves.
pub fn find(pipeline: &str, state: &str) -> Vec<String> {
    let is_it = |snapshot: Snapshot| {
        let mut infos = snapshot.all(&names::PIPELINE).iter();
        infos.any(|info| info.label("pipeline") == pipeline && info.label("state") == state)
    };
    let urls = PORTS.map(|port| format!("http://127.0.0.1:{port}/metrics"));
    urls.filter(|url| fetch(url).is_ok_and(is_it)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let text = "# HELP sluice_lag_records x.\n# TYPE sluice_lag_records gauge\n\
                    sluice_lag_records{topic=\"a\\\"b\\\\c, {d}\",partition=\"0\"} 12\n\
                    sluice_lag_records{topic=\"v\",partition=\"1\"} 3\n\
                    sluice_commit_seconds_sum 1.5\nsluice_commit_seconds_count 3\n\
                    broken{\nbroken 1x\n# EOF\n";
        let snapshot = Snapshot::parse(text);
        assert_eq!(snapshot.sum(&names::LAG), 15.0);
        assert_eq!(snapshot.of(&names::LAG, &["v", "1"]), 3.0);
        assert_eq!(snapshot.all(&names::LAG)[0].label("topic"), "a\"b\\c, {d}");
        assert_eq!(snapshot.observed(&names::COMMIT_SECONDS), (3.0, 1.5));
        assert_eq!(snapshot.sum(&names::RECORDS), 0.0);
        assert!(!snapshot.0.contains_key("broken"));
    }

    #[test]
    fn the_exposition_of_this_version_is_read_back() {
        let metrics = crate::telemetry::Metrics::new();
        metrics.caught_up(7);
        let snapshot = Snapshot::parse(&metrics.render());
        assert_eq!(snapshot.sum(&names::LEDGER_HEAD), 7.0);
        assert_eq!(snapshot.all(&names::BUILD)[0].label("version"), env!("CARGO_PKG_VERSION"));
        assert_eq!(snapshot.all(&names::RECORDS).len(), 4);
    }

    #[test]
    fn other_schemes_are_refused() {
        assert!(get("https://example.com/metrics", PATIENCE).is_err_and(|e| e.to_string().contains("over http")));
    }
}
