//! The client: one address, one token, one socket that is shared by all calls, and the HTTP API.

use std::pin::Pin;
use std::sync::{Arc, OnceLock, RwLock};
use std::task::{Context, Poll};

use serde::Serialize;
use tidegate_protocol::event::JsonText;
use tidegate_protocol::ids::Seq;
use tokio::sync::mpsc;

use crate::call::{Call, Target};
use crate::error::Error;
use crate::event::{Outcome, Update};
use crate::http::Http;
use crate::ids::JobId;
pub use crate::link::Patience;
use crate::options::{CallOptions, Request};
use crate::random;
use crate::socket::{Command, Site, bearer, drive};
use crate::transport::{Address, tls};

/// What can be set of a client beside its address and its token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settings {
    /// How long to go on trying to connect.
    pub patience: Patience,
}

/// A client of one server with one token. Cloning is cheap; clones share the socket.
#[derive(Clone)]
pub struct Client {
    site: Site,
    http: Http,
    /// The way to the task that owns the socket, which begins with the first call.
    commands: Arc<OnceLock<mpsc::UnboundedSender<Command>>>,
}

impl Client {
    /// A client of the server at `url` (`http://…` or `https://…`). Connects when there is a call.
    ///
    /// Errors: [`Error::Invalid`] for an address or a token that cannot be one.
    pub fn new(url: &str, token: &str) -> Result<Self, Error> {
        Self::with_settings(url, token, Settings::default())
    }

    /// As [`Client::new`], with settings.
    ///
    /// Errors: as [`Client::new`].
    pub fn with_settings(url: &str, token: &str, settings: Settings) -> Result<Self, Error> {
        let token = token.trim();
        bearer(token)?;
        let address = Address::parse(url)?;
        let site = Site {
            tls: tls(&address)?,
            address,
            token: Arc::new(RwLock::new(token.to_owned())),
            patience: settings.patience,
        };
        Ok(Self {
            http: Http::new(site.clone()),
            site,
            commands: Arc::new(OnceLock::new()),
        })
    }

    /// The HTTP API.
    pub fn http(&self) -> &Http {
        &self.http
    }

    /// Goes on with `token`: an open connection is told, later ones and HTTP use it.
    ///
    /// Errors: [`Error::Invalid`] for what cannot be a token.
    pub fn set_token(&self, token: &str) -> Result<(), Error> {
        let token = token.trim();
        bearer(token)?;
        match self.site.token.write() {
            Ok(mut kept) => token.clone_into(&mut kept),
            Err(poisoned) => token.clone_into(&mut poisoned.into_inner()),
        }
        if let Some(commands) = self.commands.get() {
            let _ = commands.send(Command::Refresh(token.to_owned()));
        }
        Ok(())
    }

    /// Runs `action` on `payload`. The request always carries an idempotency key, the caller's or a random one, so that
    /// it is sent again after a lost connection and still runs once.
    ///
    /// Must be called inside a tokio runtime. Errors: [`Error::Invalid`] for a payload that is no JSON.
    pub fn call(&self, action: &str, payload: &impl Serialize, options: CallOptions) -> Result<Handle, Error> {
        let payload = JsonText::of(payload).ok_or_else(|| Error::Invalid("The payload is no JSON.".to_owned()))?;
        let key = match &options.idempotency_key {
            Some(key) => key.clone(),
            None => random::name("key_")?,
        };
        let id = random::name("call_")?;
        let frame = Request::new(&id, action, &key, &payload, &options).encode();
        self.start(Call::request(id, frame), Some(key))
    }

    /// Follows a job, from the events after `after`; where that is absent, from where it stands.
    ///
    /// Must be called inside a tokio runtime. Errors: [`Error::Io`] without randomness.
    pub fn follow(&self, target: Target, after: Option<Seq>) -> Result<Handle, Error> {
        self.start(Call::attach(random::name("follow_")?, target, after), None)
    }

