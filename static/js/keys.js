// Hotkeys, declared on the real link or button by `data-hotkey`. Single letters can be switched off (WCAG 2.1.4).
import { install, uninstall } from "../vendor/hotkey/hotkey.js";

const KEPT = "letters";
export const lettersOn = () => { try { return localStorage.getItem(KEPT) !== "off"; } catch { return true; } };
const needsModifier = (keys) => /(Mod|Control|Meta|Alt)\+/.test(keys);
const installed = new Set();

function apply() {
  for (const element of installed) if (!element.isConnected) { uninstall(element); installed.delete(element); }
  for (const element of document.querySelectorAll("[data-hotkey]")) {
    const wanted = needsModifier(element.dataset.hotkey) || lettersOn();
    if (wanted && !installed.has(element)) { install(element); installed.add(element); }
    if (!wanted && installed.has(element)) { uninstall(element); installed.delete(element); }
  }
}

apply();
document.addEventListener("htmx:after:swap", apply);
// A key never acts behind an open dialog.
document.addEventListener("hotkey-fire", (event) => {
  const open = document.querySelector("dialog[open]");
  if (open && !open.contains(event.target)) event.preventDefault();
}, true);

const box = document.querySelector("[data-action=letters]");
if (box) {
  box.checked = lettersOn();
  box.addEventListener("change", () => {
    try { localStorage.setItem(KEPT, box.checked ? "on" : "off"); } catch { /* holds for this page only */ }
    apply();
  });
}
