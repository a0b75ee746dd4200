//! The commands about endpoints that are told of ends.

use clap::{Args, Subcommand};
use tidegate_sdk::UnixMs;
use tidegate_sdk::http::{EndpointEvent, EndpointSettings, Signature};

use super::access::duration_or_none;
use super::moment;

/// `tidegate endpoint`
#[derive(Debug, Subcommand)]
pub enum Endpoint {
    /// Make an endpoint, and print its id.
    Create {
        /// Where messages are sent: https, on a public host.
        url: String,
        /// What else it is to be.
        #[command(flatten)]
        settings: Settings,
    },
    /// List the endpoints.
    List,
    /// Show an endpoint.
    Show {
        /// Its id.
        id: String,
    },
    /// Change an endpoint. What is not said stays as it is.
    Change {
        /// Its id.
        id: String,
        /// Where messages are sent.
        #[arg(long)]
        url: Option<String>,
        /// What else is to be different.
        #[command(flatten)]
        settings: Settings,
    },
    /// Send messages to it again, after it was disabled.
    Enable {
        /// Its id.
        id: String,
    },
    /// Send it nothing. What it misses is kept, and can be replayed.
    Disable {
        /// Its id.
        id: String,
    },
    /// Delete an endpoint. Messages to it that wait are not sent.
    Delete {
        /// Its id.
        id: String,
    },
    /// List the messages to it, newest first.
    Deliveries {
        /// Its id.
        id: String,
        /// Only in this state, such as failed.
        #[arg(long)]
        status: Option<String>,
        /// At most so many.
        #[arg(long)]
        limit: Option<u32>,
    },
    /// Send again what was not delivered to it.
    Replay {
        /// Its id.
        id: String,
        /// Only of ends from then on, such as 2026-11-21T07:00:00Z [default: all that is kept].
        #[arg(long, value_name = "TIME", value_parser = moment)]
        since: Option<UnixMs>,
    },
}

/// What an endpoint can be.
#[derive(Debug, Args)]
pub struct Settings {
    /// What it is told of, such as job.failed; can be given several times [default: all].
    #[arg(long = "event", value_name = "EVENT", value_parser = named::<EndpointEvent>)]
    pub events: Vec<EndpointEvent>,
    /// A condition in CEL over `event` and `data`; an empty one takes it away.
    #[arg(long, value_name = "CEL")]
    pub filter: Option<String>,
    /// How messages are signed: v1 (a secret) or v1a (a public key) [default: v1].
    #[arg(long, value_parser = named::<Signature>)]
    pub signature: Option<Signature>,
    /// Whether messages are sent one at a time, in order [default: false].
    #[arg(long, value_name = "BOOL")]
    pub ordered: Option<bool>,
    /// What people say of it.
    #[arg(long)]
    pub description: Option<String>,
}

impl Settings {
    /// As the API takes them.
    pub fn with(self, url: Option<String>) -> EndpointSettings {
        EndpointSettings {
            url,
            description: self.description,
            events: Some(self.events).filter(|events| !events.is_empty()),
            filter: self.filter,
            signature: self.signature,
            ordered: self.ordered,
            enabled: None,
        }
    }
}

/// `tidegate webhook-secret`
#[derive(Debug, Args)]
pub struct WebhookSecret {
    /// What to do with it [default: show it].
    #[command(subcommand)]
    pub command: Option<WebhookSecretCommand>,
}

/// `tidegate webhook-secret rotate`
#[derive(Debug, Subcommand)]
pub enum WebhookSecretCommand {
    /// Sign with another secret, and for a while with the old one as well.
    Rotate {
        /// How long both sign, such as 1h; 0s: not at all [default: 1d].
        #[arg(long, value_name = "DURATION", value_parser = duration_or_none)]
        overlap: Option<u64>,
    },
}

/// A value by the name that the API has for it.
fn named<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(text.into()).map_err(|error| error.to_string())
}
