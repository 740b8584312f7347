//! Rows of named files as a table for queries: of these files, and of no others.
//!
//! Where a file is missing, reading fails. It knows no table's log: whoever names the files knows why.

use std::sync::Arc;

use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use chrono::DateTime;
use datafusion::catalog::Session;
use datafusion::common::{DataFusionError, ScalarValue};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::{ParquetAccessPlan, RowGroupAccess};
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::datasource::{TableProvider, TableType};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionContext;
use object_store::ObjectMeta;

use crate::ledger::FileAction;
use crate::sink::FileTarget;

/// Under which name a query's session knows the files' store.
const STORE: &str = "sluice://rows";

/// A file, or those of its row groups whose flag is set.
pub type Chosen<'a> = (&'a FileAction, Option<Vec<bool>>);

/// The rows of some files.
#[derive(Debug)]
pub struct Scan {
    /// what the files hold, then what stands in their places
    columns: TableSchema,
    files: Vec<PartitionedFile>,
}

impl Scan {
    /// The rows of files that lie in `source`, for queries in `session`. Columns of `rows` that a file has not are null in it;
    /// those that partition the source come last.
    pub fn new<'a>(
        session: &SessionContext,
        rows: &SchemaRef,
        files: impl IntoIterator<Item = Chosen<'a>>,
        source: &FileTarget,
    ) -> Result<Scan, DataFusionError> {
        session.register_object_store(store_url().as_ref(), source.store.clone());
        let is_partition = |name: &str| source.partition_by.iter().any(|column| column == name);
        let (by, stored): (Vec<FieldRef>, Vec<FieldRef>) =
            rows.fields().iter().cloned().partition(|field| is_partition(field.name()));
        let files = files.into_iter().map(|(file, groups)| {
            let values = by.iter().map(|field| match file.partition_values.get(field.name()) {
                Some(Some(value)) => ScalarValue::try_from_string(value.clone(), field.data_type()),
                Some(None) | None => ScalarValue::try_from(field.data_type()),
            });
            let mut part = PartitionedFile::from(ObjectMeta {
                location: source.object(&file.path).map_err(|e| DataFusionError::External(Box::new(e)))?,
                last_modified: DateTime::UNIX_EPOCH,
                size: u64::try_from(file.size).unwrap_or(0),
                e_tag: None,
                version: None,
            });
            part.partition_values = values.collect::<Result<_, _>>()?;
            if let Some(groups) = groups {
                let access = |chosen| if chosen { RowGroupAccess::Scan } else { RowGroupAccess::Skip };
                part = part.with_extension(ParquetAccessPlan::new(groups.into_iter().map(access).collect()));
            }
            Ok(part)
        });
        let files = files.collect::<Result<_, DataFusionError>>()?;
        let columns = TableSchema::builder(Arc::new(Schema::new(stored))).with_table_partition_cols(by).build();
        Ok(Scan { columns, files })
    }
}

fn store_url() -> ObjectStoreUrl {
    ObjectStoreUrl::parse(STORE).expect("the constant is the URL of a store")
}

#[async_trait]
impl TableProvider for Scan {
    fn schema(&self) -> SchemaRef {
        self.columns.table_schema().clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let source = Arc::new(ParquetSource::new(self.columns.clone()));
        let scan = FileScanConfigBuilder::new(store_url(), source)
            .with_file_group(FileGroup::new(self.files.clone()))
            .with_projection_indices(projection.cloned())?
            .with_limit(limit);
        Ok(DataSourceExec::from_data_source(scan.build()))
    }
}
