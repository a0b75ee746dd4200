//! Carries out the steps of recoveries to a time. Which comes when is decided in [`tidegate_engine::directory::recovery`].

use futures_util::future::join_all;
use tidegate_engine::directory::channels;
use tidegate_engine::directory::recovery::{self, Event, Next, Outcome, Step, Wanted};
use tidegate_protocol::calls::backup::Call;
use tidegate_protocol::calls::directory::Reply;
use tidegate_protocol::calls::tenant::{self, CHANNELS_LISTED_MAX};
use tidegate_protocol::ids::TenantId;
use tidegate_protocol::{Error, ErrorCode};

use super::Directory;
use crate::platform::{log_error, now};
use crate::remote;
use crate::timer::sleep;

/// How often a step is tried before whoever asked has to ask again: a gate that goes back takes a moment to start again.
const TRIES_MAX: u32 = 20;
/// How long between two tries. Milliseconds.
const PAUSE_MS: u64 = 100;

impl Directory {
    /// Takes a tenant back to a time. Only one at a time does: a gate that is suspended already must not be told again to go back.
    ///
    /// Errors: as [`recovery::advance`]; `UNAVAILABLE` where it has to be asked for again.
    pub(super) async fn recover(&self, wanted: &Wanted) -> Result<Reply, Error> {
        if self.going_back.replace(true) {
            return Err(recovery::unfinished(recovery::RETRY_MS));
        }
        let ended = self.take_steps_back(wanted).await;
        self.going_back.set(false);
        ended
    }

    async fn take_steps_back(&self, wanted: &Wanted) -> Result<Reply, Error> {
        let (mut event, mut tries) = (Event::Asked, 0);
        loop {
            let next = self.turn(|db| recovery::advance(db, now(), wanted, event))??;
            if tries >= TRIES_MAX {
                return Err(recovery::unfinished(recovery::RETRY_MS));
            }
            event = match next {
                Next::Done(reply) => return Ok(reply),
                Next::Ask => self.ask_bookmarks(wanted).await?,
                Next::Take(step) => {
                    let outcome = self.take_recovery_step(&step).await;
                    if outcome == Outcome::Failed {
                        tries += 1;
                        sleep(PAUSE_MS).await;
                    }
                    Event::Took(outcome)
                }
            };
        }
    }

    async fn ask_bookmarks(&self, wanted: &Wanted) -> Result<Event, Error> {
        let call = tenant::Call::Since {
            version: u64::MAX >> 12,
        };
        let tenant::Reply::Description(description) = remote::tenant(&self.env, &wanted.tenant, &call).await? else {
            let message = "The gate answered another question.";
            return Err(Error::new(ErrorCode::InternalError, message));
        };
        let objects = recovery::objects(&wanted.tenant, description.scale.hubs, description.reach());
        let call = Call::Bookmarks(wanted.at);
        let asked = objects.iter().map(|object| remote::backup(&self.env, object, &call));
        let answers = join_all(asked).await;
        let answers = objects
            .iter()
            .cloned()
            .zip(answers.into_iter().map(|answer| Ok(answer?.parts)));
        let answers: Vec<_> = answers.collect();
        if answers.iter().all(|(_, answer)| answer.is_ok()) {
            self.keep_channels(&wanted.tenant).await?;
        }
        Ok(Event::Answered(description.version, answers))
    }

    /// Keeps the names of the channels that the gate is about to forget.
    async fn keep_channels(&self, tenant: &TenantId) -> Result<(), Error> {
        let mut after = None;
        loop {
            let names = self.channels(tenant, after).await?;
            self.turn(|db| channels::keep(db, tenant, &names))?;
            if names.len() < CHANNELS_LISTED_MAX {
                return Ok(());
            }
            after = names.last().cloned();
        }
    }

    async fn take_recovery_step(&self, step: &Step) -> Outcome {
        let (object, call) = match step {
            Step::GoBack(object, bookmark) => (object, Call::GoBack(bookmark.clone())),
            Step::Suspend(gate, version, by) => {
                let (version, by) = (*version, by.clone());
                (gate, Call::Finish { version, by })
            }
        };
        match (remote::backup(&self.env, object, &call).await, step) {
            (Ok(_), Step::GoBack(..)) => Outcome::Told,
            (Ok(reply), Step::Suspend(..)) => Outcome::Suspended(reply.version),
            (Err(error), _) => {
                log_error("a step of a recovery", error);
                Outcome::Failed
            }
        }
    }
}
