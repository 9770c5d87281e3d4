"""Which workflows a program may have signalled: the signal goes out under Signalbox's own credentials.

Never one of Signalbox's own: a run, a watch, a batch. Besides, `SIGNALBOX_SIGNALS` lists what each service account may
name: `account=namespace/signal` or `account=namespace/signal/beginning-of-the-workflow-id`, with commas between them.
An account that it names may use nothing else. What others name waits until an admin has confirmed it, see
`orchestration.signal_pairs`; an entry `*` lets them name anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from approvals.models import Approval
from console.environment import environment
from orchestration.errors import SignalRefused
from orchestration.models import Run, SignalPair

#: of workflows that are Signalbox's own: of watches, see approvals.services.requesting, and of batches
OWN_PREFIXES = ("watch-", "batch_")
EVERYBODY = "*"  # an account that the setting names stays held to what it lists


@dataclass(frozen=True)
class Grant:
    """What one account may have signalled."""

    account: str
    namespace: str
    signal: str
    workflow_prefix: str = ""  # "" is any


@lru_cache(maxsize=4)
def read_grants(text: str) -> tuple[Grant, ...]:
    """Read the setting. Raises ValueError in words for an entry that is none."""
    grants = []
    for entry in filter(None, (one.strip() for one in text.split(","))):
        if entry == EVERYBODY:
            grants.append(Grant(EVERYBODY, "", ""))
            continue
        account, is_there, rest = entry.partition("=")
        parts = rest.split("/", 2)
        if not (is_there and account.strip() and len(parts) >= 2 and all(parts)):
            raise ValueError(f"SIGNALBOX_SIGNALS: write {entry!r} as account=namespace/signal, or as *.")
        grants.append(Grant(account.strip(), *parts))
    return tuple(grants)


def refusal_of(account: str, temporal: Mapping[str, str]) -> str:
    """Return why the account may not have this workflow signalled, "" when it may. Three queries at most.

    `temporal`: {"workflow_id", "signal", "namespace"?}, as a program asks.
    """
    namespace, workflow_id, signal = namespace_of(temporal), temporal["workflow_id"], temporal["signal"]
    if is_own(namespace, workflow_id):
        return "This workflow is Signalbox's own: no program has it signalled."
    grants = [grant for grant in read_grants(environment().signals) if grant.account == account]
    fits = any(
        (grant.namespace, grant.signal) == (namespace, signal) and workflow_id.startswith(grant.workflow_prefix)
        for grant in grants
    )
    if fits:
        return ""
    if not grants:
        pair = SignalPair.objects.filter(account=account, namespace=namespace, signal=signal).first()
        is_refused = pair is not None and pair.state == SignalPair.State.REFUSED and needs_confirmation(account)
        return f"An admin refused that {account} may signal {signal} in {namespace}." if is_refused else ""
    return f"The account {account} may not have {signal} sent in {namespace}: an admin adds it to SIGNALBOX_SIGNALS."


def needs_confirmation(account: str) -> bool:
    """Return whether an admin has to confirm what the account names: the setting says nothing of it."""
    return not {account, EVERYBODY} & {grant.account for grant in read_grants(environment().signals)}


def namespace_of(temporal: Mapping[str, str]) -> str:
    """Return the namespace that the program means: ours where it names none."""
    return temporal.get("namespace") or environment().temporal_namespace


def check(account: str, temporal: Mapping[str, str]) -> None:
    """Raise SignalRefused where `refusal_of` says why."""
    if refusal := refusal_of(account, temporal):
        raise SignalRefused(refusal)


def is_own(namespace: str, workflow_id: str) -> bool:
    """Return whether a workflow is one of Signalbox's own. Two queries at most."""
    if namespace != environment().temporal_namespace:
        return False
    if workflow_id.startswith(OWN_PREFIXES) or Run.objects.filter(pk=workflow_id).exists():
        return True
    return Approval.objects.filter(run_id=workflow_id, source=Approval.Source.AGENT).exists()
