//! Secrets that a composition refers to. Their values go to the server and never come back.

use hyper::Method;
use serde::Serialize;
use tidegate_protocol::http::{SecretList, SecretView};

use super::types::escape;
use super::{Ask, Http};
use crate::error::Error;
use crate::random;

/// A value, and how long the one before it stays good. Not `Debug`: nothing should print it.
#[derive(Serialize)]
struct Body<'a> {
    value: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    overlap_ms: Option<u64>,
}

impl Http {
    /// `GET /v1/admin/secrets`: the secrets, without their values.
    ///
    /// Errors: [`Error::Api`], [`Error::Unreachable`].
    pub async fn secrets(&self) -> Result<SecretList, Error> {
        self.fetch(Ask::new(Method::GET, "/v1/admin/secrets")).await
    }

    /// `PUT /v1/admin/secrets/{name}`: sets a secret, or gives it another value. The one before stays good for `overlap_ms`,
    /// or as long as the server holds for right. The value that it has already changes nothing.
    ///
    /// Errors: [`Error::Api`] with every fault of name and value, [`Error::Unreachable`].
    pub async fn set_secret(&self, name: &str, value: &str, overlap_ms: Option<u64>) -> Result<SecretView, Error> {
        let body = serde_json::to_string(&Body { value, overlap_ms });
        // The error would quote what it could not write.
        let body = body.map_err(|_| Error::Invalid("The value cannot be written as JSON.".to_owned()))?;
        self.fetch(Ask::new(Method::PUT, path(name)).json(&body)).await
    }

    /// `DELETE /v1/admin/secrets/{name}`: deletes a secret.
    ///
    /// Errors: [`Error::Api`] (`NOT_FOUND`), [`Error::Unreachable`].
    pub async fn delete_secret(&self, name: &str) -> Result<(), Error> {
        let ask = Ask::new(Method::DELETE, path(name)).header("idempotency-key", random::name("key_")?);
        self.send(ask).await?;
        Ok(())
    }
}

fn path(name: &str) -> String {
    format!("/v1/admin/secrets/{}", escape(name, b""))
}
