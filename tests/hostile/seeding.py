"""Put the corpus into a running stack's database: `python -m tests.hostile.seeding`, in the stack's environment.

Prints what was made, as JSON. Services are called as a turn calls them; no engine takes part, and the run is over.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from ulid import ULID

from .corpus import CORPUS, bundles

NOTE_LENGTH, SUMMARY_LENGTH, NAME_LENGTH = 4000, 500, 100


def seed() -> dict[str, Any]:
    """Make requests that carry every text as an argument and in words, and more that carry one in each name."""
    from django.contrib.auth.models import User

    from approvals import services
    from approvals.models import Approval, PolicyVersion
    from approvals.policies import shipped
    from approvals.proposal.canonical import canonicalise, digest_of
    from approvals.services import Answer, Proposal
    from orchestration.models import Run

    texts = {name: hostile.text for bundle in bundles() for name, hostile in bundle.items()}
    active = {name: text for name, text in texts.items() if "<" in text or ":" in text}
    run = Run.objects.create(
        id=f"support-{str(ULID()).lower()}",
        agent="support",
        input=active,
        input_digest="0" * 64,
        status=Run.Status.FAILED,
        error={"kind": "ToolFailed", "message": "\n".join(texts.values())},
        result=active,
    )

    def open_one(
        arguments: dict[str, Any], summary: str, words: str, name: str = "pay", risk: str = "high"
    ) -> Approval:
        tool = name if 0 < len(name) <= NAME_LENGTH else "pay"
        canonical = canonicalise(tool, arguments)
        properties = {key: {"type": "string", "title": key, "description": words[:500]} for key in arguments}
        fields: dict[str, Any] = {
            "external_id": str(ULID()),
            "kind": "action",
            "canonical": canonical,
            "digest": digest_of(canonical),
            "summary": summary[:SUMMARY_LENGTH],
            "agent_words": words,
            "arguments_schema": {"type": "object", "properties": properties},
            "risk": risk,
            "agent": tool,
            "run_id": run.pk,
            "interrupt_id": str(ULID()),
            "checkpoint_id": "",
            "requested_by_id": None,
        }
        return services.open_approval(Proposal(**fields))

    whole = []
    for bundle in bundles():
        arguments = {name: hostile.text for name, hostile in bundle.items()}
        approval = open_one(arguments, "Everything at once", "\n".join(arguments.values()))
        whole.append({"id": approval.pk, "names": list(bundle)})
    named = {}
    for hostile in CORPUS:
        if len(hostile.text) <= SUMMARY_LENGTH:
            named[open_one({hostile.text: "x"}, hostile.text, hostile.text, hostile.text).pk] = hostile.name
    alice = User.objects.get(username="alice")
    decided = []
    for note in _joined(texts.values()):
        approval = open_one({"a": "b"}, "Rejected", "")
        given = Answer(verdict="reject", version=approval.version, digest=approval.digest, note=note)
        services.decide(
            approval_id=approval.pk, reviewer=alice, given=given, circumstances=services.Circumstances("page")
        )
        decided.append(approval.pk)
    together = []
    for words in ("one", "other"):
        arguments = {text[:200]: f"{text[:500]}{words}" for text in texts.values()}
        together.append(open_one({"of": words, "the": arguments}, words, "\n".join(active.values()), risk="low").pk)
    # Behind the rules that hold, and about tools that nobody has: nothing is decided by them.
    rules = [{"name": text[:80], "match": {"tools": [text[:100]]}, "people": [text[:100]]} for text in texts.values()]
    fields = {"rules": [*shipped.RULES, *rules], "calendars": shipped.CALENDARS, "made_by": alice}
    first = PolicyVersion.objects.count() + 1
    PolicyVersion.objects.bulk_create(
        PolicyVersion(**fields, version=number, state=PolicyVersion.State.REFUSED, note=text[:500])
        for number, text in enumerate(active.values(), start=first)
    )
    policy = first + len(active)
    PolicyVersion.objects.create(
        **fields, version=policy, state=PolicyVersion.State.PROPOSED, note="\n".join(active)[:500]
    )
    return {
        "run": run.pk,
        "whole": whole,
        "named": named,
        "decided": decided,
        "together": together,
        "policy": policy,
    }


def _joined(texts: Any) -> list[str]:
    """Return the texts on lines of their own, as few comments as the limit allows."""
    notes = [""]
    for text in texts:
        if len(text) > NOTE_LENGTH:
            continue
        if len(notes[-1]) + len(text) + 1 > NOTE_LENGTH:
            notes.append("")
        notes[-1] += f"{text}\n"
    return notes


if __name__ == "__main__":
    import django

    django.setup()
    sys.stdout.write(json.dumps(seed()))
