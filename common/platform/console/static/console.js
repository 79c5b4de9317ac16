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
