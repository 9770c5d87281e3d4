// Forms: a second click sends nothing twice, an answer in words is shown, what was typed stays.
import { forgetErrors, say } from "./toasts.js";

const GUARD_MS = 12_000; // then the form may be sent again, whatever became of the first answer

// A verdict that needs a reason asks for it before it is sent; the server asks again.
const wanted = new Set(); // ids of the fields that were asked for: a live refresh draws the form as it was before
function ask(note) {
  const fault = note.form.querySelector(".fault");
  fault.querySelector("[data-fault]").textContent = "Say why, so that the agent can do better.";
  fault.hidden = false;
  note.setAttribute("aria-invalid", "true");
}
document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-needs]");
  const note = button && document.getElementById(button.dataset.needs);
  if (!note || note.value.trim()) return;
  event.preventDefault();
  wanted.add(note.id);
  ask(note);
  note.focus();
});
document.addEventListener("input", (event) => {
  if (event.target.matches("textarea[aria-invalid]") && event.target.value.trim()) {
    wanted.delete(event.target.id);
    event.target.removeAttribute("aria-invalid");
    event.target.form.querySelector(".fault").hidden = true;
  }
});
document.addEventListener("htmx:after:swap", () => {
  for (const id of wanted) {
    const note = document.getElementById(id);
    if (note && !note.value.trim()) ask(note); else wanted.delete(id);
  }
});

function release(form) {
  delete form.dataset.sending;
  for (const button of form.querySelectorAll("[aria-disabled=true]")) button.removeAttribute("aria-disabled");
}

// Capture: before htmx hears the submit. The buttons stay enabled, because a disabled one would not be sent along.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post" || form.dataset.guard === "off") return;
  if (form.dataset.sending) { event.preventDefault(); event.stopImmediatePropagation(); return; }
  form.dataset.sending = "1";
  setTimeout(() => {
    for (const button of form.querySelectorAll("button[type=submit]")) button.setAttribute("aria-disabled", "true");
  });
  setTimeout(() => release(form), GUARD_MS);
}, true);

addEventListener("pageshow", () => { for (const form of document.querySelectorAll("form[data-sending]")) release(form); });
document.addEventListener("htmx:finally:request", (event) => {
  const form = event.detail?.ctx?.request?.form ?? event.target;
  if (form?.matches?.("form")) release(form);
});

// The form's protection had run out: the page keeps what was typed and gets a new token, so a second click works.
function refreshToken(token) {
  const headers = JSON.parse(document.body.getAttribute("hx-headers:inherited"));
  document.body.setAttribute("hx-headers:inherited", JSON.stringify({ ...headers, "X-CSRFToken": token }));
  for (const input of document.querySelectorAll("[name=csrfmiddlewaretoken]")) input.value = token;
}

// The way to the sign-in and back to this page, whose forms then hold what was typed.
function signInLink() {
  const here = encodeURIComponent(location.pathname + location.search);
  return { href: `${document.body.dataset.loginUrl}?next=${here}`, text: "Sign in" };
}

// Answers that were not swapped in: words come as plain text.
document.addEventListener("htmx:response:error", (event) => {
  const { ctx } = event.detail;
  const type = ctx.response.headers.get("Content-Type") ?? "";
  const token = ctx.response.headers.get("X-CSRFToken");
  if (token) refreshToken(token);
  const isLive = ctx.sourceEvent?.type?.startsWith("live:");
  if (ctx.response.status === 401) {
    say("You are signed out. What you typed is still here.", { error: true, link: signInLink() });
  } else if (type.startsWith("text/plain")) {
    if (!isLive || ctx.response.status === 503) say(ctx.text, { error: !isLive });
  } else if (!isLive && ![403, 409, 422].includes(ctx.response.status)) {
    say("The server could not answer. Nothing you typed is lost; try again in a moment.", { error: true });
  }
});
// What was answered well is not away any more.
document.addEventListener("htmx:after:request", (event) => {
  const response = event.detail?.ctx?.response;
  if (response?.status < 400) forgetErrors();
  say(response?.headers.get("X-Said")); // what a page without a script would be told in a message
});
document.addEventListener("htmx:error", (event) => {
  if (event.detail?.ctx?.sourceEvent?.type?.startsWith("live:")) return; // the next poke or resync repairs it
  say("The server cannot be reached. What you typed is still here; try again in a moment.", { error: true });
});
