//! The tenant's own storage.

use hyper::Method;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE};
use tokio::io::AsyncRead;

use super::body::{Download, from_reader};
use super::types::{ObjectInfo, escape};
use super::{Ask, Http, parse, read};
use crate::error::{Code, Error};
use tidegate_protocol::ErrorCode;

/// What is known of an object without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectHead {
    /// Its length in bytes.
    pub size: Option<u64>,
    /// Its entity tag, quoted.
    pub etag: Option<String>,
    /// Its media type.
    pub content_type: Option<String>,
}

fn path(key: &str) -> String {
    format!("/v1/objects/{}", escape(key, b"/"))
}

impl Http {
    /// `PUT /v1/objects/{key}`: stores `size` bytes of `reader`, which are streamed and never held whole.
    ///
    /// It is sent once: the caller tries again with a new reader. Errors: [`Error::Api`], [`Error::Unreachable`].
    pub async fn put_object(
        &self,
        key: &str,
        reader: impl AsyncRead + Send + Unpin + 'static,
        size: u64,
        content_type: Option<&str>,
    ) -> Result<ObjectInfo, Error> {
        let headers = [
            (CONTENT_LENGTH.as_str(), size.to_string()),
            (
                CONTENT_TYPE.as_str(),
                content_type.unwrap_or("application/octet-stream").to_owned(),
            ),
        ];
        let request = self.build(&Method::PUT, &path(key), &headers, from_reader(reader, size))?;
        parse(&read(self.send_stream(request).await?).await?)
    }

    /// `GET /v1/objects/{key}`: the object, to be read as a stream.
    ///
    /// Errors: [`Error::Api`] (`NOT_FOUND`), [`Error::Unreachable`].
    pub async fn get_object(&self, key: &str) -> Result<Download, Error> {
        Ok(Download::new(self.send(Ask::new(Method::GET, path(key))).await?))
    }

    /// `HEAD /v1/objects/{key}`: what is known of the object; `None` where there is none.
    ///
    /// Errors: [`Error::Api`], [`Error::Unreachable`].
    pub async fn head_object(&self, key: &str) -> Result<Option<ObjectHead>, Error> {
        match self.send(Ask::new(Method::HEAD, path(key))).await {
            Ok(response) => {
                let head = Download::new(response);
                Ok(Some(ObjectHead {
                    size: head.size(),
                    etag: head.etag().map(str::to_owned),
                    content_type: head.content_type().map(str::to_owned),
                }))
            }
            Err(Error::Api(error)) if error.code == Code::Known(ErrorCode::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// `DELETE /v1/objects/{key}`.
    ///
    /// Errors: [`Error::Api`], [`Error::Unreachable`].
    pub async fn delete_object(&self, key: &str) -> Result<(), Error> {
        self.send(Ask::new(Method::DELETE, path(key))).await?;
        Ok(())
    }
}
