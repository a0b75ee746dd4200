//! What is compared: each a server of its own, and the sockets that are open to it.

use std::cell::Cell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::dialect::{Dialect, Join, LIVE, STORED};
use super::swarm::{Heard, Swarm};
use crate::cost::cpu_time;
use crate::server::{self, Baseline, System, Target};

/// Sockets that join at the same time.
const JOINING_MAX: usize = 128;
/// How long all of them may take to.
const JOIN_MAX: Duration = Duration::from_secs(120);
/// Users whom the sockets belong to: more than there are hubs, so that each hub has some.
const USERS: usize = 64;
/// A tenant's hubs, where there are several.
pub const HUBS: u8 = 4;
/// When a server has done what the sockets before left to it.
const QUIET: Duration = Duration::from_millis(300);
/// How long that may take.
const QUIET_MAX: Duration = Duration::from_secs(30);

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Tidegate, with one hub, or several.
    Tidegate {
        /// Objects that hold its sockets.
        hubs: u8,
        /// Whether messages are stored before they are told.
        stored: bool,
    },
    /// A loop over the sockets of one object.
    Bare,
    /// PartyServer.
    PartyServer,
    /// The Agents SDK.
    Agents,
    /// The library that Centrifugo is made of.
    Centrifuge,
}

impl Kind {
    /// All that can run here, in the order of the table. The first is what the others are beside.
    pub fn all() -> Vec<Self> {
        let tidegate = |hubs, stored| Self::Tidegate { hubs, stored };
        let mut all = vec![
            tidegate(1, false),
            tidegate(HUBS, false),
            tidegate(1, true),
            Self::Bare,
            Self::PartyServer,
            Self::Agents,
        ];
        if centrifuge().exists() {
            all.push(Self::Centrifuge);
        }
        all
    }

    /// Its column.
    pub fn name(self) -> String {
        match self {
            Self::Tidegate { hubs: 1, stored: false } => String::from("Tidegate"),
            Self::Tidegate { stored: true, .. } => String::from("– stored"),
            Self::Tidegate { hubs, .. } => format!("– {hubs} hubs"),
            Self::Bare => String::from("bare object"),
            Self::PartyServer => String::from("PartyServer"),
            Self::Agents => String::from("Agents SDK"),
            Self::Centrifuge => String::from("Centrifuge"),
        }
    }

    /// How many sockets fit `descriptors`. workerd has two for each: it duplicates that of a WebSocket.
    pub fn sockets_max(self, descriptors: usize) -> usize {
        if self == Self::Centrifuge {
            descriptors
        } else {
            descriptors / 2
        }
    }

    /// Whether it answers with our frames in the same channel, so that the bytes can be compared.
    pub fn has_our_frames(self) -> bool {
        !matches!(self, Self::Centrifuge | Self::Tidegate { stored: true, .. })
    }

    fn dialect(self) -> Dialect {
        match self {
            Self::Tidegate { .. } => Dialect::Tidegate,
            Self::Bare | Self::PartyServer => Dialect::Room,
            Self::Agents => Dialect::Agent,
            Self::Centrifuge => Dialect::Centrifuge,
        }
    }
}

/// The server of Centrifuge, where `cargo xtask bench realtime` has built one.
pub fn centrifuge() -> PathBuf {
    let name = format!("target/tools/bin/centrifuge-peer{}", std::env::consts::EXE_SUFFIX);
    server::root().join(name)
}

/// A server under load.
pub struct Side {
    /// What it is.
    pub kind: Kind,
    /// How it is spoken with.
    pub dialect: Dialect,
    /// The channel of its sockets.
    pub channel: &'static str,
    /// The process that does the work.
    pub pid: i32,
    address: SocketAddr,
    tokens: Vec<Option<String>>,
    _server: Server,
}

#[expect(dead_code, reason = "they are held until the side is dropped, which ends them")]
enum Server {
    Tidegate(System),
    Other(Baseline),
}

impl Side {
    /// Starts the server of `kind`.
    pub async fn start(kind: Kind) -> Result<Self> {
        let (server, target, tokens) = match kind {
            Kind::Tidegate { hubs, .. } => {
                let (system, tenant) = (System::start_for_many()?, "bench-realtime");
                let composition = json!({
                    "tidegate": 1, "scale": { "hubs": hubs, "shards": 1 }, "patterns": { "core": { "use": "core" } },
                    "actions": { "core.echo": { "run": "core.echo", "mode": "sync" } },
                    "channels": { LIVE: { "publish": true, "ephemeral": true }, STORED: { "publish": true } },
                });
                system.compose(tenant, &composition).await?;
                let target = system.target(tenant)?;
                let token = |user: usize| Ok(Some(system.token(tenant, &format!("bench-{user}"))?));
                let tokens = (0..USERS).map(token).collect::<Result<_>>()?;
                (Server::Tidegate(system), target, tokens)
            }
            other => {
                let server = match other {
                    Kind::Bare => Baseline::realtime("bare")?,
                    Kind::PartyServer => Baseline::realtime("partyserver")?,
                    Kind::Agents => Baseline::realtime("agents")?,
                    _ => Baseline::program(&centrifuge())?,
                };
                let target = server.target("")?;
                (Server::Other(server), target, vec![None])
            }
        };
        let Target { url, workerd_pid, .. } = target;
        let host = url.strip_prefix("ws://").context("an address")?;
        let host = host.split('/').next().unwrap_or_default();
        Ok(Self {
            kind,
            dialect: kind.dialect(),
            channel: if matches!(kind, Kind::Tidegate { stored: true, .. }) {
                STORED
            } else {
                LIVE
            },
            pid: workerd_pid,
            address: host.parse()?,
            tokens,
            _server: server,
        })
    }

    /// Opens sockets until `swarm` has `sockets`; where `follows`, they follow the channel. All of them have joined then.
    pub async fn open(&self, swarm: &mut Swarm, sockets: usize, follows: bool) -> Result<()> {
        let channel = follows.then_some(self.channel);
        let dialect = self.dialect;
        let (before, until) = (swarm.len(), Instant::now() + JOIN_MAX);
        let there = Cell::new(0);
        let mut join = |_: usize, heard: Heard<'_>| {
            Ok(match dialect.join(&heard, channel)? {
                Join::Say(text) => Some(text),
                Join::There => {
                    there.set(there.get() + 1);
                    None
                }
                Join::Wait => None,
            })
        };
        let host = self.address.to_string();
        while before + there.get() < sockets {
            if Instant::now() > until {
                bail!(
                    "{} of {sockets} sockets joined {}",
                    before + there.get(),
                    self.kind.name()
                );
            }
            while swarm.len() < sockets && swarm.len() - before - there.get() < JOINING_MAX {
                let token = self.tokens.get(swarm.len() % self.tokens.len()).context("a user")?;
                let head = dialect.head(&host, token.as_deref());
                swarm.connect(self.address, &head).await?;
            }
            swarm.hear(until, &mut join)?;
        }
        Ok(())
    }

    /// Waits until the server does nothing: what closed sockets left to it must not count against another.
    pub fn rest(&self) {
        let until = Instant::now() + QUIET_MAX;
        while Instant::now() < until {
            let before = cpu_time(self.pid);
            std::thread::sleep(QUIET);
            let Some((before, after)) = before.zip(cpu_time(self.pid)) else {
                return;
            };
            if after.saturating_sub(before) <= QUIET / 20 {
                return;
            }
        }
    }
}
