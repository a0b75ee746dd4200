//! Endpoints that are told of ends, and what messages to them are signed with.

use hyper::Method;
use serde::Serialize;
use tidegate_protocol::http::{Endpoint, EndpointEvent, EndpointList, Replayed, Signature, WebhookSecretRotated};
use tidegate_protocol::time::UnixMs;

use super::types::{JobFilter, JobPage, escape};
use super::{Ask, Http};
use crate::error::Error;
use crate::random;

/// What an endpoint is to be. What is `None` is left to the server, or stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct EndpointSettings {
    /// Where messages are sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// What people say of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What it is told of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<Vec<EndpointEvent>>,
    /// A condition in CEL; an empty one takes it away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// How messages are signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
    /// Whether they are sent one at a time, in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ordered: Option<bool>,
    /// Whether messages are sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

#[derive(Serialize)]
struct Since {
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<UnixMs>,
}

#[derive(Serialize)]
struct Overlap {
    #[serde(skip_serializing_if = "Option::is_none")]
    overlap_ms: Option<u64>,
}

impl Http {
    /// `GET /v1/admin/endpoints`: the endpoints, the oldest first.
    ///
    /// Errors: [`Error::Api`], [`Error::Unreachable`].
    pub async fn endpoints(&self) -> Result<EndpointList, Error> {
        self.fetch(Ask::new(Method::GET, "/v1/admin/endpoints")).await
    }

    /// `POST /v1/admin/endpoints`: makes an endpoint.
    ///
    /// Errors: [`Error::Api`] with every fault, [`Error::Unreachable`].
    pub async fn create_endpoint(&self, settings: &EndpointSettings) -> Result<Endpoint, Error> {
        self.keyed(Method::POST, "/v1/admin/endpoints".to_owned(), settings)
            .await
    }

    /// `GET /v1/admin/endpoints/{id}`: an endpoint.
    ///
    /// Errors: [`Error::Api`] (`NOT_FOUND`), [`Error::Unreachable`].
    pub async fn endpoint(&self, id: &str) -> Result<Endpoint, Error> {
        self.fetch(Ask::new(Method::GET, path(id))).await
    }

    /// `PATCH /v1/admin/endpoints/{id}`: changes an endpoint.
    ///
    /// Errors: [`Error::Api`] with every fault (`NOT_FOUND`), [`Error::Unreachable`].
    pub async fn change_endpoint(&self, id: &str, settings: &EndpointSettings) -> Result<Endpoint, Error> {
        self.keyed(Method::PATCH, path(id), settings).await
    }

    /// `DELETE /v1/admin/endpoints/{id}`: deletes an endpoint.
    ///
    /// Errors: [`Error::Api`] (`NOT_FOUND`), [`Error::Unreachable`].
    pub async fn delete_endpoint(&self, id: &str) -> Result<(), Error> {
        let ask = Ask::new(Method::DELETE, path(id)).header("idempotency-key", random::name("key_")?);
        self.send(ask).await?;
        Ok(())
    }

    /// `GET /v1/admin/endpoints/{id}/deliveries`: a page of the jobs that send messages to an endpoint. The filter's action
    /// and user are no part of the question.
    ///
    /// Errors: [`Error::Api`] (`NOT_FOUND`), [`Error::Unreachable`].
    pub async fn deliveries(&self, id: &str, filter: &JobFilter) -> Result<JobPage, Error> {
        let path = format!("{}/deliveries{}", path(id), filter.query());
        self.fetch(Ask::new(Method::GET, path)).await
    }

    /// `POST /v1/admin/endpoints/{id}:replay`: sends again what was not delivered since then, or all that is kept.
    ///
    /// Errors: [`Error::Api`] (`NOT_FOUND`; `CONFLICT` for an endpoint that is disabled), [`Error::Unreachable`].
    pub async fn replay_endpoint(&self, id: &str, since: Option<UnixMs>) -> Result<Replayed, Error> {
        self.keyed(Method::POST, format!("{}:replay", path(id)), &Since { since })
            .await
    }

    /// `POST /v1/admin/webhook-secret:rotate`: changes what messages are signed with. Both sign for `overlap_ms`, or as long
    /// as the server holds for right.
    ///
    /// Errors: [`Error::Api`], [`Error::Unreachable`].
    pub async fn rotate_webhook_secret(&self, overlap_ms: Option<u64>) -> Result<WebhookSecretRotated, Error> {
        let path = "/v1/admin/webhook-secret:rotate".to_owned();
        self.keyed(Method::POST, path, &Overlap { overlap_ms }).await
    }

    /// Asks for a change that is made once, however often it is sent.
    async fn keyed<T: serde::de::DeserializeOwned>(
        &self,
        method: Method,
        path: String,
        body: &impl Serialize,
    ) -> Result<T, Error> {
        let body = serde_json::to_string(body);
        let body = body.map_err(|_| Error::Invalid("The body cannot be written as JSON.".to_owned()))?;
        let ask = Ask::new(method, path).json(&body);
        self.fetch(ask.header("idempotency-key", random::name("key_")?)).await
    }
}

fn path(id: &str) -> String {
    format!("/v1/admin/endpoints/{}", escape(id, b""))
}
