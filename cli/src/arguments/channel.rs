//! `tidegate channel`

use clap::Subcommand;
use tidegate_sdk::Cursor;

/// `tidegate channel …`
#[derive(Debug, Subcommand)]
pub enum Channel {
    /// Publish a message, and print its cursor once it is stored.
    Publish {
        /// The channel, such as chat:1.
        channel: String,
        /// What the message says: JSON, @FILE, or - for stdin.
        #[arg(value_name = "DATA|@FILE|-", allow_hyphen_values = true)]
        data: String,
        /// A name for this message: the same key is stored once [default: random].
        #[arg(long)]
        key: Option<String>,
    },
    /// Show the messages of a channel as they come, a line for each. Ctrl-C ends it.
    Follow {
        /// The channel.
        channel: String,
        /// Begin with the messages behind this cursor [default: as the channel's rules say, mostly what is new].
        #[arg(long, value_name = "EPOCH:OFFSET", value_parser = cursor)]
        after: Option<Cursor>,
        /// End after so many messages.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        count: Option<u64>,
    },
    /// Show what is kept of a channel's messages, oldest first.
    History {
        /// The channel.
        channel: String,
        /// Only the messages behind this cursor.
        #[arg(long, value_name = "EPOCH:OFFSET", value_parser = cursor)]
        after: Option<Cursor>,
        /// At most so many [default: 100].
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1000))]
        limit: Option<u64>,
        /// Go on until the latest.
        #[arg(long, conflicts_with = "limit")]
        all: bool,
    },
    /// Show who is in a channel.
    Presence {
        /// The channel.
        channel: String,
    },
}

fn cursor(text: &str) -> Result<Cursor, String> {
    Cursor::parse(text).ok_or_else(|| format!("expected {}, such as 06fc4b8x0001:42", Cursor::EXPECTED))
}
