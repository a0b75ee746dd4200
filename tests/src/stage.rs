//! Where a flow is played: it is the same flow whether nothing, an eviction or a kill comes between its steps.

use std::sync::Arc;

use crate::server::{self, Server};
use crate::socket::Socket;
use crate::tenant::Tenant;
use crate::upstream::Upstream;

/// What comes between the steps of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Between {
    /// Nothing.
    Nothing,
    /// The tenant's objects are evicted, their sockets kept, as when the platform puts them to sleep.
    Eviction,
    /// The whole server is killed and started again on the same state.
    Kill,
}

/// A flow's tenant, and what happens to it.
pub struct Stage {
    /// The tenant.
    pub tenant: Tenant,
    /// What comes between the steps.
    pub between: Between,
    constructed: Option<Vec<(String, u64)>>,
}

/// A socket that follows one job, and can be put back where it was.
pub struct Follower {
    /// The connection.
    pub socket: Socket,
    /// The job.
    pub job: String,
    /// The request or attach that the events answer.
    pub request: String,
    /// The user.
    pub user: String,
}

impl Stage {
    /// A stage with a new tenant under the tests' composition. A kill needs a server of its own; the rest is shared.
    pub fn new(between: Between, upstream: Option<&Upstream>) -> Self {
        let server = match between {
            Between::Nothing | Between::Eviction => server::shared(),
            Between::Kill => Arc::new(Server::start()),
        };
        let tenant = Tenant::new(server);
        tenant.compose(upstream);
        Self {
            tenant,
            between,
            constructed: None,
        }
    }

    /// The same with a server of its own in any case: for flows that the platform's queue is part of. Its consumer refers to
    /// each object of a batch until the batch is done, and waits for one that is being evicted: two flows that share a
    /// batch would wait for each other.
    pub fn with_its_own_queue(between: Between) -> Self {
        let tenant = Tenant::new(Arc::new(Server::start()));
        tenant.compose(None);
        Self {
            tenant,
            between,
            constructed: None,
        }
    }

    /// What comes between two steps, happens. Sockets are gone after a kill: [`Stage::socket`] and [`Stage::resume`]
    /// bring them back.
    ///
    /// The hub goes at once; the `Jobs` object only once it waits for no attempt, because a pending call keeps an object
    /// alive, here as on the platform.
    pub fn interrupt(&mut self) {
        self.interrupt_classes(&["Hub", "Tenant", "Jobs"]);
    }

    /// The same while an attempt goes on that has no end of its own: an eviction leaves the `Jobs` object alone.
    pub fn interrupt_during_an_endless_attempt(&mut self) {
        self.interrupt_classes(&["Hub", "Tenant"]);
    }

    fn interrupt_classes(&mut self, classes: &[&str]) {
        match self.between {
            Between::Nothing => {}
            Between::Eviction => {
                self.note_constructions();
                let objects = self.tenant.objects();
                for class in classes {
                    for (_, name) in objects.iter().filter(|(of, _)| of == class) {
                        self.tenant.server.evict(class, name);
                    }
                }
            }
            Between::Kill => {
                self.note_constructions();
                self.tenant.server.kill();
                self.tenant.server.start_again();
            }
        }
    }

    fn note_constructions(&mut self) {
        let server = &self.tenant.server;
        let counts = self
            .tenant
            .objects()
            .map(|(_, name)| (name.clone(), server.constructed(&name)));
        self.constructed = Some(counts.to_vec());
    }

    /// `socket`, or a new one of `user` where a kill has cut it.
    pub fn socket(&self, socket: Socket, user: &str) -> Socket {
        match self.between {
            Between::Nothing | Between::Eviction => socket,
            Between::Kill => self.tenant.socket(user),
        }
    }

    /// `follower` where it was: on the same socket, or on a new one, attached after the last event it has.
    pub fn resume(&self, follower: Follower) -> Follower {
        match self.between {
            Between::Nothing | Between::Eviction => follower,
            Between::Kill => self.reattach(follower),
        }
    }

    /// `follower` on a new socket, attached after the last event it has.
    pub fn reattach(&self, follower: Follower) -> Follower {
        let Follower {
            socket,
            job,
            request,
            user,
        } = follower;
        let after = socket.seq(&request);
        drop(socket);
        let mut socket = self.tenant.socket(&user);
        let request = socket.attach(&job, after);
        Follower {
            socket,
            job,
            request,
            user,
        }
    }

    /// Ends the flow: the job, if any, was seen to end once, and an interruption did construct objects anew.
    ///
    /// # Panics
    /// Where either does not hold.
    pub fn finish(self, job: Option<&str>) {
        if let Some(job) = job {
            assert_eq!(self.tenant.observer.ends(job), 1, "{job} ends exactly once");
        }
        if self.between == Between::Nothing {
            return;
        }
        let before = self.constructed.expect("the flow was interrupted");
        let server = &self.tenant.server;
        crate::eventually("the construction of an object after the interruption", || {
            before
                .iter()
                .any(|(name, count)| server.constructed(name) > *count)
                .then_some(())
        });
    }
}

impl Follower {
    /// Follows `job` from `request` on `socket`.
    pub fn new(socket: Socket, user: &str, request: String, job: String) -> Self {
        Self {
            socket,
            job,
            request,
            user: user.to_owned(),
        }
    }

    /// The next frame about the job.
    pub fn next_frame(&mut self) -> serde_json::Value {
        self.socket.answer(&self.request)
    }

    /// The job's terminal event.
    pub fn end(&mut self) -> serde_json::Value {
        self.socket.end(&self.request)
    }
}
