//! What must always hold of schedules: a nominal time fires once, never early, in order, and none is forgotten.

use std::collections::BTreeMap;

use tidegate_engine::database::{Database, Row};
use tidegate_protocol::ids::{JobId, JobNumber, UserId};
use tidegate_protocol::time::UnixMs;

use crate::oracle::RowView;
use crate::setting::{CLOCK_USER, FITFUL_MS, STEADY, STEADY_MS};
use crate::world::{Check, World};

/// What fired, by shard and schedule.
#[derive(Debug, Default)]
pub struct Ticks {
    /// The job of each nominal time.
    jobs: BTreeMap<(usize, String, u64), JobId>,
    /// The latest nominal time that fired.
    latest: BTreeMap<(usize, String), u64>,
    /// When the steady schedule was first there: its times count from then on.
    since: BTreeMap<usize, u64>,
    /// Whether one waited for the end of a job.
    held: BTreeMap<usize, bool>,
}

impl Ticks {
    /// Whether a schedule made the job.
    pub fn made(&self, job: JobId) -> bool {
        self.jobs.values().any(|made| *made == job)
    }
}

struct Fired {
    job: JobId,
    name: String,
    nominal: u64,
    user: String,
}

fn read(mut row: Row) -> Option<Fired> {
    let number = JobNumber(row.number().ok()?);
    let tail = u32::try_from(row.number().ok()?).ok()?;
    let (key, user) = (row.text().ok()?, row.text().ok()?);
    let (name, nominal) = key.strip_prefix("schedule:")?.split_once(':')?;
    Some(Fired {
        job: JobId::new(number, tail),
        name: name.to_owned(),
        nominal: UnixMs::parse(nominal)?.0,
        user,
    })
}

impl World {
    /// Looks at the jobs that a turn has stored for schedules. `before` are the rows before it.
    pub(crate) fn check_schedules(
        &mut self,
        shard: usize,
        before: &BTreeMap<JobNumber, RowView>,
        now: UnixMs,
    ) -> Check {
        let of = |sql: &'static str| self.shards[shard].db.run(sql, &[]).map_err(|error| error.message);
        let jobs = of("SELECT number, tail, key, user FROM job WHERE key LIKE 'schedule:%' ORDER BY number")?;
        let there = of("SELECT name FROM schedule WHERE name = 'steady'")?;
        let held = !of("SELECT name FROM schedule WHERE held IS NOT NULL")?.is_empty();
        if held && !self.oracle.ticks.held.insert(shard, held).unwrap_or(false) {
            self.counters.ticks_held += 1;
        }
        self.oracle.ticks.held.insert(shard, held);
        if there.is_empty() {
            self.oracle.ticks.since.remove(&shard);
        } else {
            self.oracle.ticks.since.entry(shard).or_insert(now.0);
        }
        for row in jobs {
            let fired = read(row).ok_or("a job of a schedule without a nominal time")?;
            if !before.contains_key(&fired.job.number()) {
                self.check_fired(shard, fired, now)?;
            }
        }
        Ok(())
    }

    fn check_fired(&mut self, shard: usize, fired: Fired, now: UnixMs) -> Check {
        let Fired {
            job,
            name,
            nominal,
            user,
        } = fired;
        if user != CLOCK_USER {
            return Err(format!("{job} of a schedule is {user}'s"));
        }
        self.oracle.owned(job, UserId::parse(CLOCK_USER).ok_or("a user")?);
        // One that waited for the end of a job had come before: a clock that jumps back meanwhile does not undo that.
        let latest = self.latest_clock.max(now.0);
        if latest < nominal {
            return Err(format!("{name} fired {} ms early", nominal - latest));
        }
        let steady = name == STEADY;
        let pause = if steady { STEADY_MS } else { FITFUL_MS };
        if !nominal.is_multiple_of(pause) {
            return Err(format!("{name} fired for {nominal}, which is none of its times"));
        }
        self.counters.ticks_fired += 1;
        self.counters.ticks_late += u64::from(now.0 > nominal + 2000);
        let ticks = &mut self.oracle.ticks;
        if let Some(other) = ticks.jobs.insert((shard, name.clone(), nominal), job) {
            return Err(format!("{name} fired twice for {nominal}: {other} and {job}"));
        }
        let first = ticks.since.get(&shard).map(|since| (since / STEADY_MS + 1) * STEADY_MS);
        let latest = ticks.latest.insert((shard, name.clone()), nominal);
        if latest.is_some_and(|latest| latest >= nominal) {
            return Err(format!("{name} fired for {nominal} after {latest:?}"));
        }
        let due = latest.map(|latest| latest + pause).or(first);
        if steady && due != Some(nominal) {
            return Err(format!("{name} fired for {nominal}, and {due:?} was to come first"));
        }
        Ok(())
    }

    /// A schedule that is due has an alarm, and is looked at by it.
    pub(crate) fn check_clock_alarm(&self, shard: usize) -> Check {
        let object = &self.shards[shard];
        let rows = object
            .db
            .run("SELECT due_at FROM schedule WHERE due_at IS NOT NULL", &[])
            .map_err(|error| error.message)?;
        for mut row in rows {
            let due = row.number().map_err(|error| error.message)?;
            let latest = due.max(self.latest_clock);
            if object.alarm.is_none_or(|alarm| alarm.0 > latest) {
                return Err(format!(
                    "a schedule due at {due} has no alarm in time: {:?}",
                    object.alarm
                ));
            }
        }
        Ok(())
    }
}
