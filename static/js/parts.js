// Parts of the page that may have changed are fetched together: one announcement, one request.
//
// - More parts than one answer holds are asked for in groups.
// - `data-live-get` on an element with an id names the address that draws it, `data-live-on` the kinds of announcements
//   that concern it ("inbox resync"); `data-live-with` is a selector of fields whose values go along, `data-live-into`
//   the id of what is drawn, where that is not the element itself.
// - What is told while a request is under way waits for its answer, so a burst costs at most one request more.
// - An answer that did not come is asked for again, later and later, so that no page stays as it was.
const FOLD_MS = 50; // announcements of one change come together
const AGAIN_MS = [1000, 60000]; // the first and the longest pause after an answer that did not come
const MOST = 40; // parts of one answer: MOST_PARTS in console/live/parts.py
const KINDS = ["approval", "batch", "batches", "data", "flow-run", "health", "inbox", "presence", "progress", "resync",
  "run", "runs", "system"];

const { body } = document;
const told = new Set();
let timer = 0, isUnderWay = false, isAnswered = false, failures = 0;

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

async function ask(addresses) {
  const event = new CustomEvent("live:parts", { detail: { asked: new Map(addresses) } });
  const address = `${body.dataset.partsUrl}?${new URLSearchParams(addresses)}`;
  await htmx.ajax("GET", address, { source: body, target: body, swap: "none", event });
}

async function fetchParts() {
  timer = 0;
  const parts = wanted();
  const kinds = [...told];
  told.clear();
  if (!parts.length) return;
  isUnderWay = true;
  const addresses = parts.map((part) => [placeOf(part), addressOf(part)]);
  try {
    do {
      isAnswered = false;
      await ask(addresses.splice(0, MOST));
    } while (isAnswered && addresses.length);
  } finally {
    isUnderWay = false;
    failures = isAnswered ? 0 : failures + 1;
    if (failures) for (const kind of kinds) told.add(kind);
    if (told.size) schedule();
  }
}

// Many pages wait for the same server, so each waits a time of its own.
function pause() {
  const [first, longest] = AGAIN_MS;
  return failures ? Math.min(first * 2 ** (failures - 1), longest) * (0.5 + Math.random() / 2) : FOLD_MS;
}

function schedule() {
  if (!timer && !isUnderWay) timer = setTimeout(fetchParts, pause());
}

// What is refused for good, such as after the end of a session, is no better later.
document.addEventListener("htmx:after:request", ({ detail }) => {
  const { sourceEvent, response } = detail.ctx;
  if (sourceEvent?.detail?.asked) isAnswered = response?.status < 500 && response.status !== 429;
});

// Somebody went on meanwhile, to another request, another search or the box for an answer: what was asked for before has
// no place any more, and what is there now may be older than the announcement.
document.addEventListener("htmx:before:swap", ({ detail }) => {
  const asked = detail.ctx.sourceEvent?.detail?.asked;
  if (!asked) return;
  const now = new Map(all().map((part) => [placeOf(part), addressOf(part)]));
  const isSame = (task) => now.get(task.target?.id) === asked.get(task.target?.id);
  if (detail.tasks.some((task) => task.target && now.has(task.target.id) && !isSame(task))) told.add("resync");
  detail.tasks.splice(0, detail.tasks.length, ...detail.tasks.filter((task) => task.target && isSame(task)));
});

for (const kind of KINDS) {
  body.addEventListener(`live:${kind}`, () => { told.add(kind); schedule(); });
}
