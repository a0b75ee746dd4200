//! Carries out the steps of recoveries to a time. Which comes when is decided in [`tidegate_engine::directory::recovery`].

use std::rc::Rc;

use futures_util::future::join_all;
use tidegate_engine::directory::recovery::{self, Begun, Bookmarks, Outcome, Step, Wanted};
use tidegate_protocol::calls::backup::Call;
use tidegate_protocol::calls::directory::Reply;
use tidegate_protocol::calls::tenant;
use tidegate_protocol::ids::{ObjectName, TenantId};
use tidegate_protocol::{Error, ErrorCode};

use super::Directory;
use crate::platform::{log_error, now};
use crate::remote;
use crate::timer::sleep;

/// How often a step is tried before it waits for the alarm: a gate that goes back takes a moment to start again.
const TRIES_MAX: u32 = 20;
/// How long between two tries. Milliseconds.
const PAUSE_MS: u64 = 100;

fn unfinished() -> Error {
    let message = "Not every object has gone back yet. The rest follows by itself; ask again for what came of it.";
    Error::new(ErrorCode::Unavailable, message).retry_after(recovery::RETRY_MS)
}

impl Directory {
    /// Takes a tenant back to a time.
    ///
    /// Errors: as [`recovery::answered`]; `UNAVAILABLE` where the rest follows by itself.
    pub(super) async fn recover(self: Rc<Self>, wanted: Wanted) -> Result<Reply, Error> {
        if self.turn(|db| recovery::begin(db, now(), &wanted))?? == Begun::Ask {
            let (version, objects) = self.spread_over(&wanted.tenant).await?;
            let call = Call::Bookmarks { at: wanted.at };
            let asked = objects.iter().map(|object| remote::backup(&self.env, object, &call));
            let answers = join_all(asked).await.into_iter().map(|answer| {
                answer.map(|reply| Bookmarks {
                    bookmark: reply.bookmark,
                    undo: reply.undo,
                })
            });
            let answers = objects.iter().cloned().zip(answers).collect();
            self.turn(|db| {
                let decided = recovery::answered(db, now(), &wanted, version, answers)?;
                self.arm(db)?;
                Ok(decided)
            })??;
        }
        self.go_back(&wanted.tenant).await?;
        self.turn(|db| recovery::show(db, &wanted.tenant))?
    }

    async fn spread_over(&self, tenant: &TenantId) -> Result<(u64, Vec<ObjectName>), Error> {
        let call = tenant::Call::Since {
            version: u64::MAX >> 12,
        };
        match remote::tenant(&self.env, tenant, &call).await? {
            tenant::Reply::Description(description) => {
                let objects = recovery::objects(tenant, description.scale.hubs, description.reach());
                Ok((description.version, objects))
            }
            _ => Err(Error::new(
                ErrorCode::InternalError,
                "The gate answered another question.",
            )),
        }
    }

    /// Takes all steps that there are. Only one at a time does: a gate that is suspended already must not be told again to go back.
    pub(super) async fn go_back(&self, tenant: &TenantId) -> Result<(), Error> {
        if self.going_back.replace(true) {
            return Err(unfinished());
        }
        let ended = self.take_steps_back(tenant).await;
        self.going_back.set(false);
        ended
    }

    async fn take_steps_back(&self, tenant: &TenantId) -> Result<(), Error> {
        let mut tries = 0;
        while let Some(step) = self.turn(|db| recovery::step(db, tenant))? {
            let outcome = self.take_recovery_step(&step).await.unwrap_or_else(|error| {
                log_error("a step of a recovery", error);
                Outcome::Failed
            });
            self.turn(|db| {
                recovery::took(db, now(), tenant, &step, outcome)?;
                self.arm(db)
            })?;
            tries = if outcome == Outcome::Failed { tries + 1 } else { 0 };
            if tries >= TRIES_MAX {
                return Err(unfinished());
            }
            if tries > 0 {
                sleep(PAUSE_MS).await;
            }
        }
        Ok(())
    }

    async fn take_recovery_step(&self, step: &Step) -> Result<Outcome, Error> {
        let (object, call) = match step {
            Step::GoBack(object, bookmark) => {
                let bookmark = bookmark.clone();
                (object, Call::GoBack { bookmark })
            }
            Step::Suspend(gate, version, by) => {
                let (version, by) = (*version, by.clone());
                (gate, Call::Suspend { version, by })
            }
        };
        let reply = remote::backup(&self.env, object, &call).await?;
        Ok(match step {
            Step::GoBack(..) => Outcome::Told,
            Step::Suspend(..) => Outcome::Suspended(reply.version),
        })
    }
}
