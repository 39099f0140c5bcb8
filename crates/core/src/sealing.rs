//! Custom encryption: the contract of the project's own handlers, and on whose behalf they are asked.

use std::{
    cell::RefCell,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{
    access::User,
    json::{Object, RawObject},
    storage::Result,
};

/// What handlers are told of whose data it is. It is no secret, and kept beside what was encrypted.
pub type SealingContext = Arc<Object>;

/// Under this key of a document the context is kept of whatever follows from it.
pub const CONTEXT_KEY: &str = "__encryption_context__";

/// The class of the error of a run that the handlers failed. What graphs raise may be called so, too.
pub const FAILURE: &str = "EncryptionError";

/// What handlers are given.
#[derive(Clone, Debug)]
pub struct Piece {
    /// What it belongs to, such as `thread`.
    pub model: String,
    /// The part of that, such as `metadata`.
    pub field: String,
    /// On whose behalf.
    pub context: SealingContext,
    /// The data.
    pub data: Data,
}

/// The two kinds of data, for each of which there is a pair of handlers.
#[derive(Clone, Debug)]
pub enum Data {
    /// Bytes.
    Blob(Bytes),
    /// The members of a JSON object.
    Json(RawObject),
}

/// The project's handlers.
#[async_trait]
pub trait SealingHandlers: Send + Sync {
    /// Encrypts. Of an object, the answer has the members that are others than before.
    async fn encrypt(&self, piece: Piece) -> Result<Data>;
    /// Decrypts.
    async fn decrypt(&self, piece: Piece) -> Result<Data>;
    /// The context of a request: what its header says, as the project's handler has it.
    async fn context(&self, user: Option<&User>, said: Object) -> Result<Object>;
}

thread_local! {
    static CURRENT: RefCell<SealingContext> = RefCell::default();
}

/// The context that is in force here.
pub fn current() -> SealingContext {
    CURRENT.with_borrow(Clone::clone)
}

/// Puts back what was in force, also when what was done meanwhile panics.
struct Restored(SealingContext);

impl Drop for Restored {
    fn drop(&mut self) {
        CURRENT.set(std::mem::take(&mut self.0));
    }
}

/// Does something at once under a context.
pub fn scoped<T>(context: &SealingContext, act: impl FnOnce() -> T) -> T {
    let _before = Restored(CURRENT.replace(context.clone()));
    act()
}

/// Does something under a context, whichever threads it goes on in. What it spawns is not under it.
pub fn within<F: Future>(context: SealingContext, future: F) -> Within<F> {
    Within { context, future: Box::pin(future) }
}

/// What `within` makes.
pub struct Within<F> {
    context: SealingContext,
    future: Pin<Box<F>>,
}

impl<F: Future> Future for Within<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.get_mut();
        scoped(&this.context, || this.future.as_mut().poll(task))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(tenant: &str) -> SealingContext {
        Arc::new([("tenant".to_owned(), tenant.into())].into_iter().collect())
    }

    #[tokio::test]
    async fn a_context_is_in_force_where_it_was_given_and_nowhere_else() {
        let (a, b) = (context("a"), context("b"));
        let nested = within(a.clone(), async {
            let inner = within(b.clone(), async {
                tokio::task::yield_now().await;
                current()
            });
            let outside = current();
            (tokio::join!(inner, async { current() }), outside, current())
        });
        assert_eq!(nested.await, ((b, a.clone()), a.clone(), a));
        assert!(current().is_empty());
    }
}
