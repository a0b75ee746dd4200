//! The command line.

mod access;
mod channel;
mod endpoint;
mod inbound;
mod tenant_backups;
mod usage;

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use tidegate_protocol::chain::Head;
use tidegate_sdk::http::ActionPattern;
use tidegate_sdk::{Priority, UnixMs};

pub use self::access::{Key, Revoke, Secret};
pub use self::channel::Channel;
pub use self::endpoint::{Endpoint, WebhookSecret, WebhookSecretCommand};
pub use self::inbound::Webhook;
pub use self::tenant_backups::TenantBackups;
pub use self::usage::{Budgets, Export, Usage};
use crate::exit::TABLE;

/// Runs actions on Tidegate and follows them to their outcome.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, after_help = TABLE)]
pub struct Arguments {
    /// Where the server is, and who asks.
    #[command(flatten)]
    pub connection: Connection,
    /// For machines: one JSON line on stdout for each event, result and error.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Where the server is, and who asks.
#[derive(Debug, Args)]
pub struct Connection {
    /// The server's address, such as http://127.0.0.1:8787.
    #[arg(long, global = true, env = "TIDEGATE_URL", value_name = "URL")]
    pub url: Option<String>,
    /// The token to show to the server.
    #[arg(
        long,
        global = true,
        env = "TIDEGATE_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    pub token: Option<String>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Mint a development token from the key of an issuer, and print it.
    Token(Token),
    /// Store a file as an object of the tenant.
    Put(Put),
    /// Read an object of the tenant.
    Get(Get),
    /// Run an action.
    Call(Call),
    /// Look at jobs, follow them, cancel them, try them again, read their results.
    #[command(subcommand)]
    Job(Job),
    /// Run many requests of a file as one batch, see how it stands, cancel it as one.
    #[command(subcommand)]
    Batch(Batch),
    /// Publish messages to channels, follow a channel, read what is kept of it.
    #[command(subcommand)]
    Channel(Channel),
    /// Look at what waits, hold jobs back, let them go again (scope `jobs:write`; to look, `jobs:read` is enough).
    #[command(subcommand)]
    Queue(Queue),
    /// Look at schedules, hold them back, fire them by hand (scope `jobs:write` or `admin`).
    #[command(subcommand)]
    Schedules(Schedules),
    /// Look at jobs that failed for good, do them again, or take them out of the list.
    #[command(subcommand)]
    DeadLetters(DeadLetters),
    /// Run a command for each job of a pool, until SIGTERM or Ctrl-C (scope `jobs:work`).
    Worker(Worker),
    /// Change or show what the tenant's actions are (scope `admin`).
    #[command(subcommand)]
    Composition(Composition),
    /// Show who changed what by hand, newest first (scope `admin`).
    Audit(Audit),
    /// Show how often limits on requests have refused, and what is left of one (scope `admin`).
    Limits(Limits),
    /// Tell how the tenant is, and why (scope `admin`). Ends with 1 where it is not healthy.
    Health,
    /// Show what the tenant uses, what that costs and how its budgets stand (scope `admin`).
    Usage(Usage),
    /// Set an operator's budgets for a tenant (scope `operator`).
    Budgets(Budgets),
    /// Look at the breakers of upstreams, open, close or disable them by hand (scope `admin`).
    #[command(subcommand)]
    Upstreams(Upstreams),
    /// Set, list or delete secrets that the composition refers to (scope `admin`).
    #[command(subcommand)]
    Secret(Secret),
    /// Make, list, rotate or delete API keys (scope `admin`).
    #[command(subcommand)]
    Key(Key),
    /// Refuse credentials from now on (scope `admin`).
    Revoke(Revoke),
    /// Ask what the tenant's policies make of a request, and why (scope `admin`).
    #[command(subcommand)]
    Policy(Policy),
    /// Create, list, suspend, resume and erase the tenants of the deployment (scope `operator`).
    #[command(subcommand)]
    Tenant(Tenant),
    /// List the sources whose webhooks become jobs, with their addresses (scope `admin`).
    #[command(subcommand)]
    Webhook(Webhook),
    /// Make, change, list or delete endpoints that are told of ends, and send again what they missed (scope `admin`).
    #[command(subcommand)]
    Endpoint(Endpoint),
    /// Show or change the secret with which the tenant's endpoints verify what is sent to them (scope `admin`).
    WebhookSecret(WebhookSecret),
}

/// `tidegate token`
#[derive(Debug, Args)]
pub struct Token {
    /// The file with the key: `.dev.vars`, the JSON list of issuers, or a private JSON Web Key
    /// [default: `.dev.vars` of this folder or one above].
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// The tenant that the token is for.
    #[arg(long, default_value = "demo")]
    pub tenant: String,
    /// The user that the token is for.
    #[arg(long, default_value = "you")]
    pub user: String,
    /// What the token may do; can be given several times [default: admin, jobs:read, jobs:write].
    #[arg(long = "scope", value_name = "SCOPE")]
    pub scopes: Vec<String>,
    /// A token without any scope.
    #[arg(long, conflicts_with = "scopes")]
    pub no_scope: bool,
    /// How long it is good for, such as 30m, 12h or 7d.
    #[arg(long, default_value = "7d", value_parser = duration)]
    pub ttl: u64,
    /// Which issuer of the list [default: the first with a key to sign with].
    #[arg(long)]
    pub issuer: Option<String>,
    /// The audience, where the file is a bare key.
    #[arg(long, default_value = "tidegate")]
    pub audience: String,
    /// The claim that names the tenant, where the file is a bare key.
    #[arg(long, default_value = "tid")]
    pub tenant_claim: String,
}

/// `tidegate put`
#[derive(Debug, Args)]
pub struct Put {
    /// The object's name.
    pub name: String,
    /// The file.
    pub file: PathBuf,
    /// The media type [default: by the name's ending].
    #[arg(long)]
    pub content_type: Option<String>,
}

/// `tidegate get`
#[derive(Debug, Args)]
pub struct Get {
    /// The object's name.
    pub name: String,
    /// Where to write it [default: stdout].
    pub file: Option<PathBuf>,
}

/// `tidegate call`
#[derive(Debug, Args)]
pub struct Call {
    /// The action's name.
    #[arg(required_unless_present = "batch")]
    pub action: Option<String>,
    /// Run many requests instead: a file with a JSON array, or one request a line; - for stdin.
    #[arg(
        long,
        value_name = "FILE|-",
        conflicts_with_all = ["action", "payload", "key", "asynchronous", "follow", "timeout", "attempt_timeout", "delay", "metadata", "priority", "queue_timeout", "on_end", "cancel_on_disconnect"]
    )]
    pub batch: Option<String>,
    /// Its input: JSON, @FILE, or - for stdin.
    #[arg(long, value_name = "JSON|@FILE|-", allow_hyphen_values = true)]
    pub payload: Option<String>,
    /// A name for this piece of work: the same key runs once [default: random].
    #[arg(long)]
    pub key: Option<String>,
    /// Take an acknowledgment now and the outcome later.
    #[arg(long = "async")]
    pub asynchronous: bool,
    /// Show progress until the outcome. Ctrl-C stops following; the job goes on.
    #[arg(long)]
    pub follow: bool,
    /// How long to wait for the outcome, such as 90s or 5m; then exit code 6. The job goes on.
    #[arg(long, value_parser = duration)]
    pub timeout: Option<u64>,
    /// How long one attempt may take, such as 30s.
    #[arg(long, value_parser = duration)]
    pub attempt_timeout: Option<u64>,
    /// How soon it is wanted, where it has to wait [default: as the action says].
    #[arg(long, value_parser = PossibleValuesParser::new(["high", "normal", "low"])
        .try_map(|text| Priority::parse(&text).ok_or("no priority")))]
    pub priority: Option<Priority>,
    /// How long it may wait for its first attempt, such as 30s; then it expires.
    #[arg(long, value_parser = duration)]
    pub queue_timeout: Option<u64>,
    /// The endpoint that is told of the job's end, where the action lets requests name one.
    #[arg(long, value_name = "URL")]
    pub on_end: Option<String>,
    /// Cancel the job where nobody follows it any more.
    #[arg(long)]
    pub cancel_on_disconnect: bool,
    /// Not before so long from now, such as 10m.
    #[arg(long, value_parser = duration)]
    pub delay: Option<u64>,
    /// A note on the request; can be given several times.
    #[arg(long, value_name = "NAME=VALUE", value_parser = note)]
    pub metadata: Vec<(String, String)>,
}

