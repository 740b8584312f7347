//! Functions of SQL whose result, or whose work, can be far larger than what they are given: each call is weighed before it
//! is made.
//!
//! `repeat(page, n)` makes gigabytes of a record of twenty bytes. What a call would make at most follows from the lengths
//! of its arguments; a call beyond [`MOST`] fails, is cut into smaller ones, and at last costs the row that is too large
//! alone. Every other function makes little more than it is given, and is called as it is.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};

/// Bytes that one call may make: of one row, or of a batch.
pub(super) const MOST: usize = 32 << 20;

/// How much a call makes of a row, at most, from the lengths of its texts and lists and the values of its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Weight {
    /// text or item, times
    Repeated,
    /// text, characters
    Padded,
    /// text, what is replaced, by what
    Replaced,
    /// text, pattern, by what; with flags perhaps at every place
    Substituted,
    /// list, length
    Resized,
    /// from, to, step
    Counted,
    /// list, what stands between its items
    Joined,
    /// two texts, each character compared with each
    Compared,
}

impl Weight {
    fn of(function: &str) -> Option<Weight> {
        Some(match function {
            "repeat" | "array_repeat" => Weight::Repeated,
            "lpad" | "rpad" => Weight::Padded,
            "replace" => Weight::Replaced,
            "regexp_replace" => Weight::Substituted,
            "array_resize" => Weight::Resized,
            "range" | "generate_series" => Weight::Counted,
            "array_to_string" => Weight::Joined,
            "levenshtein" => Weight::Compared,
            _ => return None,
        })
    }

    /// Bytes, or as much work as making so many, for one row.
    fn weigh(self, arguments: &[Argument], row: usize) -> usize {
        let length = |n: usize| arguments.get(n).map_or(0, |argument| argument.length(row));
        let number = |n: usize| arguments.get(n).and_then(|argument| argument.number(row));
        let times = |n: usize| usize::try_from(number(n).unwrap_or(0)).unwrap_or(0);
        match self {
            Weight::Repeated => length(0).saturating_mul(times(1)),
            Weight::Padded => times(1).saturating_mul(4),
            Weight::Replaced => {
                let places = length(0) / length(1).max(1) + 1;
                length(0).saturating_add(places.saturating_mul(length(2)))
            }
            Weight::Substituted => {
                let places = if arguments.len() > 3 { length(0) + 1 } else { 1 };
                length(0).saturating_add(places.saturating_mul(length(2)))
            }
            Weight::Resized => times(1).saturating_mul(16),
            Weight::Counted => {
                let (from, to) = if arguments.len() > 1 { (number(0), number(1)) } else { (Some(0), number(0)) };
                let (Some(from), Some(to)) = (from, to) else { return 0 };
                let step = number(2).unwrap_or(1).unsigned_abs().max(1);
                usize::try_from(from.abs_diff(to) / step).unwrap_or(usize::MAX).saturating_mul(8)
            }
            Weight::Joined => length(0).saturating_mul(length(1)),
            Weight::Compared => length(0).saturating_mul(length(1)) / 16, // a step is cheaper than a byte that is kept
        }
    }
}

/// An argument of a call: one value for all rows, or one for each.
struct Argument {
    values: ArrayRef,
    is_scalar: bool,
}

impl Argument {
    fn of(value: &ColumnarValue) -> Result<Argument> {
        Ok(match value {
            ColumnarValue::Array(values) => Argument { values: values.clone(), is_scalar: false },
            ColumnarValue::Scalar(value) => Argument { values: value.to_array()?, is_scalar: true },
        })
    }

    fn at(&self, row: usize) -> usize {
        if self.is_scalar { 0 } else { row }
    }

    /// Bytes of a text, places of a list, and as much as any other value takes.
    fn length(&self, row: usize) -> usize {
        let row = self.at(row);
        if self.values.is_null(row) {
            return 0;
        }
        match self.values.data_type() {
            DataType::Utf8 => self.values.as_string::<i32>().value(row).len(),
            DataType::LargeUtf8 => self.values.as_string::<i64>().value(row).len(),
            DataType::Utf8View => self.values.as_string_view().value(row).len(),
            DataType::List(_) => self.values.as_list::<i32>().value_length(row) as usize,
            _ => 16,
        }
    }

    /// A number; `None` for null, and for what is none.
    fn number(&self, row: usize) -> Option<i64> {
        let (values, row) = (self.values.as_primitive_opt::<Int64Type>()?, self.at(row));
        values.is_valid(row).then(|| values.value(row))
    }
}

/// A function that weighs each call before it is made.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Bounded {
    function: ScalarUDF,
    weight: Weight,
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn signature(&self) -> &Signature {
        self.function.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.function.inner().return_type(arguments)
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let mut arguments = call.args.iter().map(Argument::of).collect::<Result<Vec<_>>>()?;
        for argument in arguments.iter_mut().filter(|argument| argument.values.data_type().is_numeric()) {
            argument.values = cast(&argument.values, &DataType::Int64).unwrap_or_else(|_| argument.values.clone());
        }
        let weights = (0..call.number_rows).map(|row| self.weight.weigh(&arguments, row));
        let all = weights.fold(0usize, usize::saturating_add);
        if all > MOST {
            let text = format!("{} would make {all} bytes; {MOST} are allowed", self.name());
            return Err(DataFusionError::Execution(text));
        }
        self.function.inner().invoke_with_args(call)
    }
}

/// The same call, weighed, where it is one to a function that can make much of little.
pub(super) fn bounded(expr: &dyn PhysicalExpr) -> Option<Arc<dyn PhysicalExpr>> {
    let call = expr.downcast_ref::<ScalarFunctionExpr>()?;
    let weight = Weight::of(call.fun().name())?;
    let function = ScalarUDF::from(Bounded { function: call.fun().clone(), weight });
    let field = call.return_field(&arrow::datatypes::Schema::empty()).ok()?;
    let options = Arc::new(call.config_options().clone());
    Some(Arc::new(ScalarFunctionExpr::new(call.name(), Arc::new(function), call.args().to_vec(), field, options)))
}
