// One WebSocket to Tidegate, kept open. After a cut it comes back by itself, says how far it had come in each channel and job, and
// sends again what was not answered. The protocol: docs/reference/protocol.md.
//
//   const connection = new Connection({ url: "https://tidegate.example.com", token: async () => "…", onStatus: console.log });
//   connection.subscribe("chat:lobby", { message: console.log, gap: () => console.log("some are missing") });
//   await connection.publish("chat:lobby", { text: "hello" });
//   await connection.start("report.summarize", { object: "zips.csv" }, { event: console.log });

/** The ceiling of the first wait after a cut, and that of every one. Milliseconds. */
const WAIT_MS = 250;
const WAIT_MS_MAX = 30_000;
/** How long a socket may take to open, `welcome` included. Milliseconds. */
const OPEN_MS_MAX = 15_000;
/** How long an answer to a ping may take. Milliseconds. */
const PONG_MS_MAX = 10_000;
/** The exact text: it is answered without waking anything. */
const PING = '{"type":"ping"}';

/** What the server said no to. `code` is stable: docs/errors. */
export class Refused extends Error {
  constructor({ code, message, retryable, retry_after_ms }) {
    super(message);
    Object.assign(this, { code, retryable, retry_after_ms });
  }
}

export class Connection {
  #url;
  #token;
  #onStatus;
  #socket = null;
  #isOpen = false;
  #isStopped = false;
  #failures = 0;
  #after_ms;
  #timers = {};
  /** What was asked and is not answered: id → {frame, resolve, reject}. In the order in which it was asked. */
  #questions = new Map();
  /** What is followed: name → {cursor, id, listener}. */
  #channels = new Map();
  /** The same of jobs: id → {seq, listener}. */
  #jobs = new Map();

