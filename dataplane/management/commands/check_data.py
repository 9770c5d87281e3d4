"""Say what is wrong with the registrations of other people's deployments: `manage.py check_data`."""

from __future__ import annotations

from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError

from console.environment import environment
from dataplane import catalogue, registered
from dataplane.deployments import deployments
from dataplane.errors import PrefectError
from dataplane.registered import Registered

# Told, and no fault of the file's: the same file is right once somebody serves, or there is an address.
_NOT_ASKED: Final = "Prefect was not asked: no address is set"
_UNSERVED: Final = "nobody serves it now, so its runs wait"
_WARNINGS: Final = (_NOT_ASKED, _UNSERVED)


class Command(BaseCommand):
    requires_system_checks = ()
    help = "Check the file that registers other people's Prefect deployments, and ask Prefect about each of them."

    def handle(self, *args: Any, **options: Any) -> None:
        loaded = registered.load()
        faults = list(loaded.faults)
        for name in sorted(loaded.entries.keys() & catalogue.CATALOGUE.keys()):
            faults.append(f"{name}: the name is taken by a dataset that Signalbox makes itself")
        for entry in catalogue.others().values():
            found = _asked(entry) if environment().prefect_api_url else [_NOT_ASKED]
            kind = "job" if entry.is_job else "dataset"
            self.stdout.write(
                f"{kind} {entry.name}: {entry.flow}/{entry.deployment}" + ("" if found else ": as it should be")
            )
            for words in found:
                self.stdout.write(f"  {words}")
            faults += [f"{entry.name}: {words}" for words in found if words not in _WARNINGS]
        if faults:
            raise CommandError("\n".join(["This is wrong:", *faults]))
        self.stdout.write(f"{len(catalogue.others())} registered in {registered.path()}.")


def _asked(entry: Registered) -> list[str]:
    """Return what is wrong with the deployment as Prefect has it now."""
    try:
        found = deployments().find(entry.flow, entry.deployment)
    except PrefectError as exc:
        return [str(exc)]
    names = set(found.schema.get("properties") or {})
    words = []
    for what, given in (("shown", entry.shown or ()), ("fixed", entry.fixed), ("secret", entry.secret)):
        words += [f"parameters.{what}: the deployment has no parameter {name}" for name in given if name not in names]
    if not found.is_ready:
        words.append(_UNSERVED)
    return words