    /// The way to the task that owns the socket, which begins here if it has not.
    pub(crate) fn commands(&self) -> Result<mpsc::UnboundedSender<Command>, Error> {
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|_| Error::Invalid("A client's socket needs a tokio runtime.".to_owned()))?;
        let commands = self.commands.get_or_init(|| {
            let (sender, receiver) = mpsc::unbounded_channel();
            runtime.spawn(drive(self.site.clone(), receiver));
            sender
        });
        Ok(commands.clone())
    }

    pub(crate) fn start(&self, call: Call, idempotency_key: Option<String>) -> Result<Handle, Error> {
        let commands = self.commands()?;
        let (caller, updates) = mpsc::unbounded_channel();
        let handle = Handle {
            id: call.id().to_owned(),
            idempotency_key,
            job: call.job().cloned(),
            cursor: call.cursor(),
            over: false,
            updates,
            commands: commands.clone(),
        };
        // Where the task has gone with its runtime, the handle says so by its outcome.
        let _ = commands.send(Command::Start(Box::new(call), caller));
        Ok(handle)
    }
}

/// A call under way: a stream of [`Update`]s that ends with its one outcome.
///
/// Updates wait in memory until they are taken. Dropping the handle stops following; a job that was acknowledged goes on.
#[derive(Debug)]
pub struct Handle {
    id: String,
    idempotency_key: Option<String>,
    job: Option<JobId>,
    cursor: Option<Seq>,
    over: bool,
    updates: mpsc::UnboundedReceiver<Update>,
    commands: mpsc::UnboundedSender<Command>,
}

impl Handle {
    /// The next update; `None` after the outcome.
    pub async fn next(&mut self) -> Option<Update> {
        std::future::poll_fn(|context| self.poll_update(context)).await
    }

    /// Waits for the outcome and passes over everything before it.
    pub async fn outcome(mut self) -> Outcome {
        loop {
            match self.next().await {
                Some(Update::Ended(outcome)) => return outcome,
                Some(_) => {}
                None => {
                    return Outcome::Lost {
                        job_id: self.job.clone(),
                        error: Error::Invalid("The outcome was taken already.".to_owned()),
                    };
                }
            }
        }
    }

    /// Asks the server to end the job, now or as soon as the job is known. The outcome says whether it did.
    pub fn cancel(&self) {
        let _ = self.commands.send(Command::Cancel(self.id.clone()));
    }

    /// The key that the request carried; absent for a job that is only followed.
    pub fn idempotency_key(&self) -> Option<&str> {
        self.idempotency_key.as_deref()
    }

    /// The job, as soon as it was acknowledged.
    pub fn job(&self) -> Option<&JobId> {
        self.job.as_ref()
    }

    /// The latest event that was taken: where to go on with [`Client::follow`].
    pub fn cursor(&self) -> Option<Seq> {
        self.cursor
    }

    fn poll_update(&mut self, context: &mut Context<'_>) -> Poll<Option<Update>> {
        if self.over {
            return Poll::Ready(None);
        }
        let received = match self.updates.poll_recv(context) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(received) => received,
        };
        let update = received.unwrap_or_else(|| {
            let error = Error::Unreachable("the runtime of the client has ended".to_owned());
            let job_id = self.job.clone();
            Update::Ended(Outcome::Lost { job_id, error })
        });
        self.note(&update);
        Poll::Ready(Some(update))
    }

    fn note(&mut self, update: &Update) {
        let seen = match update {
            Update::Acknowledged(event) => Some((&event.job_id, event.seq)),
            Update::Progress(event) => Some((&event.job_id, event.seq)),
            Update::Retrying(event) => Some((&event.job_id, event.seq)),
            Update::Output(event) => Some((&event.job_id, event.seq)),
            Update::Started(event) => Some((&event.job_id, event.seq)),
            Update::Snapshot(event) => Some((&event.job_id, event.seq)),
            Update::Ended(outcome) => {
                self.over = true;
                match outcome {
                    Outcome::Completed(event) => Some((&event.job_id, event.seq)),
                    _ => None,
                }
            }
            _ => None,
        };
        if let Some((job, seq)) = seen {
            self.job.get_or_insert_with(|| job.clone());
            self.cursor = self.cursor.max(Some(seq));
        }
    }
}

impl futures_core::Stream for Handle {
    type Item = Update;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Update>> {
        self.poll_update(context)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if !self.over {
            let _ = self.commands.send(Command::Abandon(std::mem::take(&mut self.id)));
        }
    }
}
