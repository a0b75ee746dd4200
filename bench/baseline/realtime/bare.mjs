// The least that an object can do: it loops over its sockets.

import { DurableObject } from "cloudflare:workers";

import { Room, answerPings } from "./room.mjs";

export class Peer extends DurableObject {
  #room = new Room();

  constructor(state, env) {
    super(state, env);
    answerPings(state);
  }

  fetch() {
    const [client, server] = Object.values(new WebSocketPair());
    this.ctx.acceptWebSocket(server);
    return new Response(null, { status: 101, webSocket: client });
  }

  webSocketMessage(socket, text) {
    this.#room.hear(
      text,
      (answer) => socket.send(answer),
      (message) => {
        for (const other of this.ctx.getWebSockets()) other.send(message);
      },
    );
  }
}

export default {
  fetch(request, env) {
    return env.PEER.getByName("room").fetch(request);
  },
};
