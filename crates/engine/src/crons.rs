//! Crons: making, finding, changing and deleting them. Their ticks are in `loops/cron_ticker.rs`.

use serde::Deserialize;
use serde_json::json;
use threadyard_core::{
    access::{Action, User},
    assistants::Assistant,
    bus::Topic,
    crons::{Cron, CronQuery, OnRunCompleted, UpdatedCron},
    ids::{CronId, ThreadId},
    json::{Object, RawJson, RawObject, Value, fields as value_fields, fields_of, raw},
    metadata_filter::MetadataFilter,
    page::{Page, Window},
    sealing,
    time::Timestamp,
};

use crate::{
    Engine, Error, Result, RunFields, RunRequest, access::thread_value, run_config, run_fields::given,
    schedule::Schedule, webhook_client::check_webhook_url,
};

/// The keys of a cron that are not those of its runs.
#[derive(Debug, Deserialize)]
pub struct CronFields {
    #[serde(default)]
    assistant_id: Option<String>,
    #[serde(default, deserialize_with = "given")]
    schedule: Option<String>,
    #[serde(default)]
    timezone: Option<String>,
    #[serde(default)]
    end_time: Option<String>,
    #[serde(default, deserialize_with = "given")]
    on_run_completed: Option<OnRunCompleted>,
    #[serde(default, deserialize_with = "given")]
    enabled: Option<bool>,
    #[serde(default)]
    metadata: Option<Object>,
}

impl CronFields {
    fn read(payload: &RawObject) -> Result<Self> {
        serde_json::from_str(raw(payload).get())
            .map_err(|error| Error::Invalid(format!("the body is not valid: {error}")))
    }

    fn end_time(&self) -> Result<Option<Timestamp>> {
        let read = |text: &String| {
            text.parse()
                .map_err(|_| Error::Invalid(format!("end_time: `{text}` is not a time, such as 2030-01-01T00:00:00Z")))
        };
        self.end_time.as_ref().map(read).transpose()
    }
}

impl Engine {
    /// Makes a cron from what a client sent, on this thread or on a new one for each run.
    pub async fn create_cron(&self, thread_id: Option<ThreadId>, mut payload: RawObject) -> Result<Cron> {
        let fields = CronFields::read(&payload)?;
        let required = |name: &str| Error::Invalid(format!("{name}: is required"));
        let mut schedule = fields.schedule.clone().ok_or_else(|| required("schedule"))?;
        let cron_id = CronId(self.ambient.ordered());
        let mut metadata = fields.metadata.clone().unwrap_or_default();
        let asked = || {
            let mut asked = value_fields(&json!({
                "schedule": schedule, "cron_id": cron_id, "thread_id": thread_id,
                "user_id": self.user().map(User::identity), "end_time": fields.end_time, "metadata": metadata,
            }));
            asked.insert("payload".into(), raw(&payload));
            asked
        };
        let mut permit = self.permit(Action::CronsCreate, asked).await?;
        permit.edit("payload", &mut payload)?;
        permit.edit("schedule", &mut schedule)?;
        permit.edit("metadata", &mut metadata)?;
        let fields = CronFields::read(&payload)?;
        let named = fields.assistant_id.clone().ok_or_else(|| required("assistant_id"))?;
        let within = match thread_id {
            Some(id) => self.permit(Action::ThreadsRead, || thread_value(id)).await?.filter,
            None => MetadataFilter::default(),
        };
        let assistant = match self.resolve_assistant(&named).await {
            Err(Error::Invalid(_) | Error::NotFound(_)) => return Err(Error::NotFound("assistant")),
            resolved => resolved?,
        };
        let now = self.ambient.now();
        let usual = thread_id.is_none().then_some(OnRunCompleted::Delete);
        let mut cron = Cron {
            cron_id,
            assistant_id: assistant.assistant_id,
            thread_id,
            on_run_completed: fields.on_run_completed.or(usual),
            end_time: fields.end_time()?,
            next_run_date: Some(Schedule::read(&schedule, fields.timezone.as_deref())?.after(now)?),
            schedule,
            timezone: fields.timezone,
            enabled: fields.enabled.unwrap_or(true),
            created_at: now,
            updated_at: now,
            user_id: self.user().map(User::identity).unwrap_or_default().to_owned(),
            user: self.user().cloned(),
            metadata,
            payload,
            sealing: sealing::current(),
        };
        self.permit_runs_of(&mut cron).await?;
        complete(&mut cron)?;
        self.check_runs(&cron, &assistant)?;
        if !self.storage.create_cron(cron.clone(), within).await? {
            return Err(Error::NotFound("thread"));
        }
        self.wake(Topic::Crons);
        Ok(cron)
    }

