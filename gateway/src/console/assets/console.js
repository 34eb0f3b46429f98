// The console's moving parts: it listens for changes, counts down, decides, and has keys. Without it pages still show.
"use strict";

const csrf = document.querySelector('meta[name="csrf"]')?.content ?? "";
// How far the desk had come when this page was made.
let seen = document.querySelector('meta[name="seen"]')?.content ?? "";
// Pages of our own server, which has escaped everything in them.
const pages = window.trustedTypes?.createPolicy("console", { createHTML: (text) => text }) ?? { createHTML: (text) => text };

function say(words) {
  const said = document.getElementById("said");
  if (said) said.textContent = words;
}

// Asks the API; an error's own words come back as the error.
async function ask(method, path, body) {
  const headers = { accept: "application/json", "x-csrf": csrf };
  if (body !== undefined) headers["content-type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new Error("The gateway does not answer. Is the network there?");
  }
  const value = await answer.json().catch(() => ({}));
  if (answer.status === 401) location.assign(`/signin?to=${encodeURIComponent(location.pathname)}`);
  if (!answer.ok) throw Object.assign(new Error(value.detail ?? `The gateway answered ${answer.status}.`), { status: answer.status });
  return value;
}

function left(seconds) {
  if (seconds <= 0) return "no time left";
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor((seconds % 3600) / 60)];
  if (hours) return `${hours}h ${minutes}m left`;
  return minutes ? `${minutes}m ${seconds % 60}s left` : `${seconds}s left`;
}

// Counts down from what the server said when the page came, by this machine's steady clock.
function count() {
  for (const time of document.querySelectorAll("[data-left]")) {
    time.dataset.until ??= performance.now() + Number(time.dataset.left) * 1000;
    const seconds = Math.max(0, Math.ceil((time.dataset.until - performance.now()) / 1000));
    time.textContent = left(seconds);
    time.classList.toggle("soon", seconds < 60);
  }
}

// The part of the page that changes, fetched again. What somebody has typed stays.
let fetching = false;
let again = false;
async function refresh() {
  const live = document.getElementById("live");
  if (!live) return;
  if (fetching) {
    again = true;
    return;
  }
  fetching = true;
  try {
    const answer = await fetch(live.dataset.live, { headers: { accept: "text/html", "x-part": "1" } });
    if (answer.redirected) return location.reload();
    const frame = document.createElement("template");
    frame.innerHTML = pages.createHTML(await answer.text());
    const fresh = frame.content.querySelector("#live") ?? frame.content;
    // The page of a request that is over is another one.
    if (live.dataset.request && fresh.id !== "live") return location.reload();
    const typed = live.querySelector("#reason");
    const form = live.querySelector("form.decide");
    const freshForm = fresh.querySelector?.("form.decide");
    if (form && freshForm) {
      // Only where what is decided on is still the same may the form stay as it is.
      const same = form.dataset.digest === freshForm.dataset.digest;
      if (!same) document.getElementById("problem").textContent = "What is known of it has changed: look again before you decide.";
      form.dataset.digest = freshForm.dataset.digest;
      freshForm.replaceWith(form);
    } else if (form && !freshForm) {
      say("This request has ended.");
    }
    const focused = document.activeElement;
    live.replaceChildren(...(fresh.id === "live" ? fresh.childNodes : [fresh]));
    if (typed && live.contains(typed) && focused === typed) typed.focus();
    count();
  } catch {
    say("The gateway does not answer; trying again.");
  } finally {
    fetching = false;
    if (again) {
      again = false;
      refresh();
    }
  }
}

function listen() {
  if (!document.getElementById("live")) return;
  const changes = new EventSource("/api/v1/events");
  changes.addEventListener("changed", (event) => {
    if (event.data === seen) return;
    seen = event.data;
    refresh();
  });
  changes.addEventListener("error", () => {
    say("Not connected; trying again.");
  });
  changes.addEventListener("open", () => say(""));
}

async function decide(form, approve) {
  const [reason, problem] = [form.querySelector("#reason"), form.querySelector("#problem")];
  problem.textContent = "";
  if (approve && reason.dataset.required && !reason.value.trim()) {
    problem.textContent = "The rule requires a reason to approve.";
    return reason.focus();
  }
  const body = { approve, reason: reason.value.trim() || null, digest: form.dataset.digest };
  const ticket = form.querySelector('[name="ticket"]')?.value.trim();
  if (approve && ticket) body.ticket = ticket;
  if (approve && form.querySelector('[name="grant"]')?.checked) {
    const [uses, minutes] = ["uses", "minutes"].map((name) => Number(form.querySelector(`[name="${name}"]`).value));
    body.grant = { uses, seconds: minutes * 60 };
  }
  const buttons = form.querySelectorAll("button");
  for (const button of buttons) button.disabled = true;
  try {
    const path = `/api/v1/approvals/${form.dataset.decide}`;
    const done = await window.holdpoint.decided(path, body, ask);
    if (done.decided === "counted") {
      say(`Counted; ${done.missing} more must approve.`);
      await refresh();
      return;
    }
    location.reload();
  } catch (error) {
    problem.textContent = error.message;
    if (error.status === 404 || error.status === 409) location.reload();
  } finally {
    for (const button of buttons) button.disabled = false;
  }
}

document.addEventListener("submit", (event) => {
  const form = event.target.closest("form.decide");
  if (!form) return;
  event.preventDefault();
  // Enter in a field decides nothing.
  if (event.submitter?.name === "decision") decide(form, event.submitter.value === "approve");
});

// Any other form: its fields go to the API as they are named, and the page is made anew.
async function send(form) {
  const problem = form.querySelector(".problem");
  const button = form.querySelector("button");
  problem.textContent = "";
  if (form.dataset.sure && !button.dataset.sure) {
    button.dataset.sure = "1";
    button.textContent = `${button.textContent}: press again`;
    return;
  }
  const body = {};
  for (const field of form.querySelectorAll("[name]")) {
    const value = field.value.trim();
    if (value) body[field.name] = field.dataset.number ? Number(value) : value;
  }
  button.disabled = true;
  try {
    await ask("POST", form.dataset.api, body);
    form.reset();
    // What changes by itself does; other pages are loaded again.
    if (document.getElementById("live")) await refresh();
    else location.reload();
    say(form.dataset.done);
  } catch (error) {
    problem.textContent = error.message;
  } finally {
    button.disabled = false;
  }
}

document.addEventListener("submit", (event) => {
  const form = event.target.closest("form[data-api]");
  if (!form) return;
  event.preventDefault();
  send(form);
});

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  try {
    if (button.dataset.do === "sign-out") {
      await ask("POST", "/signout");
      location.assign("/signin");
    }
    if (button.dataset.post) {
      if (!button.dataset.sure) {
        button.dataset.sure = "1";
        button.textContent = `${button.textContent}: press again`;
        return;
      }
      await ask("POST", button.dataset.post, {});
      location.reload();
    }
  } catch (error) {
    say(error.message);
  }
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select")) return;
  const cards = [...document.querySelectorAll(".requests a.card")];
  const at = cards.indexOf(document.activeElement);
  const keys = {
    j: () => cards[Math.min(at + 1, cards.length - 1)]?.focus(),
    k: () => cards[Math.max(at - 1, 0)]?.focus(),
    a: () => document.querySelector("button.approve")?.focus(),
    d: () => document.querySelector(".decide button.deny")?.focus(),
    i: () => location.assign("/"),
    "?": () => document.getElementById("keys")?.showModal(),
  };
  if (keys[event.key]) {
    event.preventDefault();
    keys[event.key]();
  }
});

count();
setInterval(count, 500);
listen();
