//! Crons: their metadata, what their runs are made from, and who made them.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::{join_all, try_join};
use threadyard_core::{
    crons::{Cron, CronQuery, CronTick, Crons, DueCrons, UpdatedCron},
    ids::CronId,
    json::Object,
    metadata_filter::MetadataFilter,
    page::{Page, Window},
    runs::CreatedRun,
    sealing::CONTEXT_KEY,
    storage::{Result, StorageError},
    time::Timestamp,
};
use tokio::time::timeout;

use super::{SealedStorage, opener::Opener, page, runs::created_in_context, sealer::Sealer};

/// So long others wait for a cron to be decrypted. It may be decrypted sooner at the next look.
const WITHIN: Duration = Duration::from_secs(5);

#[async_trait]
impl Crons for SealedStorage {
    async fn create_cron(&self, cron: Cron, within: MetadataFilter) -> Result<bool> {
        self.inner.create_cron(self.sealer().cron(cron).await?, within).await
    }

    async fn cron(&self, id: CronId) -> Result<Option<Cron>> {
        match self.inner.cron(id).await? {
            Some(cron) => self.opener().cron(cron).await.map(Some),
            None => Ok(None),
        }
    }

    async fn search_crons(&self, query: CronQuery, window: Window) -> Result<Page<Cron>> {
        let opener = self.opener();
        page(self.inner.search_crons(query, window).await?, |found| opener.cron(found)).await
    }

    async fn count_crons(&self, query: CronQuery) -> Result<u64> {
        self.inner.count_crons(query).await
    }

    async fn update_cron(&self, cron: Cron, seen: Timestamp, reschedule: bool) -> Result<UpdatedCron> {
        let cron = self.sealer().cron(cron).await?;
        Ok(match self.inner.update_cron(cron, seen, reschedule).await? {
            UpdatedCron::Done(cron) => UpdatedCron::Done(Box::new(self.opener().cron(*cron).await?)),
            other => other,
        })
    }

    async fn delete_cron(&self, id: CronId, within: MetadataFilter) -> Result<bool> {
        self.inner.delete_cron(id, within).await
    }

    async fn due_crons(&self, now: Timestamp, limit: u32) -> Result<DueCrons> {
        let opener = self.opener();
        // Those that can't be opened stay due, and are not to take the places of the others.
        let mut unreadable = 0;
        loop {
            let asked = limit.saturating_add(unreadable);
            let DueCrons { crons, next_due } = self.inner.due_crons(now, asked).await?;
            let all = crons.len() < asked as usize;
            let (crons, lost) = opener.due(crons).await?;
            if all || lost <= unreadable {
                return Ok(DueCrons { crons, next_due });
            }
            unreadable = lost;
        }
    }

    async fn tick_cron(&self, tick: CronTick) -> Result<Option<Option<CreatedRun>>> {
        let run = match tick.run {
            Some(run) => Some(self.sealer().new_run(run).await?),
            None => None,
        };
        let ticked = self.inner.tick_cron(CronTick { run, ..tick }).await?;
        Ok(ticked.map(|created| created.map(created_in_context)))
    }
}

fn late() -> StorageError {
    StorageError::Sealing(format!("the handlers did not answer within {} s", WITHIN.as_secs()))
}

impl Sealer {
    async fn cron(&self, cron: Cron) -> Result<Cron> {
        let documents = try_join(self.metadata("cron", &cron.metadata), self.payload(cron.payload));
        let ((metadata, payload), user) = try_join(documents, self.user(("cron", "user"), cron.user)).await?;
        Ok(Cron { metadata, payload, user, ..cron })
    }
}

impl Opener {
    /// The crons that can be opened, and how many can't be.
    async fn due(&self, crons: Vec<Cron>) -> Result<(Vec<Cron>, u32)> {
        let (mut opened, mut lost) = (Vec::new(), 0);
        let readings = crons.into_iter().map(|cron| async {
            let cron_id = cron.cron_id;
            (cron_id, timeout(WITHIN, self.cron(cron)).await.unwrap_or_else(|_| Err(late())))
        });
        for (cron_id, cron) in join_all(readings).await {
            match cron {
                Ok(cron) => opened.push(cron),
                Err(error @ StorageError::Sealing(_)) => {
                    tracing::error!(%cron_id, %error, "a cron can't be decrypted, and begins no runs");
                    lost += 1;
                }
                Err(error) => return Err(error),
            }
        }
        Ok((opened, lost))
    }

    async fn cron(&self, mut cron: Cron) -> Result<Cron> {
        let kept = cron.payload.shift_remove(CONTEXT_KEY);
        let kept = kept.and_then(|kept| serde_json::from_str::<Object>(kept.get()).ok());
        let documents = try_join(self.document(cron.metadata), self.document(cron.payload));
        let ((metadata, payload), user) = try_join(documents, self.document(cron.user)).await?;
        Ok(Cron { metadata, payload, user, sealing: kept.unwrap_or_default().into(), ..cron })
    }
}
