//! A client's connection: made, used in order in both directions, and cut at either end.

use super::Socket;
use crate::world::{Check, Event, World};

impl World {
    pub(super) fn connect(&mut self, client: usize) {
        let short = self.fault(200);
        let lasts = if short {
            self.random.within(2000..=30_000)
        } else {
            1 << 40
        };
        let hub = self.tenants[self.clients[client].tenant].first_hub + self.clients[client].hub;
        let expires_at = self.clock().0 + lasts;
        let socket = self.sockets.len();
        self.sockets.push(Socket {
            client,
            hub,
            accepted: false,
            id: None,
            open: true,
            expires_at,
            up: 0,
            down: 0,
        });
        self.clients[client].socket = Some(socket);
        let ms = self.random.within(1..=20);
        self.sockets[socket].up = self.time + ms;
        self.after(ms, Event::Connected { socket });
    }

    pub(super) fn send_up(&mut self, socket: usize, text: String) {
        let time = (self.time + self.random.within(1..=30)).max(self.sockets[socket].up);
        self.sockets[socket].up = time;
        self.at(time, Event::FrameUp { socket, text });
    }

    pub fn send_down(&mut self, socket: usize, text: String) {
        let time = (self.time + self.random.within(1..=30)).max(self.sockets[socket].down);
        self.sockets[socket].down = time;
        self.at(time, Event::FrameDown { socket, text });
    }

    /// A socket breaks at the server's end; what was sent may still arrive.
    pub fn break_socket(&mut self, socket: usize) {
        self.sockets[socket].accepted = false;
        let time = self.sockets[socket].down.max(self.time + 1);
        self.at(time, Event::Cut { socket });
    }

    pub fn cut_seen(&mut self, socket: usize) -> Check {
        let client = self.sockets[socket].client;
        self.sockets[socket].open = false;
        if self.clients[client].socket == Some(socket) {
            self.clients[client].disconnected();
        }
        Ok(())
    }
}
