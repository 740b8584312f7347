//! Runs the cases of a plugin, through Wasm, in the sandbox that a pipeline uses.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use serde_json::{Value, json};

use super::line::parse;
use super::{Line, Problem, Suite, Tested, diff, read};
use crate::component;
use crate::config::Wasi;
use crate::error::{Error, Result};
use crate::plugin::{Engine, Kind};
use crate::workbench::rows::Row;
use crate::workbench::{Answer, Found, Subject, on_guest_stack, pick, rowless};

/// Keys of a case.
pub const KEYS: [&str; 5] = ["row", "config", "finds", "adds", "name"];
/// Those that say what goes in.
pub const INPUTS: [&str; 3] = ["row", "config", "name"];

/// A case that was read.
pub struct Case {
    line: Line,
    /// the row
    pub row: Value,
    /// the plugin's settings, an object
    pub config: Value,
    name: Option<String>,
    finds: Option<Vec<String>>,
    adds: Option<Value>,
    /// it stands in no file, but in the component
    travels: bool,
}

impl Case {
    /// Whether it says what should come.
    pub fn is_whole(&self) -> bool {
        self.finds.is_some() || self.adds.is_some()
    }

    /// The row with its place.
    pub fn row(&self) -> Row<'_> {
        Row { place: self.line.place(), row: &self.row }
    }
}

/// Reads the cases of a plugin: those beside it, else those that it carries.
pub fn cases(found: &Found) -> Result<Vec<Case>> {
    let beside = read(&found.cases, &KEYS)?;
    if !beside.is_empty() || !found.carries || !component::is_component(&found.code) {
        return beside.into_iter().map(case).collect();
    }
    let mut cases = Vec::new();
    for (file, text) in component::carried(&found.code)? {
        cases.extend(cases_in(Path::new(file), text)?.into_iter().map(|case| Case { travels: true, ..case }));
    }
    Ok(cases)
}

/// The cases of a text; `file` is what it is called.
pub fn cases_in(file: &Path, text: &str) -> Result<Vec<Case>> {
    parse(file, text, &KEYS)?.into_iter().map(case).collect()
}

fn case(line: Line) -> Result<Case> {
    let row: Value = line.get("row")?.unwrap_or_default();
    if !row.is_object() {
        return Err(line.wrong("`row` is no object"));
    }
    let config: Value = line.get("config")?.unwrap_or_else(|| json!({}));
    let (finds, adds) = (line.get("finds")?, line.get("adds")?);
    if finds.is_some() && adds.is_some() {
        return Err(line.wrong("a rule `finds`, an enricher `adds`: one of them"));
    }
    Ok(Case { row, config, name: line.get("name")?, finds, adds, line, travels: false })
}

/// Runs all cases of a plugin; none is a mistake.
pub fn run(engine: &Engine, found: &Found) -> Result<Suite> {
    let cases = cases(found)?;
    if cases.is_empty() {
        if found.inspect(engine, &json!({})).kind == Some(Kind::Auditor) {
            return Err(rowless(&found.name));
        }
        return Err(Error::Config(format!(
            "there are no cases in {}: write one per line, like {{\"row\": {{…}}, \"finds\": [\"code\"]}}",
            found.cases.display()
        )));
    }
    run_all(engine, found, &cases)
}

/// Runs the cases that a component carries, as the trial of a candidate does; answers how many there are.
///
/// # Errors
/// [`Error::Plugin`] with the first case that fails.
pub fn run_carried(engine: &Engine, name: &str, code: &[u8]) -> Result<usize> {
    // it was loaded as its pipeline says: here stand-ins are for whoever needs them
    let found = Found::component(name, &Bytes::copy_from_slice(code), Wasi::Inert);
    let suite = run_all(engine, &found, &cases(&found)?)?;
    let (failed, all) = (suite.cases.len() - suite.passed(), suite.cases.len());
    let first = suite.cases.iter().find_map(|case| Some((case.place(), case.problem.as_ref()?.lines.join("; "))));
    match first {
        None => Ok(all),
        Some((place, why)) => {
            Err(Error::plugin(name, format!("fails {failed} of its own {all} cases; the first, {place}, {why}")))
        }
    }
}

