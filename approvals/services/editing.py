"""A reviewer's change of the arguments, checked as strictly as the agent's own proposal was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from approvals.errors import InvalidVerdict
from approvals.models import Approval, Verdict
from approvals.policies import asking
from approvals.proposal.canonical import NotCanonical, canonicalise, digest_of, read_canonical, touched
from approvals.proposal.summary import summary_of
from approvals.proposal.terms import Terms
from console import ports
from console.forms import schema_check
from console.ports import CheckedArguments


@dataclass(frozen=True)
class Edit:
    """Edited arguments as they will run. The tool is always the proposed one."""

    arguments: dict[str, Any]
    canonical: bytes
    digest: str
    summary: str


def fixed_for(approval: Approval, *terms: Terms) -> list[str]:
    """Return the names of the arguments that no change of this request may touch under any of the terms."""
    return [] if all(one.may_change_fixed for one in terms) else approval.fixed_arguments


def consider_edit(approval: Approval, arguments: dict[str, Any]) -> tuple[Edit, Terms]:
    """Check changed arguments and say under which terms they would stand; nothing is written.

    Raises InvalidVerdict with a path for each fault, also for what the policy never allows.
    """
    edit = _checked_edit(approval, arguments)
    _, exact = read_canonical(edit.canonical)  # as the policy is asked again before the effect: 30.0 is 30 there
    terms = asking.terms_now(approval, exact)
    if terms.outcome == "deny":
        raise InvalidVerdict("edited_arguments", f"The rule “{terms.rule}” never allows this. Change something else.")
    _check_fixed(approval, edit.arguments, approval.given_terms, terms)  # the rule that it leads under as well
    if terms.outcome == "ask" and Verdict.EDIT not in terms.verdicts:
        sentence = f"The rule “{terms.rule}”, which holds for these arguments, takes no change. Change something else."
        raise InvalidVerdict("edited_arguments", sentence)  # else it would be decided and then never done
    return edit, terms


def fixed_fault(approval: Approval, terms: Terms) -> str:
    """Return why nobody may agree to the current version under the terms: earlier changes touched what is fixed.

    "" where they may. A rule may have let it be changed that lets it no longer. A query where there is a later version.
    """
    if approval.version == 1 or not fixed_for(approval, terms):
        return ""
    first = bytes(approval.versions.values_list("canonical", flat=True).get(version=1))
    names = ", ".join(touched(approval.fixed_arguments, read_canonical(first)[1], approval.arguments))
    return f"{names}: changed since it was proposed; by the rule “{terms.rule}” nobody may." if names else ""


def _check_fixed(approval: Approval, arguments: dict[str, Any], *terms: Terms) -> None:
    """Refuse arguments that change what is fixed under any of the terms. Raises InvalidVerdict with a path for each."""
    fixed = fixed_for(approval, *terms)
    names = touched(fixed, approval.arguments, arguments)
    if names:
        errors = [{"path": name, "message": FIXED} for name in names]
        raise InvalidVerdict("edited_arguments", f"{', '.join(names)}: {FIXED}", errors)


FIXED = "This is fixed: with another one it would be another request. Reject it, and say what to ask for instead."


def _checked_edit(approval: Approval, arguments: dict[str, Any]) -> Edit:
    """Check edited arguments against the tool and make their bytes. Raises InvalidVerdict with a path for each fault.

    The tools belong to the agent plane, which is asked; of a program's own tool, and of one that an agent's graph holds
    itself, only the schema is known.
    """
    try:
        canonicalise(approval.tool, arguments)  # before the schema, which would be asked about what cannot be kept
        if approval.source == Approval.Source.PROGRAM or approval.dialect != "own":
            errors = schema_errors(approval.arguments_schema, arguments)
            checked = CheckedArguments(arguments, _summary(approval), errors)
        else:
            checked = ports.agent_plane().check_arguments(approval.agent, approval.tool, arguments)
        if checked.errors:
            raise InvalidVerdict("edited_arguments", "The changed arguments do not fit the tool.", checked.errors)
        canonical = canonicalise(approval.tool, checked.arguments)
    except NotCanonical as exc:
        raise InvalidVerdict(".".join(map(str, ("edited_arguments", *exc.path))), str(exc)) from exc
    digest = digest_of(canonical)
    if digest == approval.digest:
        raise InvalidVerdict("edited_arguments", "Nothing was changed. Approve it as it is, or change something.")
    return Edit(checked.arguments, canonical, digest, summary_of(checked.summary))


def _summary(approval: Approval) -> str:
    """Return the summary of a change; the agent's own sentence may be about the arguments that were changed."""
    return approval.summary if approval.source == Approval.Source.PROGRAM else f"{approval.tool}, changed"


def schema_errors(schema: dict[str, Any], value: Any) -> list[dict[str, str]]:
    """Hold a value against a stranger's schema: in bounded time, and nothing is fetched for it."""
    if not schema:
        return []
    try:
        faults = schema_check.check(schema, value)
    except schema_check.BrokenSchema as exc:
        return [{"path": "", "message": str(exc)}]
    return [{"path": ".".join(str(part) for part in fault.path), "message": fault.sentence} for fault in faults]