/// `tidegate job`
#[derive(Debug, Subcommand)]
pub enum Job {
    /// Show a job.
    Show {
        /// The job.
        id: String,
        /// Wait for its end, such as 30s; the exit code then tells the outcome.
        #[arg(long, value_parser = duration)]
        wait: Option<u64>,
    },
    /// List jobs, newest first unless said otherwise.
    List {
        /// In this state.
        #[arg(long)]
        status: Option<String>,
        /// Of this action.
        #[arg(long)]
        action: Option<String>,
        /// Of this user; another's needs the scope `jobs:read`.
        #[arg(long)]
        user: Option<String>,
        /// Of this batch.
        #[arg(long)]
        batch: Option<String>,
        /// Accepted at this moment or later, such as 2026-11-21T07:00:00Z.
        #[arg(long, value_name = "TIME")]
        created_after: Option<String>,
        /// Accepted before this moment.
        #[arg(long, value_name = "TIME")]
        created_before: Option<String>,
        /// With this note; can be given several times.
        #[arg(long, value_name = "NAME=VALUE", value_parser = note)]
        metadata: Vec<(String, String)>,
        /// Which come first: `created` the oldest, `-created` the newest.
        #[arg(long, value_name = "ORDER", allow_hyphen_values = true)]
        sort: Option<String>,
        /// At most so many.
        #[arg(long)]
        limit: Option<u32>,
        /// From where the page before ended, with the same order.
        #[arg(long)]
        cursor: Option<String>,
    },
    /// Try a job again: one that waits, now; one that failed, was cancelled or expired, as a new job.
    Retry {
        /// The job.
        id: String,
        /// Another input for the new job: JSON, @FILE, or - for stdin.
        #[arg(long, value_name = "JSON|@FILE|-", allow_hyphen_values = true)]
        payload: Option<String>,
    },
    /// Hold a job back that waits.
    Pause {
        /// The job.
        id: String,
    },
    /// Let a paused job wait again where it waited.
    Resume {
        /// The job.
        id: String,
    },
    /// Give a job that waits another time.
    Reschedule {
        /// The job.
        id: String,
        /// So much later than now, such as 30s, 5m or 2h.
        #[arg(long = "in", value_name = "DURATION", value_parser = duration, conflicts_with = "at", required_unless_present = "at")]
        after: Option<u64>,
        /// At this moment, as RFC 3339 text.
        #[arg(long, value_name = "TIME")]
        at: Option<String>,
    },
    /// Ask that a job ends.
    Cancel {
        /// The job.
        id: String,
    },
    /// Say what a job waits for.
    Why {
        /// The job.
        id: String,
    },
    /// Show a job's progress until its outcome. Ctrl-C stops following; the job goes on.
    Follow {
        /// The job.
        id: String,
        /// Begin with the events after this one [default: where the job stands].
        #[arg(long, value_name = "SEQ")]
        after: Option<u64>,
        /// How long to wait for the outcome, such as 90s; then exit code 6.
        #[arg(long, value_parser = duration)]
        timeout: Option<u64>,
    },
    /// Read what a job writes to one of its streams.
    Output {
        /// The job.
        id: String,
        /// The stream.
        #[arg(long, default_value = "log")]
        stream: String,
        /// From this byte of the stream on.
        #[arg(long, default_value_t = 0)]
        offset: u64,
        /// Go on until the job has ended. Ctrl-C stops following; the job goes on.
        #[arg(long)]
        follow: bool,
    },
    /// Show the stored events of a job: how far its attempts came, why they failed, how it ended.
    Events {
        /// The job.
        id: String,
        /// Only events after this one.
        #[arg(long, value_name = "SEQ")]
        after: Option<u64>,
    },
    /// Read a job's result.
    Result {
        /// The job.
        id: String,
        /// Where to write it [default: stdout].
        file: Option<PathBuf>,
    },
}

