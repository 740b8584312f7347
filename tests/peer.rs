//! Another Delta reader, PyPI `deltalake`, installed once into a folder of its own: what it counts is what tests believe.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The version that tests were written with.
const DELTALAKE: &str = "deltalake==1.6.6";

/// The Python that has `deltalake`.
fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let home = cache().join(DELTALAKE);
        let python = home.join("bin/python");
        if !home.join("ready").exists() {
            let venv = Command::new("python3").args(["-m", "venv"]).arg(&home).output();
            let venv = venv.expect("python3 is not installed: install it (apt-get install python3 python3-venv)");
            assert!(venv.status.success(), "python3 -m venv: {}", String::from_utf8_lossy(&venv.stderr));
            let pip = Command::new(&python).args(["-m", "pip", "install", "--quiet", DELTALAKE]).output();
            let pip = pip.expect("pip starts");
            assert!(pip.status.success(), "pip install {DELTALAKE}: {}", String::from_utf8_lossy(&pip.stderr));
            std::fs::write(home.join("ready"), "").expect("the folder was made a moment ago");
        }
        python
    })
}

/// Where tests keep what they install.
pub fn cache() -> PathBuf {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    base.unwrap_or_else(std::env::temp_dir).join("sluice")
}

/// The rows that `sql` answers over Delta tables, as a JSON list of objects.
pub fn sql(sql: &str, tables: &[(&str, PathBuf)]) -> serde_json::Value {
    let mut command = Command::new(python());
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/peer.py")).arg(sql);
    for (name, folder) in tables {
        command.arg(format!("{name}={}", folder.display()));
    }
    let output = command.output().expect("python starts");
    assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("the script prints JSON")
}

/// Another writer's table, with one column and no row.
pub fn create(folder: &Path) {
    let code = "import sys, deltalake\n\
                deltalake.DeltaTable.create(sys.argv[1], schema=deltalake.Schema([deltalake.Field('x', deltalake.schema.PrimitiveType('long'))]))\n";
    let output = Command::new(python()).arg("-c").arg(code).arg(folder).output().expect("python starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Another writer's hand in a Delta table: `code` sees it as `table`, its folder as `folder`, and the library as `deltalake`.
pub fn change(folder: &Path, code: &str) {
    let code = format!("table = deltalake.DeltaTable(folder)\n{code}");
    let output = script(folder, &code).output().expect("python starts");
    assert!(output.status.success(), "{code}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The same, not yet started: `code` sees the folder as `folder`, further arguments from `sys.argv[2]` on.
pub fn script(folder: &Path, code: &str) -> Command {
    let mut command = Command::new(python());
    command.arg("-c").arg(format!("import sys, deltalake\nfolder = sys.argv[1]\n{code}")).arg(folder);
    command
}
