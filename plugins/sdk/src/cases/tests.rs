//! The runner of cases on plugins of every shape, right and wrong ones.

use super::*;
use crate::batch::{Column, LogicalType, PluginError};
use crate::columns::{Builder, Produced, Put};
use crate::plugin::Meta;
use crate::prelude::*;

/// A plugin in a module of its own, since there is one per crate; the tests that the macros add would look for the SDK's own
/// cases, so only the constant is taken from what they make.
macro_rules! rule_of {
    ($function:ident, $shape:ty) => {
        crate::plugin::Rule {
            configure: |json| {
                let meta = Meta { name: "test", version: "0.0.0", reused: false };
                crate::plugin::configure_rule::<_, $shape>($function, meta, json)
            },
            check: |state, batch| crate::plugin::check::<_, $shape>($function, state, batch),
        }
    };
}

macro_rules! enricher_of {
    ($function:ident, $shape:ty) => {
        crate::plugin::Enricher {
            configure: |json| {
                let meta = Meta { name: "test", version: "0.0.0", reused: false };
                crate::plugin::configure_enricher::<_, $shape>($function, meta, json)
            },
            enrich: |state, batch| crate::plugin::enrich::<_, $shape>($function, state, batch),
        }
    };
}

#[derive(Row)]
struct Visit<'a> {
    #[row("context.page")]
    page: Option<&'a str>,
    n: Option<i64>,
}

#[derive(Deserialize)]
struct Settings {
    #[serde(default)]
    max: Option<i64>,
}

#[derive(Codes)]
enum Code {
    /// the page is empty
    #[code(error, reads(page))]
    NoPage,
    /// the number is large
    #[code(warn, reads(page, n))]
    Large,
}

fn rows(visit: Visit, settings: &Settings, found: &mut Found<Code>) {
    if visit.page == Some("") {
        found.push(Code::NoPage)
    }
    if visit.n > settings.max && settings.max.is_some() {
        found.push_detail(Code::Large, "too large")
    }
}

fn bare_rows(visit: Visit<'_>, found: &mut Found<Code>) {
    rows(visit, &Settings { max: Some(7) }, found)
}

fn whole(visits: &VisitColumns, settings: &Settings, found: &mut Found<Code>) {
    for row in visits.rows() {
        if visits.page.get(row) == Some("") {
            found.push_at(row, Code::NoPage)
        }
        if settings.max.is_some_and(|max| visits.n.get(row).is_some_and(|n| n > max)) {
            found.push_at(row, Code::Large)
        }
    }
}

fn bare_whole(visits: &VisitColumns<'_>, found: &mut Found<Code>) {
    whole(visits, &Settings { max: Some(7) }, found)
}

/// Writes the lines as a case file of a folder.
fn folder(lines: &[&str]) -> Folder {
    let name = format!("sluice-cases-{}-{:?}", std::process::id(), std::thread::current().id());
    let path = std::env::temp_dir().join(name.replace(['(', ')'], ""));
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("all.ndjson"), lines.join("\n")).unwrap();
    Folder(path)
}

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const GOOD: [&str; 3] = [
    r#"{"row": {"context": {"page": ""}, "n": 7}, "finds": ["no-page"]}"#,
    "",
    r#"{"row": {"context": {"page": ""}, "n": 8}, "finds": ["no-page", "large"], "name": "both"}"#,
];

