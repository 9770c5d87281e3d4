"""Threads that wait on somebody else's agent server are decided here, and get one answer in their own form."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import F
from django.test import Client
from django.urls import reverse

from approvals import services as approvals
from approvals.errors import MayNotDecide
from approvals.models import Approval, AuditEvent
from console.clock import DatabaseNow
from console.environment import environment
from console.models import OutboxEntry
from console.outbox import Kind
from orchestration import redrive
from orchestration.agent_servers import answering, gateway, looking, looks, registered, rows, told
from orchestration.agent_servers.asked import ReadyAnswer, proposals_of
from orchestration.errors import AgentServerAway, AgentServerRefused, ThreadBusy
from orchestration.models import AgentServerLook, ThreadQuestion
from orchestration.relay.loop import Relay
from orchestration.threads import in_database
from tests.api_caller import Caller
from tests.fakes import FakeTemporal
from tests.orchestration.agent_server import AgentServerDouble, ServedThread
from tests.orchestration.conftest import decide, go, reviewer
from tests.orchestration.test_relay import everything_delivered, relaying
from tests.waiting import eventually, until

pytestmark = pytest.mark.django_db(transaction=True)
KEY = "lsv2_not-to-be-seen"
DELETE = {"name": "delete_file", "args": {"path": "report"}}
SEND = {"name": "send_email", "args": {"to": "bob@customers.example"}}


def batched(*calls: dict[str, Any], id: str = "a" * 32) -> dict[str, Any]:
    configs = [
        {"action_name": call["name"], "allowed_decisions": ["approve", "edit", "reject", "respond"]} for call in calls
    ]
    return {"id": id, "value": {"action_requests": list(calls), "review_configs": configs}}


def said(*calls: dict[str, Any]) -> list[dict[str, Any]]:
    """The model's message that made the calls, as a state holds it."""
    called = [{**call, "id": f"call-{number}", "type": "tool_call"} for number, call in enumerate(calls)]
    return [{"type": "human", "content": "Tidy up."}, {"type": "ai", "content": "I tidy up.", "tool_calls": called}]


def one_call() -> ServedThread:
    return ServedThread([batched(DELETE)], said(DELETE))


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    where = tmp_path / "agent_servers.toml"
    (tmp_path / "key").write_text(f"{KEY}\n")
    monkeypatch.setattr(environment(), "agent_servers", where)
    yield where


def serve(where: Path, server: AgentServerDouble, more: str = "") -> None:
    server.key = KEY
    where.write_text(f'[acme]\nurl = "{server.url}"\napi_key_file = "{where.parent / "key"}"\n{more}')


def look() -> bool:
    AgentServerLook.objects.update(begun_at=None)  # its period is over
    return go(looking.look_around())


def answered(approval: Approval, **given: Any) -> str:
    return go(answering.answer(approval.pk, **given))


def opened() -> list[Approval]:
    return list(Approval.objects.order_by("opened_at", "interrupt_place"))


@contextmanager
def decided(configured: Path, thread: ServedThread) -> Iterator[tuple[AgentServerDouble, Approval]]:
    """Serve one thread whose only question is asked about here, and approved; nobody has answered it yet."""
    with AgentServerDouble(thread) as server:
        serve(configured, server)
        look()
        (approval,) = opened()
        decide(approval)
        yield server, approval


def state_of(approval: Approval) -> str:
    return ThreadQuestion.objects.get(asked_as=approval.interrupt_id, run_id=approval.run_id).state


def test_a_thread_that_waits_is_asked_about_and_answered_in_its_own_form(configured: Path) -> None:
    thread = one_call()
    with AgentServerDouble(thread) as server:
        serve(configured, server)
        look()
        look()
        (approval,) = opened()
        assert (approval.agent, approval.tool, approval.agent_words) == ("acme/agent", "delete_file", "I tidy up.")
        assert approval.is_tracked is False and approval.agent_server == "acme"
        decide(approval, "reject", "Keep it.")
        entry = OutboxEntry.objects.get(subject=approval.run_id)
        assert entry.kind == Kind.ANSWER_THREAD, "no workflow of ours waits for it"
        relaying(lambda: until(everything_delivered), Relay(FakeTemporal(), chores=()))
        assert thread.told == [{"a" * 32: {"decisions": [{"type": "reject", "message": "Keep it."}]}}]
        assert [step.step for step in approval.receipt.order_by("at", "id")] == ["recorded", "signalled"]
        look()
        assert approval.receipt.filter(step="resumed").exists() and state_of(approval) == "taken"
        approval.refresh_from_db()
        assert approval.took_effect_at is not None


