//! `tidegate usage` and `tidegate budgets`: what a tenant uses, and how much it may.

use std::io::Read;
use std::path::Path;

use tidegate_sdk::Client;
use tidegate_sdk::http::{BudgetView, Meters, UsageFilter, UsageFormat, UsageView};

use crate::arguments::{Budgets, Export, Usage};
use crate::commands::objects;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Output, tame};

/// Shows what was used, or stores it and prints what was stored.
pub async fn usage(client: &Client, asked: Usage, output: Output) -> Result<Exit, Failure> {
    let filter = UsageFilter {
        window: asked.window,
        from: asked.from,
        to: asked.to,
    };
    if let Some(format) = asked.export {
        let format = match format {
            Export::Csv => UsageFormat::Csv,
            Export::Ndjson => UsageFormat::Ndjson,
        };
        let stored = client.http().export_usage(&filter, format).await?;
        if output.is_json() {
            output.event("export", &stored);
            return Ok(Exit::Succeeded);
        }
        output.say(&format!("Stored {} ({} bytes).", tame(&stored.key), stored.bytes));
        let mut download = client.http().get_object(&stored.key).await?;
        return objects::save(&mut download, None, output).await;
    }
    let view = match asked.tenant {
        Some(tenant) => client.http().usage_of(&tenant, &filter).await?,
        None => client.http().usage(&filter).await?,
    };
    if output.is_json() {
        output.event("usage", &view);
        return Ok(Exit::Succeeded);
    }
    show(&view, output);
    Ok(Exit::Succeeded)
}

/// Sets an operator's budgets for a tenant.
pub async fn budgets(client: &Client, asked: Budgets, output: Output) -> Result<Exit, Failure> {
    let text = read(&asked.file)?;
    let view = client.http().set_budgets(&asked.tenant, &text).await?;
    if output.is_json() {
        output.event("budgets", &view);
        return Ok(Exit::Succeeded);
    }
    if view.budgets.is_empty() {
        output.say("No budgets.");
    }
    for budget in &view.budgets {
        output.print(&tame(&standing(budget)));
    }
    Ok(Exit::Succeeded)
}

/// The text of a file with a JSON object.
///
/// Errors: it cannot be read, or is no JSON.
pub fn read(file: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().lock().read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|mut file| file.read_to_string(&mut text))
    };
    read.map_err(|error| Failure::of_io(&format!("{} cannot be read", file.display()), &error))?;
    match serde_json::from_str::<serde_json::Value>(&text) {
        Ok(serde_json::Value::Object(_)) => Ok(text),
        Ok(_) => Err(Failure::new(
            Exit::Invalid,
            format!("{} is no JSON object.", file.display()),
        )),
        Err(error) => Err(Failure::new(
            Exit::Invalid,
            format!("{} is no JSON: {error}.", file.display()),
        )),
    }
}

fn show(view: &UsageView, output: Output) {
    let cost = |cost: f64| format!("{cost:.4} {}", view.prices.currency);
    if view.usage.is_empty() {
        output.say(&format!("Nothing was used from {} until {}.", view.from, view.to));
    }
    for window in &view.usage {
        let line = format!(
            "{}  {}  about {}",
            window.at,
            counts(&window.meters),
            cost(window.estimated_cost)
        );
        output.print(&tame(&line));
    }
    if view.usage.len() > 1 {
        let total = &view.total;
        let line = format!(
            "together  {}  about {}",
            counts(&total.meters),
            cost(total.estimated_cost)
        );
        output.print(&tame(&line));
    }
    for budget in &view.budgets {
        output.print(&tame(&standing(budget)));
    }
}

/// The meters that people ask for first. `--json` has all of them.
fn counts(meters: &Meters) -> String {
    format!(
        "{} requests, {} messages in, {} out, {} jobs, {} rows written, {} read, {} bytes in, {} out, connected {} s, awake {} s",
        meters.requests,
        meters.messages_in,
        meters.messages_out,
        meters.jobs,
        meters.rows_written,
        meters.rows_read,
        meters.bytes_in,
        meters.bytes_out,
        meters.connection_ms / 1000,
        meters.awake_ms / 1000,
    )
}

fn standing(budget: &BudgetView) -> String {
    let BudgetView {
        name,
        set_by,
        meter,
        per,
        units,
        used,
        until,
        state,
        ..
    } = budget;
    format!("budget {name} ({set_by})  {state}: {used} of {units} {meter} a {per}, until {until}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_a_budget_stands() {
        let budget: BudgetView = serde_json::from_str(
            r#"{"name":"plan","set_by":"operator","meter":"jobs","per":"month","units":100,"warn_units":80,"used":85,
            "until":"2026-12-01T00:00:00.000Z","state":"warned"}"#,
        )
        .unwrap();
        assert_eq!(
            standing(&budget),
            "budget plan (operator)  warned: 85 of 100 jobs a month, until 2026-12-01T00:00:00.000Z"
        );
    }

    #[test]
    fn what_is_no_object_of_budgets_is_refused_here() {
        let file = std::env::temp_dir().join(format!("tidegate-budgets-{}", std::process::id()));
        for (text, good) in [("{}", true), (r#"{"a":{}}"#, true), ("[]", false), ("x", false)] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(read(&file).is_ok(), good, "{text}");
        }
        std::fs::remove_file(&file).unwrap();
        assert!(read(&file).is_err());
    }
}
