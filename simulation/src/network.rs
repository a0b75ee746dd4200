//! What lies between the parts: it loses, doubles, delays and reorders. A caller whose call or reply is lost is told
//! so after a while, as the stub of a real object does.

use tidegate_protocol::calls::hub::Delivery;
use tidegate_protocol::calls::jobs::Call;
use tidegate_protocol::envelope;

use crate::world::{Check, Event, From, World, unavailable};

impl World {
    /// How long a message takes. Milliseconds.
    pub fn latency(&mut self) -> u64 {
        if self.fault(15) {
            self.counters.requests_delayed += 1;
            return self.random.within(1000..=15_000);
        }
        if self.random.permille(100) {
            self.random.within(20..=300)
        } else {
            self.random.within(1..=15)
        }
    }

    /// Calls a `Jobs` object.
    pub fn call_jobs(&mut self, shard: usize, call: Call, from: From) -> Check {
        if self.random.permille(30) {
            let bytes = envelope::encode(&call);
            let read: Call = envelope::decode(&bytes).map_err(|error| error.to_string())?;
            if read != call {
                return Err(format!("a call changed on its way: {call:?} became {read:?}"));
            }
        }
        let number = self.id();
        if self.fault(25) {
            self.counters.requests_lost += 1;
            self.unavailable_later(from);
            return Ok(());
        }
        if !Self::owns_a_payload(&call) && self.fault(20) {
            self.counters.requests_doubled += 1;
            let ms = self.latency() + self.random.below(2000);
            self.after(
                ms,
                Event::ToJobs {
                    shard,
                    call: Box::new(call.clone()),
                    from: From::Nobody,
                    number,
                },
            );
        }
        let ms = self.latency();
        self.after(
            ms,
            Event::ToJobs {
                shard,
                call: Box::new(call),
                from,
                number,
            },
        );
        Ok(())
    }

    /// Sends the reply of a `Jobs` object on its way.
    pub fn reply_from_jobs(
        &mut self,
        to: From,
        reply: Result<tidegate_protocol::calls::jobs::Reply, tidegate_protocol::Error>,
    ) -> Check {
        if self.random.permille(30) {
            let bytes = envelope::encode(&reply);
            let read: Result<_, _> = envelope::decode(&bytes).map_err(|error| error.to_string())?;
            if read != reply {
                return Err(format!("a reply changed on its way: {reply:?} became {read:?}"));
            }
        }
        if to == From::Nobody {
            return Ok(());
        }
        if self.fault(20) {
            self.counters.replies_lost += 1;
            self.unavailable_later(to);
            return Ok(());
        }
        let ms = self.latency();
        self.after(ms, Event::FromJobs { to, reply });
        Ok(())
    }

    /// Tells a caller after a while that its call came to nothing.
    pub fn unavailable_later(&mut self, to: From) {
        if to != From::Nobody {
            let ms = self.random.within(50..=3000);
            self.after(
                ms,
                Event::FromJobs {
                    to,
                    reply: Err(unavailable()),
                },
            );
        }
    }

    /// Tells a caller that the object it called has died.
    pub fn unavailable(&mut self, to: From) {
        if to != From::Nobody {
            let ms = self.random.within(1..=50);
            self.after(
                ms,
                Event::FromJobs {
                    to,
                    reply: Err(unavailable()),
                },
            );
        }
    }

    /// Sends a batch of events to a hub.
    pub fn send_batch(&mut self, shard: usize, hub: usize, batch: u64, deliveries: Vec<Delivery>) {
        let life = self.shards[shard].life;
        if self.fault(30) {
            self.counters.batches_lost += 1;
            let ms = self.random.within(50..=3000);
            self.after(
                ms,
                Event::FromHub {
                    shard,
                    life,
                    hub,
                    batch,
                    reply: Err(unavailable()),
                },
            );
            return;
        }
        if self.fault(30) {
            self.counters.batches_doubled += 1;
            let ms = self.latency() + self.random.below(3000);
            // Nobody waits for the answer to the copy.
            self.after(
                ms,
                Event::ToHub {
                    hub,
                    deliveries: deliveries.clone(),
                    shard,
                    life,
                    batch: u64::MAX,
                },
            );
        }
        let ms = self.latency();
        self.after(
            ms,
            Event::ToHub {
                hub,
                deliveries,
                shard,
                life,
                batch,
            },
        );
    }

    /// Notes the order in which calls of one kind of sender arrive.
    pub fn note_order(&mut self, shard: usize, from: &From, number: u64) {
        let sender = match from {
            From::Hub { hub, .. } => 1 + hub,
            From::Nobody => return,
            From::Attempt(_)
            | From::Watch { .. }
            | From::Probe { .. }
            | From::Gate { .. }
            | From::Grow { .. }
            | From::Retry { .. }
            | From::Many { .. }
            | From::Batch { .. }
            | From::Worker { .. }
            | From::Peer { .. } => 0,
        };
        let latest = self.latest_call.entry((shard, sender)).or_insert(0);
        if number < *latest {
            self.counters.requests_reordered += 1;
        } else {
            *latest = number;
        }
    }
}
