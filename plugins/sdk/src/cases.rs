//! The cases of a plugin, run natively: the test that `#[rule]` and `#[enricher]` add to every plugin.
//!
//! A case is a line in a file `cases/*.ndjson`: a row and what comes of it.
//! ```json
//! {"row": {"keep_private": true, "context": {"user": {"login": "mlind"}}}, "finds": ["login-exposed"]}
//! {"row": {"keep_private": true}, "config": {"allow": ["mlind"]}, "finds": []}
//! ```
//! For an enricher it is `"adds": {"engine": "Blink"}`, where a null may be left out, or a list of them where one row
//! becomes several. Every row is judged alone and among all others, since a verdict depends on its row alone. A plugin
//! without cases fails, and so does a code that no case finds. `sluice test` runs the same files through the component.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::batch::Batch;
use crate::plugin::{ColumnRequest, Enricher, Rule};

mod cells;

/// One line of a case file.
#[derive(Debug)]
struct Case {
    file: String,
    line: usize,
    row: Value,
    config: String,
    expected: Value,
}

/// Runs the cases of a rule; panics with all that differ.
pub fn rule(rule: &Rule, folder: &str) {
    report(check_rule(rule, &folder_of(folder)));
}

/// Runs the cases of an enricher; panics with all that differ.
pub fn enricher(enricher: &Enricher, folder: &str) {
    report(check_enricher(enricher, &folder_of(folder)));
}

fn folder_of(folder: &str) -> PathBuf {
    Path::new(folder).join("cases")
}

#[track_caller]
fn report(result: Result<(), Vec<String>>) {
    if let Err(problems) = result {
        panic!("{}", problems.join("\n"));
    }
}

