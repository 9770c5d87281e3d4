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
document.addEventListener("hotkey-fire", (event) => {
  const element = event.target;
  const open = document.querySelector("dialog[open]");
  // Never behind an open dialog, and never on what is not on the screen, such as a request behind the list of a phone.
  if ((open && !open.contains(element)) || (element.closest(".pane-detail") && !element.checkVisibility())) {
    event.preventDefault();
    return;
  }
  // At high risk a letter goes to the button, and Enter decides; asking for the reason first decides nothing.
  const note = element.dataset.needs && document.getElementById(element.dataset.needs);
  if (element.dataset.careful === undefined || (note && !note.value.trim())) return;
  event.preventDefault();
  element.focus();
}, true);
// A key that is held down acts once.
addEventListener("keydown", (event) => {
  const types = event.target.matches?.("input, textarea, select, [contenteditable]");
  if (event.repeat && !types && /^[aernsx]$/i.test(event.key)) event.stopImmediatePropagation();
}, true);

const box = document.querySelector("[data-action=letters]");
if (box) {
  box.checked = lettersOn();
  box.addEventListener("change", () => {
    try { localStorage.setItem(KEPT, box.checked ? "on" : "off"); } catch { /* holds for this page only */ }
    apply();
  });
}
