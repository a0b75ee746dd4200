// The chat in two tabs and more: nothing is lost, nothing is there twice, and the pages say what is going on.

import assert from "node:assert/strict";

import { enter, eventually, serve, status } from "./stage.mjs";

const TENANT = "example-chat";
const HISTORY = "/v1/channels/chat:lobby/messages?limit=1000";

const say = async (page, text) => {
  await page.getByRole("textbox", { name: "Message" }).fill(text);
  await page.getByRole("button", { name: "Send" }).click();
};
const texts = (page) => page.locator(".message p").allTextContents();
const states = (page) => page.locator(".message").evaluateAll((items) => items.map((item) => item.dataset.state));
const present = (page) => page.locator(".present").textContent();
/** What the page means to send, or to send again. */
const unsent = (page) => page.evaluate(() => JSON.parse(sessionStorage.getItem("outbox:chat") ?? "[]"));

export async function chat({ browser, server, network, shot }) {
  const example = await serve("chat", server, network);
  const ann = await enter(browser, example.url, "Ann");
  const bob = await enter(browser, example.url, "Bob", { width: 390, height: 760, colorScheme: "dark" });
  const pages = [ann, bob];
  for (const page of pages) assert.equal(await status(page, "connected"), "Connected");

  /** Both pages come to show what the server has, in its order and each once. */
  const agree = async (what) => {
    let shown;
    const kept = async () => (await server.ask(TENANT, "reader", "GET", HISTORY)).messages.map(({ data }) => data.text);
    await eventually(what, async () => {
      const expected = await kept();
      shown = await Promise.all(pages.map(texts));
      const isStored = (await Promise.all(pages.map(states))).flat().every((state) => state === "stored");
      // A message may be seen as stored before its own sending is answered: that is waited for as well.
      const isAnswered = (await Promise.all(pages.map(unsent))).flat().length === 0;
      return isAnswered && isStored && shown.every((list) => JSON.stringify(list) === JSON.stringify(expected));
    }).catch(async (error) => {
      throw new Error(`${error.message}: ${JSON.stringify({ shown, kept: await kept() }, null, 1)}`);
    });
    return shown[0];
  };
  const publish = (text) => server.ask(TENANT, "news", "POST", "/v1/channels/chat:lobby/messages", { data: { text } });

  await eventually("each sees the other", async () => (await present(ann)) === "Here with you: Bob" && (await present(bob)) === "Here with you: Ann");

  await say(ann, "Good morning! Is the tide in?");
  await agree("the first message");
  for (const page of pages) assert.equal(await page.locator(".divider").count(), 0, "nothing is missing in a new room");
  await say(bob, "Since six. The gate is open.");
  await agree("an answer");
  await say(ann, "Then I send the boats.");
  assert.equal((await agree("both ways")).length, 3);

  // Whoever comes later is shown what was said.
  const cleo = await enter(browser, example.url, "Cleo");
  await status(cleo, "connected");
  await eventually("the history", async () => (await texts(cleo)).length === 3);
  await eventually("she is seen", async () => (await present(ann)) === "Here with you: Bob, Cleo");
  await cleo.getByRole("link", { name: "kitchen" }).click();
  await eventually("she is in another room", async () => (await present(ann)) === "Here with you: Bob" && (await present(cleo)) === "Nobody else is here.");
  await eventually("another room is empty", () => cleo.getByText("Nobody has said anything here yet.").isVisible());
  await say(cleo, "Coffee?");
  await eventually("it is stored", async () => (await states(cleo)).join() === "stored");
  await cleo.close();

  // The network goes. What is said goes on being shown, as not stored.
  network.cut();
  for (const page of pages) assert.match(await status(page, "reconnecting"), /^Reconnecting/);
  for (const text of ["The line is down.", "I write on."]) await say(ann, text);
  await say(bob, "Me too.");
  await publish("From a server, meanwhile.");
  assert.deepEqual((await states(ann)).slice(3), ["sending", "sending"]);
  assert.equal(await present(ann), "", "who is there is not known");
  assert.equal((await texts(bob)).length, 4, "nothing comes over a network that is cut");
  await shot(ann, "chat-reconnecting");
  await shot(bob, "chat-phone");
  network.restore();
  for (const page of pages) assert.equal(await status(page, "connected"), "Connected");
  assert.equal((await agree("all of both tabs, in one order")).length, 7);

  // It goes at the worst moment: the message is stored, and its publisher is not told. It is sent again, and is the same.
  network.deafen();
  await say(ann, "Said once.");
  await eventually("it is stored", async () => (await server.ask(TENANT, "reader", "GET", HISTORY)).messages.length === 8);
  assert.equal((await states(ann)).at(-1), "sending");
  network.cut();
  await status(ann, "reconnecting");
  network.restore();
  const once = await agree("a message whose answer was lost");
  assert.equal(once.filter((text) => text === "Said once.").length, 1);

  // A page that is reloaded while it is cut off keeps what it has to say.
  network.cut();
  await status(ann, "reconnecting");
  await say(ann, "Before the reload.");
  await ann.reload();
  network.restore();
  assert.equal((await agree("a message of before a reload")).length, 9);

  // The server dies and comes back.
  await server.kill();
  for (const page of pages) await status(page, "reconnecting");
  await say(bob, "Is anybody there?");
  await server.start();
  for (const page of pages) await status(page, "connected");
  assert.equal((await agree("what was said while there was no server")).length, 10);
  for (const page of pages) assert.equal(await page.locator(".divider").count(), 0, "nothing was missed");
  await eventually("both are there again", async () => (await present(ann)) === "Here with you: Bob" && (await present(bob)) === "Here with you: Ann");
  await shot(ann, "chat");

  // More is missed than is kept: the page says so, and goes on.
  const { composition } = await withHistory(server, 5);
  network.cut();
  for (const page of pages) await status(page, "reconnecting");
  for (let n = 1; n <= 12; n += 1) await publish(`Missed ${n}`);
  network.restore();
  for (const page of pages) {
    await eventually("the divider", async () => (await page.locator(".divider").count()) === 1);
    await eventually("what is still kept", async () => (await texts(page)).at(-1) === "Missed 12");
    assert.deepEqual((await texts(page)).slice(10), [8, 9, 10, 11, 12].map((n) => `Missed ${n}`));
  }
  await publish("After the gap.");
  for (const page of pages) await eventually("messages go on", async () => (await texts(page)).at(-1) === "After the gap.");
  await shot(ann, "chat-gap");

  await strangers(browser, server, network, example, composition);
  for (const page of pages) assert.deepEqual(page.faults, []);
  example.stop();
}

