//! What a client does next: by chance while faults happen, with a purpose once they have stopped.

use std::collections::BTreeSet;

use tidegate_protocol::ids::JobId;

use super::Stream;
use crate::setting::{ACTIONS, AWAY, KEYS, LAST, NEWEST, ONE, SAME};
use crate::world::{Check, Event, World};

impl World {
    /// One move of a client.
    pub fn client_moves(&mut self, client: usize) -> Check {
        let Some(socket) = self.clients[client].socket else {
            if self.random.permille(700) {
                self.connect(client);
                return Ok(());
            }
            return self.ask_over_http(client);
        };
        match self.random.below(100) {
            0..=33 => self.request(client, socket),
            34..=47 => return self.try_again(client),
            48..=57 => self.attach(client, socket),
            58..=61 => self.detach(client, socket),
            62..=67 => self.cancel(client, socket),
            68..=77 => return self.ask_over_http(client),
            78..=85 => return self.watch(client),
            86..=88 => self.intrude(client, socket),
            89..=91 => return self.look(client),
            92..=93 => self.send_up(socket, "{\"type\":\"nonsense\"}".into()),
            _ => {
                self.counters.sockets_cut += 1;
                self.trace(|| format!("client {client}: cut"));
                self.clients[client].disconnected();
                self.sockets[socket].open = false;
                let ms = self.random.within(1..=8000);
                self.after(ms, Event::Gone { socket });
            }
        }
        Ok(())
    }

    /// The body of a request. With a key it is mostly the same one.
    pub(super) fn body(&mut self, client: usize, id: &str, key: Option<u64>) -> String {
        let action = match self.random.below(100) {
            // So that a key meets itself again after its life.
            0..=19 if key.is_some() => "back",
            20..=39 if key.is_some() => SAME,
            0..=23 => "work",
            24..=34 => "bound",
            35..=41 => SAME,
            42..=45 => "back",
            46..=47 => LAST,
            48..=54 => "late",
            55..=73 => "quick",
            74..=79 => ONE,
            80..=83 => "echo",
            84..=90 => AWAY,
            91..=94 => NEWEST,
            _ => "brief",
        };
        let mark = &self.clients[client].mark;
        let n = match key {
            // Few values, so that requests with a key, with another one and with none meet.
            _ if matches!(action, SAME | LAST) => match key {
                Some(key) if !self.random.permille(100) => key % 2,
                _ => self.random.below(3),
            },
            Some(key) if !self.random.permille(100) => key,
            _ => self.random.below(1000),
        };
        let mut body = format!("{{\"id\":\"{id}\",\"action\":\"{action}\",\"payload\":{{\"of\":\"{mark}\",\"n\":{n}}}");
        match self.random.below(10) {
            // What may have to be decided later is answered by an acknowledgment.
            _ if action == ONE => {}
            0..=4 => {}
            5 => body.push_str(",\"mode\":\"sync\""),
            _ => body.push_str(",\"mode\":\"async\""),
        }
        if let Some(key) = key {
            body.push_str(&format!(",\"idempotency_key\":\"k{key}\""));
        }
        // `keep_last` decides itself when its jobs start.
        let timed = action != LAST;
        if timed && self.random.permille(150) {
            body.push_str(&format!(",\"delay_ms\":{}", self.random.within(1..=15_000)));
        }
        if timed && self.random.permille(80) {
            body.push_str(&format!(",\"queue_timeout_ms\":{}", self.random.within(1..=6000)));
        }
        match self.random.below(8) {
            0 | 1 => body.push_str(",\"on_disconnect\":\"cancel\""),
            2 => body.push_str(",\"on_disconnect\":\"continue\""),
            _ => {}
        }
        body.push('}');
        body
    }

    pub(super) fn key(&mut self) -> Option<u64> {
        self.random.permille(350).then(|| self.random.below(KEYS))
    }

    pub(super) fn request(&mut self, client: usize, socket: usize) {
        let (id, key) = (format!("r{}", self.id()), self.key());
        let body = self.body(client, &id, key);
        self.send_up(socket, body);
    }