fn run_all(engine: &Engine, found: &Found, cases: &[Case]) -> Result<Suite> {
    let mut by_config: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (n, case) in cases.iter().enumerate() {
        by_config.entry(case.config.to_string()).or_default().push(n);
    }
    let mut title = found.name.clone();
    let mut tested: Vec<Option<Tested>> = cases.iter().map(|_| None).collect();
    for numbers in by_config.values() {
        let of_config: Vec<&Case> = numbers.iter().map(|n| &cases[*n]).collect();
        let rows: Vec<&Value> = of_config.iter().map(|case| &case.row).collect();
        let subject = Subject::load(engine, found, &of_config[0].config, &rows)?;
        title = subject.title();
        let problems = on_guest_stack(|| problems(&subject, &of_config))?;
        for (n, mut problem) in numbers.iter().zip(problems) {
            let Case { line, name, travels, .. } = &cases[*n];
            if let Some(problem) = problem.as_mut().filter(|_| *travels) {
                problem.update = None; // there is no file to write it to
            }
            tested[*n] = Some(Tested { file: line.file.clone(), line: line.number, name: name.clone(), problem });
        }
    }
    Ok(Suite { title, cases: tested.into_iter().flatten().collect() })
}

fn problems(subject: &Subject, cases: &[&Case]) -> Result<Vec<Option<Problem>>> {
    let rows: Vec<Row<'_>> = cases.iter().map(|case| case.row()).collect();
    let batch = subject.batch(&rows)?;
    let together = subject.answers(&mut subject.caller(), &batch)?;
    let mut problems = Vec::with_capacity(cases.len());
    for (n, (case, answer)) in cases.iter().zip(together).enumerate() {
        let alone = subject.answers(&mut subject.caller(), &pick(&batch, &[n])?)?.pop();
        problems.push(problem(subject.plugin.kind(), case, &answer, alone.as_ref()));
    }
    Ok(problems)
}

fn problem(kind: Kind, case: &Case, answer: &Answer, alone: Option<&Answer>) -> Option<Problem> {
    if let Some(alone) = alone.filter(|alone| !alone.is_like(answer)) {
        let lines = vec![format!("depends on its neighbours: {answer} among the others, {alone} alone")];
        return Some(Problem { lines, update: None });
    }
    let mut lines = Vec::new();
    let update = match answer {
        Answer::Dead(why) => {
            return Some(Problem { lines: vec![why.clone()], update: None });
        }
        Answer::Finds(_) => {
            let codes: Vec<String> = answer.codes().into_iter().map(str::to_owned).collect();
            match &case.finds {
                Some(expected) => diff::set(&mut lines, "finds", expected, &codes),
                None => lines.push(format!("is of a rule, and does not say what it `finds`: {answer}")),
            }
            vec![("finds", json!(codes))]
        }
        Answer::Adds(rows) => {
            let came = match rows.as_slice() {
                [one] => one.clone(),
                several => several.to_vec().into(),
            };
            match &case.adds {
                Some(expected) => added(&mut lines, expected, rows),
                None => lines.push(format!("is of an {kind}, and does not say what it `adds`: {answer}")),
            }
            vec![("adds", came)]
        }
    };
    (!lines.is_empty()).then_some(Problem { lines, update: Some(update) })
}

/// A row, or a list of rows; a null may be left out, and nothing else may.
fn added(lines: &mut Vec<String>, expected: &Value, came: &[Value]) {
    let expected = match expected {
        Value::Array(rows) => rows.clone(),
        one => vec![one.clone()],
    };
    if expected.len() != came.len() {
        lines.push(format!("adds: expected {} rows, came {}", expected.len(), came.len()));
        return;
    }
    for (n, (expected, came)) in expected.iter().zip(came).enumerate() {
        let what =
            if expected.is_object() && came.is_object() && n == 0 { "adds".to_owned() } else { format!("adds[{n}]") };
        let (Some(said), Some(all)) = (expected.as_object(), came.as_object()) else {
            diff::value(lines, &what, expected, came);
            continue;
        };
        let names: std::collections::BTreeSet<&String> = said.keys().chain(all.keys()).collect();
        for name in names {
            diff::value(lines, &format!("{what}.{name}"), &expected[name], &came[name]);
        }
    }
}
