//! The user's loop by the binary: what each command prints, and how it ends, over seven records that go everywhere.

use crate::project::{Project, VISITS_SQL};

mod develop;
mod intake;
mod look;
mod operate;

/// One record for each thing that can become of one.
pub const RECORDS: &str = "\
{\"user_id\": \"u1\", \"page\": \"index\"}
{\"user_id\": \"u2\", \"keep_private\": true, \"context\": {\"user\": {\"login\": \"mlindqvist\"}}}
not json
{\"user_id\": \"u4\", \"page\": \"main\"}
{\"user_id\": \"u5\", \"context\": {\"referral\": \"Google Ads\"}}
{\"user_id\": 6}
{\"page\": \"main\"}
";

/// Lines of [`RECORDS`] by outcome: 1 valid, 2 error, 3 dead, 4 skipped, 5 valid with a warning, 6 dead, 7 error.
pub const END: &str = "7 consumed = 2 valid + 2 error + 2 dlq + 1 skipped";

pub const TOML: &str = r#"name  = "visits"
state = "lake/_sluice/visits"
mask  = { columns = ["context.user.login"] }

[source]
files = ["visits.ndjson"]
skip  = "_offset = 4"

[schema]
file = "visits.sql"

[expect]
has-user      = "user_id IS NOT NULL"
login-exposed = "NOT keep_private OR context.user.login IS NULL"
ad-tagged     = { sql = "context.referral <> 'Google Ads' OR context.ad_id IS NOT NULL", severity = "warn" }

[sink]
valid = { delta = "lake/visits" }
error = { delta = "lake/visits_errors" }
dlq   = { delta = "lake/visits_dlq" }
"#;

/// A folder with [`RECORDS`] in `visits.ndjson`.
pub fn project() -> Project {
    Project::new(&[("sluice.toml", TOML), ("visits.sql", VISITS_SQL), ("visits.ndjson", RECORDS)])
}

/// The same after `sluice run --until-end`.
pub fn project_that_ran() -> Project {
    let project = project();
    let screen = project.sluice(&["run", "--until-end"]).expect(0);
    assert!(screen.contains(END), "{screen}");
    project
}

/// Replaces one text of a file, which must be there.
#[track_caller]
pub fn edit(project: &Project, file: &str, from: &str, to: &str) {
    let text = project.read(file);
    assert!(text.contains(from), "{file} lacks {from}:\n{text}");
    project.write(file, text.replace(from, to));
}

/// The lines of a command's output, as JSON.
pub fn json_lines(text: &str) -> Vec<serde_json::Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}
