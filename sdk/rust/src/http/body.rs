//! Bodies: sent whole or from a reader of known length, read as a stream.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::Response;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderName};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;

use crate::error::Error;

pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// How long a download may stand still.
const STALL_MAX: Duration = Duration::from_secs(120);

pub(super) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

pub(super) fn whole(text: &str) -> Body {
    Full::new(Bytes::copy_from_slice(text.as_bytes()))
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// `size` bytes of `reader`. A reader that ends before is an error, because the length was promised.
pub(super) fn from_reader(reader: impl AsyncRead + Send + Unpin + 'static, size: u64) -> Body {
    Upload { reader, left: size }.boxed_unsync()
}

struct Upload<R> {
    reader: R,
    left: u64,
}

impl<R: AsyncRead + Unpin> HttpBody for Upload<R> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let length = usize::try_from(self.left).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
        let mut chunk = vec![0; length];
        let mut buffer = ReadBuf::new(&mut chunk);
        match Pin::new(&mut self.reader).poll_read(context, &mut buffer) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Some(Err(error))),
            Poll::Ready(Ok(())) => {
                let filled = buffer.filled().len();
                if filled == 0 {
                    let error = io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter");
                    return Poll::Ready(Some(Err(error)));
                }
                chunk.truncate(filled);
                self.left = self.left.saturating_sub(u64::try_from(filled).unwrap_or(u64::MAX));
                Poll::Ready(Some(Ok(Frame::data(Bytes::from(chunk)))))
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// An answer that is read as a stream.
#[derive(Debug)]
pub struct Download {
    response: Response<Incoming>,
}

impl Download {
    pub(super) fn new(response: Response<Incoming>) -> Self {
        Self { response }
    }

    fn header(&self, name: HeaderName) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// The media type, where the server states one.
    pub fn content_type(&self) -> Option<&str> {
        self.header(CONTENT_TYPE)
    }

    /// The length in bytes, where the server states it.
    pub fn size(&self) -> Option<u64> {
        self.header(CONTENT_LENGTH)?.parse().ok()
    }

    /// The entity tag, where the server states one.
    pub fn etag(&self) -> Option<&str> {
        self.header(ETAG)
    }

    /// The next bytes; `None` at the end.
    ///
    /// Errors: [`Error::Unreachable`] where the stream breaks off or stands still.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            match timeout(STALL_MAX, self.response.body_mut().frame()).await {
                Ok(None) => return Ok(None),
                Ok(Some(Ok(frame))) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
                Ok(Some(Err(error))) => return Err(Error::Unreachable(format!("the stream broke off: {error}"))),
                Err(_) => return Err(Error::Unreachable("the stream stands still".to_owned())),
            }
        }
    }

    /// Writes all of it to `writer`. Returns the bytes written.
    ///
    /// Errors: [`Error::Unreachable`], [`Error::Io`] of the writer.
    pub async fn write_to(&mut self, writer: &mut (impl AsyncWrite + Unpin)) -> Result<u64, Error> {
        let mut written = 0_u64;
        while let Some(bytes) = self.chunk().await? {
            writer.write_all(&bytes).await?;
            written = written.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        }
        writer.flush().await?;
        Ok(written)
    }
}