def test_the_relay_does_all_of_it_by_itself(configured: Path) -> None:
    thread = one_call()
    with AgentServerDouble(thread) as server:
        serve(configured, server, "every_seconds = 1\n")

        async def scene() -> None:
            await until(lambda: Approval.objects.exists())
            await asyncio.to_thread(_decided_in_a_thread)
            await until(lambda: ThreadQuestion.objects.filter(state="taken").exists())

        relaying(scene, Relay(FakeTemporal()))
    assert len(thread.told) == 1


def _decided_in_a_thread() -> None:
    try:
        decide(Approval.objects.get())
    finally:
        connection.close()


def test_a_request_of_several_calls_is_answered_once_all_are_decided(configured: Path) -> None:
    thread = ServedThread([batched(SEND, DELETE)], said(SEND, DELETE))
    with AgentServerDouble(thread) as server:
        serve(configured, server)
        look()
        first, second = opened()
        decide(first)
        answered(first)
        assert thread.told == []
        decide(second, "reject", "Keep it.")
        answered(second)
        answered(first)
        answered(second)
    sent = [{"type": "approve"}, {"type": "reject", "message": "Keep it."}]
    assert thread.told == [{"a" * 32: {"decisions": sent}}]


def test_parallel_questions_of_one_thread_are_answered_one_by_one(configured: Path) -> None:
    asked = [{"id": "f" * 32, "value": "How much?"}, {"id": "0" * 32, "value": "Whom?"}]
    thread = ServedThread(asked)
    with AgentServerDouble(thread) as server:
        serve(configured, server)
        look()
        one, other = sorted(opened(), key=lambda approval: approval.interrupt_id)
        for approval, given in ((one, "Bob"), (other, 12)):
            answer(approval, given)
            answered(approval)
            look()
    assert thread.told == [{"0" * 32: "Bob"}, {"f" * 32: 12}]
    assert [state_of(one), state_of(other)] == ["taken", "taken"]


def answer(approval: Approval, given: Any) -> None:
    words = approvals.Answer("respond", approval.version, approval.digest, answer=given)
    approvals.decide(approval_id=approval.pk, reviewer=reviewer(), given=words)


def test_a_stop_of_the_graph_goes_on_without_a_word(configured: Path) -> None:
    thread = ServedThread([], next=["deploy"])
    with AgentServerDouble(thread) as server:
        serve(configured, server)
        look()
        look()
        (approval,) = opened()
        assert approval.kind == Approval.Kind.GO_ON and "“deploy”" in approval.summary
        decide(approval)
        answered(approval)
        look()
    assert thread.told == [None] and state_of(approval) == "taken"


def test_what_only_the_thread_itself_tells_is_asked_and_no_stop(configured: Path) -> None:
    thread = ServedThread([{"id": "f" * 32, "value": "Book by hand?"}], next=["pay"], is_told_by_tasks=False)
    with AgentServerDouble(thread) as server:
        serve(configured, server)
        look()
        (approval,) = opened()
        assert approval.kind == Approval.Kind.QUESTION
        answer(approval, "Yes.")
        answered(approval)
        look()
    assert thread.told == [{"f" * 32: "Yes."}] and state_of(approval) == "taken"


def test_two_connectors_open_one_request_and_give_one_answer(configured: Path) -> None:
    thread = one_call()

    async def twice(work: Any) -> None:
        await asyncio.gather(work(), work(), return_exceptions=True)

    with AgentServerDouble(thread) as server:
        serve(configured, server)
        looks.begin_look(registered.load().servers["acme"])
        look()
        (approval,) = opened()
        decide(approval)
        go(twice(lambda: answering.answer(approval.pk)))
        answered(approval)
    assert len(thread.told) == 1 and ThreadQuestion.objects.count() == 1


def test_a_look_is_one_relays_for_a_period(configured: Path) -> None:
    with AgentServerDouble() as server:
        serve(configured, server)
        acme = registered.load().servers["acme"]
        assert [looks.begin_look(acme), looks.begin_look(acme)] == [True, False]


def test_a_thread_that_went_on_by_itself_withdraws_its_request(configured: Path) -> None:
    thread = one_call()
    with AgentServerDouble(thread) as server:
        serve(configured, server)
        look()
        thread.status = "busy"
        look()
        (approval,) = opened()
        assert approval.status == "pending", "it may come back to the same question"
        thread.interrupts, thread.status, thread.next = [], "idle", []
        look()
        approval.refresh_from_db()
    assert approval.status == "withdrawn" and state_of(approval) == "gone" and thread.told == []


