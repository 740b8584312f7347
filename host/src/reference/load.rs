//! Reading a reference table as a whole: a Delta table, a Parquet file or a CSV file.
//!
//! Only the columns that somebody asks for are read. Text of a CSV file stays text, unless a key must be compared with
//! another type; nothing else is converted.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::{CastOptions, cast_with_options, concat_batches};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::prelude::{CsvReadOptions, DataFrame, ParquetReadOptions, SessionContext, col};
use sha2::{Digest, Sha256};

use crate::config::Location;
use crate::error::{Doing, Error, Result};
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
        let frame = self.frame(&SessionContext::new()).await?.1;
        let fields = frame.schema().fields().iter();
        Ok(Schema::new(fields.map(|f| Field::new(f.name(), plain(f.data_type()), true)).collect::<Vec<_>>()))
    }

    /// The columns `wanted`, each as the given type or as it is, and the version that they are of.
    ///
    /// # Errors
    /// It cannot be read, a column is missing, or a value is not of the type that is wanted.
    pub async fn read(&self, wanted: &BTreeMap<String, Option<DataType>>) -> Result<(String, RecordBatch)> {
        let doing = || format!("cannot read the reference {}", self.written());
        let session = SessionContext::new();
        let (version, frame) = self.frame(&session).await?;
        for column in wanted.keys() {
            if frame.schema().field_with_unqualified_name(column).is_err() {
                let known: Vec<_> = frame.schema().fields().iter().map(|f| f.name().as_str()).collect();
                return Err(Error::Config(format!(
                    "the reference {} has no column `{column}`; it has {}",
                    self.written(),
                    known.join(", ")
                )));
            }
        }
        let columns = wanted.keys().map(|column| col(format!("\"{column}\"")));
        let frame = frame.select(columns.collect::<Vec<_>>()).doing(doing)?;
        let batches = frame.collect().await.doing(doing)?;
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
            let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| {
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

    async fn frame(&self, session: &SessionContext) -> Result<(String, DataFrame)> {
        let doing = || format!("cannot read the reference {}", self.written());
        let text = |path: &Path| path.to_string_lossy().into_owned();
        Ok(match self {
            Place::Delta(location) => {
                let table = open(location).await?;
                (table.version()?.to_string(), table.frame(session).await?)
            }
            Place::Parquet(written, path) => {
                let version = digest(written, path).await?;
                let options = ParquetReadOptions { file_extension: "", ..ParquetReadOptions::default() };
                (version, session.read_parquet(text(path), options).await.doing(doing)?)
            }
            Place::Csv(written, path) => {
                let version = digest(written, path).await?;
                // no row is looked at to guess a type: a version `11` is text until a key says otherwise
                let options = CsvReadOptions::new().file_extension("").schema_infer_max_records(0);
                (version, session.read_csv(text(path), options).await.doing(doing)?)
            }
        })
    }
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
        assert!(error.contains("has no column `name`; it has type, version, full_name"), "{error}");
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
