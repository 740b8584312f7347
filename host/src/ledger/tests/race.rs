//! Two handles append at once: every interleaving of their store operations is tried, and at one create of each run the
//! answer gets lost, before or after it landed.
//!
//! Without threads or clocks: the futures are polled by hand, each store operation lets the other handle go first once,
//! and an explorer goes through all choices depth first.

use std::collections::BTreeMap;
use std::ops::Range;
use std::pin::pin;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult,
};

use super::{entry, range};
use crate::error::Result;
use crate::ledger::{Appended, Entry, Kind, Ledger};

/// Depth-first search through all sequences of choices.
#[derive(Default)]
struct Explorer {
    /// choice taken, number of alternatives
    taken: Vec<(usize, usize)>,
    at: usize,
}

impl Explorer {
    fn choose(&mut self, alternatives: usize) -> usize {
        if self.at == self.taken.len() {
            self.taken.push((0, alternatives));
        }
        let (choice, of) = self.taken[self.at];
        assert_eq!(of, alternatives, "a run must be a function of its choices");
        self.at += 1;
        choice
    }

    /// The next sequence; false when all were tried.
    fn advance(&mut self) -> bool {
        self.at = 0;
        while let Some((choice, of)) = self.taken.pop() {
            if choice + 1 < of {
                self.taken.push((choice + 1, of));
                return true;
            }
        }
        false
    }
}

/// One handle's view of a shared store.
#[derive(Debug)]
struct Unsure {
    inner: Arc<InMemory>,
    control: Arc<Control>,
}

#[derive(Default)]
struct Control {
    explorer: Mutex<Explorer>,
    /// creates whose answer may still get lost
    faults: Mutex<usize>,
    /// only while two handles race
    racing: AtomicBool,
    /// whether questions for existence give no turn away
    coarse: AtomicBool,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Control")
    }
}

impl Control {
    fn racing(&self) -> bool {
        self.racing.load(Relaxed)
    }

    fn choose(&self, alternatives: usize) -> usize {
        self.explorer.lock().unwrap().choose(alternatives)
    }

    async fn turn(&self) {
        let mut passed = !self.racing();
        std::future::poll_fn(|_| if std::mem::replace(&mut passed, true) { Poll::Ready(()) } else { Poll::Pending })
            .await
    }
}

impl std::fmt::Display for Unsure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("unsure")
    }
}

#[async_trait]
impl ObjectStore for Unsure {
    async fn put_opts(&self, to: &Path, data: PutPayload, opts: PutOptions) -> object_store::Result<PutResult> {
        self.control.turn().await;
        let may_fail = self.control.racing() && *self.control.faults.lock().unwrap() > 0;
        let fate = if may_fail { self.control.choose(3) } else { 0 };
        if fate > 0 {
            *self.control.faults.lock().unwrap() -= 1;
        }
        let lost = || object_store::Error::Generic { store: "unsure", source: "the answer got lost".into() };
        match fate {
            0 => self.inner.put_opts(to, data, opts).await,
            1 => {
                let _ = self.inner.put_opts(to, data, opts).await;
                Err(lost())
            }
            _ => Err(lost()),
        }
    }
    async fn put_multipart_opts(
        &self,
        to: &Path,
        opts: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(to, opts).await
    }
    async fn get_opts(&self, from: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        // with lost answers there are too many runs to also reorder the mere questions whether an object is there
        if !(options.head && self.control.coarse.load(Relaxed)) {
            self.control.turn().await;
        }
        self.inner.get_opts(from, options).await
    }
    async fn get_ranges(&self, from: &Path, ranges: &[Range<u64>]) -> object_store::Result<Vec<Bytes>> {
        self.inner.get_ranges(from, ranges).await
    }
    fn delete_stream(
        &self,
        paths: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.inner.delete_stream(paths)
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list(prefix)
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// Drives a future whose store never really waits.
fn run<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return done;
        }
    }
}

