"""The evidence pack: exported, moved elsewhere, one byte flipped, and the verifier names the file."""

from __future__ import annotations

import ast
import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from django.contrib.auth.models import Group, User
from django.core.management import CommandError, call_command
from hypothesis import example, given
from hypothesis import strategies as st

from approvals import services
from approvals.models import Approval, AuditEvent, Decision
from approvals.reading.evidence import pack, verify
from approvals.record import audit
from approvals.services.commenting import comment
from console.clock import database_now
from orchestration import histories
from orchestration.errors import TemporalAway
from orchestration.models import Effect, Run
from tests.approvals.conftest import REFUND, answer
from tests.at_once import at_once

pytestmark = pytest.mark.django_db

Opener = Callable[..., Approval]
VERIFIER = Path(verify.__file__).read_bytes()


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=10,
)


@pytest.fixture(autouse=True)
def engines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Temporal answers, LangGraph is away."""

    def away(run_id: str) -> Any:
        raise TemporalAway("nobody listens at 127.0.0.1:7233")

    monkeypatch.setattr(histories, "temporal", lambda run_id: [{"events": [{"eventId": "1"}], "of": run_id}])
    monkeypatch.setattr(histories, "checkpoints", away)


@pytest.fixture
def told(open_one: Opener, alice: User, bob: User) -> Approval:
    """A request that was changed by a reviewer, decided, executed and talked about, in a record with others."""
    run = Run.objects.create(id="run-1", agent="support", input={"a": 1}, input_digest="0" * 64)
    open_one(run_id="run-0")
    approval = open_one(agent_words="pay <script>alert(1)</script>\u202e now")
    open_one(run_id="run-0")
    changed = {**REFUND, "amount": "50.00"}
    given = answer(approval, "edit", edited_arguments=changed, note="less")
    services.decide(approval_id=approval.pk, reviewer=alice, given=given, circumstances=services.Circumstances("page"))
    approval.refresh_from_db()
    if approval.status == Approval.Status.PENDING:
        services.decide(approval_id=approval.pk, reviewer=bob, given=answer(approval))
        approval.refresh_from_db()
    Effect.objects.create(
        approval_id=approval.pk, run=run, tool=approval.tool, digest=approval.digest, decision_id="d", status="done",
        is_idempotent=True, fence=1, result={"refund": "r1"},
    )  # fmt: skip
    audit.record(actor="worker", kind="effect.finished", subject=approval.pk, body={"detail": ""})
    comment(approval_id=approval.pk, by=bob, text="I asked the customer. ☎")
    open_one(run_id="run-0")
    return approval


@pytest.fixture
def unpacked(told: Approval, tmp_path: Path) -> Path:
    """The pack, moved elsewhere."""
    pack.export(told.pk, tmp_path / "pack.zip")
    folder = tmp_path / "elsewhere"
    with zipfile.ZipFile(tmp_path / "pack.zip") as archive:
        archive.extractall(folder)
    (tmp_path / "pack.zip").rename(tmp_path / "kept.zip")
    return folder


def verified(folder: Path, *more: str, verifier: Path | None = None) -> tuple[int, str]:
    """Run the verifier that lies in the pack, as somebody without our code would."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(verifier or folder / "verify.py"), *more],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    return done.returncode, done.stdout + done.stderr


def files_of(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def rewritten(folder: Path, name: str, change: Callable[[Any], Any]) -> None:
    """Change a JSON file and make the manifest anew, as a forger who has read the verifier would."""
    path = folder / name
    path.write_text(json.dumps(change(json.loads(path.read_text())), indent=1))
    manifest_anew(folder)


def manifest_anew(folder: Path, **changes: Any) -> None:
    path = folder / "manifest.json"
    content = json.loads(path.read_text())["content"] | changes
    listed = [name for name in files_of(folder) if name != "manifest.json"]
    content["files"] = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in listed}
    path.write_bytes(verify.write_manifest(content))


