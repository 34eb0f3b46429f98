// Passkeys: at sign-in, at enrolment, and under a decision where the rule asks for it.
"use strict";

const bytes = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0));
const text = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

// As PublicKeyCredential.parse…FromJSON and toJSON do, for browsers that have not learnt it yet.
function options(json) {
  const read = { ...json, challenge: bytes(json.challenge) };
  if (json.user) read.user = { ...json.user, id: bytes(json.user.id) };
  if (json.allowCredentials) read.allowCredentials = json.allowCredentials.map((one) => ({ ...one, id: bytes(one.id) }));
  return read;
}

function written(credential) {
  const response = {};
  for (const field of ["clientDataJSON", "attestationObject", "authenticatorData", "signature"]) {
    if (credential.response[field]) response[field] = text(credential.response[field]);
  }
  return { id: credential.id, type: credential.type, response };
}

const sign = async (json) => written(await navigator.credentials.get({ publicKey: options(json) }));
const make = async (json) => written(await navigator.credentials.create({ publicKey: options(json) }));

async function post(path, body) {
  const headers = { accept: "application/json", "content-type": "application/json" };
  const answer = await fetch(path, { method: "POST", headers, body: body && JSON.stringify(body) });
  const value = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(value.detail ?? `The gateway answered ${answer.status}.`);
  return value;
}

// Only a path of this console: another site's address in `to` leads nowhere.
function onward() {
  const to = new URLSearchParams(location.search).get("to") ?? "/";
  return /^\/(?![/\\])/.test(to) ? to : "/";
}

// A decision: signed where the gateway says that the rule wants that.
async function decided(path, body, ask) {
  try {
    return await ask("POST", `${path}/decision`, body);
  } catch (error) {
    if (error.status !== 428) throw error;
    const asked = await ask("POST", `${path}/challenge`, body);
    return ask("POST", `${path}/decision`, { ...body, proof: await sign(asked.publicKey) });
  }
}
window.holdpoint = { decided };

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-passkey], [data-enrol]");
  if (!button) return;
  const said = document.getElementById("said");
  said.textContent = "";
  button.disabled = true;
  try {
    if (!window.PublicKeyCredential) throw new Error("This browser has no passkeys here: they need https, or localhost.");
    const path = button.dataset.passkey ?? button.dataset.enrol;
    const asked = await post(`${path}/begin`);
    const credential = await (button.dataset.passkey ? sign : make)(asked.publicKey);
    await post(`${path}/finish`, { credential });
    location.assign(button.dataset.passkey ? onward() : "/");
  } catch (error) {
    said.textContent = error.name === "NotAllowedError" ? "The passkey was not used. Try again." : error.message;
    button.disabled = false;
  }
});
