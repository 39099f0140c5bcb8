//! Values that grow, shrink, fork and lose what they were made from are always read as they were written.

use bytes::Bytes;
use threadyard_core::{
    checkpoints::{Blob, PruneStrategy, PutCheckpoint, Writer},
    testkit::sample_checkpoint,
};

use crate::{Backend, HANDLERS, thread};

/// The name of a thread that exists, so that its usage can be asked for.
const THREAD: &str = "00000000-0000-0001-0000-000000000001";

/// A list of messages as msgpack has it: a header that says how many, and one after the other.
fn packed(messages: &[Vec<u8>]) -> Bytes {
    let count = u16::try_from(messages.len()).unwrap();
    let header = match u8::try_from(count) {
        Ok(few @ 0..16) => vec![0x90 | few],
        _ => [&[0xdc][..], &count.to_be_bytes()].concat(),
    };
    [header, messages.concat()].concat().into()
}

/// Numbers that look random and are the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    fn message(&mut self) -> Vec<u8> {
        // Some of them can be compressed.
        let different = [256, 4][self.below(2)];
        (0..200 + self.below(200)).map(|_| u8::try_from(self.below(different)).unwrap()).collect()
    }
}

async fn put(backend: &Backend, n: usize, data: Bytes) {
    let blob = Blob { channel: "log".into(), version: id(n), kind: "msgpack".into(), data };
    let put = PutCheckpoint { blobs: vec![blob], ..sample_checkpoint(THREAD, &id(n), None) };
    backend.storage.put_checkpoint(Writer::Call, put).await.unwrap();
}

async fn read(backend: &Backend, n: usize) -> Bytes {
    let found = backend.storage.checkpoint(THREAD, "", Some(&id(n))).await.unwrap().unwrap();
    found.blobs.into_iter().next().unwrap().data
}

fn id(n: usize) -> String {
    format!("{n:04}")
}

#[tokio::test]
async fn every_version_is_read_as_it_was_written() {
    let mut backend = Backend::new().await;
    let (mut numbers, mut messages) = (Numbers(7), Vec::new());
    let mut written: Vec<(Vec<Vec<u8>>, Bytes)> = Vec::new();
    for n in 0..300 {
        match numbers.below(20) {
            0 => messages.truncate(numbers.below(messages.len() + 1)),
            1 if !messages.is_empty() => *messages.last_mut().unwrap() = numbers.message(),
            2 if n > 0 => messages.clone_from(&written[numbers.below(n)].0),
            3 => messages = vec![numbers.message()],
            4 => backend = backend.reopen().await,
            _ => {}
        }
        messages.push(numbers.message());
        let data = packed(&messages);
        put(&backend, n, data.clone()).await;
        written.push((messages.clone(), data));
    }
    for (n, (_, data)) in written.iter().enumerate() {
        assert_eq!(read(&backend, n).await, data, "{n}");
    }
    backend.storage.copy_checkpoints(THREAD, "copy").await.unwrap();
    backend.storage.prune_checkpoints(vec![THREAD.into()], PruneStrategy::KeepLatest).await.unwrap();
    assert_eq!(read(&backend, 299).await, written[299].1);
    messages.push(numbers.message());
    put(&backend, 300, packed(&messages)).await;
    assert_eq!(read(&backend, 300).await, packed(&messages), "it does not build on what is gone");
    for (n, (_, data)) in written.iter().enumerate() {
        let found = backend.storage.checkpoint("copy", "", Some(&id(n))).await.unwrap().unwrap();
        assert_eq!(&found.blobs[0].data, data, "{n} of the copy");
    }
}

#[tokio::test]
async fn a_value_that_grows_takes_little_more_than_what_is_added() {
    let backend = Backend::new().await;
    backend.thread(1).await;
    let (mut numbers, mut messages, mut added, mut all) = (Numbers(1), Vec::new(), 0, 0);
    for n in 0..200 {
        messages.push(numbers.message());
        let data = packed(&messages);
        added += messages.last().unwrap().len();
        all += data.len();
        put(&backend, n, data).await;
    }
    let used = backend.storage.thread_storage(thread(1)).await.unwrap().unwrap();
    let bytes = usize::try_from(used.channels[0].1.bytes).unwrap();
    let least = if HANDLERS { all / 2 } else { 0 };
    let most = if HANDLERS { 2 * all } else { (5 * added).min(all / 15) };
    assert!((least..most).contains(&bytes), "{bytes} for {added} that were added, {all} as whole values");
}
