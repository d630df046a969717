//! What SQL may call: one list, which the guard compares names with and a session registers, so that the two cannot differ.
//! What the engine has beyond it is in [`LEFT_OUT`], with the reason; a test holds the two lists against the engine's own.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use datafusion::{
    catalog::TableFunction,
    functions, functions_aggregate, functions_nested, functions_table, functions_window,
    logical_expr::{AggregateUDF, ScalarUDF, WindowUDF},
};

use serde::Serialize;
use utoipa::ToSchema;

use super::bounded;
use crate::{config::SqlLimits, query};

/// The engine's functions of one value that are offered.
#[rustfmt::skip]
const SCALAR: &[&str] = &[
    // Nulls and types.
    "arrow_typeof", "coalesce", "greatest", "least", "nullif", "nvl", "nvl2", "get_field", "named_struct", "struct",
    // Numbers.
    "abs", "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "ceil", "cos", "cosh", "cot", "degrees", "exp",
    "factorial", "floor", "gcd", "isnan", "iszero", "lcm", "ln", "log", "log10", "log2", "nanvl", "pi", "power", "radians",
    "round", "signum", "sin", "sinh", "sqrt", "tan", "tanh", "trunc",
    // Texts.
    "ascii", "bit_length", "btrim", "character_length", "chr", "concat", "concat_ws", "contains", "decode", "encode",
    "ends_with", "find_in_set", "initcap", "left", "levenshtein", "lower", "lpad", "ltrim", "octet_length", "overlay",
    "regexp_count", "regexp_instr", "regexp_like", "regexp_match", "regexp_replace", "repeat", "replace", "reverse", "right",
    "rpad", "rtrim", "split_part", "starts_with", "strpos", "substr", "substr_index", "to_hex", "translate", "upper",
    // Times.
    "current_date", "current_time", "date_bin", "date_part", "date_trunc", "from_unixtime", "make_date", "make_time", "now",
    "to_char", "to_date", "to_local_time", "to_time", "to_timestamp", "to_timestamp_micros", "to_timestamp_millis",
    "to_timestamp_nanos", "to_timestamp_seconds", "to_unixtime",
    // Arrays.
    "array_any_value", "array_append", "array_avg", "array_compact", "array_concat", "array_dims", "array_distinct",
    "array_element", "array_except", "array_has", "array_has_all", "array_has_any", "array_intersect", "array_length",
    "array_max", "array_min", "array_ndims", "array_pop_back", "array_pop_front", "array_position", "array_positions",
    "array_prepend", "array_remove", "array_remove_all", "array_remove_n", "array_replace", "array_replace_all",
    "array_replace_n", "array_reverse", "array_slice", "array_sort", "array_sum", "array_to_string", "array_union",
    "cardinality", "empty", "flatten", "make_array", "string_to_array",
];

/// The engine's aggregates that are offered.
#[rustfmt::skip]
const AGGREGATE: &[&str] = &[
    "any_value", "approx_distinct", "array_agg", "avg", "bit_and", "bit_or", "bit_xor", "bool_and", "bool_or", "corr", "count",
    "covar_pop", "covar_samp", "first_value", "grouping", "last_value", "max", "median", "min", "nth_value", "percentile_cont",
    "regr_avgx", "regr_avgy", "regr_count", "regr_intercept", "regr_r2", "regr_slope", "regr_sxx", "regr_sxy", "regr_syy",
    "stddev", "stddev_pop", "string_agg", "sum", "var", "var_pop",
];

/// The engine's window functions that are offered.
#[rustfmt::skip]
const WINDOW: &[&str] = &[
    "cume_dist", "dense_rank", "first_value", "lag", "last_value", "lead", "nth_value", "ntile", "percent_rank", "rank", "row_number",
];

/// Functions in FROM. They stream, so that a long series costs time, which a deadline ends, and no memory.
pub(super) const TABLE: [&str; 2] = ["generate_series", "range"];

