//! Reading a reference table as a whole: a Delta table, a Parquet file or a CSV file.
//!
//! Only the columns that somebody asks for are read, on the caller's thread: it waits for files. Text of a CSV file stays text, unless a key must be compared with
//! another type; nothing else is converted.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::compute::{CastOptions, cast_with_options, concat_batches};
use arrow::csv;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::prelude::{SessionContext, col};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use sha2::{Digest, Sha256};

use crate::config::Location;
use crate::error::{Doing, Error, Result, Source};
use crate::sink::look;
use crate::store;

/// Where a reference table is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// a Delta table
    Delta(Location),
    /// a Parquet file: as the user wrote it, and where it is
    Parquet(String, PathBuf),
    /// a CSV file with a header: as the user wrote it, and where it is
    Csv(String, PathBuf),
}

impl Place {
    /// As the user wrote it.
    pub fn written(&self) -> &str {
        match self {
            Place::Delta(location) => &location.written,
            Place::Parquet(written, _) | Place::Csv(written, _) => written,
        }
    }

    /// Its version now: a Delta table's number, a file's digest.
    pub async fn version(&self) -> Result<String> {
        match self {
            Place::Delta(location) => Ok(open(location).await?.version()?.to_string()),
            Place::Parquet(written, path) | Place::Csv(written, path) => digest(written, path).await,
        }
    }

    /// Its columns and their types; of a CSV file all text.
    pub async fn schema(&self) -> Result<Schema> {
        let found = match self {
            Place::Delta(location) => {
                let table = open(location).await?;
                table.frame(&SessionContext::new()).await?.schema().as_arrow().clone()
            }
            Place::Parquet(_, path) => parquet(path).doing(|| self.doing())?.schema().as_ref().clone(),
            Place::Csv(_, path) => header(path).doing(|| self.doing())?,
        };
        let fields = found.fields().iter().map(|f| Field::new(f.name(), plain(f.data_type()), true));
        Ok(Schema::new(fields.collect::<Vec<_>>()))
    }

    /// The columns `wanted`, each as the given type or as it is, and the version that they are of.
    ///
    /// # Errors
    /// It cannot be read, a column is missing, or a value is not of the type that is wanted.
    pub async fn read(&self, wanted: &BTreeMap<String, Option<DataType>>) -> Result<(String, RecordBatch)> {
        let doing = || self.doing();
        let known = self.schema().await?;
        for column in wanted.keys() {
            if known.field_with_name(column).is_err() {
                let known: Vec<_> = known.fields().iter().map(|f| f.name().as_str()).collect();
                return Err(Error::Config(format!(
                    "{} has no column `{column}`; it has {}",
                    self.written(),
                    known.join(", ")
                )));
            }
        }
        let (version, batches) = match self {
            Place::Delta(location) => {
                let table = open(location).await?;
                let columns = wanted.keys().map(|column| col(format!("\"{column}\""))).collect::<Vec<_>>();
                let frame = table.frame(&SessionContext::new()).await?.select(columns).doing(doing)?;
                (table.version()?.to_string(), frame.collect().await.doing(doing)?)
            }
            Place::Parquet(written, path) => {
                let version = digest(written, path).await?;
                let builder = parquet(path).doing(doing)?;
                let mask = ProjectionMask::columns(builder.parquet_schema(), wanted.keys().map(String::as_str));
                let reader = builder.with_projection(mask).build().doing(doing)?;
                (version, reader.collect::<Result<Vec<_>, _>>().doing(doing)?)
            }
            Place::Csv(written, path) => {
                let version = digest(written, path).await?;
                let columns = header(path).doing(doing)?;
                let kept = (0..columns.fields().len()).filter(|i| wanted.contains_key(columns.field(*i).name()));
                let reader = csv::ReaderBuilder::new(Arc::new(columns.clone())).with_header(true);
                let file = File::open(path).doing(doing)?;
                let reader =
                    reader.with_projection(kept.collect()).build_buffered(BufReader::new(file)).doing(doing)?;
                (version, reader.collect::<Result<Vec<_>, _>>().doing(doing)?)
            }
        };
        // a file that changed while it was read is of no version
        if matches!(self, Place::Parquet(..) | Place::Csv(..)) && self.version().await? != version {
            return Err(Error::environment(doing(), "the file changed while it was read; it is read again"));
        }
        let mut fields = Vec::new();
        for (column, ty) in wanted {
            let have = batches.first().map(|batch| batch.schema());
            let have = have.as_ref().and_then(|schema| schema.field_with_name(column).ok()).map(Field::data_type);
            let ty = ty.clone().or(have.map(plain)).unwrap_or(DataType::Utf8);
            fields.push(Field::new(column, ty, true));
        }
        let schema = Arc::new(Schema::new(fields));
        let options = CastOptions { safe: false, ..CastOptions::default() };
        let mut cast = Vec::with_capacity(batches.len());
        for batch in &batches {
            let columns = schema.fields().iter().map(|field| {
                let column = batch.column_by_name(field.name()).expect("it was asked for by its name");
                cast_with_options(column, field.data_type(), &options).doing(|| {
                    format!(
                        "column `{}` of the reference {} is not {}",
                        field.name(),
                        self.written(),
                        field.data_type()
                    )
                })
            });
            cast.push(RecordBatch::try_new(schema.clone(), columns.collect::<Result<_>>()?).doing(doing)?);
        }
        Ok((version, concat_batches(&schema, &cast).doing(doing)?))
    }

