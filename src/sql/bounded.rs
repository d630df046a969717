//! Functions that make a text longer than those they are given: each with its bound on the bytes of a text, which is known
//! before anything is made.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray},
        compute::cast,
        datatypes::{DataType, FieldRef, Int64Type},
    },
    common::{Result, exec_err},
    logical_expr::{
        ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    },
};

/// How the engine's error begins where a text would be too long.
pub(super) const TOO_LONG: &str = "the text would be too long";

/// The texts of one batch together may be as long as this many of the longest.
const OF_A_BATCH: usize = 64;

/// How long the text that a function makes can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Growth {
    /// As all arguments together: `concat`.
    Sum,
    /// The same with the first between each two others: `concat_ws`.
    Joined,
    /// The first as often as the second says: `repeat`.
    Times,
    /// As many characters as the second says: `lpad`, `rpad`.
    Padded,
    /// The third for each time that the second stands in the first: `replace`.
    Replaced,
    /// The third, with parts of the first in it, at every character of the first: `regexp_replace`.
    Matched,
    /// Twice the first: `encode`.
    Twice,
    /// No text, but a step for each character of one and of the other: `levenshtein`.
    Compared,
}

fn growth(function: &str) -> Option<Growth> {
    Some(match function {
        "concat" => Growth::Sum,
        "concat_ws" => Growth::Joined,
        "repeat" => Growth::Times,
        "lpad" | "rpad" => Growth::Padded,
        "replace" => Growth::Replaced,
        "regexp_replace" => Growth::Matched,
        "encode" => Growth::Twice,
        "levenshtein" => Growth::Compared,
        _ => return None,
    })
}

/// The function with its texts bounded, where it can make any that are longer than those it is given.
pub(super) fn within(function: Arc<ScalarUDF>, most_bytes: usize) -> Arc<ScalarUDF> {
    match growth(function.name()) {
        Some(growth) => Arc::new(ScalarUDF::from(Bounded { function, growth, most_bytes })),
        None => function,
    }
}

/// It is the function to whoever plans with it. What is not passed on is how the engine would simplify a call, because that
/// makes another call of the function without its bound.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    function: Arc<ScalarUDF>,
    growth: Growth,
    most_bytes: usize,
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn aliases(&self) -> &[String] {
        self.function.aliases()
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.function.schema_name(args)
    }

    fn signature(&self) -> &Signature {
        self.function.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.function.return_type(arg_types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.function.return_field_from_args(args)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.function.coerce_types(arg_types)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.function.documentation()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalar = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if scalar { 1 } else { args.number_rows };
        let arrays: Vec<ArrayRef> = args.args.iter().map(|arg| arg.to_array(rows)).collect::<Result<_>>()?;
        let mut of_batch = 0_usize;
        for bytes in self.growth.bytes(&arrays, rows)? {
            of_batch = of_batch.saturating_add(bytes);
            if bytes > self.most_bytes || of_batch > self.most_bytes.saturating_mul(OF_A_BATCH) {
                return exec_err!("{TOO_LONG}");
            }
        }
        self.function.invoke_with_args(args)
    }
}

impl Growth {
    /// By row, what the text has at most.
    fn bytes(self, arguments: &[ArrayRef], rows: usize) -> Result<Vec<usize>> {
        let text = |index: usize| arguments.get(index).map_or_else(|| Ok(vec![0; rows]), lengths);
        let number = |index: usize| arguments.get(index).map_or_else(|| Ok(vec![0; rows]), numbers);
        let of_two = |one: Vec<usize>, two: Vec<usize>, of: fn(usize, usize) -> usize| -> Vec<usize> {
            one.into_iter().zip(two).map(|(one, two)| of(one, two)).collect()
        };
        Ok(match self {
            Self::Twice => text(0)?.into_iter().map(|bytes| bytes.saturating_mul(2)).collect(),
            Self::Compared => of_two(text(0)?, text(1)?, usize::saturating_mul),
            Self::Times => of_two(text(0)?, number(1)?, usize::saturating_mul),
            // Four bytes a character.
            Self::Padded => number(1)?.into_iter().map(|characters| characters.saturating_mul(4)).collect(),
            Self::Sum => {
                let mut sum = vec![0; rows];
                for argument in arguments {
                    sum = of_two(sum, lengths(argument)?, usize::saturating_add);
                }
                sum
            }
            Self::Joined => {
                let between = text(0)?.into_iter().map(|bytes| bytes.saturating_mul(arguments.len())).collect();
                of_two(Self::Sum.bytes(arguments, rows)?, between, usize::saturating_add)
            }
            Self::Replaced => {
                let times = of_two(text(0)?, text(1)?, |text, part| text.checked_div(part).unwrap_or(text + 1));
                let more = of_two(times, text(2)?, usize::saturating_mul);
                of_two(text(0)?, more, usize::saturating_add)
            }
            Self::Matched => of_two(text(0)?, text(2)?, |text, by| {
                // Once at every character, and each part of `by` may stand for all of the text once.
                (text + 1).saturating_mul(by).saturating_mul(2).saturating_add(text)
            }),
        })
    }
}

/// The bytes of each text; 0 of a null.
fn lengths(texts: &ArrayRef) -> Result<Vec<usize>> {
    let texts = match texts.data_type() {
        DataType::Utf8View => Arc::clone(texts),
        _ => cast(texts, &DataType::Utf8View)?,
    };
    let view = texts.as_string_view();
    Ok((0..view.len()).map(|row| if view.is_null(row) { 0 } else { view.value(row).len() }).collect())
}

/// The numbers; 0 of a null and of what is below zero.
fn numbers(numbers: &ArrayRef) -> Result<Vec<usize>> {
    let numbers = cast(numbers, &DataType::Int64)?;
    let numbers = numbers.as_primitive::<Int64Type>();
    Ok((0..numbers.len())
        .map(|row| if numbers.is_null(row) { 0 } else { usize::try_from(numbers.value(row)).unwrap_or(0) })
        .collect())
}
