//! New plugins: a folder that builds with its language's own tools, out of what this binary carries.
//!
//! The sample of a template is a plugin of this repository, under another name: what is tested here is what a user gets.
//! Nothing is fetched, and nothing that exists is overwritten.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::{Doing, Error, Result};
use crate::plugin::CONTRACT;
use crate::script;

mod files;
mod name;

pub use name::Name;

/// What templates are there for. An auditor has none: its metrics are SQL, and the ready-made one is an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// judges rows
    Rule,
    /// adds columns
    Enricher,
}

impl Kind {
    /// As the contract calls it.
    pub fn interface(self) -> &'static str {
        match self {
            Kind::Rule => "rule",
            Kind::Enricher => "enricher",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.interface())
    }
}

/// A language that templates are there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Language {
    /// cargo
    Rust,
    /// componentize-py
    Python,
    /// esbuild
    #[value(name = "javascript", alias = "js")]
    JavaScript,
    /// esbuild
    #[value(name = "typescript", alias = "ts")]
    TypeScript,
    /// the standard compiler
    Go,
    /// clang, or Zig
    C,
}

impl Language {
    /// All of them.
    pub const ALL: [Language; 6] =
        [Language::Rust, Language::Python, Language::JavaScript, Language::TypeScript, Language::Go, Language::C];

    /// As people write it.
    pub fn title(self) -> &'static str {
        match self {
            Language::Rust => "Rust",
            Language::Python => "Python",
            Language::JavaScript => "JavaScript",
            Language::TypeScript => "TypeScript",
            Language::Go => "Go",
            Language::C => "C",
        }
    }

    fn tools(self) -> &'static str {
        match self {
            Language::Rust => "cargo",
            Language::Python => "componentize-py",
            Language::JavaScript | Language::TypeScript => "esbuild",
            Language::Go => "go, 1.24 or newer,",
            Language::C => "clang and lld, or Zig",
        }
    }

    /// The file that a person edits.
    pub fn source(self, kind: Kind) -> String {
        match self {
            Language::Rust => "src/lib.rs".into(),
            Language::Python => format!("{kind}.py"),
            Language::JavaScript => format!("{kind}.js"),
            Language::TypeScript => format!("{kind}.ts"),
            Language::Go => format!("{kind}.go"),
            Language::C => format!("{kind}.c"),
        }
    }

    /// What a script is written in, where it is one of those.
    pub fn script(self) -> Option<script::Language> {
        match self {
            Language::JavaScript => Some(script::Language::JavaScript),
            Language::Python => Some(script::Language::Python),
            Language::Rust | Language::TypeScript | Language::Go | Language::C => None,
        }
    }

    /// What there is, and the commands by hand.
    fn pages(self) -> (&'static str, &'static str) {
        let page = match self {
            Language::Rust => include_str!("new/rust.md"),
            Language::Python => include_str!("new/python.md"),
            Language::JavaScript | Language::TypeScript => include_str!("new/javascript.md"),
            Language::Go => include_str!("new/go.md"),
            Language::C => include_str!("new/c.md"),
        };
        page.split_once("\n---\n").unwrap_or((page, ""))
    }
}

/// Writes a new plugin into `folder`, which is new or empty; answers its files, in the order of their names.
pub fn write(folder: &Path, kind: Kind, language: Language, name: &Name) -> Result<Vec<PathBuf>> {
    let doing = || format!("cannot look into {}", folder.display());
    if folder.exists() && std::fs::read_dir(folder).doing(doing)?.next().is_some() {
        let text = format!("{} is not empty: name another folder with --path", folder.display());
        return Err(Error::Config(text));
    }
    let mut written = Vec::new();
    for (path, text) in files(kind, language, name) {
        let file = folder.join(&path);
        let doing = || format!("cannot write {}", file.display());
        if let Some(parent) = file.parent() {
            std::fs::create_dir_all(parent).doing(doing)?;
        }
        std::fs::write(&file, text).doing(doing)?;
        written.push(path);
    }
    written.sort();
    Ok(written)
}

