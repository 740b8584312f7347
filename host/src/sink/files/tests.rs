use std::collections::BTreeMap;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int8Array, Int64Array,
    ListArray, StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{Field, Int64Type};
use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::json;

use parquet::file::metadata::RowGroupMetaData;

use super::splice::{Encoded, Splicer};
use super::*;
use crate::sink::fixture::{batch, pages, write};

fn target(partition_by: &[&str]) -> (Arc<InMemory>, FileTarget) {
    let store = Arc::new(InMemory::new());
    let partition_by = partition_by.iter().map(|s| (*s).to_owned()).collect();
    let target = FileTarget { store: store.clone(), prefix: Path::from("lake/visits"), partition_by };
    (store, target)
}

async fn listed(store: &InMemory) -> Vec<String> {
    let mut paths: Vec<_> = store.list(None).map_ok(|o| o.location.to_string()).try_collect().await.unwrap();
    paths.sort();
    paths
}

async fn read(store: &InMemory, file: &FileAction) -> Vec<RecordBatch> {
    let path = Path::parse(format!("lake/visits/{}", file.path)).unwrap();
    let bytes = object_store::ObjectStoreExt::get(store, &path).await.unwrap().bytes().await.unwrap();
    assert_eq!(bytes.len() as i64, file.size);
    ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap().map(Result::unwrap).collect()
}