def test_a_thread_that_was_removed_withdraws_its_request(configured: Path) -> None:
    thread = one_call()
    with AgentServerDouble(thread) as server:
        serve(configured, server)
        look()
        server.threads.clear()
        look()
    assert opened()[0].status == "withdrawn"


def test_a_decision_that_comes_too_late_is_told_so_and_sends_nothing(configured: Path) -> None:
    thread = one_call()
    with decided(configured, thread) as (_, approval):
        thread.interrupts, thread.status = [], "idle"
        answered(approval)
    assert thread.told == [] and state_of(approval) == "gone"
    assert "went on by itself" in approval.receipt.get(step="refused").detail


def test_an_answer_that_landed_though_nobody_heard_so_is_not_given_twice(configured: Path) -> None:
    thread = one_call()
    with decided(configured, thread) as (server, approval):
        server.breaks_off_after_taking = True
        with pytest.raises(AgentServerAway, match="could not be reached"):
            answered(approval)
        server.breaks_off_after_taking = False
        answered(approval)
        look()
    assert len(thread.told) == 1 and state_of(approval) == "taken"
    assert not approval.receipt.filter(step="refused").exists()


def test_an_answer_that_landed_unheard_is_found_by_the_look_that_comes_before_the_next_attempt(
    configured: Path,
) -> None:
    thread = one_call()
    with decided(configured, thread) as (server, approval):
        server.breaks_off_after_taking = True
        with pytest.raises(AgentServerAway):
            answered(approval)
        server.breaks_off_after_taking = False
        look()
        look()
        answered(approval)
    assert len(thread.told) == 1 and state_of(approval) == "taken"
    assert [step.step for step in approval.receipt.order_by("at", "id")] == ["recorded", "signalled", "resumed"]


