//! The tree of a statement, part by part: what is not named here is not offered. Every field of the parser's types is named,
//! so that a new version of the parser with more of them does not compile until somebody has decided about them.

use datafusion::sql::sqlparser::{
    ast::{
        Cte, Distinct, Fetch, GroupByExpr, Ident, LimitClause, NamedWindowDefinition, NamedWindowExpr, Offset, OrderBy,
        OrderByExpr, OrderByKind, Query, Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, Spanned, Values,
        WildcardAdditionalOptions, WindowSpec, With,
    },
    tokenizer::Span,
};

use super::tokens::place;
use crate::{
    config::SqlLimits,
    sql::fault::{Fault, FaultKind},
};

/// What is known of a statement as far as it was walked.
pub(super) struct Walker<'a> {
    pub(super) limits: &'a SqlLimits,
    /// The names of CTEs that can be named where the walk is, and how often each reads relations.
    pub(super) ctes: Vec<(String, usize)>,
    /// How often the statement, or the CTE that is walked, reads relations.
    pub(super) scans: usize,
    pub(super) joins: usize,
    /// Subqueries of expressions that the walk is in.
    subqueries: usize,
    pub(super) parameters: Vec<String>,
    pub(super) reads_clock: bool,
}

pub(super) type Walked = Result<(), Fault>;

/// SQL that is not offered, and where it stands.
pub(super) fn refused(what: &str, span: Span) -> Fault {
    Fault::new(FaultKind::NotAllowed, format!("{what} is not offered"), place(span.start))
}

/// A name as the engine has it: in lower case, unless it is quoted.
pub(super) fn folded(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_ascii_lowercase() }
}

impl<'a> Walker<'a> {
    pub(super) fn new(limits: &'a SqlLimits) -> Self {
        Self { limits, ctes: Vec::new(), scans: 0, joins: 0, subqueries: 0, parameters: Vec::new(), reads_clock: false }
    }

    pub(super) fn query(&mut self, query: &Query) -> Walked {
        let Query {
            with,
            body,
            order_by,
            limit_clause,
            fetch,
            locks,
            for_clause,
            settings,
            format_clause,
            pipe_operators,
        } = query;
        let unknown = locks.is_empty()
            && for_clause.is_none()
            && settings.is_none()
            && format_clause.is_none()
            && pipe_operators.is_empty();
        if !unknown {
            return Err(refused("a clause behind the query, such as FOR UPDATE", query.span()));
        }
        let outer = self.ctes.len();
        if let Some(with) = with {
            self.with(with)?;
        }
        self.set_expression(body)?;
        order_by.as_ref().map_or(Ok(()), |order| self.order_by(order))?;
        limit_clause.as_ref().map_or(Ok(()), |limit| self.limit(limit))?;
        if let Some(Fetch { with_ties: _, percent: _, quantity: _ }) = fetch {
            return Err(refused("FETCH; LIMIT is, and it", query.span()));
        }
        self.ctes.truncate(outer);
        Ok(())
    }

    /// A query in an expression.
    pub(super) fn subquery(&mut self, query: &Query) -> Walked {
        self.subqueries += 1;
        let (depth, limit) = (self.subqueries, self.limits.max_subqueries);
        Self::list("the subqueries in one another", depth, "sql.max_subqueries", limit, query.span())?;
        self.query(query)?;
        self.subqueries -= 1;
        Ok(())
    }

    fn with(&mut self, with: &With) -> Walked {
        let With { with_token, recursive, cte_tables } = with;
        if *recursive {
            // What ends a recursion is the data, which cannot be counted beforehand; and payments have no hierarchy to go down.
            return Err(refused("WITH RECURSIVE", with_token.0.span));
        }
        for Cte { alias, query, from, materialized: _, closing_paren_token: _ } in cte_tables {
            if from.is_some() {
                return Err(refused("FROM behind a CTE", query.span()));
            }
            self.alias(Some(alias))?;
            // The engine works a CTE out as often as it is named, so it counts where it is named.
            let around = std::mem::take(&mut self.scans);
            self.query(query)?;
            let scans = std::mem::replace(&mut self.scans, around);
            self.ctes.push((folded(&alias.name), scans));
        }
        Ok(())
    }