/// A name that the planner knows without a registry: the rows of an array.
const UNNEST: &str = "unnest";

/// Those whose second argument is a regular expression.
pub(super) const TAKES_PATTERN: [&str; 5] =
    ["regexp_count", "regexp_instr", "regexp_like", "regexp_match", "regexp_replace"];

/// Those whose answer changes with the time of day.
pub(super) const READS_CLOCK: [&str; 3] = ["now", "current_date", "current_time"];

const CHANCE: &str = "the same question is to have the same answer";
const FILES: &str = "it tells of files and settings";
const ORDER: &str =
    "its answer changes with the order of the files; percentile_cont, median and exact_median are exact";
const TYPES: &str = "CAST and TRY_CAST do this";
const GROWS: &str = "it makes a value of any size; generate_series in FROM gives rows";
const VECTORS: &str = "it is for vectors and maps, which there are none of here";

/// What the engine has and SQL may not call, and why.
#[rustfmt::skip]
const LEFT_OUT: &[(&str, &str)] = &[
    ("random", CHANCE), ("uuid", CHANCE),
    ("approx_median", ORDER), ("approx_percentile_cont", ORDER), ("approx_percentile_cont_with_weight", ORDER),
    ("version", FILES), ("input_file_name", FILES), ("file_row_index", FILES), ("arrow_metadata", FILES), ("arrow_field", FILES),
    ("with_metadata", FILES),
    ("arrow_cast", TYPES), ("arrow_try_cast", TYPES), ("cast_to_type", TYPES), ("try_cast_to_type", TYPES),
    ("generate_series", GROWS), ("range", GROWS), ("array_repeat", GROWS), ("array_resize", GROWS),
    ("union_extract", VECTORS), ("union_tag", VECTORS), ("map", VECTORS), ("map_entries", VECTORS), ("map_extract", VECTORS),
    ("map_keys", VECTORS), ("map_values", VECTORS), ("array_add", VECTORS), ("array_distance", VECTORS), ("array_normalize", VECTORS),
    ("array_product", VECTORS), ("array_scale", VECTORS), ("array_subtract", VECTORS), ("arrays_zip", VECTORS),
    ("cosine_distance", VECTORS), ("inner_product", VECTORS),
];

/// Functions of one value, for a session: the engine's, those that could make a text of any size within limits, and ours.
#[must_use]
pub fn scalar(limits: &SqlLimits) -> Vec<Arc<ScalarUDF>> {
    let engine = [functions::all_default_functions(), functions_nested::all_default_nested_functions()].concat();
    let offered = engine.into_iter().filter(|function| SCALAR.contains(&function.name()));
    let mut all: Vec<_> = offered.map(|function| bounded::within(function, limits.max_text_bytes)).collect();
    all.push(query::local_period());
    all
}

/// Aggregates, for a session.
#[must_use]
pub fn aggregate() -> Vec<Arc<AggregateUDF>> {
    let engine = functions_aggregate::all_default_aggregate_functions();
    let mut all: Vec<_> = engine.into_iter().filter(|function| AGGREGATE.contains(&function.name())).collect();
    all.extend([query::exact_median(), query::nearest_rank()]);
    all
}

/// Window functions, for a session.
#[must_use]
pub fn window() -> Vec<Arc<WindowUDF>> {
    let engine = functions_window::all_default_window_functions();
    engine.into_iter().filter(|function| WINDOW.contains(&function.name())).collect()
}

/// Functions in FROM, for a session.
#[must_use]
pub fn table() -> Vec<Arc<TableFunction>> {
    let engine = functions_table::all_default_table_functions();
    engine.into_iter().filter(|function| TABLE.contains(&function.name())).collect()
}

/// All of them, for a session.
#[must_use]
pub fn all(limits: &SqlLimits) -> query::Callable {
    query::Callable { scalar: scalar(limits), aggregate: aggregate(), window: window(), table: table() }
}

