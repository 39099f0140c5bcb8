//! Crons: making, finding, changing and deleting them. Their ticks are in `loops/cron_ticker.rs`.

use serde::Deserialize;
use threadyard_core::{
    assistants::Assistant,
    bus::Topic,
    crons::{Cron, CronQuery, OnRunCompleted, UpdatedCron},
    ids::{CronId, ThreadId},
    json::{Object, RawJson, RawObject, Value, fields_of, raw},
    page::{Page, Window},
    time::Timestamp,
};

use crate::{
    Engine, Error, Result, RunFields, RunRequest, run_config, run_fields::given, schedule::Schedule,
    webhook_client::check_webhook_url,
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
    pub async fn create_cron(&self, thread_id: Option<ThreadId>, payload: RawObject) -> Result<Cron> {
        let fields = CronFields::read(&payload)?;
        let required = |name: &str| Error::Invalid(format!("{name}: is required"));
        let schedule = fields.schedule.clone().ok_or_else(|| required("schedule"))?;
        let named = fields.assistant_id.clone().ok_or_else(|| required("assistant_id"))?;
        let assistant = match self.resolve_assistant(&named).await {
            Err(Error::Invalid(_) | Error::NotFound(_)) => return Err(Error::NotFound("assistant")),
            resolved => resolved?,
        };
        let now = self.ambient.now();
        let cron_id = CronId(self.ambient.ordered());
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
            user_id: String::new(),
            metadata: fields.metadata.unwrap_or_default(),
            payload,
        };
        complete(&mut cron)?;
        self.check_runs(&cron, &assistant)?;
        if !self.storage.create_cron(cron.clone()).await? {
            return Err(Error::NotFound("thread"));
        }
        self.wake(Topic::Crons);
        Ok(cron)
    }

    /// The cron with this id.
    pub async fn cron(&self, id: CronId) -> Result<Cron> {
        self.storage.cron(id).await?.ok_or(Error::NotFound("cron"))
    }

    /// The crons that match.
    pub async fn search_crons(&self, query: CronQuery, window: Window) -> Result<Page<Cron>> {
        Ok(self.storage.search_crons(query, window).await?)
    }

    /// How many crons match.
    pub async fn count_crons(&self, query: CronQuery) -> Result<u64> {
        Ok(self.storage.count_crons(query).await?)
    }

    /// Changes a cron. What is absent stays; its assistant can't be changed.
    pub async fn patch_cron(&self, id: CronId, mut patch: RawObject) -> Result<Cron> {
        if patch.is_empty() {
            self.cron(id).await?;
            return Err(Error::Refused("the body must name something to change".into()));
        }
        patch.shift_remove("assistant_id");
        loop {
            let cron = self.cron(id).await?;
            let seen = cron.updated_at;
            let (cron, reschedule) = self.patched(cron, patch.clone())?;
            let assistant = self.assistant(cron.assistant_id).await?;
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
        complete(&mut cron)?;
        Ok((cron, reschedule))
    }

    /// Deletes a cron; its runs stay.
    pub async fn delete_cron(&self, id: CronId) -> Result<()> {
        if self.storage.delete_cron(id).await? { Ok(()) } else { Err(Error::NotFound("cron")) }
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
