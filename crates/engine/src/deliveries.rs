//! Deliveries of webhooks: seeing what was sent, and having it sent again or no more.

use threadyard_core::{
    access::Action,
    bus::Topic,
    deliveries::{Attempt, Delivery, DeliveryQuery, Steered},
    ids::{RunId, ThreadId},
    page::{Page, Window},
    webhooks::origin,
};

use crate::{Engine, Error, Result};

/// More attempts than a run's deliveries have.
const OF_A_RUN: Window = Window { limit: 100, offset: 0 };

/// Why there is no body any more.
const ERASED: &str = "the body of this delivery was erased; see webhooks.log.retention_body of langgraph.json";

impl Engine {
    /// The deliveries of a run with their attempts, also when the run is gone.
    pub async fn run_deliveries(&self, thread_id: ThreadId, run_id: RunId) -> Result<Vec<(Delivery, Vec<Attempt>)>> {
        self.permit_on_thread(Action::ThreadsRead, thread_id).await?;
        let query = DeliveryQuery { run_id: Some(run_id), thread_id: Some(thread_id), ..DeliveryQuery::default() };
        let found = self.storage.search_deliveries(query, OF_A_RUN).await?.rows;
        if found.is_empty() {
            self.run(thread_id, run_id).await?;
        }
        let mut with_attempts = Vec::with_capacity(found.len());
        for delivery in found {
            with_attempts.extend(self.storage.delivery(delivery.delivery_id).await?);
        }
        Ok(with_attempts)
    }

    /// A page of deliveries, the newest first.
    pub async fn search_deliveries(&self, query: DeliveryQuery, window: Window) -> Result<Page<Delivery>> {
        self.operators_only()?;
        Ok(self.storage.search_deliveries(query, window).await?)
    }

    /// How many deliveries match.
    pub async fn count_deliveries(&self, query: DeliveryQuery) -> Result<u64> {
        self.operators_only()?;
        Ok(self.storage.count_deliveries(query).await?)
    }

    /// One delivery with its attempts.
    pub async fn delivery(&self, id: String) -> Result<(Delivery, Vec<Attempt>)> {
        self.operators_only()?;
        self.storage.delivery(id).await?.ok_or(Error::NotFound("delivery"))
    }

    /// What is sent, to the byte.
    pub async fn delivery_body(&self, id: String) -> Result<String> {
        self.operators_only()?;
        let body = self.storage.delivery_body(id).await?.ok_or(Error::NotFound("delivery"))?;
        if body.is_empty() { Err(Error::Gone(ERASED.into())) } else { Ok(body) }
    }

    /// Has a delivery sent now, besides its schedule, even if its receiver is left alone.
    pub async fn resend_delivery(&self, id: String) -> Result<()> {
        self.operators_only()?;
        self.may_send()?;
        let steered = self.storage.resend_delivery(id.clone(), self.ambient.now()).await?;
        if let (Steered::Done, Some((delivery, _))) = (&steered, self.storage.delivery(id).await?)
            && let Some(origin) = origin(&delivery.url)
        {
            self.outbox.open(&origin);
        }
        self.steered(steered, "the delivery is on its way already")
    }

    /// Stops a delivery that is not settled.
    pub async fn cancel_delivery(&self, id: String) -> Result<()> {
        self.operators_only()?;
        let steered = self.storage.cancel_delivery(id, self.ambient.now()).await?;
        self.steered(steered, "the delivery is settled already")
    }

    fn steered(&self, steered: Steered, otherwise: &str) -> Result<()> {
        match steered {
            Steered::Done => {
                self.wake(Topic::Deliveries);
                Ok(())
            }
            Steered::Missing => Err(Error::NotFound("delivery")),
            Steered::NotNow => Err(Error::Conflict(otherwise.into())),
            Steered::Erased => Err(Error::Gone(ERASED.into())),
        }
    }
}