/// `tidegate batch`
#[derive(Debug, Subcommand)]
pub enum Batch {
    /// Run the requests of a file, and print the batch's id.
    Send {
        /// A JSON array of requests, or one request a line, at most 1,000; - for stdin.
        file: String,
        /// A name for all of it: sent again under it, there is still one batch, and one job for each request.
        #[arg(long)]
        key: Option<String>,
        /// Show its progress until all of it has ended. Ctrl-C stops following; its jobs go on.
        #[arg(long)]
        follow: bool,
    },
    /// Show how the jobs of a batch stand.
    Show {
        /// The batch.
        id: String,
        /// Wait for the end of all of them, such as 30s; the exit code then tells the outcome.
        #[arg(long, value_parser = duration)]
        wait: Option<u64>,
    },
    /// Show a batch's progress until all of it has ended. Ctrl-C stops following; its jobs go on.
    Follow {
        /// The batch.
        id: String,
        /// How long to wait, such as 10m; then exit code 6.
        #[arg(long, value_parser = duration)]
        timeout: Option<u64>,
    },
    /// End every job of a batch that has not ended.
    Cancel {
        /// The batch.
        id: String,
    },
}

/// `tidegate limits`
#[derive(Debug, Args)]
pub struct Limits {
    /// The limit whose keys are shown.
    pub name: Option<String>,
    /// Where an earlier page ended.
    #[arg(long)]
    pub cursor: Option<String>,
}

