// Short notes in the corner. Errors stay until dismissed by a later one; the rest leave after a while.
const LASTS_MS = 7000;
const box = () => document.getElementById("toasts");

export function say(text, { error = false, link = null } = {}) {
  const target = box();
  if (!target || !text) return;
  const same = [...target.children].find((note) => note.dataset.text === text);
  if (same) return;
  const note = document.createElement("div");
  note.className = error ? "toast-note error" : "toast-note";
  note.dataset.text = text;
  const words = document.createElement("p");
  words.textContent = text;
  if (link) {
    const anchor = document.createElement("a");
    anchor.href = link.href;
    anchor.textContent = link.text;
    words.append(" ", anchor);
  }
  const close = document.createElement("button");
  close.type = "button";
  close.className = "k";
  close.textContent = "Close";
  close.addEventListener("click", () => note.remove());
  note.append(words, close);
  target.append(note);
  if (!error) setTimeout(() => note.remove(), LASTS_MS);
}

export function forgetErrors() {
  for (const note of box()?.querySelectorAll(".toast-note.error[data-text]") ?? []) note.remove();
}

for (const note of document.querySelectorAll("[data-toast]")) setTimeout(() => note.remove(), LASTS_MS);
