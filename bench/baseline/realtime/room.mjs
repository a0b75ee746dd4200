// What the objects answer: the frames that Tidegate sends for the same requests, field by field, so that both sides move the same bytes.

const EPOCH = "01m85eb3v4k2q9";
const PING = '{"type":"ping"}';
const PONG = '{"type":"pong"}';

/** Has the platform answer pings, as the hub does: an object that sleeps goes on sleeping. */
export function answerPings(state) {
  state.setWebSocketAutoResponse(new WebSocketRequestResponsePair(PING, PONG));
}

/** Decides one frame: `send` answers whoever sent it, `broadcast` tells everybody in the room. */
export class Room {
  #offset = 0;

  hear(text, send, broadcast) {
    const frame = JSON.parse(text);
    if (frame.type === "publish") {
      const { channel, data } = frame;
      const offset = ++this.#offset;
      const timestamp = new Date().toISOString();
      broadcast(JSON.stringify({ type: "message", channel, epoch: EPOCH, offset, data, publisher: "bench-0", timestamp }));
      send(JSON.stringify({ type: "published", request_id: frame.id, channel, epoch: EPOCH, offset, deduplicated: false }));
    } else {
      send(JSON.stringify({ type: "response", request_id: frame.id, success: true, data: frame.payload }));
    }
  }
}
