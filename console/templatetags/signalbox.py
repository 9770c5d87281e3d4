"""How icons, states and moments are drawn, once for every page. Nothing here decides anything."""

from __future__ import annotations

import json
import re
import unicodedata
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from typing import Any

from django import template
from django.templatetags.static import static
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from console.clock import shown_now
from console.keys import KEYS
from console.text.markdown import to_inert_html

register = template.Library()

#: state word -> (tone, icon, label); a state is never shown by its colour alone
STATES: dict[str, tuple[str, str, str]] = {
    # approvals
    "pending": ("warn", "circle-pause", "Waiting"),
    "decided": ("info", "circle-check", "Decided"),
    "expired": ("neu", "timer-off", "Expired"),
    "withdrawn": ("neu", "circle-slash", "Withdrawn"),
    "approve": ("ok", "check", "Approved"),
    "edit": ("ok", "pencil", "Approved with change"),
    "reject": ("bad", "x", "Rejected"),
    "respond": ("info", "message-circle", "Answered"),
    # runs and flow runs
    "starting": ("info", "circle-dashed", "Starting"),
    "running": ("info", "loader-circle", "Running"),
    "waiting": ("warn", "circle-pause", "Waiting"),
    "paused": ("warn", "pause", "Paused"),
    "finished": ("ok", "circle-check", "Finished"),
    "failed": ("bad", "circle-x", "Failed"),
    "cancelled": ("neu", "circle-slash", "Cancelled"),
    # batches and their rows
    "feeding": ("info", "loader-circle", "Under way"),
    "not_started": ("neu", "circle-dashed", "Not started"),
    # refreshes
    "scheduled": ("neu", "clock", "Scheduled"),
    "published": ("ok", "circle-check", "Published"),
    "unchanged": ("neu", "circle-minus", "Unchanged"),
    # effects
    "executing": ("info", "loader-circle", "Executing"),
    "done": ("ok", "circle-check", "Done"),
    "unknown": ("bad", "circle-help", "Unknown"),
    # risks
    "low": ("neu", "shield-check", "Low risk"),
    "medium": ("warn", "triangle-alert", "Medium risk"),
    "high": ("bad", "triangle-alert", "High risk"),
    # parts
    "ok": ("ok", "circle-check", "Working"),
    "away": ("bad", "circle-x", "Away"),
}

#: state word -> (tone, icon) at the head of a row
TICKS: dict[str, tuple[str, str]] = {
    "pending": ("warn", "circle-dot"),
    "decided": ("", "circle-check"),
    "expired": ("", "timer-off"),
    "withdrawn": ("", "circle-slash"),
    "approve": ("ok", "circle-check"),
    "edit": ("ok", "circle-check"),
    "reject": ("bad", "circle-x"),
    "respond": ("", "circle-check"),
}

#: Keeps what was drawn of the same texts. Typed: a text that is safe as it is equals one that is to be escaped.
drawn_once = lru_cache(maxsize=2048, typed=True)


@register.simple_tag
@cache
def icon(name: str) -> SafeString:
    """Draw one icon of the sprite, for the eye only. A list draws hundreds of the same few."""
    return format_html(
        '<svg class="ic" aria-hidden="true"><use href="{}#{}"></use></svg>',
        static("vendor/lucide/icons.svg"),
        name,
    )


@register.simple_tag
@cache
def hotkey(name: str) -> SafeString:
    """Make the link or button listen to the key that the table of keys has under this name."""
    return format_html('data-hotkey="{}"', KEYS[name].hotkey)


@register.simple_tag
@cache
def key(name: str) -> SafeString:
    """Draw the key of this name, for the eye only: the help says it to everybody."""
    return format_html('<kbd class="k" aria-hidden="true">{}</kbd>', KEYS[name].shown)


@register.simple_tag
def helped_keys() -> list[tuple[list[str], str]]:
    """Return for the help each key, in its parts, and what it does."""
    return [(one.shown.split(), one.words) for one in KEYS.values() if one.is_helped]


@register.simple_tag
@cache
def tick(word: str) -> SafeString:
    """Draw the state of a request as the icon that its row in a list begins with."""
    tone, symbol = TICKS.get(word, ("", "circle-slash"))
    return format_html('<span class="tick {}">{}</span>', tone, icon(symbol))


@register.simple_tag
@drawn_once
def status(word: str, label: str = "") -> SafeString:
    """Draw a state as icon, word and tone. A word nobody taught us is shown as it is."""
    tone, symbol, known = STATES.get(str(word), ("neu", "circle-dot", str(word)))
    return tag(label or known, tone, symbol)


@register.simple_tag
@drawn_once
def tag(text: str, tone: str = "neu", symbol: str = "") -> SafeString:
    """Draw a small label; `tone`: neu, ok, warn, bad, info or vio."""
    return format_html('<span class="tone {}">{}{}</span>', tone, icon(symbol) if symbol else "", text)


@register.simple_tag
def when(moment: datetime | str | None, missing: str = "never") -> SafeString:
    """Show a moment as "4 min ago", exact on hover; the browser keeps it current in the reader's zone."""
    if not moment:
        return format_html('<span class="muted">{}</span>', missing)
    instant = (datetime.fromisoformat(moment) if isinstance(moment, str) else moment).astimezone(UTC)
    return format_html(
        '<time datetime="{}" title="{}" data-relative>{}</time>',
        instant.isoformat(timespec="milliseconds"),
        f"{instant:%a %d %b %Y, %H:%M:%S UTC}",
        relative(instant, shown_now()),
    )


