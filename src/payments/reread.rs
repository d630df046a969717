//! Records of a file once more, for a report on rows whose fault shows only when the whole file is known.

use std::io::Read;

use super::{decoder::DecodeError, records::Records};

/// Calls `each` with the fields of every record of `input` that starts at one of the offsets `wanted`, which are in order.
/// The file was decoded before, so that its records are known to be whole.
///
/// # Errors
/// The input failed, or is not the file that was decoded.
pub fn records_at(
    input: impl Read,
    row_bytes: usize,
    wanted: &[u64],
    mut each: impl FnMut(usize, Vec<String>) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    let mut records = Records::new(input, row_bytes);
    if records.peek()?.starts_with(b"\xef\xbb\xbf") {
        records.skip(3);
    }
    let mut next = 0;
    while let Some(record) = records.next()? {
        if wanted.get(next) == Some(&record.byte) {
            let fields = (0..record.len()).map(|at| String::from_utf8_lossy(record.field(at)).into_owned()).collect();
            each(next, fields)?;
            next += 1;
        }
        if next == wanted.len() {
            break;
        }
    }
    Ok(())
}
