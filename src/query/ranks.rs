//! Exact ranks of amounts: `exact_median(amount)` and `nearest_rank(amount, percent)`.
//!
//! The engine's own median halves with a truncated division, its percentiles interpolate or approximate, and ranks that are
//! counted in a window cost a sort of all rows. These keep the amounts of each group and look for the ones in the middle.

use std::{any::Any, mem, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Int64Array, ListArray},
    buffer::OffsetBuffer,
    datatypes::{DataType, Decimal128Type, Field, FieldRef, Int64Type},
};
use datafusion::{
    common::{Result, ScalarValue, exec_datafusion_err, exec_err, plan_datafusion_err},
    logical_expr::{
        Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, Volatility,
        function::{AccumulatorArgs, StateFieldsArgs},
        utils::format_state_name,
    },
    physical_expr::expressions::Literal,
};

use crate::payments::schema::{AMOUNT, AMOUNT_PRECISION, AMOUNT_SCALE};

/// Amounts of a group that are kept one by one; more of them are counted by their value, of which there are fewer.
const KEPT: usize = 1 << 20;

/// Which amount is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Rank {
    /// The middle one, or the mean of the middle two, rounded half away from zero.
    Median,
    /// The least amount that at least so many percent of the amounts do not exceed; the percent are the second argument.
    Nearest,
}

/// One of the two functions.
#[derive(Debug, PartialEq, Eq, Hash)]
struct AmountRank {
    rank: Rank,
    signature: Signature,
}

/// `exact_median(amount)`, for a session's registry.
#[must_use]
pub fn exact_median() -> Arc<AggregateUDF> {
    function(Rank::Median, vec![AMOUNT])
}

/// `nearest_rank(amount, percent)`, for a session's registry. The percent are a literal from 1 to 100.
#[must_use]
pub fn nearest_rank() -> Arc<AggregateUDF> {
    function(Rank::Nearest, vec![AMOUNT, DataType::Int64])
}

fn function(rank: Rank, arguments: Vec<DataType>) -> Arc<AggregateUDF> {
    let signature = Signature::exact(arguments, Volatility::Immutable);
    Arc::new(AggregateUDF::from(AmountRank { rank, signature }))
}

impl AmountRank {
    fn ranks(&self, arguments: &AccumulatorArgs<'_>) -> Result<Ranks> {
        let percent = match self.rank {
            Rank::Median => None,
            Rank::Nearest => {
                let percent = arguments.exprs.get(1).and_then(|expr| {
                    let expr: &dyn Any = expr.as_ref();
                    expr.downcast_ref::<Literal>().map(Literal::value)
                });
                match percent {
                    Some(ScalarValue::Int64(Some(percent @ 1..=100))) => u64::try_from(*percent).ok(),
                    _ => return Err(plan_datafusion_err!("the percent of nearest_rank are a literal from 1 to 100")),
                }
            }
        };
        Ok(Ranks { percent, groups: Vec::new(), bytes: 0 })
    }
}

impl AggregateUDFImpl for AmountRank {
    fn name(&self) -> &'static str {
        match self.rank {
            Rank::Median => "exact_median",
            Rank::Nearest => "nearest_rank",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(AMOUNT)
    }

    /// Two lists a group: amounts, and how often the last of them came; the others came once.
    fn state_fields(&self, arguments: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let list = |name| {
            let name = format_state_name(arguments.name, name);
            Arc::new(Field::new(name, DataType::List(list_item()), false))
        };
        Ok(vec![list("amounts"), list("times")])
    }

    fn accumulator(&self, arguments: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(OneGroup(self.ranks(&arguments)?)))
    }

    fn groups_accumulator_supported(&self, arguments: AccumulatorArgs<'_>) -> bool {
        !arguments.is_distinct
    }

    fn create_groups_accumulator(&self, arguments: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(self.ranks(&arguments)?))
    }
}

fn list_item() -> FieldRef {
    Arc::new(Field::new_list_field(DataType::Int64, false))
}

/// The amounts of one group, in ten-thousandths.
#[derive(Clone, Debug, Default)]
struct Amounts {
    /// In any order.
    kept: Vec<i64>,
    /// Distinct amounts in order, and how often they came.
    counted: Vec<(i64, u64)>,
}

impl Amounts {
    /// Counts what is kept once it is much. That takes a sort of what is there, so it waits until that has doubled.
    fn settle(&mut self) {
        if self.kept.len() >= KEPT.max(self.counted.len()) {
            self.count();
        }
    }

    /// Adds the state of others: amounts of which the last ones come with how often they came.
    fn add(&mut self, amounts: &[i64], times: &[i64]) {
        let (kept, counted) = amounts.split_at(amounts.len().saturating_sub(times.len()));
        self.kept.extend_from_slice(kept);
        if !counted.is_empty() {
            let times = times.iter().map(|times| times.unsigned_abs());
            self.merge(counted.iter().copied().zip(times));
        }
        self.settle();
    }

