//! API keys, revocations and suspended tenants: who may come in.

use hyper::Method;
use serde::Serialize;
use tidegate_protocol::http::{KeyList, KeyMade, RevocationView};
use tidegate_protocol::time::UnixMs;

use super::types::escape;
use super::{Ask, Http};
use crate::error::Error;
use crate::random;

/// An API key that is to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NewKey {
    /// What people call it.
    pub name: String,
    /// Whom it speaks for.
    pub user: String,
    /// What it allows beyond the user's own things.
    pub scopes: Vec<String>,
    /// When it is no longer good; `None`: it does not expire.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<UnixMs>,
}

/// Whose credentials are to be refused: one of `token`, `user` and `everyone`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Revocation {
    /// The one token with this `jti`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Whatever this user has by now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Whatever anybody of the tenant has by now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub everyone: Option<bool>,
    /// How long that has to be remembered. Milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u64>,
}

impl Http {
    /// `GET /v1/admin/keys`: the API keys, without their texts.
    ///
    /// Errors: [`Error::Api`], [`Error::Unreachable`].
    pub async fn keys(&self) -> Result<KeyList, Error> {
        self.fetch(Ask::new(Method::GET, "/v1/admin/keys")).await
    }

    /// `POST /v1/admin/keys`: makes a key. Sent once: its text is in the answer and nowhere else.
    ///
    /// Errors: [`Error::Api`] with every fault, [`Error::Unreachable`], and then there may be a key that nobody can use.
    pub async fn create_key(&self, key: &NewKey) -> Result<KeyMade, Error> {
        let body = written(key)?;
        self.fetch(Ask::new(Method::POST, "/v1/admin/keys").json(&body).once())
            .await
    }

    /// `POST /v1/admin/keys/{id}:rotate`: gives a key another text. Sent once: a second time, the old text would be good no
    /// longer.
    ///
    /// Errors: [`Error::Api`] (`NOT_FOUND`), [`Error::Unreachable`], and then it may have another text.
    pub async fn rotate_key(&self, id: &str, overlap_ms: Option<u64>) -> Result<KeyMade, Error> {
        let body = match overlap_ms {
            Some(ms) => format!("{{\"overlap_ms\":{ms}}}"),
            None => "{}".to_owned(),
        };
        let path = format!("/v1/admin/keys/{}:rotate", escape(id, b""));
        self.fetch(Ask::new(Method::POST, path).json(&body).once()).await
    }

    /// `DELETE /v1/admin/keys/{id}`: deletes a key.
    ///
    /// Errors: [`Error::Api`] (`NOT_FOUND`), [`Error::Unreachable`].
    pub async fn delete_key(&self, id: &str) -> Result<(), Error> {
        let ask = Ask::new(Method::DELETE, format!("/v1/admin/keys/{}", escape(id, b"")));
        self.send(keyed(ask)?).await?;
        Ok(())
    }

    /// `POST /v1/admin/revocations`: refuses credentials from now on.
    ///
    /// Errors: [`Error::Api`] with every fault, [`Error::Unreachable`].
    pub async fn revoke(&self, revocation: &Revocation) -> Result<RevocationView, Error> {
        let body = written(revocation)?;
        let ask = Ask::new(Method::POST, "/v1/admin/revocations").json(&body);
        self.fetch(keyed(ask)?).await
    }
}

fn keyed(ask: Ask<'_>) -> Result<Ask<'_>, Error> {
    Ok(ask.header("idempotency-key", random::name("key_")?))
}

fn written(body: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(body).map_err(|error| Error::Invalid(format!("The body cannot be written: {error}.")))
}
