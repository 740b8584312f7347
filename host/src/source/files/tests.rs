//! Reading files as a pipeline does, with a ledger in memory.

use std::io::Write;

use super::*;
use crate::cli::reset::tests::printed;
use crate::ledger::operate::NewPosition;
use crate::source::collecting::Collecting;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = Folder(tempfile::tempdir().unwrap());
        for (name, text) in files {
            folder.put(name, text.as_bytes());
        }
        folder
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.0.path().join(name), bytes).unwrap();
    }

    fn source(&self) -> FilesSource {
        FilesSource::new(self.0.path(), &["*".to_owned()], 1 << 20).unwrap()
    }

    fn run(&self, intake: &Collecting) -> Result<()> {
        self.source().run(intake, true)
    }
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn lines(intake: &Collecting) -> Vec<String> {
    intake.records().iter().map(|r| format!("{}:{} {}", r.partition.topic, r.offset, r.text())).collect()
}

fn diverged(result: Result<()>) -> String {
    match result {
        Err(Error::Diverged(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn plain_and_compressed_files_read_alike() {
    let folder = Folder::new(&[("a.json", "1\r\n\n3")]);
    folder.put("b.json.gz", &[gzip("1\n2"), gzip("2\n3\n")].concat());
    let frames = ["1\n", "2\n"].map(|text| zstd::encode_all(text.as_bytes(), 1).unwrap());
    folder.put("c.json.zst", &frames.concat());
    folder.put("d.json", b"");
    let intake = Collecting::default();
    let mut source = folder.source();
    assert!(source.describe().starts_with("4 files, "), "{}", source.describe());
    source.run(&intake, true).unwrap();
    assert_eq!(
        lines(&intake),
        [
            "a.json:1 1",
            "a.json:2 ",
            "a.json:3 3",
            "b.json.gz:1 1",
            "b.json.gz:2 22",
            "b.json.gz:3 3",
            "c.json.zst:1 1",
            "c.json.zst:2 2"
        ]
    );
    let progress = source.progress();
    assert_eq!(progress.done.load(Ordering::Relaxed), progress.total.load(Ordering::Relaxed));
    assert_eq!((intake.starts(), intake.asked()), (4, vec![4]));
}

#[test]
fn what_was_read_before_is_not_read_again() {
    let folder = Folder::new(&[("a.json", "1\n2\n"), ("c.json", "1\n")]);
    folder.put("b.json.gz", &gzip("1\n2\n3\n"));
    let intake = Collecting::default();
    folder.run(&intake).unwrap();
    assert_eq!(intake.records().len(), 6);
    folder.run(&intake).unwrap();
    assert_eq!((intake.records().len(), intake.starts()), (6, 3));

    folder.put("d.json", b"1\n");
    let part = TopicPartition::new("b.json.gz", 0);
    let id = folder.source_identity("b.json.gz");
    intake.set(part, 3, Some(&id));
    let mut source = folder.source();
    source.run(&intake, true).unwrap();
    assert_eq!(lines(&intake)[6..], ["b.json.gz:3 3", "d.json:1 1"]);
    assert_eq!(source.progress().done.load(Ordering::Relaxed), source.progress().total.load(Ordering::Relaxed));
}

impl Folder {
    fn source_identity(&self, name: &str) -> String {
        identity::survey(&self.0.path().join(name), false, &|| false).unwrap().identity.to_string()
    }
}

#[test]
fn a_file_that_changed_since_is_refused() {
    for changed in ["1\n2\n", "2\n"] {
        let folder = Folder::new(&[("a.json", "1\n")]);
        let intake = Collecting::default();
        folder.run(&intake).unwrap();
        folder.put("a.json", changed.as_bytes());
        let text = diverged(folder.run(&intake));
        assert!(text.contains("a.json") && text.contains("give the new part a new name"), "{text}");
        assert_eq!(printed(&text), [(first_line("a.json"), false)]);
        assert_eq!(intake.records().len(), 1);
    }
}

fn first_line(topic: &str) -> NewPosition {
    NewPosition { partition: TopicPartition::new(topic, 0), to: 1, topic_id: None }
}

#[test]
fn a_changed_file_is_read_after_a_reset_and_known_from_then_on() {
    let folder = Folder::new(&[("it's a.json", "1\n")]);
    let intake = Collecting::default();
    folder.run(&intake).unwrap();
    folder.put("it's a.json", b"1\n2\n");
    let [(position, false)] = &printed(&diverged(folder.run(&intake)))[..] else { panic!("one command") };
    assert_eq!(*position, first_line("it's a.json"));
    intake.set(position.partition.clone(), position.to, None);
    folder.run(&intake).unwrap();
    assert_eq!(lines(&intake)[1..], ["it's a.json:1 1", "it's a.json:2 2"]);
    folder.put("it's a.json", b"1\n");
    diverged(folder.run(&intake));
}

#[test]
fn a_file_that_changes_while_it_is_read_is_refused() {
    let folder = Folder::new(&[("a.json", &"0123456789\n".repeat(20_000))]);
    let intake = Collecting::default();
    let path = folder.0.path().join("a.json");
    intake.on_offer(move || {
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"more\n").unwrap();
    });
    let text = diverged(folder.run(&intake));
    assert!(text.contains("changed while it was read"), "{text}");
    assert_eq!(intake.records().len(), 8192, "nothing is handed over after the change");
}

#[test]
fn a_position_beyond_the_end_is_refused() {
    let folder = Folder::new(&[("a.json", "1\n")]);
    let intake = Collecting::default();
    intake.set(TopicPartition::new("a.json", 0), 9, Some(&folder.source_identity("a.json")));
    let text = diverged(folder.run(&intake));
    assert!(text.contains("has 1 lines"), "{text}");
    assert_eq!(printed(&text), [(first_line("a.json"), false)]);
}

#[test]
fn a_truncated_archive_names_file_and_line() {
    let whole = gzip(&(0..50_000).map(|i| format!("{i}\n")).collect::<String>());
    let folder = Folder::new(&[]);
    folder.put("a.json.gz", &whole[..whole.len() / 2]);
    let error = folder.run(&Collecting::default()).unwrap_err();
    assert!(matches!(error, Error::Environment { .. }), "{error:?}");
    let text = error.to_string();
    let line: i64 = text.split("at line ").nth(1).unwrap().split(':').next().unwrap().parse().unwrap();
    assert!(text.contains("a.json.gz") && (1_000..50_000).contains(&line), "{text}");
}

#[test]
fn a_seek_reads_again_from_there_also_in_an_earlier_file() {
    let folder = Folder::new(&[("a.json", "1\n2\n"), ("b.json", "1\n2\n"), ("c.json", "1\n")]);
    let intake = Collecting::default();
    let to = [(TopicPartition::new("a.json", 0), 2), (TopicPartition::new("b.json", 0), 1)];
    intake.command_after(2, Command::Seek(to.into()));
    folder.run(&intake).unwrap();
    assert_eq!(
        lines(&intake),
        [
            "a.json:1 1",
            "a.json:2 2",
            "b.json:1 1",
            "b.json:2 2",
            "a.json:2 2",
            "b.json:1 1",
            "b.json:2 2",
            "c.json:1 1"
        ]
    );
    let last = Collecting::default();
    last.command_after(3, Command::Seek([(TopicPartition::new("c.json", 0), 1)].into()));
    folder.run(&last).unwrap();
    assert_eq!(lines(&last)[4..], ["c.json:1 1", "c.json:1 1"], "a seek after the last batch is obeyed too");
}

#[test]
fn a_seek_to_the_end_of_a_file_does_not_read_it_again() {
    let folder = Folder::new(&[("a.json", "1\n2\n"), ("b.json", "1\n"), ("c.json", "1\n")]);
    let part = |name: &str| TopicPartition::new(name, 0);
    let intake = Collecting::default();
    intake.set(part("a.json"), 3, Some(&folder.source_identity("a.json")));
    let (path, mut offers) = (folder.0.path().to_owned(), 0);
    intake.on_offer(move || {
        offers += 1;
        if offers == 2 {
            // whoever opened them again would fail
            std::fs::remove_file(path.join("a.json")).unwrap();
            std::fs::remove_file(path.join("b.json")).unwrap();
        }
    });
    let to = [(part("a.json"), 3), (part("b.json"), 2), (part("c.json"), 1)];
    intake.command_after(2, Command::Seek(to.into()));
    let mut source = folder.source();
    source.run(&intake, true).unwrap();
    assert_eq!(lines(&intake), ["b.json:1 1", "c.json:1 1", "c.json:1 1"]);
    assert_eq!(source.progress().done.load(Ordering::Relaxed), source.progress().total.load(Ordering::Relaxed));
}

#[test]
fn a_full_queue_loses_nothing_and_a_stop_is_heard() {
    let folder = Folder::new(&[("a.json", "1\n"), ("b.json", "2\n")]);
    let intake = Collecting::default();
    intake.refuse(3);
    intake.stop_after(1);
    folder.run(&intake).unwrap();
    assert_eq!(lines(&intake), ["a.json:1 1"]);
    assert_eq!(intake.positions()[&TopicPartition::new("b.json", 0)], 1);
}

#[test]
fn many_files_are_started_in_groups() {
    let folder = Folder::new(&[]);
    for i in 0..GROUP_FILES + 10 {
        folder.put(&format!("{i:04}.json"), b"x\n");
    }
    let intake = Collecting::default();
    folder.run(&intake).unwrap();
    assert_eq!(intake.asked(), [GROUP_FILES, 10]);
    assert_eq!(intake.records().len(), GROUP_FILES + 10);
}

#[test]
fn a_pattern_that_matches_nothing_is_a_run_without_records() {
    let folder = Folder::new(&[]);
    let intake = Collecting::default();
    assert_eq!(folder.source().describe(), "no file matches *");
    folder.run(&intake).unwrap();
    assert!(intake.records().is_empty());
}
