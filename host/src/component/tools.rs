//! The tools of other languages: found on this machine, or installed by their own package manager into this user's cache.
//!
//! Nothing is installed for the whole machine, and nothing that the plugin's own list of requirements does not name.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};

use crate::error::{Doing, Error, Result};

/// Runs a tool in `folder`; whatever it prints goes to standard error. `what` is said where it fails.
pub(super) fn run(command: &mut Command, folder: &Path, what: impl Fn() -> String) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let doing = || format!("cannot run {program}");
    // standard output is this command's own: a script may read it
    let output = std::io::stderr().as_fd().try_clone_to_owned().doing(doing)?;
    let status = command.current_dir(folder).stdin(Stdio::null()).stdout(output).status().doing(doing)?;
    if status.success() { Ok(()) } else { Err(Error::Config(what())) }
}

/// Whether such a program can be called.
pub(super) fn exists(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Whether the command can be run, and says that all is well. What it prints is not ours to show.
pub(super) fn succeeds<const N: usize>(program: impl AsRef<OsStr>, arguments: [&str; N]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// A virtual environment of Python with these requirements (as in requirements.txt), made if it is not there.
pub(super) fn python(requirements: &str, what_for: &str) -> Result<PathBuf> {
    installed("python", requirements, |folder| {
        let python =
            ["python3", "python"].into_iter().find(|python| succeeds(python, ["-c", "import ensurepip, venv"]));
        let python = python.ok_or_else(|| {
            Error::Config(format!("{what_for} needs Python 3 with its module venv: install it (Debian: python3-venv)"))
        })?;
        let failed = || format!("cannot make a virtual environment for {what_for}: Python says why, above");
        run(Command::new(python).args(["-m", "venv"]).arg(folder), Path::new("."), failed)?;
        let list = folder.join("requirements.txt");
        std::fs::write(&list, requirements).doing(|| format!("cannot write {}", list.display()))?;
        let pip = folder.join("bin/python");
        let failed = || format!("cannot install what {what_for} needs: pip says why, above");
        run(
            Command::new(pip).args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "-r",
                "requirements.txt",
            ]),
            folder,
            failed,
        )
    })
}

/// A folder with `node_modules` for this package.json, made if it is not there.
pub(super) fn node(package: &str, what_for: &str) -> Result<PathBuf> {
    installed("node", package, |folder| {
        if !exists("npm") || !exists("node") {
            let text =
                format!("{what_for} needs Node.js and npm: install them (https://nodejs.org; Debian: nodejs npm)");
            return Err(Error::Config(text));
        }
        let file = folder.join("package.json");
        std::fs::write(&file, package).doing(|| format!("cannot write {}", file.display()))?;
        let failed = || format!("cannot install what {what_for} needs: npm says why, above");
        run(
            Command::new("npm").args(["install", "--silent", "--no-audit", "--no-fund", "--no-package-lock"]),
            folder,
            failed,
        )
    })
}

/// The folder of this user's cache that holds what `install` makes for `list`; two builds at once make it once.
fn installed(kind: &str, list: &str, install: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let digest: String = Sha256::digest(list).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let folder = cache().join(format!("{kind}-{digest}"));
    let ready = folder.join("ready");
    if ready.exists() {
        return Ok(folder);
    }
    let doing = || format!("cannot make {}", folder.display());
    std::fs::create_dir_all(&folder).doing(doing)?;
    let lock = File::create(folder.join("lock")).doing(doing)?;
    lock.lock().doing(doing)?;
    if !ready.exists() {
        eprintln!("installing {} into {}", list_line(list), folder.display());
        install(&folder)?;
        std::fs::write(ready, "").doing(doing)?;
    }
    Ok(folder)
}

/// What a person recognises of a list of requirements.
fn list_line(list: &str) -> String {
    if list.starts_with('{') {
        return "the packages of package.json".into();
    }
    list.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')).collect::<Vec<_>>().join(", ")
}

/// Where tools are kept.
fn cache() -> PathBuf {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    base.unwrap_or_else(std::env::temp_dir).join("sluice").join("tools")
}