    fn doing(&self) -> String {
        format!("cannot read the reference {}", self.written())
    }
}

/// A Parquet file, its footer read.
fn parquet(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>, Source> {
    Ok(ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?)
}

/// The columns of a CSV file by its first line, all of them text: a version `011` is not the number 11.
fn header(path: &Path) -> Result<Schema, Source> {
    let format = csv::reader::Format::default().with_header(true);
    let (named, _) = format.infer_schema(BufReader::new(File::open(path)?), Some(0))?;
    let fields = named.fields().iter().map(|field| Field::new(field.name(), DataType::Utf8, true));
    Ok(Schema::new(fields.collect::<Vec<_>>()))
}

async fn open(location: &Location) -> Result<look::Table> {
    let table = look::open(location, store::open(location)?.0).await?;
    table.ok_or_else(|| Error::Config(format!("there is no Delta table in {}", location.written)))
}

/// SHA-256 of a file, as `sha256:<the first 16 digits>`.
async fn digest(written: &str, path: &Path) -> Result<String> {
    let path = path.to_owned();
    let hashed = tokio::task::spawn_blocking(move || -> std::io::Result<String> {
        let mut hasher = Sha256::new();
        let mut file = std::io::BufReader::with_capacity(1 << 20, std::fs::File::open(path)?);
        loop {
            let read = file.fill_buf()?;
            if read.is_empty() {
                break;
            }
            hasher.update(read);
            let n = read.len();
            file.consume(n);
        }
        let digits: String = hasher.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Ok(format!("sha256:{digits}"))
    });
    hashed
        .await
        .doing(|| format!("cannot read the reference {written}"))?
        .doing(|| format!("cannot read the reference {written}"))
}

/// The type without views and dictionaries: what rows are made of.
fn plain(ty: &DataType) -> DataType {
    match ty {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        DataType::Dictionary(_, values) => plain(values),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::util::pretty::pretty_format_batches;
    use expect_test::{Expect, expect};

    fn csv(text: &str) -> (tempfile::TempDir, Place) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("devices.csv");
        std::fs::write(&path, text).unwrap();
        (folder, Place::Csv("devices.csv".into(), path))
    }

    fn read(place: &Place, wanted: &[(&str, Option<DataType>)]) -> Result<(String, RecordBatch)> {
        let wanted = wanted.iter().map(|(name, ty)| ((*name).to_owned(), ty.clone())).collect();
        tokio::runtime::Runtime::new().unwrap().block_on(place.read(&wanted))
    }

    fn check(place: &Place, wanted: &[(&str, Option<DataType>)], expected: Expect) {
        let (_, rows) = read(place, wanted).unwrap();
        expected.assert_eq(&pretty_format_batches(&[rows]).unwrap().to_string());
    }

    #[test]
    fn text_of_a_csv_file_stays_text_unless_another_type_is_wanted() {
        let (_folder, place) = csv("type,version,full_name\ngalaxy,011,\"Galaxy, Y\"\nhtc,14,\n");
        check(
            &place,
            &[("version", None), ("full_name", None)],
            expect![[r"
                +-----------+---------+
                | full_name | version |
                +-----------+---------+
                | Galaxy, Y | 011     |
                |           | 14      |
                +-----------+---------+"]],
        );
        check(
            &place,
            &[("version", Some(DataType::Int64))],
            expect![[r"
                +---------+
                | version |
                +---------+
                | 11      |
                | 14      |
                +---------+"]],
        );
        let error = read(&place, &[("type", Some(DataType::Int64))]).unwrap_err().to_string();
        assert!(error.contains("column `type` of the reference devices.csv is not Int64"), "{error}");
        let error = read(&place, &[("name", None)]).unwrap_err().to_string();
        assert!(error.contains("devices.csv has no column `name`; it has type, version, full_name"), "{error}");
    }

    #[test]
    fn the_version_of_a_file_is_its_content() {
        let (_folder, place) = csv("a\n1\n");
        let (version, _) = read(&place, &[("a", None)]).unwrap();
        let Place::Csv(_, path) = &place else { unreachable!() };
        std::fs::write(path, "a\n2\n").unwrap();
        let (other, _) = read(&place, &[("a", None)]).unwrap();
        assert_ne!(version, other);
        std::fs::write(path, "a\n1\n").unwrap();
        assert_eq!(read(&place, &[("a", None)]).unwrap().0, version);
    }
}