  /**
   * `token` gives a fresh token each time it is called. `onStatus` is told "connecting", "connected", "reconnecting", and "stopped"
   * with the reason when the server wants nobody to come back.
   */
  constructor({ url, token, onStatus = () => {} }) {
    this.#url = new URL("/v1/connect", url);
    this.#url.protocol = this.#url.protocol.replace("http", "ws");
    this.#token = token;
    this.#onStatus = onStatus;
    // The network is back: no need to wait any longer.
    addEventListener("online", () => this.#timers.wait !== undefined && this.#open());
    onStatus("connecting");
    this.#open();
  }

  /**
   * Follows a channel from now on: listener.message(frame) is told each message once and in order; .begin() once, when nothing will be
   * missed any more, so that what is older can be read; .gap() when something was; .ended(error) when it may not be followed any more.
   * With .presence(users, count) one is there oneself, and is told who is, and how many: of very many not all are named.
   */
  subscribe(channel, listener) {
    this.#channels.set(channel, { listener, users: new Set(), count: 0 });
    if (this.#isOpen) this.#sendSubscribe(channel);
  }

  unsubscribe(channel) {
    this.#channels.delete(channel);
    if (this.#isOpen) this.#send({ type: "unsubscribe", id: crypto.randomUUID(), channel });
  }

  /** Resolves once the message is stored. With the same `key` it is stored once, however often it is sent. */
  publish(channel, data, key = crypto.randomUUID()) {
    return this.#ask({ type: "publish", channel, data, idempotency_key: key });
  }

  /** Starts a job; resolves with its acknowledgment: it is stored, and ends exactly once. listener as for `attach`. */
  async start(action, payload, listener, { key = crypto.randomUUID(), metadata } = {}) {
    const answer = await this.#ask({ type: "request", action, payload, metadata, mode: "async", idempotency_key: key });
    // No event has been missed: the next message of the socket comes after this.
    this.#jobs.set(answer.job_id, { seq: answer.seq, listener });
    return answer;
  }

  /** Follows a job behind the event `seq`, or from where it is: listener.event(frame), the last one being its end; .lost(error). */
  attach(job_id, listener, seq) {
    this.#jobs.set(job_id, { seq, listener });
    if (this.#isOpen) this.#sendAttach(job_id);
  }

  cancel(job_id) {
    return this.#ask({ type: "cancel", job_id });
  }

  /** Ends it for good. What is not answered is rejected. */
  stop(reason = "") {
    this.#isStopped = true;
    this.#drop();
    clearTimeout(this.#timers.wait);
    for (const { reject } of this.#questions.values()) reject(new Error(reason || "The connection was ended."));
    this.#questions.clear();
    this.#onStatus("stopped", reason);
  }

  // Asking.

  #ask(frame) {
    if (this.#isStopped) return Promise.reject(new Error("The connection was ended."));
    const id = crypto.randomUUID();
    return new Promise((resolve, reject) => {
      this.#questions.set(id, { frame: { ...frame, id }, resolve, reject });
      if (this.#isOpen) this.#send(this.#questions.get(id).frame);
    });
  }

  #send(frame) {
    this.#socket.send(JSON.stringify(frame));
  }

  #sendSubscribe(channel) {
    const followed = this.#channels.get(channel);
    if (followed === undefined || !this.#isOpen) return;
    followed.id = crypto.randomUUID();
    const presence = followed.listener.presence !== undefined || undefined;
    this.#send({ type: "subscribe", id: followed.id, channel, after: followed.cursor, presence });
  }

  #sendAttach(job_id) {
    const { seq } = this.#jobs.get(job_id);
    this.#send({ type: "attach", id: `attach-${job_id}`, job_id, after: seq });
  }

  // Opening, and opening again.

  async #open() {
    clearTimeout(this.#timers.wait);
    this.#timers.wait = undefined;
    this.#drop();
    let token;
    try {
      token = await this.#token();
    } catch {
      return this.#again();
    }
    if (this.#isStopped) return;
    // A browser sets no headers on an upgrade: the token goes where subprotocols go, and is not sent back.
    const socket = new WebSocket(this.#url, ["tidegate.v1", `bearer.${token}`]);
    this.#socket = socket;
    this.#timers.open = setTimeout(() => this.#lost(), OPEN_MS_MAX);
    socket.onmessage = ({ data }) => this.#socket === socket && this.#hear(JSON.parse(data));
    socket.onclose = ({ code, reason }) => {
      if (this.#socket !== socket) return;
      if (code >= 3500 && code < 4000) this.stop(reason);
      else this.#lost();
    };
  }

  /** The socket is gone, or as good as gone: nobody waits for what still comes of it. */
  #lost() {
    this.#drop();
    this.#again();
  }

  #drop() {
    clearTimeout(this.#timers.open);
    clearTimeout(this.#timers.pong);
    clearInterval(this.#timers.ping);
    const socket = this.#socket;
    this.#socket = null;
    this.#isOpen = false;
    socket?.close();
  }

  /** Full jitter: thousands of pages that were cut at once do not come back at once. */
  #again() {
    if (this.#isStopped) return;
    this.#onStatus("reconnecting");
    const ceiling = Math.min(WAIT_MS_MAX, WAIT_MS * 2 ** this.#failures);
    this.#failures += 1;
    this.#timers.wait = setTimeout(() => this.#open(), (this.#after_ms ?? 0) + Math.random() * ceiling);
    this.#after_ms = undefined;
  }

  #welcome({ heartbeat_ms }) {
    clearTimeout(this.#timers.open);
    this.#isOpen = true;
    this.#failures = 0;
    this.#timers.ping = setInterval(() => {
      this.#socket.send(PING);
      this.#timers.pong ??= setTimeout(() => this.#lost(), PONG_MS_MAX);
    }, heartbeat_ms);
    for (const channel of this.#channels.keys()) this.#sendSubscribe(channel);
    for (const job_id of this.#jobs.keys()) this.#sendAttach(job_id);
    for (const { frame } of this.#questions.values()) this.#send(frame);
    this.#onStatus("connected");
  }

  // Hearing.

  #hear(frame) {
    // Whatever comes is a sign of life.
    clearTimeout(this.#timers.pong);
    this.#timers.pong = undefined;
    switch (frame.type) {
      case "welcome":
        return this.#welcome(frame);
      case "auth_expiring":
        return this.#refresh();
      case "goodbye":
        this.#after_ms = frame.after_ms;
        return frame.reconnect ? undefined : this.stop(frame.reason);
      case "subscribed":
        return this.#subscribed(frame);
      case "message":
        return this.#message(frame);
      case "presence":
      case "join":
      case "leave":
        return this.#present(frame.channel, frame);
      case "unsubscribed":
        return this.#unsubscribed(frame.channel, new Refused(frame.error));
    }
    // The end of a job is an `error` or `complete` with its number; an `error` without one answers what was asked.
    if (frame.type === "error" && frame.seq === undefined) return this.#refused(frame);
    const question = this.#questions.get(frame.request_id);
    if (question !== undefined) {
      this.#questions.delete(frame.request_id);
      question.resolve(frame);
    }
    if (frame.seq !== undefined && frame.type !== "acknowledgment") this.#event(frame);
  }

  #subscribed({ channel, epoch, offset, recovered, presence }) {
    const followed = this.#channels.get(channel);
    if (followed === undefined) return;
    const isFirst = followed.cursor === undefined;
    followed.cursor = { epoch, offset };
    if (isFirst) followed.listener.begin?.();
    else if (!recovered) followed.listener.gap?.();
    if (presence !== undefined) this.#present(channel, { type: "presence", ...presence });
  }

  #present(channel, { type, members, member, count }) {
    const followed = this.#channels.get(channel);
    if (followed === undefined) return;
    const { users } = followed;
    const before = users.size;
    if (members !== undefined) followed.users = new Set(members.map(({ user }) => user));
    else if (type === "join") users.add(member.user);
    else if (type === "leave") users.delete(member.user);
    // Somebody may join again who only says something else of themselves.
    followed.count = count ?? followed.count + users.size - before;
    followed.listener.presence?.([...followed.users], followed.count);
  }

  #message(frame) {
    const followed = this.#channels.get(frame.channel);
    const { cursor } = followed ?? {};
    // Each once: what was asked for twice by a cursor may come twice.
    if (followed === undefined || (cursor?.epoch === frame.epoch && frame.offset <= cursor.offset)) return;
    followed.cursor = { epoch: frame.epoch, offset: frame.offset };
    followed.listener.message(frame);
  }

  #unsubscribed(channel, error) {
    const followed = this.#channels.get(channel);
    this.#channels.delete(channel);
    followed?.listener.ended?.(error);
  }

  #event(frame) {
    const followed = this.#jobs.get(frame.job_id);
    if (followed === undefined || (frame.type !== "snapshot" && frame.seq <= followed.seq)) return;
    followed.seq = frame.seq;
    if (frame.type === "complete" || frame.type === "error") this.#jobs.delete(frame.job_id);
    followed.listener.event(frame);
  }

  #refused({ request_id, error }) {
    const refused = new Refused(error);
    const wait_ms = error.retry_after_ms ?? 1000 + Math.random() * 1000;
    const question = this.#questions.get(request_id);
    if (question !== undefined) {
      if (error.retryable) {
        // If it is cut meanwhile, it is sent again on the next socket, with the same key.
        setTimeout(() => this.#isOpen && this.#questions.has(request_id) && this.#send(question.frame), wait_ms);
      } else {
        this.#questions.delete(request_id);
        question.reject(refused);
      }
      return;
    }
    for (const [channel, { id }] of this.#channels) {
      if (id !== request_id) continue;
      if (error.retryable) setTimeout(() => this.#sendSubscribe(channel), wait_ms);
      else this.#unsubscribed(channel, refused);
    }
    const job_id = /^attach-(.*)$/.exec(request_id)?.[1];
    const followed = this.#jobs.get(job_id);
    if (followed === undefined) return;
    if (error.retryable) setTimeout(() => this.#isOpen && this.#jobs.has(job_id) && this.#sendAttach(job_id), wait_ms);
    else {
      this.#jobs.delete(job_id);
      followed.listener.lost?.(refused);
    }
  }

  /** Another token of the same user keeps the socket as it is. If none can be had, the next socket asks for one. */
  async #refresh() {
    const token = await this.#token().catch(() => undefined);
    if (token !== undefined && this.#isOpen) this.#send({ type: "auth", id: crypto.randomUUID(), token });
  }
}
