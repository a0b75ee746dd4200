// The bar that says how the connection is. It is told to screen readers as well.

const TEXTS = {
  connecting: "Connecting…",
  connected: "Connected",
  reconnecting: "Reconnecting… what you send is kept, and goes out when the connection is back.",
};

/** What a `Connection` calls with its status. */
export function statusBar(element) {
  return (status, reason) => {
    element.dataset.status = status;
    element.textContent = TEXTS[status] ?? `The connection has ended. ${reason}`;
  };
}
