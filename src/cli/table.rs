//! Tables for people: columns as wide as they need, and nothing in a cell that a terminal would obey.

use std::borrow::Cow;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    /// For numbers.
    Right,
}

/// A line of titles, and one for each row.
pub(super) fn table(columns: &[(&str, Align)], rows: &[Vec<String>]) -> Vec<String> {
    let titles = columns.iter().map(|(title, _)| (*title).to_owned()).collect();
    let cells = |row: &Vec<String>| row.iter().map(|cell| clean(cell).into_owned()).collect();
    let lines: Vec<Vec<String>> = std::iter::once(titles).chain(rows.iter().map(cells)).collect();
    let mut widths = vec![0; columns.len()];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let padded = |line: &Vec<String>| {
        let cells = line.iter().zip(columns).zip(&widths).map(|((cell, (_, align)), &width)| match align {
            Align::Left => format!("{cell:<width$}"),
            Align::Right => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    lines.iter().map(padded).collect()
}

/// A text with what a terminal would take for a command, or would hide, written out: it may come from anybody's file.
pub(super) fn clean(text: &str) -> Cow<'_, str> {
    if !text.contains(is_command) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_command(c) { plain.extend(c.escape_default()) } else { plain.push(c) }
    }
    Cow::Owned(plain)
}

/// Control characters, and those that turn the direction of the text after them.
fn is_command(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_end_and_texts_begin_below_one_another() {
        let rows = [["Kitobo", "1050.5000"], ["é", "-3.0000"]].map(|row| row.map(str::to_owned).to_vec());
        let lines = table(&[("site", Align::Left), ("revenue", Align::Right)], &rows);
        assert_eq!(lines, ["site      revenue", "Kitobo  1050.5000", "é         -3.0000"]);
    }

    #[test]
    fn a_cell_commands_no_terminal() {
        let rows = [vec!["a\u{1b}[2Jb\nc\u{202e}d\u{9b}".to_owned()]];
        assert_eq!(table(&[("x", Align::Left)], &rows)[1], "a\\u{1b}[2Jb\\nc\\u{202e}d\\u{9b}");
        assert!(matches!(clean("Otieno, Amina – é"), Cow::Borrowed(_)));
    }
}
