//! Chance, the same again for the same seed: for fuzz targets, and for statements of SQL.

use std::ops::Range;

/// A sequence of numbers that its seed settles. (`SplitMix64`: Steele, Lea, Flood, 2014)
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; 0 where there is none.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.number() >> 8).unwrap_or(usize::MAX).checked_rem(end).unwrap_or(0)
    }

    pub(crate) fn of<'a, T: ?Sized>(&mut self, choices: &'a [impl AsRef<T>]) -> &'a T {
        choices[self.below(choices.len())].as_ref()
    }

    /// A stretch of something so long, short more often than long.
    pub(crate) fn stretch(&mut self, length: usize) -> Range<usize> {
        let start = self.below(length + 1);
        let most = if self.below(4) == 0 { length } else { 8 };
        start..(start + 1 + self.below(most)).min(length)
    }
}