#: layer -> icon in front of its rows, and by kind where that says more
_LAYERS: dict[str, str] = {
    "console": "user",
    "temporal": "timer",
    "langgraph": "git-commit-horizontal",
    "prefect": "database",
    "world": "zap",
}
_KINDS: dict[str, str] = {
    "request": "circle-help",
    "delivery": "send",
    "interrupt": "circle-pause",
    "node": "loader-circle",
    "activity": "cpu",
    "pending_activity": "rotate-cw",
    "signal": "radio",
    "child": "workflow",
    "workflow": "workflow",
    "flow_run": "wind",
}
_ENTRY_STATES: dict[str, tuple[str, str, str]] = {
    "running": ("info", "loader-circle", "Running"),
    "waiting": ("warn", "circle-pause", "Waiting"),
    "failed": ("bad", "circle-x", "Failed"),
    "unknown": ("bad", "circle-help", "Unknown"),
}


@register.simple_tag
@cache
def layer_icon(layer: str, kind: str) -> SafeString:
    """Draw what a row of the timeline is about, and say its layer."""
    return format_html('{}<span class="vh">{}</span>', icon(_KINDS.get(kind, _LAYERS.get(layer, "circle"))), layer)


@register.simple_tag
@cache
def entry_state(state: str) -> SafeString:
    """Draw the state of a row of the timeline, where it is not simply done."""
    tone, symbol, words = _ENTRY_STATES.get(state, ("neu", "circle", state))
    return tag(words, tone, symbol)


@register.simple_tag
def clock(moment: datetime) -> SafeString:
    """Show a moment to the millisecond; the browser writes it in the reader's zone."""
    instant = moment.astimezone(UTC)
    return format_html(
        '<time datetime="{}" title="{}" data-clock>{}</time>',
        instant.isoformat(timespec="milliseconds"),
        f"{instant:%a %d %b %Y, %H:%M:%S UTC}",
        f"{instant:%d %b %H:%M:%S}.{instant.microsecond // 1000:03}",
    )


@register.filter
def lasting(span: timedelta | None) -> str:
    """Return a length as people say it: "340 ms", "12.3 s", "3 h 12 min"; "" for none."""
    if span is None:
        return ""
    seconds = span.total_seconds()
    if seconds < 1:
        return f"{round(seconds * 1000)} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    for length, unit, smaller, small_unit in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= length:
            rest = int(seconds % length // smaller)
            return f"{int(seconds // length)} {unit}" + (f" {rest} {small_unit}" if rest else "")
    return ""


@register.simple_tag
def due(moment: datetime, state: str = "pending") -> SafeString | str:
    """Warn when a request's deadline is less than a day away; say nothing otherwise."""
    now = shown_now()
    if state != "pending" or moment - now > timedelta(days=1):
        return ""
    return tag("Due now" if moment <= now else f"Due {relative(moment, now)}", "warn", "hourglass")


def relative(moment: datetime, now: datetime) -> str:
    """Return the distance in the largest sensible unit; `static/js/times.js` says it the same way."""
    seconds = (now - moment).total_seconds()
    size = abs(seconds)
    if size < 10:
        return "just now"
    for length, least, unit in ((86_400, 3 * 86_400, "d"), (3_600, 3_600, "h"), (60, 60, "min"), (1, 1, "s")):
        if size >= least:
            amount = f"{int(size // length)} {unit}"
            break
    return f"in {amount}" if seconds < 0 else f"{amount} ago"


@register.filter
def span(length: timedelta | None) -> str:
    """Show how long something took, in its two largest units: "12 s", "4 min 10 s", "3 h 5 min", "2 d 4 h"."""
    if length is None:
        return ""
    left, told = max(0, int(length.total_seconds())), list[str]()
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")):
        if left >= size or (size == 1 and not told):
            told.append(f"{left // size} {unit}")
            left %= size
        elif told:
            break
    return " ".join(told[:2])


@register.simple_tag
def live_now() -> str:
    """Return the database's time for `data-live-since`: what was announced later is not on this page."""
    return f"{shown_now().timestamp():.2f}"


@register.filter
def initials(name: str) -> str:
    """Return up to two capitals for the round picture beside a person's name; letters and digits that can be seen."""
    words = [letters for word in _BETWEEN_WORDS.split(name) if (letters := "".join(filter(_is_seen, word)))]
    letters = "".join(word[0] for word in words[:2]) if len(words) > 1 else "".join(words)[:2]
    return letters.upper()


def _is_seen(char: str) -> bool:
    return unicodedata.category(char)[0] in "LN" and char not in _FILLERS


_BETWEEN_WORDS = re.compile(r"[\s._]+")
_FILLERS = "\u115f\u1160\u3164\uffa0"  # of Hangul: letters that print as nothing


@register.filter
def one_line(value: Any) -> str:
    """Return the values of an object, or any JSON, as one line to recognise it by."""
    if isinstance(value, dict):
        return " · ".join(str(part) if isinstance(part, str) else exact_json(part) for part in value.values())
    return exact_json(value)


@register.filter
def exact_json(value: Any) -> str:
    """Return the value as JSON on one line, every character outside ASCII kept."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


@register.filter
def pretty_json(value: Any) -> str:
    """Return the value as indented JSON; what JSON does not know is shown by its name."""
    return json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True, default=str)


@register.filter
def inert_markdown(text: str) -> SafeString:
    """Draw Markdown that somebody else wrote; nothing in it acts."""
    return mark_safe(to_inert_html(text))
