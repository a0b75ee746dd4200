// A chat: each room is a channel. What is said is shown at once as "sending…", and as "stored" when Tidegate has it on disk.

import { Connection, Refused } from "/shared/connection.js";
import { Outbox } from "/shared/outbox.js";
import { ask, enter, session, token } from "/shared/session.js";
import { statusBar } from "/shared/status.js";

/** How many messages somebody who comes in is shown. */
const HISTORY = 50;

const list = document.querySelector("#messages");
const me = await enter(document.querySelector("dialog"));
const { url } = await session();
const present = document.querySelector(".present");
const bar = statusBar(document.querySelector(".status"));
const connection = new Connection({
  url,
  token,
  onStatus(...status) {
    bar(...status);
    // Who is there is not known while nothing is heard.
    if (status[0] !== "connected") present.textContent = "";
  },
});
const outbox = new Outbox("chat");

/** The channel of the room that the address names. */
const channel = () => `chat:${/^#([\w.-]{1,64})$/.exec(location.hash)?.[1] ?? "lobby"}`;
let current;

// Coming into a room.

function come() {
  if (current !== undefined) connection.unsubscribe(current);
  const room = (current = channel());
  for (const link of document.querySelectorAll("nav a")) {
    if (`chat:${link.hash.slice(1)}` === room) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  bubbles.clear();
  list.replaceChildren();
  showWhetherEmpty();
  for (const item of outbox.items) if (item.channel === room) show({ data: item, publisher: me });
  connection.subscribe(room, {
    message: show,
    // Only now: what is said after this comes over the socket.
    begin: () => showHistory(room),
    gap() {
      showDivider("Some messages may be missing here: they are no longer kept.");
      showHistory(room);
    },
    ended: ({ message }) => showDivider(message),
    presence: showPresent,
  });
}

/** Shows the newest messages of a room. Some may be there already. */
async function showHistory(room) {
  const path = `/v1/channels/${room}/messages?limit=${HISTORY}`;
  while (room === current) {
    try {
      const { epoch, offset } = await (await ask(url, path)).json();
      const page = await (await ask(url, `${path}&after=${epoch}:${Math.max(0, offset - HISTORY)}`)).json();
      for (const message of page.messages) show({ channel: room, epoch: page.epoch, ...message });
      return;
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 1000 + Math.random() * 1000));
    }
  }
}

// Saying something. One message after the other, so that they are stored in the order in which they were said.

let isSaying = false;

async function sayAll() {
  if (isSaying) return;
  isSaying = true;
  for (let item = outbox.items[0]; item !== undefined; item = outbox.items[0]) {
    try {
      // The key goes with the message as well: it is how its bubble is found again.
      const stored = await connection.publish(item.channel, { key: item.key, text: item.text }, item.key);
      show({ ...stored, data: item, publisher: me });
    } catch (error) {
      // Only what was refused is over. Anything else is sent again after a reload.
      if (!(error instanceof Refused)) break;
      bubbles.get(item.key)?.refuse(error.message);
    }
    outbox.remove(item);
  }
  isSaying = false;
}

document.querySelector("#say").addEventListener("submit", (event) => {
  event.preventDefault();
  const { text } = event.target.elements;
  if (text.value.trim() === "") return;
  show({ data: outbox.add({ channel: current, text: text.value }), publisher: me });
  event.target.reset();
  sayAll();
});

// Showing it. Messages are in the order of their offsets; those that have none yet are the last.

const bubbles = new Map();

function show({ channel = current, epoch, offset, publisher, timestamp, data }) {
  if (channel !== current) return;
  // The same message comes from the outbox, as the answer to its publishing, over the socket, and out of the history.
  const id = data?.key ?? `${epoch}:${offset}`;
  const bubble = bubbles.get(id) ?? new Bubble(publisher, data?.text ?? JSON.stringify(data));
  bubbles.set(id, bubble);
  if (bubble.isStored) return;
  if (offset !== undefined) bubble.store(epoch, offset, timestamp);
  place(bubble.element);
  showWhetherEmpty();
}

class Bubble {
  constructor(publisher, text) {
    this.element = document.createElement("li");
    this.element.className = publisher === me ? "message mine" : "message";
    this.element.dataset.state = "sending";
    this.who = publisher === me ? "you" : publisher;
    const said = document.createElement("p");
    said.textContent = text;
    this.small = document.createElement("small");
    this.small.textContent = `${this.who} · sending…`;
    this.element.append(said, this.small);
  }

  get isStored() {
    return this.element.dataset.state === "stored";
  }

  store(epoch, offset, timestamp = new Date()) {
    Object.assign(this.element.dataset, { state: "stored", epoch, offset });
    const time = new Date(timestamp).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    this.small.textContent = this.who === "you" ? `${time} · stored ✓` : `${this.who} · ${time}`;
  }

  refuse(why) {
    this.element.dataset.state = "refused";
    this.small.textContent = `not sent: ${why}`;
  }
}

function place(element) {
  const { state, epoch, offset } = element.dataset;
  const isBefore = (other) =>
    state !== "stored" ||
    (other.dataset.state !== "sending" && (other.dataset.epoch !== epoch || Number(other.dataset.offset) < Number(offset)));
  element.remove();
  let before = list.lastElementChild;
  while (before !== null && !isBefore(before)) before = before.previousElementSibling;
  if (before === null) list.prepend(element);
  else before.after(element);
}

function showDivider(text) {
  const divider = document.createElement("li");
  divider.className = "divider";
  divider.textContent = text;
  list.append(divider);
}

/** Who else is in the room. Of very many, not all are named. */
function showPresent(users, count) {
  const others = users.filter((user) => user !== me).sort();
  const unnamed = count - users.length;
  const names = unnamed > 0 ? [...others, `${unnamed} more`] : others;
  present.textContent = names.length === 0 ? "Nobody else is here." : `Here with you: ${names.join(", ")}`;
}

function showWhetherEmpty() {
  document.querySelector("#empty").hidden = list.childElementCount > 0;
}

addEventListener("hashchange", come);
come();
// What a reload has interrupted.
sayAll();