    /// Counts the amounts that are kept one by one.
    fn count(&mut self) {
        let mut kept = mem::take(&mut self.kept);
        kept.sort_unstable();
        self.merge(kept.into_iter().map(|amount| (amount, 1)));
    }

    /// Adds amounts that come in order.
    fn merge(&mut self, more: impl Iterator<Item = (i64, u64)>) {
        let mut before = mem::take(&mut self.counted).into_iter().peekable();
        let mut more = more.peekable();
        let mut merged: Vec<(i64, u64)> = Vec::with_capacity(before.len());
        loop {
            let take_before = match (before.peek(), more.peek()) {
                (Some(a), Some(b)) => a.0 <= b.0,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (None, None) => break,
            };
            let next = if take_before { before.next() } else { more.next() };
            match (merged.last_mut(), next) {
                (Some(last), Some((amount, times))) if last.0 == amount => last.1 += times,
                (_, next) => merged.extend(next),
            }
        }
        self.counted = merged;
    }

    /// How many amounts there are.
    fn len(&self) -> u64 {
        self.counted.iter().map(|(_, times)| times).sum::<u64>() + self.kept.len() as u64
    }

    /// The amount of this place in order, from 1.
    fn at(&mut self, place: u64) -> Option<i64> {
        if self.counted.is_empty() {
            let index = usize::try_from(place.checked_sub(1)?).ok()?;
            return (index < self.kept.len()).then(|| *self.kept.select_nth_unstable(index).1);
        }
        if !self.kept.is_empty() {
            self.count();
        }
        let mut passed = 0;
        self.counted.iter().find_map(|(amount, times)| {
            passed += times;
            (passed >= place).then_some(*amount)
        })
    }

    /// What is asked for; nothing of no amounts.
    fn rank(&mut self, percent: Option<u64>) -> Option<i128> {
        let count = self.len();
        if let Some(percent) = percent {
            return self.at((count * percent).div_ceil(100)).map(i128::from);
        }
        let sum = i128::from(self.at(count.div_ceil(2))?) + i128::from(self.at(count / 2 + 1)?);
        Some(half(sum))
    }

    fn bytes(&self) -> usize {
        self.kept.capacity() * size_of::<i64>() + self.counted.capacity() * size_of::<(i64, u64)>()
    }
}

/// The amounts of all groups.
#[derive(Debug)]
struct Ranks {
    /// None for the median.
    percent: Option<u64>,
    groups: Vec<Amounts>,
    /// What the groups take, themselves aside.
    bytes: usize,
}

impl Ranks {
    /// Applies a change to one group and keeps account of its memory.
    fn change(&mut self, group: usize, change: impl FnOnce(&mut Amounts) -> Result<()>) -> Result<()> {
        let group = &mut self.groups[group];
        let before = group.bytes();
        let changed = change(group);
        self.bytes = self.bytes + group.bytes() - before;
        changed
    }

    fn take(&mut self, emit: EmitTo) -> Vec<Amounts> {
        let taken = emit.take_needed(&mut self.groups);
        self.bytes -= taken.iter().map(Amounts::bytes).sum::<usize>();
        taken
    }
}