/// `tidegate upstreams`
#[derive(Debug, Subcommand)]
pub enum Upstreams {
    /// List the breakers, with their latest changes.
    List,
    /// Make no more calls, until it is closed.
    Open(BreakerName),
    /// Begin anew, closed, with nothing counted.
    Close(BreakerName),
    /// Make every call and count none, until it is closed.
    Disable(BreakerName),
}

/// `tidegate policy`
#[derive(Debug, Subcommand)]
pub enum Policy {
    /// Tell whether a request would be let through, and what each policy says to it. Nothing is run.
    Explain(PolicyExplain),
}

/// A request that is asked about.
#[derive(Debug, Args)]
pub struct PolicyExplain {
    /// The action.
    #[arg(long)]
    pub action: String,
    /// The claims of the token: a JSON object, @FILE, or - for stdin.
    #[arg(long, value_name = "JSON|@FILE|-")]
    pub claims: Option<String>,
    /// Who asks [default: the claim `sub`, or you].
    #[arg(long)]
    pub user: Option<String>,
    /// What the token allows; can be given several times [default: the claim `scope`].
    #[arg(long = "scope", value_name = "SCOPE")]
    pub scopes: Vec<String>,
    /// Bytes of the payload.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub payload_bytes: u64,
    /// When (RFC 3339) [default: now].
    #[arg(long, value_name = "TIME")]
    pub now: Option<String>,
    /// How the request comes.
    #[arg(long, default_value = "http", value_parser = ["http", "socket"])]
    pub transport: String,
}

/// Which breaker is meant.
#[derive(Debug, Args)]
pub struct BreakerName {
    /// The upstream: the pattern's instance and its name, such as bank.main.
    pub name: String,
    /// The key of one breaker; without it, the upstream as a whole.
    #[arg(long)]
    pub key: Option<String>,
}

