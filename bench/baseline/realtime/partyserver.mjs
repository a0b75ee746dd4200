// PartyServer, as its documentation shows it, hibernating.

import { Server, getServerByName } from "partyserver";

import { Room, answerPings } from "./room.mjs";

export class Peer extends Server {
  static options = { hibernate: true };
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
    const room = await getServerByName(env.PEER, "room");
    return room.fetch(request);
  },
};
