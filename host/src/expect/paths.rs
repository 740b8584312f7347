//! The columns that an expression reads, by their paths.
//!
//! A path through structs (`context.user.login`) becomes a column of its own, so that a struct's child is null where a
//! parent is: DataFusion's `get_field` hands out whatever stands in the child's slot.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, DataFusionError, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr as Logical, ExprSchemable};
use datafusion::sql::sqlparser::ast::Ident;

use crate::columns;

/// The paths that an expression reads, as columns of a flat schema.
pub(super) struct Paths {
    pub(super) schema: SchemaRef,
}

impl Paths {
    /// Replaces every path through structs by a column of that name.
    pub(super) fn split_off(expr: Logical, schema: &Schema) -> Result<(Logical, Paths), DataFusionError> {
        let mut fields: Vec<FieldRef> = Vec::new();
        let expr = expr.transform_down(|node| {
            let Some((path, rest)) = path_of(&node, schema) else { return Ok(Transformed::no(node)) };
            let Some(data_type) = columns::data_type(schema, &path) else { return Ok(Transformed::no(node)) };
            if !fields.iter().any(|field| *field.name() == path) {
                fields.push(Arc::new(Field::new(&path, data_type, true)));
            }
            let column = Logical::Column(Column::new_unqualified(path));
            let node = match (rest.is_empty(), node) {
                (false, Logical::ScalarFunction(call)) => {
                    let args = std::iter::once(column).chain(rest).collect();
                    Logical::ScalarFunction(ScalarFunction { args, ..call })
                }
                _ => column,
            };
            Ok(Transformed::new(node, true, TreeNodeRecursion::Jump))
        })?;
        Ok((expr.data, Paths { schema: Arc::new(Schema::new(fields)) }))
    }

    pub(super) fn reads(&self) -> Vec<Arc<str>> {
        self.schema.fields().iter().map(|field| field.name().as_str().into()).collect()
    }

    pub(super) fn type_of(&self, expr: &Logical) -> Result<DataType, DataFusionError> {
        expr.get_type(&DFSchema::try_from(self.schema.clone())?)
    }
}

/// The longest path of declared columns at the root of `expr`, and the keys of `get_field` that lead on from there, into
/// a map.
fn path_of(expr: &Logical, schema: &Schema) -> Option<(String, Vec<Logical>)> {
    match expr {
        Logical::Column(column) => Some((column.name.clone(), Vec::new())),
        Logical::ScalarFunction(call) if call.func.name() == "get_field" => {
            let (base, keys) = call.args.split_first()?;
            let (mut path, within) = path_of(base, schema)?;
            if !within.is_empty() {
                return None;
            }
            let mut keys = keys.iter();
            while let Some(Logical::Literal(ScalarValue::Utf8(Some(key)), _)) = keys.as_slice().first() {
                let longer = format!("{path}.{key}");
                if columns::data_type(schema, &longer).is_none() {
                    break;
                }
                path = longer;
                keys.next();
            }
            Some((path, keys.cloned().collect()))
        }
        _ => None,
    }
}

/// Declared and added columns, and the pseudo-columns.
pub(super) fn all_columns(schema: &Schema) -> SchemaRef {
    let declared = schema.fields().iter().filter(|field| columns::pseudo_type(field.name()).is_none()).cloned();
    let pseudo = columns::PSEUDO.iter().filter_map(|name| {
        let data_type = columns::pseudo_type(name)?;
        Some(Arc::new(Field::new(*name, data_type, true)))
    });
    Arc::new(Schema::new(declared.chain(pseudo).collect::<Vec<_>>()))
}

/// Whether the names lead to a column, or into a map.
pub(super) fn is_known(names: &[Ident], schema: &Schema) -> bool {
    let mut path = String::new();
    for name in names {
        if !path.is_empty() {
            if matches!(columns::data_type(schema, &path), Some(DataType::Map(..))) {
                return true;
            }
            path.push('.');
        }
        path.push_str(&name.value);
    }
    columns::data_type(schema, &path).is_some()
}
