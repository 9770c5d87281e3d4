// Lists of rows: j and k move, x selects, the open row is marked, the pane beside it is filled without losing the
// list's place. What is selected stays so while the list refreshes itself.
import { lettersOn } from "./keys.js";

const rows = () => [...document.querySelectorAll("[data-row]")].filter((row) => row.offsetParent);
const typing = (element) => element?.closest?.("input:not([type=checkbox]),textarea,select,[contenteditable]");

function current(all) {
  const focused = all.indexOf(document.activeElement);
  return focused >= 0 ? focused : all.findIndex((row) => row.getAttribute("aria-current"));
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target) || !lettersOn()) return;
  if (document.querySelector("dialog[open]")) return;
  if (event.key === "x") { pickCurrent(event); return; }
  if (event.key === "n") { openNext(event); return; }
  if (event.key !== "j" && event.key !== "k") return;
  const all = rows();
  if (!all.length) return;
  const from = current(all);
  const to = event.key === "j" ? Math.min(all.length - 1, from + 1) : Math.max(0, from - 1);
  all[to].focus();
  all[to].scrollIntoView({ block: "nearest" });
  event.preventDefault();
});

const openable = () => [...document.querySelectorAll("a[data-row][hx-get]")];
let place = 0; // of the open row in the list, kept when a refresh takes the row away

// The row of the request beside the list, which the inbox opens under an address of its own; else that of the address.
function isOpen(row) {
  const shown = document.querySelector("[data-approval]")?.dataset.approval;
  return shown ? row.dataset.row === shown : row.pathname === location.pathname;
}

function markOpen() {
  for (const [at, row] of openable().entries()) {
    if (isOpen(row)) { row.setAttribute("aria-current", "true"); place = at; }
    else row.removeAttribute("aria-current");
  }
}
markOpen();

// The next request opens in place, with the list's filters and its scroll kept; without one the link leads to the list.
let goesOn = false;
function openNext(event) {
  const all = openable();
  const at = all.findIndex(isOpen);
  const next = at < 0 ? all[place] ?? all[0] : all[at + 1] ?? all.find((row) => !isOpen(row));
  if (!next || (at >= 0 && all.length === 1)) {
    if (event.type === "keydown") document.querySelector("a[data-next]")?.click();
    return;
  }
  event.preventDefault();
  goesOn = true;
  next.click();
  next.scrollIntoView({ block: "nearest" });
}
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[data-next]");
  if (link && event.isTrusted && !event.ctrlKey && !event.metaKey && !event.shiftKey) openNext(event);
});

// Where the focus goes when what had it is gone: to the outcome of a decision, to the title of the next request.
let decided = "";
document.addEventListener("htmx:before:request", ({ detail }) => {
  const { sourceElement, request } = detail.ctx;
  if (request.method === "POST" && sourceElement?.matches?.("form.decide")) decided = sourceElement.id;
});
document.addEventListener("htmx:after:swap", () => {
  const title = document.getElementById("approval-title");
  const outcome = document.querySelector(".outcome");
  const isLost = document.activeElement === document.body || !document.activeElement;
  if (goesOn && title) { goesOn = false; title.focus(); }
  else if (decided && outcome && isLost && !document.getElementById(decided)) { decided = ""; outcome.focus(); }
});
document.addEventListener("htmx:after:swap", markOpen);
document.addEventListener("htmx:after:history:push", () => {
  markOpen();
  document.querySelector("#detail .scroll")?.scrollTo(0, 0);
  if (matchMedia("(max-width: 760px)").matches) document.getElementById("main")?.focus();
});

// Selecting rows to do something with all of them. The boxes and the form work alone; this counts, and remembers.
const boxes = () => [...document.querySelectorAll(".pick")];
const picked = new Set();

function pickCurrent(event) {
  const row = rows()[current(rows())];
  const box = row?.closest("li,tr")?.querySelector(".pick");
  if (!box) return;
  box.click();
  row.focus();
  event.preventDefault();
}

function countPicked() {
  const count = boxes().filter((box) => box.checked).length;
  for (const place of document.querySelectorAll("[data-picked]")) place.textContent = count || "";
  const all = boxes().length;
  for (const button of document.querySelectorAll("[data-pick-all]")) button.hidden = count === all;
  for (const head of document.querySelectorAll("[data-pick-head]")) {
    head.hidden = false; // without script it could do nothing
    head.checked = all > 0 && count === all;
    head.indeterminate = count > 0 && count < all;
  }
}

function restorePicked() {
  const shown = new Set(boxes().map((box) => box.value));
  for (const id of picked) if (!shown.has(id)) picked.delete(id); // decided meanwhile, or on another page
  for (const box of boxes()) box.checked = picked.has(box.value);
  countPicked();
}

document.addEventListener("change", (event) => {
  if (event.target.matches(".pick")) {
    if (event.target.checked) picked.add(event.target.value); else picked.delete(event.target.value);
    countPicked();
  }
  if (event.target.matches("[data-pick-head]")) {
    const wanted = event.target.checked;
    for (const box of boxes()) if (box.checked !== wanted) box.click();
  }
  const form = event.target.closest(".together-form");
  const place = form?.querySelector("[data-ticked]");
  if (place) place.textContent = form.querySelectorAll("[name=item]:checked").length;
});
document.addEventListener("click", (event) => {
  if (event.target.closest("[data-pick-all]")) for (const box of boxes()) if (!box.checked) box.click();
});
document.addEventListener("reset", (event) => {
  if (event.target.id === "pick-form") setTimeout(() => { picked.clear(); countPicked(); });
});
for (const box of boxes()) if (box.checked) picked.add(box.value); // the browser kept them over going back
countPicked();
document.addEventListener("htmx:after:swap", restorePicked);

// The menus of the list close by Escape and by a click beside them.
const openMenus = () => document.querySelectorAll(".fold[open]");
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of openMenus()) { menu.open = false; menu.querySelector("summary").focus(); }
});
document.addEventListener("click", (event) => {
  for (const menu of openMenus()) if (!menu.contains(event.target)) menu.open = false;
});