/// Runs a piece of a worker's life on a plain thread.
async fn on_worker<T: Send + 'static>(work: impl FnOnce(Handle) -> T + Send + 'static) -> T {
    let runtime = Handle::current();
    let worker = std::thread::spawn(move || work(runtime));
    tokio::task::spawn_blocking(|| worker.join().unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_hold_for_every_type() {
    let (_, target) = target(&[]);
    let micros = 1_700_000_000_123_456; // 2023-11-14T22:13:20.123456Z
    let nested = StructArray::from(vec![(
        Arc::new(Field::new("name", DataType::Utf8, true)),
        Arc::new(StringArray::from(vec![Some("b"), None, Some("a")])) as ArrayRef,
    )]);
    let long = format!("{}é", "z".repeat(40));
    let rows = batch(vec![
        ("int", Arc::new(Int64Array::from(vec![Some(-3), None, Some(7)]))),
        ("tiny", Arc::new(Int8Array::from(vec![1, 2, 3]))),
        ("float", Arc::new(Float64Array::from(vec![1.5, f64::NAN, -2.0]))),
        ("flag", Arc::new(BooleanArray::from(vec![Some(true), None, None]))),
        ("day", Arc::new(Date32Array::from(vec![Some(0), Some(-1), None]))),
        ("at", Arc::new(TimestampMicrosecondArray::from(vec![micros, micros, micros]).with_timezone("UTC"))),
        (
            "price",
            Arc::new(
                Decimal128Array::from(vec![Some(-105), Some(98_765_432_109_876_543_210), None])
                    .with_precision_and_scale(38, 2)
                    .unwrap(),
            ),
        ),
        ("text", Arc::new(StringArray::from(vec![Some("abc"), Some(&long), None]))),
        ("bytes", Arc::new(BinaryArray::from_vec(vec![b"\xff", b"", b"x"]))),
        ("nested", Arc::new(nested)),
        (
            "list",
            Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(vec![Some(vec![Some(1)]), None, Some(vec![])])),
        ),
        ("empty", Arc::new(StringArray::from(vec![None::<&str>; 3]))),
    ]);
    let files = write(target, rows, Uuid::nil()).await;
    let stats: serde_json::Value = serde_json::from_str(&files[0].stats).unwrap();
    let parsed = |number: &str| serde_json::from_str::<serde_json::Value>(number).unwrap();
    let cut = format!("{}{{", "z".repeat(31)); // 32 bytes, the last one raised: '{' comes after 'z'
    assert_eq!(
        stats,
        json!({
            "numRecords": 3,
            "minValues": {
                "int": -3, "tiny": 1, "float": -2.0, "day": "1969-12-31", "at": "2023-11-14T22:13:20.123Z",
                "price": -1.05, "text": "abc", "nested": {"name": "a"},
            },
            "maxValues": {
                "int": 7, "tiny": 3, "day": "1970-01-01", "at": "2023-11-14T22:13:20.124Z",
                "price": parsed("987654321098765432.10"), "text": cut, "nested": {"name": "b"},
            },
            "nullCount": {
                "int": 1, "tiny": 0, "float": 0, "flag": 2, "day": 1, "at": 0, "price": 1, "text": 1, "bytes": 0,
                "nested": {"name": 1}, "empty": 3,
            },
        })
    );
    // the number itself keeps every digit, whatever a parser makes of it
    assert!(files[0].stats.contains(r#""price":987654321098765432.10"#), "{}", files[0].stats);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_first_leaf_columns_get_statistics() {
    let (_, target) = target(&[]);
    let names: Vec<String> = (0..40).map(|i| format!("c{i:02}")).collect();
    let column = || Arc::new(Int64Array::from(vec![1])) as ArrayRef;
    let files = write(target, batch(names.iter().map(|n| (n.as_str(), column())).collect()), Uuid::nil()).await;
    let stats: serde_json::Value = serde_json::from_str(&files[0].stats).unwrap();
    let mut with: Vec<_> = stats["minValues"].as_object().unwrap().keys().cloned().collect();
    with.sort();
    assert_eq!(with, names[..32]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_is_a_folder_and_its_column_is_not_in_the_file() {
    let (store, target) = target(&["page"]);
    let rows = pages(&[(1, Some("b c")), (2, Some("")), (3, Some("b c")), (4, None)]);
    let files = write(target, rows, Uuid::nil()).await;
    let mut found = BTreeMap::new();
    for file in &files {
        let folder = file.path.split('/').next().unwrap().to_owned();
        let batches = read(&store, file).await;
        assert_eq!(batches[0].schema().fields().iter().map(|f| f.name().clone()).collect::<Vec<_>>(), ["id"]);
        found.entry((folder, file.partition_values["page"].clone())).or_insert_with(Vec::new).push(file.rows);
    }
    assert_eq!(
        found,
        BTreeMap::from([
            (("page=b%20c".to_owned(), Some("b c".to_owned())), vec![2]),
            // Delta has no empty text in partitions
            (("page=__HIVE_DEFAULT_PARTITION__".to_owned(), None), vec![1, 1]),
        ])
    );
    assert_eq!(files.iter().map(|f| &f.path).collect::<std::collections::BTreeSet<_>>().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_partitions_make_one_file_each() {
    let (_, target) = target(&["page"]);
    let names: Vec<String> = (0..300).map(|i| format!("p{i}")).collect();
    let files = on_worker(move |runtime| {
        let rows = pages(&(0..).zip(names.iter().map(|p| Some(p.as_str()))).collect::<Vec<_>>());
        let mut writer = TableWriter::new(target, rows.schema(), Uuid::nil(), runtime).unwrap();
        for _ in 0..40 {
            writer.write(&rows).unwrap();
            assert!(writer.buffered() <= BUDGET && writer.open.len() <= OPEN_FILES);
        }
        writer.finish().unwrap()
    })
    .await;
    assert_eq!(files.len(), 300);
    assert!(files.iter().all(|file| file.rows == 40));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_is_dropped_leaves_nothing() {
    let (store, target) = target(&["page"]);
    on_worker(move |runtime| {
        // each partition has enough for a file of its own, and there are more than may be open
        let names: Vec<String> = (0..OPEN_FILES + 9).map(|i| format!("p{i}")).collect();
        let mut writer = TableWriter::new(target, pages(&[]).schema(), Uuid::nil(), runtime).unwrap();
        for name in &names {
            writer.write(&pages(&vec![(1, Some(name.as_str())); HELD / 8])).unwrap();
        }
        assert_eq!((writer.open.len(), writer.finished.len()), (OPEN_FILES, 9));
    })
    .await;
    assert_eq!(listed(&store).await, Vec::<String>::new());
}

/// So many pieces of a MiB that no compressor makes smaller.
fn noise(pieces: usize) -> Vec<Vec<u8>> {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut byte = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random as u8
    };
    (0..pieces).map(|_| (0..1 << 20).map(|_| byte()).collect()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_time_has_left_behind_are_finished_before_row_groups_of_others_end() {
    let (_, target) = target(&["page"]);
    on_worker(move |runtime| {
        let rows = |page: &str, blob: &[u8]| {
            let page = Arc::new(StringArray::from(vec![page])) as ArrayRef;
            batch(vec![("b", Arc::new(BinaryArray::from_vec(vec![blob]))), ("page", page)])
        };
        let mut writer = TableWriter::new(target, rows("", b"").schema(), Uuid::nil(), runtime).unwrap();
        let pieces = noise(2 * (BUDGET >> 20) + IDLE as usize);
        let (early, late) = pieces.split_at(4);
        for (page, piece) in early.iter().map(|piece| ("early", piece)).chain(late.iter().map(|piece| ("late", piece)))
        {
            if writer.finished.is_empty() {
                writer.write(&rows(page, piece)).unwrap();
            }
        }
        let finished: Vec<_> =
            writer.finished.iter().map(|file| (file.partition_values["page"].as_deref(), file.rows)).collect();
        assert_eq!(finished, [(Some("early"), 4)]);
        assert!(writer.open.values().all(|file| file.encoded() > BUDGET / 2), "a row group was ended");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_get_a_few_rows_of_every_batch_are_not_left_behind() {
    let (_, target) = target(&["page"]);
    let files = on_worker(move |runtime| {
        let (noise, zeros) = (noise(2).concat(), vec![0; 40_000]);
        let rows = |n: usize| {
            let blobs = [&noise[n..][..1 << 20]].into_iter().chain((0..31).map(|_| zeros.as_slice()));
            let blobs = BinaryArray::from_iter_values(blobs);
            let names = StringArray::from_iter_values((0..32).map(|page| format!("p{page}")));
            batch(vec![("b", Arc::new(blobs)), ("page", Arc::new(names))])
        };
        let mut writer = TableWriter::new(target, rows(0).schema(), Uuid::nil(), runtime).unwrap();
        for n in 0..80 {
            writer.write(&rows(n)).unwrap();
            assert!(writer.buffered() <= BUDGET, "{}", writer.buffered());
        }
        writer.finish().unwrap()
    })
    .await;
    assert_eq!(files.len(), 32);
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_stays_within_the_budget_and_large_files_leave_in_parts() {
    let (store, target) = target(&[]);
    let blobs = noise(64);
    let expected = blobs.clone();
    let files = on_worker(move |runtime| {
        let schema = batch(vec![("b", Arc::new(BinaryArray::from_vec(vec![])))]).schema();
        let mut writer = TableWriter::new(target, schema, Uuid::nil(), runtime).unwrap();
        for blob in &blobs {
            writer.write(&batch(vec![("b", Arc::new(BinaryArray::from_vec(vec![blob])))])).unwrap();
            assert!(writer.buffered() <= BUDGET, "{}", writer.buffered());
        }
        writer.finish().unwrap()
    })
    .await;
    assert_eq!(files.len(), 1);
    assert_eq!(files[0].rows, 64);
    let read: Vec<Vec<u8>> = read(&store, &files[0])
        .await
        .iter()
        .flat_map(|b| {
            let column = b.column(0).as_any().downcast_ref::<BinaryArray>().unwrap().clone();
            (0..column.len()).map(move |i| column.value(i).to_vec()).collect::<Vec<_>>()
        })
        .collect();
    assert!(read == expected, "other bytes than were written");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_rows_make_no_file_and_other_columns_are_refused() {
    let (store, target) = target(&[]);
    let error = on_worker(move |runtime| {
        let schema = pages(&[]).schema();
        let empty = TableWriter::new(target.clone(), schema.clone(), Uuid::nil(), runtime.clone()).unwrap();
        assert_eq!(empty.finish().unwrap(), []);
        let mut writer = TableWriter::new(target, schema, Uuid::nil(), runtime).unwrap();
        let text = batch(vec![("id", Arc::new(StringArray::from(vec!["1"])))]);
        writer.write(&text).unwrap_err().to_string()
    })
    .await;
    assert!(error.contains("id Utf8 instead of id Int64, page Utf8"), "{error}");
    assert_eq!(listed(&store).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_cannot_partition_is_refused_by_name() {
    for (by, said) in [("nope", "names `nope`"), ("f", "names `f`, which is Float64")] {
        let (_, target) = target(&[by]);
        let rows =
            batch(vec![("f", Arc::new(Float64Array::from(vec![1.0]))), ("i", Arc::new(Int64Array::from(vec![1])))]);
        let error = on_worker(move |runtime| TableWriter::new(target, rows.schema(), Uuid::nil(), runtime).err()).await;
        let error = error.unwrap().to_string();
        assert!(error.contains(said), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_files_name_says_for_which_entry_it_was_written_and_other_writers_names_say_nothing() {
    let (_, target) = target(&["page"]);
    let id = Uuid::now_v7();
    let files = write(target, pages(&[(1, Some("a b")), (2, None)]), id).await;
    assert_eq!(files.len(), 2);
    for file in &files {
        let name = file.path.rsplit('/').next().unwrap();
        assert_eq!(WrittenFor::of(name), Some(WrittenFor::Entry(id)), "{name}");
        assert_eq!(WrittenFor::of(&name.replace("-c000", "-c001")), Some(WrittenFor::Table), "{name}");
    }
    for other in [
        format!("part-00000-{}-c000.zstd.parquet", Uuid::new_v4()),
        format!("part-00000-{id}-c000.gz.parquet"),
        format!("part-00000-{id}-c002.zstd.parquet"),
        format!("part-00000-{id}-c000.zstd.parquet#17"),
        format!("{id}.parquet"),
        "_last_checkpoint".to_owned(),
    ] {
        assert_eq!(WrittenFor::of(&other), None, "{other}");
    }
}

/// Rows as staging has them: every 10th has an error finding.
fn staged(rows: i64) -> RecordBatch {
    batch(vec![
        ("id", Arc::new(Int64Array::from_iter_values(0..rows))),
        ("page", Arc::new(StringArray::from_iter((0..rows).map(|n| (n % 3 > 0).then(|| format!("p{}", n % 7)))))),
        ("_batch", Arc::new(StringArray::from_iter_values((0..rows).map(|_| "the entry that staged it")))),
        (REJECTED, Arc::new(BooleanArray::from_iter((0..rows).map(|n| Some(n % 10 == 0))))),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn row_groups_are_taken_over_by_another_entry_and_rows_apart_are_in_none_of_them() {
    let (store, staging) = target(&[]);
    let files = write(staging, staged(1_000), Uuid::nil()).await;
    let path = Path::parse(format!("lake/visits/{}", files[0].path)).unwrap();
    let bytes = object_store::ObjectStoreExt::get(&store, &path).await.unwrap().bytes().await.unwrap();
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes.clone()).unwrap();
    let footer = builder.metadata().clone();
    assert_eq!(footer.row_groups().iter().map(RowGroupMetaData::num_rows).collect::<Vec<_>>(), [900, 100]);

    let (other, valid) = target(&[]);
    let taken = batch(vec![
        ("id", Arc::new(Int64Array::from(vec![0]))),
        ("page", Arc::new(StringArray::from(vec![""]))),
        ("_batch", Arc::new(StringArray::from(vec![""]))),
    ]);
    let more =
        batch(vec![("id", Arc::new(StringArray::from(vec![""]))), ("_batch", Arc::new(StringArray::from(vec![""])))]);
    let id = Uuid::now_v7();
    let made = on_worker(move |runtime| {
        let splicer = |target: FileTarget, schema| Splicer::new(target, schema, id, runtime.clone()).unwrap();
        let by_page = FileTarget { partition_by: vec!["page".into()], ..valid.clone() };
        assert!(splicer(by_page, taken.schema_ref()).is_none(), "rows of a group may be of several partitions");
        let group = footer.row_group(0);
        assert!(
            !splicer(valid.clone(), more.schema_ref()).unwrap().fits(group),
            "a column of another type was taken over"
        );
        let mut splicer = splicer(valid, taken.schema_ref()).unwrap();
        assert!(splicer.fits(group));
        for _ in 0..2 {
            splicer.append(group, &Encoded { bytes: bytes.clone(), from: 0 }).unwrap();
        }
        splicer.finish().unwrap()
    })
    .await;
    assert_eq!((made.len(), made[0].rows), (1, 1_800));
    let statistics: serde_json::Value = serde_json::from_str(&made[0].stats).unwrap();
    assert_eq!((&statistics["minValues"]["id"], &statistics["maxValues"]["id"]), (&json!(1), &json!(999)));
    let expected = staged(1_000);
    let mut at = 0;
    for rows in read(&other, &made[0]).await {
        for row in 0..rows.num_rows() {
            at += if (at + 1) % 10 == 0 { 2 } else { 1 };
            at = if at > 1_000 { 1 } else { at };
            for column in ["id", "page"] {
                let (got, staged) = (rows.column_by_name(column).unwrap(), expected.column_by_name(column).unwrap());
                assert_eq!(got.slice(row, 1).as_ref(), staged.slice(at, 1).as_ref(), "{column} of {at}");
            }
            let entry = rows.column_by_name("_batch").unwrap().as_any().downcast_ref::<StringArray>().unwrap();
            assert_eq!(entry.value(row), id.to_string());
        }
    }
}
