//! The files that templates are made of, embedded in the binary: this repository's own plugins and SDKs.

use toml::Table;

use super::{Kind, Language, Name};

/// `plugins/<folder>/<file>` under that file's path in a new plugin.
macro_rules! files {
    ($folder:literal => $to:literal: $($file:literal),+ $(,)?) => {
        [$((concat!($to, $file), include_str!(concat!("../../../plugins/", $folder, "/", $file)))),+]
    };
}

/// The plugin that is the sample.
pub(super) fn sample_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Rule => "consent",
        Kind::Enricher => "browser-engine",
    }
}

pub(super) fn cases(kind: Kind) -> &'static str {
    match kind {
        Kind::Rule => include_str!("../../../plugins/consent/cases/consent.ndjson"),
        Kind::Enricher => include_str!("../../../plugins/browser-engine/cases/browser-engine.ndjson"),
    }
}

/// The sample's own files.
pub(super) fn sample(kind: Kind, language: Language) -> Vec<(&'static str, &'static str)> {
    match (kind, language) {
        (Kind::Rule, Language::Rust) => files!("consent" => "": "src/lib.rs").to_vec(),
        (Kind::Rule, Language::Python) => files!("consent-python" => "": "rule.py", "requirements.txt").to_vec(),
        (Kind::Rule, Language::JavaScript) => files!("consent-js" => "": "rule.js", "package.json").to_vec(),
        (Kind::Rule, Language::TypeScript) => files!("consent-ts" => "": "rule.ts", "package.json").to_vec(),
        (Kind::Rule, Language::Go) => files!("consent-go" => "": "rule.go", "go.mod").to_vec(),
        (Kind::Rule, Language::C) => files!("consent-c" => "": "rule.c").to_vec(),
        (Kind::Enricher, Language::Rust) => files!("browser-engine" => "": "src/lib.rs").to_vec(),
        (Kind::Enricher, Language::Python) => {
            files!("browser-engine-python" => "": "enricher.py", "requirements.txt").to_vec()
        }
        (Kind::Enricher, Language::JavaScript) => {
            files!("browser-engine-js" => "": "enricher.js", "package.json").to_vec()
        }
        (Kind::Enricher, Language::TypeScript) => {
            files!("browser-engine-ts" => "": "enricher.ts", "package.json").to_vec()
        }
        (Kind::Enricher, Language::Go) => files!("browser-engine-go" => "": "enricher.go", "go.mod").to_vec(),
        (Kind::Enricher, Language::C) => files!("browser-engine-c" => "": "enricher.c").to_vec(),
    }
}

/// The SDK's files.
pub(super) fn sdk(language: Language) -> Vec<(&'static str, String)> {
    let files: &[(&str, &str)] = match language {
        Language::Rust => &RUST,
        Language::Python => &files!("sdk-python" => "": "sluice/__init__.py"),
        Language::JavaScript | Language::TypeScript => &files!("sdk-js" => "sluice/": "sluice.js", "sluice.d.ts"),
        Language::Go => &files!(
            "sdk-go" => "sluice/": "go.mod", "rule.go", "enricher/enricher.go", "internal/guest/abi.go",
            "internal/guest/columns.go"
        ),
        Language::C => &files!("sdk-c" => "sluice/": "sluice.h"),
    };
    files.iter().map(|(path, text)| (*path, (*text).to_owned())).collect()
}

/// In `sluice/sdk`, two folders below `wit/`, as in this repository.
const RUST: [(&str, &str); 26] = files!(
    "sdk" => "sluice/sdk/": "Cargo.toml", "src/audit.rs", "src/batch.rs", "src/cases.rs", "src/cases/cells.rs",
    "src/cases/tests.rs", "src/codes.rs", "src/columns.rs", "src/guest.rs", "src/lib.rs", "src/log.rs", "src/plugin.rs", "src/reference.rs",
    "src/row.rs", "src/row/cell.rs", "src/settings.rs", "src/values.rs", "src/values/iso.rs", "macros/Cargo.toml",
    "macros/src/attributes.rs", "macros/src/codes.rs", "macros/src/columns.rs", "macros/src/lib.rs", "macros/src/plugin.rs",
    "macros/src/row.rs", "macros/src/settings.rs",
);

/// The manifest of a new plugin in Rust. `sluice/` is a workspace of its own, so that the SDK's manifests stay as they are.
pub(super) fn cargo_manifest(name: &Name) -> String {
    format!(
        r#"[package]
name = "{}"
version = "0.1.0"
edition = "2024"

[lib]
crate-type = ["cdylib", "rlib"]

[dependencies]
sluice-sdk = {{ path = "sluice/sdk" }}

[workspace]
exclude = ["sluice"]
"#,
        name.kebab()
    )
}

/// What the SDK's manifests inherit, out of this repository's own: versions are said once.
pub(super) fn cargo_workspace() -> String {
    let root: Table = include_str!("../../../Cargo.toml").parse().expect("cargo has read it");
    let ours = &root["workspace"];
    let mut workspace = Table::new();
    workspace.insert("resolver".into(), ours["resolver"].clone());
    workspace.insert("members".into(), vec!["sdk", "sdk/macros"].into());
    workspace.insert("package".into(), ours["package"].clone());
    let needed = ["serde", "serde_json", "wit-bindgen", "proc-macro2", "quote", "syn"];
    let dependencies: Table =
        needed.into_iter().map(|name| (name.into(), ours["dependencies"][name].clone())).collect();
    workspace.insert("dependencies".into(), dependencies.into());
    workspace.insert("lints".into(), ours["lints"].clone());
    let file: Table = [("workspace".to_owned(), workspace.into())].into_iter().collect();
    toml::to_string(&file).expect("a table of TOML is TOML")
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    /// Every file below `folder`, without tools' own.
    fn below(folder: &Path, all: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            match entry.file_name().to_str() {
                Some("target" | "__pycache__" | "Cargo.lock" | "README.md") => {}
                _ if entry.path().is_dir() => below(&entry.path(), all),
                _ => all.push(entry.path()),
            }
        }
    }

    #[test]
    fn a_template_has_every_file_of_its_sdk() {
        let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins");
        for (language, folder, into) in [
            (Language::Rust, "sdk", "sluice/sdk"),
            (Language::Python, "sdk-python", ""),
            (Language::JavaScript, "sdk-js", "sluice"),
            (Language::Go, "sdk-go", "sluice"),
            (Language::C, "sdk-c", "sluice"),
        ] {
            let mut there = Vec::new();
            below(&plugins.join(folder), &mut there);
            let mut there: Vec<PathBuf> = there
                .iter()
                .map(|file| Path::new(into).join(file.strip_prefix(plugins.join(folder)).unwrap()))
                .collect();
            there.sort();
            let mut taken: Vec<PathBuf> = sdk(language).iter().map(|(path, _)| path.into()).collect();
            taken.sort();
            assert_eq!(taken, there, "{language:?}");
        }
    }
}
