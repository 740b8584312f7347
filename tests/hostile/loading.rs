//! Loading: what is kept of it, and what `inspect` tells.

use sluice_host::plugin::{Engine, Kind, Plugin, inspect};

use super::{ENGINE, config, schema};
use crate::guests::{NOTHING, rule};

#[test]
fn compiled_code_is_kept_and_a_damaged_copy_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("compiled");
    let code = rule(NOTHING).component();
    let load = || {
        let engine = Engine::new(Some(cache.clone())).unwrap();
        Plugin::load(&engine, Kind::Rule, &config(), &code, &schema()).unwrap_or_else(|e| panic!("{e}"))
    };
    let digest = load().digest().to_string();
    let files = || std::fs::read_dir(&cache).unwrap().map(|e| e.unwrap().path()).collect::<Vec<_>>();
    let [file] = &files()[..] else { panic!("{:?}", files()) };
    assert!(file.file_name().unwrap().to_string_lossy().starts_with(&digest));
    let whole = std::fs::read(file).unwrap();
    load();
    assert_eq!(std::fs::read(file).unwrap(), whole, "taken as it is");
    std::fs::write(file, &whole[..whole.len() / 2]).unwrap();
    load();
    assert_eq!(std::fs::read(file).unwrap().len(), whole.len(), "made again");
}

#[test]
fn a_component_is_described_and_a_refusal_explained() {
    let shown = inspect(&ENGINE, &rule(NOTHING).component()).to_string();
    let lines: Vec<&str> = shown.lines().skip(1).map(|line| line.strip_prefix("  ").unwrap()).collect();
    expect_test::expect![[r#"
        imports   sluice:plugin/host@0.1.0
                  sluice:plugin/types@0.1.0
        exports   sluice:plugin/rule@0.1.0
        made by   wit-component 0.263.0
        reads     n        int64
        codes     unlucky  a code of a test
                  odd      a code of a test
        loads     by contract 0.1.0"#]]
    .assert_eq(&lines.join("\n"));
    let refused = inspect(&ENGINE, &rule(NOTHING).core());
    assert_eq!(
        refused.problem.as_deref(),
        Some("it is a core module and no component; make one of it with `sluice build`")
    );
    assert_eq!(refused.description, None);
}
