//! A user's folder: a pipeline file and what lies beside it, and the binary run in it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

use crate::peer;

/// The visits of the scenarios, as a user declares them.
pub const VISITS_SQL: &str = "\
CREATE TABLE visits (
  visit_id STRING, event_time TIMESTAMP, user_id STRING, keep_private BOOLEAN, page STRING,
  context STRUCT<referral: STRING, ad_id: STRING,
    user: STRUCT<ip: STRING, login: STRING, connected_since: TIMESTAMP>,
    technical: STRUCT<browser: STRING, browser_version: STRING, network_type: STRING, device_type: STRING, device_version: STRING>>
)
";

/// The rules of the demo, in SQL alone; `source` is the `[source]` section's text.
pub fn visits_toml(source: &str, extra: &str) -> String {
    format!(
        r#"name  = "visits"
state = "lake/_sluice/visits"
{extra}
[source]
{source}

[schema]
file       = "visits.sql"
event_time = "event_time"

[expect]
has-user      = "user_id IS NOT NULL"
login-exposed = "NOT keep_private OR context.user.login IS NULL"

[sink]
valid = {{ delta = "lake/visits" }}
error = {{ delta = "lake/visits_errors" }}
dlq   = {{ delta = "lake/visits_dlq" }}
"#
    )
}

/// A folder in which a user works.
pub struct Project {
    folder: TempDir,
}

/// What a command printed, and how it ended.
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn of(output: Output) -> Ran {
        Ran {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Standard output of a command that must end with `code`.
    #[track_caller]
    pub fn expect(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self.stdout
    }
}

impl Project {
    /// A folder with these files.
    pub fn new(files: &[(&str, &str)]) -> Project {
        let project = Project { folder: tempfile::tempdir().expect("a temporary folder") };
        for (name, text) in files {
            project.write(name, text);
        }
        project
    }

    /// A folder whose pipeline reads visits from `visits.ndjson`, which is generated: `records`, 2 % of them damaged and
    /// 0.5 % not JSON. `extra` goes to the top of the pipeline file. Answers the generator's own tally beside it.
    pub fn visits(records: u64, extra: &str) -> (Project, serde_json::Value) {
        let toml = visits_toml("files = [\"visits.ndjson\"]", extra);
        let project = Project::new(&[("sluice.toml", &toml), ("visits.sql", VISITS_SQL)]);
        let records = records.to_string();
        let generate = ["generate", "visits", "--records", &records, "--out", "visits.ndjson", "--tally", "tally.json"];
        project.sluice(&generate).expect(0);
        let tally = serde_json::from_str(&project.read("tally.json")).expect("the tally is JSON");
        (project, tally)
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a file has a folder")).expect("the folder can be made");
        std::fs::write(path, text).expect("the file can be written");
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// The command, not yet started: in the folder, without colour.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
        command.args(arguments).current_dir(self.path()).env("NO_COLOR", "1").env_remove("SLUICE_LOG");
        command
    }

    pub fn sluice(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(arguments).stdin(Stdio::null()).output().expect("sluice starts"))
    }

    /// The command with this environment variable set.
    pub fn sluice_with(&self, variable: (&str, &str), arguments: &[&str]) -> Ran {
        let mut command = self.command(arguments);
        Ran::of(command.env(variable.0, variable.1).stdin(Stdio::null()).output().expect("sluice starts"))
    }

    /// The command with `input` on its standard input.
    pub fn feed(&self, arguments: &[&str], input: &[u8]) -> Ran {
        use std::io::Write;
        let mut child = self.start(arguments, Stdio::piped());
        child.stdin.take().expect("stdin is piped").write_all(input).expect("the command reads its input");
        Ran::of(child.wait_with_output().expect("the command ends"))
    }

    /// Starts the command and leaves it running.
    pub fn start(&self, arguments: &[&str], stdin: Stdio) -> Child {
        let mut command = self.command(arguments);
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("sluice starts")
    }

    /// The three tables, as another reader sees them.
    pub fn tables(&self) -> Vec<(&'static str, PathBuf)> {
        let lake = self.path().join("lake");
        vec![("valid", lake.join("visits")), ("error", lake.join("visits_errors")), ("dlq", lake.join("visits_dlq"))]
    }

    /// Rows per table, and how many coordinates stand more than once over all three, counted by PyPI deltalake.
    pub fn counted(&self) -> Counted {
        let all = "SELECT 'valid' AS t, _topic, _partition, _offset, _row FROM valid UNION ALL \
                   SELECT 'error', _topic, _partition, _offset, _row FROM error UNION ALL \
                   SELECT 'dlq', _topic, _partition, _offset, _row FROM dlq";
        let sql = format!(
            "SELECT count(*) FILTER (WHERE t = 'valid') AS valid, count(*) FILTER (WHERE t = 'error') AS error, \
             count(*) FILTER (WHERE t = 'dlq') AS dlq, \
             count(*) - count(DISTINCT concat(_topic, '/', _partition, '/', _offset, '/', _row)) AS doubled FROM ({all})"
        );
        let rows = peer::sql(&sql, &self.tables());
        let n = |name: &str| rows[0][name].as_u64().unwrap_or_else(|| panic!("{name} in {rows}"));
        Counted { valid: n("valid"), error: n("error"), dlq: n("dlq"), doubled: n("doubled") }
    }
}

/// What another reader counts.
#[derive(Debug, PartialEq, Eq)]
pub struct Counted {
    pub valid: u64,
    pub error: u64,
    pub dlq: u64,
    pub doubled: u64,
}

impl Counted {
    /// What the generator says that it planted.
    pub fn planted(tally: &serde_json::Value) -> Counted {
        let n = |name: &str| tally["outcomes"][name].as_u64().unwrap_or_else(|| panic!("{name} in {tally}"));
        Counted { valid: n("valid"), error: n("error"), dlq: n("dlq"), doubled: 0 }
    }
}