    pub(super) fn attach(&mut self, client: usize, socket: usize) {
        let id = format!("a{}", self.id());
        if self.random.permille(150) {
            let action = [ACTIONS[0], ACTIONS[1], ACTIONS[2], SAME][self.random.below(4) as usize];
            let key = self.random.below(KEYS);
            let text = format!(
                "{{\"type\":\"attach\",\"id\":\"{id}\",\"action\":\"{action}\",\"idempotency_key\":\"k{key}\"}}"
            );
            self.clients[client].attaching.insert(id, None);
            return self.send_up(socket, text);
        }
        if let Some(job) = self.some_job(client) {
            let seen = self.clients[client].jobs.get(&job).map_or(0, |known| known.seq);
            let after = match self.random.below(5) {
                0 => None,
                1 => Some(self.random.below(seen + 1)),
                // Beyond what this client was told, and at times beyond all that happened.
                2 => Some(seen + self.random.below(4)),
                _ => Some(seen),
            };
            self.attach_to(client, socket, job, after);
        }
    }

    pub(super) fn attach_to(&mut self, client: usize, socket: usize, job: JobId, after: Option<u64>) {
        let id = format!("a{}", self.id());
        let cursor = after.map(|after| format!(",\"after\":{after}")).unwrap_or_default();
        let text = format!("{{\"type\":\"attach\",\"id\":\"{id}\",\"job_id\":\"{job}\"{cursor}}}");
        let client = &mut self.clients[client];
        client.jobs.entry(job).or_default();
        client.following.insert((id.clone(), job));
        client.streams.insert(
            (id.clone(), job),
            Stream {
                seq: after.unwrap_or(0),
                ended: false,
            },
        );
        client.attaching.insert(id, Some(job));
        self.send_up(socket, text);
    }

    pub(super) fn detach(&mut self, client: usize, socket: usize) {
        let Some(job) = self.some_job(client) else { return };
        let id = format!("d{}", self.id());
        let detached = &mut self.clients[client];
        detached.following.retain(|(_, other)| *other != job);
        let of_it = detached.attaching.iter().filter(|(_, other)| **other == Some(job));
        detached.given_up.extend(of_it.map(|(request, _)| request.clone()));
        detached.detaching.insert(id.clone(), job);
        self.send_up(
            socket,
            format!("{{\"type\":\"detach\",\"id\":\"{id}\",\"job_id\":\"{job}\"}}"),
        );
    }

    pub(super) fn cancel(&mut self, client: usize, socket: usize) {
        let Some(job) = self.some_job(client) else { return };
        let id = format!("c{}", self.id());
        self.send_up(
            socket,
            format!("{{\"type\":\"cancel\",\"id\":\"{id}\",\"job_id\":\"{job}\"}}"),
        );
    }

    pub(super) fn intrude(&mut self, client: usize, socket: usize) {
        let Some(job) = self.foreign_job(client) else { return };
        let (id, kind) = (
            format!("x{}", self.id()),
            if self.random.permille(500) { "attach" } else { "cancel" },
        );
        self.clients[client].intrusions.insert(id.clone());
        self.send_up(
            socket,
            format!("{{\"type\":\"{kind}\",\"id\":\"{id}\",\"job_id\":\"{job}\"}}"),
        );
    }

    /// Once the faults have stopped: those who dropped off come back, and attach to what they have not seen the end of.
    /// What a connection follows already is left to the server.
    pub fn look_after(&mut self) -> Check {
        self.after(700, Event::LookAfter);
        self.resume_all();
        self.workers_look_after()?;
        for client in 0..self.clients.len() {
            let Some(socket) = self.clients[client].socket else {
                self.connect(client);
                continue;
            };
            let following: BTreeSet<JobId> = self.clients[client].following.iter().map(|(_, job)| *job).collect();
            let open = self.clients[client]
                .jobs
                .iter()
                .filter(|(job, known)| !known.ended && !following.contains(job));
            let open: Vec<(JobId, u64)> = open.map(|(job, known)| (*job, known.seq)).collect();
            for (job, seq) in open {
                if self.oracle.swept(job) {
                    continue;
                }
                if self.random.permille(200) {
                    self.watch_job(client, job)?;
                } else {
                    self.attach_to(client, socket, job, Some(seq));
                }
            }
        }
        Ok(())
    }
}
