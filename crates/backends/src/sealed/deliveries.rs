//! Deliveries of webhooks. The database makes their bodies of what is encrypted in it.

use async_trait::async_trait;
use futures_util::future::try_join;
use threadyard_core::{
    agent_tasks::TaskId,
    deliveries::{Attempt, Deliveries, Delivery, DeliveryQuery, Recovery, Steered},
    ids::RecoveryId,
    json::raw_from_text,
    metadata_filter::MetadataFilter,
    page::{Page, Window},
    push_configs::{KeptPushConfig, PushConfig, PushConfigs},
    storage::{Result, StorageError},
    time::Timestamp,
    webhooks::{
        AttemptResult, ClaimDeliveries, ClaimedDeliveries, ClaimedDelivery, GivenUp, LeftAlone, Overdue, Waiting,
        Webhooks,
    },
};

use super::{SealedStorage, opener::Opener, runs::no_push_configs};

#[async_trait]
impl Webhooks for SealedStorage {
    async fn claim_deliveries(&self, claim: ClaimDeliveries) -> Result<ClaimedDeliveries> {
        self.inner.claim_deliveries(claim).await
    }

    async fn open_delivery(&self, claimed: ClaimedDelivery) -> Result<ClaimedDelivery> {
        self.opener().delivery(claimed).await
    }

    async fn record_attempt(&self, result: AttemptResult) -> Result<bool> {
        self.inner.record_attempt(result).await
    }

    async fn skip_deliveries(&self, now: Timestamp) -> Result<u64> {
        self.inner.skip_deliveries(now).await
    }

    async fn give_up_deliveries(&self, overdue: Overdue, limit: u32) -> Result<Vec<GivenUp>> {
        self.inner.give_up_deliveries(overdue, limit).await
    }

    async fn waiting(&self) -> Result<Vec<Waiting>> {
        self.inner.waiting().await
    }

    async fn left_alone(&self, now: Timestamp) -> Result<Vec<LeftAlone>> {
        self.inner.left_alone(now).await
    }
}

impl Opener {
    async fn delivery(&self, claimed: ClaimedDelivery) -> Result<ClaimedDelivery> {
        let texts = try_join(self.text(claimed.body), self.url(claimed.url));
        let ((body, url), maker) = try_join(texts, self.document(claimed.maker)).await?;
        Ok(ClaimedDelivery { body, url, maker, ..claimed })
    }
}

#[async_trait]
impl Deliveries for SealedStorage {
    async fn search_deliveries(&self, query: DeliveryQuery, window: Window) -> Result<Page<Delivery>> {
        self.inner.search_deliveries(query, window).await
    }

    async fn count_deliveries(&self, query: DeliveryQuery) -> Result<u64> {
        self.inner.count_deliveries(query).await
    }

    async fn delivery(&self, id: String) -> Result<Option<(Delivery, Vec<Attempt>)>> {
        self.inner.delivery(id).await
    }

    async fn delivery_body(&self, id: String) -> Result<Option<String>> {
        let Some(body) = self.inner.delivery_body(id).await? else { return Ok(None) };
        if body.is_empty() {
            // It was erased.
            return Ok(Some(body));
        }
        let body = raw_from_text(body).map_err(|error| StorageError::Bug(error.to_string()))?;
        Ok(Some(self.opener().json(body).await?.get().to_owned()))
    }

    async fn resend_delivery(&self, id: String, now: Timestamp) -> Result<Steered> {
        self.inner.resend_delivery(id, now).await
    }

    async fn begin_recovery(&self, id: RecoveryId, query: DeliveryQuery, now: Timestamp) -> Result<()> {
        self.inner.begin_recovery(id, query, now).await
    }

    async fn recover_deliveries(&self, limit: u32, now: Timestamp) -> Result<Option<Recovery>> {
        self.inner.recover_deliveries(limit, now).await
    }

    async fn recovery(&self, id: RecoveryId) -> Result<Option<Recovery>> {
        self.inner.recovery(id).await
    }

    async fn cancel_delivery(&self, id: String, now: Timestamp) -> Result<Steered> {
        self.inner.cancel_delivery(id, now).await
    }
}

#[async_trait]
impl PushConfigs for SealedStorage {
    async fn keep_push_config(&self, _: PushConfig, _: MetadataFilter) -> Result<KeptPushConfig> {
        Err(no_push_configs())
    }

    async fn push_configs(&self, task: TaskId) -> Result<Vec<PushConfig>> {
        self.inner.push_configs(task).await
    }

    async fn delete_push_config(&self, task: TaskId, id: String, within: MetadataFilter) -> Result<bool> {
        self.inner.delete_push_config(task, id, within).await
    }

    async fn sweep_push_configs(&self, limit: u32) -> Result<u64> {
        self.inner.sweep_push_configs(limit).await
    }
}
