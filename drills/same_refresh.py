"""Failure 5: the same refresh is asked for again: at once, afterwards, and while its flow is being killed.

Each trial reads a folder of its own below the drill's handbook, with a sentence that no other has, so that it must
publish something new. The folder is a copy of the whole handbook: runs of other failures find what they need.
"""

from __future__ import annotations

import asyncio
import shutil
import uuid
from http import HTTPStatus

import httpx

from drills.checks import first_of
from drills.errors import NotInTime, NotStruck
from drills.stage import Lost, Row, has_been_hit
from drills.trials import Fault
from drills.waiting import PATIENCE, until

CLIENTS = 8


class NewContent(Fault):
    """A refresh that will publish what was never published before."""

    invariant = "one version, one write, all answers agree"

    async def steady(self) -> None:
        self.key = f"drill-{uuid.uuid4().hex[:10]}"
        folder = self.stage.handbook / self.key
        await asyncio.to_thread(
            shutil.copytree, self.stage.handbook, folder, ignore=shutil.ignore_patterns("drill-*", "later-*")
        )
        page = folder / "email-tone.md"
        page.write_text(f"{page.read_text()}\n## Drill\nThis page was changed by the drill {self.key}.\n")
        self.before = await self.versions()

    async def ask(self, key: str = "", lost: list[Lost] | None = None) -> httpx.Response:
        body = {"key": key or self.key, "parameters": {"folder": self.key}}
        return await self.stage.ask("ada", "/datasets/handbook/refresh", body, lost=lost)

    async def asked(self, key: str = "") -> Row:
        answer = await self.ask(key)
        if not answer.is_success:
            raise RuntimeError(f"refresh {key or self.key}: {answer.text[:300]}")
        refresh: Row = answer.json()["refresh"]
        return refresh

    async def ended(self, refresh_id: str) -> Row:
        """Wait until the refresh has ended, and read it as people do."""

        async def look() -> list[Row]:
            return await self.stage.sql(
                "SELECT 1 FROM dataplane_refresh WHERE id = %s AND status NOT IN ('scheduled', 'running')",
                [refresh_id],
            )

        await until(look, f"the end of refresh {refresh_id}")
        return await self.stage.get("ada", f"/refreshes/{refresh_id}")

    async def versions(self) -> list[Row]:
        """Return the versions whose passages hold this trial's sentence, with the passages written for each."""
        return await self.stage.sql(
            "SELECT v.version, v.digest, v.rows, (SELECT count(*) FROM dataplane_passage p WHERE p.version_id = v.id)"
            " AS written FROM dataplane_datasetversion v WHERE EXISTS (SELECT 1 FROM dataplane_passage p"
            " WHERE p.version_id = v.id AND p.text LIKE %s)",
            [f"%changed by the drill {self.key}%"],
        )

    async def judge(self) -> None:
        refresh = await self.ended(self.refresh_id)
        if refresh["status"] != "published":
            self.trial.seen.append(f"refresh {self.refresh_id} is {refresh['status']}: {refresh['error']}")
        versions = await self.versions()
        if len(versions) != 1 or versions[0]["rows"] != versions[0]["written"]:
            self.trial.seen.append(f"key {self.key} wrote {versions}, not one whole version")
        elif refresh["version"] != versions[0]["version"]:
            self.trial.seen.append(f"refresh {self.refresh_id} names version {refresh['version']}: {versions}")
        rows = await self.stage.sql("SELECT id FROM dataplane_refresh WHERE key = %s", [self.key])
        if [row["id"] for row in rows] != [self.refresh_id]:
            self.trial.seen.append(f"key {self.key} has the refreshes {rows}")
        again = await self.asked()
        if {name: again[name] for name in ("id", "status", "version")} != {
            "id": self.refresh_id,
            "status": refresh["status"],
            "version": refresh["version"],
        }:
            self.trial.seen.append(f"asked again, {again} is not {refresh}")
        runs = [
            run
            for run in (await self.stage.get("ada", "/flow-runs?flow=refresh_handbook&limit=200"))["items"]
            if (run["parameters"] or {}).get("key") == self.key
        ]
        if len(runs) != 1:
            self.trial.seen.append(f"key {self.key} has {len(runs)} flow runs: {[run['id'] for run in runs]}")

    refresh_id = ""


class AtOnce(NewContent):
    name = f"the same key from {CLIENTS} clients at once"

    async def strike(self) -> None:
        lost: list[Lost] = []
        answers = await asyncio.gather(*(self.ask(lost=lost) for _ in range(CLIENTS)))
        self.expect(first_of(answers, HTTPStatus.CREATED, HTTPStatus.OK, lost))
        ids = {answer.json()["refresh"]["id"] for answer in answers if answer.is_success}
        if len(ids) != 1:
            raise NotStruck(f"the answers name {ids}")
        self.refresh_id = ids.pop()

    async def recover(self) -> None:
        await self.ended(self.refresh_id)


