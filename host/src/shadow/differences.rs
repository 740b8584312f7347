//! Differences as rows of a table: one for each row of which the two generations do not say the same.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Int32Array, Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use uuid::Uuid;

use crate::compare::{self, Difference};
use crate::error::{Error, Result};

/// The columns: coordinates, the entry, outcomes before and after, what was gained and lost.
pub fn schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let texts = |name: &str| {
        let item = Arc::new(Field::new_list_field(DataType::Utf8, true));
        Field::new(name, DataType::List(item), true)
    };
    Arc::new(Schema::new(vec![
        text("_topic"),
        Field::new("_partition", DataType::Int32, true),
        Field::new("_offset", DataType::Int64, true),
        Field::new("_row", DataType::Int32, true),
        text("_batch"),
        text("before"),
        text("after"),
        Field::new("flips", DataType::Boolean, true),
        texts("gained"),
        texts("lost"),
        texts("columns"),
        texts("reasons"),
    ]))
}

/// The rows of `differences`, seen while `entry` was judged.
pub fn rows(schema: &SchemaRef, differences: &[Difference], entry: Uuid) -> Result<RecordBatch> {
    let entry = entry.to_string();
    let text = |of: &dyn Fn(&Difference) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(differences.iter().map(of)))
    };
    let texts = |of: &dyn Fn(&Difference) -> &Vec<String>| -> ArrayRef {
        let mut list = ListBuilder::new(StringBuilder::new());
        for difference in differences {
            of(difference).iter().for_each(|text| list.values().append_value(text));
            list.append(true);
        }
        Arc::new(list.finish())
    };
    let columns: Vec<ArrayRef> = vec![
        text(&|d| d.at.partition.topic.to_string()),
        Arc::new(Int32Array::from_iter_values(differences.iter().map(|d| d.at.partition.partition))),
        Arc::new(Int64Array::from_iter_values(differences.iter().map(|d| d.at.offset))),
        Arc::new(Int32Array::from_iter_values(differences.iter().map(|d| d.at.row as i32))),
        text(&|_| entry.clone()),
        text(&|d| compare::name(d.before).to_owned()),
        text(&|d| compare::name(d.after).to_owned()),
        Arc::new(BooleanArray::from_iter(differences.iter().map(|d| Some(d.flips())))),
        texts(&|d| &d.gained),
        texts(&|d| &d.lost),
        texts(&|d| &d.columns),
        texts(&|d| &d.reasons),
    ];
    RecordBatch::try_new(schema.clone(), columns)
        .map_err(|e| Error::Host(format!("differences do not make a table: {e}")))
}