/// `tidegate tenant`
#[derive(Debug, Subcommand)]
pub enum Tenant {
    /// Create a tenant.
    Create {
        /// Its id: 1 to 48 characters of a-z, 0-9 and -.
        tenant: String,
        /// The jurisdiction that its objects stay in, which becomes part of the id: eu or fedramp.
        #[arg(long)]
        jurisdiction: Option<String>,
        /// The template of the deployment that its first composition comes from.
        #[arg(long)]
        template: Option<String>,
    },
    /// List the tenants, by id.
    List {
        /// Only those in this state: creating, active, suspended, erasing, erased or restoring.
        #[arg(long)]
        state: Option<String>,
        /// So many at most.
        #[arg(long, value_name = "N")]
        limit: Option<u32>,
        /// Where an earlier page ended.
        #[arg(long)]
        cursor: Option<String>,
    },
    /// Show a tenant.
    Show {
        /// Its id.
        tenant: String,
    },
    /// Show how often limits on a tenant's requests have refused, and what the deployment allows it; or set that.
    Limits {
        /// Its id.
        tenant: String,
        /// A limit whose keys are shown.
        #[arg(long, value_name = "NAME", conflicts_with = "set")]
        name: Option<String>,
        /// Where an earlier page ended.
        #[arg(long, conflicts_with = "set")]
        cursor: Option<String>,
        /// A JSON object of what the deployment allows the tenant, instead of what was set before; {} limits nothing. - reads
        /// standard input.
        #[arg(long, value_name = "FILE|-")]
        set: Option<PathBuf>,
    },
    /// Let nobody of a tenant in.
    Suspend {
        /// Its id.
        tenant: String,
    },
    /// Let a suspended tenant in again.
    Resume {
        /// Its id.
        tenant: String,
    },
    /// Erase a tenant with all that is stored of it. That cannot be undone, but where its backups are kept.
    Erase {
        /// Its id.
        tenant: String,
        /// Its id once more.
        #[arg(long, value_name = "ID")]
        confirm: String,
        /// Leave its backups where they are, so that it can be restored.
        #[arg(long)]
        keep_backups: bool,
        /// Wait until nothing is left.
        #[arg(long)]
        wait: bool,
    },
    /// Take a suspended tenant back to a time in the last 30 days, where the platform can. It stays suspended.
    Recover {
        /// Its id.
        tenant: String,
        /// The time, as 2026-11-23T14:05:00Z.
        #[arg(long, value_name = "TIME")]
        at: String,
    },
    /// Back up, export, import and restore tenants.
    #[command(flatten)]
    Backups(TenantBackups),
}

/// `tidegate audit`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Audit {
    /// What else to do with the trail.
    #[command(subcommand)]
    pub command: Option<AuditCommand>,
    /// Only of this kind, such as queue.paused or dead_letters.redriven.
    #[arg(long)]
    pub what: Option<String>,
    /// Only by this user.
    #[arg(long)]
    pub user: Option<String>,
    /// Only done at this moment or later (RFC 3339).
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// Only done before this moment (RFC 3339).
    #[arg(long, value_name = "TIME")]
    pub to: Option<String>,
    /// So many entries at most.
    #[arg(long, value_name = "N")]
    pub limit: Option<u32>,
    /// Where an earlier page ended.
    #[arg(long)]
    pub cursor: Option<String>,
    /// Only behind the entry with this number; then as they were written, oldest first.
    #[arg(long, value_name = "SEQ", conflicts_with = "cursor")]
    pub after: Option<u64>,
    /// Show what comes, until Ctrl-C. Begins with what is new, or behind --after.
    #[arg(long, conflicts_with_all = ["cursor", "limit"])]
    pub follow: bool,
}

/// What else can be done with the audit trail.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Check that no entry of the trail or its archive was changed, removed or moved, and print the head.
    Verify(Verify),
}

