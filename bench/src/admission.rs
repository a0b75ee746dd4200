//! What a hub takes to decide on a request, without a platform: reading it, its plan, its limits; and how often it has to ask
//! the tenant's gate.

use std::time::{Duration, Instant};
use tidegate_protocol::SortedSet;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tidegate_engine::admission::{BUCKETS, Gate, LOOK_MS, Outcome, Recalls};
use tidegate_engine::audit;
use tidegate_engine::composition::{self, compile};
use tidegate_engine::database::migrate;
use tidegate_engine::database::native::Native;
use tidegate_engine::hub::{Effect, HttpId, Hub, Moment};
use tidegate_protocol::calls::Principal;
use tidegate_protocol::calls::access::Credential;
use tidegate_protocol::calls::hub::Prefer;
use tidegate_protocol::event::JsonText;
use tidegate_protocol::ids::{HubIndex, TenantId, UserId};
use tidegate_protocol::time::UnixMs;

use crate::Plan;
use crate::echo::SATURATING;
use crate::load::closed_loop;
use crate::report::{Report, Target};
use crate::server::System;

const BEGIN: UnixMs = UnixMs(1_800_000_000_000);
/// The target for a decision.
const DECISION_US_MAX: Target = Target::AtMost(5.0);
/// Requests a second of the clock that is simulated.
const RATE: u64 = 20_000;
/// Users who take turns.
const USERS: usize = 100;
const CLAIMS: &str = r#"{"plan":"pro","groups":["sales","support"],"level":2}"#;
const BODY: &str = r#"{"action":"core.echo","mode":"sync","payload":{"order":1}}"#;

/// Microseconds for the decision on a request that has to pass three limits, natively.
pub fn three_limits_us(measured: Duration) -> Result<f64> {
    Ok(Deciding::new(&three_limits(), &json!({}))?.run(measured)?.0)
}

/// Measures decisions without limits, with three, and with three policies besides, in turn.
pub fn measure(plan: Plan, report: &mut Report) -> Result<()> {
    let limits = three_limits();
    let (mut free, mut limited, mut asked, mut governed) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for run in 0..plan.runs {
        eprintln!("decisions natively, run {} of {}", run + 1, plan.runs);
        free.push(Deciding::new(&json!({}), &json!({}))?.run(plan.measured)?.0);
        let (us, questions) = Deciding::new(&limits, &json!({}))?.run(plan.measured)?;
        limited.push(us);
        asked.push(questions);
        governed.push(Deciding::new(&limits, &three_policies())?.run(plan.measured)?.0);
    }
    report.absolute(
        "a request decided by a hub, natively: without limits",
        "µs",
        &free,
        Target::None,
    );
    report.absolute("– that has to pass three limits", "µs", &limited, DECISION_US_MAX);
    report.absolute("– and three policies", "µs", &governed, DECISION_US_MAX);
    report.absolute(
        "– questions to the gate, of 1,000 such requests",
        "",
        &asked,
        Target::None,
    );
    Ok(())
}

/// Measures echoes on workerd whose tenant has three limits against those of a tenant without, in turn.
pub async fn on_workerd(system: &System, plan: Plan, report: &mut Report) -> Result<()> {
    let mut document: Value = serde_json::from_str(composition::DEFAULT)?;
    let members = document.as_object_mut().context("a composition")?;
    members.insert("admission".into(), json!({ "limits": three_limits() }));
    system.compose("bench-limited", &document).await?;
    let (free, limited) = (system.target("bench-free")?, system.target("bench-limited")?);
    let (mut ratios, mut costs) = (Vec::new(), Vec::new());
    for run in 0..plan.runs {
        eprintln!("echo with limits, run {} of {}", run + 1, plan.runs);
        let without = closed_loop(&free, SATURATING, plan.measured).await?;
        let with = closed_loop(&limited, SATURATING, plan.measured).await?;
        ratios.push(with.rate() / without.rate());
        costs.push(1e6 / with.rate() - 1e6 / without.rate());
    }
    report.shape(
        "what three limits cost a request in wasm: busy time of the one thread",
        "µs",
        &costs,
        Target::None,
    );
    report.shape(
        "echo on 20 sockets × 16 in flight, with three limits: rate against without",
        "×",
        &ratios,
        Target::None,
    );
    Ok(())
}

