//! What a client asks about its batches: how they stand, and that they end.

use tidegate_protocol::calls::jobs::{BatchAsk, Call, Reply};
use tidegate_protocol::http::BatchView;
use tidegate_protocol::{Error, ErrorCode};

use crate::world::{Check, From, World};

impl World {
    /// Asks every object of the tenant about a batch: mostly a client that has some, at times about another user's.
    pub(super) fn ask_about_batch(&mut self, client: usize) -> Check {
        let all = 0..self.clients.len();
        let with: Vec<usize> = all.filter(|client| !self.clients[*client].batches.is_empty()).collect();
        let Some(owner) = self.random.index(with.len()).map(|at| with[at]) else {
            return Ok(());
        };
        let client = if self.random.permille(150) { client } else { owner };
        let batches = &self.clients[owner].batches;
        let Some(batch) = self
            .random
            .index(batches.len())
            .and_then(|at| batches.iter().nth(at).cloned())
        else {
            return Ok(());
        };
        let foreign = self.clients[client].mark != self.clients[owner].mark;
        let cancels = self.random.permille(450) && !foreign;
        let wait_ms = if self.random.permille(500) {
            self.random.below(4000)
        } else {
            0
        };
        let tenant = self.clients[client].tenant;
        let (first, reach) = (self.tenants[tenant].first_shard, self.describe(tenant)?.reach());
        let caller = self.principal(client, usize::MAX).caller();
        for shard in 0..usize::from(reach) {
            let ask = if cancels {
                BatchAsk::Cancel {
                    owner: caller.user.clone(),
                }
            } else {
                BatchAsk::Show { wait_ms }
            };
            let call = Call::Batch {
                batch: batch.clone(),
                caller: caller.clone(),
                ask,
            };
            self.call_jobs(first + shard, call, From::Batch { client, foreign })?;
        }
        Ok(())
    }

    pub(super) fn batch_told(&mut self, client: usize, foreign: bool, reply: Result<Reply, Error>) -> Check {
        let user = &self.clients[client].user;
        match reply {
            Ok(Reply::Batch(text)) => {
                let view: BatchView = serde_json::from_str(text.as_str()).map_err(|error| error.to_string())?;
                if foreign || view.user != *user {
                    return Err(format!("{user} was shown {view:?}"));
                }
                self.counters.batches_shown += 1;
                Ok(())
            }
            Ok(other) => Err(format!("a question about a batch was answered by {other:?}")),
            Err(error) => {
                self.counters.intrusions_refused += u64::from(foreign && error.code == ErrorCode::NotFound);
                Ok(())
            }
        }
    }
}
