//! FROM: which relations are named, how they are joined, and how often they are read.

use datafusion::sql::sqlparser::{
    ast::{
        FunctionArg, Join, JoinConstraint, JoinOperator, ObjectName, Spanned, TableAlias, TableFactor, TableWithJoins,
    },
    tokenizer::Span,
};

use super::{
    tokens::place,
    walk::{Walked, Walker, folded, refused},
};
use crate::sql::{fault::Fault, functions, relations};

impl Walker<'_> {
    pub(super) fn table_with_joins(&mut self, table: &TableWithJoins) -> Walked {
        let TableWithJoins { relation, joins } = table;
        self.relation(relation)?;
        for join in joins {
            let Join { relation, global, join_operator } = join;
            self.joins(1, join.span())?;
            if *global {
                return Err(refused("GLOBAL JOIN", join.span()));
            }
            self.relation(relation)?;
            self.join_constraint(join_operator, join.span())?;
        }
        Ok(())
    }

    pub(super) fn joins(&mut self, more: usize, span: Span) -> Walked {
        self.joins += more;
        if self.joins > self.limits.max_joins {
            let what = "the statement has too many joins";
            return Err(Fault::too_large("sql.max_joins", what, self.limits.max_joins, place(span.start)));
        }
        Ok(())
    }

    fn join_constraint(&mut self, operator: &JoinOperator, span: Span) -> Walked {
        use JoinOperator as Op;
        match operator {
            Op::Join(constraint)
            | Op::Inner(constraint)
            | Op::Left(constraint)
            | Op::LeftOuter(constraint)
            | Op::Right(constraint)
            | Op::RightOuter(constraint)
            | Op::FullOuter(constraint)
            | Op::CrossJoin(constraint)
            | Op::Semi(constraint)
            | Op::LeftSemi(constraint)
            | Op::RightSemi(constraint)
            | Op::Anti(constraint)
            | Op::LeftAnti(constraint)
            | Op::RightAnti(constraint) => match constraint {
                JoinConstraint::On(expression) => self.expression(expression),
                JoinConstraint::Using(columns) => {
                    Self::list("USING", columns.len(), "sql.max_items", self.limits.max_items, span)
                }
                JoinConstraint::Natural | JoinConstraint::None => Ok(()),
            },
            Op::CrossApply
            | Op::OuterApply
            | Op::AsOf { .. }
            | Op::StraightJoin(_)
            | Op::ArrayJoin
            | Op::LeftArrayJoin
            | Op::InnerArrayJoin => Err(refused("this kind of join", span)),
        }
    }

    fn relation(&mut self, relation: &TableFactor) -> Walked {
        match relation {
            TableFactor::Table {
                name,
                alias,
                args,
                with_hints,
                version,
                with_ordinality,
                partitions,
                json_path,
                sample,
                index_hints,
            } => {
                let plain = with_hints.is_empty()
                    && version.is_none()
                    && !with_ordinality
                    && partitions.is_empty()
                    && json_path.is_none()
                    && sample.is_none()
                    && index_hints.is_empty();
                if !plain {
                    return Err(refused("a clause behind a relation, such as TABLESAMPLE,", name.span()));
                }
                self.alias(alias.as_ref())?;
                match args {
                    None => self.named_relation(name),
                    Some(args) if args.settings.is_none() => self.table_function(name, &args.args),
                    Some(_) => Err(refused("SETTINGS of a table function", name.span())),
                }
            }
            TableFactor::Derived { lateral: _, subquery, alias, sample: None } => {
                self.alias(alias.as_ref())?;
                self.query(subquery)
            }
            TableFactor::NestedJoin { table_with_joins, alias } => {
                self.alias(alias.as_ref())?;
                self.table_with_joins(table_with_joins)
            }
            TableFactor::UNNEST {
                alias,
                array_exprs,
                with_offset: false,
                with_offset_alias: None,
                with_ordinality: false,
            } => {
                self.alias(alias.as_ref())?;
                self.items(array_exprs, "UNNEST")?;
                self.scan(1, relation.span())
            }
            _ => Err(refused("this kind of relation", relation.span())),
        }
    }

    pub(super) fn alias(&self, alias: Option<&TableAlias>) -> Walked {
        let Some(TableAlias { explicit: _, name, columns, at }) = alias else { return Ok(()) };
        if at.is_some() {
            return Err(refused("AT behind a name", name.span));
        }
        Self::list("the columns of a name", columns.len(), "sql.max_items", self.limits.max_items, name.span)
    }

    /// A relation by its name alone: of a CTE, or one of those that everybody has. No schema, no catalogue, no file.
    fn named_relation(&mut self, name: &ObjectName) -> Walked {
        let span = name.span();
        let ident = match name.0.as_slice() {
            [part] => part.as_ident(),
            _ => None,
        };
        let Some(ident) = ident else {
            let there = relations::names().collect::<Vec<_>>().join(", ");
            return Err(refused(&format!("a relation in a schema; there are {there}, and this"), span));
        };
        let name = folded(ident);
        let cte = self.ctes.iter().rev().find(|(cte, _)| *cte == name).map(|(_, scans)| *scans);
        match cte {
            Some(scans) => self.scan(scans.max(1), span),
            None if relations::names().any(|there| there == name) => self.scan(1, span),
            None => {
                let mut there: Vec<&str> = relations::names().collect();
                there.extend(self.ctes.iter().map(|(cte, _)| cte.as_str()));
                Err(Fault::unknown("relation", &ident.value, there, place(span.start)))
            }
        }
    }

    /// Counts what reads relations, each time that it does.
    pub(super) fn scan(&mut self, times: usize, span: Span) -> Walked {
        self.scans = self.scans.saturating_add(times);
        if self.scans > self.limits.max_scans {
            let what = "relations are read too often, those of a CTE as often as it is named";
            return Err(Fault::too_large("sql.max_scans", what, self.limits.max_scans, place(span.start)));
        }
        Ok(())
    }

    fn table_function(&mut self, name: &ObjectName, args: &[FunctionArg]) -> Walked {
        let span = name.span();
        let function = match name.0.as_slice() {
            [part] => part.as_ident().map(folded),
            _ => None,
        };
        let known = function.as_ref().is_some_and(|function| functions::TABLE.contains(&function.as_str()));
        if !known {
            let shown = name.to_string();
            let functions = functions::TABLE.iter().copied();
            return Err(Fault::unknown("function that gives rows,", &shown, functions, place(span.start)));
        }
        self.series_arguments(args, span)?;
        self.scan(1, span)
    }
}
