//! What a commit asks of the store: as much for the hundredth as for the tenth, whatever the table holds by then.

use std::ops::Range;
use std::sync::Mutex;

use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, PutMultipartOptions, PutOptions,
    PutPayload, PutResult, RenameOptions,
};

use super::*;

/// What was asked of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Asked {
    /// objects read, or looked for
    gets: u64,
    /// bytes read
    bytes: u64,
    /// objects written
    puts: u64,
    lists: u64,
}

/// A store that counts.
#[derive(Debug)]
struct Counting {
    inner: Arc<dyn ObjectStore>,
    asked: Arc<Mutex<Asked>>,
}

impl Counting {
    fn note(&self, what: impl FnOnce(&mut Asked)) {
        what(&mut self.asked.lock().unwrap());
    }
}

impl std::fmt::Display for Counting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, counted", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Counting {
    async fn put_opts(&self, at: &Path, payload: PutPayload, options: PutOptions) -> object_store::Result<PutResult> {
        self.note(|asked| asked.puts += 1);
        self.inner.put_opts(at, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.note(|asked| asked.puts += 1);
        self.inner.put_multipart_opts(at, options).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.note(|asked| asked.gets += 1);
        let head = options.head;
        let got = self.inner.get_opts(at, options).await?;
        self.note(|asked| asked.bytes += if head { 0 } else { got.range.end - got.range.start });
        Ok(got)
    }

    async fn get_ranges(&self, at: &Path, ranges: &[Range<u64>]) -> object_store::Result<Vec<Bytes>> {
        self.note(|asked| asked.gets += 1);
        self.inner.get_ranges(at, ranges).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.note(|asked| asked.lists += 1);
        self.inner.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.note(|asked| asked.lists += 1);
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.note(|asked| asked.lists += 1);
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> object_store::Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_asks_the_same_of_the_store_however_many_came_before() {
    let lake = Lake::new().await;
    lake.begin(&lake.sink(&[]), &pages(&[]).schema()).await;
    let asked = Arc::new(Mutex::new(Asked::default()));
    let counted = |name: &str| {
        let (inner, path) = lake.store(name);
        (Arc::new(Counting { inner, asked: asked.clone() }) as Arc<dyn ObjectStore>, path)
    };
    let (store, prefix) = counted("valid");
    let sink = DeltaSink::new(Outcome::Valid, lake.location("valid"), store, prefix, vec![], "visits");
    let (store, state) = counted("state");
    let ledger = Ledger::open(store, state, "visits").await.unwrap();
    let mut by_version = Vec::new();
    for n in 0..150 {
        // written by another handle, so that this one reads what it did not write, too
        let head = lake.rows(&sink, &pages(&[(n, Some("index"))])).await;
        *asked.lock().unwrap() = Asked::default();
        assert_eq!(sink.apply(&ledger, head).await.unwrap().version, Some(n as u64 + 1));
        by_version.push(*asked.lock().unwrap());
    }
    let (early, late) = (&by_version[10..60], &by_version[100..150]);
    assert!(early.iter().chain(late).all(|asked| asked.lists == 0), "{by_version:?}");
    for (early, late) in early.iter().zip(late) {
        assert_eq!((early.gets, early.puts), (late.gets, late.puts), "{by_version:?}");
        assert!(late.bytes <= early.bytes + early.bytes / 10, "{early:?} {late:?}");
    }
    assert_eq!(ids(&lake).await.len(), 150);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handle_follows_commits_of_others_as_if_it_had_read_the_table_anew() {
    let lake = Lake::new().await;
    let (following, other) = (lake.sink(&[]), lake.sink(&[]));
    lake.begin(&following, &pages(&[]).schema()).await;
    assert_eq!(following.mark().await.unwrap(), Some(0));
    for n in 0..3 {
        let wider: RecordBatch = batch(vec![
            ("id", Arc::new(Int64Array::from(vec![n]))),
            (["a", "b", "c"][n as usize], Arc::new(StringArray::from(vec!["x"]))),
        ]);
        let head = lake.rows(&other, &wider).await;
        other.apply(&lake.ledger, head).await.unwrap();
        foreign_commit(&lake).await;
        let mut handle = following.handle.lock().await;
        let followed = handle.fresh().await.unwrap().unwrap().clone();
        handle.forget();
        let anew = handle.fresh().await.unwrap().unwrap();
        assert_eq!((followed.version(), followed.mark()), (anew.version(), anew.mark()));
        assert_eq!((followed.schema(), followed.metadata()), (anew.schema(), anew.metadata()));
        assert_eq!((followed.version(), followed.mark()), (2 * n as u64 + 2, Some(head as i64)));
    }
}
