// Live updates. The socket carries names of what changed; `parts.js` fetches what they concern again over HTTP.
//
// Facts this file relies on:
// - `[data-live-topics]` on any element names exact topics ("approval:apr_1"); the body hears the kind
//   (`live:approval`), and `live:resync`, which says that anything may have changed.
// - the server answers `ping` with `pong`, closes with 4401 when the session ended and 4008 when we read too slowly.
import { say } from "./toasts.js";

const FIRST_WAIT_MS = 400, LONGEST_WAIT_MS = 8000, PING_MS = 20_000, PONG_MS = 8000, POLL_MS = 20_000;
const WORDS = { connecting: "Connecting", live: "Live", reconnecting: "Reconnecting", paused: "Paused", off: "Not live" };
const SIGNED_OUT = 4401, NOT_ALLOWED = 4403;

const body = document.body;
const button = document.querySelector("[data-action=live]");
const kept = { get: () => { try { return sessionStorage.getItem("paused") === "1"; } catch { return false; } },
               set: (on) => { try { sessionStorage.setItem("paused", on ? "1" : "0"); } catch { /* only this page */ } } };

let socket = null, attempts = 0, retry = 0, silence = 0, asked = [];
let paused = kept.get(), missed = false, everOpen = false, ended = false, deaf = false;

function topics() {
  const all = [...document.querySelectorAll("[data-live-topics]")].flatMap((e) => e.dataset.liveTopics.split(/\s+/));
  return [...new Set(all.filter(Boolean))].slice(0, 20);
}

function show() {
  if (!button) return;
  const open = socket?.readyState === WebSocket.OPEN && !deaf;
  const state = ended ? "off" : paused ? "paused" : open ? "live" : everOpen || attempts > 1 ? "reconnecting" : "connecting";
  if (button.dataset.state === state) return;
  button.dataset.state = state;
  button.setAttribute("aria-pressed", String(paused));
  button.querySelector("[data-live-word]").textContent = WORDS[state];
}

function tell(name, detail = {}) {
  if (paused) { missed = true; return; }
  body.dispatchEvent(new CustomEvent(`live:${name}`, { detail }));
}

function subscribe(force = false) {
  const wanted = topics();
  const fresh = wanted.filter((topic) => !asked.includes(topic));
  const gone = asked.filter((topic) => !wanted.includes(topic));
  if (socket?.readyState !== WebSocket.OPEN || (!force && !fresh.length && !gone.length)) return;
  const message = { subscribe: wanted };
  // What was announced after the server rendered the new parts is told again.
  const times = [...document.querySelectorAll("[data-live-since]")].filter((e) =>
    e.dataset.liveTopics.split(/\s+/).some((topic) => fresh.includes(topic))).map((e) => Number(e.dataset.liveSince));
  if (times.length) message.since = Math.min(...times);
  asked = wanted;
  socket.send(JSON.stringify(message));
}

function connect() {
  clearTimeout(retry);
  if (ended || (socket && socket.readyState <= WebSocket.OPEN)) return;
  const url = new URL(body.dataset.liveUrl, location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  attempts += 1;
  const mine = (socket = new WebSocket(url));
  mine.addEventListener("open", () => {
    if (mine !== socket) return;
    subscribe(true);
    if (everOpen || attempts > 1) tell("resync"); // what happened meanwhile is not known
    everOpen = true;
    attempts = 0;
    deaf = false;
    show();
  });
  mine.addEventListener("message", (event) => { clearTimeout(silence); hear(event.data); });
  mine.addEventListener("close", (event) => { if (mine === socket) closed(event.code); });
  show();
}

function hear(data) {
  let message;
  try { message = JSON.parse(data); } catch { return; }
  if (message.deaf) deaf = true; // the server has lost its database: nothing will be told for a while
  if (message.resync) { deaf = false; tell("resync"); }
  show();
  for (const topic of message.topics ?? (message.topic ? [message.topic] : [])) {
    tell(topic.split(":", 1)[0], { topic });
  }
}

function closed(code) {
  socket = null;
  clearTimeout(silence);
  if (code === SIGNED_OUT || code === NOT_ALLOWED) {
    ended = true;
    const here = encodeURIComponent(location.pathname + location.search);
    say(code === SIGNED_OUT ? "You are signed out; this page no longer updates." : "Your account may not see live updates.",
      { error: true, link: { href: `${body.dataset.loginUrl}?next=${here}`, text: "Sign in" } });
    show();
    return;
  }
  const wait = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** Math.min(attempts, 6));
  retry = setTimeout(connect, wait * (0.5 + Math.random() / 2)); // spread: every tab of every reader comes back at once
  show();
}

function ping() {
  if (socket?.readyState !== WebSocket.OPEN) return;
  socket.send('{"ping":1}');
  clearTimeout(silence);
  const mine = socket;
  silence = setTimeout(() => { mine.close(); if (mine === socket) closed(1006); }, PONG_MS); // half-open: nobody answers
}

function setPaused(on) {
  paused = on;
  kept.set(on);
  show();
  if (!on && missed) { missed = false; tell("resync"); }
}

document.addEventListener("click", (event) => {
  if (event.target.closest("[data-action=live]")) { if (ended) location.reload(); else setPaused(!paused); }
});
document.addEventListener("htmx:after:swap", () => subscribe());
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  if (socket?.readyState === WebSocket.OPEN) ping(); else connect();
  tell("resync");
});
addEventListener("online", connect);
addEventListener("pageshow", (event) => { if (event.persisted) { connect(); tell("resync"); } });
addEventListener("pagehide", () => socket?.close());
setInterval(ping, PING_MS);
setInterval(() => { if (!ended && (deaf || socket?.readyState !== WebSocket.OPEN) && !document.hidden) tell("resync"); }, POLL_MS);

if (body.dataset.liveUrl) connect();
