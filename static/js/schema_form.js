// Forms drawn from a schema: items are added at a click, and what is typed counts as set. Without this, an empty row
// stands at the end of each list, and the choice between "set" and "not set" is made by hand.

const OFFERED = ":scope > [data-offered]";
const LINKED = ["name", "id", "for", "aria-describedby", "href", "data-row", "data-row-id"];

function enhance() {
  for (const list of document.querySelectorAll("[data-schema-rows]")) {
    const offered = list.querySelector(OFFERED);
    const button = list.parentElement.querySelector(":scope > [data-row-new]");
    if (!offered || !button || offered.querySelector("[data-row-add]")?.checked) continue;
    offered.hidden = true;
    button.hidden = false;
  }
}

function renamed(text, from, to, ends) {
  return text === from || (text.startsWith(from) && ends.includes(text[from.length])) ? to + text.slice(from.length) : text;
}

// A copy of the empty row with the next index, so that there is always one to add.
function nextOf(row) {
  const copy = row.cloneNode(true);
  const index = copy.querySelector(":scope > input[type=hidden]");
  const next = String(Number(index.value) + 1);
  const [name, id] = [row.dataset.row, row.dataset.rowId];
  const named = name.slice(0, -index.value.length) + next;
  const identified = id.slice(0, -index.value.length) + next;
  for (const element of [copy, ...copy.querySelectorAll("*")]) {
    for (const attribute of LINKED) {
      const value = element.getAttribute(attribute);
      if (value === null) continue;
      const renamedOnce = renamed(value, name, named, ".");
      element.setAttribute(attribute, renamedOnce === value ? renamed(value, id, identified, "-") : renamedOnce);
    }
  }
  index.value = next;
  const label = copy.querySelector(":scope > .schema-item > * > legend, :scope > .schema-item > * > .schema-head > label");
  if (label) label.firstChild.textContent = label.firstChild.textContent.replace(/\d+(?=\D*$)/, String(Number(next) + 1));
  return copy;
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-row-new]");
  const row = button?.parentElement.querySelector(":scope > [data-schema-rows]")?.querySelector(OFFERED);
  if (!row) return;
  row.after(nextOf(row));
  row.hidden = false;
  row.removeAttribute("data-offered");
  row.querySelector(":scope > .check [data-row-add]").checked = true;
  row.querySelector("input:not([type=hidden]), select:not([data-schema-state]), textarea")?.focus();
});

// What is typed is meant: the parts around it count as set, the empty row as an item.
function countAsSet(event) {
  if (!event.target.closest?.("[data-schema-form]")) return;
  if (event.target.matches("[data-schema-state], [data-row-add], [data-row-remove]")) return;
  for (let part = event.target.parentElement; part && !part.matches("[data-schema-form]"); part = part.parentElement) {
    if (part.matches("[data-schema-part]")) {
      const state = part.querySelector(":scope > [data-schema-state], :scope > .schema-head > [data-schema-state]");
      if (state && (state.value === "absent" || state.value === "null")) state.value = "value";
    } else if (part.matches("[data-offered]")) {
      part.querySelector(":scope > .check [data-row-add]").checked = true;
    }
  }
}
document.addEventListener("input", countAsSet);
document.addEventListener("change", countAsSet);

enhance();
document.addEventListener("htmx:after:swap", enhance);