impl GroupsAccumulator for Ranks {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.groups.resize_with(total_num_groups, Amounts::default);
        let amounts = values[0].as_primitive::<Decimal128Type>();
        let passes =
            |row: usize| amounts.is_valid(row) && filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
        let mut row = 0;
        // Rows of one group mostly follow one another.
        for run in group_indices.chunk_by(|one, next| one == next) {
            let rows = row..row + run.len();
            row = rows.end;
            self.change(run[0], |group| {
                group.kept.reserve(rows.len());
                for row in rows.filter(|row| passes(*row)) {
                    let amount = i64::try_from(amounts.value(row));
                    group.kept.push(amount.map_err(|_| exec_datafusion_err!("an amount is larger than its type"))?);
                }
                group.settle();
                Ok(())
            })?;
        }
        Ok(())
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let percent = self.percent;
        let ranks = self.take(emit).into_iter().map(|mut amounts| amounts.rank(percent));
        let ranks: Decimal128Array = ranks.collect();
        Ok(Arc::new(ranks.with_precision_and_scale(AMOUNT_PRECISION, AMOUNT_SCALE)?))
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        let groups = self.take(emit);
        let amounts = groups.iter().map(|group| group.kept.len() + group.counted.len());
        let amount_offsets = OffsetBuffer::from_lengths(amounts);
        let time_offsets = OffsetBuffer::from_lengths(groups.iter().map(|group| group.counted.len()));
        let times: Vec<i64> = groups
            .iter()
            .flat_map(|group| group.counted.iter().map(|(_, times)| i64::try_from(*times).unwrap_or(i64::MAX)))
            .collect();
        let mut amounts: Vec<i64> = Vec::new();
        for group in groups {
            // Of one group nothing is copied.
            if amounts.is_empty() {
                amounts = group.kept;
            } else {
                amounts.extend(group.kept);
            }
            amounts.extend(group.counted.iter().map(|(amount, _)| amount));
        }
        let list = |offsets, values: Vec<i64>| -> Result<ArrayRef> {
            Ok(Arc::new(ListArray::try_new(list_item(), offsets, Arc::new(Int64Array::from(values)), None)?))
        };
        Ok(vec![list(amount_offsets, amounts)?, list(time_offsets, times)?])
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.groups.resize_with(total_num_groups, Amounts::default);
        let [amounts, times] = values else { return exec_err!("a state of ranks has two lists") };
        let (amounts, times) = (amounts.as_list::<i32>(), times.as_list::<i32>());
        for (row, group) in group_indices.iter().enumerate() {
            let (amounts, times) = (amounts.value(row), times.value(row));
            let (amounts, times) = (amounts.as_primitive::<Int64Type>(), times.as_primitive::<Int64Type>());
            self.change(*group, |group| {
                group.add(amounts.values(), times.values());
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Each row as a group of its own, for groups that are nearly as many as the rows.
    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let rows = values[0].len();
        let mut each = Ranks { percent: self.percent, groups: Vec::new(), bytes: 0 };
        each.update_batch(values, &(0..rows).collect::<Vec<_>>(), filter, rows)?;
        each.state(EmitTo::All)
    }

    fn size(&self) -> usize {
        self.bytes + self.groups.capacity() * size_of::<Amounts>()
    }
}

/// The same of rows that are not grouped.
#[derive(Debug)]
struct OneGroup(Ranks);

impl Accumulator for OneGroup {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.0.update_batch(values, &vec![0; values[0].len()], None, 1)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.0.groups.resize_with(1, Amounts::default);
        ScalarValue::try_from_array(&self.0.evaluate(EmitTo::All)?, 0)
    }

    fn size(&self) -> usize {
        self.0.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.0.groups.resize_with(1, Amounts::default);
        self.0.state(EmitTo::All)?.iter().map(|list| ScalarValue::try_from_array(list, 0)).collect()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.0.merge_batch(states, &vec![0; states[0].len()], 1)
    }
}

/// Half of it, rounded away from zero.
fn half(sum: i128) -> i128 {
    let away = sum + sum.signum();
    away / 2
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The rank by its definition, of amounts in any order.
    fn by_definition(amounts: &[i64], percent: Option<u64>) -> Option<i128> {
        let mut sorted = amounts.to_vec();
        sorted.sort_unstable();
        let count = sorted.len();
        let at = |index: usize| sorted.get(index).copied().map(i128::from);
        if let Some(percent) = percent {
            let enough = |index: &usize| (*index as u64 + 1) * 100 >= count as u64 * percent;
            return (0..count).find(enough).and_then(at);
        }
        let sum = at((count.max(1) - 1) / 2)? + at(count / 2)?;
        Some(if sum % 2 == 0 { sum / 2 } else { half(sum) })
    }

    proptest! {
        #[test]
        fn a_rank_is_the_same_whether_amounts_are_kept_or_counted_and_however_they_are_brought_together(
            parts in prop::collection::vec((prop::collection::vec(-9_i64..9, 0..30), any::<bool>()), 1..5),
            percent in prop::option::of(1_u64..=100),
        ) {
            let ranks = |groups| Ranks { percent, groups, bytes: 0 };
            let mut whole = ranks(vec![Amounts::default()]);
            for (amounts, counted) in &parts {
                let mut part = ranks(vec![Amounts::default()]);
                let column: Decimal128Array = amounts.iter().map(|amount| Some(i128::from(*amount))).collect();
                part.update_batch(&[Arc::new(column)], &vec![0; amounts.len()], None, 1).unwrap();
                if *counted {
                    part.groups[0].count();
                    part.bytes = part.groups[0].bytes();
                }
                let state = part.state(EmitTo::All).unwrap();
                prop_assert_eq!(part.bytes, 0, "what is given away is not accounted for");
                whole.merge_batch(&state, &[0], 1).unwrap();
            }
            let all: Vec<i64> = parts.into_iter().flat_map(|(amounts, _)| amounts).collect();
            let found = whole.evaluate(EmitTo::All).unwrap();
            let found = found.as_primitive::<Decimal128Type>();
            let found = found.is_valid(0).then(|| found.value(0));
            prop_assert_eq!(found, by_definition(&all, percent));
        }
    }

    #[test]
    fn many_amounts_of_few_values_take_little_memory() {
        let mut amounts = Amounts::default();
        for round in 0..i64::try_from(KEPT).unwrap() * 3 {
            amounts.kept.push(round % 10);
            amounts.settle();
        }
        assert!(amounts.bytes() <= KEPT * 2 * size_of::<i64>(), "{}", amounts.bytes());
        assert_eq!(
            (amounts.len(), amounts.at(1), amounts.at(amounts.clone().len())),
            (KEPT as u64 * 3, Some(0), Some(9))
        );
    }
}
