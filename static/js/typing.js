// Keys while somebody types: Ctrl+Enter sends what was asked for, Escape leaves the box with its text.
import { say } from "./toasts.js";

const asked = new Map(); // id of a form -> the verdict that a button or a letter asked for last; a refresh redraws the form

document.addEventListener("click", (event) => {
  const button = event.target.closest?.("form[id] button[data-decide], form[id] button[data-needs]");
  if (button) asked.set(button.form.id, button.value);
}, true);
document.addEventListener("focusin", (event) => {
  const button = event.target.closest?.("form[id] button[data-decide]");
  if (button) asked.set(button.form.id, button.value);
});

// The one button that a form has or names first for Enter; of several verdicts the one that was asked for.
function meant(form) {
  const buttons = [...form.elements].filter((one) => one.matches("button[type=submit], button:not([type])"));
  if (buttons.length === 1 || buttons[0]?.matches(".vh")) return buttons[0];
  const verdicts = buttons.filter((one) => one.name === "verdict" || one.name === "action");
  if (!verdicts.length) return buttons[0];
  return verdicts.find((one) => one.value === asked.get(form.id));
}

document.addEventListener("keydown", (event) => {
  if (event.isComposing || !event.target.matches?.("textarea, input:not([type=checkbox], [type=radio])")) return;
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    const form = event.target.form;
    if (!form || form.method !== "post" || event.repeat) return;
    event.preventDefault();
    const button = meant(form);
    if (button) button.click(); else say("Press Escape and the letter of a verdict first, or its button: Ctrl+Enter then sends it.");
  }
  if (event.key === "Escape" && !event.target.closest("dialog")) {
    event.preventDefault(); // a search box would be emptied
    event.target.blur();
  }
});
