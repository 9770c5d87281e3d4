"""One archive that shows years later what was proposed, shown, decided and done, and lets anybody find a changed byte.

manifest.json                 SHA-256 of every file, what is missing and why, the chain's ends; holds its own digest
verify.py                     checks all of it; needs only Python
chain.jsonl                   the record from the first to the last entry about these requests, whole
approvals/<id>/approval.json  the request; versions.json, versions/<n>.json: the canonical bytes of each version
               card-<n>.html  what a reviewer was shown of that version, inert; card-<n>.txt the same as plain text
               decisions.json  receipt.json  comments.json  effect.json
               people are called as they were then; `..._now` is the present name of the same account
run/run.json                  the run; run/temporal.json, run/checkpoints.json: the engines' own histories
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from django.contrib.auth.models import User
from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection, transaction
from django.db.models import Max, Min
from django.template.loader import render_to_string

from approvals.errors import NoSuchApproval
from approvals.models import Approval, AuditEvent, Comment, Decision, ProposalVersion, Verdict
from approvals.policies.words import who_decides
from approvals.proposal.canonical import read_canonical
from approvals.reading.arguments import ArgumentRow, argument_rows_of
from approvals.reading.evidence import verify
from approvals.reading.evidence.names import NamesThen
from approvals.record import audit, heads
from console import ports
from console.clock import database_now
from console.ports import Executed
from console.text.visible import make_visible

FORMAT = 1


@dataclass(frozen=True)
class Exported:
    """What was written; `missing`: [{"what", "why"}]."""

    path: Path
    digest: str  # of the manifest; the record keeps it
    files: int
    missing: list[dict[str, str]]


@dataclass
class _Pack:
    files: dict[str, bytes] = field(default_factory=dict)
    missing: list[dict[str, str]] = field(default_factory=list)

    def add_json(self, name: str, value: Any) -> None:
        text = json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True, cls=_Exactly)
        self.files[name] = text.encode() + b"\n"


class _Exactly(DjangoJSONEncoder):
    """Moments to the microsecond; Django's encoder cuts them to milliseconds."""

    def default(self, value: Any) -> Any:
        return audit.moment(value) if isinstance(value, datetime) else super().default(value)


def export(about: str, path: Path) -> Exported:
    """Write the pack of one approval, or of a run with all its approvals, and note its digest in the record.

    An engine that is away is named in the manifest with the reason; the rest is written all the same.
    Raises NoSuchApproval when neither an approval nor a run with one has this id, OSError.
    """
    pack = _Pack()
    with _one_snapshot():  # a decision that comes meanwhile is in the rows and in the chain, or in neither
        approvals = _approvals(about)
        run_id = approvals[0].run_id
        effects = ports.agent_plane().effects_of([approval.pk for approval in approvals])
        for approval in approvals:
            _add_approval(pack, approval, effects.get(approval.pk))
        chain = _add_chain(pack, [run_id, *(approval.pk for approval in approvals)])
    engines = ports.run_histories()
    _add_history(pack, "run/run.json", "the run", engines.history_of_row, run_id)
    _add_history(pack, "run/temporal.json", "Temporal's history of the run", engines.history_in_temporal, run_id)
    what = "LangGraph's checkpoints of the run"
    _add_history(pack, "run/checkpoints.json", what, engines.history_in_checkpoints, run_id)
    pack.files["verify.py"] = Path(verify.__file__).read_bytes()
    head = heads.current()
    content = {
        "format": FORMAT,
        "about": about,
        "run": run_id,
        "approvals": [approval.pk for approval in approvals],
        "made_at": audit.moment(database_now()),
        "chain": chain,
        "head": {"seq": head.seq, "digest": head.digest} if head else None,
        "missing": pack.missing,
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in pack.files.items()},
    }
    manifest = verify.write_manifest(content)
    digest = hashlib.sha256(manifest).hexdigest()
    _write(path, {"manifest.json": manifest, **pack.files})
    with transaction.atomic():
        body = {"manifest": digest, "files": len(pack.files) + 1, "approvals": content["approvals"]}
        audit.record(actor="manage.py", kind="evidence.exported", subject=about, body=body)
    return Exported(path, digest, len(pack.files) + 1, pack.missing)


