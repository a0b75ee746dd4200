//! The sources of webhooks that come in.

use hyper::Method;
use tidegate_protocol::http::WebhookList;

use super::{Ask, Http};
use crate::error::Error;

impl Http {
    /// `GET /v1/admin/webhooks`: the sources of the active composition, each with its address.
    ///
    /// Errors: [`Error::Api`] (`FORBIDDEN` without the scope `admin`), [`Error::Unreachable`].
    pub async fn webhooks(&self) -> Result<WebhookList, Error> {
        self.fetch(Ask::new(Method::GET, "/v1/admin/webhooks")).await
    }
}
