"""What an operator may send to which workflow.

To a run's own workflow always; to another one where `SIGNALBOX_WORKFLOWS` names its namespace, or the beginning of its
id there. Never what carries an answer: a decision reaches a workflow from its row alone, so nobody writes one by hand.
"""

from __future__ import annotations

from functools import lru_cache

from approvals.models import Approval
from console.environment import environment
from orchestration.contracts import DECIDED, LOOK, RESUMED
from orchestration.messages.known import BUILT_IN
from orchestration.models import Run, SignalPair
from orchestration.signal_rules import is_own, read_grants

#: what wakes workflows of Signalbox's own, wherever they run
INTERNAL = frozenset({DECIDED, RESUMED, LOOK})
CLIENTS = "signalbox_answer"  # by which our client package has its answers sent


@lru_cache(maxsize=4)
def read_places(text: str) -> tuple[tuple[str, str], ...]:
    """Read the setting: namespaces, each with the beginning of ids or "". Raises ValueError in words."""
    places = []
    for entry in filter(None, (one.strip() for one in text.split(","))):
        namespace, _, prefix = entry.partition("/")
        if not namespace:
            raise ValueError(f"SIGNALBOX_WORKFLOWS: write {entry!r} as namespace, or as namespace/beginning-of-the-id.")
        places.append((namespace, prefix))
    return tuple(places)


def is_allowed(namespace: str, workflow_id: str) -> bool:
    """Return whether a workflow of somebody else's may be looked at and written to from here."""
    return any(
        namespace == place and workflow_id.startswith(prefix) for place, prefix in read_places(environment().workflows)
    )


def refusal_of(kind: str, namespace: str, workflow_id: str, name: str) -> str:
    """Return why this may not be sent there by hand, "" when it may. Five queries at most."""
    is_run = namespace == environment().temporal_namespace and Run.objects.filter(pk=workflow_id).exists()
    if not is_run and is_own(namespace, workflow_id):
        return "This workflow is Signalbox's own: nobody writes to it by hand."
    if not is_run and not is_allowed(namespace, workflow_id):
        return f"Workflows of {namespace} are not among those that SIGNALBOX_WORKFLOWS lists. An admin adds them there."
    if name.startswith("__") and not (kind == "query" and name in BUILT_IN):
        return "Names that begin with two underscores are Temporal's own."
    if kind == "signal" and carries_answers(namespace, name):
        return (
            f"By the signal “{name}” answers to requests arrive, so nobody sends it by hand. Decide the request: its "
            "answer is sent, and sent again from its page where it has not arrived."
        )
    return ""


def carries_answers(namespace: str, name: str) -> bool:
    """Return whether answers to requests arrive by this signal in the namespace. Two queries."""
    if name in INTERNAL or name == CLIENTS:
        return True
    if any((grant.namespace, grant.signal) == (namespace, name) for grant in read_grants(environment().signals)):
        return True
    if SignalPair.objects.filter(namespace=namespace, signal=name).exists():
        return True
    asked = Approval.objects.filter(source=Approval.Source.PROGRAM, deliver_to__temporal__signal=name)
    named = asked.values_list("deliver_to__temporal__namespace", flat=True).distinct()
    return any((found or environment().temporal_namespace) == namespace for found in named)
