//! `/v1/admin/usage`: what a tenant uses, and its budgets. The gate counts; here a query is read, prices are looked up, and an
//! export is stored.

use tidegate_durable_objects::platform::{log_error, now, unavailable};
use tidegate_durable_objects::{remote, storage};
use tidegate_engine::usage::{DAY_MS, HOUR_MS, Prices, Window, parse_budgets};
use tidegate_protocol::calls::Principal;
use tidegate_protocol::calls::directory::Call as Telling;
use tidegate_protocol::calls::tenant::{Call, Reply, UsageForm};
use tidegate_protocol::event::JsonText;
use tidegate_protocol::fault::{escape_pointer, shorten};
use tidegate_protocol::http::{UsageExport, UsageExported};
use tidegate_protocol::ids::TenantId;
use tidegate_protocol::limits::BODY_BYTES_MAX;
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, Fault};
use worker::{Env, HttpMetadata, Request, Response};

use crate::answer;
use crate::audit::acting;
use crate::directory;
use crate::jobs::queries;
use crate::requests::read_text;
use crate::tenants::{check_admin, unexpected};

/// The variable with the deployment's own prices.
const PRICES: &str = "TIDEGATE_PRICES";
/// What the query can say.
const CONDITIONS: [&str; 3] = ["window", "from", "to"];
/// Windows of an answer at most: more than there are hours in a month.
const WINDOWS_MAX: u64 = 1_000;
const MOMENT: &str = "a time as RFC 3339 text";

/// Which windows are meant.
struct Asked {
    window: Window,
    from: UnixMs,
    to: UnixMs,
}

/// `GET /v1/admin/usage`; or, of another tenant, `GET /v1/admin/tenants/{tenant}/usage`.
///
/// Errors: `FORBIDDEN` without the scope `admin`, or `operator`; `VALIDATION_ERROR` with every fault of the query; `NOT_FOUND`
/// where there is no such tenant; `UNAVAILABLE`.
pub async fn show(request: &Request, env: &Env, principal: &Principal, of: Option<&str>) -> Result<Response, Error> {
    let tenant = match of {
        Some(of) => known(env, principal, of).await?,
        None => {
            check_admin(principal)?;
            principal.tenant.clone()
        }
    };
    let asked = query(&queries(request)?, now())?;
    answer::json(&ask(env, &tenant, asked, UsageForm::View).await?, 200)
}

/// `POST /v1/admin/usage/export`: the windows as a file among the tenant's objects.
///
/// Errors: `FORBIDDEN` without the scope `admin`; `VALIDATION_ERROR` with every fault of the body; `UNAVAILABLE`.
pub async fn export(request: &mut Request, env: &Env, principal: &Principal) -> Result<Response, Error> {
    check_admin(principal)?;
    let body = UsageExport::parse(&read_text(request, BODY_BYTES_MAX).await?)?;
    let form = body.form();
    let given = [("window", body.window), ("from", body.from), ("to", body.to)];
    let pairs: Vec<(String, String)> = given
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect();
    let asked = query(&pairs, now()).map_err(of_body)?;
    let (window, from, to) = (asked.window, asked.from, asked.to);
    let text = ask(env, &principal.tenant, asked, form).await?;
    let text: String = serde_json::from_str(text.as_str()).map_err(|_| unexpected())?;
    let day = |at: UnixMs| at.to_string().replace([':', '.'], "-");
    let (kind, media) = match form {
        UsageForm::Csv => ("csv", "text/csv; charset=utf-8"),
        UsageForm::View | UsageForm::Lines => ("ndjson", "application/x-ndjson"),
    };
    let key = format!("exports/usage-{}-{}-{}.{kind}", window.as_str(), day(from), day(to));
    let bytes = text.into_bytes();
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let bucket = env.bucket("OBJECTS").map_err(unavailable("the binding OBJECTS"))?;
    let metadata = HttpMetadata {
        content_type: Some(media.to_owned()),
        ..HttpMetadata::default()
    };
    let put = bucket
        .put(storage::object(&principal.tenant, &key), bytes)
        .http_metadata(metadata);
    storage::write(put).await.map_err(unavailable("storing an export"))?;
    let exported = UsageExported {
        url: format!("/v1/objects/{key}"),
        key,
        bytes: length,
    };
    answer::json(&exported, 201)
}

/// `PUT /v1/admin/tenants/{tenant}/budgets`: an operator's budgets for a tenant.
///
/// Errors: `FORBIDDEN` without the scope `operator`; `NOT_FOUND`; `VALIDATION_ERROR` with every fault; `UNAVAILABLE`.
pub async fn set_budgets(
    request: &mut Request,
    env: &Env,
    principal: &Principal,
    tenant: &str,
) -> Result<Response, Error> {
    let tenant = known(env, principal, tenant).await?;
    let budgets = read_text(request, BODY_BYTES_MAX).await?;
    parse_budgets(&budgets)?;
    let caller = acting(request, principal);
    shown(remote::tenant(env, &tenant, &Call::SetBudgets { budgets, caller }).await?)
        .and_then(|view| answer::json(&view, 200))
}

/// A tenant that an operator names, if there is one: to ask the gate of any other would make it.
///
/// Errors: `FORBIDDEN` without the scope `operator`; `NOT_FOUND`; `UNAVAILABLE`.
pub async fn known(env: &Env, principal: &Principal, tenant: &str) -> Result<TenantId, Error> {
    let tenant = directory::of_operator(principal, tenant)?;
    let telling = Telling::Show { tenant: tenant.clone() };
    remote::directory(env, &telling).await?;
    Ok(tenant)
}