/// What a function is called for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = SqlFunctionKind)]
pub enum Kind {
    /// Of one row.
    Scalar,
    /// Of many rows, with GROUP BY or OVER.
    Aggregate,
    /// With OVER.
    Window,
    /// In FROM.
    Table,
}

/// By each name that may be called: the function's own name, and what it is for.
static NAMES: LazyLock<BTreeMap<String, (&'static str, Kind)>> = LazyLock::new(|| {
    let own = |name: &str| -> Option<&'static str> {
        let ours = [UNNEST, "local_period", "exact_median", "nearest_rank"];
        [SCALAR, AGGREGATE, WINDOW, &ours].into_iter().flatten().find(|known| **known == name).copied()
    };
    let mut names = BTreeMap::from([(UNNEST.to_owned(), (UNNEST, Kind::Scalar))]);
    let mut add = |name: &str, aliases: &[String], kind: Kind| {
        let Some(own) = own(name) else { return };
        for name in aliases.iter().map(String::as_str).chain([name]) {
            names.entry(name.to_owned()).or_insert((own, kind));
        }
    };
    for function in scalar(&SqlLimits::default()) {
        add(function.name(), function.aliases(), Kind::Scalar);
    }
    for function in aggregate() {
        add(function.name(), function.aliases(), Kind::Aggregate);
    }
    for function in window() {
        add(function.name(), function.aliases(), Kind::Window);
    }
    names
});

/// The own name of a function that may be called by this name.
pub(super) fn offered(name: &str) -> Option<&'static str> {
    NAMES.get(name).map(|(own, _)| *own)
}

/// Why a function of the engine may not be called.
pub(super) fn left_out(name: &str) -> Option<&'static str> {
    LEFT_OUT.iter().find(|(left_out, _)| *left_out == name).map(|(_, reason)| *reason)
}

/// Every name that may be called.
pub fn names() -> impl Iterator<Item = &'static str> {
    NAMES.keys().map(String::as_str)
}

/// Every name that may be called, and what it is for.
pub fn listed() -> impl Iterator<Item = (&'static str, Kind)> {
    let named = NAMES.iter().map(|(name, (_, kind))| (name.as_str(), *kind));
    named.chain(TABLE.map(|name| (name, Kind::Table)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_function_of_the_engine_is_offered_or_left_out_for_a_reason() {
        let mut engine: BTreeSet<String> = BTreeSet::new();
        engine.extend(functions::all_default_functions().iter().map(|function| function.name().to_owned()));
        engine
            .extend(functions_nested::all_default_nested_functions().iter().map(|function| function.name().to_owned()));
        engine.extend(functions_aggregate::all_default_aggregate_functions().iter().map(|f| f.name().to_owned()));
        engine.extend(functions_window::all_default_window_functions().iter().map(|f| f.name().to_owned()));
        let offered = [SCALAR, AGGREGATE, WINDOW].concat();
        let left_out = LEFT_OUT.iter().map(|(name, _)| *name);
        let decided: BTreeSet<String> = offered.iter().copied().chain(left_out).map(str::to_owned).collect();
        assert_eq!(decided.difference(&engine).collect::<Vec<_>>(), [""; 0], "the engine has no such function");
        assert_eq!(engine.difference(&decided).collect::<Vec<_>>(), [""; 0], "nobody decided about them");
        assert!(LEFT_OUT.iter().all(|(name, _)| !offered.contains(name)));
    }

    #[test]
    fn no_name_that_may_be_called_reads_files_settings_or_chance() {
        for name in
            ["random", "uuid", "gen_random_uuid", "version", "input_file_name", "arrow_metadata", "map", "range"]
        {
            assert_eq!(offered(name), None, "{name}");
        }
        for (name, own) in [("mean", "avg"), ("char_length", "character_length"), ("current_timestamp", "now")] {
            assert_eq!(offered(name), Some(own));
        }
    }
}
