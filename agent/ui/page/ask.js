// What the page asks of the process that serves it.

class Failure extends Error {
  constructor(status, { kind, what, hint }) {
    super(what);
    Object.assign(this, { status, kind, what, hint: hint || "" });
  }
}

const GONE = { kind: "Gone", what: "`cellnet ui` does not answer any more", hint: "start it again, and open the address that it prints" };

async function ask(method, address, body) {
  let given;
  try {
    given = await fetch(address, {
      method,
      body: body === undefined ? undefined : JSON.stringify(body),
      headers: body === undefined ? {} : { "Content-Type": "application/json" },
      credentials: "same-origin",
    });
  } catch {
    throw new Failure(0, GONE);
  }
  const text = await given.text();
  let found;
  try {
    found = JSON.parse(text);
  } catch {
    throw new Failure(given.status, { kind: "Bug", what: `the answer to ${address} is no JSON` });
  }
  if (!given.ok) throw new Failure(given.status, found.error ?? { kind: "Bug", what: `${given.status}` });
  return found;
}

export function get(address, query = {}) {
  const written = new URLSearchParams(query).toString();
  return ask("GET", `/v1/${address}${written && "?"}${written}`);
}

export const post = (address, body = {}) => ask("POST", `/v1/${address}`, body);

// The token is behind the # of the address: it is given back once, for a session, and then no longer shown.
export async function enter() {
  const token = location.hash.slice(1);
  if (!/^[\w-]{20,100}$/.test(token)) return;
  history.replaceState(null, "", "/");
  const given = await fetch("/enter", { method: "POST", body: token, credentials: "same-origin" });
  if (!given.ok && given.status !== 401) throw new Failure(given.status, (await given.json()).error);
}
