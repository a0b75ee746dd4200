//! The known ways to break the engine.

/// A rule of the engine, and how it is broken.
pub struct Mutant {
    /// What is wrong then.
    pub name: &'static str,
    /// Where the rule is, from the root of the repository.
    pub file: &'static str,
    /// Its text, whatever the white space in between. It is there once.
    pub from: &'static str,
    /// What stands there instead.
    pub to: &'static str,
}

const fn mutant(name: &'static str, file: &'static str, from: &'static str, to: &'static str) -> Mutant {
    Mutant { name, file, from, to }
}

const ATTEMPT: &str = "shared/engine/src/jobs/attempt.rs";
const ENQUEUE: &str = "shared/engine/src/jobs/enqueue.rs";
const LIMITS: &str = "shared/engine/src/jobs/time_limits.rs";
const GATES: &str = "shared/engine/src/jobs/gates.rs";
const LANES: &str = "shared/engine/src/jobs/lanes.rs";
const FOLLOW: &str = "shared/engine/src/jobs/follow.rs";
const HISTORY: &str = "shared/engine/src/jobs/history.rs";
const NOTES: &str = "shared/engine/src/jobs/notes.rs";
const ONCE: &str = "shared/engine/src/jobs/once.rs";
const LETTERS: &str = "shared/engine/src/jobs/letters.rs";
const MANY: &str = "shared/engine/src/jobs/many.rs";
const RETRY: &str = "shared/engine/src/jobs/retry.rs";
const ROW: &str = "shared/engine/src/jobs/row.rs";
const ALIAS: &str = "shared/engine/src/jobs/alias.rs";
const BACKLOG: &str = "shared/engine/src/jobs/backlog.rs";
const CHANGE: &str = "shared/engine/src/jobs/change.rs";
const ADMIT: &str = "shared/engine/src/hub/admit.rs";
const SCHEDULES: &str = "shared/engine/src/jobs/schedules/mod.rs";
const SCHEDULE_CALLS: &str = "shared/engine/src/jobs/schedules/calls.rs";
const HOOKS: &str = "shared/engine/src/jobs/hooks.rs";
const HANDED_OVER: &str = "shared/engine/src/jobs/handed_over.rs";
const RETENTION: &str = "shared/engine/src/jobs/retention.rs";
const TARGET: &str = "shared/engine/src/outbound/target.rs";
const JOBS: &str = "shared/engine/src/jobs/mod.rs";
const TOLD: &str = "shared/engine/src/tenancy/schedules.rs";
const SELECT: &str = "shared/engine/src/jobs/select.rs";
const STATE: &str = "shared/engine/src/jobs/state.rs";
const WAKE: &str = "shared/engine/src/jobs/wake.rs";
const DELIVERIES: &str = "shared/engine/src/hub/deliveries.rs";
const REPLIES: &str = "shared/engine/src/hub/replies.rs";
const PULL: &str = "shared/engine/src/jobs/pull.rs";
const SAID: &str = "shared/engine/src/jobs/said.rs";
const PENDING: &str = "shared/engine/src/hub/pending.rs";
const CALLS: &str = "shared/protocol/src/calls/mod.rs";
const SPREAD: &str = "shared/engine/src/jobs/spread.rs";
const SPREADS: &str = "shared/protocol/src/calls/spread.rs";
const CANCEL: &str = "shared/engine/src/jobs/cancel.rs";
const LATEST: &str = "shared/engine/src/composition/latest.rs";
const POLICY: &str = "shared/engine/src/composition/policy.rs";
const BATCHES: &str = "shared/engine/src/jobs/batches.rs";
const HUB_BATCH: &str = "shared/engine/src/hub/batch.rs";
const GROWTH: &str = "shared/engine/src/tenancy/growth.rs";
const AUDIT: &str = "shared/engine/src/audit.rs";
const TRAIL: &str = "shared/engine/src/jobs/trail.rs";
const AWAY: &str = "shared/engine/src/jobs/away.rs";
const FOLLOWED: &str = "shared/engine/src/hub/followed.rs";
const PLACES: &str = "shared/engine/src/jobs/places.rs";
const ASKER: &str = "shared/engine/src/jobs/sharing/asker.rs";
const DOORBELLS: &str = "shared/engine/src/jobs/doorbells.rs";
const STARTED: &str = "shared/engine/src/jobs/started.rs";
const BREATH: &str = "shared/engine/src/breath.rs";
const COMPANY: &str = "shared/engine/src/company.rs";
const CONTROL: &str = "shared/engine/src/jobs/control.rs";
const PACKS: &str = "shared/engine/src/jobs/packs.rs";
const PACKING: &str = "shared/engine/src/jobs/packing.rs";
const HEADS: &str = "shared/engine/src/jobs/heads.rs";
const LEDGER: &str = "shared/engine/src/usage/ledger.rs";
const BUDGETS: &str = "shared/engine/src/usage/budgets.rs";
const QUIET: &str = "shared/engine/src/usage/quiet.rs";
const HUB_USED: &str = "shared/engine/src/hub/used.rs";
const BUCKET: &str = "shared/engine/src/admission/bucket.rs";
const ADMISSION: &str = "shared/engine/src/admission/gate.rs";
const LEASES: &str = "shared/engine/src/admission/leases.rs";
const ENDPOINTS: &str = "shared/engine/src/jobs/endpoints.rs";
const ORDERED: &str = "shared/engine/src/jobs/ordered.rs";
const HUB_SOCKETS: &str = "shared/engine/src/hub/sockets.rs";

