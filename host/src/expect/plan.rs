//! SQL text → an expression that evaluates on batches.
//!
//! Arithmetic on integers is checked, and a failure is traced to its rows: no value is made up.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, new_null_array};
use arrow::compute::concat;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DataFusionError};
use datafusion::config::Dialect;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr as Logical, Volatility, cast};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::BinaryExpr;
use datafusion::prelude::SessionConfig;
use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr as Ast, ExprWithAlias, visit_expressions_mut};

use super::bound::bounded;
use super::mistake::{Declared, SqlMistake, mistake, span, unknown_columns, unparsable};
use super::paths::{Paths, all_columns};
use super::rows::{Evaluated, Inputs};
use super::stored::{described, storable};
use super::words;
use crate::columns::size;
use crate::config::Sql;

/// Plans expressions; one serves a whole pipeline.
pub struct Planner {
    state: SessionState,
}

/// An expression over the columns of a row.
#[derive(Clone, Debug)]
pub struct Expr {
    physical: Arc<dyn PhysicalExpr>,
    /// paths of the columns that it reads, in the order in which it names them
    reads: Vec<Arc<str>>,
    /// these columns, named by their paths
    inputs: SchemaRef,
    data_type: DataType,
}

impl Default for Planner {
    fn default() -> Self {
        Planner::new()
    }
}

impl Planner {
    /// DataFusion's functions, the Databricks dialect, and names as they are written.
    pub fn new() -> Self {
        let mut config = SessionConfig::new();
        let parser = &mut config.options_mut().sql_parser;
        parser.dialect = Dialect::Databricks;
        parser.enable_ident_normalization = false;
        parser.map_string_types_to_utf8view = false;
        let state = SessionStateBuilder::new().with_config(config).with_default_features().build();
        Planner { state }
    }

    /// An expression that is true, false or unknown. `what` begins the titles of mistakes: ``expectation `has-user` ``.
    pub fn predicate(
        &self,
        what: &str,
        sql: &Sql,
        schema: &Schema,
        declared: Declared<'_>,
    ) -> Result<Expr, Vec<SqlMistake>> {
        let (logical, paths, ast) = self.logical(what, sql, schema, declared)?;
        let refused = |e: DataFusionError| refused(what, sql, schema, declared, &ast, &e);
        let found = paths.type_of(&logical).map_err(refused)?;
        if found != DataType::Boolean {
            let title = format!("{what} is {}, and must be true or false", described(&found));
            return Err(vec![mistake(sql, title, "write a comparison, such as `a IS NOT NULL` or `a > 0`")]);
        }
        self.physical(logical, paths, found).map_err(refused)
    }

    /// An expression whose values a table can store, converted where that loses nothing.
    pub fn value(
        &self,
        what: &str,
        sql: &Sql,
        schema: &Schema,
        declared: Declared<'_>,
    ) -> Result<Expr, Vec<SqlMistake>> {
        let (logical, paths, ast) = self.logical(what, sql, schema, declared)?;
        let refused = |e: DataFusionError| refused(what, sql, schema, declared, &ast, &e);
        let found = paths.type_of(&logical).map_err(refused)?;
        let Some(stored) = storable(&found) else {
            let title = format!("{what} is {}, which a table cannot store", described(&found));
            return Err(vec![mistake(sql, title, "name the type: `CAST(… AS STRING)`")]);
        };
        let logical = if stored == found { logical } else { cast(logical, stored.clone()) };
        self.physical(logical, paths, stored).map_err(refused)
    }

