//! The commands: arguments as typed → one command → an exit code.
//!
//! Exit codes are a contract: 0 done or stopped cleanly, whatever was rejected; 1 a check said no; 2 could not start or
//! finish. Each command stands in a file of its own, and holds no logic that a library user would miss.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::chain::Parts;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::memory;
use crate::plugin::Engine;
use crate::telemetry::{self, LogFormat};

pub mod adopt;
pub mod audit;
pub mod bench;
pub mod build;
pub mod capture;
pub mod check;
pub mod demo;
pub mod diff;
pub mod explain;
pub mod generate;
pub mod history;
pub mod init;
pub mod inspect;
pub mod maintain;
pub mod new;
pub mod open;
pub mod reconcile;
pub mod reference;
pub mod replay;
pub mod reset;
pub mod rollback;
pub mod run;
pub mod shadow;
pub mod show;
pub mod summary;
pub mod test;
pub mod text;
pub mod top;
pub mod r#try;
pub(crate) mod values;

/// A quality gate for streams: rules between Kafka or files and Delta Lake.
///
/// Records come from a topic or from files, are judged by rules (SQL, or WebAssembly from any language), and every one of
/// them ends in exactly one of three tables: valid, error, or dead letter. `sluice demo` shows it.
#[derive(Debug, Parser)]
#[command(name = "sluice", version, max_term_width = 110, after_help = EXIT_CODES)]
pub struct Cli {
    /// Log level: error, warn, info, debug, trace; or a filter like `sluice_host=debug`
    #[arg(long, global = true, value_name = "LEVEL", env = "SLUICE_LOG", default_value = "warn")]
    log: String,

    /// How log lines look
    #[arg(long, global = true, value_name = "FORMAT", env = "SLUICE_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,

    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done or stopped cleanly, whatever was rejected; 1 a check said no \
(check, test, diff, reconcile, run --fail-on); 2 could not start or finish.";

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::DemoArgs),
    Init(init::InitArgs),
    Generate(generate::GenerateArgs),
    Try(r#try::TryArgs),
    Check(check::CheckArgs),
    Test(test::TestArgs),
    New(new::NewArgs),
    Build(build::BuildArgs),
    Bench(bench::BenchArgs),
    Capture(capture::CaptureArgs),
    Run(run::RunArgs),
    Top(top::TopArgs),
    Show(show::ShowArgs),
    Explain(explain::ExplainArgs),
    Inspect(inspect::InspectArgs),
    Reconcile(reconcile::ReconcileArgs),
    Reference(reference::ReferenceArgs),
    Diff(diff::DiffArgs),
    History(history::HistoryArgs),
    Shadow(shadow::ShadowArgs),
    Promote(shadow::PromoteArgs),
    Rollback(rollback::RollbackArgs),
    Replay(replay::ReplayArgs),
    Maintain(maintain::MaintainArgs),
    Audit(audit::AuditArgs),
    Adopt(adopt::AdoptArgs),
    Reset(reset::ResetArgs),
}

/// What a command that could finish has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// done
    Done,
    /// a check said no
    No,
}

impl Verdict {
    /// [`Verdict::Done`] where `ok`.
    pub fn of(ok: bool) -> Verdict {
        if ok { Verdict::Done } else { Verdict::No }
    }
}

/// The pipeline file, for commands whose argument is something else.
#[derive(Debug, clap::Args)]
pub struct PipelineArg {
    /// The pipeline file
    #[arg(short = 'c', long = "config", value_name = "FILE", default_value = "sluice.toml")]
    pub config: PathBuf,
}

/// Parses the arguments, runs the command, answers its exit code.
pub fn main() -> ExitCode {
    main_with(std::env::args_os())
}

/// As [`main`], with arguments that a benchmark gives; the first is the program's name.
pub fn main_with(arguments: impl Iterator<Item = std::ffi::OsString>) -> ExitCode {
    memory::settle();
    let cli = Cli::parse_from(arguments);
    let writes = match &cli.command {
        Command::Audit(args) => args.decides(),
        other => matches!(other, Command::Run(_) | Command::Generate(_) | Command::Demo(_)),
    };
    if !writes {
        end_with_the_reader();
    }
    telemetry::start(&cli.log, cli.log_format);
    match dispatch(&cli.command) {
        Ok(Verdict::Done) => ExitCode::SUCCESS,
        Ok(Verdict::No) => ExitCode::from(1),
        Err(error) => {
            match cli.log_format {
                LogFormat::Text => complain(&error),
                // whoever reads logs by machine reads this one, too
                LogFormat::Json => {
                    tracing::error!(error = error.sentence(), blame = ?error.blame(), "sluice cannot go on")
                }
            }
            ExitCode::from(2)
        }
    }
}

/// `sluice show valid | head` ends when `head` does, instead of complaining. Not for commands that write to brokers and
/// tables: a connection that breaks must not end them.
fn end_with_the_reader() {
    // SAFETY: before any thread is started; SIG_DFL is a valid disposition and takes no pointers
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

fn dispatch(command: &Command) -> Result<Verdict> {
    match command {
        Command::Demo(args) => demo::run(args),
        Command::Init(args) => init::run(args),
        Command::Generate(args) => generate::run(args).map(|()| Verdict::Done),
        Command::Try(args) => r#try::run(args),
        Command::Check(args) => {
            let engine = Engine::new(open::compiled_cache())?;
            if check::plugin::is_plugin(&args.file) {
                return check::plugin::run(args, &engine);
            }
            check::run(args, &mut |judges, mistakes| drop(Parts::load(&engine, judges, mistakes)))
        }
        Command::Test(args) => test::run(args),
        Command::New(args) => new::run(args).map(|()| Verdict::Done),
        Command::Build(args) => build::run(args).map(|()| Verdict::Done),
        Command::Bench(args) => bench::run(args).map(|()| Verdict::Done),
        Command::Capture(args) => capture::run(args).map(|()| Verdict::Done),
        Command::Run(args) => run::run(args),
        Command::Top(args) => top::run(args).map(|()| Verdict::Done),
        Command::Show(args) => show::run(args),
        Command::Explain(args) => explain::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Reconcile(args) => reconcile::run(args, &Config::load(&args.file)?, &open::runtime()?),
        Command::Reference(args) => reference::run(args),
        Command::History(args) => history::run(args),
        Command::Shadow(args) => shadow::run(args),
        Command::Promote(args) => shadow::promote(args),
        Command::Rollback(args) => rollback::run(args),
        Command::Diff(args) => diff::run(args),
        Command::Replay(args) => replay::run(args),
        Command::Maintain(args) => maintain::run(args, &Config::load(&args.file)?, &open::runtime()?),
        Command::Audit(args) => audit::run(args),
        Command::Adopt(args) => {
            let chain = open::chain(&args.file)?;
            adopt::run(args, &chain, &open::runtime()?)
        }
        Command::Reset(args) => {
            let chain = open::chain(&args.config)?;
            reset::run(args, &chain.config, &chain.generation.hash, &open::runtime()?)
        }
    }
}

/// One sentence on standard error.
fn complain(error: &Error) {
    match error {
        Error::Mistakes(mistakes) => {
            check::complain(mistakes);
        }
        _ if std::io::stderr().is_terminal() => eprintln!("\x1b[1;31merror\x1b[0m: {}", error.sentence()),
        _ => eprintln!("error: {}", error.sentence()),
    }
}
