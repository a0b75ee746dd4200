//! The sockets of a hub, and which connection each of them is.

use std::cell::Cell;

use js_sys::Uint8Array;
use tidegate_engine::hub::Session;
use tidegate_protocol::SortedMap;
use tidegate_protocol::ids::ConnectionId;
use wasm_bindgen::JsCast;
use wasm_bindgen::prelude::*;
use worker::WebSocket;
use worker::worker_sys::ext::WebSocketExt;

#[wasm_bindgen]
extern "C" {
    /// A socket, as far as our own mark on it goes.
    type Marked;
    /// The number that this instance of the hub gave the socket.
    #[wasm_bindgen(method, getter, structural, js_name = tidegateNumber)]
    fn number(this: &Marked) -> Option<u32>;
    #[wasm_bindgen(method, setter, structural, js_name = tidegateNumber)]
    fn set_number(this: &Marked, number: u32);
}

/// The session in the attachment of a socket.
pub fn attached(socket: &WebSocket) -> Option<Session> {
    let value = WebSocketExt::deserialize_attachment(socket.as_ref()).ok()?;
    let bytes: Uint8Array = value.dyn_into().ok()?;
    Session::from_attachment(&bytes.to_vec())
}

/// Bytes that may wait for a socket that does not read. Beyond it the socket is closed, and comes back.
const BUFFERED_BYTES_MAX: u32 = 1024 * 1024;
/// Bytes that are sent before it is asked again how many wait: to ask for each small frame costs more than to parse it.
const UNASKED_BYTES_MAX: usize = 64 * 1024;

/// A socket that is open.
pub struct OpenSocket {
    /// The platform's.
    pub socket: WebSocket,
    number: Option<u32>,
    unasked_bytes: Cell<usize>,
}

impl OpenSocket {
    /// Whether too much waits for a client that does not read, now that `bytes` more are to be sent.
    pub fn is_stalled(&self, bytes: usize) -> bool {
        let unasked_bytes = self.unasked_bytes.get().saturating_add(bytes);
        if unasked_bytes < UNASKED_BYTES_MAX {
            self.unasked_bytes.set(unasked_bytes);
            return false;
        }
        self.unasked_bytes.set(0);
        self.socket.as_ref().buffered_amount() > BUFFERED_BYTES_MAX
    }
}

/// The mark of a socket that is nobody's; the first number that is given is the next.
const NOBODY: u32 = 0;

/// The sockets of one instance of a hub.
///
/// Each is marked with a number, because its attachment would have to be read anew for every frame. The mark lives as
/// long as the instance, which holds the socket; a socket without one is known by its attachment.
#[derive(Default)]
pub struct Sockets {
    by_connection: SortedMap<ConnectionId, OpenSocket>,
    by_number: SortedMap<u32, ConnectionId>,
    last_number: u32,
}

impl Sockets {
    /// Takes in a socket.
    pub fn insert(&mut self, connection: ConnectionId, socket: WebSocket) {
        // After 2^32 sockets, those to come go without a mark: a number that came twice could take one for another.
        let number = self.last_number.checked_add(1);
        if let Some(number) = number {
            self.last_number = number;
            socket.as_ref().unchecked_ref::<Marked>().set_number(number);
            self.by_number.insert(number, connection.clone());
        }
        let socket = OpenSocket {
            socket,
            number,
            unasked_bytes: Cell::new(0),
        };
        self.by_connection.insert(connection, socket);
    }

    /// Takes away whatever mark a socket bears, so that it is nobody's: one whose attachment says nothing.
    pub fn disown(socket: &WebSocket) {
        socket.as_ref().unchecked_ref::<Marked>().set_number(NOBODY);
    }

    /// Which connection a socket is. `None` for one that was removed, or is not ours.
    pub fn connection(&self, socket: &WebSocket) -> Option<ConnectionId> {
        match socket.as_ref().unchecked_ref::<Marked>().number() {
            Some(number) => self.by_number.get(&number).cloned(),
            None => attached(socket).map(|session| session.connection),
        }
    }

    /// The socket of a connection.
    pub fn get(&self, connection: &ConnectionId) -> Option<&OpenSocket> {
        self.by_connection.get(connection)
    }

    /// Lets go of a socket.
    pub fn remove(&mut self, connection: &ConnectionId) -> Option<WebSocket> {
        let OpenSocket { socket, number, .. } = self.by_connection.remove(connection)?;
        if let Some(number) = number {
            self.by_number.remove(&number);
        }
        Some(socket)
    }
}