    /// The cron with this id.
    pub async fn cron(&self, id: CronId) -> Result<Cron> {
        let filter = self.permit(Action::CronsRead, || cron_value(id)).await?.filter;
        self.one_of(id, &filter).await
    }

    async fn one_of(&self, id: CronId, within: &MetadataFilter) -> Result<Cron> {
        let found = self.storage.cron(id).await?;
        found.filter(|cron| within.admits(&cron.metadata)).ok_or(Error::NotFound("cron"))
    }

    /// The crons that match.
    pub async fn search_crons(&self, mut query: CronQuery, window: Window) -> Result<Page<Cron>> {
        self.permit_crons(&mut query, window).await?;
        Ok(self.storage.search_crons(query, window).await?)
    }

    /// How many crons match.
    pub async fn count_crons(&self, mut query: CronQuery) -> Result<u64> {
        self.permit_crons(&mut query, Window { limit: 0, offset: 0 }).await?;
        Ok(self.storage.count_crons(query).await?)
    }

    /// Changes a cron. What is absent stays; its assistant can't be changed.
    pub async fn patch_cron(&self, id: CronId, mut patch: RawObject) -> Result<Cron> {
        let fields = CronFields::read(&patch);
        let asked = || {
            let fields = fields.as_ref().ok();
            let mut asked = value_fields(&json!({
                "cron_id": id, "schedule": fields.map(|it| &it.schedule), "end_time": fields.map(|it| &it.end_time),
                "enabled": fields.map(|it| it.enabled), "on_run_completed": fields.map(|it| it.on_run_completed),
                "metadata": fields.map(|it| it.metadata.clone().unwrap_or_default()),
            }));
            asked.insert("payload".into(), raw(&patch));
            asked
        };
        let mut permit = self.permit(Action::CronsUpdate, asked).await?;
        let mut metadata: Option<Object> = None;
        permit.edit("metadata", &mut metadata)?;
        if let Some(metadata) = metadata.filter(|_| !patch.is_empty()) {
            patch.insert("metadata".into(), raw(&metadata));
        }
        let within = permit.filter;
        if patch.is_empty() {
            self.one_of(id, &within).await?;
            return Err(Error::Refused("the body must name something to change".into()));
        }
        patch.shift_remove("assistant_id");
        loop {
            let cron = self.one_of(id, &within).await?;
            let seen = cron.updated_at;
            let (mut cron, reschedule) = self.patched(cron, patch.clone())?;
            if cron.enabled {
                self.permit_runs_of(&mut cron).await?;
            }
            complete(&mut cron)?;
            let assistant = self.storage.assistant(cron.assistant_id).await?.ok_or(Error::NotFound("assistant"))?;
            self.check_runs(&cron, &assistant)?;
            match self.storage.update_cron(cron, seen, reschedule).await? {
                UpdatedCron::Done(changed) => {
                    self.wake(Topic::Crons);
                    return Ok(*changed);
                }
                UpdatedCron::Missing => return Err(Error::NotFound("cron")),
                UpdatedCron::Stale => {}
            }
        }
    }

    /// Narrows a search down to what the caller may see.
    async fn permit_crons(&self, query: &mut CronQuery, window: Window) -> Result<()> {
        let asked = || {
            value_fields(&json!({
                "assistant_id": query.assistant_id, "thread_id": query.thread_id, "metadata": query.metadata,
                "limit": window.limit, "offset": window.offset,
            }))
        };
        let mut permit = self.permit(Action::CronsSearch, asked).await?;
        permit.edit("metadata", &mut query.metadata)?;
        query.visible = permit.filter.narrowing(&mut query.metadata);
        Ok(())
    }