@contextmanager
def _one_snapshot() -> Iterator[None]:
    """Let every query of the block see the database as it was at the first one."""
    is_first = not connection.in_atomic_block
    with transaction.atomic():
        if is_first:
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield


def _approvals(about: str) -> list[Approval]:
    """Return the approval and the questions about its outcome, or all approvals of the run; oldest first."""
    rows = Approval.objects.select_related("requested_by").order_by("opened_at", "id")
    if not about.isprintable():
        raise NoSuchApproval(f"Neither an approval nor a run has the id {about!r}.")
    asked = rows.filter(pk=about).first()
    if asked is None:
        found = list(rows.filter(run_id=about))
        if not found:
            raise NoSuchApproval(f"Neither an approval nor a run with an approval has the id {about}.")
        return found
    questions = rows.filter(run_id=asked.run_id, kind=Approval.Kind.OUTCOME).exclude(pk=asked.pk)
    return [asked, *(one for one in questions if _arguments(one.canonical).get("approval_id") == asked.pk)]


def _arguments(canonical: bytes | memoryview) -> dict[str, Any]:
    return read_canonical(bytes(canonical))[1]


# One approval


def _add_approval(pack: _Pack, approval: Approval, effect: Executed | None) -> None:
    folder = f"approvals/{approval.pk}"
    versions = list(approval.versions.select_related("made_by").order_by("version"))
    decisions = list(approval.decisions.select_related("by", "on_behalf_of").order_by("number"))
    comments = list(approval.comments.select_related("by").order_by("at", "id"))
    people = [person for one in decisions for person in (one.by, one.on_behalf_of)] + [one.by for one in comments]
    names = NamesThen(approval, [approval.requested_by, *people])
    edits = {one.for_version: one.pk for one in decisions if one.verdict == Verdict.EDIT}
    pack.add_json(f"{folder}/approval.json", _facts(approval, names))
    pack.add_json(f"{folder}/versions.json", [_version_facts(one, names, edits.get(one.version)) for one in versions])
    for version in versions:
        pack.files[f"{folder}/versions/{version.version}.json"] = bytes(version.canonical)
        shown = _shown(approval, version)
        pack.files[f"{folder}/card-{version.version}.html"] = render_to_string(
            "approvals/evidence_card.html", shown
        ).encode()
        pack.files[f"{folder}/card-{version.version}.txt"] = _as_text(shown).encode()
    pack.add_json(f"{folder}/decisions.json", [_decision_facts(decision, names) for decision in decisions])
    receipt = approval.receipt.order_by("at", "id").values("step", "detail", "at")
    pack.add_json(f"{folder}/receipt.json", list(receipt))
    pack.add_json(f"{folder}/comments.json", [_comment_facts(one, names) for one in comments])
    pack.add_json(f"{folder}/effect.json", effect)


_KEPT = (
    *("id", "external_id", "kind", "source", "status", "version", "digest", "tool", "summary", "agent_words"),
    *(
        "arguments_schema",
        "risk",
        "agent",
        "agent_owners",
        "run_id",
        "interrupt_id",
        "interrupt_place",
        "checkpoint_id",
    ),
    *("dataset_versions", "policy_version", "terms", "audience", "people", "verdicts", "needed", "ladder"),
    *("opened_at", "due_at", "closed_at", "is_seeded"),
)


def _facts(approval: Approval, names: NamesThen) -> dict[str, Any]:
    facts = {name: getattr(approval, name) for name in _KEPT}
    return facts | _called("requested_by", approval.requested_by, names.when_opened(approval.requested_by))


def _version_facts(version: ProposalVersion, names: NamesThen, edit: str | None) -> dict[str, Any]:
    """`edit`: the id of the decision that made the version."""
    facts = {name: getattr(version, name) for name in ("version", "reason", "digest", "summary", "detail", "at")}
    return facts | _called("made_by", version.made_by, names.when_said(version.made_by, edit))


