//! Schedules: what the tenant's clock fires, and what is done to it by hand.

use hyper::Method;
use serde_json::json;
use tidegate_protocol::time::UnixMs;

use super::{Ask, Backfilled, Http, ScheduleInfo, ScheduleList, Triggered};
use crate::error::Error;
use crate::random;

impl Http {
    /// `GET /v1/schedules`: the schedules of the active composition, by name.
    ///
    /// Errors: [`Error::Api`] (`FORBIDDEN` without `jobs:read`, `jobs:write` or `admin`), [`Error::Unreachable`].
    pub async fn schedules(&self) -> Result<ScheduleList, Error> {
        self.fetch(Ask::new(Method::GET, "/v1/schedules")).await
    }

    /// `POST /v1/schedules/{name}:pause`: holds a schedule back.
    ///
    /// Errors: [`Error::Api`], [`Error::Unreachable`].
    pub async fn pause_schedule(&self, name: &str) -> Result<ScheduleInfo, Error> {
        self.fetch(change(name, "pause")?).await
    }

    /// `POST /v1/schedules/{name}:resume`: lets it go on, from its next nominal time.
    ///
    /// Errors: [`Error::Api`], [`Error::Unreachable`].
    pub async fn resume_schedule(&self, name: &str) -> Result<ScheduleInfo, Error> {
        self.fetch(change(name, "resume")?).await
    }

    /// `POST /v1/schedules/{name}:trigger`: fires it now, once for each key; a random key where there is none.
    ///
    /// Errors: [`Error::Api`], [`Error::Unreachable`].
    pub async fn trigger_schedule(&self, name: &str, key: Option<&str>) -> Result<Triggered, Error> {
        let key = match key {
            Some(key) => key.to_owned(),
            None => random::name("key_")?,
        };
        self.fetch(change(name, "trigger")?.header("idempotency-key", key))
            .await
    }

    /// `POST /v1/schedules/{name}:backfill`: fires it for each nominal time from `from` on and before `to` that has no
    /// job, a bounded number of them; [`Backfilled::rest_from`] says where to go on.
    ///
    /// Errors: [`Error::Api`], [`Error::Unreachable`].
    pub async fn backfill_schedule(&self, name: &str, from: UnixMs, to: UnixMs) -> Result<Backfilled, Error> {
        let body = json!({"from": from, "to": to}).to_string();
        self.fetch(change(name, "backfill")?.json(&body)).await
    }
}

fn change(name: &str, what: &str) -> Result<Ask<'static>, Error> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    if name.is_empty() || !name.bytes().all(plain) {
        return Err(Error::Invalid(format!("`{name}` is no name of a schedule.")));
    }
    Ok(Ask::new(Method::POST, format!("/v1/schedules/{name}:{what}")))
}