#[test]
fn every_shape_of_rule_judges_the_same() {
    let with_settings: Vec<String> =
        GOOD.iter().map(|line| line.replace(r#", "finds""#, r#", "config": {"max": 7}, "finds""#)).collect();
    let with_settings = folder(&with_settings.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(check_rule(&rule_of!(rows, crate::plugin::Rows<_, _, _>), &with_settings.0), Ok(()));
    assert_eq!(check_rule(&rule_of!(whole, crate::plugin::Whole<_, _, _>), &with_settings.0), Ok(()));
    drop(with_settings);
    let bare = folder(&GOOD);
    assert_eq!(check_rule(&rule_of!(bare_rows, crate::plugin::BareRows<_, _>), &bare.0), Ok(()));
    assert_eq!(check_rule(&rule_of!(bare_whole, crate::plugin::BareWhole<_, _>), &bare.0), Ok(()));
}

#[test]
fn a_description_says_what_is_read_and_found() {
    let (description, state) = (rule_of!(rows, crate::plugin::Rows<_, _, _>).configure)(r#"{"max": 1}"#).unwrap();
    let paths: Vec<_> = description.columns.iter().map(|c| (c.path.as_str(), c.ty, c.required)).collect();
    assert_eq!(paths, [("context.page", LogicalType::Utf8, true), ("n", LogicalType::Int64, true)]);
    let codes: Vec<_> = description.codes.iter().map(|c| (c.code, c.help, c.reads.as_slice())).collect();
    assert_eq!(codes, [("no-page", "the page is empty", &[0][..]), ("large", "the number is large", &[0, 1])]);

    let row = json!({"context": {"page": ""}, "n": 2});
    let batch = batch(&[&row, &json!({}), &row], &description.columns).unwrap();
    let findings = crate::plugin::check::<_, crate::plugin::Rows<_, _, _>>(rows, &state, &batch).unwrap();
    let shown: Vec<_> = findings.iter().map(|f| (f.row, f.code, f.column, f.detail.as_deref())).collect();
    let large = Some("too large");
    assert_eq!(shown, [(0, 0, Some(0), None), (0, 1, None, large), (2, 0, Some(0), None), (2, 1, None, large)]);
}

#[track_caller]
fn fails(lines: &[&str], expected: &str) {
    let folder = folder(lines);
    let problems =
        check_rule(&rule_of!(rows, crate::plugin::Rows<_, _, _>), &folder.0).expect_err("must fail").join("\n");
    assert!(problems.contains(expected), "{problems}");
}

#[test]
fn what_is_wrong_with_cases_is_said() {
    fails(&[], "a plugin needs cases, and ");
    fails(&[r#"{"row": {}, "finds": []}"#], "finds `no-page`: add one");
    fails(&[r#"{"row": {"n": 1}, "finds": ["large"]}"#], "cases/all.ndjson:1: expected [\"large\"], came []");
    fails(&[r#"{"row": {"n": "1"}, "finds": []}"#], "cases/all.ndjson:1: `n` is read as Int64, and \"1\" is none");
    fails(&[r#"{"row": {"context": 1}, "finds": []}"#], "`context.page` is read, and `context` is 1, not an object");
    fails(&[r#"{"row": {}, "finds": [], "config": {"min": 1}}"#], "config: unknown field `min`, expected `max`");
    fails(&[r#"{"row": {}, "adds": {}}"#], "and `finds` is missing");
    fails(&[r#"{"row": {}, "finds": [], "extra": 1}"#], "and `extra` is none of these");
    fails(&["{"], "and this is not JSON");
    let missing = check_rule(&rule_of!(rows, crate::plugin::Rows<_, _, _>), Path::new("/no/such/folder"));
    assert!(missing.expect_err("must fail")[0].starts_with("a plugin needs cases"));
}

#[test]
fn a_rule_that_looks_at_its_neighbours_is_found_out() {
    fn neighbours(visits: &VisitColumns, found: &mut Found<Code>) {
        for row in visits.rows() {
            found.push_at(row, if row == 0 { Code::NoPage } else { Code::Large })
        }
    }
    let folder = folder(&[r#"{"row": {}, "finds": ["no-page"]}"#, r#"{"row": {}, "finds": ["no-page"]}"#]);
    let problems = check_rule(&rule_of!(neighbours, crate::plugin::BareWhole<_, _>), &folder.0).expect_err("must fail");
    assert!(problems[0].contains("a verdict may depend on its row only"), "{problems:?}");
}

#[derive(Row)]
struct Everything<'a> {
    flag: Option<bool>,
    small: Option<i32>,
    large: Option<i64>,
    real: Option<f64>,
    day: Option<Date32>,
    at: Option<Timestamp>,
    price: Option<Decimal>,
    text: Option<&'a str>,
    bytes: Option<&'a [u8]>,
    any: Option<Json<'a>>,
}

#[derive(Columns)]
struct Copied<'a> {
    flag: Option<bool>,
    small: Option<i32>,
    large: Option<i64>,
    real: Option<f64>,
    #[column("date")]
    day: Option<Date32>,
    at: Option<Timestamp>,
    #[column(decimal(10, 2))]
    price: Option<Decimal>,
    text: Option<&'a str>,
    bytes: Option<&'a [u8]>,
    any: Option<serde_json::Value>,
    length: i32,
}

fn copy<'a>(row: Everything<'a>) -> Copied<'a> {
    let Everything { flag, small, large, real, day, at, price, text, bytes, any } = row;
    let length = text.map_or(-1, |text| text.len() as i32);
    let any = any.and_then(|any| any.parse().ok());
    Copied { flag, small, large, real, day, at, price, text, bytes, any, length }
}

#[test]
fn every_type_goes_in_and_out() {
    let full = json!({"flag": true, "small": -3, "large": 1i64 << 40, "real": 0.5, "day": "2024-02-29",
        "at": "2026-11-20T21:03:11.5Z", "price": "-12.50", "text": "zażółć", "bytes": "raw", "any": {"a": [1, null]}});
    let mut added = full.clone();
    added["date"] = added["day"].take();
    added["length"] = json!("zażółć".len());
    let line = json!({"row": full, "adds": added}).to_string();
    let folder = folder(&[
        &line,
        r#"{"row": {}, "adds": {"length": -1}}"#,
        r#"{"row": {"text": ""}, "adds": {"text": "", "length": 0}}"#,
    ]);
    assert_eq!(check_enricher(&enricher_of!(copy, crate::plugin::BareAdds<_, _>), &folder.0), Ok(()));
}

#[derive(Columns)]
struct Word {
    word: String,
}

fn words<'a>(visit: Visit<'a>, _: &'a Settings) -> Vec<Word> {
    visit.page.unwrap_or("none").split_whitespace().map(|word| Word { word: word.into() }).collect()
}

#[test]
fn one_row_may_become_several_and_never_none() {
    let enricher = enricher_of!(words, crate::plugin::Adds<_, _, _>);
    let (description, state) = (enricher.configure)("{}").unwrap();
    assert!(description.one_to_many);
    let (two, none) = (json!({"context": {"page": "a b"}}), json!({"context": {"page": ""}}));
    let enriched = (enricher.enrich)(&state, &batch(&[&two, &json!({})], &description.columns).unwrap()).unwrap();
    assert_eq!(enriched.rows, Some(vec![0, 0, 1]));
    let refused = (enricher.enrich)(&state, &batch(&[&two, &none], &description.columns).unwrap());
    let expected = PluginError::Internal("no row came out of row 1: an enricher drops nothing".into());
    assert_eq!(refused.map(|_| ()), Err(expected));
    let folder = folder(&[r#"{"row": {"context": {"page": "a b"}}, "adds": [{"word": "a"}, {"word": "b"}]}"#]);
    assert_eq!(check_enricher(&enricher, &folder.0), Ok(()));
}

#[test]
fn a_decimal_that_does_not_fit_is_refused() {
    let finish = |text: &str| {
        let mut builder = <Decimal as Put>::Builder::default();
        text.parse::<Decimal>().unwrap().put(&mut builder);
        let produced = Produced { name: "price", ty: LogicalType::Decimal, precision: 4, scale: 2 };
        builder.finish(&produced).map(|column| cells::value(&column, 0))
    };
    assert_eq!(finish("1.5"), Ok(json!("1.50")));
    assert_eq!(finish("1.500"), Ok(json!("1.50")));
    let refused = |text| Err(PluginError::Internal(format!("`price`: {text} does not fit decimal(4, 2)")));
    assert_eq!(finish("1.505"), refused("1.505"));
    assert_eq!(finish("100.00"), refused("100.00"));
}

#[test]
fn a_column_of_another_shape_is_refused() {
    let (description, state) = (rule_of!(rows, crate::plugin::Rows<_, _, _>).configure)("{}").unwrap();
    let check = |columns: Vec<Column>, expected: &str| {
        let batch = Batch { rows: 2, columns };
        let error =
            crate::plugin::check::<_, crate::plugin::Rows<_, _, _>>(rows, &state, &batch).expect_err("must fail");
        assert_eq!(error, PluginError::Internal(expected.into()));
    };
    let row = json!({"context": {"page": "a"}, "n": 1});
    let short = batch(&[&row], &description.columns).unwrap().columns;
    check(short.clone(), "the host passed `context.page` in another shape than Utf8 of 2 rows");
    check(vec![Column::Absent, short[0].clone()], "the host passed `n` in another shape than Int64 of 2 rows");
    check(vec![Column::Absent], "the host passed 1 columns, `n` is missing");
    let absent = Batch { rows: 2, columns: vec![Column::Absent, Column::Absent] };
    assert_eq!(crate::plugin::check::<_, crate::plugin::Rows<_, _, _>>(rows, &state, &absent), Ok(vec![]));
}
