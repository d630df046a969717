//! Packed files: they give what the CSV in them gives, or are refused as a whole.

use std::io::BufReader;

use async_compression::tokio::bufread::GzipEncoder;
use tokio::io::AsyncReadExt;

use super::*;
use crate::payments::{
    packing::Packing,
    report::code,
    unpack::{UNPACKED_FREELY, UnpackError, UnpackLimits, unpack},
};

const PACKED: [Packing; 2] = [Packing::Gzip, Packing::Zstd];

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    futures::executor::block_on(GzipEncoder::new(bytes).read_to_end(&mut packed)).unwrap();
    packed
}

/// With a checksum, as the zstd command writes it.
fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ::zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.include_checksum(true).unwrap();
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

fn pack(packing: Packing, bytes: &[u8]) -> Vec<u8> {
    match packing {
        Packing::Plain => bytes.to_vec(),
        Packing::Gzip => gzip(bytes),
        Packing::Zstd => zstd(bytes),
    }
}

/// A zstd frame of blocks that each stand for 128 KiB of one byte, in four bytes: as dense as the format is.
fn dense_frame(byte: u8, blocks: usize) -> Vec<u8> {
    let mut frame = b"\x28\xb5\x2f\xfd\x00\x38".to_vec();
    for block in 1..=blocks {
        let header = u32::from(block == blocks) | 1 << 1 | (128 << 10) << 3;
        frame.extend_from_slice(&header.to_le_bytes()[..3]);
        frame.push(byte);
    }
    frame
}

/// A zstd frame that says it looks back over `2^log` bytes, around one short block.
fn frame_with_window(log: u8, text: &[u8]) -> Vec<u8> {
    let header = 1 | u32::try_from(text.len()).unwrap() << 3;
    [b"\x28\xb5\x2f\xfd\x00", &[(log - 10) << 3][..], &header.to_le_bytes()[..3], text].concat()
}

/// All that a file unpacks to, in pieces of `piece` bytes, or why it does not.
fn unpacked_by(packing: Packing, packed: &[u8], limits: UnpackLimits, piece: usize) -> Result<Vec<u8>, UnpackError> {
    let mut text = Vec::new();
    let mut input = unpack(BufReader::with_capacity(piece, packed), packing, limits);
    let mut buffer = vec![0; piece];
    loop {
        match input.read(&mut buffer) {
            Ok(0) => return Ok(text),
            Ok(count) => text.extend_from_slice(&buffer[..count]),
            Err(error) => return Err(error.downcast().unwrap()),
        }
    }
}

fn unpacked(packing: Packing, packed: &[u8]) -> Result<Vec<u8>, UnpackError> {
    unpacked_by(packing, packed, UnpackLimits::NONE, 1 << 16)
}