@pytest.mark.parametrize("kind", ["call", "stop"])
def test_an_answer_that_its_server_takes_late_is_not_given_twice(
    kind: str, configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = gateway.RealAgentServer.answer

    async def given(*args: Any) -> str:
        """Give the answer with little patience: what is only read may take its time."""
        with pytest.MonkeyPatch.context() as short:
            short.setattr(gateway, "SECONDS", 5)
            return await answer(*args)

    monkeypatch.setattr(gateway.RealAgentServer, "answer", given)
    thread = one_call() if kind == "call" else ServedThread([], next=["deploy"])
    with decided(configured, thread) as (server, approval):
        server.takes_at = threading.Event()
        with pytest.raises(AgentServerAway, match="did not answer"):
            answered(approval)
        with pytest.raises(ThreadBusy, match="may be taking it"):
            answered(approval)
        server.takes_at.set()
        eventually(lambda: thread.told, "the answer is taken")
        answered(approval)
        look()
    assert len(thread.told) == len(thread.runs) == 1 and state_of(approval) == "taken"


def test_an_answer_that_never_arrived_is_given_again_once_its_server_cannot_be_taking_it(configured: Path) -> None:
    thread = one_call()
    with decided(configured, thread) as (_, approval):
        with pytest.MonkeyPatch.context() as lost:
            lost.setattr(gateway.RealAgentServer, "answer", _lost)
            with pytest.raises(AgentServerAway):
                answered(approval)
        ThreadQuestion.objects.update(given_at=F("given_at") - rows.MAY_BE_TAKEN_FOR)
        answered(approval)
        look()
    assert len(thread.told) == 1 and state_of(approval) == "taken"


async def _lost(*_: Any) -> str:
    raise AgentServerAway("acme could not be reached.")


def test_a_run_that_ended_without_taking_an_unheard_answer_is_not_answered_again_by_itself(configured: Path) -> None:
    thread = one_call()
    thread.is_stubborn = True
    with decided(configured, thread) as (server, approval):
        server.breaks_off_after_taking = True
        with pytest.raises(AgentServerAway):
            answered(approval)
        server.breaks_off_after_taking = False
        answered(approval)
        answered(approval)
    assert len(thread.told) == 1 and state_of(approval) == "sent"


def test_a_relay_that_was_asleep_does_not_give_what_another_one_answers_by_now(
    configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread = one_call()
    usual = rows.begin_to_give

    def overtaken(held: Any) -> bool:
        ThreadQuestion.objects.update(held_until=DatabaseNow() + rows.HELD_FOR)
        return usual(held)

    monkeypatch.setattr(rows, "begin_to_give", overtaken)
    with decided(configured, thread) as (_, approval), pytest.raises(ThreadBusy, match="Another relay"):
        answered(approval)
    assert thread.told == [] and state_of(approval) == "asked"


def test_no_word_says_that_nothing_was_sent_where_that_is_not_known(configured: Path) -> None:
    thread = one_call()
    with decided(configured, thread) as (server, approval):
        server.breaks_off_after_taking = True
        with pytest.raises(AgentServerAway):
            answered(approval)
        server.breaks_off_after_taking = False
        server.threads.clear()
        answered(approval)
    told = approval.receipt.get(step="refused").detail
    assert "did not confirm it" in told and "nothing was sent" not in told


@pytest.mark.parametrize("refusal", [ThreadBusy("A run is under way."), AgentServerRefused("status 403")])
def test_a_refusal_takes_no_doubt_away_about_what_was_given_before(
    refusal: AgentServerAway, configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread = one_call()

    async def refused(*_: Any) -> str:
        raise refusal

    with decided(configured, thread) as (_, approval):
        for given in (_lost, refused):
            monkeypatch.setattr(gateway.RealAgentServer, "answer", given)
            with pytest.raises(AgentServerAway):
                answered(approval)
            ThreadQuestion.objects.update(given_at=F("given_at") - rows.MAY_BE_TAKEN_FOR)
        thread.take(approval.interrupt_id)  # the first one, which was on its way all the time
        look()
        look()
    assert state_of(approval) == "taken" and not approval.receipt.filter(step="refused").exists()


def test_what_was_surely_refused_is_given_again_at_once(configured: Path) -> None:
    thread = one_call()
    with decided(configured, thread) as (server, approval):
        with pytest.MonkeyPatch.context() as refusing:
            usual = gateway.RealAgentServer.thread
            refusing.setattr(gateway.RealAgentServer, "thread", refusing_after(usual, server))
            with pytest.raises(AgentServerRefused, match="status 403"):
                answered(approval)
        server.status = 0
        answered(approval)
    assert len(thread.told) == 1


def refusing_after(read: Callable[..., Any], server: AgentServerDouble) -> Callable[..., Any]:
    async def thread(*given: Any) -> Any:
        found = await read(*given)
        server.status = 403
        return found

    return thread


def test_a_look_does_not_judge_by_what_it_knew_before_the_answer_was_given(
    configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread = one_call()
    usual = gateway.RealAgentServer.thread

    async def read(*given: Any) -> Any:
        """Meanwhile another relay gives the answer and does not live to hear that it is taken."""
        if not thread.told:
            await in_database(lambda: ThreadQuestion.objects.update(given_at=DatabaseNow()))
            thread.take(approval.interrupt_id)
        return await usual(*given)

    with decided(configured, thread) as (_, approval):
        monkeypatch.setattr(gateway.RealAgentServer, "thread", read)
        look()
        assert state_of(approval) == "asked" and thread.told
        look()
        look()
    assert state_of(approval) == "taken" and not approval.receipt.filter(step="refused").exists()


def test_what_a_person_sends_again_is_not_sent_a_third_time_while_the_second_may_be_on_its_way(
    configured: Path,
) -> None:
    thread = one_call()
    thread.is_stubborn = True
    with decided(configured, thread) as (_, approval):
        answered(approval)
        with pytest.MonkeyPatch.context() as lost:
            lost.setattr(gateway.RealAgentServer, "answer", _lost)
            with pytest.raises(AgentServerAway):
                answered(approval, again=True)
        with pytest.raises(ThreadBusy, match="may be taking it"):
            answered(approval, again=True)
        assert len(thread.told) == 1
        ThreadQuestion.objects.update(given_at=F("given_at") - rows.MAY_BE_TAKEN_FOR)
        answered(approval, again=True)
    assert len(thread.told) == 2


def test_another_call_in_the_state_is_asked_about_again(configured: Path) -> None:
    thread = one_call()
    with decided(configured, thread) as (_, approval):
        other = {"name": "delete_file", "args": {"path": "everything"}}
        thread.interrupts, thread.messages = [batched(other)], said(other)
        answered(approval)
        assert thread.told == [] and "asked about again" in approval.receipt.get(step="refused").detail
        look()
        look()
        first, again = opened()
        assert again.status == "pending" and b"everything" in bytes(again.canonical)
        decide(again)
        answered(first)
        answered(again)
    assert thread.told == [{"a" * 32: {"decisions": [{"type": "approve"}]}}]


@pytest.mark.parametrize("node", ["tools", "HumanInTheLoopMiddleware.after_model"])
def test_only_what_is_asked_right_after_the_model_is_held_against_its_message(node: str, configured: Path) -> None:
    """A helper inside a tool asks about calls of its own: the message at hand is its caller's."""
    other = {"name": "send_email", "args": {"to": "ann@acme.example"}}
    thread = ServedThread([batched(SEND)], said(other), node=node)
    with decided(configured, thread) as (_, approval):
        answered(approval)
    assert thread.told == ([{"a" * 32: {"decisions": [{"type": "approve"}]}}] if node == "tools" else [])


def test_a_thread_under_way_takes_its_answer_afterwards(configured: Path) -> None:
    thread = one_call()
    with decided(configured, thread) as (_, approval):
        thread.status = "busy"
        with pytest.raises(ThreadBusy):
            answered(approval)
        thread.status = "interrupted"
        answered(approval)
    assert len(thread.told) == 1


def test_silence_is_told_as_silence_and_a_question_without_a_true_word_waits_on(configured: Path) -> None:
    call, question = one_call(), ServedThread([{"id": "b" * 32, "value": "How much?"}])
    with AgentServerDouble(call, question) as server:
        serve(configured, server)
        look()
        for approval in opened():
            expire(approval)
            answered(approval)
        assert "Nobody decided in time" in str(call.told) and question.told == []
        asked = ThreadQuestion.objects.get(thread_id=question.id)
        assert asked.state == "untold" and "waits on, on acme" in asked.detail
        look()
        assert Approval.objects.count() == 2, "it is not asked again and again"


def test_silence_has_the_word_that_the_server_is_registered_with(configured: Path) -> None:
    question = ServedThread([{"id": "b" * 32, "value": "How much?"}])
    with AgentServerDouble(question) as server:
        serve(configured, server, 'on_silence = "nothing"\n')
        look()
        (approval,) = opened()
        expire(approval)
        answered(approval)
    assert question.told == [{"b" * 32: "nothing"}]


def test_the_owners_of_a_server_are_kept_out_where_a_rule_says_so(configured: Path, eyes_on_the_owner: None) -> None:
    with AgentServerDouble(one_call()) as server:
        serve(configured, server, 'owners = ["alice"]\n')
        look()
        (approval,) = opened()
    assert approval.agent_owners == ["alice"]
    with pytest.raises(MayNotDecide, match="You own this agent"):
        decide(approval)
    assert decide(approval, by=reviewer("bob")).status == "decided"


@pytest.mark.parametrize("owners", ['"ada"', "[7]", '[""]'])
def test_owners_of_a_server_are_a_list_of_names(owners: str) -> None:
    found = registered.parse(f'[acme]\nurl = "https://agents.acme.example"\nowners = {owners}\n')
    assert not found.servers and "owners" in found.faults[0]


def expire(approval: Approval) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE approvals_approval SET due_at = signalbox_now(), steps_climbed = jsonb_array_length(ladder) - 1,"
            " ladder = jsonb_set(ladder, '{-1,at}', to_jsonb(signalbox_now()::text)) WHERE id = %s",
            [approval.pk],
        )
    approvals.climb_overdue()
    assert Approval.objects.get(pk=approval.pk).status == "expired"


@pytest.mark.parametrize("how", ["away", "refuses", "hangs"])
def test_a_server_that_does_not_answer_is_told_of_and_answered_when_it_is_back(
    how: str, configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread = one_call()
    with decided(configured, thread) as (server, approval):
        if how == "away":
            configured.write_text(configured.read_text().replace(server.url, "http://127.0.0.1:9"))
        server.status, server.hangs = (403 if how == "refuses" else 0), how == "hangs"
        with monkeypatch.context() as short:
            short.setattr(gateway, "SECONDS", 0.5 if how == "hangs" else gateway.SECONDS)
            look()
            with pytest.raises(AgentServerAway):
                answered(approval)
        words = {"away": "could not be reached", "refuses": "status 403. Is its key right?", "hangs": "did not answer"}
        (shown,) = told.servers()
        assert words[how] in shown.fault and KEY not in shown.fault and shown.since is not None
        Approval.objects.filter(pk=approval.pk).update(expected_by=approval.opened_at)
        why = redrive.standstill_of([approval.pk])[approval.pk]
        assert why.may_deliver and "acme" in why.sentence
        server.status, server.hangs = 0, False
        serve(configured, server)
        look()
        answered(approval)
        assert told.servers()[0].fault == ""
    assert len(thread.told) == 1


def test_one_server_that_hangs_delays_no_other(configured: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "SECONDS", 15)  # for both: the quick one may need some of it on a busy machine
    with AgentServerDouble() as slow, AgentServerDouble(one_call()) as quick:
        serve(configured, quick, f'[slow]\nurl = "{slow.url}"\n')
        slow.hangs = True
        look()
    assert Approval.objects.count() == 1
    assert {one.name: bool(one.fault) for one in told.servers()} == {"acme": False, "slow": True}


def test_what_a_thread_does_not_take_stands_in_the_lane_and_can_be_sent_again(configured: Path) -> None:
    thread = one_call()
    thread.is_stubborn = True
    with decided(configured, thread) as (_, approval):
        answered(approval)
        OutboxEntry.objects.all().delete()
        look()
        Approval.objects.filter(pk=approval.pk).update(expected_by=approval.opened_at)
        why = redrive.standstill_of([approval.pk])[approval.pk]
        assert "did not go on" in why.words and why.may_deliver
        answered(approval)
        assert len(thread.told) == 1, "nothing is sent twice by itself"
        thread.is_stubborn = False
        redrive.deliver_again(approval_id=approval.pk, by=reviewer())
        assert OutboxEntry.objects.get().payload["again"] is True
        answered(approval, again=True)
        look()
    assert len(thread.told) == 2 and state_of(approval) == "taken"


def test_what_cannot_be_shown_is_not_asked_and_not_read_again(configured: Path) -> None:
    bad = ServedThread([batched({"name": "x\n", "args": {}})])
    good = one_call()
    with AgentServerDouble(bad, good) as server:
        serve(configured, server)
        look()
        read = len(server.asked)
        look()
        assert len(server.asked) < 2 * read
    assert [approval.tool for approval in opened()] == ["delete_file"]
    assert ThreadQuestion.objects.get(thread_id=bad.id).state == "untold"
    assert AuditEvent.objects.filter(kind="thread.unaskable").count() == 1


def test_a_404_that_is_not_the_threads_own_throws_no_decision_away(configured: Path) -> None:
    thread = one_call()
    with decided(configured, thread) as (server, approval):
        server.status = 404  # nobody knows the address while its proxy is set up anew
        look()
        with pytest.raises(AgentServerAway, match=r"status 404\. Is its address right\?"):
            answered(approval)
        assert "status 404" in told.servers()[0].fault
        server.status, server.refusals = 0, {f"/threads/{thread.id}": 404}  # its list has the thread
        look()
        with pytest.raises(AgentServerAway):
            answered(approval)
        server.refusals = {f"/threads/{thread.id}/state": 404}  # it runs without the thread's graph
        look()
        with pytest.raises(AgentServerAway):
            answered(approval)
        assert state_of(approval) == "asked" and thread.told == []
        server.refusals = {}
        answered(approval)
    assert len(thread.told) == 1


def test_a_thread_that_was_taken_for_gone_and_waits_is_asked_about_again(configured: Path) -> None:
    thread = one_call()
    with decided(configured, thread) as (server, approval):
        server.threads.clear()
        answered(approval)
        assert state_of(approval) == "gone"
        server.threads[thread.id] = thread  # its server was set back to an older state, say
        look()
        look()
        _, again = opened()
        assert again.status == "pending"
        decide(again)
        answered(approval)
        answered(again)
    assert len(thread.told) == 1 and state_of(again) == "sent"


@pytest.mark.parametrize("status", [404, 422, 500])
def test_a_thread_that_cannot_be_read_keeps_no_other_from_its_request_and_its_answer(
    status: int, configured: Path, client: Client
) -> None:
    bad, good, young = one_call(), one_call(), one_call()
    with AgentServerDouble(bad, good) as server:
        serve(configured, server)
        look()
        server.refusals = {f"/threads/{bad.id}/state": status}
        server.threads[young.id] = young
        look()
        for approval in opened():
            decide(approval)
            if bad.id not in approval.run_id:
                answered(approval)
        (shown,) = told.servers()
        assert shown.fault == "" and shown.troubled == 1
        assert bad.id in shown.troubles[0] and f"status {status}" in shown.troubles[0]
        client.force_login(reviewer(), backend="django.contrib.auth.backends.ModelBackend")
        assert shown.troubles[0] in client.get(reverse("console:system")).content.decode()
        server.refusals = {}
        look()
        assert told.servers()[0].troubled == 0
    assert (len(good.told), len(young.told), bad.told) == (1, 1, [])


def test_a_fault_of_ours_with_one_thread_keeps_no_other_from_its_request(
    configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = one_call()

    def broken(server: Any, thread: Any, *given: Any) -> Any:
        if thread.thread_id == bad.id:
            raise KeyError("name")
        return proposals_of(server, thread, *given)

    monkeypatch.setattr(looking, "proposals_of", broken)
    with AgentServerDouble(bad, one_call()) as server:
        serve(configured, server)
        look()
    assert Approval.objects.count() == 1 and "KeyError" in told.servers()[0].troubles[0]


def test_a_look_that_fails_is_told(configured: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: Any) -> Any:
        raise KeyError("thread_id")

    monkeypatch.setattr(gateway.RealAgentServer, "waiting", broken)
    with AgentServerDouble() as server:
        serve(configured, server)
        look()
    assert told.servers()[0].fault == "The look at acme failed: KeyError."


def test_a_look_that_takes_too_long_after_the_list_keeps_no_answer_back(
    configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread = one_call()

    async def slow(*_: Any) -> None:
        raise TimeoutError

    with decided(configured, thread) as (_, approval):
        monkeypatch.setattr(looking, "_compare", slow)
        look()
        (shown,) = told.servers()
        assert shown.fault == "" and "is slow" in shown.troubles[0]
        answered(approval)
    assert len(thread.told) == 1


def test_the_list_of_threads_is_asked_for_without_their_values(
    configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "MOST_BYTES", 40_000)
    threads = [one_call() for _ in range(5)]
    for one in threads:
        one.messages[0]["content"] = "x" * 20_000
    with AgentServerDouble(*threads) as server:
        serve(configured, server)
        look()
    assert Approval.objects.count() == 5


@pytest.mark.parametrize("why", ["rejected", "unreadable", "lacks ids"])
def test_threads_that_ask_nothing_new_keep_no_younger_one_waiting(
    why: str, configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "READ_AT_ONCE", 2)
    old = [ServedThread([{"value": "Well?"}] if why == "lacks ids" else [], next=["deploy"]) for _ in range(3)]
    with AgentServerDouble(*old) as server:
        serve(configured, server)
        if why == "unreadable":
            server.refusals = {f"/threads/{one.id}/state": 500 for one in old}
        look()
        look()
        for approval in opened():
            decide(approval, "reject", "No.")
            answered(approval)
        young = [one_call(), ServedThread([], next=["deploy"])]
        server.threads.update({one.id: one for one in young})
        for _ in range(3):
            look()
        asked = {approval.run_id for approval in opened()}
        assert asked >= {f"thread-acme-{one.id}" for one in young}
        server.asked.clear()
        for _ in range(3):
            look()
        read = {path.split("/")[2] for path in server.asked if path.endswith("/state")}
    assert read >= {one.id for one in old}, "each has its turn"
    assert told.servers()[0].troubled == 3


def test_threads_after_the_first_of_the_list_are_read_by_the_looks_that_follow(
    configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "PAGES", 1)
    monkeypatch.setattr(looking, "PAGE", 2)
    monkeypatch.setattr(gateway, "PAGE", 2)
    with AgentServerDouble(*[one_call() for _ in range(5)]) as server:
        serve(configured, server)
        more = [look(), look(), look()]
        server.threads.pop(next(iter(server.threads)))
        look()
    assert Approval.objects.count() == 5 and more == [True, True, False]
    assert Approval.objects.filter(status="withdrawn").count() == 1


def test_what_its_user_cancelled_is_not_asked_to_go_on(configured: Path) -> None:
    cancelled = ServedThread([], runs=[{"run_id": "2", "status": "interrupted"}, {"run_id": "1", "status": "success"}])
    stopped = ServedThread([], runs=[{"run_id": "3", "status": "success"}])
    with AgentServerDouble(cancelled, stopped) as server:
        serve(configured, server)
        look()
        assert [approval.run_id for approval in opened()] == [f"thread-acme-{stopped.id}"]
        assert told.servers()[0].troubled == 0


def test_a_run_that_is_cancelled_after_it_was_let_go_on_stands_in_the_lane(configured: Path) -> None:
    stopped = ServedThread([], is_stubborn=True)
    with decided(configured, stopped) as (_, approval):
        answered(approval)
        OutboxEntry.objects.all().delete()
        stopped.runs.insert(0, {"run_id": "9", "status": "interrupted"})
        look()
        assert state_of(approval) == "sent"
        Approval.objects.filter(pk=approval.pk).update(expected_by=approval.opened_at)
        why = redrive.standstill_of([approval.pk])[approval.pk]
        assert "did not go on" in why.words and why.may_deliver


def test_another_request_that_cannot_be_shown_is_told_and_not_read_at_each_look(configured: Path) -> None:
    thread = one_call()
    with decided(configured, thread) as (server, approval):
        thread.interrupts, thread.messages = [batched({"name": "x\n", "args": {}})], []
        thread_question = ThreadQuestion.objects.get()
        with pytest.MonkeyPatch.context() as differs:
            differs.setattr(answering, "answer_of", lambda *_: ReadyAnswer(different=(approval.pk,)))
            answered(approval)
        look()
        thread_question.refresh_from_db()
        assert thread_question.state == "untold" and thread_question.detail in told.servers()[0].troubles[0]
        server.asked.clear()
        look()
        assert not [path for path in server.asked if path.endswith("/state")]
        thread.status = "idle"
        look()
    assert told.servers()[0].troubled == 0 and AuditEvent.objects.filter(kind="thread.unaskable").count() == 1


def test_a_question_that_got_no_answer_is_told_while_its_thread_waits(configured: Path) -> None:
    question = ServedThread([{"id": "b" * 32, "value": "How much?"}])
    with AgentServerDouble(question) as server:
        serve(configured, server)
        look()
        (approval,) = opened()
        expire(approval)
        answered(approval)
        look()
        (shown,) = Caller(reviewer()).get("agent-servers").json()["items"]
        assert shown["troubled"] == 1 and question.id in shown["troubles"][0] and "waits on" in shown["troubles"][0]


def test_only_the_graphs_that_are_named_are_asked_about(configured: Path) -> None:
    other = one_call()
    other.graph = "other"
    with AgentServerDouble(one_call(), other) as server:
        serve(configured, server, 'graphs = ["other"]\n')
        look()
    assert [approval.agent for approval in opened()] == ["acme/other"]


def test_more_threads_than_a_look_reads_are_opened_by_the_next(
    configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "READ_AT_ONCE", 2)
    monkeypatch.setattr(looking, "PAGE", 2)
    monkeypatch.setattr(gateway, "PAGE", 2)
    with AgentServerDouble(*[one_call() for _ in range(5)]) as server:
        serve(configured, server)
        more = [look(), look(), look()]
    assert Approval.objects.count() == 5 and more == [True, True, False]


def test_the_key_stands_in_no_row_no_page_and_no_log(
    configured: Path, caplog: pytest.LogCaptureFixture, client: Client
) -> None:
    caplog.set_level("DEBUG")
    with AgentServerDouble(one_call()) as server:
        serve(configured, server)
        look()
        server.status = 500
        look()
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT (SELECT json_agg(a) FROM approvals_approval a)::text || (SELECT json_agg(t) FROM"
            " orchestration_threadquestion t)::text || (SELECT json_agg(l) FROM orchestration_agentserverlook l)::text"
        )
        assert KEY not in cursor.fetchone()[0]
    client.force_login(reviewer(), backend="django.contrib.auth.backends.ModelBackend")
    page = client.get(reverse("console:system")).content.decode()
    assert "acme answered with status 500." in page and KEY not in page and KEY not in caplog.text
    assert KEY not in str(Caller(reviewer()).get("agent-servers").json()) and KEY not in repr(registered.load())


def test_the_card_says_that_the_effect_is_not_tracked_and_where_it_runs(configured: Path, client: Client) -> None:
    with AgentServerDouble(one_call()) as server:
        serve(configured, server)
        look()
    client.force_login(reviewer(), backend="django.contrib.auth.backends.ModelBackend")
    page = client.get(reverse("approvals:approval", args=[opened()[0].pk])).content.decode()
    assert "Effect not tracked" in page and "the agent server acme" in page


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[acme]\n", "[acme] url: Field required"),
        ('[acme]\nurl = "ftp://acme"\n', "begins with https:// or http://"),
        ('[acme]\nurl = "http://user:pw@acme"\n', "holds no user, password"),
        ('[acme]\nurl = "http://169.254.169.254"\n', "a cloud tells a machine its own secrets"),
        ('[acme]\nurl = "http://a"\nkey = "x"\n', "[acme] key: is not known"),
        ('[acme]\nurl = "http://a"\napi_key_file = "x"\napi_key_variable = "Y"\n', "not both"),
        ('["A B"]\nurl = "http://a"\n', "a name is 1 to 30 small letters"),
        ("acme = 1\n", "must be a table"),
        ("[acme\n", "Expected"),
    ],
)
def test_what_is_wrong_in_the_file_is_told_and_the_others_stay(text: str, fault: str) -> None:
    loaded = registered.parse(text + '[good]\nurl = "https://good.example/"\n')
    assert any(fault in one for one in loaded.faults), loaded.faults
    if "Expected" not in fault:
        assert loaded.servers["good"].url == "https://good.example"


def test_the_command_asks_each_server(configured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with AgentServerDouble(one_call()) as server:
        serve(configured, server)
        call_command("check_agent_servers")
        assert "acme: answers; 1 thread of the first 100 wait" in capsys.readouterr().out
        (configured.parent / "key").write_text("wrong")
        with pytest.raises(CommandError, match=r"status 401\. Is its key right\?"):
            call_command("check_agent_servers")
