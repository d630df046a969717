//! The expressions of a statement: which are offered, which functions they call, and what is bounded in them.

use datafusion::sql::sqlparser::{
    ast::{
        AccessExpr, BinaryOperator, CaseWhen, DataType, Expr, Function, FunctionArg, FunctionArgExpr,
        FunctionArgumentClause, FunctionArguments, Interval, ObjectName, Spanned, Subscript, UnaryOperator, Value,
        ValueWithSpan, WindowFrameBound, WindowType,
    },
    tokenizer::Span,
};

use super::{
    tokens::place,
    walk::{Walked, Walker, folded, refused},
};
use crate::sql::{
    fault::{Fault, FaultKind},
    functions,
};

/// The most characters of a number, and the largest exponent: beyond that it has no type that the engine knows.
const NUMBER: (usize, u32) = (100, 400);

impl Walker<'_> {
    pub(super) fn expression(&mut self, expression: &Expr) -> Walked {
        match expression {
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) => Ok(()),
            Expr::Value(value) | Expr::TypedString(datafusion::sql::sqlparser::ast::TypedString { value, .. }) => {
                self.value(value)
            }
            Expr::IsFalse(inner)
            | Expr::IsNotFalse(inner)
            | Expr::IsTrue(inner)
            | Expr::IsNotTrue(inner)
            | Expr::IsNull(inner)
            | Expr::IsNotNull(inner)
            | Expr::IsUnknown(inner)
            | Expr::IsNotUnknown(inner)
            | Expr::Nested(inner)
            | Expr::Extract { expr: inner, .. }
            | Expr::Ceil { expr: inner, .. }
            | Expr::Floor { expr: inner, .. } => self.expression(inner),
            Expr::IsDistinctFrom(left, right)
            | Expr::IsNotDistinctFrom(left, right)
            | Expr::AtTimeZone { timestamp: left, time_zone: right }
            | Expr::Position { expr: left, r#in: right } => self.all([&**left, &**right]),
            Expr::Between { expr, negated: _, low, high } => self.all([&**expr, &**low, &**high]),
            Expr::InList { expr, list, negated: _ } => {
                Self::list("the values of IN", list.len(), "sql.max_in_list", self.limits.max_in_list, expr.span())?;
                self.expression(expr)?;
                self.all(list)
            }
            Expr::InSubquery { expr, subquery, negated: _ } => {
                self.expression(expr)?;
                self.subquery(subquery)
            }
            Expr::Exists { subquery, negated: _ } | Expr::Subquery(subquery) => self.subquery(subquery),
            Expr::BinaryOp { left, op, right } => self.binary(left, op, right),
            Expr::UnaryOp { op, expr } => match op {
                UnaryOperator::Plus | UnaryOperator::Minus | UnaryOperator::Not => self.expression(expr),
                _ => Err(refused(&format!("the operator {op}"), expression.span())),
            },
            Expr::Like { expr, pattern, any: false, .. } | Expr::ILike { expr, pattern, any: false, .. } => {
                self.all([&**expr, &**pattern])
            }
            Expr::SimilarTo { expr, pattern, .. } => {
                self.pattern(pattern)?;
                self.expression(expr)
            }
            Expr::AnyOp { left, compare_op: _, right, is_some: _ } | Expr::AllOp { left, compare_op: _, right } => {
                self.all([&**left, &**right])
            }
            Expr::Cast { expr, data_type, array: false, format: None, kind: _ } => {
                named_type(data_type, expression.span())?;
                self.expression(expr)
            }
            Expr::Interval(Interval { value, .. }) => self.expression(value),
            Expr::Array(array) => self.items(&array.elem, "the values of an array"),
            Expr::Tuple(values) => self.items(values, "the values of a tuple"),
            Expr::CompoundFieldAccess { root, access_chain } => {
                self.expression(root)?;
                access_chain.iter().try_for_each(|access| self.access(access))
            }
            Expr::Case { operand, conditions, else_result, .. } => {
                let (count, span) = (conditions.len(), expression.span());
                Self::list("the branches of CASE", count, "sql.max_items", self.limits.max_items, span)?;
                self.all([operand, else_result].into_iter().flatten().map(|inner| &**inner))?;
                self.all(conditions.iter().flat_map(|CaseWhen { condition, result }| [condition, result]))
            }
            Expr::Substring { .. } | Expr::Trim { .. } | Expr::Overlay { .. } => self.text_syntax(expression),
            Expr::Function(function) => self.function(function),
            Expr::GroupingSets(sets) | Expr::Cube(sets) | Expr::Rollup(sets) => {
                sets.iter().try_for_each(|set| self.items(set, "a grouping set"))
            }
            _ => Err(refused("this expression", expression.span())),
        }
    }

    /// `SUBSTRING(… FROM …)` and its like.
    fn text_syntax(&mut self, expression: &Expr) -> Walked {
        match expression {
            Expr::Substring { expr, substring_from, substring_for, .. } => {
                self.expression(expr)?;
                self.all([substring_from, substring_for].into_iter().flatten().map(|inner| &**inner))
            }
            Expr::Trim { trim_where: _, trim_what, expr, trim_characters } => {
                self.all([&**expr].into_iter().chain(trim_what.as_deref()))?;
                self.items(trim_characters.as_deref().unwrap_or_default(), "TRIM")
            }
            Expr::Overlay { expr, overlay_what, overlay_from, overlay_for } => {
                self.all([&**expr, &**overlay_what, &**overlay_from].into_iter().chain(overlay_for.as_deref()))
            }
            other => Err(refused("this expression", other.span())),
        }
    }

    fn all<'e>(&mut self, expressions: impl IntoIterator<Item = &'e Expr>) -> Walked {
        expressions.into_iter().try_for_each(|expression| self.expression(expression))
    }

    /// The expressions of a list of bounded length.
    pub(super) fn items(&mut self, expressions: &[Expr], what: &str) -> Walked {
        let Some(first) = expressions.first() else { return Ok(()) };
        Self::list(what, expressions.len(), "sql.max_items", self.limits.max_items, first.span())?;
        self.all(expressions)
    }

    fn binary(&mut self, left: &Expr, op: &BinaryOperator, right: &Expr) -> Walked {
        use BinaryOperator as Op;
        match op {
            Op::PGRegexMatch | Op::PGRegexIMatch | Op::PGRegexNotMatch | Op::PGRegexNotIMatch => self.pattern(right)?,
            Op::Plus
            | Op::Minus
            | Op::Multiply
            | Op::Divide
            | Op::Modulo
            | Op::StringConcat
            | Op::Gt
            | Op::Lt
            | Op::GtEq
            | Op::LtEq
            | Op::Eq
            | Op::NotEq
            | Op::And
            | Op::Or
            | Op::BitwiseOr
            | Op::BitwiseAnd
            | Op::BitwiseXor
            | Op::PGBitwiseXor
            | Op::PGBitwiseShiftLeft
            | Op::PGBitwiseShiftRight
            | Op::PGLikeMatch
            | Op::PGILikeMatch
            | Op::PGNotLikeMatch
            | Op::PGNotILikeMatch
            | Op::AtArrow
            | Op::ArrowAt => {}
            _ => return Err(refused(&format!("the operator {op}"), left.span())),
        }
        self.all([left, right])
    }

    /// A regular expression is written out, so that its size is known; a parameter's is known when it is bound.
    fn pattern(&mut self, pattern: &Expr) -> Walked {
        let bytes = match pattern {
            Expr::Nested(inner) => return self.pattern(inner),
            Expr::Value(ValueWithSpan { value: Value::Placeholder(_), .. }) => 0,
            Expr::Value(ValueWithSpan { value, .. }) => match value.clone().into_string() {
                Some(text) => text.len(),
                None => return Err(refused("a regular expression that is no text", pattern.span())),
            },
            _ => return Err(refused("a regular expression that is no literal and no parameter", pattern.span())),
        };
        if bytes > self.limits.max_pattern_bytes {
            let what = format!("a regular expression has {bytes} bytes");
            let (limit, place) = (self.limits.max_pattern_bytes, place(pattern.span().start));
            return Err(Fault::too_large("sql.max_pattern_bytes", &what, limit, place));
        }
        self.expression(pattern)
    }

    fn access(&mut self, access: &AccessExpr) -> Walked {
        match access {
            AccessExpr::Dot(expression) => self.expression(expression),
            AccessExpr::Subscript(Subscript::Index { index }) => self.expression(index),
            AccessExpr::Subscript(Subscript::Slice { lower_bound, upper_bound, stride }) => {
                self.all([lower_bound, upper_bound, stride].into_iter().flatten())
            }
        }
    }

    fn value(&mut self, value: &ValueWithSpan) -> Walked {
        let ValueWithSpan { value, span } = value;
        match value {
            Value::Number(digits, _) => {
                let (characters, largest) = NUMBER;
                let exponent = digits.split_once(['e', 'E']).map_or("0", |(_, exponent)| exponent);
                let exponent = exponent.trim_start_matches(['+', '-']).parse::<u32>().unwrap_or(u32::MAX);
                if digits.len() <= characters && exponent <= largest {
                    return Ok(());
                }
                let detail =
                    format!("a number has at most {characters} characters and an exponent of at most {largest}");
                Err(Fault::new(FaultKind::Type, detail, place(span.start)))
            }
            Value::Placeholder(name) => self.parameter(name, *span),
            Value::SingleQuotedString(_)
            | Value::DollarQuotedString(_)
            | Value::EscapedStringLiteral(_)
            | Value::UnicodeStringLiteral(_)
            | Value::NationalStringLiteral(_)
            | Value::HexStringLiteral(_)
            | Value::Boolean(_)
            | Value::Null => Ok(()),
            _ => Err(refused("a literal of this form", *span)),
        }
    }

    fn parameter(&mut self, name: &str, span: Span) -> Walked {
        let bare = name.strip_prefix('$').unwrap_or_default();
        if bare.is_empty() || !bare.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return Err(refused("a placeholder of this form; $1 or $name is, and it", span));
        }
        if !self.parameters.iter().any(|known| known == bare) {
            self.parameters.push(bare.to_owned());
        }
        let (count, limit) = (self.parameters.len(), self.limits.max_parameters);
        Self::list("the parameters", count, "sql.max_parameters", limit, span)
    }

    fn function(&mut self, function: &Function) -> Walked {
        let Function { name, uses_odbc_syntax, parameters, args, filter, null_treatment: _, over, within_group } =
            function;
        let known = self.called(name)?;
        if *uses_odbc_syntax || !matches!(parameters, FunctionArguments::None) {
            return Err(refused("a call of this form", name.span()));
        }
        match args {
            FunctionArguments::None => {}
            FunctionArguments::Subquery(_) => {
                return Err(refused("a query as the arguments of a function", name.span()));
            }
            FunctionArguments::List(list) => {
                let count = list.args.len();
                Self::list("the arguments of a function", count, "sql.max_items", self.limits.max_items, name.span())?;
                for (index, argument) in list.args.iter().enumerate() {
                    let is_pattern = index == 1 && functions::TAKES_PATTERN.contains(&known);
                    self.argument(argument, is_pattern)?;
                }
                for clause in &list.clauses {
                    match clause {
                        FunctionArgumentClause::OrderBy(order) => self.sort(order)?,
                        FunctionArgumentClause::IgnoreOrRespectNulls(_) => {}
                        _ => return Err(refused("a clause of the arguments of a function", name.span())),
                    }
                }
            }
        }
        filter.as_ref().map_or(Ok(()), |filter| self.expression(filter))?;
        self.sort(within_group)?;
        match over {
            Some(WindowType::WindowSpec(window)) => self.window(window),
            Some(WindowType::NamedWindow(_)) | None => Ok(()),
        }
    }

    /// The name of a function that may be called.
    fn called(&mut self, name: &ObjectName) -> Result<&'static str, Fault> {
        let ident = match name.0.as_slice() {
            [part] => part.as_ident(),
            _ => None,
        };
        let Some(ident) = ident else { return Err(refused("a function in a schema", name.span())) };
        let known = functions::offered(&folded(ident));
        let Some(known) = known else {
            let place = place(name.span().start);
            if let Some(reason) = functions::left_out(&folded(ident)) {
                let detail = format!("the function {} is not offered: {reason}", folded(ident));
                return Err(Fault::new(FaultKind::NotAllowed, detail, place));
            }
            return Err(Fault::unknown("function", &ident.value, functions::names(), place));
        };
        self.reads_clock |= functions::READS_CLOCK.contains(&known);
        Ok(known)
    }

    fn argument(&mut self, argument: &FunctionArg, is_pattern: bool) -> Walked {
        let (FunctionArg::Named { arg, .. } | FunctionArg::Unnamed(arg)) = argument else {
            return Err(refused("a named argument of this form", argument.span()));
        };
        match arg {
            FunctionArgExpr::Expr(expression) if is_pattern => self.pattern(expression),
            FunctionArgExpr::Expr(expression) => self.expression(expression),
            FunctionArgExpr::Wildcard | FunctionArgExpr::QualifiedWildcard(_) => Ok(()),
            FunctionArgExpr::WildcardWithOptions(options) => self.wildcard(options),
        }
    }

    pub(super) fn frame_bound(&mut self, bound: &WindowFrameBound) -> Walked {
        match bound {
            WindowFrameBound::CurrentRow => Ok(()),
            WindowFrameBound::Preceding(rows) | WindowFrameBound::Following(rows) => {
                rows.as_ref().map_or(Ok(()), |rows| self.expression(rows))
            }
        }
    }

    /// `generate_series(…)` in FROM: literals alone, which the engine asks for anyway.
    pub(super) fn series_arguments(&mut self, args: &[FunctionArg], span: Span) -> Walked {
        Self::list("the arguments of a function", args.len(), "sql.max_items", 3, span)?;
        args.iter().try_for_each(|argument| self.argument(argument, false))
    }

    pub(super) fn group_by(&mut self, expressions: &[Expr], span: Span) -> Walked {
        Self::list("the items of GROUP BY", expressions.len(), "sql.max_items", self.limits.max_items, span)?;
        let sets = expressions.iter().map(grouping_sets).fold(1, usize::saturating_mul);
        let limit = self.limits.max_grouping_sets;
        Self::list("the grouping sets", sets, "sql.max_grouping_sets", limit, span)?;
        self.all(expressions)
    }
}

/// How many grouping sets an item of GROUP BY makes.
fn grouping_sets(item: &Expr) -> usize {
    let power = |count: usize| 1_usize.checked_shl(u32::try_from(count).unwrap_or(u32::MAX)).unwrap_or(usize::MAX);
    match item {
        Expr::Cube(sets) => power(sets.len()),
        Expr::Rollup(sets) => sets.len() + 1,
        Expr::GroupingSets(sets) => {
            let of_set = |set: &Vec<Expr>| set.iter().map(grouping_sets).fold(1, usize::saturating_mul);
            sets.iter().map(of_set).fold(0, usize::saturating_add)
        }
        Expr::Nested(inner) => grouping_sets(inner),
        _ => 1,
    }
}

/// Types are the engine's own; one by another name could be anything.
fn named_type(data_type: &DataType, span: Span) -> Walked {
    match data_type {
        DataType::Custom(name, _) => {
            Err(refused(&format!("the type {}", crate::sql::fault::shown(&name.to_string())), span))
        }
        DataType::Regclass | DataType::Table(_) | DataType::NamedTable { .. } => Err(refused("this type", span)),
        _ => Ok(()),
    }
}
