// The Agents SDK, as its documentation shows it. An agent hibernates by itself.

import { Agent, getAgentByName } from "agents";

import { Room, answerPings } from "./room.mjs";

export class Peer extends Agent {
  #room = new Room();

  onStart() {
    answerPings(this.ctx);
  }

  onMessage(connection, text) {
    this.#room.hear(
      text,
      (answer) => connection.send(answer),
      (message) => this.broadcast(message),
    );
  }
}

export default {
  async fetch(request, env) {
    const room = await getAgentByName(env.PEER, "room");
    return room.fetch(request);
  },
};
