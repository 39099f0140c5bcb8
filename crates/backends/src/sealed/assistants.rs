//! Assistants: their metadata, context and config.

use async_trait::async_trait;
use futures_util::future::{try_join_all, try_join3};
use threadyard_core::{
    assistants::{Assistant, AssistantPatch, AssistantQuery, AssistantVersion, Assistants, CreatedAssistant},
    ids::AssistantId,
    json::Object,
    metadata_filter::MetadataFilter,
    page::{Page, Window},
    storage::Result,
    time::Timestamp,
};

use super::{SealedStorage, opener::Opener, page, sealer::Sealer};

const CONFIG: (&str, &str) = ("assistant", "config");
const CONTEXT: (&str, &str) = ("assistant", "context");

#[async_trait]
impl Assistants for SealedStorage {
    /// Those of the graphs have nothing that anybody said, and belong to nobody.
    async fn register_assistants(&self, assistants: Vec<Assistant>) -> Result<()> {
        self.inner.register_assistants(assistants).await
    }

    async fn assistant(&self, id: AssistantId) -> Result<Option<Assistant>> {
        self.opener().perhaps_assistant(self.inner.assistant(id).await?).await
    }

    async fn search_assistants(&self, query: AssistantQuery, window: Window) -> Result<Page<Assistant>> {
        let opener = self.opener();
        page(self.inner.search_assistants(query, window).await?, |found| opener.assistant(found)).await
    }

    async fn create_assistant(&self, assistant: Assistant) -> Result<CreatedAssistant> {
        let (opener, sealed) = (self.opener(), self.sealer().assistant(assistant).await?);
        Ok(match self.inner.create_assistant(sealed).await? {
            CreatedAssistant::New(made) => CreatedAssistant::New(opener.assistant(made).await?),
            CreatedAssistant::Existing(found) => CreatedAssistant::Existing(opener.assistant(found).await?),
        })
    }

    async fn patch_assistant(
        &self,
        id: AssistantId,
        patch: AssistantPatch,
        now: Timestamp,
    ) -> Result<Option<Assistant>> {
        let sealer = self.sealer();
        let config = match &patch.config {
            Some(config) => Some(sealer.config(CONFIG, config).await?),
            None => None,
        };
        let context = match &patch.context {
            Some(context) => Some(sealer.object(CONTEXT, context, &[]).await?),
            None => None,
        };
        let metadata = sealer.metadata("assistant", &patch.metadata).await?;
        let patch = AssistantPatch { config, context, metadata, ..patch };
        self.opener().perhaps_assistant(self.inner.patch_assistant(id, patch, now).await?).await
    }

    async fn assistant_versions(
        &self,
        id: AssistantId,
        metadata: Object,
        window: Window,
    ) -> Result<Option<Vec<AssistantVersion>>> {
        let Some(versions) = self.inner.assistant_versions(id, metadata, window).await? else { return Ok(None) };
        let opener = self.opener();
        try_join_all(versions.into_iter().map(|version| opener.version(version))).await.map(Some)
    }

    async fn select_assistant_version(
        &self,
        id: AssistantId,
        within: MetadataFilter,
        version: i64,
        now: Timestamp,
    ) -> Result<Option<Assistant>> {
        let selected = self.inner.select_assistant_version(id, within, version, now).await?;
        self.opener().perhaps_assistant(selected).await
    }

    async fn delete_assistant(&self, id: AssistantId, within: MetadataFilter) -> Result<bool> {
        self.inner.delete_assistant(id, within).await
    }

    async fn count_assistants(&self, query: AssistantQuery) -> Result<u64> {
        self.inner.count_assistants(query).await
    }
}

impl Sealer {
    async fn assistant(&self, it: Assistant) -> Result<Assistant> {
        let (metadata, config, context) = try_join3(
            self.metadata("assistant", &it.metadata),
            self.config(CONFIG, &it.config),
            self.object(CONTEXT, &it.context, &[]),
        )
        .await?;
        Ok(Assistant { metadata, config, context, ..it })
    }
}

impl Opener {
    async fn perhaps_assistant(&self, assistant: Option<Assistant>) -> Result<Option<Assistant>> {
        match assistant {
            Some(assistant) => self.assistant(assistant).await.map(Some),
            None => Ok(None),
        }
    }

    async fn assistant(&self, it: Assistant) -> Result<Assistant> {
        let (metadata, config, context) =
            try_join3(self.document(it.metadata), self.document(it.config), self.document(it.context)).await?;
        Ok(Assistant { metadata, config, context, ..it })
    }

    async fn version(&self, it: AssistantVersion) -> Result<AssistantVersion> {
        let (metadata, config, context) =
            try_join3(self.document(it.metadata), self.document(it.config), self.document(it.context)).await?;
        Ok(AssistantVersion { metadata, config, context, ..it })
    }
}
