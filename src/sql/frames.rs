//! What a process for SQL says: frames, each with its kind and its length. The rows are an Arrow IPC stream, cut at any of its
//! messages; the last frame says that the answer is whole, or why there is none. An end without it is a process that died.

use std::io::{self, Write};

use bytes::{Buf, BytesMut};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Fault, confine::Confinement};
use crate::error::ErrorKind;

/// The most bytes of a frame: far above those that a process makes, so that one which says otherwise is not believed.
pub(super) const MAX_BYTES: usize = 64 << 20;
const HEAD: usize = 5;

#[derive(Debug)]
pub(super) enum Frame {
    /// How far the process has shut itself in: the first.
    Confined(Confinement),
    /// Bytes of the Arrow IPC stream.
    Rows(Vec<u8>),
    /// How far it has come, said now and then.
    Progress(Progress),
    Whole(Whole),
    Failed(Failure),
}

/// How far a process has come with its question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// That were read of files.
    pub(super) scanned_rows: u64,
    pub(super) scanned_bytes: u64,
    /// Of the files that the query reads, as often as it reads them.
    pub(super) rows_to_scan: Option<u64>,
}

/// What is said of an answer that came to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Whole {
    pub(super) rows: u64,
    /// Of the rows, as Arrow holds them.
    pub(super) bytes: u64,
    /// Whether rows were left out because of a limit on rows or bytes.
    pub(super) truncated: bool,
    /// That were read of files.
    pub(super) scanned_rows: u64,
    pub(super) scanned_bytes: u64,
}

/// Why there is no answer, as the process tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Failure {
    /// What is wrong with the statement.
    #[error(transparent)]
    Fault(Fault),
    #[error("a row of the answer has more bytes than can be sent")]
    RowTooLarge,
    #[error("files of the lake could not be read by a process for SQL")]
    Storage,
    /// The program was replaced while the server runs.
    #[error("the program was replaced while the server runs")]
    OtherBuild,
}

impl Failure {
    pub(super) fn kind(&self) -> ErrorKind {
        match self {
            Self::Fault(fault) => fault.kind.error_kind(),
            Self::RowTooLarge => ErrorKind::Rejected,
            Self::Storage | Self::OtherBuild => ErrorKind::Unavailable,
        }
    }
}

impl Frame {
    pub(super) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let (kind, body) = match self {
            Self::Confined(confinement) => (b'C', serde_json::to_vec(confinement)?),
            Self::Rows(bytes) => return write(to, b'R', bytes),
            Self::Progress(progress) => (b'P', serde_json::to_vec(progress)?),
            Self::Whole(whole) => (b'W', serde_json::to_vec(whole)?),
            Self::Failed(failure) => (b'F', serde_json::to_vec(failure)?),
        };
        write(to, kind, &body)
    }

    /// Takes a frame off the beginning of what came; nothing where there is no whole one yet.
    pub(super) fn take(from: &mut BytesMut) -> io::Result<Option<Self>> {
        let Some((head, rest)) = from.split_at_checked(HEAD) else { return Ok(None) };
        let (kind, length) = (head[0], [head[1], head[2], head[3], head[4]]);
        let length = u32::from_le_bytes(length) as usize;
        if length > MAX_BYTES || !b"CRPWF".contains(&kind) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "what is no frame"));
        }
        if rest.len() < length {
            from.reserve(HEAD + length - from.len());
            return Ok(None);
        }
        from.advance(HEAD);
        let body = from.split_to(length);
        Ok(Some(match kind {
            b'C' => Self::Confined(json(&body)?),
            b'R' => Self::Rows(body.into()),
            b'P' => Self::Progress(json(&body)?),
            b'W' => Self::Whole(json(&body)?),
            _ => Self::Failed(json(&body)?),
        }))
    }
}

fn json<T: DeserializeOwned>(body: &[u8]) -> io::Result<T> {
    Ok(serde_json::from_slice(body)?)
}

fn write(to: &mut impl Write, kind: u8, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len()).map_err(io::Error::other)?.to_le_bytes();
    to.write_all(&[kind, length[0], length[1], length[2], length[3]])?;
    to.write_all(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_as_they_went_in_however_they_are_cut() {
        let whole = Whole { rows: 3, bytes: 40, truncated: true, scanned_rows: 5, scanned_bytes: 6 };
        let mut sent = Vec::new();
        Frame::Rows(vec![7; 1000]).write(&mut sent).unwrap();
        Frame::Whole(whole.clone()).write(&mut sent).unwrap();
        for step in [1, 4, 5, 6, 999, sent.len()] {
            let (mut came, mut frames) = (BytesMut::new(), Vec::new());
            for piece in sent.chunks(step) {
                came.extend_from_slice(piece);
                while let Some(frame) = Frame::take(&mut came).unwrap() {
                    frames.push(frame);
                }
            }
            assert!(came.is_empty(), "{step}");
            assert!(
                matches!(&frames[..], [Frame::Rows(rows), Frame::Whole(end)] if rows == &[7; 1000] && end == &whole)
            );
        }
    }

    #[test]
    fn what_is_no_frame_is_not_believed() {
        for wrong in [b"X\0\0\0\0".as_slice(), b"R\xff\xff\xff\xff", b"W\x01\0\0\0{", b"F\x02\0\0\0[]"] {
            assert!(Frame::take(&mut BytesMut::from(wrong)).is_err(), "{wrong:?}");
        }
        assert!(Frame::take(&mut BytesMut::from(b"R\x02\0\0\0a".as_slice())).unwrap().is_none());
    }
}
