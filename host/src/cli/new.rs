//! `sluice new`: a folder with a new plugin, ready to be built.

use std::path::PathBuf;

use crate::error::Result;
use crate::new::{self, Kind, Language, Name};

/// Begin a new rule or enricher, in a language of your choice.
///
/// Makes a folder that builds as it stands: a sample, its cases, the SDK and the contract, a pipeline to try it in, and a
/// README with the commands.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sluice new rule no-future --lang python\n  \
sluice new enricher region --lang go --path plugins/region\n  \
sluice new rule no-future --lang python --script      rules/no-future.py, with nothing to build")]
pub struct NewArgs {
    /// What it is for
    #[arg(value_enum)]
    pub kind: Kind,
    /// Its name: what must hold (a rule), or what it adds (an enricher); in lower case with dashes
    pub name: String,
    /// The language
    #[arg(long, value_enum, value_name = "LANGUAGE")]
    pub lang: Language,
    /// A script instead: one file and its cases, in the folder `rules` or `enrichers`, with nothing to build
    #[arg(long)]
    pub script: bool,
    /// The folder, instead of one of that name
    #[arg(long, value_name = "FOLDER")]
    pub path: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &NewArgs) -> Result<()> {
    let kind = args.kind;
    let name = Name::new(&args.name)?;
    if args.script {
        return script(kind, args, &name);
    }
    let folder = args.path.clone().unwrap_or_else(|| name.kebab().into());
    new::write(&folder, kind, args.lang, &name)?;
    let shown = folder.display();
    println!("{shown}  a new {kind} in {}", args.lang.title());
    println!();
    println!("  cd {shown}");
    println!("  {:<15} where it is written", args.lang.source(kind));
    println!("  {:<15} make the component", "sluice build");
    println!("  {:<15} run its cases", "sluice test");
    println!("  {:<15} the rest, on one screen", "README.md");
    Ok(())
}

fn script(kind: Kind, args: &NewArgs, name: &Name) -> Result<()> {
    let folder = args.path.clone().unwrap_or_else(|| format!("{kind}s").into());
    let [script, cases] = new::write_script(&folder, kind, args.lang, name)?;
    let (script, cases, title) = (script.display().to_string(), cases.display().to_string(), args.lang.title());
    let key = args.lang.script().map_or("", |language| language.key());
    println!("{script}  a new {kind} in {title}");
    println!("{cases}  its cases: sluice test {script}");
    println!();
    println!("in sluice.toml:");
    println!();
    match kind {
        Kind::Rule => println!("  [rule.{}]", name.kebab()),
        Kind::Enricher => println!("  [[enrich]]\n  name = \"{}\"", name.kebab()),
    }
    println!("  {key} = \"{script}\"");
    Ok(())
}