def test_a_pack_that_nobody_touched_is_whole(unpacked: Path, told: Approval) -> None:
    status, said = verified(unpacked)
    assert (status, said.splitlines()[0][:20]) == (0, "Nothing was changed:")
    assert "Not in the pack: LangGraph's checkpoints of the run, because TemporalAway: nobody listens" in said
    folder = f"approvals/{told.pk}"
    assert set(files_of(unpacked)) == {
        *("manifest.json", "verify.py", "chain.jsonl", "run/run.json", "run/temporal.json"),
        *(f"{folder}/{name}.json" for name in ("approval", "versions", "decisions", "receipt", "comments", "effect")),
        *(f"{folder}/versions/{number}.json" for number in (1, 2)),
        *(f"{folder}/card-{number}.{kind}" for number in (1, 2) for kind in ("html", "txt")),
    }


def test_the_archive_is_verified_without_unpacking(unpacked: Path) -> None:
    kept = unpacked.parent / "kept.zip"
    assert verified(unpacked, str(kept))[0] == 0
    damaged = bytearray(kept.read_bytes())
    with zipfile.ZipFile(kept) as archive:
        info = archive.getinfo("chain.jsonl")
    damaged[info.header_offset + 30 + len(info.filename) + 40] ^= 1
    kept.write_bytes(damaged)
    status, said = verified(unpacked, str(kept))
    assert status == 1 and "chain.jsonl: " in said


