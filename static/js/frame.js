// Buttons of the top bar, the count in title and tab bar, dialogs.
import { say } from "./toasts.js";

for (const button of document.querySelectorAll(".top [data-action][hidden]")) button.hidden = false;

document.addEventListener("click", (event) => {
  const source = event.target.closest("[data-action]");
  if (!source) return;
  const action = source.dataset.action;
  if (action === "theme") {
    const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    try { localStorage.setItem("theme", next); } catch { say("This browser does not let us keep the theme."); }
    dispatchEvent(new Event("signalbox:theme"));
  }
  if (action === "help") document.getElementById("keys").showModal();
  if (action === "close") source.closest("dialog").close();
  if (action === "copy") {
    navigator.clipboard?.writeText(source.dataset.copy).then(() => say("Copied."), () => say("The browser refused to copy."));
  }
});

// A click beside a dialog closes it.
for (const dialog of document.querySelectorAll("dialog")) {
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
}

function showPending() {
  const badge = document.getElementById("pending-count");
  if (!badge) return;
  const count = badge.dataset.pending;
  for (const copy of document.querySelectorAll("[data-pending-copy]")) copy.textContent = count;
  const bare = document.querySelector("[data-title]")?.dataset.title ?? document.title.replace(/^\(\d+\+?\) /, "");
  document.title = count ? `(${count}) ${bare}` : bare;
}
document.addEventListener("htmx:after:swap", showPending);
