"""The public shapes of batches, to the letter."""

from __future__ import annotations

from django.contrib.auth.models import Group, User

from orchestration.batches import feeding
from orchestration.models import Batch
from tests.api_caller import Caller, problem
from tests.orchestration.batches.conftest import inputs, run_of
from tests.orchestration.batches.test_feeding import finish

BODY = {"agent": "support", "inputs": inputs(3), "key": "november"}
COUNTS = {"not_started", "running", "waiting", "finished", "failed", "cancelled"}
PROMISED = {"id", "agent", "key", "status", "total", "counts", "started_at", "closed_at", "url"}


def test_a_batch_is_started_once_and_found_again(olga: User) -> None:
    first, again = Caller(olga).post("batches", BODY), Caller(olga).post("batches", BODY)
    assert (first.status_code, again.status_code) == (201, 200)
    told = first.json()
    assert again.json() == told
    assert set(told) >= PROMISED
    assert set(told["counts"]) == COUNTS
    assert (told["status"], told["total"], told["counts"]["not_started"]) == ("feeding", 3, 3)
    problem(Caller(olga).post("batches", BODY | {"inputs": inputs(2)}), 409)
    assert Caller(olga).get(f"batches/{told['id']}").json()["held"] is None


def test_bad_rows_are_named_by_their_place(olga: User) -> None:
    given = [*inputs(3), {"message": "m"}, 7]
    told = problem(Caller(olga).post("batches", BODY | {"inputs": given}), 422)
    assert [one["path"] for one in told["errors"]] == ["inputs/3/order_id", "inputs/4"]
    assert Batch.objects.count() == 0


def test_items_are_listed_with_what_became_of_them(olga: User) -> None:
    batch_id = Caller(olga).post("batches", BODY).json()["id"]
    feeding.feed(batch_id)
    finish(run_of(Batch.objects.get(), 2))
    pages = Caller(olga).all(f"batches/{batch_id}/items", limit=2)
    assert [[one["number"] for one in page] for page in pages] == [[1, 2], [3]]
    done = pages[0][1]
    assert set(done) >= {"number", "input", "run_id", "status", "result", "error"}
    assert (done["status"], done["result"], done["input"]) == ("finished", {"paid": done["run_id"]}, inputs(2)[1])
    found = Caller(olga).get(f"batches/{batch_id}/items", status="finished").json()["items"]
    assert [one["number"] for one in found] == [2]
    assert Caller(olga).get(f"runs/{done['run_id']}").json()["batch"] == batch_id


def test_actions_answer_with_the_batch(olga: User) -> None:
    batch_id = Caller(olga).post("batches", BODY).json()["id"]
    for action, status in (("pause", "paused"), ("resume", "feeding")):
        answer = Caller(olga).post(f"batches/{batch_id}/actions", {"action": action})
        assert (answer.status_code, answer.json()["status"]) == (202, status)
    problem(Caller(olga).post(f"batches/{batch_id}/actions", {"action": "retry_failed"}), 409)
    problem(Caller(olga).post(f"batches/{batch_id}/actions", {"action": "cancel"}), 422)
    answer = Caller(olga).post(f"batches/{batch_id}/actions", {"action": "cancel", "reason": "r"})
    assert (answer.status_code, answer.json()["status"], answer.json()["counts"]["cancelled"]) == (202, "cancelled", 3)


def test_a_service_sees_its_own_batches_only(olga: User, db: None) -> None:
    robot = User.objects.create_user("robot")
    robot.groups.add(Group.objects.get_or_create(name="service")[0])
    theirs = Caller(olga).post("batches", BODY).json()["id"]
    mine = Caller(robot).post("batches", BODY | {"key": "mine"}).json()["id"]
    assert [one["id"] for one in Caller(robot).get("batches").json()["items"]] == [mine]
    for path in (f"batches/{theirs}", f"batches/{theirs}/items"):
        problem(Caller(robot).get(path), 404)
    problem(Caller(robot).post("batches", BODY), 409)  # and says nothing of whose it is
    assert [one["id"] for one in Caller(olga).get("batches").json()["items"]] == [mine, theirs]
