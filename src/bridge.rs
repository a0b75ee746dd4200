//! A socket from the Worker to a user's hub, for a client that has none. The hub takes it for any other socket: it can sleep beneath
//! it, and what is followed over it is what a client would follow itself.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

use futures_util::future::{Either, select};
use tidegate_durable_objects::platform::unavailable;
use tidegate_durable_objects::timer::sleep;
use tidegate_engine::event_streams::{Backlog, Next, Room, Told, read};
use tidegate_protocol::frames::CloseCode;
use tidegate_protocol::{Error, ErrorCode};
use wasm_bindgen::JsCast;
use wasm_bindgen::prelude::*;
use worker::{Env, WebSocket};

use crate::connect::{Caller, Offered, upgrade};

/// How long the hub's first frame may take. It is sent with the answer to the upgrade. Milliseconds.
const WELCOME_MS: u64 = 10_000;
/// What a socket is listened for.
const KINDS: [&str; 3] = ["message", "close", "error"];

#[wasm_bindgen]
extern "C" {
    /// A socket, as far as it can be listened to.
    type Line;
    #[wasm_bindgen(method, catch, js_name = addEventListener)]
    fn listen(this: &Line, kind: &str, listener: &JsValue) -> Result<(), JsValue>;
    #[wasm_bindgen(method, catch, js_name = removeEventListener)]
    fn listen_no_more(this: &Line, kind: &str, listener: &JsValue) -> Result<(), JsValue>;

    /// What is heard of it.
    type Heard;
    /// The frame, where it is one.
    #[wasm_bindgen(method, getter)]
    fn data(this: &Heard) -> JsValue;
}

/// What came, and who waits for it.
#[derive(Default)]
struct Inbox {
    backlog: Backlog,
    reader: Option<Waker>,
}

/// A socket to a hub. Dropping it closes it.
pub struct Bridge {
    socket: WebSocket,
    inbox: Rc<RefCell<Inbox>>,
    listener: Closure<dyn FnMut(JsValue)>,
}

impl Bridge {
    /// Connects to the caller's hub.
    ///
    /// Errors: the hub's refusals, and `RATE_LIMITED` where there are as many connections as are allowed; `UNAVAILABLE`.
    pub async fn open(env: &Env, caller: &Caller) -> Result<Self, Error> {
        let socket = upgrade(env, caller, Offered::default())
            .await?
            .websocket()
            .ok_or_else(cut)?;
        let inbox = Rc::new(RefCell::new(Inbox::default()));
        let listener: Box<dyn FnMut(JsValue)> = {
            let (inbox, socket) = (inbox.clone(), socket.clone());
            Box::new(move |heard| hear(&mut inbox.borrow_mut(), &socket, heard.unchecked_ref()))
        };
        let bridge = Self {
            socket,
            inbox,
            listener: Closure::wrap_assert_unwind_safe(listener),
        };
        for kind in KINDS {
            let listening = bridge.line().listen(kind, bridge.listener.as_ref());
            listening.map_err(|thrown| unavailable("a socket")(thrown.into()))?;
        }
        bridge.socket.accept().map_err(unavailable("a socket"))?;
        match bridge.next_within(WELCOME_MS).await {
            Next::Frame(frame) => match read(&frame) {
                Told::Refused { error, .. } => Err(error),
                _ => Ok(bridge),
            },
            Next::Nothing | Next::End => Err(cut()),
        }
    }

    fn line(&self) -> &Line {
        self.socket.as_ref().unchecked_ref()
    }

    /// Sends a frame. A socket that is closed is noticed by what it says next.
    pub fn send(&self, frame: &str) {
        let _closed = self.socket.send_with_str(frame);
    }

    /// What has come already.
    pub fn at_hand(&self) -> Next {
        self.inbox.borrow_mut().backlog.take()
    }

    /// The next frame, waiting for it so long.
    pub async fn next_within(&self, ms: u64) -> Next {
        let next = poll_fn(|context| {
            let mut inbox = self.inbox.borrow_mut();
            match inbox.backlog.take() {
                Next::Nothing => {
                    inbox.reader = Some(context.waker().clone());
                    Poll::Pending
                }
                next => Poll::Ready(next),
            }
        });
        match select(pin!(next), pin!(sleep(ms))).await {
            Either::Left((next, _)) => next,
            Either::Right(_) => Next::Nothing,
        }
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        for kind in KINDS {
            // It may never have been added.
            let _unknown = self.line().listen_no_more(kind, self.listener.as_ref());
        }
        close(&self.socket);
    }
}

fn hear(inbox: &mut Inbox, socket: &WebSocket, heard: &Heard) {
    match heard.data().as_string() {
        Some(frame) => {
            if inbox.backlog.push(frame) == Room::None {
                close(socket);
            }
        }
        None => inbox.backlog.end(),
    }
    if let Some(reader) = inbox.reader.take() {
        reader.wake();
    }
}

fn close(socket: &WebSocket) {
    let _closed_already = socket.close(Some(CloseCode::Normal.number()), Some(""));
}

fn cut() -> Error {
    Error::new(
        ErrorCode::Unavailable,
        "The connection to the tenant's hub was cut before it began.",
    )
    .retry_after(1000)
}