    /// Parses, resolves, and refuses what depends on more than a row.
    fn logical(
        &self,
        what: &str,
        sql: &Sql,
        schema: &Schema,
        declared: Declared<'_>,
    ) -> Result<(Logical, Paths, ExprWithAlias), Vec<SqlMistake>> {
        let mut ast = self
            .state
            .sql_to_expr_with_alias(&sql.text, &Dialect::Databricks)
            .map_err(|e| vec![unparsable(what, sql, &e)])?;
        if let Some(alias) = &ast.alias {
            let title = format!("{what} is not one expression");
            let help = "write the expression alone, without `AS`".to_owned();
            let span_in_sql = span(&sql.text, alias);
            return Err(vec![SqlMistake { place: sql.place.clone(), span_in_sql, title, label: String::new(), help }]);
        }
        rlike_as_operator(&mut ast);
        let all = all_columns(schema);
        let refused = |e: DataFusionError| refused(what, sql, schema, declared, &ast, &e);
        let planned = DFSchema::try_from(all)
            .and_then(|all| self.state.create_logical_expr_from_sql_expr(ast.clone(), &all))
            .map_err(refused)?;
        if let Some(why) = depends_on_more_than_a_row(&planned) {
            let title = format!("{what} {why}");
            let help = "a verdict may depend on the row alone, so that it is the same whenever it is asked for";
            return Err(vec![mistake(sql, title, help)]);
        }
        let (logical, paths) = Paths::split_off(planned, schema).map_err(refused)?;
        Ok((logical, paths, ast))
    }

    fn physical(&self, logical: Logical, paths: Paths, data_type: DataType) -> Result<Expr, DataFusionError> {
        let inputs = paths.schema.clone();
        let schema = Arc::new(DFSchema::try_from(inputs.clone())?);
        // some functions exist only until they are simplified: `coalesce`, `arrow_cast`
        let context = SimplifyContext::builder().with_schema(schema.clone());
        let simplifier = ExprSimplifier::new(context.with_config_options(self.state.config_options().clone()).build());
        let logical = simplifier.simplify(simplifier.coerce(logical, &schema)?)?;
        let physical = self.state.create_physical_expr(logical, &schema)?;
        let physical = physical.transform_up(checked)?.data;
        Ok(Expr { physical, reads: paths.reads(), inputs, data_type })
    }
}

/// The planner's refusal as mistakes: unknown columns each with its place, anything else in its own words.
fn refused(
    what: &str,
    sql: &Sql,
    schema: &Schema,
    declared: Declared<'_>,
    ast: &ExprWithAlias,
    error: &DataFusionError,
) -> Vec<SqlMistake> {
    let unknown = unknown_columns(what, sql, schema, declared, ast);
    if unknown.is_empty() {
        vec![mistake(sql, format!("{what} cannot be planned: {}", words::of(error)), "")]
    } else {
        unknown
    }
}

impl Expr {
    /// Paths of the columns that it reads, in the order in which it names them.
    pub fn reads(&self) -> &[Arc<str>] {
        &self.reads
    }

    /// The type of its values.
    pub fn data_type(&self) -> &DataType {
        &self.data_type
    }

    /// Its values for a batch, and the rows on which it fails.
    pub(super) fn evaluate(&self, inputs: &mut Inputs<'_>) -> Evaluated {
        self.evaluate_within(inputs, usize::MAX).expect("nothing is larger than all of memory")
    }

    /// The same; `None` where the values take more than `most` bytes.
    pub(super) fn evaluate_within(&self, inputs: &mut Inputs<'_>, most: usize) -> Option<Evaluated> {
        let rows = inputs.record_batch(&self.inputs);
        match self.on(&rows) {
            Ok(values) => (size(&values, 0, values.len()) <= most).then(|| Evaluated { values, failed: Vec::new() }),
            Err(error) => {
                let mut found = Bisected { parts: Vec::new(), failed: Vec::new(), room: most };
                self.bisect(&rows, 0, error, &mut found)?;
                let parts: Vec<&dyn Array> = found.parts.iter().map(|part| &**part).collect();
                let values = concat(&parts).expect("all parts are values of one expression, in rows of one batch");
                Some(Evaluated { values, failed: found.failed })
            }
        }
    }

