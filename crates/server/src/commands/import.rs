//! `import`: everything from one database into another, so that a team takes its threads from `dev` to production, or back.

use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use threadyard_backends::{Comparison, Place, PostgresConfig, Progress, Step, Transfer, compare, import};
use threadyard_engine::Faults;
use tokio::time::Instant;

use super::progress;
use crate::encryption::EncryptionArgs;

#[derive(Args, Debug)]
pub(super) struct ImportArgs {
    /// The database to read, which no server may be using: a data folder, the file in it, or the URI of a `PostgreSQL`
    /// database.
    #[arg(long, env = "THREADYARD_IMPORT_FROM", hide_env_values = true)]
    from: String,
    /// The database to fill, which must be empty, in the same words. The same command goes on where it was interrupted.
    #[arg(long, env = "THREADYARD_IMPORT_TO", hide_env_values = true)]
    to: String,
    #[command(flatten)]
    encryption: EncryptionArgs,
    /// What is copied was encrypted by the handlers of `encryption.path`, and stays as they left it.
    #[arg(long)]
    custom_encryption: bool,
    /// Leaves behind what items mean, where `PostgreSQL` lacks the extension `vector`.
    #[arg(long)]
    without_embeddings: bool,
    /// Copies nothing; compares what the two hold.
    #[arg(long)]
    verify: bool,
    /// For crash tests: the batch after which this process kills itself.
    #[arg(long, env = "THREADYARD_KILL_AT", hide = true)]
    kill_at: Option<String>,
}

/// How often a long step says how far it is.
const EVERY: Duration = Duration::from_secs(3);

pub(super) async fn run(args: ImportArgs) -> anyhow::Result<()> {
    let cipher = args.encryption.cipher()?;
    let transfer = Transfer {
        from: place(&args.from).context("--from can't be used")?,
        to: place(&args.to).context("--to can't be used")?,
        embeddings: !args.without_embeddings,
        cipher: if args.custom_encryption { cipher.behind_handlers() } else { cipher },
    };
    let mut speaker = Speaker::new(Faults::new(args.kill_at));
    let comparisons = if args.verify {
        compare(&transfer, &mut |it| speaker.hear(it)).await?
    } else {
        import(&transfer, &mut |it| speaker.hear(it)).await?
    };
    speaker.conclude();
    print(&comparisons);
    let different = comparisons.iter().filter(|it| !it.is_same()).count();
    ensure!(
        different == 0,
        "{different} tables differ{}",
        if args.verify { "" } else { ": the target is not to be used" }
    );
    Ok(())
}

fn place(text: &str) -> anyhow::Result<Place> {
    Ok(if text.contains("://") {
        Place::Postgres(Box::new(PostgresConfig::parse(text)?))
    } else {
        Place::Folder(text.into())
    })
}

/// Says how far everything is: a line when a table begins, and every few seconds.
struct Speaker {
    faults: Faults,
    begun: Instant,
    said: Instant,
    /// What has gone over, in all: batches, rows and bytes.
    copied: (u64, u64, u64),
    current: Option<Progress>,
}

impl Speaker {
    fn new(faults: Faults) -> Self {
        let now = Instant::now();
        Self { faults, begun: now, said: now, copied: (0, 0, 0), current: None }
    }

    fn hear(&mut self, heard: Progress) {
        let before = self.current.replace(heard).filter(|it| (it.step, it.noun) == (heard.step, heard.noun));
        if let (Step::Copying, Some(before)) = (heard.step, before) {
            let (batches, rows, bytes) = self.copied;
            self.copied = (batches + 1, rows + heard.rows - before.rows, bytes + heard.bytes);
            self.faults.reach(&format!("import.{}", batches + 1));
        }
        if before.is_none() && heard.of > 0 || self.said.elapsed() >= EVERY {
            self.said = Instant::now();
            let step = if heard.step == Step::Copying { "copying" } else { "comparing" };
            let done = if heard.rows > 0 { format!("{} of ", heard.rows) } else { String::new() };
            progress(&format!("{step} {}: {done}{}", heard.noun, heard.of));
        }
    }

    fn conclude(&self) {
        let (batches, rows, bytes) = self.copied;
        let seconds = self.begun.elapsed().as_secs_f64();
        if batches > 0 {
            progress(&format!("{rows} rows and {} copied and compared in {seconds:.1} s", size(bytes)));
        }
    }
}

fn print(comparisons: &[Comparison]) {
    println!("{:<24}{:>12}{:>14}  compared", "", "rows", "bytes");
    for it in comparisons {
        println!("{:<24}{:>12}{:>14}  {}", it.noun, it.from.rows, it.from.bytes, verdict(it));
    }
}

fn verdict(it: &Comparison) -> String {
    if it.is_same() {
        return "ok".into();
    }
    if it.from.rows != it.to.rows {
        return format!("DIFFERENT: {} rows in the target", it.to.rows);
    }
    format!("DIFFERENT: {} is {}", &it.from.digest()[..16], &it.to.digest()[..16])
}

#[expect(clippy::cast_precision_loss, reason = "nobody counts so many bytes one by one")]
fn size(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
