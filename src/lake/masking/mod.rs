//! What of its payments a file does not show. It is part of the scan: a query never gets hold of a value that is hidden from
//! it, so no filter, cast, error or plan of the query can tell it.

mod cells;
mod pseudonym;

use std::{collections::BTreeSet, sync::Arc};

use arrow::datatypes::{Field, SchemaRef};
use datafusion::{
    common::{Result, ScalarValue, config::ConfigOptions},
    functions::datetime,
    logical_expr::{Operator, ScalarUDF},
    physical_expr::{
        PhysicalExpr, ScalarFunctionExpr,
        expressions::{BinaryExpr, Column, IsNotNullExpr, lit},
    },
    physical_plan::{ExecutionPlan, filter::FilterExec, projection::ProjectionExec},
};

pub use cells::{Cells, Group, MIN_CUSTOMERS, MOST_OF_ONE};
use pseudonym::{Kind, pseudonym};

use super::scan::{PAID_AT, PaymentsTable};
use crate::{access::MaskKey, payments::words::Settlement};

/// How the payments of a file are seen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Masking {
    /// As they are.
    None,
    /// Customers, meters and payments by pseudonyms that this secret makes; names, notes and references not at all.
    Pseudonyms(MaskKey),
    /// The settled payments of cells that no customer can be made out of; of each its month, site, currency, amount and
    /// source. Customers are told apart by pseudonyms, so that they can be counted.
    Cells(Arc<Cells>, MaskKey),
}

/// What a column shows.
enum Shows {
    Itself,
    Nothing,
    Pseudonym(Kind),
    /// The first instant of its month.
    Month,
    /// The source, or the group that it is counted to.
    Source,
}

impl Masking {
    fn shows(&self, column: &str) -> Shows {
        match self {
            Self::None => Shows::Itself,
            Self::Pseudonyms(_) => match column {
                "customer_name" | "notes" | "reference_id" => Shows::Nothing,
                "customer_id" => Shows::Pseudonym(Kind::Customer),
                // A device's number is often the meter's ID once more: the same value has the same pseudonym.
                "meter_id" | "serial_number" | "utility_id" => Shows::Pseudonym(Kind::Meter),
                "payment_id" => Shows::Pseudonym(Kind::Payment),
                _ => Shows::Itself,
            },
            Self::Cells(..) => match column {
                "project_id" | "month" | "time_zone" | "site" | "currency" | "amount" | "settlement" => Shows::Itself,
                "customer_id" => Shows::Pseudonym(Kind::Customer),
                "source" => Shows::Source,
                PAID_AT => Shows::Month,
                _ => Shows::Nothing,
            },
        }
    }

    /// Whether it shows whole months of UTC and no part of one, and so leaves rows out.
    #[must_use]
    pub fn is_of_whole_months(&self) -> bool {
        matches!(self, Self::Cells(..))
    }

    /// The places in the table of the columns that have to be read to show these.
    pub(super) fn reads(&self, shown: &[usize]) -> Result<Vec<usize>> {
        if *self == Self::None {
            return Ok(shown.to_vec());
        }
        let table = PaymentsTable::table_schema();
        let mut reads: BTreeSet<usize> =
            shown.iter().copied().filter(|at| !matches!(self.shows(table.field(*at).name()), Shows::Nothing)).collect();
        if self.is_of_whole_months() {
            for column in ["site", "currency", "source", "settlement"] {
                reads.insert(table.index_of(column)?);
            }
        }
        Ok(reads.into_iter().collect())
    }

    /// What is seen of `rows`, which have the columns of [`Masking::reads`].
    pub(super) fn over(
        &self,
        rows: Arc<dyn ExecutionPlan>,
        shown: &[usize],
        options: &Arc<ConfigOptions>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let key = match self {
            Self::None => return Ok(rows),
            Self::Pseudonyms(key) | Self::Cells(_, key) => *key,
        };
        let read = Read { schema: rows.schema(), options };
        let rows = match self {
            Self::Cells(cells, _) => {
                let source = read.source(cells)?.with_nullable(true);
                let shown: Arc<dyn PhysicalExpr> = Arc::new(IsNotNullExpr::new(Arc::new(source)));
                let settled = Arc::new(BinaryExpr::new(
                    read.column("settlement")?,
                    Operator::Eq,
                    lit(ScalarValue::Utf8View(Some(Settlement::Settled.as_str().to_owned()))),
                ));
                let both = BinaryExpr::new(settled, Operator::And, shown);
                Arc::new(FilterExec::try_new(Arc::new(both), rows)?)
            }
            Self::None | Self::Pseudonyms(_) => rows,
        };
        let table = PaymentsTable::table_schema();
        let show = |at: &usize| {
            let field = table.field(*at);
            Ok((self.expression(field, key, &read)?, field.name().clone()))
        };
        Ok(Arc::new(ProjectionExec::try_new(shown.iter().map(show).collect::<Result<Vec<_>>>()?, rows)?))
    }

    fn expression(&self, field: &Field, key: MaskKey, read: &Read<'_>) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(match (self.shows(field.name()), self) {
            (Shows::Itself, _) => read.column(field.name())?,
            (Shows::Pseudonym(kind), _) => Arc::new(read.call(pseudonym(key, kind), vec![read.column(field.name())?])?),
            (Shows::Month, _) => {
                Arc::new(read.call(datetime::date_trunc(), vec![lit("month"), read.column(field.name())?])?)
            }
            (Shows::Source, Self::Cells(cells, _)) => Arc::new(read.source(cells)?),
            (Shows::Source | Shows::Nothing, _) => lit(ScalarValue::try_from(field.data_type())?),
        })
    }
}

/// The rows as they are read.
struct Read<'a> {
    schema: SchemaRef,
    options: &'a Arc<ConfigOptions>,
}

impl Read<'_> {
    fn column(&self, name: &str) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(Arc::new(Column::new_with_schema(name, &self.schema)?))
    }

    /// A call that gives nulls for nulls alone.
    fn call(&self, function: Arc<ScalarUDF>, arguments: Vec<Arc<dyn PhysicalExpr>>) -> Result<ScalarFunctionExpr> {
        let nullable = arguments.iter().map(|argument| argument.nullable(&self.schema)).collect::<Result<Vec<_>>>()?;
        let call = ScalarFunctionExpr::try_new(function, arguments, &self.schema, Arc::clone(self.options))?;
        Ok(call.with_nullable(nullable.contains(&true)))
    }

    /// The source that a row is counted to; null where its cell is not shown.
    fn source(&self, cells: &Arc<Cells>) -> Result<ScalarFunctionExpr> {
        let arguments = ["site", "currency", "source"].map(|name| self.column(name));
        self.call(cells::shown_source(cells), arguments.into_iter().collect::<Result<_>>()?)
    }
}
