// The least that objects in JavaScript can do for the same answers: what the figures are compared with.

import { DurableObject } from "cloudflare:workers";

/** Takes the socket of an upgrade for hibernation, as the hub does. */
function accept(state) {
  const [client, server] = Object.values(new WebSocketPair());
  state.acceptWebSocket(server);
  return new Response(null, { status: 101, webSocket: client });
}

/** Answers each request with its own payload. */
export class Echo extends DurableObject {
  fetch() {
    return accept(this.ctx);
  }

  webSocketMessage(socket, text) {
    const request = JSON.parse(text);
    socket.send(
      JSON.stringify({ type: "response", request_id: request.id, success: true, data: request.payload }),
    );
  }
}

/** Has each request stored by another object, and acknowledges it then. */
export class Front extends DurableObject {
  fetch() {
    return accept(this.ctx);
  }

  async webSocketMessage(socket, text) {
    const request = JSON.parse(text);
    const store = this.env.STORE.getByName("store");
    const response = await store.fetch("http://object/", { method: "POST", body: text });
    const { job_id } = await response.json();
    socket.send(
      JSON.stringify({ type: "acknowledgment", request_id: request.id, job_id, status: "waiting", deduplicated: false }),
    );
  }
}

/** Inserts one row for each request, and answers with its number. */
export class Store extends DurableObject {
  constructor(state, env) {
    super(state, env);
    state.storage.sql.exec("CREATE TABLE IF NOT EXISTS job (id INTEGER PRIMARY KEY, request TEXT NOT NULL) STRICT");
  }

  async fetch(request) {
    const text = await request.text();
    JSON.parse(text);
    const { id } = this.ctx.storage.sql.exec("INSERT INTO job (request) VALUES (?) RETURNING id", text).one();
    return Response.json({ job_id: String(id) });
  }
}

export default {
  fetch(request, env) {
    switch (new URL(request.url).pathname) {
      case "/echo":
        return env.ECHO.getByName("echo").fetch(request);
      case "/store":
        return env.FRONT.getByName("front").fetch(request);
      default:
        return new Response("no such baseline", { status: 404 });
    }
  },
};
