//! `tidegate upstreams`: how the breakers of upstreams stand, and changing them by hand.

use tidegate_sdk::Client;
use tidegate_sdk::http::{Breaker, BreakerChange, Upstreams};

use crate::arguments::{BreakerName, Upstreams as Command};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Output, tame};

/// Runs one of the commands on upstreams.
pub async fn upstreams(client: &Client, command: Command, output: Output) -> Result<Exit, Failure> {
    let http = client.http();
    let set = async |name: BreakerName, change| http.set_breaker(&name.name, name.key.as_deref(), change).await;
    let view = match command {
        Command::List => http.upstreams().await?,
        Command::Open(name) => set(name, BreakerChange::Open).await?,
        Command::Close(name) => set(name, BreakerChange::Close).await?,
        Command::Disable(name) => set(name, BreakerChange::Disable).await?,
    };
    show(&view, output);
    Ok(Exit::Succeeded)
}

fn show(view: &Upstreams, output: Output) {
    if output.is_json() {
        return output.event("upstreams", view);
    }
    if view.breakers.is_empty() {
        output.say("No breaker has been heard of.");
    }
    for breaker in &view.breakers {
        output.print(&tame(&line(breaker)));
        for change in &breaker.changes {
            output.print(&tame(&format!("  {}  {}: {}", change.at, change.to, change.why)));
        }
    }
}

fn line(breaker: &Breaker) -> String {
    let Breaker {
        upstream,
        key,
        state,
        until,
        calls,
        failed,
        slow,
        ..
    } = breaker;
    let key = if key.is_empty() {
        String::new()
    } else {
        format!("  {key}")
    };
    let until = until.map(|at| format!(" until {at}")).unwrap_or_default();
    format!("{upstream}{key}  {state}{until}  {calls} calls, {failed} failed, {slow} slow")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_says_which_how_and_until_when() {
        let breaker = json!({
            "upstream": "bank.main", "key": "eu", "state": "open", "until": "2026-11-21T07:00:00.000Z",
            "calls": 9, "failed": 3, "slow": 1,
        });
        let breaker: Breaker = serde_json::from_value(breaker).unwrap();
        assert_eq!(
            line(&breaker),
            "bank.main  eu  open until 2026-11-21T07:00:00.000Z  9 calls, 3 failed, 1 slow"
        );
        let breaker: Breaker = serde_json::from_value(json!({ "upstream": "a.b", "state": "closed" })).unwrap();
        assert_eq!(line(&breaker), "a.b  closed  0 calls, 0 failed, 0 slow");
    }
}
