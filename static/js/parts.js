// Parts of the page that may have changed are fetched together: one announcement, one request.
//
// - `data-live-get` on an element with an id names the address that draws it, `data-live-on` the kinds of announcements
//   that concern it ("inbox resync"); `data-live-with` is a selector of fields whose values go along, `data-live-into`
//   the id of what is drawn, where that is not the element itself.
// - What is told while a request is under way waits for its answer, so a burst costs at most one request more.
const FOLD_MS = 50; // announcements of one change come together
const KINDS = ["approval", "data", "health", "inbox", "presence", "resync", "run", "runs"];

const { body } = document;
const told = new Set();
let timer = 0, isUnderWay = false;

const all = () => [...document.querySelectorAll("[data-live-get]")];
const placeOf = (part) => part.dataset.liveInto ?? part.id;
const isConcerned = (part) => part.dataset.liveOn.split(" ").some((kind) => told.has(kind));

function addressOf(part) {
  const url = new URL(part.dataset.liveGet, location.href);
  const fields = part.dataset.liveWith ? document.querySelectorAll(part.dataset.liveWith) : [];
  for (const field of fields) url.searchParams.append(field.name, field.value);
  return url.pathname + url.search;
}

// A part inside of another one comes with it.
function wanted() {
  const found = all().filter(isConcerned);
  return found.filter((part) => !found.some((other) => other !== part && other.contains(part)));
}

async function fetchParts() {
  timer = 0;
  const parts = wanted();
  told.clear();
  if (!parts.length) return;
  isUnderWay = true;
  const given = new URLSearchParams(parts.map((part) => [placeOf(part), addressOf(part)]));
  const asked = new Map(parts.map((part) => [placeOf(part), part.dataset.liveGet]));
  const event = new CustomEvent("live:parts", { detail: { asked } });
  try {
    await htmx.ajax("GET", `${body.dataset.partsUrl}?${given}`, { source: body, target: body, swap: "none", event });
  } finally {
    isUnderWay = false;
    if (told.size) schedule();
  }
}

function schedule() {
  if (!timer && !isUnderWay) timer = setTimeout(fetchParts, FOLD_MS);
}

// Somebody went on meanwhile, to another request or another search: what was asked for before has no place any more,
// and what is there now may be older than the announcement.
document.addEventListener("htmx:before:swap", ({ detail }) => {
  const asked = detail.ctx.sourceEvent?.detail?.asked;
  if (!asked) return;
  const now = new Map(all().map((part) => [placeOf(part), part.dataset.liveGet]));
  const isSame = (task) => now.get(task.target?.id) === asked.get(task.target?.id);
  if (detail.tasks.some((task) => task.target && now.has(task.target.id) && !isSame(task))) told.add("resync");
  detail.tasks.splice(0, detail.tasks.length, ...detail.tasks.filter((task) => task.target && isSame(task)));
});

for (const kind of KINDS) {
  body.addEventListener(`live:${kind}`, () => { told.add(kind); schedule(); });
}