async fn ask(env: &Env, tenant: &TenantId, asked: Asked, form: UsageForm) -> Result<JsonText, Error> {
    let prices = prices(env)?;
    let call = Call::Usage {
        window: asked.window.as_str().to_owned(),
        from: asked.from,
        to: asked.to,
        prices: prices.parts,
        currency: prices.currency,
        form,
    };
    shown(remote::tenant(env, tenant, &call).await?)
}

fn shown(reply: Reply) -> Result<JsonText, Error> {
    match reply {
        Reply::Shown(view) => Ok(view),
        _ => Err(unexpected()),
    }
}

/// What an estimate goes by.
///
/// Errors: `UNAVAILABLE` where the deployment's own cannot be used, with every fault.
pub fn prices(env: &Env) -> Result<Prices, Error> {
    let text = env.var(PRICES).map(|text| text.to_string()).unwrap_or_default();
    if text.is_empty() {
        return Ok(Prices::default());
    }
    Prices::parse(&text).inspect_err(|error| log_error(PRICES, error))
}

/// The same faults, of a body.
fn of_body(mut error: Error) -> Error {
    for fault in &mut error.details {
        fault.pointer = fault.pointer.replacen("/query", "", 1);
    }
    error.message = "The export cannot be made.".into();
    error
}

fn query(pairs: &[(String, String)], now: UnixMs) -> Result<Asked, Error> {
    let (mut window, mut from, mut to) = (Window::Day, None, None);
    let mut faults = Vec::new();
    for (name, value) in pairs {
        let pointer = format!("/query/{}", escape_pointer(&shorten(name)));
        let set = match name.as_str() {
            "window" => Window::parse(value)
                .map(|given| window = given)
                .ok_or("hour, day or month"),
            "from" => UnixMs::parse(value).map(|at| from = Some(at)).ok_or(MOMENT),
            "to" => UnixMs::parse(value).map(|at| to = Some(at)).ok_or(MOMENT),
            other => {
                faults.push(Fault::new(pointer, "no such condition", value).suggest(other, CONDITIONS));
                continue;
            }
        };
        if let Err(expected) = set {
            faults.push(Fault::new(pointer, expected, value));
        }
    }
    let (length, back) = match window {
        Window::Hour => (HOUR_MS, DAY_MS),
        Window::Day => (DAY_MS, 30 * DAY_MS),
        Window::Month => (28 * DAY_MS, 365 * DAY_MS),
    };
    // The window in which `to` lies is shown whole, unless it ends there.
    let to = to.unwrap_or(now);
    let before = |at: UnixMs, ms: u64| UnixMs(at.0.saturating_sub(ms));
    let to = window.end(before(to, 1));
    let from = window.start(from.unwrap_or(before(to, back)));
    if from >= to && faults.is_empty() {
        faults.push(Fault::new("/query/from", "a time before `to`", &from.to_string()));
    }
    if to.since(from) / length > WINDOWS_MAX {
        let expected = format!("at most {WINDOWS_MAX} windows between `from` and `to`: ask for longer ones, or fewer");
        faults.push(Fault::new("/query/from", expected, &from.to_string()));
    }
    if faults.is_empty() {
        return Ok(Asked { window, from, to });
    }
    Err(Error::invalid("The query cannot be used.", faults))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(pairs: &[(&str, &str)]) -> Result<(String, String), Vec<String>> {
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(name, value)| (String::from(*name), String::from(*value)))
            .collect();
        let now = UnixMs::parse("2026-11-21T07:30:00Z").unwrap();
        match query(&pairs, now) {
            Ok(asked) => Ok((asked.from.to_string(), asked.to.to_string())),
            Err(error) => Err(error.details.into_iter().map(|fault| fault.pointer).collect()),
        }
    }

    #[test]
    fn a_query_means_whole_windows() {
        for (pairs, from, to) in [
            (&[][..], "2026-10-23T00:00:00.000Z", "2026-11-22T00:00:00.000Z"),
            (
                &[("window", "hour")],
                "2026-11-20T08:00:00.000Z",
                "2026-11-21T08:00:00.000Z",
            ),
            (
                &[("window", "month")],
                "2025-12-01T00:00:00.000Z",
                "2026-12-01T00:00:00.000Z",
            ),
            (
                &[("from", "2026-11-01T05:00:00Z"), ("to", "2026-11-03T00:00:00Z")],
                "2026-11-01T00:00:00.000Z",
                "2026-11-03T00:00:00.000Z",
            ),
        ] {
            assert_eq!(asked(pairs), Ok((from.into(), to.into())), "{pairs:?}");
        }
    }

    #[test]
    fn all_faults_of_a_query_are_told() {
        let bad = [("window", "week"), ("from", "yesterday"), ("too", "x")];
        assert_eq!(
            asked(&bad),
            Err(vec!["/query/window".into(), "/query/from".into(), "/query/too".into()])
        );
        let many = [("window", "hour"), ("from", "2026-01-01T00:00:00Z")];
        assert_eq!(asked(&many), Err(vec!["/query/from".into()]));
        let turned = [("from", "2026-11-20T00:00:00Z"), ("to", "2026-11-19T00:00:00Z")];
        assert_eq!(asked(&turned), Err(vec!["/query/from".into()]));
    }
}