def _comment_facts(said: Comment, names: NamesThen) -> dict[str, Any]:
    facts = {"id": said.pk, "text": said.text, "at": said.at}
    return facts | _called("by", said.by, names.when_said(said.by, said.pk))


def _called(field: str, user: User | None, then: str | None) -> dict[str, str | None]:
    """Return an account's name as the record has it, and its present one beside it."""
    return {field: then, f"{field}_now": user.username if user else None}


def _decision_facts(decision: Decision, names: NamesThen) -> dict[str, Any]:
    kept = (
        *("id", "source", "verdict", "note", "version", "digest", "for_version", "for_digest"),
        *("edited_arguments", "answer", "channel", "dwell_ms", "body_digest", "at"),
    )
    people = {
        **_called("by", decision.by, names.when_said(decision.by, decision.pk)),
        **_called("on_behalf_of", decision.on_behalf_of, names.when_said(decision.on_behalf_of, decision.pk)),
    }
    return {name: getattr(decision, name) for name in kept} | people


def _shown(approval: Approval, version: ProposalVersion) -> dict[str, Any]:
    """Return what a reviewer was shown of this version, made anew from its bytes by the page's own functions."""
    tool, arguments = read_canonical(bytes(version.canonical))
    return {
        "approval": approval,
        "version": version,
        "tool": tool,
        "rows": argument_rows_of(arguments),
        "who": who_decides(approval, approval.given_terms),
        "canonical": bytes(version.canonical).decode(),
    }


def _as_text(shown: dict[str, Any]) -> str:
    approval, version = shown["approval"], shown["version"]
    rows: list[ArgumentRow] = shown["rows"]
    facts = [
        ("Request", approval.pk),
        ("Version", str(version.version)),
        ("What", version.summary),
        ("Tool", shown["tool"]),
        ("Risk", approval.risk),
        ("Agent", approval.agent),
        ("Run", approval.run_id),
        ("Who decides", shown["who"]),
        ("Due", audit.moment(approval.due_at)),
        ("SHA-256", version.digest),
    ]
    lines = [f"{name}: {make_visible(text)}" for name, text in facts]
    lines += ["", "Arguments, each with its exact JSON", *(_argument_line(row) for row in rows)]
    lines += ["", "The agent's own words, which nobody checked", make_visible(approval.agent_words) or "(none)"]
    return "\n".join(lines) + "\n"


def _argument_line(row: ArgumentRow) -> str:
    return f"  {make_visible(row.path) or '(all)'} = {make_visible(row.exact)}"


# The engines and the record


def _add_history(pack: _Pack, name: str, what: str, ask: Callable[[str], Any], run_id: str) -> None:
    try:
        pack.add_json(name, ask(run_id))
    except Exception as exc:  # noqa: BLE001  whatever keeps an engine from answering must not keep the rest unwritten
        pack.missing.append({"what": what, "why": f"{type(exc).__name__}: {exc}"[:500]})


def _add_chain(pack: _Pack, subjects: list[str]) -> dict[str, Any]:
    """Add the chain from the first to the last entry about the subjects; return how it begins and ends."""
    ends = AuditEvent.objects.filter(subject__in=subjects).aggregate(first=Min("seq"), last=Max("seq"))
    entries = list(AuditEvent.objects.filter(seq__gte=ends["first"], seq__lte=ends["last"]).order_by("seq"))
    lines = [json.dumps(_entry(entry), ensure_ascii=False, sort_keys=True) for entry in entries]
    pack.files["chain.jsonl"] = ("\n".join(lines) + "\n").encode()
    return {"follows": entries[0].previous, "last": entries[-1].digest, "entries": len(entries)}


def _entry(entry: AuditEvent) -> dict[str, Any]:
    names = ("seq", "actor", "kind", "subject", "body", "previous", "digest")
    return {name: getattr(entry, name) for name in names} | {"at": audit.moment(entry.at)}


def _write(path: Path, files: dict[str, bytes]) -> None:
    """Write the archive whole or not at all, readable by its owner only."""
    draft = path.with_name(f".{path.name}.new")
    try:
        draft.touch(mode=0o600)
        with zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
