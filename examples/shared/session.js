// Who sits here: a name that this tab keeps, and the tokens that the page's own server mints for it. A real server would look at its
// own login first.

const NAME = "name";

/** The name under which this tab has come in, if it has. */
export const name = () => sessionStorage.getItem(NAME);

/** Where Tidegate is, and a fresh token for it. */
export async function session() {
  const response = await fetch("/session", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ name: name() }),
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

export const token = async () => (await session()).token;

/** Asks Tidegate over HTTP: for what is read once and not followed. */
export async function ask(url, path, options = {}) {
  const response = await fetch(new URL(path, url), {
    ...options,
    headers: { authorization: `Bearer ${await token()}`, ...options.headers },
  });
  if (!response.ok) throw new Error((await response.json()).detail);
  return response;
}

/** Waits until somebody has given a name in the dialog, or gives the one that is kept. */
export async function enter(dialog) {
  if (name() === null) {
    dialog.showModal();
    const form = dialog.querySelector("form");
    await new Promise((resolve) => form.addEventListener("submit", resolve, { once: true }));
    sessionStorage.setItem(NAME, new FormData(form).get("name").trim());
  }
  return name();
}
