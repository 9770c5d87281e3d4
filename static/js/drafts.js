// What somebody types into a form stays with that form, in this tab, until it was sent and taken: over a sign-in, a
// refusal, a refresh, a look at another page. It is kept for the account that the page was drawn for and goes when
// another one signs in, or this one signs out.
//
// - `data-draft` on a form tells it from others with the same address, and from itself drawn from something else.
// - `data-draft-step`: sending it leads to a next step only, so what was typed is kept beyond.
// - `data-draft-ends`, on a form: when it was taken, the draft of the form at this address goes too.
// - `data-draft-drop`, on a link: the draft of the form at this address goes.
// - `data-kept`: a place that shows what was typed into a form that is gone.
const { person } = document.body.dataset; // none on a page without the frame: the sign-in, an error in words
const MINE = `draft:${person}:`;
const SENT = "sent-form"; // the address of a form that left with the page

const storage = {
  get: (key) => { try { return sessionStorage.getItem(key); } catch { return null; } },
  set: (key, value) => { try { sessionStorage.setItem(key, value); } catch { /* the page itself still has it */ } },
  drop: (key) => { try { sessionStorage.removeItem(key); } catch { /* there is nothing */ } },
  keys: () => { try { return Object.keys(sessionStorage); } catch { return []; } },
};

const pathOf = (address) => new URL(address || location.pathname, location.href).pathname;
const addressOf = (form) => pathOf(form.getAttribute("action")); // a field may be called "action"
const keyOf = (form) => `${MINE}${addressOf(form)}${form.dataset.draft ? `#${form.dataset.draft}` : ""}`;
const draftOf = (form) => JSON.parse(storage.get(keyOf(form)) ?? "null");

function drop(path) {
  for (const key of storage.keys()) {
    if (key === MINE + path || key.startsWith(`${MINE}${path}#`)) storage.drop(key);
  }
}

// A secret is typed into a field of the type "password"; by its name nothing is one.
function isKept(field) {
  if (!field.name || field.readOnly) return false;
  return field.matches("textarea, select, input:not([type=hidden], [type=password], [type=file], [type=submit], [type=button])");
}

// A field by its name; of several with one name a choice by its value, others by their order.
function labelOf(field) {
  if (field.matches("[type=checkbox], [type=radio]")) return `${field.name}=${field.value}`;
  const alike = [...field.form.elements].filter((one) => one.name === field.name && isKept(one));
  return `${field.name}:${alike.indexOf(field)}`;
}

const isChoice = (field) => field.matches("[type=checkbox], [type=radio]");

const taken = new WeakSet(); // forms that were sent and taken, until somebody types into them again

function keep({ type, target }) {
  const form = target.form;
  if (type === "input") taken.delete(form);
  else if (taken.has(form)) return; // a box that had the focus tells of its change as it is taken away
  if (!person || !form || form.method !== "post" || !isKept(target)) return;
  const draft = draftOf(form) ?? {};
  const changed = target.type === "radio" ? [...form.elements].filter((one) => one.name === target.name) : [target];
  for (const field of changed) draft[labelOf(field)] = isChoice(field) ? field.checked : field.value;
  storage.set(keyOf(form), JSON.stringify(draft));
}
document.addEventListener("input", keep);
document.addEventListener("change", keep);

// Rows that were added to a list of a schema's form are added again before their fields can be filled: up to the last
// one that was typed into, for an empty one before it counts too.
function addRows(form, draft) {
  for (let more = true; more;) {
    more = false;
    for (const button of form.querySelectorAll("[data-row-new]:not([hidden])")) {
      if (button.closest("[data-offered]")) continue; // its row first, or the next empty one is drawn with items
      const offered = button.parentElement.querySelector(":scope > [data-schema-rows] > [data-offered]");
      const added = offered?.querySelector(":scope > .check [data-row-add]");
      if (added && !added.checked && isReached(offered.dataset.row, draft)) { button.click(); more = true; }
    }
  }
}