fn check_rule(rule: &Rule, folder: &Path) -> Result<(), Vec<String>> {
    let cases = read(folder, "finds")?;
    let mut untested = BTreeMap::new();
    let mut problems = run(&cases, |config, rows| {
        let (description, state) = (rule.configure)(config).map_err(|error| error.to_string())?;
        for code in &description.codes {
            untested.entry(code.code).or_insert(true);
        }
        let findings = (rule.check)(&state, &batch(rows, &description.columns)?).map_err(|error| error.to_string())?;
        let mut answers = vec![Vec::new(); rows.len()];
        for finding in findings {
            let code = description.codes[usize::from(finding.code)].code;
            untested.insert(code, false);
            answers[finding.row as usize].push(code);
        }
        Ok(answers
            .into_iter()
            .map(|mut codes| {
                codes.sort_unstable();
                json!(codes)
            })
            .collect())
    });
    let untested = untested.into_iter().filter(|(_, untested)| *untested);
    problems.extend(untested.map(|(code, _)| format!("no case in {} finds `{code}`: add one", folder.display())));
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

fn check_enricher(enricher: &Enricher, folder: &Path) -> Result<(), Vec<String>> {
    let cases = read(folder, "adds")?;
    let problems = run(&cases, |config, rows| {
        let (description, state) = (enricher.configure)(config).map_err(|error| error.to_string())?;
        let batch = batch(rows, &description.columns)?;
        let enriched = (enricher.enrich)(&state, &batch).map_err(|error| error.to_string())?;
        let origins = enriched.rows.unwrap_or_else(|| (0..rows.len() as u32).collect());
        let mut answers = vec![Vec::new(); rows.len()];
        for (row, origin) in origins.into_iter().enumerate() {
            let values = description.produces.iter().zip(&enriched.columns);
            let added = values.map(|(produced, column)| (produced.name.to_owned(), cells::value(column, row)));
            let added = added.filter(|(_, value)| !value.is_null()).collect::<Map<_, _>>();
            answers[origin as usize].push(Value::Object(added));
        }
        let whole = |mut answer: Vec<Value>| if description.one_to_many { json!(answer) } else { answer.remove(0) };
        Ok(answers.into_iter().map(whole).collect())
    });
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// Answers to rows under one configuration: one each, or why there are none.
type Answers = Result<Vec<Value>, String>;

/// Asks for every case alone, then for all of one configuration together.
fn run(cases: &[Case], mut ask: impl FnMut(&str, &[&Value]) -> Answers) -> Vec<String> {
    let mut problems = Vec::new();
    let mut together: BTreeMap<&str, Vec<&Case>> = BTreeMap::new();
    for case in cases {
        together.entry(&case.config).or_default().push(case);
        match ask(&case.config, &[&case.row]) {
            Err(problem) => problems.push(format!("{}:{}: {problem}", case.file, case.line)),
            Ok(answers) if answers[0] != case.expected => problems.push(format!(
                "{}:{}: expected {}, came {}\n  row {}",
                case.file, case.line, case.expected, answers[0], case.row
            )),
            Ok(_) => {}
        }
    }
    if !problems.is_empty() {
        return problems;
    }
    for (config, cases) in together {
        let rows: Vec<&Value> = cases.iter().map(|case| &case.row).collect();
        let answers = ask(config, &rows).unwrap_or_else(|problem| vec![json!(problem); rows.len()]);
        for (case, answer) in cases.iter().zip(answers) {
            if answer != case.expected {
                problems.push(format!(
                    "{}:{}: alone {}, among {} rows {answer}: a verdict may depend on its row only",
                    case.file,
                    case.line,
                    case.expected,
                    rows.len()
                ));
            }
        }
    }
    problems
}

/// The batch that a plugin which asks for `columns` gets of these rows.
pub fn batch(rows: &[&Value], columns: &[ColumnRequest]) -> Result<Batch, String> {
    let columns = columns.iter().map(|request| cells::column(rows, request)).collect::<Result<_, String>>()?;
    Ok(Batch { rows: rows.len(), columns })
}

/// All cases of the folder, or what is wrong with them; `outcome` is the key of what is expected.
fn read(folder: &Path, outcome: &str) -> Result<Vec<Case>, Vec<String>> {
    let files = fs::read_dir(folder).map(|entries| {
        let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "ndjson"));
        files.sort();
        files
    });
    let (mut cases, mut problems) = (Vec::new(), Vec::new());
    for path in files.unwrap_or_default() {
        let file = format!("cases/{}", path.file_name().unwrap_or_default().to_string_lossy());
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => {
                problems.push(format!("cannot read {file}: {error}"));
                continue;
            }
        };
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            match parse(line, outcome) {
                Ok((row, config, expected)) => {
                    cases.push(Case { file: file.clone(), line: index + 1, row, config, expected });
                }
                Err(problem) => problems.push(format!("{file}:{}: {problem}", index + 1)),
            }
        }
    }
    if cases.is_empty() && problems.is_empty() {
        problems.push(format!(
            "a plugin needs cases, and {} has none: put lines like {{\"row\": {{…}}, \"{outcome}\": …}} into a file *.ndjson there",
            folder.display()
        ));
    }
    if problems.is_empty() { Ok(cases) } else { Err(problems) }
}

/// A line → row, configuration, and what is expected, in the form in which it is compared.
fn parse(line: &str, outcome: &str) -> Result<(Value, String, Value), String> {
    let wrong = |what: &str| format!("a case is {{\"row\": {{…}}, \"config\": {{…}}?, \"{outcome}\": …}}, {what}");
    let value = serde_json::from_str(line).map_err(|error| wrong(&format!("and this is not JSON: {error}")))?;
    let Value::Object(mut case) = value else { return Err(wrong("and this is no object")) };
    let row = case.remove("row").filter(Value::is_object).ok_or_else(|| wrong("and `row` is missing"))?;
    let config = case.remove("config").unwrap_or_else(|| json!({})).to_string();
    let expected = case.remove(outcome).ok_or_else(|| wrong(&format!("and `{outcome}` is missing")))?;
    case.remove("name"); // for people who read the file
    if let Some(key) = case.keys().next() {
        return Err(wrong(&format!("and `{key}` is none of these")));
    }
    let expected = match (outcome, expected) {
        ("finds", Value::Array(mut codes)) if codes.iter().all(Value::is_string) => {
            codes.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
            Value::Array(codes)
        }
        ("finds", _) => return Err(wrong("and `finds` is a list of codes")),
        (_, Value::Array(rows)) => rows.into_iter().map(without_nulls).collect(),
        (_, row) => without_nulls(row),
    };
    Ok((row, config, expected))
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields.into_iter().filter(|(_, value)| !value.is_null()).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests;
