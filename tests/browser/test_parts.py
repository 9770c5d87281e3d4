"""What a page asks for when something changed: all parts that it shows, in as many answers as that takes."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

from playwright.sync_api import Browser, Route

from console.environment import PROJECT
from console.live.parts import MOST_PARTS
from tests.waiting import PATIENCE

SCRIPT = "/static/js/parts.js"
#: htmx as far as the script uses it: what is asked for is noted and answered
PAGE = """<!doctype html><title>Parts</title><body data-parts-url="/frame/parts/">%s
<script>
window.asked = [];
window.htmx = { ajax: async (verb, address, { event }) => {
  window.asked.push(address);
  const detail = { ctx: { sourceEvent: event, response: { status: 200 } } };
  document.dispatchEvent(new CustomEvent("htmx:after:request", { detail }));
} };
</script><script type="module" src="/static/js/parts.js"></script>"""


def test_more_parts_than_one_answer_holds_are_all_asked_for(chromium: Browser) -> None:
    names = [f"part-{number}" for number in range(MOST_PARTS + 5)]
    drawn = "".join(f'<p id="{name}" data-live-get="/of/{name}" data-live-on="resync"></p>' for name in names)

    def answer(route: Route) -> None:
        if urlsplit(route.request.url).path == SCRIPT:
            route.fulfill(body=(PROJECT / SCRIPT[1:]).read_text(), content_type="text/javascript")
        else:
            route.fulfill(body=PAGE % drawn, content_type="text/html; charset=utf-8")

    context = chromium.new_context()
    try:
        page = context.new_page()
        page.route("**/*", answer)
        page.goto("http://parts.test/")
        page.evaluate("document.body.dispatchEvent(new CustomEvent('live:resync'))")
        page.wait_for_function("window.asked.length === 2", timeout=PATIENCE * 1000)
        asked = [parse_qsl(urlsplit(address).query) for address in page.evaluate("window.asked")]
    finally:
        context.close()
    assert [len(group) for group in asked] == [MOST_PARTS, 5]
    assert [pair for group in asked for pair in group] == [(name, f"/of/{name}") for name in names]