/// Each of them has to be caught.
pub const MUTANTS: &[Mutant] = &[
    mutant(
        "use counts as often as it is told",
        LEDGER,
        "Some(heard) if heard.seq >= *seq => return false,",
        "Some(heard) if heard.seq > *seq => return false,",
    ),
    mutant(
        "use that a socket has kept is told, and kept on",
        HUB_USED,
        "tally.add_all(&Counts(mem::take(&mut session.untold)));",
        "tally.add_all(&Counts(session.untold.clone()));",
    ),
    mutant(
        "use that a socket keeps goes with it",
        HUB_SOCKETS,
        "self.untold.add_all(&Counts(session.untold));",
        "",
    ),
    mutant(
        "use is forgotten in a sleep soon after a report",
        QUIET,
        "&& self.told_within(now, longest_ms) { (Next::Keep, Phase::Resting)",
        "&& self.told_within(now, longest_ms) { (Next::Rest, Phase::Resting)",
    ),
    mutant(
        "a budget is spent one unit late",
        BUDGETS,
        "used >= budget.units && spent_until != end,",
        "used > budget.units && spent_until != end,",
    ),
    mutant(
        "a budget warns with each report",
        BUDGETS,
        "used >= budget.warn_units && warned != end,",
        "used >= budget.warn_units && warned <= end,",
    ),
    mutant(
        "what is lent of a limit is not counted",
        BUCKET,
        "self.remove(units, until);",
        "let _ = until;",
    ),
    mutant(
        "a limit is kept full beside what is lent of it",
        BUCKET,
        "let held = self.rule.units_max().saturating_sub(self.lent()).saturating_sub(more);",
        "let held = self.rule.units_max().saturating_sub(more);",
    ),
    mutant(
        "a hub goes on with leases that it has given back",
        LEASES,
        "let held = core::mem::take(&mut entry.held);",
        "let held = entry.held.clone();",
    ),
    mutant(
        "what a hub gives back of a limit is lost",
        BUCKET,
        "self.put_back(left.min(lease.units), lease.until);",
        "",
    ),
    mutant(
        "the gate refuses what other hubs still have",
        ADMISSION,
        "recalled.note(&need.bucket, state.lent_to(hub));",
        "",
    ),
    mutant(
        "a hub refuses for longer than the gate has said",
        LEASES,
        "let until = now.plus(refusal.after_ms.min(REFUSED_MS_MAX));",
        "let until = now.plus(refusal.after_ms.saturating_add(180_000));",
    ),
    mutant(
        "an endpoint that is gone is told again after a restart",
        ENDPOINTS,
        "self.keep_endpoints(&self.state.endpoints)?;",
        "",
    ),
    mutant(
        "an endpoint that is gone comes back with an older list",
        ENDPOINTS,
        "!known.enabled && known.updated_at == endpoint.updated_at",
        "!known.enabled && known.updated_at > endpoint.updated_at",
    ),
    mutant(
        "an endpoint that is disabled misses what ends meanwhile",
        ENDPOINTS,
        "self.all.iter().filter(&mut passes).cloned().collect()",
        "self.all.iter().filter(|endpoint| endpoint.enabled).filter(&mut passes).cloned().collect()",
    ),
    mutant(
        "messages in order overtake one that failed",
        ORDERED,
        "if due_at < HELD { return Ok(()); }",
        "",
    ),
    mutant(
        "messages in order do not wait for each other",
        HOOKS,
        "(telling.state, telling.due_at) = (JobState::Scheduled, Some(ordered::HELD));",
        "telling.due_at = Some(self.now); self.place_freed = true;",
    ),
    mutant(
        "a hook is told of good ends alone",
        HOOKS,
        "on_end.events.contains(&job.state)",
        "job.state == JobState::Succeeded",
    ),
    mutant(
        "a hook is told twice of each end",
        HOOKS,
        "self.send(job, payload, message, on_end.policy.clone(), None)?;",
        "self.send(job, payload.clone(), message.clone(), on_end.policy.clone(), None)?; self.send(job, payload, message, on_end.policy.clone(), None)?;",
    ),
    mutant(
        "a batch's key is every user's",
        HUB_BATCH,
        "principal.user.as_str(),",
        "\"\",",
    ),
    mutant(
        "a job of a cancelled batch starts",
        ATTEMPT,
        "if self.is_cancelled(job.spec.batch.as_ref())? {",
        "if self.now.0 == 0 && self.is_cancelled(job.spec.batch.as_ref())? {",
    ),
    mutant(
        "a cancelled batch takes another job",
        ENQUEUE,
        "if self.is_cancelled(enqueue.job.batch.as_ref())? {",
        "if self.now.0 == 0 && self.is_cancelled(enqueue.job.batch.as_ref())? {",
    ),
    mutant(
        "a batch does not count an end",
        ATTEMPT,
        "self.end_in_batch(&job)?;",
        "",
    ),
    mutant(
        "a long cancel stops after its first turn",
        WAKE,
        "self.wake_batches()?;",
        "",
    ),
    mutant(
        "a batch goes before the last of its jobs",
        BATCHES,
        "self.accepted > 0 && self.swept >= self.accepted",
        "self.accepted > 0 && self.swept > 0",
    ),
    mutant(
        "a mark of a cancel does not last",
        BATCHES,
        "(self.accepted == 0).then(|| cancelled_at.plus(MARK_MS))",
        "(self.accepted == 0).then_some(cancelled_at)",
    ),
    mutant(
        "anybody sees a batch",
        BATCHES,
        "let found = self.batch(id)?.cloned().filter(|batch| caller.may_read(&batch.user));",
        "let found = self.batch(id)?.cloned();",
    ),
    mutant("what does a job again counts for its batch", RETRY, "batch: None,", ""),
    mutant(
        "the counts of a batch are not written",
        BATCHES,
        "batch.store(self.db, &id)?;",
        "",
    ),
    mutant(
        "the gate takes an entry down as often as it is told",
        AUDIT,
        "if told.number > last {",
        "if told.number > 0 {",
    ),
    mutant(
        "what was done by hand is told once, and never again",
        TRAIL,
        "(!self.is_told()).then_some(self.retry_at)",
        "(self.is_told() && self.retry_at.0 == 1).then_some(self.retry_at)",
    ),
    mutant(
        "numbers of the audit trail begin anew once all is told",
        TRAIL,
        "last: last.unwrap_or(told),",
        "last: last.unwrap_or(0),",
    ),
    mutant(
        "what was done by hand is forgotten before it is told",
        TRAIL,
        "let number = number.min(self.state.trail.last);",
        "let number = number.max(self.state.trail.last);",
    ),
    mutant(
        "an auto job that cannot start rings nobody and waits for nobody",
        ENQUEUE,
        "let rings = due.is_none() && !pulled && dispatch.rings();",
        "let rings = due.is_none() && !pulled && !dispatch.starts_at_once();",
    ),
    mutant(
        "an object starts under a shared limit without a place",
        GATES,
        "max.min(self.places.granted(key))",
        "max",
    ),
    mutant(
        "a home takes back places on a word from before its last answer",
        PLACES,
        "if version == latest && places < given {",
        "if places < given {",
    ),
    mutant(
        "a home forgets in a crash what it has given",
        PLACES,
        "places.ledger.insert(LimitKey { limit, key }, from_blob(&row.blob()?)?);",
        "let _: (LimitKey, Vec<Given>) = (LimitKey { limit, key }, from_blob(&row.blob()?)?);",
    ),
    mutant(
        "a recalled object takes the answer to what it asked before",
        ASKER,
        "older than this. grant.asked = None;",
        "older than this.",
    ),
    mutant(
        "a home goes before those who wait",
        PLACES,
        "Some(line) if line.has_others() => false,",
        "Some(line) if line.has_others() => free > 0,",
    ),
    mutant(
        "places that are not used are never given back",
        ASKER,
        "let unused = keeps < grant.places;",
        "let unused = keeps < grant.places && keeps > 1 << 30;",
    ),
    mutant(
        "a sealed object takes a new key",
        SPREAD,
        ".filter(|_| of_key && !replaces)",
        ".filter(|_| of_key && !replaces && self.now.0 == 0)",
    ),
    mutant(
        "a sealed object denies a job that lies elsewhere",
        SPREAD,
        "if self.has(&call)? {",
        "if self.has(&call)? || shard.0 < u16::MAX {",
    ),
    mutant(
        "a sealed object gives out numbers of what it has lost",
        SPREAD,
        "own(partition, self.place.shard, self.place.shards)",
        "own(partition, self.place.shard, self.place.shards.min(1))",
    ),
    mutant(
        "a key is asked for at its newest owner alone",
        SPREADS,
        "owner(partition, self.0.first()",
        "owner(partition, self.0.last()",
    ),
    mutant(
        "a job is asked for at its newest owner alone",
        SPREADS,
        ".find(|spread| spread.from < number)",
        ".find(|spread| spread.from < number || spread.shards > 0)",
    ),
    mutant(
        "a new object starts jobs before it knows what is paused",
        STATE,
        "if !self.spread.is_awake() {",
        "if !self.spread.is_awake() && self.last.0 == 0 {",
    ),
    mutant(
        "a new object is told of no pause",
        GROWTH,
        "Step::Beginning => under_way.pauses.clone(),",
        "Step::Beginning if step < Step::Waking => under_way.pauses.clone(),",
    ),
    mutant(
        "a growth seals nobody",
        GROWTH,
        "Self::Waking => Some(Self::Sealing),",
        "Self::Waking => Some(Self::Beginning),",
    ),
    mutant(
        "throttles are open in a new object at once",
        GATES,
        "Some(Rule::Rate { .. }) if self.opened_at.is_none() => false,",
        "Some(Rule::Rate { .. }) if self.opened_at.is_none() && now.0 == 0 => false,",
    ),
    mutant(
        "a sealed object keeps its old part of every limit",
        GATES,
        "self.place = spread.place();",
        "let _ = spread.place();",
    ),
    mutant(
        "a throttle begins anew in a new object",
        GATES,
        "if at > UnixMs(0) =>",
        "if at > UnixMs(u64::MAX >> 1) =>",
    ),
    mutant(
        "a key lives for ever",
        ONCE,
        "now < self.created_at.plus(ms))",
        "now < self.created_at.plus(u64::MAX >> ms.min(12)))",
    ),
    mutant(
        "a key is taken from a job that has not ended",
        ONCE,
        "!self.state.is_ended() || (!freed",
        "(!freed",
    ),
    mutant(
        "a request with both keys goes where its own says",
        ADMIT,
        "match dedupe.or(key) {",
        "match key.or(dedupe) {",
    ),
    mutant(
        "a further key names nothing",
        ALIAS,
        "self.state.aliases = true;",
        "self.state.aliases = false;",
    ),
    mutant(
        "a further key lives as long as the job's own",
        ALIAS,
        "alias.names(&self.job, now)",
        "alias.place > 0 && self.job.keeps_key(now)",
    ),
    mutant(
        "further keys are kept beyond their job",
        ALIAS,
        "DELETE FROM alias WHERE number = CAST(? AS INTEGER)\",",
        "DELETE FROM alias WHERE number = -CAST(? AS INTEGER)\",",
    ),
    mutant(
        "a request sent again takes the place of a newer one",
        ENQUEUE,
        "return self.answer_again(call, holder, &enqueue);",
        "if !matches!(enqueue.job.once, Some(tidegate_protocol::calls::once::Once::Dedupe(_))) { \
         return self.answer_again(call, holder, &enqueue); }",
    ),
    mutant(
        "a bound is exceeded by one",
        BACKLOG,
        "if there == 0 || there.saturating_add(of(more)) <= max {",
        "if there <= max {",
    ),
    mutant(
        "a resumed job counts twice",
        CHANGE,
        "self.line_up(job)",
        "self.wait(job)",
    ),
    mutant(
        "a refused request is asked to come at once",
        BACKLOG,
        "u128::from(needed) * u128::from(looked)",
        "u128::from(needed.min(1)) * u128::from(looked.min(1))",
    ),
    mutant(
        "a row goes before its key",
        ONCE,
        "named.map_or(kept, |named| named.max(kept))",
        "named.map_or(kept, |named| named.min(kept))",
    ),
    mutant(
        "a job that has begun is replaced",
        ONCE,
        "DedupeRule::ReplaceWaiting => !job.has_begun(),",
        "DedupeRule::ReplaceWaiting => !job.state.is_ended(),",
    ),
    mutant(
        "a debounced job waits without end",
        ONCE,
        ".min(job.created_at.plus(max_wait_ms))",
        ".max(UnixMs(max_wait_ms.min(1)))",
    ),
    mutant(
        "a debounced job keeps its first input",
        ONCE,
        "Value::Blob(&to_blob(&enqueue.job.payload)?)",
        "Value::Blob(&to_blob(&before)?)",
    ),
    mutant(
        "a debounced job stays in the lane of its first input",
        ONCE,
        "if old_lane == lane {",
        "if old_lane.len() != 1 || lane.is_empty() {",
    ),
    mutant(
        "an end is told to nobody",
        ATTEMPT,
        "self.tell_endpoint(&job, &event)",
        "if self.now.0 == 0 { self.tell_endpoint(&job, &event) } else { Ok(()) }",
    ),
    mutant(
        "a message has another id each time",
        HOOKS,
        "id: message_id(job.id),\n                endpoint: None,",
        "id: message_id(JobId::new(job.id.number(), split((self.random)()).0)),\n                endpoint: None,",
    ),
    mutant(
        "every end is told, whichever is asked for",
        HOOKS,
        "on_end.events.contains(&job.state)",
        "!on_end.events.is_empty()",
    ),
    mutant(
        "a host that hangs takes every place",
        HOOKS,
        "rule: Rule::Concurrency { max: ON_END_HOST_MAX },",
        "rule: Rule::Concurrency { max: ON_END_HOST_MAX * 1000 },",
    ),
    mutant(
        "a job that is told of is not stored first",
        ENQUEUE,
        " && enqueue.job.hook.is_none()",
        "",
    ),
    mutant(
        "somebody has another message signed",
        RETRY,
        "if replaced.is_some() && matches!(old.spec.hook, Some(Hook::Tells(_))) {",
        "if replaced.is_some() && old.attempt == u32::MAX {",
    ),
    mutant(
        "an attempt that was handed over has the lease of the executor",
        HANDED_OVER,
        "lease.until = until;",
        "lease.until = lease.until.min(until);",
    ),
    mutant(
        "an attempt that was handed over is forgotten by a crash",
        HANDED_OVER,
        "job.set_due(self.db, Some(until))?;",
        "",
    ),
    mutant(
        "a report shortens the lease of what was handed over",
        ATTEMPT,
        "lease_until.max(job.handed_over_until().unwrap_or_default())",
        "lease_until",
    ),
    mutant(
        "a result is there until it is swept",
        RETENTION,
        "self.result_until().is_some_and(|until| until <= now)",
        "self.result_until().is_some_and(|until| until.0 == 0 && until <= now)",
    ),
    mutant(
        "nothing is swept but jobs",
        RETENTION,
        "keys.extend(stored_key(result).map(Into::into));",
        "",
    ),
    mutant(
        "what lies inside is called",
        TARGET,
        "if base.host.is_private() {",
        "if base.host.is_private() && base.path.len() > 4096 {",
    ),
    mutant(
        "a star stands for another host",
        TARGET,
        "(beginning.is_none() || host_is_whole).then_some(Self {",
        "(beginning.is_none() || host_is_whole || text.len() > 8).then_some(Self {",
    ),
    mutant(
        "a schedule fires early",
        SCHEDULES,
        "if fires_at > self.now {",
        "if fires_at > self.now.plus(1000) {",
    ),
    mutant(
        "a schedule makes up for nothing",
        SCHEDULES,
        "self.now.since(fires_at) > kept.schedule.catch_up_ms",
        "self.now.since(fires_at) > 0",
    ),
    mutant(
        "a schedule counts from the clock and not from its last time",
        SCHEDULES,
        "kept.done_until = nominal;",
        "kept.done_until = self.now;",
    ),
    mutant(
        "a schedule forgets its key",
        SCHEDULES,
        "keyed: key.map(",
        "keyed: key.filter(|_| false).map(",
    ),
    mutant(
        "a schedule stops where a client took its key",
        SCHEDULES,
        "Some(key) if self.is_taken(template, &key)? => None,",
        "Some(key) if key.as_str().is_empty() => None,",
    ),
    mutant(
        "a schedule begins what it has cancelled",
        SCHEDULES,
        "Effect::Execute(execute) if execute.job == job",
        "Effect::Execute(execute) if execute.job != job && execute.job == job",
    ),
    mutant(
        "a schedule waits for no end",
        JOBS,
        "may_release |= matches!(call, Call::Finish { .. } | Call::Cancel { .. } | Call::Many { .. });",
        "may_release |= false;",
    ),
    mutant(
        "an older set of schedules counts",
        SCHEDULE_CALLS,
        "if version > row::version(self.db)? {",
        "if version > 0 {",
    ),
    mutant("no alarm is set for schedules", STATE, ".chain(self.schedules.due)", ""),
    mutant(
        "schedules are told once",
        TOLD,
        "WHERE id = 1 AND told = 0\",",
        "WHERE id = 1 AND told = 0 AND version < 0\",",
    ),
    mutant(
        "an old token counts",
        ATTEMPT,
        "is_some_and(|lease| lease.token == token)",
        "is_some_and(|lease| lease.token >= token)",
    ),
    mutant(
        "the watermark rises over rows without an index entry",
        WAKE,
        "|(_, lease)| !lease.indexed || lease.stored_until <= now",
        "|(_, lease)| lease.stored_until <= now",
    ),
    mutant(
        "a job that spills below the watermark has no index entry",
        ENQUEUE,
        "if id.number() <= self.state.watermark {",
        "if id.number().0 == 0 {",
    ),
    mutant(
        "a recovery forgets rows above the watermark",
        STATE,
        "AND due_at IS NULL AND state >= 3",
        "AND due_at IS NULL AND state > 99",
    ),
    mutant(
        "the deadline acknowledges without a row",
        FOLLOW,
        "let stored = if outcomes { self.store(number)? } else { None };",
        "let stored = if outcomes && number.0 == 0 { self.store(number)? } else { None };",
    ),
    mutant(
        "the hub does not look at the seq",
        DELIVERIES,
        "follow.job == job && follow.seq < event.seq",
        "follow.job == job",
    ),
    mutant("an end is not delivered again", WAKE, "self.redeliver()?;", ""),
    mutant(
        "a claimed job still waits",
        ATTEMPT,
        "self.state.lanes.remove(&lane, head); self.state.running",
        "self.state.running",
    ),
    mutant(
        "parked events are dropped",
        DELIVERIES,
        "self.parked.push_back(delivery);",
        "drop(delivery);",
    ),
    mutant(
        "what a socket asked for is counted for ever",
        PENDING,
        "*count = count.saturating_sub(1);",
        "",
    ),
    mutant(
        "who is about to follow is not counted",
        PENDING,
        "self.following += usize::from(asked.question.follows());",
        "",
    ),
    mutant(
        "a key is looked up without its action",
        ROW,
        "\"WHERE action = CAST(? AS TEXT) AND key = CAST(? AS TEXT)\"",
        "\"WHERE ? IS NOT NULL AND key = CAST(? AS TEXT)\"",
    ),
    mutant(
        "a job is started before it is due",
        ENQUEUE,
        "let direct = due.is_none() && !pulled && dispatch",
        "let direct = !pulled && dispatch",
    ),
    mutant(
        "a doorbell starts what waits for its time",
        ATTEMPT,
        "&& job.state == JobState::Queued",
        "&& job.state.is_waiting()",
    ),
    mutant(
        "a lease never ends",
        WAKE,
        ".filter(|(_, lease)| lease.until <= now)",
        ".filter(|(_, lease)| lease.until.0 == 0)",
    ),
    mutant(
        "a hub that follows anew is dropped",
        FOLLOW,
        "self.state.followed.insert((hub, job.id.number()));",
        "",
    ),
    mutant(
        "an attach to an ended job that misses nothing is told nothing",
        FOLLOW,
        "let reply = self.attached(&job, after)?;",
        "let reply = self.following(&job, after)?;",
    ),
    mutant(
        "a cursor beyond everything is believed",
        REPLIES,
        "seq = snapshot.seq;",
        "seq = seq.max(snapshot.seq);",
    ),
    mutant(
        "waiting jobs have no alarm",
        STATE,
        "(true, true) => self.lanes.next_time(),",
        "(true, true) => self.lanes.next_time().filter(|at| at.0 == 0),",
    ),
    mutant(
        "progress goes backwards",
        ATTEMPT,
        "progress.percentage = progress.percentage.max(job.progress.percentage);",
        "",
    ),
    mutant(
        "an ended job is cancelled",
        CANCEL,
        "if job.state.is_ended() { let message",
        "if job.seq.0 > 9999 { let message",
    ),
    mutant(
        "a follow is not kept for the hub's sleep",
        DELIVERIES,
        "self.pass_on(to, job, &event, effects); } effects.push(Effect::Save { of: to.clone() });",
        "self.pass_on(to, job, &event, effects); }",
    ),
    mutant(
        "a user sees the jobs of all",
        CALLS,
        "self.reads_all || self.writes_all || self.user == *owner",
        "self.reads_all || !owner.as_str().is_empty()",
    ),
    mutant(
        "a recovery gives every running job a fresh lease",
        STATE,
        "let lease = Lease::stored(&job);",
        "let until = now.plus(job.spec.policy.lease_ms);
            let lease = Lease { until, stored_until: until, ..Lease::stored(&job) };",
    ),
    mutant(
        "a rung job's lease lasts until the doorbell's grace is over",
        ATTEMPT,
        "let lease = Lease { until, stored_until: until, ..Lease::stored(&job) };",
        "let lease = Lease { stored_until: until, ..Lease::stored(&job) };",
    ),
    mutant(
        "an ended job keeps its place",
        ATTEMPT,
        "self.state.release(number); let expires_at",
        "let expires_at",
    ),
    mutant("limits of time have no alarm", STATE, ".chain(self.limits_at())", ""),
    mutant(
        "limits of time are forgotten by a recovery",
        STATE,
        "give_up_at: Self::earliest_give_up(db)?,",
        "give_up_at: None,",
    ),
    mutant(
        "limits of time pass before they are over",
        LIMITS,
        "columns!(\"WHERE give_up_at <= CAST(? AS INTEGER)",
        "columns!(\"WHERE give_up_at - 2000 <= CAST(? AS INTEGER)",
    ),
    mutant(
        "limits of time count from the acceptance",
        LIMITS,
        "self.spec.run_at.unwrap_or_default().max(self.created_at)",
        "self.created_at",
    ),
    mutant(
        "limits of time let a claim start what is over",
        ATTEMPT,
        "if job.is_over(self.now) {",
        "if job.is_over(self.now) && job.attempt > 999 {",
    ),
    mutant(
        "limits of time let a retry be set that cannot begin",
        ATTEMPT,
        "if job.is_over(next_attempt_at) {",
        "if job.is_over(next_attempt_at) && job.attempt > 999 {",
    ),
    mutant(
        "limits of time on waiting go on after the first attempt",
        ATTEMPT,
        "self.limit_again(&mut job)?;",
        "",
    ),
    mutant(
        "limits of time outlive their job",
        ATTEMPT,
        "self.forget_limit(&mut job)?; self.save(&job)?;",
        "self.save(&job)?;",
    ),
    mutant("silence is not noticed", WAKE, "self.fail_silent()?;", ""),
    mutant(
        "silence ends with a sign of life",
        ATTEMPT,
        "if !events.is_empty() || checkpoint.is_some() || notes.is_some() {",
        "if self.now.0 > 0 {",
    ),
    mutant(
        "a run that puts itself off costs an attempt",
        ATTEMPT,
        "let counts = job.state == JobState::Retrying || job.attempt == 0;",
        "let counts = job.state != JobState::Queued || job.attempt == 0;",
    ),
    mutant(
        "a redrive that is asked for again makes another job",
        RETRY,
        "if let Some(job) = redriven_to(self.db, number)? {",
        "if let Some(job) = redriven_to(self.db, number)?.filter(|job| job.number().0 == 0) {",
    ),
    mutant(
        "a payload stays with the old job",
        RETRY,
        "set_redriven_to(self.db, number, job, gives_payload)?;",
        "set_redriven_to(self.db, number, job, gives_payload && number.0 == 0)?;",
    ),
    mutant(
        "a new job does not say what it does again",
        RETRY,
        "redriven_from: Some(old.id),",
        "redriven_from: None,",
    ),
    mutant(
        "a retried job keeps its time",
        RETRY,
        "job.set_due(self.db, Some(self.now))?;",
        "",
    ),
    mutant(
        "a redriven job stays a dead letter",
        LETTERS,
        "UPDATE job SET redriven_to = ?, payload",
        "UPDATE job SET checkpoint = ?, payload",
    ),
    mutant(
        "whoever sees a job may change it",
        ATTEMPT,
        "Some(job) if !caller.may_write(&job.spec.user) => {",
        "Some(job) if !caller.may_read(&job.spec.user) => {",
    ),
    mutant(
        "a filter changes what its caller may only see",
        SELECT,
        "Self::of(caller, filter, caller.writes_all)",
        "Self::of(caller, filter, caller.writes_all || caller.reads_all)",
    ),
    mutant(
        "a page that stops early says that it is the last",
        SELECT,
        "let below = Some(JobNumber(below)); Ok(Found { numbers, below }) }",
        "Ok(Found { numbers, below: None }) }",
    ),
    mutant(
        "a dry run of several cancels",
        MANY,
        "self.cancel_job(id, caller, dry_run)?",
        "self.cancel_job(id, caller, dry_run && id.tail() == 0)?",
    ),
    mutant(
        "a full queue passes over what it refused",
        MANY,
        "next = Some(JobNumber(id.number().0 + 1));",
        "",
    ),
    mutant(
        "an ended attempt keeps its place under a limit",
        STATE,
        "self.give_back(&lease.shape); Some(lease)",
        "Some(lease)",
    ),
    mutant(
        "a recovery forgets who holds a limit",
        STATE,
        "self.gates.hold(&lease.shape); self.running",
        "self.running",
    ),
    mutant(
        "nobody hears of a place under a limit",
        STATE,
        "self.lanes.opened(&Gate::Limit(key.clone()));",
        "let _ = key;",
    ),
    mutant(
        "a limit has one place too many",
        GATES,
        "return self.held(key) < max;",
        "return self.held(key) <= max;",
    ),
    mutant(
        "the first rule of a limit holds for ever",
        GATES,
        "if self.whole(&counted.limit) != Some(counted.rule) {",
        "if self.whole(&counted.limit).is_none() {",
    ),
    mutant(
        "a throttle stores its first start alone",
        GATES,
        "ON CONFLICT (name, key) DO UPDATE SET arrival_us = excluded.arrival_us",
        "ON CONFLICT (name, key) DO NOTHING",
    ),
    mutant(
        "a throttle counts no units",
        GATES,
        "interval_us.saturating_mul(cost.into())",
        "interval_us",
    ),
    mutant("a throttle rounds down", GATES, ".div_ceil(1000)))", " / 1000))"),
    mutant(
        "a throttle has no alarm",
        LANES,
        "self.openings.insert((at, gate.clone()));",
        "let _ = at;",
    ),
    mutant(
        "a pause holds nothing back",
        GATES,
        "paused.cloned().map(Gate::Paused).chain(full)",
        "paused.cloned().map(Gate::Paused).take(0).chain(full)",
    ),
    mutant(
        "a resume is not stored",
        GATES,
        "DELETE FROM pause WHERE scope = ?",
        "DELETE FROM pause WHERE scope = ? AND 1 = 0",
    ),
    mutant(
        "a lane forgets that its head is earlier",
        LANES,
        "if head < lane.head {",
        "if head < lane.head && lane.jobs == 0 {",
    ),
    mutant(
        "priority counts for nothing",
        LANES,
        "self.head.0.saturating_add(offset_ms(self.shape.priority))",
        "self.head.0",
    ),
    mutant(
        "a start costs a share nothing",
        ATTEMPT,
        "self.state.lanes.charge(&lane);",
        "",
    ),
    mutant(
        "weights count for nothing",
        LANES,
        "(key, STRIDE / u64::from((*weight).max(1)))",
        "(key, STRIDE / u64::from((*weight).clamp(1, 1)))",
    ),
    mutant(
        "a share that comes again is set back to the clock",
        LANES,
        ".filter(|pass| *pass < self.clock);",
        ".filter(|pass| *pass > self.clock);",
    ),
    mutant(
        "a share that leaves leaves its debt",
        LANES,
        "if standing.pass > self.clock {",
        "if standing.pass > self.clock && standing.pass == 0 {",
    ),
    mutant(
        "notes that come again count again",
        NOTES,
        "is_none_or(|number| number > known)",
        "is_none_or(|number| number >= known)",
    ),
    mutant(
        "the number of notes is not stored",
        NOTES,
        "(reported.token, reported.number) = (Some(token), number);",
        "let _ = (reported, token, number);",
    ),
    mutant(
        "text is kept without a bound",
        HISTORY,
        "if reported.output_bytes > keep_bytes {",
        "if reported.output_bytes > u64::MAX - keep_bytes {",
    ),
    mutant(
        "the places of a stream stand still",
        HISTORY,
        "*written += bytes(chunk.len());",
        "*written += bytes(chunk.len()) & 0;",
    ),
    mutant(
        "what a job wrote outlives it",
        WAKE,
        "if row.number()? > 0 {",
        "if row.number()? > 1 {",
    ),
    mutant(
        "forgotten text is no gap",
        HISTORY,
        "gap |= event.seq > next;",
        "gap |= event.seq < next;",
    ),
    mutant(
        "a worker's job goes to the executor by its doorbell",
        ATTEMPT,
        "&& job.spec.policy.pool.is_none()",
        "",
    ),
    mutant(
        "a worker's job starts at once in the executor",
        ENQUEUE,
        "let direct = due.is_none() && !pulled && dispatch.starts",
        "let direct = due.is_none() && dispatch.starts",
    ),
    mutant(
        "workers take the executor's places",
        STATE,
        "let ours = self.running().saturating_sub(self.gates.pulled());",
        "let ours = self.running();",
    ),
    mutant(
        "a worker that has left is given jobs",
        PULL,
        "self.answer_poll(older);",
        "let _ = older;",
    ),
    mutant(
        "a worker that waits is woken by calls alone",
        STATE,
        "waiters.chain(self.next_poll()).chain(self.next_share()).min()",
        "waiters.min()",
    ),
    mutant(
        "workers are given more than they may hold",
        PULL,
        "LEASED_MAX.saturating_sub(self.gates.pulled())",
        "LEASED_MAX",
    ),
    mutant(
        "a job of one pool goes to another",
        PULL,
        "let mut hungry = self.polls_where(|poll| poll.pool == *pool);",
        "let mut hungry = self.polls_where(|_| true);",
    ),
    mutant(
        "another outcome of an ended attempt is taken for done",
        SAID,
        "Some(Happening::Completed { result: kept })) => result == kept,",
        "Some(Happening::Completed { result: _ })) => !result.clone().eq(&tidegate_protocol::event::Payload::Inline(tidegate_protocol::event::JsonText::null())),",
    ),
    mutant(
        "an old token's outcome is taken for done",
        SAID,
        "if self.token != token {",
        "if self.token < token {",
    ),
    mutant(
        "every job runs as it was accepted",
        ATTEMPT,
        "runs: spec.policy.revision,",
        "runs: Default::default(),",
    ),
    mutant(
        "what may become anything shares an invocation",
        POLICY,
        "RevisionRule::Latest => Sharing::Alone,",
        "RevisionRule::Latest => sharing,",
    ),
    mutant(
        "work goes on from the checkpoint of other work",
        LATEST,
        "checkpoint.filter(|key| key.ends_with(work))",
        "checkpoint.filter(|_| !work.is_empty())",
    ),
    mutant(
        "what workers run by now is run by the executor",
        LATEST,
        "Some(_) => Err(gone(\"leaves it to workers of a pool to run\")),",
        "Some(_) => Ok(action),",
    ),
    mutant(
        "a request that did not ask for it loses its job",
        AWAY,
        "None => self.stays(number),",
        "None => Ok(()),",
    ),
    mutant(
        "a late answer of a hub counts",
        AWAY,
        "if left.asked.get(&hub) != Some(at) {",
        "if left.asked.is_empty() && false {",
    ),
    mutant(
        "a hub denies who is about to follow",
        FOLLOWED,
        "if self.pending.awaits_followers() {",
        "if false {",
    ),
    mutant(
        "that a job was left is forgotten in a crash",
        AWAY,
        "&[Value::optional(since.map(|at| at.0)), Value::Number(number.0)],",
        "&[Value::optional(since.map(|at| at.0).filter(|_| false)), Value::Number(number.0)],",
    ),
    mutant(
        "a caller that waits does not count",
        AWAY,
        "if waited_for.contains(&number) || !job.followers.is_empty() {",
        "if !job.followers.is_empty() {",
    ),
    mutant(
        "a new attempt began with the one before",
        ATTEMPT,
        "job.started_at = Some(self.now);",
        "job.started_at = job.started_at.or(Some(self.now));",
    ),
    mutant(
        "each run of an attempt is a start of it",
        ATTEMPT,
        "let begun = if counts {",
        "let begun = if counts || job.attempt > 0 {",
    ),
    mutant(
        "a start has no place where all events are kept",
        STARTED,
        "!= Durability::All",
        "!= Durability::All || job.attempt > 1",
    ),
    mutant(
        "a lost doorbell is not noted",
        DOORBELLS,
        "if self.load(id)?.is_some() {",
        "if false {",
    ),
    mutant(
        "what is noted of a doorbell outlives its job",
        WAKE,
        "if any_doorbell {",
        "if false {",
    ),
    mutant(
        "a list of two kinds goes on behind what it has not shown",
        SELECT,
        "below = self.numbers.last().copied();",
        "",
    ),
    mutant(
        "a doorbell from the dead does not ring",
        DOORBELLS,
        "self.start(call, id)",
        "self.start(call, JobId::new(id.number(), !id.tail()))",
    ),
    mutant(
        "what runs out of a pack is found by no recovery",
        STATE,
        "for number in state.packs.gone().filter(|number| *number <= watermark) {",
        "for number in state.packs.gone().filter(|_| false) {",
    ),
    mutant(
        "a pack names for ever what has left it",
        PACKS,
        "pack.places.retain(|place| !place.left);",
        "",
    ),
    mutant(
        "a pack goes while only it tells what runs",
        PACKING,
        "if !numbers.iter().any(unfound) {",
        "if unfound(&first) || !numbers.is_empty() {",
    ),
    mutant(
        "a pack outlives the alarm that has seen to what left it",
        WAKE,
        "self.state.packs.settle(self.db)",
        "Ok(())",
    ),
    mutant(
        "packs of one lane start one after the other",
        PACKS,
        "packs.next_if(|pack| earliest.is_none_or(|earliest| *pack <= earliest))",
        "packs.next_if(|_| earliest.is_none())",
    ),
    mutant(
        "what is packed starts after what has rows",
        HEADS,
        "heads.make_contiguous().sort_by_key(place);",
        "",
    ),
    mutant(
        "a cancelled batch keeps what is packed",
        BATCHES,
        "found.extend(packed.take(scan)",
        "found.extend(packed.take(0)",
    ),
    mutant(
        "a list passes over what is packed",
        SELECT,
        "if source == Source::DeadLetters {",
        "if source != Source::Open {",
    ),
    mutant(
        "a job with a limit of time is packed",
        ENQUEUE,
        "if is_plain && !rings && job.give_up_at.is_none() {",
        "if is_plain && !rings {",
    ),
    mutant(
        "what is asked of a packed job is not kept",
        PACKING,
        "if job.control.is_some() || job.reported.is_some() {",
        "if job.reported.is_some() {",
    ),
    mutant(
        "packed jobs count for nothing in what is ahead",
        CONTROL,
        "Ok(stored + self.state.packs.ahead(&shape.name()?, due, job.id.number()))",
        "Ok(stored)",
    ),
    mutant(
        "an attempt that is given up as it begins is made all the same",
        JOBS,
        "for lease in given_up.collect::<Vec<_>>() {",
        "for lease in given_up.take(0).collect::<Vec<_>>() {",
    ),
    mutant(
        "what comes while a look is waited for is done at once",
        BREATH,
        "let most = if self.looking { self.early.min(self.most) } else { self.most };",
        "let most = self.most;",
    ),
    mutant(
        "a tenant that was ever here is company for good",
        COMPANY,
        "Some((_, at)) if now.since(*at) <= THERE_MS => Company::Others,",
        "Some((_, at)) if now >= *at => Company::Others,",
    ),
    mutant(
        "a tenant is its own company",
        COMPANY,
        "Some((last, at)) if last == tenant => *at = now,",
        "Some((last, at)) if last == tenant && at.0 == now.0 => {}",
    ),
];
