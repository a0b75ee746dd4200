// How the lines of the request log look to a person. Programs, tests among them, are given them as they are.

/** Colours of a terminal by the severity. */
const COLOURS = { ERROR: "\u001b[31m", WARN: "\u001b[33m", INFO: "\u001b[2m" };
const PLAIN = "\u001b[0m";
/** What a terminal would take for more than a letter. */
const CONTROLS = /[\u0000-\u001f\u007f-\u009f]/g;

/**
 * `message` as a person reads it, where it is a line of the request log: what was asked for, what came of it, how long it took, for
 * whom. Any other message as it is.
 */
export function readable(message) {
  if (!message.startsWith('{"timestamp":')) return message;
  let line;
  try {
    line = JSON.parse(message);
  } catch {
    return message;
  }
  if (line["event.name"] !== "tidegate.request") return message;
  const socket = line["network.protocol.name"] === "websocket";
  const parts = [
    line.timestamp.slice(11, 23),
    line["http.response.status_code"],
    socket ? "socket" : line["http.request.method"],
    socket ? line["http.request.method"] : line["http.route"],
    line.action,
    `${line.duration_ms} ms`,
    line.tenant && `${line["user.id"] ?? "?"}@${line.tenant}`,
    line.job_id,
    line["error.type"] && `${line["error.type"]}: ${line["error.message"]}`,
    line.request && JSON.stringify(line.request),
  ];
  const text = parts.filter((part) => part !== undefined && part !== "").join("  ").replace(CONTROLS, " ");
  return `${COLOURS[line.severity] ?? ""}${text}${PLAIN}`;
}
