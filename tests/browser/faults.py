"""What is wrong with a page in a real Chromium: what axe finds, what is inline, cut off, or wider than the screen."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page

from console.environment import PROJECT

AXE = (PROJECT / "tests" / "vendor" / "axe.min.js").read_text()
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", event => violations.push(event.violatedDirective));
"""

#: resolves when every animation that has an end has come to it
SETTLED = """Promise.allSettled(document.getAnimations()
    .filter(one => one.effect.getTiming().iterations !== Infinity).map(one => one.finished))"""

#: what can be used and is not to be seen whole, or is too narrow to type in; what a reader can scroll to is no fault
CUT_OFF = """() => {
    const found = [];
    const usable = "main :is(a, button, input:not([type=hidden]), select, textarea, summary)";
    for (const one of document.querySelectorAll(usable)) {
        const box = one.getBoundingClientRect();
        const isSeen = one.checkVisibility({opacityProperty: true, visibilityProperty: true}) && !one.closest(".vh");
        if (!isSeen || box.width <= 1 || box.height <= 1) continue;
        const words = (one.getAttribute("aria-label") || one.textContent || one.name || "").trim().slice(0, 40);
        if (one.matches("input:not([type=checkbox], [type=radio], [type=file]), select, textarea") && box.width < 60) {
            found.push(`${one.localName} “${words}” is ${Math.round(box.width)} px wide`);
        }
        let left = 0, right = document.documentElement.clientWidth, canBeReached = false;
        for (let around = one.parentElement; around && !canBeReached; around = around.parentElement) {
            const style = getComputedStyle(around), edge = around.getBoundingClientRect();
            if (/auto|scroll/.test(style.overflowX) && around.scrollWidth > around.clientWidth) canBeReached = true;
            else if (style.overflowX !== "visible") {
                left = Math.max(left, edge.left);
                right = Math.min(right, edge.right);
            }
        }
        if (!canBeReached && (box.left < left - 1 || box.right > right + 1)) {
            found.push(`${one.localName} “${words}” is cut off`);
        }
    }
    return found;
}"""


def faults_of(page: Page) -> list[str]:
    """Return what is wrong with the page as it stands, in words; what is fading in is waited for."""
    page.evaluate(SETTLED)
    page.evaluate(AXE)
    found: dict[str, Any] = page.evaluate("tags => axe.run(document, {runOnly: {type: 'tag', values: tags}})", RULES)
    faults = [f"{one['id']}: {one['nodes'][0]['html'][:120]}" for one in found["violations"]]
    faults += page.evaluate("window.violations")
    faults += page.evaluate(CUT_OFF)
    if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
        faults.append("the page is wider than the screen")
    return faults
