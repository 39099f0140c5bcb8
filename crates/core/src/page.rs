//! Pages of search results.

/// Which part of a result is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// How many rows at most.
    pub limit: u32,
    /// How many rows to pass over first.
    pub offset: u32,
}

/// A part of a result.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// The rows of the window.
    pub rows: Vec<T>,
    /// Whether there is at least one row behind the window.
    pub more: bool,
}

/// The direction of a sort.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Order {
    /// Smallest or oldest first.
    Ascending,
    /// Largest or newest first.
    #[default]
    Descending,
}

impl<T> Page<T> {
    /// Builds the page from one row more than the window asked for, if there was one.
    pub fn from_probe(mut rows: Vec<T>, window: Window) -> Self {
        let more = rows.len() > window.limit as usize;
        rows.truncate(window.limit as usize);
        Self { rows, more }
    }
}
