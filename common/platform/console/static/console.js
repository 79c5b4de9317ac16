// Pages work without this file. With it, they follow what happens at the site, and passkeys can be used.
"use strict";

(function () {
  const stream = document.body.dataset.events;
  if (stream && window.EventSource && document.querySelector("[data-live]")) {
    new EventSource(stream).addEventListener("changed", () => {
      document.querySelectorAll("[data-live]").forEach((part) => window.htmx.trigger(part, "live"));
    });
  }
})();

// A live part changes only when there is news, and then keeps the focus of somebody who goes by keyboard.
(function () {
  const last = new WeakMap();
  const stops = (part) => [...part.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex]")];
  const name = (one) => `${one.tagName} ${one.getAttribute("href") || one.getAttribute("aria-label") || one.innerText}`;
  let focus = null;

  document.addEventListener("htmx:beforeSwap", (event) => {
    const part = event.detail.target;
    const answer = event.detail.serverResponse;
    if (last.get(part) === answer) event.detail.shouldSwap = false;
    if (!event.detail.shouldSwap) return;
    last.set(part, answer);
    const here = document.activeElement;
    focus = part.contains(here) ? { name: name(here), place: stops(part).indexOf(here) } : null;
  });
  document.addEventListener("htmx:afterSwap", (event) => {
    if (!focus) return;
    const all = stops(event.detail.target);
    const same = all.filter((one) => name(one) === focus.name);
    // A name may occur more than once: the nearest place is meant. What has gone leaves the focus to its neighbour.
    const distance = (one) => Math.abs(all.indexOf(one) - focus.place);
    const next = (same.length ? same : all).sort((one, other) => distance(one) - distance(other))[0];
    if (next) next.focus({ preventScroll: true });
    focus = null;
  });
})();

(function () {
  const part = document.querySelector("[data-passkey]");
  if (!part || !window.PublicKeyCredential) return;

  const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
  const text = (buffer) =>
    btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  const ask = async (address, body) => {
    const answer = await fetch(address, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ csrf: part.dataset.csrf, next: part.dataset.next || "/", ...body }),
    });
    const said = await answer.json();
    if (!answer.ok) throw new Error(`${said.problem} ${said.remedy}`);
    return said;
  };

  const add = async () => {
    const options = await ask("/account/passkey", {});
    options.challenge = bytes(options.challenge);
    options.user.id = bytes(options.user.id);
    options.excludeCredentials.forEach((one) => (one.id = bytes(one.id)));
    const made = await navigator.credentials.create({ publicKey: options });
    const response = {
      clientDataJSON: text(made.response.clientDataJSON),
      attestationObject: text(made.response.attestationObject),
    };
    return ask("/account/passkey/add", { credential: { id: made.id, rawId: text(made.rawId), type: made.type, response } });
  };

  const signIn = async () => {
    const options = await ask("/sign-in/passkey", {});
    options.challenge = bytes(options.challenge);
    const got = await navigator.credentials.get({ publicKey: options });
    const response = {
      clientDataJSON: text(got.response.clientDataJSON),
      authenticatorData: text(got.response.authenticatorData),
      signature: text(got.response.signature),
      userHandle: got.response.userHandle ? text(got.response.userHandle) : null,
    };
    return ask("/sign-in/passkey/answer", { credential: { id: got.id, rawId: text(got.rawId), type: got.type, response } });
  };

  part.hidden = false;
  part.querySelector("button").addEventListener("click", async () => {
    try {
      window.location.assign((await (part.dataset.passkey === "add" ? add() : signIn())).next);
    } catch (problem) {
      part.querySelector(".passkey-problem").textContent = problem.message;
    }
  });
})();
