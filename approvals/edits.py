"""A reviewer's change of the arguments, checked as strictly as the agent's own proposal was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.utils.module_loading import import_string

from approvals.digest import NotCanonical, canonicalise, digest_of
from approvals.errors import InvalidVerdict
from approvals.models import Approval
from approvals.summaries import summary_of


@dataclass(frozen=True)
class Checked:
    """What the tool's own model says of arguments: them as it reads them, the action in a sentence, or errors."""

    arguments: dict[str, Any]
    summary: str
    errors: list[dict[str, str]]  # [{"path", "message"}]


@dataclass(frozen=True)
class Edit:
    """Edited arguments as they will run. The tool is always the proposed one."""

    arguments: dict[str, Any]
    canonical: bytes
    digest: str
    summary: str


def checked_edit(approval: Approval, arguments: dict[str, Any]) -> Edit:
    """Check edited arguments against the tool and make their bytes. Raises InvalidVerdict with a path for each fault.

    The tools belong to the agent plane, which is asked by name; a program's own tool is checked by its schema.
    """
    try:
        canonicalise(approval.tool, arguments)  # before the schema, which would be asked about what cannot be kept
        check: Callable[..., Checked] = import_string("orchestration.selectors.check_arguments")
        checked = check(approval, arguments)
        if checked.errors:
            raise InvalidVerdict("edited_arguments", "The changed arguments do not fit the tool.", checked.errors)
        canonical = canonicalise(approval.tool, checked.arguments)
    except NotCanonical as exc:
        raise InvalidVerdict(".".join(map(str, ("edited_arguments", *exc.path))), str(exc)) from exc
    digest = digest_of(canonical)
    if digest == approval.digest:
        raise InvalidVerdict("edited_arguments", "Nothing was changed. Approve it as it is, or change something.")
    return Edit(checked.arguments, canonical, digest, summary_of(checked.summary))