def test_one_flipped_byte_in_any_file_is_found_and_the_file_named(unpacked: Path, tmp_path: Path) -> None:
    outside = tmp_path / "verify.py"
    outside.write_bytes(VERIFIER)  # for the one file that need not tell the truth about itself
    for name in files_of(unpacked):
        whole = (unpacked / name).read_bytes()
        for position in {0, len(whole) // 3, len(whole) - 1}:
            flip(unpacked / name, position)
            faults, _ = verify.check(str(unpacked))
            assert [fault.split(": ")[0] for fault in faults] == [name], position
            (unpacked / name).write_bytes(whole)
        flip(unpacked / name, len(whole) // 2)
        itself = name == "verify.py"
        status, said = verified(unpacked, *[str(unpacked)] * itself, verifier=outside if itself else None)
        assert (status, said.split(": ")[0]) == (1, f"CHANGED  {name}")
        (unpacked / name).write_bytes(whole)
    assert verified(unpacked)[0] == 0


def flip(path: Path, position: int) -> None:
    flipped = bytearray(path.read_bytes())
    flipped[position] ^= 1
    path.write_bytes(flipped)


def test_every_single_byte_of_the_manifest_counts(unpacked: Path) -> None:
    whole = (unpacked / "manifest.json").read_bytes()
    for position in range(0, len(whole), 7):
        flipped = bytearray(whole)
        flipped[position] ^= 1
        (unpacked / "manifest.json").write_bytes(flipped)
        faults, _ = verify.check(str(unpacked))
        assert [fault.split(": ")[0] for fault in faults] == ["manifest.json"], position


def test_a_byte_flipped_in_the_verifier_itself_is_told_by_itself(unpacked: Path) -> None:
    text = VERIFIER.replace(b"Needs Python 3.9", b"Needs Python 3.8")
    assert text != VERIFIER
    (unpacked / "verify.py").write_bytes(text)
    status, said = verified(unpacked)
    assert status == 1 and said.startswith("CHANGED  verify.py: ")


def test_a_file_taken_away_and_a_file_put_in_are_named(unpacked: Path, told: Approval) -> None:
    (unpacked / "more.txt").write_text("more")
    (unpacked / "approvals" / told.pk / "comments.json").unlink()
    status, said = verified(unpacked)
    assert status == 1
    assert "more.txt: is not in the manifest" in said
    assert f"approvals/{told.pk}/comments.json: is missing" in said


def test_an_empty_folder_and_a_file_that_is_no_pack_are_told(tmp_path: Path) -> None:
    (tmp_path / "verify.py").write_bytes(VERIFIER)
    assert verified(tmp_path) == (1, "CHANGED  manifest.json: is missing\n")
    (tmp_path / "note.txt").write_text("no archive")
    status, said = verified(tmp_path, str(tmp_path / "note.txt"))
    assert status == 1 and "note.txt: is no archive that can be read" in said


@pytest.mark.usefixtures("accounts_on_record")
def test_people_who_were_renamed_are_called_as_they_were_and_nobody_is_told_a_forger(
    told: Approval, alice: User, bob: User, tmp_path: Path
) -> None:
    for before, after in (("alice", "al"), ("bob", "rob"), ("al", "alicia")):
        User.objects.filter(username=before).update(username=after)
    pack.export(told.pk, tmp_path / "pack.zip")
    assert verify.check(str(tmp_path / "pack.zip"))[0] == []
    with zipfile.ZipFile(tmp_path / "pack.zip") as archive:
        files = [json.loads(archive.read(f"approvals/{told.pk}/{name}.json")) for name in _NAMING]
    decisions, versions, comments = files
    assert (decisions[0]["by"], decisions[0]["by_now"]) == ("alice", "alicia")
    assert (versions[1]["made_by"], versions[1]["made_by_now"]) == ("alice", "alicia")
    assert (comments[0]["by"], comments[0]["by_now"]) == ("bob", "rob")


@pytest.mark.usefixtures("accounts_on_record")
def test_who_was_renamed_before_has_one_name_in_the_pack(open_one: Opener, alice: User, tmp_path: Path) -> None:
    approval = open_one(requested_by=User.objects.create(username="carl"))
    User.objects.filter(pk=alice.pk).update(username="al")
    al = User.objects.get(pk=alice.pk)
    services.decide(approval_id=approval.pk, reviewer=al, given=answer(approval))
    User.objects.filter(username="carl").update(username="carlo")
    pack.export(approval.pk, tmp_path / "pack.zip")
    assert verify.check(str(tmp_path / "pack.zip"))[0] == []
    with zipfile.ZipFile(tmp_path / "pack.zip") as archive:
        (decision,) = json.loads(archive.read(f"approvals/{approval.pk}/decisions.json"))
        facts = json.loads(archive.read(f"approvals/{approval.pk}/approval.json"))
    assert (decision["by"], decision["by_now"]) == ("al", "al")
    assert (facts["requested_by"], facts["requested_by_now"]) == ("carl", "carlo")


_NAMING = ("decisions", "versions", "comments")


# A forger who makes the manifest anew


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("decisions", lambda rows: [rows[0] | {"verdict": "reject"}, *rows[1:]], "tells another verdict"),
        ("decisions", lambda rows: [rows[0] | {"for_digest": "0" * 64}, *rows[1:]], "not the version that it names"),
        ("decisions", lambda rows: [rows[0] | {"version": 2}, *rows[1:]], "not the version that it names"),
        ("decisions", lambda rows: [rows[0] | {"by": "mallory"}, *rows[1:]], "tells that alice decided"),
        ("decisions", lambda rows: [rows[0] | {"by": None, "source": "policy:x@1"}, *rows[1:]], "that alice decided"),
        ("decisions", lambda rows: [rows[0] | {"by": "mallory", "source": "standing:x"}, *rows[1:]], "alice decided"),
        ("decisions", lambda rows: [rows[0] | {"source": "standing:x"}, *rows[1:]], "another right, source or way"),
        ("decisions", lambda rows: [rows[0] | {"on_behalf_of": "ada"}, *rows[1:]], "another right, source or way"),
        ("decisions", lambda rows: [rows[0] | {"channel": "bulk"}, *rows[1:]], "another right, source or way"),
        ("decisions", lambda rows: [rows[0] | {"id": "dec_forged"}, *rows[1:]], "has no entry for it"),
        ("decisions", lambda rows: [rows[0] | {"note": "more"}, *rows[1:]], "another comment or answer"),
        ("decisions", lambda rows: [rows[0] | {"answer": 1}, *rows[1:]], "another comment or answer"),
        ("decisions", lambda rows: rows[1:], "which the chain tells of, is not in it"),
        ("comments", lambda rows: [rows[0] | {"text": "Nobody asked."}], "does not tell that bob said this"),
        ("comments", lambda rows: [rows[0] | {"by": "alice"}], "does not tell that alice said this"),
        ("comments", lambda rows: [*rows, rows[0]], "does not tell that bob said this"),
        ("comments", lambda rows: [], "which the chain tells of, is not in it"),
        ("effect", lambda effect: effect | {"digest": "0" * 64}, "is not what a decision had approved"),
        ("approval", lambda facts: facts | {"digest": "0" * 64}, "not that of its current version"),
    ],
)
def test_what_was_proposed_decided_and_executed_must_agree(
    name: str, change: Callable[[Any], Any], words: str, unpacked: Path, told: Approval
) -> None:
    rewritten(unpacked, f"approvals/{told.pk}/{name}.json", change)
    status, said = verified(unpacked)
    assert status == 1
    assert said.startswith(f"CHANGED  approvals/{told.pk}/{name}.json: ") and words in said


