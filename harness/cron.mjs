// Cron triggers, which the local runtime does not fire by itself: here the minutely ones are.

/** The period in minutes of `* * * * *` and of `*\/N * * * *`; `undefined` for what only the platform runs. */
function periodMinutes(cron) {
  const match = /^\*(?:\/(\d+))?(?: \*){4}$/.exec(cron.trim());
  return match ? Number(match[1] ?? 1) : undefined;
}

/** Calls `run(cron)` at each full minute that is due for a schedule of `crons()`. */
export function startCron(crons, run) {
  for (const cron of crons()) {
    if (periodMinutes(cron) === undefined) process.stderr.write(`The schedule "${cron}" does not run locally.\n`);
  }
  const next = () => 60_000 - (Date.now() % 60_000);
  const tick = async () => {
    setTimeout(tick, next()).unref();
    const minute = Math.round(Date.now() / 60_000);
    for (const cron of crons()) {
      const period = periodMinutes(cron);
      if (period === undefined || minute % period !== 0) continue;
      await run(cron).catch((error) => process.stderr.write(`The schedule "${cron}" failed: ${error?.message ?? error}\n`));
    }
  };
  setTimeout(tick, next()).unref();
}
