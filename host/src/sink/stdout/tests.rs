use std::sync::Mutex as StdMutex;

use futures::TryStreamExt;

use super::*;
use crate::sink::fixture::{Lake, pages};

#[derive(Clone, Default)]
struct Screen(Arc<StdMutex<Vec<u8>>>);

impl Screen {
    fn lines(&self) -> Vec<String> {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap().lines().map(str::to_owned).collect()
    }
}

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn sink(lake: &Lake, screen: &Screen, outcome: Outcome) -> StdoutSink {
    let (store, state) = lake.store("state");
    StdoutSink::with_output(outcome, store, state.join("spool"), Box::new(screen.clone()))
}

async fn spooled(lake: &Lake) -> usize {
    let (store, state) = lake.store("state");
    store.list(Some(&state.join("spool"))).try_collect::<Vec<_>>().await.unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_printed_once_with_their_outcome_and_the_spool_is_emptied() {
    let (lake, screen) = (Lake::new().await, Screen::default());
    let valid = sink(&lake, &screen, Outcome::Valid);
    lake.begin(&valid, &pages(&[]).schema()).await;
    for (id, page) in [(1, Some("a")), (2, None)] {
        let head = lake.rows(&valid, &pages(&[(id, page)])).await;
        assert_eq!(valid.apply(&lake.ledger, head).await.unwrap().entry, head);
    }
    valid.apply(&lake.ledger, 3).await.unwrap();
    assert_eq!(screen.lines(), [r#"{"_outcome":"valid","id":1,"page":"a"}"#, r#"{"_outcome":"valid","id":2}"#]);
    assert_eq!(spooled(&lake).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_process_prints_what_an_earlier_one_left_and_nothing_twice() {
    let (lake, screen) = (Lake::new().await, Screen::default());
    let first = sink(&lake, &screen, Outcome::Dlq);
    lake.begin(&first, &pages(&[]).schema()).await;
    lake.rows(&first, &pages(&[(1, None)])).await;
    first.apply(&lake.ledger, 2).await.unwrap();
    lake.rows(&first, &pages(&[(2, None)])).await; // and then it died
    for _ in 0..2 {
        sink(&lake, &screen, Outcome::Dlq).apply(&lake.ledger, 3).await.unwrap();
    }
    assert_eq!(screen.lines(), [r#"{"_outcome":"dlq","id":1}"#, r#"{"_outcome":"dlq","id":2}"#]);
}
