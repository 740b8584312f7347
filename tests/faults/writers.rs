//! Another writer in the same table while the pipeline runs: PyPI `deltalake` compacts and deletes, again and again.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::Arc;

use sluice_host::store::Durable;

use super::{of, run_on, small};
use crate::peer;
use crate::project::Project;

const FILES: usize = 30;

/// Compacts and deletes until it is told to stop; then says how often each was done, and how many rows it removed.
const BUSY: &str = "
import json, os
from deltalake.exceptions import CommitFailedError
said = False
done = {'compacted': 0, 'deleted': 0, 'rows': 0, 'lost races': 0}
while not os.path.exists(sys.argv[2]):
    try:
        done['compacted'] += deltalake.DeltaTable(folder).optimize.compact()['numFilesRemoved'] > 0
        rows = deltalake.DeltaTable(folder).delete(\"user_id LIKE '%7-2'\")['num_deleted_rows']
        done['deleted'] += rows > 0
        done['rows'] += rows
    except CommitFailedError:
        done['lost races'] += 1
    if done['compacted'] and done['deleted'] and not said:
        said = True
        print('busy', flush=True)
print(json.dumps(done))
";

/// The other writer, and what it says.
struct Other {
    process: Child,
    says: BufReader<ChildStdout>,
}

impl Other {
    /// Starts it, and waits until it has compacted and deleted.
    fn at_work(project: &Project) -> Other {
        let mut command = peer::script(&project.path().join("lake/visits"), BUSY);
        command.arg(project.path().join("stop"));
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("python starts");
        let mut says = BufReader::new(process.stdout.take().expect("it is piped"));
        let mut line = String::new();
        says.read_line(&mut line).unwrap();
        assert_eq!(line, "busy\n");
        Other { process, says }
    }

    /// Tells it to stop; answers what it did.
    fn stop(mut self, project: &Project) -> serde_json::Value {
        project.write("stop", "");
        let mut rest = String::new();
        self.says.read_to_string(&mut rest).unwrap();
        assert!(self.process.wait().unwrap().success());
        serde_json::from_str(&rest).unwrap()
    }
}

#[test]
fn a_writer_that_compacts_and_deletes_meanwhile_loses_and_doubles_nothing_else() {
    let project = small(FILES);
    let mut other = None;
    run_on(&project, Arc::new(Durable::new()), |landed| {
        // the seventh file has the first row to delete; from here on both are at work
        if landed == 12 {
            other = Some(Other::at_work(&project));
        }
    })
    .unwrap();
    let done = other.expect("entry 12 landed").stop(&project);
    let removed = done["rows"].as_u64().unwrap();
    assert!(removed >= 1 && done["compacted"].as_u64() >= Some(2), "the other writer was hardly at work: {done}");

    let (now, whole) = (project.counted(), of(FILES));
    assert_eq!((now.error, now.dlq, now.doubled), (whole.error, whole.dlq, 0), "{done}");
    assert_eq!(now.valid, whole.valid - removed, "{done}");
    // and the proof says which rows are missing, and no others
    let report = project.sluice(&["reconcile", "--json"]).expect(1);
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let said = report["discrepancies"].as_array().unwrap();
    assert_eq!(said.len() as u64, removed, "{report:#}");
    let files = (7..FILES).step_by(10).take(removed as usize);
    for (line, file) in said.iter().zip(files) {
        let line = line.as_str().unwrap();
        assert!(line.contains(&format!("in/{file:04}.ndjson/0 offset 2")), "{line}");
        assert!(line.contains("valid (lake/visits)"), "{line}");
    }
}
