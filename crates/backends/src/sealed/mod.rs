//! Custom encryption: a storage in front of another one, which has the project's handlers encrypt what users say before the
//! other sees it, and decrypt it when it comes back. What the other does with rows, it does with what was encrypted.

mod assistants;
mod checkpoints;
mod crons;
mod deliveries;
mod events;
mod items;
mod lanes;
mod marker;
mod opener;
mod others;
mod runs;
mod sealer;
mod threads;

use std::sync::Arc;

use futures_util::future::join_all;
use threadyard_core::{
    page::Page,
    sealing::SealingHandlers,
    storage::{Result, Storage, StorageError},
};

use self::{lanes::Lanes, opener::Opener, sealer::Sealer};

/// Facts in another storage, of which that sees no more than the project's handlers leave open.
pub struct SealedStorage {
    inner: Arc<dyn Storage>,
    handlers: Arc<dyn SealingHandlers>,
    lanes: Lanes,
}

impl SealedStorage {
    /// Puts handlers in front of a storage.
    pub fn new(inner: Arc<dyn Storage>, handlers: Arc<dyn SealingHandlers>) -> Self {
        Self { lanes: Lanes::new(&inner), inner, handlers }
    }

    /// Encrypts under the context that is in force.
    fn sealer(&self) -> Sealer {
        Sealer::new(self.handlers.clone())
    }

    fn opener(&self) -> Opener {
        Opener(self.handlers.clone())
    }
}

/// Opens everything on a page at once. What can't be opened does not hide the rest.
async fn page<T, O: Future<Output = Result<T>>>(page: Page<T>, open: impl Fn(T) -> O) -> Result<Page<T>> {
    let rows = openable(page.rows.into_iter().map(open)).await?;
    Ok(Page { rows, more: page.more })
}

/// What can be opened. Where nothing can be, that is an error: whoever asks is not to take it for nothing.
async fn openable<T>(rows: impl IntoIterator<Item = impl Future<Output = Result<T>>>) -> Result<Vec<T>> {
    let (mut opened, mut refused) = (Vec::new(), None);
    for row in join_all(rows).await {
        match row {
            Ok(row) => opened.push(row),
            Err(error @ StorageError::Sealing(_)) => {
                tracing::error!(%error, "something can't be decrypted, and is left out");
                refused = Some(error);
            }
            Err(error) => return Err(error),
        }
    }
    match refused {
        Some(error) if opened.is_empty() => Err(error),
        _ => Ok(opened),
    }
}
