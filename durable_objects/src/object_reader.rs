//! The bytes of an object of the tenant's storage, as they come.
//!
//! They are read into one buffer that is used again and again, and as many at a time as are worth a call: what a store has
//! ready comes in chunks of a few KiB, each of which would be a promise and garbage of its own.

use js_sys::{Object, Promise, Reflect, Uint8Array};
use tidegate_patterns::operation::Reader;
use tidegate_protocol::Error;
use wasm_bindgen::prelude::*;
use worker::wasm_bindgen_futures::{JsFuture, spawn_local};
use worker::{ObjectBody, ResponseBody};

use crate::bytes;
use crate::platform::unavailable;

#[wasm_bindgen]
extern "C" {
    type ByteStream;
    #[wasm_bindgen(method, catch, js_name = getReader)]
    fn get_reader(this: &ByteStream, options: &Object) -> Result<ByteReader, JsValue>;

    /// The reader of a stream of bytes. `readAtLeast` is the platform's own, see its `ReadableStreamBYOBReader`.
    type ByteReader;
    #[wasm_bindgen(method, catch, js_name = readAtLeast)]
    fn read_at_least(this: &ByteReader, least: u32, into: Uint8Array) -> Result<Promise, JsValue>;
    #[wasm_bindgen(method, catch)]
    fn cancel(this: &ByteReader) -> Result<Promise, JsValue>;

    type Read;
    #[wasm_bindgen(method, getter)]
    fn value(this: &Read) -> Option<Uint8Array>;
}

/// What is read at a time. Bytes.
const BUFFER_BYTES: u32 = 128 * 1024;

/// The bytes of an object.
pub struct ObjectReader {
    /// `None`: there are none, or no more.
    reader: Option<ByteReader>,
    /// Where the next bytes go. The platform takes it while it reads.
    buffer: Option<Uint8Array>,
}

impl ObjectReader {
    /// Reads `body` from its beginning.
    ///
    /// Errors: `UNAVAILABLE` where it cannot be read.
    pub fn new(body: ObjectBody<'_>) -> Result<Self, Error> {
        let opening = unavailable("opening an object");
        let stream = match body.response_body() {
            Ok(ResponseBody::Stream(stream)) => stream.unchecked_into::<ByteStream>(),
            Ok(_) => return Ok(Self::empty()),
            Err(cause) => return Err(opening(cause)),
        };
        let options = Object::new();
        let reader = Reflect::set(&options, &"mode".into(), &"byob".into()).and_then(|_| stream.get_reader(&options));
        Ok(Self {
            reader: Some(reader.map_err(|cause| opening(cause.into()))?),
            buffer: None,
        })
    }

    /// Reads nothing.
    pub fn empty() -> Self {
        Self {
            reader: None,
            buffer: None,
        }
    }
}

impl Reader for ObjectReader {
    async fn next(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let Some(reader) = &self.reader else { return Ok(None) };
        let reading = |cause: JsValue| unavailable("reading an object")(cause.into());
        let buffer = self
            .buffer
            .take()
            .unwrap_or_else(|| Uint8Array::new_with_length(BUFFER_BYTES));
        let read = reader.read_at_least(BUFFER_BYTES, buffer).map_err(reading)?;
        let read: Read = JsFuture::from(read).await.map_err(reading)?.unchecked_into();
        // At the end there is nothing in it, or no value at all.
        let Some(value) = read.value().filter(|value| value.length() > 0) else {
            self.reader = None;
            return Ok(None);
        };
        let bytes = bytes::take(&value);
        self.buffer = Some(Uint8Array::new_with_byte_offset_and_length(
            &value.buffer(),
            0,
            BUFFER_BYTES,
        ));
        Ok(Some(bytes))
    }
}

impl Drop for ObjectReader {
    fn drop(&mut self) {
        // Whoever reads no further is sent no more.
        if let Some(Ok(cancelled)) = self.reader.take().map(|reader| reader.cancel()) {
            spawn_local(async move {
                let _ended = JsFuture::from(cancelled).await;
            });
        }
    }
}
