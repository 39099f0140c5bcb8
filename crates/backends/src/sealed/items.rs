//! Store items: their values.

use async_trait::async_trait;
use futures_util::future::try_join_all;
use threadyard_core::{
    items::{FoundItem, Item, ItemAnswer, ItemOperation, ItemPut, Items},
    storage::Result,
    time::Timestamp,
};

use super::{SealedStorage, openable, opener::Opener, sealer::Sealer};

#[async_trait]
impl Items for SealedStorage {
    async fn apply_items(&self, operations: Vec<ItemOperation>, now: Timestamp) -> Result<Vec<ItemAnswer>> {
        let (sealer, opener) = (self.sealer(), self.opener());
        let operations = try_join_all(operations.into_iter().map(|it| sealer.operation(it))).await?;
        let answers = self.inner.apply_items(operations, now).await?;
        try_join_all(answers.into_iter().map(|it| opener.answer(it))).await
    }
}

impl Sealer {
    async fn operation(&self, operation: ItemOperation) -> Result<ItemOperation> {
        Ok(match operation {
            ItemOperation::Put(ItemPut { value: Some(value), namespace, key, ttl, embeddings, within }) => {
                let value = Some(self.value(("store", "value"), &value).await?);
                ItemOperation::Put(ItemPut { namespace, key, value, ttl, embeddings, within })
            }
            other => other,
        })
    }
}

impl Opener {
    async fn item(&self, item: Item) -> Result<Item> {
        Ok(Item { value: self.json(item.value).await?, ..item })
    }

    async fn answer(&self, answer: ItemAnswer) -> Result<ItemAnswer> {
        Ok(match answer {
            ItemAnswer::Item(Some(item)) => ItemAnswer::Item(Some(self.item(item).await?)),
            ItemAnswer::Items(found) => {
                let found = found.into_iter().map(|FoundItem { item, score }| async move {
                    Ok(FoundItem { item: self.item(item).await?, score })
                });
                ItemAnswer::Items(openable(found).await?)
            }
            other => other,
        })
    }
}
