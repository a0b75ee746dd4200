// The board of jobs: what was started is there after every cut and reload, moves, and ends once, as it ended on the server.

import assert from "node:assert/strict";

import { enter, eventually, serve, status } from "./stage.mjs";

const TENANT = "example-live-jobs";

const cards = (page) =>
  page.locator(".card").evaluateAll((items) =>
    items.map((item) => ({
      id: item.querySelector(".id").textContent,
      title: item.querySelector(".title").textContent,
      state: item.dataset.state,
      percentage: Number(item.querySelector("progress").value),
      says: item.querySelector(".says").textContent,
    })),
  );
const start = (page, name) => page.getByRole("button", { name }).click();
const of = async (page, title) => (await cards(page)).find((card) => card.title.startsWith(title));

export async function liveJobs({ browser, server, network, shot }) {
  const example = await serve("live-jobs", server, network);
  const page = await enter(browser, example.url, "Dana");
  assert.equal(await status(page, "connected"), "Connected");
  const kept = async () => (await server.ask(TENANT, "Dana", "GET", "/v1/jobs?limit=100")).jobs;

  await start(page, "Report on zips.csv");
  await start(page, "Count for 20 s");
  await start(page, "Fail after retries");
  await eventually("three jobs are stored", async () => (await cards(page)).every((card) => card.id.startsWith("job_")));
  assert.equal((await kept()).length, 3);

  // Progress moves, and never back.
  const seen = [];
  await eventually("progress moves", async () => {
    const { percentage } = await of(page, "Count");
    if (percentage !== seen.at(-1)) seen.push(percentage);
    return seen.length >= 5;
  });
  assert.deepEqual(seen, [...seen].sort((a, b) => a - b), "progress goes forward");
  await eventually("a retry is shown", async () => (await of(page, "Fail")).state === "retrying");

  // A reload loses nothing.
  await page.reload();
  await status(page, "connected");
  await eventually("the board is there again", async () => (await cards(page)).length === 3);
  const after = (await of(page, "Count")).percentage;
  await eventually("progress moves again", async () => (await of(page, "Count")).percentage > after);

  // A cut loses nothing; what is started meanwhile is sent once the network is back.
  network.cut();
  assert.match(await status(page, "reconnecting"), /^Reconnecting/);
  const before = (await of(page, "Count")).percentage;
  await start(page, "Count for 20 s");
  const [sending] = await cards(page);
  assert.deepEqual([sending.state, sending.id], ["sending", ""]);
  await shot(page, "live-jobs-reconnecting");
  assert.equal((await kept()).length, 3);
  network.restore();
  await status(page, "connected");
  await eventually("what was started while it was cut is stored", async () => (await cards(page))[0].id.startsWith("job_"));
  await eventually("progress goes on", async () => (await cards(page)).some((card) => card.title.startsWith("Count") && card.percentage > before));

  await shot(page, "live-jobs");

  // The acknowledgment is lost: the request goes out again, and it is the same job.
  network.deafen();
  await start(page, "Count for 20 s");
  await eventually("it is stored", async () => (await kept()).length === 5);
  network.cut();
  await status(page, "reconnecting");
  network.restore();
  await eventually("it is acknowledged", async () => (await cards(page)).every((card) => card.id.startsWith("job_")));
  assert.equal((await kept()).length, 5);
  assert.equal(new Set((await cards(page)).map((card) => card.id)).size, 5);

  // Cancel: the two that were started last.
  for (let n = 0; n < 2; n += 1) {
    const card = page.locator(".card").nth(n);
    await card.getByRole("button", { name: "Cancel" }).click();
    await eventually("it is cancelled", async () => (await card.getAttribute("data-state")) === "cancelled");
  }

  // The server dies while a job runs, and the job ends all the same.
  await server.kill();
  await status(page, "reconnecting");
  await server.start();
  await status(page, "connected");
  const ended = async () => (await cards(page)).every((card) => ["succeeded", "failed", "cancelled"].includes(card.state));
  await eventually("every job has ended on the page", ended, 60_000);

  // What the board says is what the server says, here and in another tab, each job once.
  const other = await enter(browser, example.url, "Dana", { width: 390, height: 1100, colorScheme: "dark" });
  await eventually("the other tab has them", async () => (await cards(other)).length === 5);
  const expected = (await kept()).map((job) => [job.job_id, job.status]).sort();
  for (const tab of [page, other]) {
    assert.deepEqual((await cards(tab)).map((card) => [card.id, card.state]).sort(), expected);
  }
  assert.deepEqual(expected.map(([, state]) => state).sort(), ["cancelled", "cancelled", "failed", "succeeded", "succeeded"]);
  await shot(page, "live-jobs-ended");
  await shot(other, "live-jobs-phone");

  // Nobody else sees them.
  const eve = await enter(browser, example.url, "Eve");
  await status(eve, "connected");
  await eventually("an empty board", () => eve.getByText("No jobs yet: start one.").isVisible());

  const open = page.getByRole("button", { name: "Open the report" });
  const [opened] = await Promise.all([page.context().waitForEvent("page"), open.click()]);
  await opened.waitForLoadState();
  assert.match(await opened.locator("body").textContent(), /zip_code/);
  await shot(opened, "report");
  for (const tab of [page, other, eve]) assert.deepEqual(tab.faults, []);
  example.stop();
}
