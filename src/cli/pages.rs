//! Lists that a server gives in pages.

use serde_json::{Map, Value};

use super::{Failure, client::Client};

/// The most that one request may ask for.
const MAX_PAGE: usize = 200;

/// A list as far as it was asked for.
pub(super) struct Listed {
    pub(super) items: Vec<Value>,
    /// Where the rest begins; null where there is none.
    pub(super) next_cursor: Value,
}

/// Page by page, until there are as many as were asked for. `member` is what an answer calls its items.
pub(super) async fn listed(
    client: &Client,
    path: &[&str],
    member: &str,
    filters: &[(String, String)],
    limit: usize,
) -> Result<Listed, Failure> {
    let (mut items, mut cursor) = (Vec::new(), Value::Null);
    while items.len() < limit {
        let mut query = filters.to_vec();
        query.push(("limit".to_owned(), (limit - items.len()).min(MAX_PAGE).to_string()));
        if let Some(cursor) = cursor.as_str() {
            query.push(("cursor".to_owned(), cursor.to_owned()));
        }
        let mut page: Map<String, Value> = client.get_json(path, &query).await?;
        cursor = page.remove("next_cursor").unwrap_or_default();
        let Some(Value::Array(of_page)) = page.remove(member) else { return Err(client.not_understood()) };
        // A page without any would be asked for again for ever.
        let ended = of_page.is_empty() || cursor.is_null();
        items.extend(of_page);
        if ended {
            break;
        }
    }
    Ok(Listed { items, next_cursor: cursor })
}