class OneAfterTheOther(NewContent):
    """The same key while it runs and when it has ended; then the same content under a second key of the day."""

    name = "the same key again, then a second key"
    invariant = "one version, one write; the second key finds it unchanged"

    async def strike(self) -> None:
        self.refresh_id = (await self.asked())["id"]
        answers = [await self.asked() for _ in range(3)]
        if {answer["id"] for answer in answers} != {self.refresh_id}:
            self.trial.seen.append(f"asked again: {answers}")

    async def recover(self) -> None:
        await self.ended(self.refresh_id)
        second = await self.ended((await self.asked(f"{self.key}-second"))["id"])
        versions = await self.versions()
        # "published" when another trial's content was current in between: its own old version is current again.
        if second["status"] not in ("unchanged", "published") or len(versions) != 1:
            self.trial.seen.append(f"the second key ended as {second}, with {versions}")
        elif second["version"] != versions[0]["version"]:
            self.trial.seen.append(f"the second key names version {second['version']}: {versions}")


class KilledAt(NewContent):
    """A flow's process is killed at a point of its life."""

    point: str
    action = "kill"

    @property
    def subject(self) -> str:
        """Whom the point is reached for."""
        return self.refresh_id

    async def strike(self) -> None:
        """Ask, and arm at once: the flow's process needs seconds to come so far."""
        self.refresh_id = (await self.asked())["id"]
        self.stage.arm(self.point, self.subject, self.action)

    async def recover(self) -> None:
        await self.stage.fired(self.point, self.subject)
        answers = await asyncio.gather(*(self.asked() for _ in range(3)))
        if {answer["id"] for answer in answers} != {self.refresh_id}:
            self.trial.seen.append(f"asked again while it was dead: {answers}")
        await self.ended(self.refresh_id)


class KilledAtStart(KilledAt):
    name, point = "flow process killed as it starts", "flow.at_start"

    async def strike(self) -> None:
        self.stage.arm(self.point, self.subject, self.action)
        self.refresh_id = (await self.asked())["id"]

    @property
    def subject(self) -> str:
        return self.key


class KilledAfterClaim(KilledAt):
    name, point = "flow process killed once the refresh is its own", "flow.after_claim"


class KilledDuringLoad(KilledAt):
    name, point = "flow process killed while it reads", "flow.during_load"


class KilledBeforeEmbed(KilledAt):
    name, point = "flow process killed before it makes vectors", "flow.before_embed"


class KilledAfterEmbed(KilledAt):
    name, point = "flow process killed with its vectors made", "flow.after_embed"


class KilledBeforePublish(KilledAt):
    name, point = "flow process killed before it publishes", "flow.before_publish"


class KilledInPublish(KilledAt):
    name, point = "flow process killed with the dataset's lock in hand", "flow.in_publish"


class KilledInCopy(KilledAt):
    name, point = "flow process killed with half of the rows on their way", "flow.in_copy"


class KilledBeforeCommit(KilledAt):
    name, point = "flow process killed before it commits", "flow.before_commit"


class KilledAfterPublish(KilledAt):
    name, point = "flow process killed after it published", "flow.after_publish"


class KilledBeforeEnd(KilledAt):
    name, point = "flow process killed before Prefect knows its end", "flow.before_end"


class FlowsKilled(KilledAt):
    """Flow runs stand before their publication when their host, the part `flows`, is killed.

    One kill, by the last, strikes all trials of a round: each refresh may die three times, no more.
    """

    name, point = "the part `flows` killed before it publishes", "flow.before_publish"
    action = "freeze"
    together: list[FlowsKilled]

    async def steady(self) -> None:
        await super().steady()
        self.together = _BATCHES.setdefault((id(self.stage), self.trial.round), [])

    async def strike(self) -> None:
        await super().strike()
        self.together.append(self)
        if not self.trial.is_last_of_round:
            return
        fired = await asyncio.gather(*(self.stage.fired(one.point, one.refresh_id) for one in self.together))
        pid = self.stage.stack.kill("flows")

        async def all_gone() -> bool:
            return all(has_been_hit(one.pid, "kill") for one in fired)

        try:
            await until(all_gone, f"the death of the flow processes {fired}")
        except NotInTime as exc:
            raise NotStruck(str(exc)) from exc
        self.stage.history.note("struck", f"pid {pid}", self.name, flows=[one.pid for one in fired])
        await asyncio.to_thread(self.stage.stack.wait_ready, ["flows"], PATIENCE)

    async def recover(self) -> None:
        await self.ended(self.refresh_id)


_BATCHES: dict[tuple[int, int], list[FlowsKilled]] = {}
FAULTS: tuple[type[Fault], ...] = (AtOnce, OneAfterTheOther, KilledBeforePublish, KilledAfterPublish)
ALONE: tuple[type[Fault], ...] = (FlowsKilled,)  # its strike would hit the others' flow runs
#: the rest of a refresh's life; one group after the other, for each refresh has a process and they share two cores
POINTS: tuple[tuple[type[Fault], ...], ...] = (
    (KilledAtStart, KilledAfterClaim, KilledDuringLoad),
    (KilledBeforeEmbed, KilledAfterEmbed, KilledInPublish),
    (KilledInCopy, KilledBeforeCommit, KilledBeforeEnd),
)