async function withHistory(server, messages) {
  const composition = await server.ask(TENANT, "setup", "GET", "/v1/admin/composition", undefined, "admin");
  composition.channels.chat.history.messages = messages;
  await server.ask(TENANT, "setup", "PUT", "/v1/admin/composition", composition, "admin");
  return { composition };
}

/** A page of an origin that is not listed gets neither an answer nor a socket, with a good token. */
async function strangers(browser, server, network, example, composition) {
  const listed = { ...composition, browsers: { origins: [example.url] } };
  await server.ask(TENANT, "setup", "PUT", "/v1/admin/composition", listed, "admin");
  const try_ = async (page) =>
    page.evaluate(async () => {
      const session = await (await fetch("/session", { method: "POST", body: JSON.stringify({ name: "Eve" }) })).json();
      const headers = { authorization: `Bearer ${session.token}` };
      const read = await fetch(`${session.url}/v1/jobs`, { headers }).then(
        (response) => response.status,
        (error) => error.name,
      );
      const socket = new WebSocket(`${session.url.replace("http", "ws")}/v1/connect`, ["tidegate.v1", `bearer.${session.token}`]);
      const opened = await new Promise((resolve) => {
        socket.onopen = () => resolve(true);
        socket.onclose = () => resolve(false);
      });
      socket.close();
      return { read, opened };
    });
  const page = await (await browser.newContext()).newPage();
  await page.goto(example.url);
  await eventually("the listed origin", async () => {
    const { read, opened } = await try_(page);
    return read === 200 && opened;
  });
  await page.goto(example.url.replace("127.0.0.1", "localhost"));
  await eventually("an origin that is not listed", async () => {
    const { read, opened } = await try_(page);
    return read === "TypeError" && !opened;
  });
  await page.close();
}