/// Two appends of two handles, in every interleaving with at most `faults` lost answers. `check` gets both answers, and
/// number by entry id of what is in the ledger afterwards. Answers the number of runs.
fn race(
    faults: usize,
    entries: impl Fn() -> (Entry, Entry),
    check: impl Fn(&[Result<Appended>; 2], [Option<u64>; 2]),
) -> usize {
    let control = Arc::new(Control::default());
    control.coarse.store(faults > 0, Relaxed);
    let mut runs = 0;
    loop {
        let inner = Arc::new(InMemory::new());
        *control.faults.lock().unwrap() = faults;
        let open = || {
            let store = Unsure { inner: Arc::clone(&inner), control: Arc::clone(&control) };
            run(Ledger::open(Arc::new(store), Path::from("state"), "visits")).unwrap()
        };
        let (a, b) = (open(), open());
        let start = entry(Kind::Start, vec![range("t", 0, 0), range("u", 0, 0)]);
        assert_eq!(run(a.append(&start)).unwrap(), Appended::At(1));
        assert_eq!(run(b.head()).unwrap(), 1);
        // so that no run differs from the next in who claims the folder
        assert_eq!(run(b.append(&start)).unwrap(), Appended::At(1));

        let (first, second) = entries();
        control.racing.store(true, Relaxed);
        let (mut one, mut two) = (pin!(a.append(&first)), pin!(b.append(&second)));
        let mut answers = [None, None];
        while answers.iter().any(Option::is_none) {
            let open: Vec<usize> = (0..2).filter(|i| answers[*i].is_none()).collect();
            let who = if open.len() == 2 { open[control.choose(2)] } else { open[0] };
            let context = &mut Context::from_waker(Waker::noop());
            let polled = if who == 0 { one.as_mut().poll(context) } else { two.as_mut().poll(context) };
            if let Poll::Ready(answer) = polled {
                answers[who] = Some(answer);
            }
        }
        control.racing.store(false, Relaxed);

        let fresh = open();
        let head = run(fresh.head()).expect("whatever happened, the ledger is whole");
        let found: BTreeMap<_, _> =
            run(fresh.entries(0, head)).unwrap().into_iter().map(|(n, entry)| (entry.id, n)).collect();
        assert_eq!(found.len() as u64, head, "no entry is in the ledger twice");
        let [one, two] = answers;
        let answers = [one.expect("answered"), two.expect("answered")];
        let places = [found.get(&first.id).copied(), found.get(&second.id).copied()];
        for (answer, place) in answers.iter().zip(places) {
            match answer {
                Ok(Appended::At(n)) => assert_eq!(place, Some(*n), "what was answered for is there"),
                Ok(Appended::Moved { .. }) => assert_eq!(place, None, "what was dropped is not there"),
                Err(_) => {}
            }
        }
        check(&answers, places);
        runs += 1;
        if !control.explorer.lock().unwrap().advance() {
            return runs;
        }
    }
}

#[test]
fn of_two_that_go_on_from_the_same_offset_one_wins_and_the_other_is_told() {
    let both = || (entry(Kind::Rows, vec![range("t", 0, 5)]), entry(Kind::Rows, vec![range("t", 0, 7)]));
    for faults in 0..=1 {
        let runs = race(faults, both, |answers, places| {
            assert_eq!(places.iter().flatten().count(), 1, "{answers:?}");
            assert!(answers.iter().all(Result::is_ok), "{faults} lost answers are made up for: {answers:?}");
        });
        assert!(runs > 50 << faults, "only {runs} interleavings with {faults} lost answers");
    }
}

#[test]
fn two_that_own_different_partitions_both_get_in() {
    let both = || (entry(Kind::Rows, vec![range("t", 0, 5)]), entry(Kind::Rows, vec![range("u", 0, 7)]));
    for faults in 0..=1 {
        let runs = race(faults, both, |answers, places| {
            assert_eq!(places.iter().flatten().count(), 2, "{answers:?}");
        });
        assert!(runs > 50 << faults, "only {runs} interleavings with {faults} lost answers");
    }
}

#[test]
fn the_same_entry_from_two_handles_is_in_the_ledger_once() {
    // a create that got through after its process had given up and started again
    let twin = || {
        let entry = entry(Kind::Rows, vec![range("t", 0, 5)]);
        (entry.clone(), entry)
    };
    race(1, twin, |answers, places| {
        assert_eq!(places[0], places[1]);
        assert!(answers.iter().all(|answer| matches!(answer, Ok(Appended::At(_)))), "{answers:?}");
    });
}

#[test]
fn a_store_that_never_answers_is_an_error_and_the_same_append_may_be_tried_again() {
    for landed in [true, false] {
        let control = Arc::new(Control::default());
        let inner = Arc::new(InMemory::new());
        let store = Unsure { inner: Arc::clone(&inner), control: Arc::clone(&control) };
        let ledger = run(Ledger::open(Arc::new(store), Path::from("state"), "visits")).unwrap();
        let start = entry(Kind::Start, vec![range("t", 0, 0)]);
        let fate = if landed { 1 } else { 2 };
        // the claim of the folder got through before
        assert_eq!(run(ledger.append(&entry(Kind::Start, vec![range("u", 0, 0)]))).unwrap(), Appended::At(1));
        control.explorer.lock().unwrap().taken = vec![(fate, 3); 9];
        *control.faults.lock().unwrap() = usize::MAX;
        control.racing.store(true, Relaxed);
        let error = run(ledger.append(&start)).unwrap_err().to_string();
        assert!(error.contains("ledger entry 2") && error.contains("the answer got lost"), "{error}");
        control.racing.store(false, Relaxed);
        assert_eq!(run(ledger.append(&start)).unwrap(), Appended::At(2));
        assert_eq!(run(ledger.head()).unwrap(), 2);
    }
}
