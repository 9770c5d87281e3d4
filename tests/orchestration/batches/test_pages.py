"""The pages of batches: a form that loses nothing, a page that says how it stands, files that compute nothing."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from approvals.models import Approval
from orchestration.batches import acting, feeding
from orchestration.models import Batch, BatchItem, Run
from orchestration.state import secrets
from tests.api_caller import Caller, problem
from tests.orchestration.batches import table_graphs
from tests.orchestration.batches.conftest import acted, make_batch, run_of
from tests.orchestration.batches.test_feeding import finish
from tests.orchestration.conftest import REFUND, make_run, open_for
from tests.orchestration.test_agent_faults import Register, register

__all__ = ("register",)

TABLE = "order_id,message\n8801,Broken.\n8802,Late.\n"


@pytest.fixture
def page(olga: User) -> Client:
    client = Client()
    client.force_login(olga)
    return client


def send(page: Client, table: str = TABLE, do: str = "start", **changes: Any) -> Any:
    fields = {"agent": "support", "table": table, "key": "november", "active": "10", "open_approvals": "200", "do": do}
    return page.post("/batches/new/", fields | changes)


def test_a_pasted_table_is_checked_first_and_starts_nothing(page: Client) -> None:
    answer = send(page, do="check")
    text = answer.content.decode()
    assert answer.status_code == 200
    assert "2 rows, all right" in text and "8802,Late." in text and "november" in text
    assert Batch.objects.count() == 0


def test_what_an_author_hides_is_in_no_page_file_or_answer(page: Client, olga: User, monkeypatch: Any) -> None:
    monkeypatch.setattr(secrets, "_marked_in", lambda _: ("order_id",))
    batch = make_batch(olga)
    shown = [
        page.get(f"/batches/{batch.pk}/").content.decode(),
        send(page, do="check").content.decode().partition("The first rows")[2].partition("</table>")[0],
        *(
            b"".join(page.get(f"/batches/{batch.pk}/results.{form}").streaming_content).decode()  # type: ignore[attr-defined]
            for form in ("csv", "jsonl")
        ),
        Caller(olga).get(f"batches/{batch.pk}/items").content.decode(),
    ]
    assert [text for text in shown if '"order_id": "88' in text or "8801" in text or "8802" in text] == []
    assert [text for text in shown if "broken" not in text.lower()] == []


def test_wrong_rows_are_shown_beside_what_was_typed(page: Client) -> None:
    table = TABLE + ",No order.\n8804,x,y\n8801,Broken.\n"
    answer = send(page, table, active="7")
    text = answer.content.decode()
    assert answer.status_code == 422
    assert "5 rows, 2 wrong" in text and "row 5 as row 1" in text
    assert "8804,x,y" in text and 'value="7"' in text
    assert Batch.objects.count() == 0


def test_a_second_send_of_the_same_form_finds_the_same_batch(page: Client) -> None:
    first, again = send(page), send(page)
    assert first.status_code == again.status_code == 302
    assert first["Location"] == again["Location"] == f"/batches/{Batch.objects.get().pk}/"
    other = send(page, TABLE + "8803,Lost.\n")
    assert other.status_code == 422
    assert "used for a batch of other rows" in other.content.decode() and "8803,Lost." in other.content.decode()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"table": "orderid,message\n1,x\n"}, "nothing called “orderid”"),
        ({"table": ""}, "There are no rows here"),
        ({"active": "many"}, "Between 1 and 200 runs"),
        ({"open_approvals": "0"}, "Between 1 and 5,000 requests"),
        ({"key": ""}, "A key is 1 to 200 characters"),
    ],
)
def test_what_cannot_be_taken_is_said_at_its_field(changes: dict[str, str], words: str, page: Client) -> None:
    answer = send(page, **changes)
    assert answer.status_code == 422
    assert words in answer.content.decode()


@pytest.fixture
def graphs(register: Register) -> None:
    register(*(f"{name}={table_graphs.__name__}:{name}" for name in ("counted", "talk")))


@pytest.mark.usefixtures("graphs")
def test_a_table_for_a_graph_is_read_by_the_graphs_own_input(page: Client, olga: User, tmp_path: Any) -> None:
    text = page.get("/batches/new/?agent=counted").content.decode()
    assert '<span class="mono">n</span> (needed), <span class="mono">note</span>.' in text
    assert "1 row, all right" in send(page, "n\n5\n", "check", agent="counted").content.decode()
    assert send(page, "n\n5\n", agent="counted", key="by page").status_code == 302
    table = tmp_path / "t.csv"
    table.write_text("n\n5\n")
    given = {"username": "olga", "key": "by command", "stdout": io.StringIO(), "stderr": io.StringIO()}
    call_command("start_batch", "counted", str(table), **given)
    assert [item.input for item in BatchItem.objects.all()] == [{"n": 5}] * 2


@pytest.mark.usefixtures("graphs")
def test_a_column_that_a_graphs_input_does_not_have_is_refused_at_every_door(page: Client, olga: User) -> None:
    csv_told = send(page, "n,nte\n5,x\n", agent="counted").content.decode()
    assert "nothing called “nte”" in csv_told
    lines = send(page, '{"n": 5, "nte": "x"}\n', agent="counted")
    assert lines.status_code == 422 and ">nte<" in lines.content.decode()
    body = {"agent": "counted", "inputs": [{"n": 5, "nte": "x"}], "key": "k"}
    assert problem(Caller(olga).post("batches", body), 422)["errors"][0]["path"] == "inputs/0/nte"
    problem(Caller(olga).post("runs", {"agent": "counted", "input": {"n": 5, "nte": "x"}}), 422)
    assert Batch.objects.count() == Run.objects.count() == 0


@pytest.mark.usefixtures("graphs")
def test_messages_stand_in_a_table_as_json(page: Client) -> None:
    assert "messages</span> (needed, as JSON)" in page.get("/batches/new/?agent=talk").content.decode()
    assert send(page, 'messages\n"[{""content"": ""Hello""}]"\n', agent="talk").status_code == 302
    assert BatchItem.objects.get().input == {"messages": [{"role": "user", "content": "Hello"}]}


def test_a_file_is_taken_in_place_of_the_text(page: Client) -> None:
    file = SimpleUploadedFile("t.csv", ("\ufeff" + TABLE.replace(",", ";")).encode())
    answer = send(page, "", "check", file=file)
    assert "2 rows, all right" in answer.content.decode() and "8802;Late." in answer.content.decode()
    assert send(page, "", file=SimpleUploadedFile("t.csv", b"\xff\xff")).status_code == 422


def test_the_page_says_how_the_batch_stands(page: Client, olga: User) -> None:
    batch = make_batch(olga, 4, active=2)
    feeding.feed(batch.pk)
    finish(run_of(batch, 1))
    text = page.get(f"/batches/{batch.pk}/").content.decode()
    assert "25 %" in text and "1 of 4" in text and "a minute" in text
    assert f"/runs/{batch.pk}-2/" in text
    assert batch.pk in page.get(f"/runs/{batch.pk}-2/").content.decode()
    only = page.get(f"/batches/{batch.pk}/?status=finished").content.decode()
    assert 'id="item-1"' in only and 'id="item-2"' not in only
    assert "1 of 4" in page.get("/batches/").content.decode()


@pytest.mark.parametrize("action", ["pause", "cancel"])
def test_no_time_is_told_for_a_batch_that_starts_nothing(action: acting.Action, page: Client, olga: User) -> None:
    batch = make_batch(olga, 4, active=2)
    feeding.feed(batch.pk)
    finish(run_of(batch, 1))
    acting.act(batch_id=batch.pk, action=action, by=olga, reason="a wrong table")
    text = page.get(f"/batches/{batch.pk}/").content.decode()
    assert "ended" in text and "a minute" not in text
    assert Caller(olga).get(f"batches/{batch.pk}").json()["progress"]["seconds_left"] is None


def test_a_run_that_was_cancelled_counts_for_no_rate(page: Client, olga: User) -> None:
    batch = make_batch(olga, 4, active=2)
    feeding.feed(batch.pk)
    Run.objects.filter(pk=run_of(batch, 1).pk).update(status="cancelled")
    text = page.get(f"/batches/{batch.pk}/").content.decode()
    assert "1 of 4" in text and "a minute" not in text


def test_no_page_grows_with_its_table(page: Client, olga: User) -> None:
    few, many = make_batch(olga, 2, key="few"), make_batch(olga, 500, key="many")
    asked, length = [], []
    for batch in (few, many):
        with CaptureQueriesContext(
            connection,
        ) as queries:
            answer = page.get(f"/batches/{batch.pk}/")
        asked.append(len(queries))
        length.append(answer.content.count(b'id="item-'))
    assert asked[0] == asked[1]
    assert length == [2, 50]


def test_a_cancel_without_a_reason_keeps_the_page_and_says_so(page: Client, batch: Batch) -> None:
    answer = page.post(f"/batches/{batch.pk}/act", {"action": "cancel", "waiting": "cancel"})
    assert answer.status_code == 422
    assert 'id="batch-fault"' in answer.content.decode()
    done = page.post(f"/batches/{batch.pk}/act", {"action": "cancel", "reason": "wrong"}, follow=True)
    assert "Cancelled by olga: wrong" in done.content.decode()


def test_how_many_failed_rows_are_tried_again_and_how_many_are_left_is_said(page: Client, olga: User) -> None:
    batch = make_batch(olga, 3)
    feeding.feed(batch.pk)
    for number in (1, 2, 3):
        Run.objects.filter(pk=run_of(batch, number).pk).update(status="failed")
    acted(run_of(batch, 1))
    assert '<input type="hidden" name="times" value="0">' in page.get(f"/batches/{batch.pk}/").content.decode()
    for _ in range(2):  # a double click
        done = page.post(f"/batches/{batch.pk}/act", {"action": "retry_failed", "times": "0"}, follow=True)
        text = done.content.decode()
        assert "2 failed rows are tried again. 1 is left as it is, for its run has done something" in text
    told = {"times": 1, "items": 2, "left": 1}
    assert Caller(olga).get(f"batches/{batch.pk}").json()["tried_again"] == told
    again = Caller(olga).post(f"batches/{batch.pk}/actions", {"action": "retry_failed", "times": 0})
    assert (again.status_code, again.json()["tried_again"]) == (202, told)


def test_a_reviewer_sees_and_does_not_act(alice: User, batch: Batch) -> None:
    client = Client()
    client.force_login(alice)
    text = client.get(f"/batches/{batch.pk}/").content.decode()
    assert 'value="pause"' not in text and "Rows" in text
    assert client.post(f"/batches/{batch.pk}/act", {"action": "pause"}).status_code == 403


def test_results_are_a_file_that_computes_nothing(page: Client, olga: User) -> None:
    batch = make_batch(olga, 2)
    BatchItem.objects.filter(number=2).update(input={"order_id": "1", "message": "=1+1"})
    feeding.feed(batch.pk)
    Run.objects.filter(pk=f"{batch.pk}-1").update(status="failed", error={"kind": "k", "message": "=HYPERLINK(1)"})
    answer = page.get(f"/batches/{batch.pk}/results.csv")
    text = b"".join(answer.streaming_content).decode()  # type: ignore[attr-defined]
    head, first, second = csv.reader(io.StringIO(text.removeprefix("\ufeff")))
    assert dict(zip(head, first, strict=True))["error"] == "'=HYPERLINK(1)"
    assert [first[0], first[1], second[1]] == ["1", "failed", "running"]
    lines = b"".join(page.get(f"/batches/{batch.pk}/results.jsonl").streaming_content).decode()  # type: ignore[attr-defined]
    told = [json.loads(line) for line in lines.splitlines()]
    assert told[0]["error"]["message"] == "=HYPERLINK(1)" and told[1]["input"]["message"] == "=1+1"
    assert page.get(f"/batches/{batch.pk}/results.exe").status_code == 404


def test_the_command_starts_the_same_batch_once(olga: User, tmp_path: Any) -> None:
    table = tmp_path / "t.csv"
    table.write_text(TABLE)
    out = io.StringIO()
    given = {"username": "olga", "key": "k", "stdout": out, "stderr": io.StringIO()}
    call_command("start_batch", "support", str(table), check=True, **given)
    assert Batch.objects.count() == 0
    for _ in range(2):
        call_command("start_batch", "support", str(table), **given)
    assert out.getvalue().split() == [Batch.objects.get().pk] * 2
    table.write_text(TABLE + ",x\n")
    with pytest.raises(CommandError, match="row 3, line 4: order_id"):
        call_command("start_batch", "support", str(table), **given)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_file_whose_cells_have_several_lines_is_the_same_batch_through_a_form(
    end: str, page: Client, olga: User, tmp_path: Any
) -> None:
    lines = ["order_id,message", '8801,"Broken.', 'Also late."', ""]
    table = tmp_path / "t.csv"
    table.write_bytes(end.join(lines).encode())
    given = {"username": "olga", "key": "november", "stdout": io.StringIO(), "stderr": io.StringIO()}
    call_command("start_batch", "support", str(table), **given)
    assert send(page, "\r\n".join(lines)).status_code == 302, "as a browser sends what stands in a form"
    assert [item.input["message"] for item in BatchItem.objects.all()] == ["Broken.\nAlso late."]


def test_the_inbox_and_the_api_show_one_batchs_requests(alice: User, olga: User) -> None:
    batch = make_batch(olga, 2)
    feeding.feed(batch.pk)
    inside, outside = (
        open_for(run_of(batch, 1), batch=batch.pk),
        open_for(make_run(), arguments=REFUND | {"amount": "7.00"}),
    )
    client = Client()
    client.force_login(alice)
    listed = client.get(f"/inbox/?batch={batch.pk}", headers={"HX-Request": "true"}).content.decode()
    assert inside.pk in listed and outside.pk not in listed
    found = Caller(alice).get("approvals", batch=batch.pk).json()["items"]
    assert [one["id"] for one in found] == [inside.pk]
    assert "its 1 open request<" in client.get(f"/batches/{batch.pk}/").content.decode()


def test_a_batchs_requests_are_decided_together_as_far_as_the_policy_allows(alice: User, olga: User) -> None:
    batch = make_batch(olga, 3)
    feeding.feed(batch.pk)
    for number in (1, 2):
        open_for(run_of(batch, number), tool="send_email", risk="low", batch=batch.pk)
    kept_out = open_for(run_of(batch, 3), batch=batch.pk)
    outside = open_for(make_run(), tool="send_email", risk="low")
    caller = Caller(alice)
    asked = caller.get("approvals", batch=batch.pk, status="pending").json()["items"]
    items = [
        {"id": one["id"], "verdict": "approve", "version": one["version"], "digest": one["digest"]} for one in asked
    ]
    told = caller.post("approvals/decisions", {"items": items}, key="all of the batch").json()["items"]
    assert {one["id"]: one["status"] for one in told} == {
        one["id"]: 403 if one["id"] == kept_out.pk else 200 for one in asked
    }
    left = Approval.objects.filter(status="pending").values_list("pk", flat=True)
    assert set(left) == {kept_out.pk, outside.pk}