/// Writes a new script and its cases into `folder`, among others that are there; answers both files.
///
/// # Errors
/// One of the files is there, or scripts are not written in that language.
pub fn write_script(folder: &Path, kind: Kind, language: Language, name: &Name) -> Result<[PathBuf; 2]> {
    let scripts = language.script().ok_or_else(|| {
        let text = format!("a script is written in JavaScript or Python: {} has to be built", language.title());
        Error::Config(text)
    })?;
    let source = language.source(kind);
    let sample = files::sample(kind, language).into_iter().find(|(path, _)| *path == source).map(|(_, text)| text);
    let sample = sample.ok_or_else(|| Error::Host(format!("the sample of {} has no {source}", language.title())))?;
    // where nothing is built, there is no SDK to name the place of
    let text = renamed(sample, kind, language, name).replace("\"./sluice/sluice.js\"", "\"sluice\"");
    let script = folder.join(name.kebab()).with_extension(scripts.extension());
    let cases = script::cases_of(&script);
    if let Some(there) = [&script, &cases].into_iter().find(|file| file.exists()) {
        return Err(Error::Config(format!("{} is there already: choose another name", there.display())));
    }
    for (file, text) in [(&script, &*text), (&cases, files::cases(kind))] {
        let written = file.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(file, text));
        written.doing(|| format!("cannot write {}", file.display()))?;
    }
    Ok([script, cases])
}

/// The files of a new plugin, by their paths in its folder.
fn files(kind: Kind, language: Language, name: &Name) -> Vec<(PathBuf, String)> {
    let mut all = vec![
        ("wit/plugin.wit".into(), CONTRACT.to_owned()),
        (".gitignore".into(), ignored(language, name)),
        ("README.md".into(), readme(kind, language, name)),
        ("sluice.toml".into(), fill(pipeline(kind), kind, language, name)),
        ("topic.toml".into(), fill(&on_topic(pipeline(kind)), kind, language, name)),
        ("visits.sql".into(), include_str!("cli/demo/visits.sql").to_owned()),
        (format!("cases/{}.ndjson", name.kebab()).into(), files::cases(kind).to_owned()),
    ];
    let own = files::sample(kind, language);
    all.extend(own.iter().map(|(path, text)| (path.into(), renamed(text, kind, language, name))));
    all.extend(files::sdk(language).into_iter().map(|(path, text)| (path.into(), text)));
    if language == Language::Rust {
        all.push(("Cargo.toml".into(), files::cargo_manifest(name)));
        all.push(("sluice/Cargo.toml".into(), files::cargo_workspace()));
    }
    all
}

fn pipeline(kind: Kind) -> &'static str {
    match kind {
        Kind::Rule => include_str!("new/rule.toml"),
        Kind::Enricher => include_str!("new/enricher.toml"),
    }
}

/// The same pipeline, with another source and tables of its own.
fn on_topic(pipeline: &str) -> String {
    let (before, rest) = pipeline.split_once("[source]").expect("a pipeline has a source");
    let (_, after) = rest.split_once("\n\n").expect("another section follows");
    let source = "[kafka]\nbrokers = \"${KAFKA_BROKERS:-localhost:9092}\"\n\n[source]\nkafka = [\"{{name}}-visits\"]";
    format!("{before}{source}\n\n{after}").replace("\"lake/", "\"lake/topic/")
}

/// The sample, with its name, its version and the place of its SDK changed.
fn renamed(text: &str, kind: Kind, language: Language, name: &Name) -> String {
    let sample = Name::new(files::sample_name(kind)).expect("a name of ours is a name");
    let (quoted, own) = (format!("\"{}\"", sample.kebab()), format!("\"{}\"", name.kebab()));
    let camel = matches!(language, Language::Go);
    let words = [
        (sample.kebab().to_owned(), if camel { name.camel() } else { name.snake() }),
        (sample.snake(), name.snake()),
        (sample.camel(), name.camel()),
        (sample.pascal(), name.pascal()),
    ];
    let mut text = text.replace(&quoted, &own);
    for (from, to) in words {
        text = replace_word(&text, &from, &to, &own);
    }
    let sdk = match language {
        Language::JavaScript | Language::TypeScript | Language::Go => "./sluice/",
        Language::C | Language::Rust | Language::Python => "sluice/",
    };
    for folder in ["../sdk-js/", "../sdk-go/", "../sdk-c/"] {
        text = text.replace(folder, sdk);
    }
    for version in ["1.2.0", "1.0.0"] {
        text = text.replace(&format!("\"{version}\""), "\"0.1.0\"");
    }
    text
}