    fn set_expression(&mut self, body: &SetExpr) -> Walked {
        match body {
            SetExpr::Select(select) => self.select(select),
            SetExpr::Query(query) => self.query(query),
            SetExpr::SetOperation { left, op: _, set_quantifier: _, right } => {
                self.set_expression(left)?;
                self.set_expression(right)
            }
            SetExpr::Values(Values { explicit_row: _, value_keyword: _, rows }) => {
                Self::list("the rows of VALUES", rows.len(), "sql.max_in_list", self.limits.max_in_list, body.span())?;
                for row in rows {
                    self.items(&row.content, "a row of VALUES")?;
                }
                Ok(())
            }
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) | SetExpr::Table(_) => {
                Err(refused("a statement that is no SELECT or VALUES", body.span()))
            }
        }
    }

    fn select(&mut self, select: &Select) -> Walked {
        let Select {
            select_token,
            // A comment to other engines, and nothing to this one.
            optimizer_hints: _,
            distinct,
            select_modifiers,
            top,
            top_before_distinct: _,
            projection,
            exclude,
            into,
            from,
            lateral_views,
            prewhere,
            selection,
            connect_by,
            group_by,
            cluster_by,
            distribute_by,
            sort_by,
            having,
            named_window,
            qualify,
            window_before_qualify: _,
            value_table_mode,
            flavor: _,
        } = select;
        let span = select_token.0.span;
        if into.is_some() {
            return Err(refused("SELECT INTO", span));
        }
        let known = select_modifiers.is_none()
            && top.is_none()
            && exclude.is_none()
            && lateral_views.is_empty()
            && prewhere.is_none()
            && connect_by.is_empty()
            && cluster_by.is_empty()
            && distribute_by.is_empty()
            && sort_by.is_empty()
            && value_table_mode.is_none();
        if !known {
            return Err(refused("a clause of this SELECT, such as TOP or SORT BY,", span));
        }
        Self::list("the items of SELECT", projection.len(), "sql.max_items", self.limits.max_items, span)?;
        match distinct {
            Some(Distinct::On(expressions)) => self.items(expressions, "DISTINCT ON")?,
            Some(Distinct::All | Distinct::Distinct) | None => {}
        }
        self.joins(from.len().saturating_sub(1), span)?;
        for table in from {
            self.table_with_joins(table)?;
        }
        for item in projection {
            self.select_item(item)?;
        }
        for expression in [selection, having, qualify].into_iter().flatten() {
            self.expression(expression)?;
        }
        match group_by {
            GroupByExpr::All(modifiers) if modifiers.is_empty() => {}
            GroupByExpr::Expressions(expressions, modifiers) if modifiers.is_empty() => {
                self.group_by(expressions, span)?;
            }
            GroupByExpr::All(_) | GroupByExpr::Expressions(..) => {
                return Err(refused("GROUP BY … WITH; ROLLUP(…) and CUBE(…) are, and it", span));
            }
        }
        Self::list("the windows", named_window.len(), "sql.max_items", self.limits.max_items, span)?;
        for NamedWindowDefinition(_, window) in named_window {
            match window {
                NamedWindowExpr::NamedWindow(_) => {}
                NamedWindowExpr::WindowSpec(window) => self.window(window)?,
            }
        }
        Ok(())
    }

    fn select_item(&mut self, item: &SelectItem) -> Walked {
        match item {
            SelectItem::UnnamedExpr(expression) | SelectItem::ExprWithAlias { expr: expression, alias: _ } => {
                self.expression(expression)
            }
            SelectItem::ExprWithAliases { .. } => Err(refused("an item with several names", item.span())),
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(_), options)
            | SelectItem::Wildcard(options) => self.wildcard(options),
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::Expr(_), _) => {
                Err(refused("a star behind an expression", item.span()))
            }
        }
    }

    pub(super) fn wildcard(&mut self, options: &WildcardAdditionalOptions) -> Walked {
        let WildcardAdditionalOptions {
            wildcard_token,
            opt_ilike,
            opt_exclude: _,
            opt_except: _,
            opt_replace,
            opt_rename,
            opt_alias,
        } = options;
        if opt_ilike.is_some() || opt_rename.is_some() || opt_alias.is_some() {
            return Err(refused("ILIKE, RENAME or a name behind a star", wildcard_token.0.span));
        }
        for item in opt_replace.iter().flat_map(|replace| &replace.items) {
            self.expression(&item.expr)?;
        }
        Ok(())
    }

    pub(super) fn window(&mut self, window: &WindowSpec) -> Walked {
        let WindowSpec { window_name: _, partition_by, order_by, window_frame } = window;
        self.items(partition_by, "PARTITION BY")?;
        self.sort(order_by)?;
        let Some(frame) = window_frame else { return Ok(()) };
        self.frame_bound(&frame.start_bound)?;
        frame.end_bound.as_ref().map_or(Ok(()), |bound| self.frame_bound(bound))
    }

    fn order_by(&mut self, order: &OrderBy) -> Walked {
        let OrderBy { kind, interpolate } = order;
        if interpolate.is_some() {
            return Err(refused("INTERPOLATE", order.span()));
        }
        match kind {
            OrderByKind::All(_) => Ok(()),
            OrderByKind::Expressions(expressions) => self.sort(expressions),
        }
    }

    pub(super) fn sort(&mut self, order: &[OrderByExpr]) -> Walked {
        for OrderByExpr { expr, options: _, with_fill } in order {
            Self::list("ORDER BY", order.len(), "sql.max_items", self.limits.max_items, expr.span())?;
            if with_fill.is_some() {
                return Err(refused("WITH FILL", expr.span()));
            }
            self.expression(expr)?;
        }
        Ok(())
    }

    fn limit(&mut self, limit: &LimitClause) -> Walked {
        match limit {
            LimitClause::LimitOffset { limit, offset, limit_by } => {
                if let Some(first) = limit_by.first() {
                    return Err(refused("LIMIT … BY", first.span()));
                }
                let offset = offset.as_ref().map(|Offset { value, rows: _ }| value);
                [limit.as_ref(), offset].into_iter().flatten().try_for_each(|expression| self.expression(expression))
            }
            LimitClause::OffsetCommaLimit { offset, limit } => {
                self.expression(offset)?;
                self.expression(limit)
            }
        }
    }

    /// # Errors
    /// Where a list has more entries than it may.
    pub(super) fn list(what: &str, length: usize, setting: &'static str, limit: usize, span: Span) -> Walked {
        if length > limit {
            return Err(Fault::too_large(setting, &format!("{what} are {length}"), limit, place(span.start)));
        }
        Ok(())
    }
}
