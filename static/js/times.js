// "4 min ago", kept current; the exact moment in the reader's own zone on hover.
// Says the same as `relative` in console/templatetags/signalbox.py.
const exact = new Intl.DateTimeFormat(undefined, {
  weekday: "short", day: "2-digit", month: "short", year: "numeric",
  hour: "2-digit", minute: "2-digit", second: "2-digit", timeZoneName: "short", hourCycle: "h23",
});
const zoned = new Intl.DateTimeFormat(undefined, {
  weekday: "short", day: "2-digit", month: "short", year: "numeric",
  hour: "2-digit", minute: "2-digit", timeZoneName: "short", hourCycle: "h23",
});
// Moments are the server's, and a browser's clock may be hours wrong: the page says when the server made it.
// Small differences are the time that the page took to arrive.
const served = Number(document.body.dataset.liveSince) * 1000;
const ahead = Math.abs(served - Date.now()) > 5000 ? served - Date.now() : 0; // NaN, without the attribute, is not more
const UNITS = [[86400, 259200, "d"], [3600, 3600, "h"], [60, 60, "min"], [1, 1, "s"]];

function relative(moment, now = Date.now() + ahead) {
  const seconds = (now - moment) / 1000;
  const size = Math.abs(seconds);
  if (size < 10) return "just now";
  const [length, , unit] = UNITS.find(([, least]) => size >= least);
  const amount = `${Math.floor(size / length)} ${unit}`;
  return seconds < 0 ? `in ${amount}` : `${amount} ago`;
}

function refresh(root = document) {
  for (const time of root.querySelectorAll("time[data-relative]")) {
    const moment = Date.parse(time.dateTime);
    if (Number.isNaN(moment)) continue;
    const text = relative(moment);
    if (time.textContent !== text) time.textContent = text;
    const title = exact.format(moment);
    if (time.title !== title) time.title = title;
  }
  for (const time of root.querySelectorAll("time[data-zoned]")) { // the moment itself, in the reader's own zone
    const moment = Date.parse(time.dateTime);
    if (!Number.isNaN(moment) && time.textContent !== zoned.format(moment)) time.textContent = zoned.format(moment);
  }
}

// "29 Nov 01:14:05.123": where one moment is compared with the next. Says the same as `clock` in signalbox.py.
const clock = new Intl.DateTimeFormat("en-GB", {
  day: "2-digit", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3,
  hourCycle: "h23",
});
function clocks() {
  for (const time of document.querySelectorAll("time[data-clock]")) {
    const moment = Date.parse(time.dateTime);
    if (Number.isNaN(moment)) continue;
    const text = clock.format(moment).replace(",", "");
    if (time.textContent !== text) time.textContent = text;
    time.title = exact.format(moment);
  }
}

refresh();
clocks();
setInterval(refresh, 10_000);
document.addEventListener("htmx:after:swap", () => { refresh(); clocks(); });
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
