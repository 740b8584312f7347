//! JUnit's XML, as CI systems read it: a suite per pipeline or plugin, a case per line.

use std::fmt::Write;

use super::Suite;

/// The whole file.
pub fn write(suites: &[Suite]) -> String {
    let tests: usize = suites.iter().map(|suite| suite.cases.len()).sum();
    let failures: usize = suites.iter().map(|suite| suite.cases.len() - suite.passed()).sum();
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(xml, "<testsuites name=\"sluice\" tests=\"{tests}\" failures=\"{failures}\">");
    for suite in suites {
        let (title, tests) = (escaped(&suite.title), suite.cases.len());
        let failures = tests - suite.passed();
        let _ = writeln!(xml, "  <testsuite name=\"{title}\" tests=\"{tests}\" failures=\"{failures}\">");
        for case in &suite.cases {
            let place = case.place();
            let name = case.name.as_ref().map_or_else(|| place.clone(), |name| format!("{name} ({place})"));
            let head = format!(
                "    <testcase classname=\"{title}\" name=\"{}\" file=\"{}\" line=\"{}\"",
                escaped(&name),
                escaped(&case.file.display().to_string()),
                case.line
            );
            match &case.problem {
                None => _ = writeln!(xml, "{head}/>"),
                Some(problem) => {
                    let first = escaped(problem.lines.first().map_or("", String::as_str));
                    let all = escaped(&problem.lines.join("\n"));
                    let _ =
                        writeln!(xml, "{head}>\n      <failure message=\"{first}\">{all}</failure>\n    </testcase>");
                }
            }
        }
        let _ = writeln!(xml, "  </testsuite>");
    }
    xml + "</testsuites>\n"
}

/// Text within XML; what XML cannot hold at all becomes a replacement character.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\n' => out += "&#10;",
            '\t' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::{Problem, Tested};
    use super::*;

    #[test]
    fn text_of_cases_stays_text() {
        let case = |line, name: Option<&str>, lines: &[&str]| Tested {
            file: "cases/a.ndjson".into(),
            line,
            name: name.map(str::to_owned),
            problem: (!lines.is_empty())
                .then(|| Problem { lines: lines.iter().map(|l| (*l).to_owned()).collect(), update: None }),
        };
        let cases =
            vec![case(1, None, &[]), case(2, Some("a < \"b\" & \u{1}"), &["row.a: expected 1, came <2>", "second"])];
        let xml = write(&[Suite { title: "visits".into(), cases }]);
        expect_test::expect![[r#"
            <?xml version="1.0" encoding="UTF-8"?>
            <testsuites name="sluice" tests="2" failures="1">
              <testsuite name="visits" tests="2" failures="1">
                <testcase classname="visits" name="cases/a.ndjson:1" file="cases/a.ndjson" line="1"/>
                <testcase classname="visits" name="a &lt; &quot;b&quot; &amp; � (cases/a.ndjson:2)" file="cases/a.ndjson" line="2">
                  <failure message="row.a: expected 1, came &lt;2&gt;">row.a: expected 1, came &lt;2&gt;&#10;second</failure>
                </testcase>
              </testsuite>
            </testsuites>
        "#]]
        .assert_eq(&xml);
    }
}