#[track_caller]
fn fault(packing: Packing, packed: &[u8]) -> RowError {
    match unpacked(packing, packed) {
        Err(UnpackError::File(error)) => *error,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn all_members_of_a_file_are_read_however_its_bytes_come() {
    let text = file(&[GOOD, &with("ID", "TX2"), &with("NOTES", "\"a\nb\"")]).into_bytes();
    for packing in PACKED {
        let (one, two) = text.split_at(200);
        let mut packed = [pack(packing, one), pack(packing, b""), pack(packing, two)].concat();
        if packing == Packing::Zstd {
            // As parallel packers put before each frame, and some behind the last.
            let skippable = b"\x50\x2a\x4d\x18\x04\0\0\0abcd";
            packed = [&skippable[..], &packed, skippable].concat();
        }
        for piece in [1, 2, 3, 7, 100, 1 << 16] {
            assert_eq!(unpacked_by(packing, &packed, UnpackLimits::NONE, piece).unwrap(), text, "{packing:?} {piece}");
        }
        let input = unpack(packed.as_slice(), packing, UnpackLimits::NONE);
        assert_eq!(decode_from(input, Limits::default()).unwrap(), decode(&text));
    }
}

#[test]
fn a_file_that_is_cut_anywhere_is_refused() {
    let text = file(&[GOOD, &with("ID", "TX2")]);
    for packing in PACKED {
        let packed = pack(packing, text.as_bytes());
        for end in 1..packed.len() {
            let error = fault(packing, &packed[..end]);
            assert_eq!(error.code, code::PACKED_CUT_OFF, "{packing:?} {end}");
            assert!(error.message.contains(&format!("after {end} bytes")), "{}", error.message);
        }
        // Within its second member, whose first half is whole.
        let twice = [packed.as_slice(), &packed].concat();
        let error = fault(packing, &twice[..packed.len() + 9]);
        assert_eq!((error.code.as_str(), error.line, error.byte), (code::PACKED_CUT_OFF, 4, text.len() as u64));
        assert_eq!(unpacked(packing, b"").unwrap(), b"", "no bytes are no text");
    }
}

#[test]
fn a_damaged_byte_is_found_or_changes_nothing() {
    let text = file(&[GOOD, &with("ID", "TX2")]);
    for packing in PACKED {
        let packed = pack(packing, text.as_bytes());
        let mut refused = 0;
        for at in 0..packed.len() {
            for bit in 0..8 {
                let mut damaged = packed.clone();
                damaged[at] ^= 1 << bit;
                match unpacked(packing, &damaged) {
                    Ok(other) => assert_eq!(other, text.as_bytes(), "{packing:?}: bit {bit} of byte {at}"),
                    Err(UnpackError::File(_)) => refused += 1,
                    Err(other) => panic!("{other}"),
                }
            }
        }
        assert!(refused > 8 * packed.len() * 9 / 10, "{refused}");
    }
}

#[test]
fn what_follows_a_packed_file_is_refused_where_it_stands() {
    let text = file(&[GOOD]);
    for packing in PACKED {
        let packed = pack(packing, text.as_bytes());
        for garbage in [&b"x"[..], b"TX3,0019", b"\0\0\0\0\0\0\0\0\0\0", text.as_bytes()] {
            let error = fault(packing, &[packed.as_slice(), garbage].concat());
            assert_eq!((error.code.as_str(), error.byte), (code::PACKED_TRAILING, text.len() as u64));
            assert!(error.message.contains(&format!("byte {} of the packed file", packed.len())), "{}", error.message);
        }
    }
}

#[test]
fn a_file_that_is_not_what_its_name_says_is_refused_at_its_first_byte() {
    let text = file(&[GOOD]);
    for (packing, bytes, fix) in [
        (Packing::Gzip, text.clone().into_bytes(), "name it ELECTRICITY_PAYMENT.csv;"),
        (Packing::Zstd, text.clone().into_bytes(), "name it ELECTRICITY_PAYMENT.csv;"),
        (Packing::Gzip, zstd(text.as_bytes()), "it is zstd: name it ELECTRICITY_PAYMENT.csv.zst"),
        (Packing::Zstd, gzip(text.as_bytes()), "it is gzip: name it ELECTRICITY_PAYMENT.csv.gz"),
        (Packing::Gzip, b"PK\x03\x04".to_vec(), "pack it with gzip"),
    ] {
        let error = fault(packing, &bytes);
        assert_eq!((error.code.as_str(), error.line, error.byte), (code::WRONG_PACKING, 1, 0));
        assert!(error.message.contains(fix), "{}", error.message);
        // The decoder passes it on as what the file is refused for.
        let refused = decode_from(unpack(bytes.as_slice(), packing, UnpackLimits::NONE), Limits::default());
        assert!(matches!(refused, Err(DecodeError::File(errors)) if errors == [error]));
    }
}

#[test]
fn a_plain_file_that_is_packed_and_one_that_is_packed_twice_are_told_the_right_name() {
    for packing in PACKED {
        let once = pack(packing, file(&[GOOD]).as_bytes());
        let twice = unpacked(packing, &pack(packing, &once)).unwrap();
        for bytes in [once, twice] {
            let errors = refusal(bytes);
            assert_eq!((codes(&errors), errors[0].byte), (vec![code::WRONG_PACKING], 0));
            let told = format!("file_name={} in the URL), and is packed once", packing.file_name());
            assert!(errors[0].message.contains(&told), "{}", errors[0].message);
        }
    }
}

#[test]
fn a_file_unpacks_up_to_its_limit_and_no_further() {
    let text = file(&[GOOD; 50]);
    let size = text.len() as u64;
    for packing in PACKED {
        let packed = pack(packing, text.as_bytes());
        let within = |bytes| unpacked_by(packing, &packed, UnpackLimits { bytes, ratio: 200 }, 1 << 10);
        assert_eq!(within(size).unwrap(), text.as_bytes());
        let error = within(size - 1).unwrap_err();
        assert!(matches!(error, UnpackError::TooLarge { limit } if limit == size - 1), "{error}");
        assert!(error.to_string().contains("upload.max_bytes"), "{error}");
    }
}

#[test]
fn a_dense_file_is_given_up_at_the_ratio_whatever_it_would_come_to() {
    let frame = dense_frame(b'\n', 1 << 16);
    assert_eq!(frame.len(), 6 + (256 << 10));
    let mut input = unpack(frame.as_slice(), Packing::Zstd, UnpackLimits { bytes: u64::MAX, ratio: 200 });
    let (mut buffer, mut given) = (vec![0; 1 << 20], 0);
    let error = loop {
        match input.read(&mut buffer) {
            Ok(count) => given += count as u64,
            Err(error) => break error.downcast::<UnpackError>().unwrap(),
        }
    };
    assert!(matches!(error, UnpackError::TooDense { ratio: 200 }), "{error}");
    assert!(error.to_string().contains("upload.max_unpack_ratio"), "{error}");
    assert!((UNPACKED_FREELY - (1 << 20)..=UNPACKED_FREELY).contains(&given), "{given}");
    // Up to that much, how dense a file is does not matter.
    let small = dense_frame(b'\n', 512);
    let limits = UnpackLimits { bytes: u64::MAX, ratio: 1 };
    assert_eq!(unpacked_by(Packing::Zstd, &small, limits, 1 << 20).unwrap().len() as u64, UNPACKED_FREELY);
}

#[test]
fn a_window_that_takes_too_much_memory_is_refused_by_name() {
    let text = file(&[GOOD]).into_bytes();
    assert_eq!(unpacked(Packing::Zstd, &frame_with_window(27, &text)).unwrap(), text);
    let error = fault(Packing::Zstd, &frame_with_window(28, &text));
    assert_eq!(error.code, code::PACKED_WINDOW);
    assert!(error.message.contains("128 MiB") && error.message.contains("--long=27"), "{}", error.message);
}