/// Limits that refuse nothing here.
fn three_limits() -> Value {
    json!({
        "per-user": { "key": "user", "rate": { "units": 1_000_000, "per": "1m" } },
        "all": { "rate": { "units": 1_000_000, "per": "10s" } },
        "daily": { "key": "user", "quota": { "units": 1_000_000_000, "per": "1d" } },
    })
}

/// Policies that decide nothing here, so that all of them are asked.
fn three_policies() -> Value {
    json!({
        "large": { "when": "payload_bytes > 100 * 1024", "effect": { "require_scope": "large" } },
        "trials": { "when": "!has(claims.plan) || claims.plan == 'trial'", "effect": "deny" },
        "staff": { "when": "'staff' in claims.groups && claims.level >= 3", "effect": "allow" },
    })
}

/// A hub and a gate, without their shells.
struct Deciding {
    hub: Hub,
    gate: Gate,
    db: Native,
    plan: composition::Plan,
    principals: Vec<Principal>,
    now: UnixMs,
    questions: u32,
}

impl Deciding {
    fn new(limits: &Value, policies: &Value) -> Result<Self> {
        let mut document: Value = serde_json::from_str(composition::DEFAULT)?;
        let members = document.as_object_mut().context("a composition")?;
        members.insert("admission".into(), json!({ "limits": limits }));
        members.insert("policies".into(), policies.clone());
        let plan = compile(&document.to_string(), tidegate_patterns::MANIFESTS)?;
        let db = Native::in_memory()?;
        migrate(&db, &[BUCKETS, audit::TRAIL, audit::CHAIN])?;
        let principal = |n: usize| {
            Some(Principal {
                tenant: TenantId::parse("bench")?,
                user: UserId::parse(&format!("user-{n}"))?,
                scopes: SortedSet::new(),
                expires_at: BEGIN.plus(86_400_000),
                credential: Credential::Token {
                    id: None,
                    issued_at: None,
                    claims: JsonText::parse(CLAIMS),
                    claims_cut: false,
                },
                network: Default::default(),
            })
        };
        Ok(Self {
            hub: Hub::new(HubIndex(0)),
            gate: Gate::default(),
            db,
            plan,
            principals: (0..USERS).map(principal).collect::<Option<_>>().context("users")?,
            now: BEGIN,
            questions: 0,
        })
    }

    /// Microseconds for a decision, the gate's part included, and questions for 1,000 of them.
    fn run(mut self, measured: Duration) -> Result<(f64, f64)> {
        let (begun, mut requests) = (Instant::now(), 0_u32);
        while begun.elapsed() < measured {
            for n in 0..RATE / 1000 {
                let user = (usize::try_from(n)? + usize::try_from(requests)?) % USERS;
                let principal = self.principals.get(user).context("a user")?.clone();
                self.request(&principal, HttpId(u64::from(requests) + n))?;
            }
            requests += u32::try_from(RATE / 1000)?;
            self.now = self.now.plus(1);
            if self.now.0.is_multiple_of(LOOK_MS) {
                let (returned, effects) = self.hub.idle_leases(self.now);
                self.gate.give_back(&self.db, self.now, HubIndex(0), &returned)?;
                self.perform(effects)?;
            }
        }
        let us = begun.elapsed().as_secs_f64() * 1e6 / f64::from(requests);
        Ok((us, f64::from(self.questions) * 1000.0 / f64::from(requests)))
    }

    fn request(&mut self, principal: &Principal, id: HttpId) -> Result<()> {
        let mut random = || id.0;
        let mut moment = Moment {
            now: self.now,
            random: &mut random,
        };
        let prefer = Prefer::default();
        let effects = self
            .hub
            .request(&mut moment, &self.plan, id, principal, BODY, None, None, prefer);
        self.perform(effects)
    }

    fn perform(&mut self, effects: Vec<Effect>) -> Result<()> {
        for effect in effects {
            let more = match effect {
                Effect::Run { id, .. } => self.hub.ran(self.now, id, Ok(JsonText::null())),
                Effect::Ask { ask } => {
                    self.questions += 1;
                    let (gate, now) = (&mut self.gate, self.now);
                    match self
                        .db
                        .transaction(|db| gate.decide(db, now, &ask, Recalls::Possible))?
                    {
                        Outcome::Decided(decided) => self.hub.decided(now, Ok(decided)),
                        Outcome::Recall(_) => bail!("there is no other hub"),
                    }
                }
                Effect::Answer { reply: Ok(_), .. } => Vec::new(),
                other => bail!("a request was not admitted: {other:?}"),
            };
            self.perform(more)?;
        }
        Ok(())
    }
}
