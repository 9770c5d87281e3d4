// Long values are folded, counted, and approving waits until each was opened once. Without script all is in view.
const opened = new Set(); // keys of values that were opened: digest and number, so another version folds again

function fold(cell) {
  const key = cell.dataset.fold;
  cell.classList.toggle("folded", !opened.has(key));
  if (opened.has(key) || cell.querySelector(":scope > button")) return;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "btn";
  button.dataset.variant = "outline";
  button.dataset.size = "sm";
  button.textContent = `Show all ${Number(cell.dataset.length).toLocaleString("en")} characters`;
  button.addEventListener("click", () => {
    opened.add(key);
    button.remove();
    cell.classList.remove("folded");
    cell.tabIndex = -1;
    cell.focus({ preventScroll: true });
    tellAll();
  });
  cell.append(button);
}

const refused = new Set(); // ids of panels for which approving was refused: a live refresh draws the form as it was before
function showFault(button, left) {
  const fault = button.form.querySelector(".fault");
  fault.querySelector("[data-fault]").textContent = left ? words(left) : "";
  fault.hidden = !left;
}

const unread = (panel) => panel ? panel.querySelectorAll("[data-fold].folded").length : 0;

function tellAll() {
  for (const button of document.querySelectorAll("[data-reads]")) {
    const { reads } = button.dataset, left = unread(document.getElementById(reads));
    button.toggleAttribute("data-waits", left > 0);
    button.title = left ? words(left) : "";
    if (refused.has(reads)) showFault(button, left);
    if (!left) refused.delete(reads);
  }
}
const words = (left) => `Open the ${left === 1 ? "long value" : `${left} long values`} first: nothing is approved unread.`;

function foldAll() {
  for (const cell of document.querySelectorAll("[data-fold]")) fold(cell);
  tellAll();
}

// Capture: before the click becomes a submit.
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-reads]");
  const panel = button && document.getElementById(button.dataset.reads);
  const left = unread(panel);
  if (!left) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  refused.add(button.dataset.reads);
  showFault(button, left);
  const first = panel.querySelector("[data-fold].folded > button");
  first.scrollIntoView({ block: "center" });
  first.focus();
}, true);

foldAll();
document.addEventListener("htmx:after:swap", foldAll);
