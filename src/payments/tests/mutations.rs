//! Files as people have them, with the damage that happens to files: whatever comes of it, it adds up, and what is accepted
//! means what the bytes say.

use std::{fs, path::Path, sync::LazyLock};

use proptest::{prelude::*, sample::Index};

use super::{reference::assert_adds_up, *};
use crate::payments::definition;

/// Lines of a damaged file at most, the header aside: the damage is to meet the rows.
const LINES: usize = 20;

/// One thing that goes wrong with a file.
#[derive(Clone, Debug)]
enum Damage {
    Set(Index, u8),
    Insert(Index, u8),
    Delete(Index, usize),
    Duplicate(Index, usize),
    Swap(Index, Index),
    /// What the end of a transfer that breaks off does.
    Cut(Index),
    /// Takes a line end out.
    Join(Index),
    /// A line stands twice.
    Repeat(Index),
    /// Every one of a kind becomes another: quotes, delimiters, line ends.
    Replace(&'static str, &'static str),
    Recode(Encoding),
}

#[derive(Clone, Copy, Debug)]
enum Encoding {
    Utf8WithMark,
    Latin1,
    Utf16Little,
    Utf16Big,
}

impl Damage {
    fn to(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let end = bytes.len();
        let stretch = |at: &Index, length: usize| at.index(end)..(at.index(end) + length).min(end);
        match self {
            Self::Set(at, byte) => *at.get_mut(bytes) = *byte,
            Self::Insert(at, byte) => bytes.insert(at.index(end + 1), *byte),
            Self::Delete(at, length) => drop(bytes.drain(stretch(at, *length))),
            Self::Duplicate(at, length) => {
                let here = stretch(at, *length);
                let again = bytes[here.clone()].to_vec();
                drop(bytes.splice(here.end..here.end, again));
            }
            Self::Swap(one, other) => bytes.swap(one.index(end), other.index(end)),
            Self::Cut(at) => bytes.truncate(at.index(end)),
            Self::Join(at) | Self::Repeat(at) => {
                let mut lines: Vec<Vec<u8>> =
                    bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
                let line = at.index(lines.len());
                if matches!(self, Self::Join(_)) {
                    while lines[line].last().is_some_and(u8::is_ascii_whitespace) {
                        lines[line].pop();
                    }
                } else {
                    lines.insert(line, lines[line].clone());
                }
                *bytes = lines.concat();
            }
            Self::Replace(from, to) => *bytes = replace(bytes, from.as_bytes(), to.as_bytes()),
            Self::Recode(encoding) => *bytes = recode(bytes, *encoding),
        }
    }
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let (mut replaced, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let (piece, length) = if bytes[at..].starts_with(from) { (to, from.len()) } else { (&bytes[at..=at], 1) };
        replaced.extend_from_slice(piece);
        at += length;
    }
    replaced
}

fn recode(bytes: &[u8], encoding: Encoding) -> Vec<u8> {
    let text = String::from_utf8_lossy(bytes);
    let wide = |mark: [u8; 2], order: fn(u16) -> [u8; 2]| {
        [mark].into_iter().chain(text.encode_utf16().map(order)).flatten().collect()
    };
    match encoding {
        Encoding::Utf8WithMark => format!("\u{feff}{text}").into_bytes(),
        Encoding::Latin1 => text.chars().map(|c| u8::try_from(c).unwrap_or(b'?')).collect(),
        Encoding::Utf16Little => wide([0xff, 0xfe], u16::to_le_bytes),
        Encoding::Utf16Big => wide([0xfe, 0xff], u16::to_be_bytes),
    }
}

fn damage() -> impl Strategy<Value = Damage> {
    let byte = || prop_oneof![proptest::sample::select(b"\",\n\r\0;' \t0Ee.+-".to_vec()), any::<u8>()];
    let place = any::<Index>;
    let kinds = [
        ("\"", "'"),
        ("\"", "“"),
        ("\"", "\"\""),
        ("\"", ""),
        (",", ";"),
        (",", "\t"),
        (",", ", "),
        (",", "\",\""),
        ("\n", "\r\n"),
        ("\n", "\r"),
        ("\n", "\n\n"),
        ("\n", " \n"),
        (".", ","),
        ("0", "O"),
        ("-", "/"),
        ("T", " "),
        (" ", "\u{a0}"),
    ];
    let encodings = [Encoding::Utf8WithMark, Encoding::Latin1, Encoding::Utf16Little, Encoding::Utf16Big];
    prop_oneof![
        4 => (place(), byte()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        4 => (place(), byte()).prop_map(|(at, byte)| Damage::Insert(at, byte)),
        4 => (place(), 1_usize..40).prop_map(|(at, length)| Damage::Delete(at, length)),
        3 => (place(), 1_usize..200).prop_map(|(at, length)| Damage::Duplicate(at, length)),
        2 => (place(), place()).prop_map(|(one, other)| Damage::Swap(one, other)),
        1 => place().prop_map(Damage::Cut),
        2 => place().prop_map(Damage::Join),
        1 => place().prop_map(Damage::Repeat),
        2 => proptest::sample::select(kinds.to_vec()).prop_map(|(from, to)| Damage::Replace(from, to)),
        1 => proptest::sample::select(encodings.to_vec()).prop_map(Damage::Recode),
    ]
}

/// The files of `data/`, the template, and a file with all that CSV allows.
static FILES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("data")];
    let mut paths = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().is_some_and(|name| name == definition::FILE_NAME) {
                paths.push(path);
            }
        }
    }
    paths.sort();
    assert!(paths.len() > 5, "data/ has the demo's files and the samples");
    let files = paths.into_iter().map(|path| fs::read(path).unwrap());
    files.chain([definition::PAYMENTS.template().into_bytes(), with_quotes()]).collect()
});

fn with_quotes() -> Vec<u8> {
    let rows = [
        GOOD,
        &with("NOTES", "\"a, \"\"b\"\"\nc\""),
        &with("CUSTOMER NAME", "\"Traders, Ltd.\""),
        &with("NOTES", "règlement tardif"),
        &with("NOTES", "five\"inch"),
        "",
        &with("LOCATION", "\"\"\"Site\"\"\r\n7\""),
        GOOD,
    ];
    file(&rows).into_bytes()
}

/// The header of a file and a few of its lines.
fn some_of(file: &[u8], from: Index) -> Vec<u8> {
    let lines: Vec<&[u8]> = file.split_inclusive(|byte| *byte == b'\n').collect();
    let start = 1 + from.index(lines.len() - 1);
    [&lines[..1], &lines[start..lines.len().min(start + LINES)]].concat().concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn every_record_of_a_damaged_file_is_accepted_or_rejected(
        file in 0..FILES.len(),
        from in any::<Index>(),
        damages in prop::collection::vec(damage(), 1..6),
        row_bytes in prop_oneof![Just(1_usize << 20), 60_usize..400],
    ) {
        let mut bytes = some_of(&FILES[file], from);
        for damage in &damages {
            damage.to(&mut bytes);
        }
        assert_adds_up(&bytes, Limits { row_bytes, ..Limits::default() });
    }
}

#[test]
fn the_demo_and_the_samples_add_up_as_they_are() {
    for file in FILES.iter() {
        assert_adds_up(file, Limits::default());
    }
}
