//! What the nouns have in common: searches with their order, columns and pages, and ids that are taken.

use axum::{
    Json,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use threadyard_core::{
    json::{RawObject, fields},
    page::{Order, Page, Window},
};

use super::{error::ApiError, extract::invalid};

/// What to do when the id of something new is taken.
#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum IfExists {
    Raise,
    DoNothing,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum SortOrder {
    Asc,
    Desc,
}

impl SortOrder {
    pub(super) fn or_newest(order: Option<Self>) -> Order {
        match order {
            Some(Self::Asc) => Order::Ascending,
            Some(Self::Desc) | None => Order::Descending,
        }
    }
}

/// The part of a search that is wanted: 1 to 1000 rows, 10 unless said.
pub(super) fn window(limit: Option<u32>, offset: Option<u32>) -> Result<Window, ApiError> {
    let limit = limit.unwrap_or(10);
    if !(1..=1000).contains(&limit) {
        return Err(invalid(format!("limit: {limit} must be between 1 and 1000")));
    }
    Ok(Window { limit, offset: offset.unwrap_or(0) })
}

/// Refuses a `select` that names something else than a column.
pub(super) fn columns<'a>(select: Option<&'a [String]>, known: &[&str]) -> Result<Option<&'a [String]>, ApiError> {
    match select.into_iter().flatten().find(|column| !known.contains(&column.as_str())) {
        Some(column) => Err(invalid(format!("select: `{column}` is not one of {}", known.join(", ")))),
        None => Ok(select),
    }
}

/// A page with the headers that tell whether there is another.
pub(super) fn paged<T: Serialize>(page: Page<T>, window: Window, select: Option<&[String]>) -> Response {
    let shown = u32::try_from(page.rows.len()).unwrap_or(u32::MAX);
    let mut headers = HeaderMap::new();
    headers.insert("x-pagination-total", (window.offset + shown + u32::from(page.more)).into());
    if page.more {
        headers.insert("x-pagination-next", (window.offset + window.limit).into());
    }
    match select {
        None => (headers, Json(page.rows)).into_response(),
        Some(keys) => {
            let rows: Vec<_> = page.rows.iter().map(|row| selected(row, keys)).collect();
            (headers, Json(rows)).into_response()
        }
    }
}

/// Only these keys of a row.
pub(super) fn selected(row: &impl Serialize, keys: &[String]) -> RawObject {
    let mut fields = fields(row);
    fields.retain(|key, _| keys.contains(key));
    fields
}
