//! A set of rows of one file, by their place in it: a bit for each row, so that a set of all rows of a large file is small.

/// Rows, numbered from 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowSet {
    words: Vec<u64>,
    count: u64,
}

impl RowSet {
    /// Adds a row; one that is there already stays.
    pub fn insert(&mut self, row: usize) {
        let (word, bit) = (row / 64, 1 << (row % 64));
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        self.count += u64::from(self.words[word] & bit == 0);
        self.words[word] |= bit;
    }

    /// Adds the rows of another set.
    pub fn extend(&mut self, other: &Self) {
        if self.words.len() < other.words.len() {
            self.words.resize(other.words.len(), 0);
        }
        for (word, more) in self.words.iter_mut().zip(&other.words) {
            self.count += u64::from((*more & !*word).count_ones());
            *word |= more;
        }
    }

    #[must_use]
    pub fn contains(&self, row: usize) -> bool {
        self.words.get(row / 64).is_some_and(|word| word & (1 << (row % 64)) != 0)
    }

    /// The rows, in their order in the file.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(at, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
                rest &= rest - 1;
                Some(at * 64 + bit)
            })
        })
    }

    /// How many rows there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::RowSet;

    #[test]
    fn a_row_counts_once() {
        let mut rows = RowSet::default();
        for row in [3, 64, 3, 1000] {
            rows.insert(row);
        }
        assert_eq!(rows.count(), 3);
        assert!(rows.contains(64) && rows.contains(1000));
        assert!(!rows.contains(4) && !rows.contains(999) && !rows.contains(100_000));
        assert_eq!(rows.iter().collect::<Vec<_>>(), [3, 64, 1000]);
    }
}