def test_other_bytes_than_were_proposed_are_found(unpacked: Path, told: Approval) -> None:
    path = unpacked / "approvals" / told.pk / "versions" / "1.json"
    path.write_bytes(path.read_bytes().replace(b"8801", b"8802"))
    manifest_anew(unpacked)
    status, said = verified(unpacked)
    assert status == 1 and f"approvals/{told.pk}/versions/1.json: its bytes do not have the digest" in said
    rewritten(
        unpacked,
        f"approvals/{told.pk}/versions.json",
        lambda rows: [rows[0] | {"digest": hashlib.sha256(path.read_bytes()).hexdigest()}, *rows[1:]],
    )
    status, said = verified(unpacked)
    assert status == 1


def test_other_bytes_are_found_by_the_chain_alone_where_nobody_has_decided(open_one: Opener, tmp_path: Path) -> None:
    """A forger who writes every file of the request anew cannot write what the chain saw opened."""
    approval = open_one()
    with zipfile.ZipFile(pack.export(approval.pk, tmp_path / "pack.zip").path) as archive:
        archive.extractall(tmp_path / "forged")
    folder, inside = tmp_path / "forged", f"approvals/{approval.pk}"
    forged = bytes(approval.canonical).replace(b"89.40", b"99.40")
    (folder / inside / "versions" / "1.json").write_bytes(forged)
    digest = {"digest": hashlib.sha256(forged).hexdigest()}
    rewritten(folder, f"{inside}/versions.json", lambda rows: [rows[0] | digest])
    rewritten(folder, f"{inside}/approval.json", lambda facts: facts | digest)
    faults, _ = verify.check(str(folder))
    assert faults == [f"{inside}/versions/1.json: is not what the chain says was proposed"]


def test_an_effect_of_what_was_rejected_is_found(open_one: Opener, alice: User, tmp_path: Path) -> None:
    approval = open_one()
    services.decide(approval_id=approval.pk, reviewer=alice, given=answer(approval, "reject", note="no"))
    with zipfile.ZipFile(pack.export(approval.pk, tmp_path / "pack.zip").path) as archive:
        archive.extractall(tmp_path / "forged")
    assert verify.check(str(tmp_path / "forged"))[0] == []
    effect = f"approvals/{approval.pk}/effect.json"
    rewritten(tmp_path / "forged", effect, lambda none: {"digest": approval.digest})
    assert verify.check(str(tmp_path / "forged"))[0] == [
        f"{effect}: what was executed is not what a decision had approved"
    ]