/// `tidegate audit verify`
#[derive(Debug, Args)]
pub struct Verify {
    /// A head that was noted earlier: it has to be in the trail. Can be given several times.
    #[arg(long = "head", value_name = "SEQ:HASH", value_parser = head)]
    pub heads: Vec<Head>,
    /// Only what is not archived yet.
    #[arg(long)]
    pub live: bool,
    /// Check these files, a line for each entry, and ask no server. Can be given several times, in order.
    #[arg(long = "file", value_name = "FILE", conflicts_with = "live")]
    pub files: Vec<PathBuf>,
}

/// `tidegate queue`
#[derive(Debug, Subcommand)]
pub enum Queue {
    /// Show how many jobs run and wait, and what is held back.
    Show,
    /// Hold jobs back. What runs goes on.
    Pause {
        /// Which.
        #[command(flatten)]
        held: Held,
    },
    /// Let jobs go again that were paused by the same option.
    Resume {
        /// Which.
        #[command(flatten)]
        held: Held,
    },
}

/// Which jobs are held back.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Held {
    /// All of the tenant's.
    #[arg(long)]
    pub tenant: bool,
    /// Those of these actions, such as report.daily or 'mail.*'.
    #[arg(long, value_name = "PATTERN", value_parser = pattern)]
    pub action: Option<ActionPattern>,
    /// Those that take the share of this key.
    #[arg(long, allow_hyphen_values = true)]
    pub key: Option<String>,
}

/// `tidegate schedules`
#[derive(Debug, Subcommand)]
pub enum Schedules {
    /// List the schedules, with their next times and their last jobs.
    List,
    /// Hold a schedule back.
    Pause {
        /// The schedule.
        name: String,
    },
    /// Let a schedule go on, from its next time.
    Resume {
        /// The schedule.
        name: String,
    },
    /// Fire a schedule now, once.
    Trigger {
        /// The schedule.
        name: String,
        /// A name for this one time: the same key fires once [default: random].
        #[arg(long)]
        key: Option<String>,
    },
    /// Fire a schedule for each of its times in a part of the past that has no job.
    Backfill {
        /// The schedule.
        name: String,
        /// The first moment, such as 2026-11-21T00:00:00Z.
        #[arg(long, value_name = "TIME", value_parser = moment)]
        from: UnixMs,
        /// The moment after the last.
        #[arg(long, value_name = "TIME", value_parser = moment)]
        to: UnixMs,
    },
}

/// `tidegate dead-letters`
#[derive(Debug, Subcommand)]
pub enum DeadLetters {
    /// List them, newest first.
    List {
        /// Which.
        #[command(flatten)]
        filter: LetterFilter,
        /// At most so many.
        #[arg(long)]
        limit: Option<u32>,
        /// From where the page before ended.
        #[arg(long)]
        cursor: Option<String>,
    },
    /// Do them again, each by a new job.
    Redrive {
        /// Which.
        #[command(flatten)]
        which: Letters,
        /// Start so many in a second [default: all at once].
        #[arg(long, value_name = "PER_SECOND")]
        rate: Option<u64>,
        /// Another input, for one job: JSON, @FILE, or - for stdin.
        #[arg(long, value_name = "JSON|@FILE|-", allow_hyphen_values = true)]
        payload: Option<String>,
    },
    /// Take them out of the list. The jobs stay as they ended.
    Discard {
        /// Which.
        #[command(flatten)]
        which: Letters,
    },
}

/// Which dead letters a change is about.
#[derive(Debug, Args)]
pub struct Letters {
    /// These.
    pub ids: Vec<String>,
    /// All that fit the filters.
    #[arg(long, conflicts_with = "ids")]
    pub all: bool,
    /// Which of all.
    #[command(flatten)]
    pub filter: LetterFilter,
    /// Only tell what would be done.
    #[arg(long)]
    pub dry_run: bool,
}

