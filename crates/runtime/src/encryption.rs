//! Custom encryption: the user's `@encryption.encrypt` and `@encryption.decrypt` handlers, in a process of their own. What is
//! to be done at the same time goes to it in one message, and what takes longer than the rest is answered by itself.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use threadyard_core::{
    access::User,
    json::{Object, RawObject, raw},
    runtime::{GraphError, RuntimeError},
    sealing::{Data, Piece, SealingHandlers},
    storage::{Result, StorageError},
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use crate::{auxiliary::Auxiliary, load::Ready, worker::Worker};

/// A handler that takes longer will not answer any more.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);
/// So many pieces go in one message at most.
const AT_ONCE: usize = 256;
/// So much goes in one message, unless one piece is larger.
const TOGETHER: usize = 8 << 20;
/// What is larger is not encrypted: its ciphertext might not fit into a message, and could never be read again.
const LARGEST: usize = 128 << 20;

/// Asks the user's handlers.
pub struct CustomEncryption {
    process: Arc<Auxiliary>,
    queue: mpsc::UnboundedSender<Asked>,
}

/// Why a worker with an encryption object can't be used.
pub(crate) fn objection(ready: &Ready) -> Option<String> {
    let Some(loaded) = &ready.encryption else { return Some("the worker does not know custom encryption".into()) };
    let GraphError { error, message, .. } = loaded.error.as_ref()?;
    Some(format!("encryption.path: {error}: {message}"))
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Op {
    Encrypt,
    Decrypt,
}

/// A piece, and who waits for it.
struct Asked {
    op: Op,
    piece: Piece,
    answer: oneshot::Sender<Result<Data>>,
}

#[derive(Serialize)]
struct Pieces<'a> {
    pieces: Vec<WirePiece<'a>>,
}

/// What came from callers goes as texts: what of it can't be read fails by itself, and not with its message.
#[derive(Serialize)]
struct WirePiece<'a> {
    model: &'a str,
    field: &'a str,
    context: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    blob: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    json: Option<String>,
}

/// What became of a piece.
#[derive(Deserialize)]
struct WireAnswer {
    blob: Option<String>,
    json: Option<RawObject>,
    error: Option<Failed>,
    /// It is not done yet, and is to be asked for by this.
    late: Option<u64>,
}

#[derive(Serialize)]
struct Ticket {
    ticket: u64,
}

#[derive(Deserialize)]
struct Failed {
    /// The handler and the class of what it raised; its message may hold what was to be encrypted.
    what: String,
    traceback: String,
}

impl CustomEncryption {
    pub(crate) fn new(process: Arc<Auxiliary>, tasks: &TaskTracker) -> Self {
        let (queue, asked) = mpsc::unbounded_channel();
        tasks.spawn(serve(process.clone(), asked, tasks.clone()));
        Self { process, queue }
    }

    async fn ask(&self, op: Op, piece: Piece) -> Result<Data> {
        if op == Op::Encrypt && size(&piece) > LARGEST {
            return Err(StorageError::Sealing(format!("a value of {} bytes is too large for handlers", size(&piece))));
        }
        let (answer, answered) = oneshot::channel();
        drop(self.queue.send(Asked { op, piece, answer }));
        answered.await.unwrap_or_else(|_| Err(gone("it is stopping")))
    }
}

#[async_trait]
impl SealingHandlers for CustomEncryption {
    async fn encrypt(&self, piece: Piece) -> Result<Data> {
        self.ask(Op::Encrypt, piece).await
    }

    async fn decrypt(&self, piece: Piece) -> Result<Data> {
        self.ask(Op::Decrypt, piece).await
    }

    async fn context(&self, user: Option<&User>, said: Object) -> Result<Object> {
        #[derive(Serialize)]
        struct Args<'a> {
            user: Option<&'a User>,
            context: Object,
        }
        #[derive(Deserialize)]
        struct Answer {
            context: Option<Object>,
            error: Option<Failed>,
        }
        let worker = self.process.worker().map_err(|error| gone(&error.to_string()))?;
        if !worker.ready.encryption.as_ref().is_some_and(|loaded| loaded.context) {
            return Ok(said);
        }
        match asked(&worker, "encryption_context", &Args { user, context: said }).await? {
            Answer { context: Some(context), error: None } => Ok(context),
            Answer { error, .. } => Err(error.map_or_else(nonsense, failed)),
        }
    }
}

/// Hands over what waits, as long as anybody asks.
async fn serve(process: Arc<Auxiliary>, mut queue: mpsc::UnboundedReceiver<Asked>, tasks: TaskTracker) {
    let mut waiting = Vec::new();
    while queue.recv_many(&mut waiting, AT_ONCE).await > 0 {
        for (op, batch) in batches(waiting.drain(..)) {
            tasks.spawn(answer(process.clone(), op, batch));
        }
    }
}

/// What goes together.
fn batches(waiting: impl Iterator<Item = Asked>) -> Vec<(Op, Vec<Asked>)> {
    let (mut full, mut open) = (Vec::new(), BTreeMap::<Op, (usize, Vec<Asked>)>::new());
    for asked in waiting {
        let (op, more) = (asked.op, size(&asked.piece));
        let (taken, batch) = open.entry(op).or_default();
        if !batch.is_empty() && *taken + more > TOGETHER {
            full.push((op, std::mem::take(batch)));
            *taken = 0;
        }
        *taken += more;
        batch.push(asked);
    }
    full.extend(open.into_iter().map(|(op, (_, batch))| (op, batch)));
    full
}

