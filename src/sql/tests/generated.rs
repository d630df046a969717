//! Statements that are made by chance: what the guard lets pass is a query by the engine's own parser too, reads nothing but
//! relations and CTEs, calls what is offered, and is planned without a panic on the stack of a thread.

use std::ops::ControlFlow;

use datafusion::sql::{
    parser::{DFParserBuilder, Statement},
    sqlparser::ast::{Expr, ObjectName, Query, Statement as SqlStatement, Visit, Visitor},
};

use super::{limits, made::Maker, on_a_stack_of, planned, session};
use crate::sql::{check, functions, guard::dialect::QueryDialect, relations};

/// How many are made in an ordinary run of the tests.
const MADE: usize = 3000;

fn how_many() -> usize {
    crate::fuzz::asked_for("SQL_STATEMENTS").map_or(MADE, |text| text.parse().expect("SQL_STATEMENTS is a number"))
}

#[test]
fn generated_statements_that_pass_are_queries_of_what_is_offered_and_can_be_planned() {
    let (made, passed, plans) = on_a_stack_of(2 << 20, || {
        let (limits, context) = (limits(), session());
        let mut maker = Maker::new(20_240_503);
        let (mut passed, mut plans, made) = (0, 0, how_many());
        for _ in 0..made {
            let sql = maker.statement();
            let Ok(checked) = check(&sql, &limits) else { continue };
            passed += 1;
            holds(&sql);
            let context = &context;
            let planned = planned(context, checked).and_then(|plan| context.state().optimize(&plan));
            plans += usize::from(planned.is_ok());
        }
        (made, passed, plans)
    });
    eprintln!("{made} statements, {passed} pass, {plans} have a plan");
    // Were hardly any let pass, the promise would hold for nothing.
    assert!(passed * 10 > made && plans * 30 > made, "{passed} of {made} pass, {plans} have a plan");
}

/// # Panics
/// Where a statement that passed is no query, or names what is not offered: by another parser and another walk.
fn holds(sql: &str) {
    let dialect = QueryDialect::for_tokens(sql.len());
    let parsed = DFParserBuilder::new(sql).with_dialect(&dialect).with_recursion_limit(200).build();
    let mut statements = parsed.and_then(|mut parser| parser.parse_statements()).unwrap_or_else(|error| {
        panic!("{sql:?} passes and is no SQL: {error}");
    });
    assert_eq!(statements.len(), 1, "{sql:?}");
    let mut statement = statements.pop_front().unwrap();
    if let Statement::Explain(explain) = statement {
        assert!(!explain.options.analyze && !explain.options.verbose, "{sql:?}");
        statement = *explain.statement;
    }
    let Statement::Statement(statement) = statement else { panic!("{sql:?} passes and is {statement:?}") };
    assert!(matches!(*statement, SqlStatement::Query(_)), "{sql:?} passes and is {statement:?}");
    let mut names = Names { ctes: Vec::new(), wrong: Vec::new(), statements: 0 };
    let _ = statement.visit(&mut names);
    assert!(names.wrong.is_empty() && names.statements == 1, "{sql:?} passes and names {:?}", names.wrong);
}

/// Everything that a statement names.
struct Names {
    ctes: Vec<String>,
    wrong: Vec<String>,
    statements: usize,
}

impl Visitor for Names {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let ctes = query.with.iter().flat_map(|with| &with.cte_tables);
        self.ctes.extend(ctes.map(|cte| cte.alias.name.value.to_lowercase()));
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        let name = relation.to_string().trim_matches('"').to_lowercase();
        let known = self.ctes.contains(&name)
            || relations::names().any(|known| known == name)
            || ["generate_series", "range"].contains(&name.as_str());
        if !known {
            self.wrong.push(name);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<()> {
        if let Expr::Function(function) = expression {
            let name = function.name.to_string().trim_matches('"').to_lowercase();
            if functions::offered(&name).is_none() {
                self.wrong.push(name);
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_statement(&mut self, _: &SqlStatement) -> ControlFlow<()> {
        self.statements += 1;
        ControlFlow::Continue(())
    }
}