// Whether the draft holds something of this row or of a later one of the same list.
function isReached(row, draft) {
  const [list, index] = [row.replace(/\d+$/, ""), Number(/\d+$/.exec(row)[0])];
  return Object.keys(draft).some((label) => label.startsWith(list) && parseInt(label.slice(list.length), 10) >= index);
}

// Returns the fields that had another value.
function putBack(form, draft) {
  const changed = [];
  for (const field of form.elements) {
    const value = isKept(field) ? draft[labelOf(field)] : undefined;
    if (value === undefined || value === (isChoice(field) ? field.checked : field.value)) continue;
    if (isChoice(field)) field.checked = value; else field.value = value;
    changed.push(field);
  }
  return changed;
}

function fill(form) {
  const draft = draftOf(form);
  if (!draft) return;
  addRows(form, draft);
  const changed = putBack(form, draft);
  for (const field of changed) field.dispatchEvent(new Event("change", { bubbles: true })); // whoever counts them does
  putBack(form, draft); // what a script concluded from one field says nothing against what was chosen in another
  if (changed.length && form.querySelectorAll("label").length > 2) tell(form);
}

// Where much can be filled in, it is said that it was.
function tell(form) {
  if (form.querySelector(".draft-note")) return;
  const note = document.createElement("p");
  note.className = "draft-note";
  note.setAttribute("role", "status");
  const words = document.createElement("span");
  words.textContent = "What you had typed here is back.";
  const anew = document.createElement("button");
  anew.type = "button";
  anew.className = "link";
  anew.textContent = "Start over";
  anew.addEventListener("click", () => { storage.drop(keyOf(form)); location.reload(); });
  note.append(words, anew);
  const place = form.querySelector("[data-schema-form]");
  if (place) place.before(note); else form.prepend(note);
}

function fillAll() {
  if (!person) return;
  for (const form of document.querySelectorAll("form[method=post]")) fill(form);
  for (const place of document.querySelectorAll("[data-kept]")) {
    const area = place.querySelector("textarea");
    if (area.value) continue;
    const draft = JSON.parse(storage.get(MINE + pathOf(place.dataset.kept)) ?? "{}");
    area.value = Object.values(draft).filter((one) => typeof one === "string" && one.trim()).join("\n\n");
  }
}

// What an answer to a script says of the form that was sent.
document.addEventListener("htmx:after:request", ({ detail }) => {
  const { sourceElement: form, request, response } = detail.ctx;
  if (!form?.matches?.("form[method=post]") || request.method !== "POST") return; // a look, maybe by a link in a form
  if (response.status >= 400 || form.dataset.draftStep !== undefined) return;
  taken.add(form);
  drop(addressOf(form));
  if (form.dataset.draftEnds) drop(pathOf(form.dataset.draftEnds));
});

// A form that leaves with its page: the page that comes says whether it was taken.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (event.defaultPrevented || form.method !== "post" || form.hasAttribute("hx-post")) return;
  if (addressOf(form).endsWith("/accounts/logout/")) {
    for (const key of storage.keys()) if (key.startsWith("draft:")) storage.drop(key);
  } else if (form.dataset.draftStep === undefined) {
    storage.set(SENT, addressOf(form));
  }
});
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("[data-draft-drop]");
  if (link) drop(pathOf(link.dataset.draftDrop));
}, true);

function begin() {
  const sent = storage.get(SENT);
  storage.drop(SENT);
  if (!person) return; // not taken: the sign-in or a refusal in words came instead
  for (const key of storage.keys()) if (key.startsWith("draft:") && !key.startsWith(MINE)) storage.drop(key);
  const status = performance.getEntriesByType("navigation")[0]?.responseStatus || 200;
  if (sent && status < 400) drop(sent);
  fillAll();
}
begin();
document.addEventListener("htmx:after:swap", fillAll);
addEventListener("pageshow", (event) => { if (event.persisted) fillAll(); });