/// Conditions on dead letters.
#[derive(Debug, Args)]
pub struct LetterFilter {
    /// Of this batch.
    #[arg(long)]
    pub batch: Option<String>,
    /// Of this action.
    #[arg(long)]
    pub action: Option<String>,
    /// Of this user; another's needs the scope `jobs:read`, to change them `jobs:write`.
    #[arg(long)]
    pub user: Option<String>,
    /// Failed with this code, such as UPSTREAM_ERROR; DOORBELL_LOST for jobs whose doorbell alone was lost.
    #[arg(long)]
    pub code: Option<String>,
    /// Accepted at this moment or later, such as 2026-11-21T07:00:00Z.
    #[arg(long, value_name = "TIME")]
    pub created_after: Option<String>,
    /// Accepted before this moment.
    #[arg(long, value_name = "TIME")]
    pub created_before: Option<String>,
    /// With this note; can be given several times.
    #[arg(long, value_name = "NAME=VALUE", value_parser = note)]
    pub metadata: Vec<(String, String)>,
}

/// `tidegate worker`
#[derive(Debug, Args)]
#[command(after_help = WORKER)]
pub struct Worker {
    /// The pool.
    pub pool: String,
    /// The command, for `sh -c`.
    #[arg(long, value_name = "COMMAND")]
    pub exec: String,
    /// Only jobs of this action; can be given several times [default: of every action of the pool].
    #[arg(long = "action", value_name = "ACTION")]
    pub actions: Vec<String>,
    /// How many jobs run at once.
    #[arg(long, default_value_t = 1)]
    pub concurrency: usize,
    /// The worker's name, unlike that of any other in the pool [default: random].
    #[arg(long)]
    pub name: Option<String>,
    /// How long jobs that run may go on once it is told to stop; the rest is given back.
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub grace: u64,
}

const WORKER: &str = "\
The command reads the payload, as JSON, from its standard input. What it writes to standard output is the result: JSON, or else
text. An exit status other than 0 is a failure that is tried again. A line `progress 40 a message` on standard error is progress;
every other line is passed on. TIDEGATE_JOB_ID, TIDEGATE_ACTION, TIDEGATE_ATTEMPT and TIDEGATE_EFFECT_KEY say which attempt it is.";

/// `tidegate composition`
#[derive(Debug, Subcommand)]
pub enum Composition {
    /// Check a document and make it the active one.
    Apply {
        /// The document.
        file: PathBuf,
    },
    /// Show the active document.
    Show,
}

fn head(text: &str) -> Result<Head, String> {
    Head::parse(text).ok_or_else(|| "expected SEQ:HASH, as `tidegate audit verify` prints it".to_owned())
}

/// Reads a duration with its unit; a bare number is seconds. Milliseconds.
fn duration(text: &str) -> Result<u64, String> {
    let seconds = || text.parse::<u64>().ok()?.checked_mul(1000);
    tidegate_protocol::time::parse_duration(text)
        .or_else(seconds)
        .filter(|ms| *ms > 0)
        .ok_or_else(|| "expected a duration such as 500ms, 30s, 5m, 2h or 7d".to_owned())
}

fn moment(text: &str) -> Result<UnixMs, String> {
    UnixMs::parse(text).ok_or_else(|| "expected a time as RFC 3339 text, such as 2026-11-21T00:00:00Z".to_owned())
}

fn pattern(text: &str) -> Result<ActionPattern, String> {
    ActionPattern::parse(text).ok_or_else(|| format!("expected {}", ActionPattern::EXPECTED))
}

fn note(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .ok_or_else(|| "expected NAME=VALUE".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_duration_has_a_unit_or_is_seconds() {
        for (text, ms) in [
            ("30s", Some(30_000)),
            ("5m", Some(300_000)),
            ("7", Some(7000)),
            ("0", None),
            ("x", None),
        ] {
            assert_eq!(duration(text).ok(), ms, "{text}");
        }
    }
}