    /// The cron as a patch makes it, and whether its next moment is another.
    fn patched(&self, mut cron: Cron, patch: RawObject) -> Result<(Cron, bool)> {
        let fields = CronFields::read(&patch)?;
        let reschedule = patch.contains_key("schedule") || patch.contains_key("timezone");
        if patch.contains_key("timezone") {
            cron.timezone.clone_from(&fields.timezone);
        }
        if patch.contains_key("end_time") {
            cron.end_time = fields.end_time()?;
        }
        cron.schedule = fields.schedule.unwrap_or(cron.schedule);
        cron.enabled = fields.enabled.unwrap_or(cron.enabled);
        cron.on_run_completed = fields.on_run_completed.or(cron.on_run_completed);
        cron.metadata.extend(fields.metadata.unwrap_or_default());
        cron.payload.extend(patch);
        cron.updated_at = self.ambient.now();
        if reschedule {
            let schedule = Schedule::read(&cron.schedule, cron.timezone.as_deref())?;
            cron.next_run_date = Some(schedule.after(cron.updated_at)?);
        }
        Ok((cron, reschedule))
    }

    /// Deletes a cron; its runs stay.
    pub async fn delete_cron(&self, id: CronId) -> Result<()> {
        let within = self.permit(Action::CronsDelete, || cron_value(id)).await?.filter;
        if self.storage.delete_cron(id, within).await? { Ok(()) } else { Err(Error::NotFound("cron")) }
    }

    /// Refuses a cron whose runs could never be created.
    fn check_runs(&self, cron: &Cron, assistant: &Assistant) -> Result<()> {
        if let Some(input) = cron.payload.get("input") {
            let objects = serde_json::from_str::<Vec<RawJson>>(input.get());
            let listed = objects.is_ok_and(|objects| objects.iter().all(|it| fields_of(it).is_some()));
            if fields_of(input).is_none() && !listed {
                return Err(Error::Invalid("input: must be an object or a list of objects".into()));
            }
        }
        let request = run_request(cron)?;
        run_config::merge(assistant, &request.config, &request.context)?;
        request.webhook.map_or(Ok(()), |url| check_webhook_url(&url, &self.settings.webhook_policy))
    }
}

fn cron_value(id: CronId) -> RawObject {
    value_fields(&json!({ "cron_id": id }))
}

/// What each run of a cron is created with.
pub(crate) fn run_request(cron: &Cron) -> Result<RunRequest> {
    let mut payload = cron.payload.clone();
    if cron.thread_id.is_none() {
        // Runs that bring their own thread have nobody to compete with.
        payload.shift_remove("multitask_strategy");
    }
    let fields: RunFields = serde_json::from_str(raw(&payload).get())
        .map_err(|error| Error::Invalid(format!("the body is not valid: {error}")))?;
    let mut request = fields.request()?;
    // The payload shows the cron among what the client configured, but it is no such thing: a context may stand there.
    if let Some(Value::Object(configurable)) = request.config.get_mut("configurable") {
        configurable.shift_remove("cron_id");
    }
    request.cron_id = Some(cron.cron_id);
    if cron.user.is_some() {
        // What an auth handler wrote on the cron, such as its owner, its runs are found by as well.
        request.metadata.extend(cron.metadata.clone());
    }
    Ok(request)
}

/// Has the payload name the assistant by its id, and its runs the cron.
fn complete(cron: &mut Cron) -> Result<()> {
    let object = |json: Option<&RawJson>, name: &str| match json {
        None => Ok(RawObject::new()),
        Some(json) if json.get() == "null" => Ok(RawObject::new()),
        Some(json) => fields_of(json).ok_or_else(|| Error::Invalid(format!("{name}: must be an object"))),
    };
    let mut config = object(cron.payload.get("config"), "config")?;
    let mut configurable = object(config.get("configurable"), "config.configurable")?;
    configurable.insert("cron_id".into(), raw(&cron.cron_id));
    config.insert("configurable".into(), raw(&configurable));
    cron.payload.insert("config".into(), raw(&config));
    cron.payload.insert("assistant_id".into(), raw(&cron.assistant_id));
    Ok(())
}
