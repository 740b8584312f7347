//! The binary: parse, start telemetry, run one command, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    sluice_host::cli::main()
}