    fn on(&self, rows: &RecordBatch) -> Result<ArrayRef, DataFusionError> {
        self.physical.evaluate(rows)?.into_array(rows.num_rows())
    }

    /// `rows`, which begin at row `start` of the batch, failed together: finds out which do alone. `None` where there is no
    /// room for their values. It looks at each row twice at most, so it needs no other bound.
    fn bisect(&self, rows: &RecordBatch, start: usize, error: DataFusionError, found: &mut Bisected) -> Option<()> {
        if rows.num_rows() <= 1 {
            found.failed.push((start as u32, words::without_values(&error)));
            found.parts.push(new_null_array(&self.data_type, rows.num_rows()));
            return Some(());
        }
        let half = rows.num_rows() / 2;
        for (from, len) in [(0, half), (half, rows.num_rows() - half)] {
            let rows = rows.slice(from, len);
            match self.on(&rows) {
                Ok(values) => {
                    found.room = found.room.checked_sub(size(&values, 0, values.len()))?;
                    found.parts.push(values);
                }
                Err(error) => self.bisect(&rows, start + from, error, found)?,
            }
        }
        Some(())
    }
}

/// What came of evaluating halves.
struct Bisected {
    /// in the order of rows
    parts: Vec<ArrayRef>,
    failed: Vec<(u32, String)>,
    /// bytes that further values may take
    room: usize,
}

/// Integer arithmetic that does not fit fails, instead of going on with another number; so does a call that would make far
/// more than it is given.
fn checked(expr: Arc<dyn PhysicalExpr>) -> Result<Transformed<Arc<dyn PhysicalExpr>>, DataFusionError> {
    if let Some(binary) = expr.downcast_ref::<BinaryExpr>() {
        return Ok(Transformed::yes(Arc::new(binary.clone().with_fail_on_overflow(true))));
    }
    Ok(match bounded(&*expr) {
        Some(call) => Transformed::yes(call),
        None => Transformed::no(expr),
    })
}

/// `a RLIKE b` as `a ~ b`: the dialect knows the word, the planner only the operator.
fn rlike_as_operator(ast: &mut ExprWithAlias) {
    let _: ControlFlow<()> = visit_expressions_mut(&mut ast.expr, |node| {
        if let Ast::RLike { negated, expr, pattern, .. } = node {
            let op = if *negated { BinaryOperator::PGRegexNotMatch } else { BinaryOperator::PGRegexMatch };
            let (left, right) = (expr.clone(), pattern.clone());
            *node = Ast::Nested(Box::new(Ast::BinaryOp { left, op, right }));
        }
        ControlFlow::Continue(())
    });
}

/// Why the expression's value is not a function of one row, as it reads on from its name.
fn depends_on_more_than_a_row(expr: &Logical) -> Option<String> {
    let mut why = None;
    let walked = expr.apply(|node| {
        why = match node {
            Logical::ScalarFunction(call) if call.func.signature().volatility != Volatility::Immutable => {
                Some(format!("calls `{}`, which does not depend on the row alone", call.func.name()))
            }
            Logical::AggregateFunction(call) => Some(format!("calls `{}`, which needs several rows", call.func.name())),
            Logical::WindowFunction(call) => Some(format!("calls `{}`, which needs several rows", call.fun.name())),
            Logical::Exists(_)
            | Logical::InSubquery(_)
            | Logical::SetComparison(_)
            | Logical::ScalarSubquery(_)
            | Logical::OuterReferenceColumn(..) => Some("has a subquery".to_owned()),
            Logical::Placeholder(_) => Some("has a placeholder".to_owned()),
            Logical::ScalarVariable(..) => Some("reads a variable".to_owned()),
            Logical::Unnest(_) => Some("makes several rows of one".to_owned()),
            Logical::GroupingSet(_) => Some("has a grouping set".to_owned()),
            _ => None,
        };
        Ok(if why.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    walked.ok().and(why)
}
