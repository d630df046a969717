//! Pages of lists: `limit` and `cursor` in, `next_cursor` out.

use std::{fmt::Display, str::FromStr};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

use super::{Parameters, Problem, extract::invalid_parameter};
use crate::catalog::{MAX_PAGE, Page};

pub(super) const DEFAULT_LIMIT: u32 = 50;

/// Which page to answer. `K` is the key that the list is ordered by.
#[derive(Debug, PartialEq, Eq)]
pub struct PageRequest<K> {
    /// 1 to 200, 50 by default.
    pub limit: u32,
    /// The key of the last item of the page before.
    pub after: Option<K>,
}

impl<K: FromStr> PageRequest<K> {
    /// Takes `limit` and `cursor`.
    pub fn take(parameters: &mut Parameters) -> Result<Self, Problem> {
        let limit =
            match parameters.take("limit")? {
                None => DEFAULT_LIMIT,
                Some(text) => text.parse().ok().filter(|limit| (1..=MAX_PAGE).contains(limit)).ok_or_else(|| {
                    invalid_parameter("limit", format!("limit is a whole number from 1 to {MAX_PAGE}"))
                })?,
            };
        let after = parameters.take("cursor")?.map(|cursor| key_of(&cursor)).transpose()?;
        Ok(Self { limit, after })
    }
}

/// The `next_cursor` of a page: opaque to callers, the last item's key to us.
pub fn next_cursor<T, K: Display>(page: &Page<T>, key: impl FnOnce(&T) -> K) -> Option<String> {
    let last = page.items.last().filter(|_| page.more)?;
    Some(BASE64_URL_SAFE_NO_PAD.encode(key(last).to_string()))
}

fn key_of<K: FromStr>(cursor: &str) -> Result<K, Problem> {
    BASE64_URL_SAFE_NO_PAD
        .decode(cursor)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| invalid_parameter("cursor", "cursor is the next_cursor of the page before, as it was given"))
}