fn size(piece: &Piece) -> usize {
    match &piece.data {
        Data::Blob(blob) => blob.len(),
        Data::Json(json) => json.iter().map(|(key, value)| key.len() + value.get().len()).sum(),
    }
}

async fn answer(process: Arc<Auxiliary>, op: Op, batch: Vec<Asked>) {
    match answered(&process, op, &batch).await {
        Ok((worker, answers)) => {
            let each = batch.into_iter().zip(answers).map(async |(asked, answer)| {
                drop(asked.answer.send(whole(&worker, answer).await.and_then(understood)));
            });
            join_all(each).await;
        }
        Err(error) => batch.into_iter().for_each(|asked| drop(asked.answer.send(Err(error.clone())))),
    }
}

async fn answered(process: &Auxiliary, op: Op, batch: &[Asked]) -> Result<(Arc<Worker>, Vec<WireAnswer>)> {
    let worker = process.worker().map_err(|error| gone(&error.to_string()))?;
    let pieces = batch.iter().map(|asked| wire(&asked.piece)).collect();
    let answers: Vec<WireAnswer> = asked(&worker, op, &Pieces { pieces }).await?;
    if answers.len() == batch.len() { Ok((worker, answers)) } else { Err(nonsense()) }
}

/// The answer, which is waited for where it was not there with the others.
async fn whole(worker: &Worker, answer: WireAnswer) -> Result<WireAnswer> {
    match answer.late {
        Some(ticket) => asked(worker, "late_piece", &Ticket { ticket }).await,
        None => Ok(answer),
    }
}

fn wire(Piece { model, field, context, data }: &Piece) -> WirePiece<'_> {
    let (blob, json) = match data {
        Data::Blob(blob) => (Some(BASE64_STANDARD.encode(blob)), None),
        Data::Json(json) => (None, Some(raw(json).get().to_owned())),
    };
    WirePiece { model, field, context: raw(context).get().to_owned(), blob, json }
}

fn understood(answer: WireAnswer) -> Result<Data> {
    match answer {
        WireAnswer { error: Some(error), .. } => Err(failed(error)),
        WireAnswer { json: Some(json), .. } => Ok(Data::Json(json)),
        WireAnswer { blob: Some(blob), .. } => {
            BASE64_STANDARD.decode(blob).map(|blob| Data::Blob(blob.into())).map_err(|_| nonsense())
        }
        _ => Err(nonsense()),
    }
}

async fn asked<T: DeserializeOwned>(worker: &Worker, op: impl Serialize, args: &impl Serialize) -> Result<T> {
    match tokio::time::timeout(ANSWERS_WITHIN, worker.ask(op, None, &raw(args))).await {
        Err(_) => {
            // The process bounds each handler by itself: one that says nothing is blocked, and another takes its place.
            worker.stop(Duration::ZERO).await;
            Err(StorageError::Sealing("the handlers did not answer in time".into()))
        }
        Ok(Err(RuntimeError::Raised(error) | RuntimeError::Refused { error, .. })) => {
            Err(StorageError::Sealing(format!("the handlers could not be asked: {}", error.error)))
        }
        Ok(Err(error)) => Err(gone(&error.to_string())),
        Ok(Ok(answer)) => serde_json::from_str(answer.get()).map_err(|_| nonsense()),
    }
}

fn failed(Failed { what, traceback }: Failed) -> StorageError {
    tracing::error!(traceback, "custom encryption: {what}");
    StorageError::Sealing(what)
}

/// The process is being replaced, and what is asked of it may succeed later.
fn gone(why: &str) -> StorageError {
    StorageError::Unavailable(format!("custom encryption: {why}"))
}

/// What was answered may be secret.
fn nonsense() -> StorageError {
    StorageError::Sealing("the answer of the handlers makes no sense".into())
}

#[cfg(test)]
mod tests {
    use threadyard_core::sealing::SealingContext;

    use super::*;

    fn asked(op: Op, bytes: usize) -> Asked {
        let data = Data::Blob(vec![0; bytes].into());
        let piece = Piece { model: String::new(), field: String::new(), context: SealingContext::default(), data };
        Asked { op, piece, answer: oneshot::channel().0 }
    }

    #[test]
    fn what_goes_together_is_of_one_kind_and_no_more_than_fits() {
        let waiting = [
            asked(Op::Encrypt, 1),
            asked(Op::Decrypt, TOGETHER),
            asked(Op::Encrypt, TOGETHER + 1),
            asked(Op::Encrypt, 2),
            asked(Op::Decrypt, 0),
        ];
        let batches = batches(waiting.into_iter());
        let sizes =
            |(op, batch): &(Op, Vec<Asked>)| (*op == Op::Encrypt, batch.iter().map(|it| size(&it.piece)).collect());
        let sizes: Vec<(bool, Vec<usize>)> = batches.iter().map(sizes).collect();
        let expected = [(true, vec![1]), (true, vec![TOGETHER + 1]), (true, vec![2]), (false, vec![TOGETHER, 0])];
        assert_eq!(sizes, expected);
    }
}
