//! Bytes → Arrow: ours, which is strict; arrow-json, which is lenient; serde_json's `Value`, the usual way.
//!
//! All make the same columns of the same visits in batches of 8192, and keep none of them. arrow-json gets the payloads as one
//! text, a line each; ours as records, each of which must be proven to be one object.

use std::hint::black_box;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::json::ReaderBuilder;
use arrow::json::reader::Decoder;
use serde_json::Value;
use sluice_host::config::{UnknownFields, defaults};
use sluice_host::decode::JsonDecoder;
use sluice_host::generate::Share;
use sluice_host::record::RawBatch;
use sluice_host::schema::Schema;

use crate::measure::{Arm, Cost, Wanted, alternate, here};
use crate::{rounds, visits};

/// Visits of a turn.
const RECORDS: u64 = 100_000;

/// Runs and prints.
pub fn run() {
    let schema = Arc::new(visits::schema());
    let none = Share::percent(0);
    let clean = visits::payloads(RECORDS, none, none);
    let raw = visits::batches(&clean, visits::BATCH);
    let lines: Vec<Vec<u8>> = clean.chunks(visits::BATCH).map(lines).collect();
    let one_bad = visits::batches(&visits::payloads(RECORDS, none, Share::percent(1)), visits::BATCH);
    let not_json = visits::batches(&visits::payloads(RECORDS, none, Share::percent(100)), visits::BATCH);
    // whole visits that fail at their last byte, where all the work is done already
    let cut: Vec<Vec<u8>> = clean.iter().map(|payload| payload[..payload.len() - 1].to_vec()).collect();
    let cut = visits::batches(&cut, visits::BATCH);

    let bytes: usize = clean.iter().map(Vec::len).sum();
    let rows = |raw: &[RawBatch], dead: usize| {
        let mut decoder = decoder(&schema);
        let decoded: Vec<_> = raw.iter().map(|raw| decoder.decode(raw, |_| false)).collect();
        assert_eq!(decoded.iter().map(|d| d.dead.len()).sum::<usize>(), dead, "dead letters");
        decoded.into_iter().map(|d| d.rows).collect::<Vec<_>>()
    };
    same(&rows(&raw, 0), &lenient(&schema, &lines));
    same(&rows(&raw, 0), &values(&schema, &lines));
    rows(&one_bad, RECORDS as usize / 100);
    rows(&not_json, RECORDS as usize);
    rows(&cut, RECORDS as usize);

    let ours = |raw: &[RawBatch]| -> Cost {
        let mut decoder = decoder(&schema);
        here(|| raw.iter().for_each(|raw| drop(black_box(decoder.decode(raw, |_| false)))))
    };
    let measured = alternate(
        rounds(),
        vec![
            Arm::new("ours", RECORDS, || ours(&raw)),
            Arm::new("arrow-json", RECORDS, || here(|| drop(black_box(lenient(&schema, &lines))))),
            Arm::new("serde_json Value", RECORDS, || here(|| drop(black_box(values(&schema, &lines))))),
            Arm::new("ours, 1 % not JSON", RECORDS, || ours(&one_bad)),
            Arm::new("ours, all not JSON", RECORDS, || ours(&not_json)),
            Arm::new("ours, all cut short", RECORDS, || ours(&cut)),
        ],
    );
    measured.print_arms(&format!("decode: {RECORDS} visits of {} bytes", bytes as u64 / RECORDS));
    measured.print_ratio(0, 1, Wanted::AtLeast(1.3));
    measured.print_ratio(0, 2, Wanted::Any);
    measured.print_ratio(3, 0, Wanted::AtLeast(0.9));
    measured.print_ratio(4, 0, Wanted::AtLeast(0.5));
    measured.print_ratio(5, 0, Wanted::AtLeast(0.5));
}

fn decoder(schema: &Arc<Schema>) -> JsonDecoder {
    JsonDecoder::new(schema.clone(), UnknownFields::Ignore, defaults::MAX_RECORD).expect("a schema that JSON has")
}

fn lines(payloads: &[Vec<u8>]) -> Vec<u8> {
    payloads.iter().flat_map(|payload| [payload.as_slice(), b"\n"]).flatten().copied().collect()
}

fn arrow_json(schema: &Schema) -> Decoder {
    ReaderBuilder::new(schema.arrow.clone()).with_batch_size(visits::BATCH).build_decoder().expect("a good schema")
}

fn lenient(schema: &Schema, lines: &[Vec<u8>]) -> Vec<RecordBatch> {
    let mut decoder = arrow_json(schema);
    let batch = |lines: &Vec<u8>| {
        assert_eq!(decoder.decode(lines).expect("good JSON"), lines.len(), "a batch takes all of its lines");
        decoder.flush().expect("good values").expect("rows")
    };
    lines.iter().map(batch).collect()
}

fn values(schema: &Schema, lines: &[Vec<u8>]) -> Vec<RecordBatch> {
    let mut decoder = arrow_json(schema);
    let batch = |lines: &Vec<u8>| {
        let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let values: Vec<Value> = lines.map(|line| serde_json::from_slice(line).expect("good JSON")).collect();
        decoder.serialize(&values).expect("good values");
        decoder.flush().expect("good values").expect("rows")
    };
    lines.iter().map(batch).collect()
}

/// Both made the same rows; what a null struct's children hold is nobody's business, so texts are compared.
fn same(ours: &[RecordBatch], theirs: &[RecordBatch]) {
    let text = |batches: &[RecordBatch]| {
        arrow::util::pretty::pretty_format_batches(&batches[..1]).expect("rows can be shown").to_string()
    };
    assert_eq!(ours.len(), theirs.len());
    assert!(text(ours) == text(theirs), "the decoders made other rows");
}