/// Replaces `from` where it is a word of its own, except within `kept`.
fn replace_word(text: &str, from: &str, to: &str, kept: &str) -> String {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let pieces = text.split(kept).map(|piece| {
        let mut out = String::with_capacity(piece.len());
        let mut rest = piece;
        while let Some(at) = rest.find(from) {
            let (before, after) = (&rest[..at], &rest[at + from.len()..]);
            let is_whole = !before.ends_with(is_part) && !after.starts_with(is_part);
            out.push_str(before);
            out.push_str(if is_whole { to } else { from });
            rest = after;
        }
        out + rest
    });
    pieces.collect::<Vec<_>>().join(kept)
}

fn ignored(language: Language, name: &Name) -> String {
    let tools: &[&str] = match language {
        Language::Rust => &["target", "sluice/target"],
        Language::Python => &[".venv", "__pycache__"],
        Language::JavaScript | Language::TypeScript => &["node_modules", "bundle.js"],
        Language::Go | Language::C => &["*.core.wasm"],
    };
    let library = format!("{}.wasm", name.snake());
    let lines = tools.iter().copied().chain([library.as_str(), "lake", "visits.ndjson"]);
    lines.map(|line| format!("{line}\n")).collect()
}

fn readme(kind: Kind, language: Language, name: &Name) -> String {
    let (words, hand) = language.pages();
    let page = include_str!("new/README.md").replace("{{words}}", words).replace("{{hand}}", hand.trim_end());
    fill(&page, kind, language, name)
}

fn fill(text: &str, kind: Kind, language: Language, name: &Name) -> String {
    let (kebab, library) = (name.kebab(), name.snake());
    let (sample, outcome, look, section) = match kind {
        Kind::Rule => (
            "a private visit carries no login, unless allowed.",
            "what it finds",
            "error",
            format!("[rule.{kebab}]\nwasm = \"{kebab}/{library}.wasm\""),
        ),
        Kind::Enricher => (
            "it adds the engine of the visitor's browser.",
            "what it adds",
            "valid",
            format!("[[enrich]]\nname = \"{kebab}\"\nwasm = \"{kebab}/{library}.wasm\""),
        ),
    };
    let values = [
        ("{{name}}", kebab),
        ("{{library}}", &library),
        ("{{kind}}", kind.interface()),
        ("{{language}}", language.title()),
        ("{{tools}}", language.tools()),
        ("{{source}}", &language.source(kind)),
        ("{{sample}}", sample),
        ("{{outcome}}", outcome),
        ("{{look}}", look),
        ("{{section}}", &section),
        ("{{version}}", env!("CARGO_PKG_VERSION")),
    ];
    values.iter().fold(text.to_owned(), |text, (key, value)| text.replace(key, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_has_nothing_left_to_fill_in_and_nothing_of_the_sample_s_name() {
        let name = Name::new("no-future").unwrap();
        for kind in [Kind::Rule, Kind::Enricher] {
            for language in Language::ALL {
                let files = files(kind, language, &name);
                let source = Path::new(&language.source(kind)).to_owned();
                let (_, text) = files.iter().find(|(path, _)| *path == source).expect("the source is there");
                let what = format!("{kind} {language:?}");
                for left in ["consent", "browser-engine", "browser_engine", "browserEngine", "../sdk", "1.2.0", "1.0.0"]
                {
                    assert!(!text.contains(left), "{what}: {left} in {text}");
                }
                assert!(language == Language::Rust || text.contains("\"no-future\""), "{what}: {text}");
                assert!(files.iter().all(|(_, text)| !text.contains("{{name") && !text.contains("{{lib")), "{what}");
                let mut paths: Vec<_> = files.iter().map(|(path, _)| path).collect();
                paths.sort();
                paths.dedup();
                assert_eq!(paths.len(), files.len(), "{what}: a file stands there twice");
            }
        }
    }

    #[test]
    fn a_folder_with_something_in_it_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("mine"), "").unwrap();
        let name = Name::new("late").unwrap();
        let error = write(folder.path(), Kind::Rule, Language::Go, &name).unwrap_err().to_string();
        assert!(error.contains("is not empty: name another folder with --path"), "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