@pytest.mark.parametrize("by", ["standing", "policy", "delegate"])
def test_a_decision_that_nobody_made_at_the_screen_is_whole_and_cannot_be_put_down_to_another(
    by: str, open_one: Opener, alice: User, bob: User, terms: Any, tmp_path: Path
) -> None:
    terms(risk="low", groups=("reviewer",), outcome="allow" if by == "policy" else "ask")
    approval = open_one()
    if by == "standing":
        exactly = [{"path": path, "is": value} for path, value in REFUND.items()]
        until = database_now() + timedelta(days=1)
        asked: dict[str, Any] = {"digest": approval.digest, "given": exactly, "reason": "x", "uses_at_most": 1}
        services.make_standing(approval_id=approval.pk, by=alice, expires_at=until, **asked)
        approval = open_one()
    if by == "delegate":
        carl = User.objects.create(username="carl")
        carl.groups.add(Group.objects.get_or_create(name="admin")[0])
        now = database_now()
        window: dict[str, Any] = {"starts_at": now, "ends_at": now + timedelta(days=1), "reason": "away"}
        services.delegate(principal=alice, to=carl, by=alice, **window)
        services.decide(approval_id=approval.pk, reviewer=carl, given=answer(approval))
    pack.export(approval.pk, tmp_path / "pack.zip")
    with zipfile.ZipFile(tmp_path / "pack.zip") as archive:
        archive.extractall(tmp_path / "pack")
    assert verified(tmp_path / "pack")[0] == 0
    name = f"approvals/{approval.pk}/decisions.json"
    for change in ({"by": "mallory"}, {"source": "standing:other"}, {"on_behalf_of": "mallory"}):
        with_it = tmp_path / "-".join(change)
        shutil.copytree(tmp_path / "pack", with_it)
        rewritten(with_it, name, lambda rows, change=change: [rows[0] | change])  # type: ignore[misc]
        assert verified(with_it)[0] == 1, change


def test_an_effect_of_what_somebody_agreed_to_and_another_then_rejected_is_found(
    open_one: Opener, alice: User, bob: User, terms: Any, tmp_path: Path
) -> None:
    terms(needed=2)
    Run.objects.create(id="run-1", agent="support", input={"a": 1}, input_digest="0" * 64)
    approval = open_one()
    services.decide(approval_id=approval.pk, reviewer=alice, given=answer(approval))
    services.decide(approval_id=approval.pk, reviewer=bob, given=answer(approval, "reject", note="no"))
    Effect.objects.create(
        approval_id=approval.pk, run_id="run-1", tool=approval.tool, digest=approval.digest, decision_id="d",
        status="done", is_idempotent=True, fence=1,
    )  # fmt: skip
    pack.export(approval.pk, tmp_path / "pack.zip")
    with zipfile.ZipFile(tmp_path / "pack.zip") as archive:
        archive.extractall(tmp_path / "pack")
    status, said = verified(tmp_path / "pack")
    assert status == 1 and "is not what a decision had approved" in said


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_file_that_is_in_the_archive_twice_is_named(unpacked: Path) -> None:
    kept = unpacked.parent / "kept.zip"
    with zipfile.ZipFile(kept, "a") as archive:
        archive.writestr("chain.jsonl", (unpacked / "chain.jsonl").read_bytes())
    assert verified(unpacked, str(kept)) == (1, "CHANGED  chain.jsonl: is in the archive twice\n")


def test_an_effect_of_the_version_that_was_not_decided_is_found(unpacked: Path, told: Approval) -> None:
    first = told.versions.get(version=1).digest
    rewritten(unpacked, f"approvals/{told.pk}/effect.json", lambda effect: effect | {"digest": first})
    assert "is not what a decision had approved" in verified(unpacked)[1]


