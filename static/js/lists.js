// Lists of rows: j and k move, the open row is marked, the pane beside it is filled without losing the list's place.
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
  if (event.key !== "j" && event.key !== "k") return;
  const all = rows();
  if (!all.length) return;
  const from = current(all);
  const to = event.key === "j" ? Math.min(all.length - 1, from + 1) : Math.max(0, from - 1);
  all[to].focus();
  all[to].scrollIntoView({ block: "nearest" });
  event.preventDefault();
});

function markOpen() {
  for (const row of document.querySelectorAll("a[data-row]")) {
    if (row.pathname === location.pathname) row.setAttribute("aria-current", "true");
    else row.removeAttribute("aria-current");
  }
}
document.addEventListener("htmx:after:swap", markOpen);
document.addEventListener("htmx:after:history:push", () => {
  markOpen();
  document.querySelector("#detail .scroll")?.scrollTo(0, 0);
  if (matchMedia("(max-width: 760px)").matches) document.getElementById("main")?.focus();
});