def renumbered(line: bytes, seq: int) -> bytes:
    """Return the entry under another number, which its digest does not hold."""
    return json.dumps(json.loads(line) | {"seq": seq}, ensure_ascii=False, sort_keys=True).encode()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: lines[1:], "does not follow"),
        (lambda lines: lines[:-1], "does not end with"),
        (lambda lines: [lines[1], lines[0], *lines[2:]], "does not follow"),
        (lambda lines: [lines[0].replace(b"agent support", b"agent suppert"), *lines[1:]], "not that of what it says"),
        (lambda lines: [lines[0].replace(b'"tool"', b'"tool": "x", "tool"'), *lines[1:]], "stands twice"),
        (lambda lines: [*lines, lines[-1]], "does not follow"),
        (lambda lines: [renumbered(lines[0], 10**6), *lines[1:]], "its number is not after"),
    ],
)
def test_a_chain_that_was_changed_does_not_fit(
    change: Callable[[list[bytes]], list[bytes]], words: str, unpacked: Path
) -> None:
    path = unpacked / "chain.jsonl"
    lines = path.read_bytes().splitlines()
    changed = change(lines)
    assert changed != lines
    path.write_bytes(b"\n".join(changed) + b"\n")
    manifest_anew(unpacked)
    status, said = verified(unpacked)
    assert status == 1 and words in said


def test_a_pack_made_anew_is_found_by_the_digest_in_the_record(unpacked: Path, told: Approval) -> None:
    kept = AuditEvent.objects.get(kind="evidence.exported")
    assert kept.subject == told.pk and kept.body["approvals"] == [told.pk]
    assert verified(unpacked, "--manifest", kept.body["manifest"])[0] == 0
    rewritten(unpacked, f"approvals/{told.pk}/receipt.json", lambda rows: [])
    assert verified(unpacked)[0] == 0  # nothing inside can tell it
    status, said = verified(unpacked, "--manifest", kept.body["manifest"])
    assert status == 1 and "manifest.json: its digest is" in said and "made anew" in said
    assert audit.verify().ok


def test_the_chains_part_is_whole_and_holds_a_head_from_outside(unpacked: Path, told: Approval) -> None:
    lines = [json.loads(line) for line in (unpacked / "chain.jsonl").read_text().splitlines()]
    about = AuditEvent.objects.filter(subject=told.pk).exclude(kind="evidence.exported").order_by("seq")
    assert (lines[0]["seq"], lines[-1]["seq"]) == (about.first().seq, about.last().seq)  # type: ignore[union-attr]
    assert {line["subject"] for line in lines} > {told.pk}  # what others did meanwhile is part of the chain
    assert verified(unpacked, "--head", lines[1]["digest"])[0] == 0
    status, said = verified(unpacked, "--head", "0" * 64)
    assert status == 1 and "chain.jsonl: the head" in said


# What it holds


def test_what_was_shown_is_in_it_in_full_and_inert(unpacked: Path, told: Approval) -> None:
    folder = unpacked / "approvals" / told.pk
    html, plain = (folder / "card-2.html").read_text(), (folder / "card-2.txt").read_text()
    for shown in (html, plain):
        assert "50.00" in shown and told.digest in shown and "amount" in shown
        assert "\u202e" not in shown
    assert "<script" not in html and "default-src 'none'" in html
    assert not [word for word in ("href=", "src=", "http://", "https://") if word in html]
    assert "89.40" in (folder / "card-1.txt").read_text()
    assert (folder / "versions" / "2.json").read_bytes() == bytes(told.canonical)


@pytest.mark.parametrize("given", ["words", 2.0, 1e22, -0.0, 1.5e-7, [1.10, {"b": None, "a": "ü\n"}], {"n": 10**15}])
def test_an_answer_of_any_shape_survives_the_database(
    given: Any, open_one: Opener, terms: Callable[..., Any], alice: User, tmp_path: Path
) -> None:
    terms(verdicts=("approve", "reject", "respond"))
    approval = open_one()
    services.decide(approval_id=approval.pk, reviewer=alice, given=answer(approval, "respond", answer=given, note="n"))
    exported = pack.export(approval.pk, tmp_path / "one.zip")
    assert verify.check(str(exported.path))[0] == []
    assert "words" in AuditEvent.objects.get(kind="approval.decided").body


@given(value=values)
def test_both_make_the_same_digest_of_words(value: Any) -> None:
    assert verify.digest_of_words("note", value) == audit.digest_of_words("note", value)


def test_moments_keep_their_microseconds(unpacked: Path, told: Approval) -> None:
    decision = Decision.objects.filter(approval=told).earliest("at")
    listed = json.loads((unpacked / "approvals" / told.pk / "decisions.json").read_text())
    assert listed[0]["at"] == audit.moment(decision.at)


def test_a_run_is_exported_with_all_its_approvals(open_one: Opener, tmp_path: Path) -> None:
    mine = [open_one(run_id="run-7"), open_one(run_id="run-7")]
    open_one(run_id="run-8")
    exported = pack.export("run-7", tmp_path / "run.zip")
    faults, _ = verify.check(str(exported.path), exported.digest)
    assert faults == []
    assert {one["what"] for one in exported.missing} == {"the run", "LangGraph's checkpoints of the run"}
    with zipfile.ZipFile(exported.path) as archive:
        names = archive.namelist()
    assert {name.split("/")[1] for name in names if name.startswith("approvals/")} == {one.pk for one in mine}


@pytest.mark.django_db(transaction=True)
def test_a_decision_that_comes_while_the_pack_is_written_is_in_all_of_it_or_in_nothing(
    open_one: Opener, alice: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    approval = open_one()
    usual = pack._add_chain

    def late(*args: Any) -> Any:
        given = answer(approval, "reject", note="no")
        at_once(
            lambda: services.decide(
                approval_id=approval.pk, reviewer=alice, given=given, circumstances=services.Circumstances("page")
            )
        )
        return usual(*args)

    monkeypatch.setattr(pack, "_add_chain", late)
    exported = pack.export(approval.pk, tmp_path / "one.zip")
    assert Decision.objects.filter(approval=approval).exists()
    assert verify.check(str(exported.path))[0] == []


def test_the_question_about_an_outcome_comes_along(open_one: Opener, tmp_path: Path) -> None:
    asked = open_one()
    question = open_one(kind="outcome", tool="confirm_outcome", arguments={"approval_id": asked.pk})
    open_one(kind="outcome", tool="confirm_outcome", arguments={"approval_id": "apr_other"})
    exported = pack.export(asked.pk, tmp_path / "one.zip")
    with zipfile.ZipFile(exported.path) as archive:
        about = {name.split("/")[1] for name in archive.namelist() if name.startswith("approvals/")}
    assert about == {asked.pk, question.pk}


def test_the_command_says_where_the_pack_is_and_what_is_not_in_it(told: Approval, tmp_path: Path) -> None:
    said = StringIO()
    call_command("export_evidence", told.pk, output=tmp_path / "pack.zip", stdout=said)
    lines = said.getvalue().splitlines()
    assert lines[0].startswith("Not in it: LangGraph's checkpoints of the run.")
    assert verify.check(str(tmp_path / "pack.zip"), lines[-1])[0] == []
    assert (tmp_path / "pack.zip").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("about", ["apr_none", "", "run\x00"])
def test_an_unknown_id_is_told_and_leaves_nothing(about: str, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="Neither an approval nor a run"):
        call_command("export_evidence", about, output=tmp_path / "pack.zip", stdout=StringIO())
    assert list(tmp_path.iterdir()) == []
    assert not AuditEvent.objects.exists()


def test_a_place_that_cannot_be_written_is_told_and_not_recorded(told: Approval, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="cannot be written"):
        call_command("export_evidence", told.pk, output=tmp_path / "none" / "pack.zip", stdout=StringIO())
    assert not AuditEvent.objects.filter(kind="evidence.exported").exists()


# The verifier alone


def test_the_verifier_is_plain_python_of_3_9() -> None:
    tree = ast.parse(VERIFIER, feature_version=(3, 9))
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name)
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert imported <= {"__future__", "argparse", "hashlib", "json", "os", "sys", "typing", "zipfile"}


@example(value={"\U0001f600": 1, "\uff61": 2})  # the standard sorts names by UTF-16
@given(value=values)
def test_the_verifiers_canonical_form_is_the_standards(value: Any) -> None:
    assert verify.canonical(value).encode() == rfc8785.dumps(value)
