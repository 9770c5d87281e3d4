"""The verdict model: trained on what people decided, judged on what it has not seen, kept without pickle."""

from __future__ import annotations

import json
import pickle
import random
import sys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import FunctionTransformer
from skops import io

from dataplane import lineage, selectors, versions
from dataplane.catalogue import EVALUATION_SET, VERDICT_MODEL
from dataplane.contents.records import RecordRow, Records
from dataplane.contracts import RefreshOrder, RefreshOutcome
from dataplane.embedding import embedder
from dataplane.errors import ModelRefused, SourceInvalid, TrainingMissing
from dataplane.flows import training
from dataplane.flows.evaluating import Decided, cases_of
from dataplane.flows.learning import CaseSet, CurrentModel, judgement, published_cases, stands, worse
from dataplane.flows.training import loaded, too_little, train
from dataplane.flows.verdicts import Case, faults_of, scores_of
from dataplane.flows.verdicts import cases_of as read
from dataplane.models import Dataset, Refresh
from dataplane.refreshes.claim import claim

from .conftest import FLOW_RUN
from .fakes import FakePrefect


def decided(number: int, chance: random.Random) -> Decided:
    amount = chance.choice([5, 10, 20, 40, 80, 200, 400])
    tool = chance.choice(["issue_refund", "send_email"])
    is_too_much = tool == "issue_refund" and amount >= 80
    was_refused = is_too_much != (chance.random() < 0.06)
    return Decided(
        approval_id=f"apr_{number}",
        run_id=f"run_{number // 2}",
        agent="support",
        tool=tool,
        risk="high",
        summary=f"Pay {amount} EUR back to ada@example.org" if tool == "issue_refund" else f"Write about {amount} EUR",
        agent_words="The goods came late.",
        proposed=json.dumps({"tool": tool, "arguments": {"order_id": f"A-{number}", "amount": f"{amount}.00"}}),
        proposed_digest=f"{number:064}",
        dataset_versions=[],
        verdict="reject" if was_refused else "approve",
        note="SECRET REASON",
        edited_arguments=None,
        answer=None,
        decided_at=f"2026-11-{1 + number % 28:02}T00:00:00+00:00",
    )


def rows(count: int = 240, *, is_misleading: bool = False) -> list[RecordRow]:
    """Return cases; `is_misleading`: people do the contrary in the split that a model is judged on."""
    chance = random.Random(3)
    made = cases_of([decided(number, chance) for number in range(count)])
    if not is_misleading:
        return made
    other = {"approve": "reject", "reject": "approve"}
    return [
        replace(row, body={**row.body, "verdict": other[str(row.body["verdict"])]})
        if row.body["split"] == "test"
        else row
        for row in made
    ]


def cases(count: int = 240) -> list[Case]:
    return read((row.name, row.body) for row in rows(count))


def fitted(found: Sequence[Case]) -> training.Fitted:
    return train(found, embedder().embed([one.proposed.text for one in found]))


def test_what_people_usually_refuse_is_told_a_lower_chance_than_what_they_approve() -> None:
    found = cases()
    test = [one for one in found if one.split == "test"]
    chances = fitted(found).numbers.chances(
        [one.proposed for one in test], embedder().embed([one.proposed.text for one in test])
    )
    scores = scores_of(chances, [one.was_approved for one in test], 0.75)
    assert scores["log_loss"] < scores["log_loss_of_the_base_rate"] and scores["roc_auc"] > 0.7
    assert set(np.sign(np.diff([0.0, *sorted(chances), 1.0]))) <= {0.0, 1.0}, "chances lie between 0 and 1"


def test_nothing_of_the_held_out_cases_reaches_the_model() -> None:
    found = cases()
    other = [
        replace(one, was_approved=not one.was_approved, proposed=replace(one.proposed, summary="Other words."))
        if one.split == "test"
        else one
        for one in found
    ]
    assert fitted(found).numbers == fitted(other).numbers
    changed = [replace(one, was_approved=not one.was_approved) if one.split == "train" else one for one in found]
    assert fitted(found).numbers != fitted(changed).numbers


def test_the_model_sees_no_reason_no_change_and_nothing_about_a_person() -> None:
    seen = json.dumps([one.proposed.text for one in cases()])
    assert "SECRET REASON" not in seen and "ada@" not in seen and "<e-mail address>" in seen


def test_a_run_or_a_proposal_in_two_splits_is_a_fault() -> None:
    first, second, *rest = cases(20)
    assert faults_of([first, second, *rest]) == []
    moved = replace(second, split="test" if second.split != "test" else "train")
    ((name, why), *_) = faults_of([first, moved, *rest])
    assert name == second.name and "of the same run or proposal" in why
    alien = replace(rest[-1], run="run_alone", digest=first.digest, split="test" if first.split != "test" else "train")
    assert alien.name in dict(faults_of([first, second, *rest, alien]))
    assert "which there is not" in dict(faults_of([replace(first, split="all")]))[first.name]
    with pytest.raises(SourceInvalid, match="apr_9"):
        read([("apr_9", {"tool": "t"})])


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ([], "There are 0 decided requests to train on"),
        (cases(30), "to train on"),
        ([replace(one, was_approved=True) for one in cases()], "and did not in 0"),
        ([one for one in cases() if one.split != "test"], "There are 0 held-out cases"),
    ],
)
def test_too_little_is_said_in_words(found: list[Case], words: str) -> None:
    missing = too_little(found)
    assert missing is not None and words in missing.sentence
    assert too_little(cases()) is None


class Strange(LogisticRegression):  # type: ignore[misc]  # the library has no types
    """A model of a type that nobody has put on the list."""


@pytest.mark.parametrize(
    "file",
    [
        io.dumps(Strange()),
        io.dumps(FunctionTransformer(json.loads)),
        pickle.dumps({"a": 1}),
        b"",
        b"PK\x03\x04 no zip",
    ],
)
def test_a_file_with_anything_that_is_not_on_the_list_is_not_loaded(file: bytes) -> None:
    with pytest.raises(ModelRefused):
        loaded(file)


def test_a_kept_model_is_no_pickle_and_tells_what_its_numbers_tell() -> None:
    found = cases()
    made = fitted(found)
    assert made.file.startswith(b"PK") and b"pickle" not in made.file
    vectors = embedder().embed([one.proposed.text for one in found])
    layout = made.numbers.layout.rows([one.proposed for one in found], vectors)
    by_file = loaded(made.file).predict_proba(layout)[:, 1]
    assert np.allclose(by_file, made.numbers.chances([one.proposed for one in found], vectors), atol=1e-6)


def test_without_the_extra_the_job_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = cases()
    for name in [name for name in sys.modules if name.partition(".")[0] == "sklearn"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(TrainingMissing, match="--extra training"):
        fitted(found)


def test_a_worse_model_is_named_so() -> None:
    came = [True] * 8 + [False] * 2
    good = np.array([0.9] * 8 + [0.1] * 2)
    middling = np.array([0.8] * 8 + [0.6] * 2)
    scores = scores_of(middling, came, 0.8)
    assert worse(scores, came, None) == ""
    assert worse(scores, came, CurrentModel(3, None, "made with another")) == ""
    assert "worse than version 3" in worse(scores, came, CurrentModel(3, good))
    assert worse(scores, came, CurrentModel(3, middling)) == ""
    assert "no better than always telling the base rate" in worse(scores_of(1 - good, came, 0.8), came, None)


def test_a_current_model_that_was_not_tried_or_is_of_no_use_now_is_not_confirmed() -> None:
    came = [True] * 8 + [False] * 2
    good = np.array([0.9] * 8 + [0.1] * 2)
    scores = scores_of(1 - good, came, 0.8)
    assert stands(scores, came, CurrentModel(3, good))
    assert not stands(scores, came, CurrentModel(3, 1 - good))
    assert not stands(scores, came, CurrentModel(3, None, "made with another"))
    assert not stands(scores, came, None)


def publish_cases(key: str, made: list[RecordRow]) -> None:
    with claim(EVALUATION_SET, RefreshOrder(EVALUATION_SET.name, key), flow_run_id=FLOW_RUN) as claimed:
        versions.publish(
            EVALUATION_SET, Records(made), refresh_id=claimed.refresh_id, parameters={}, flow_run_id=FLOW_RUN
        )


def trained(key: str) -> RefreshOutcome:
    """Do what the flow does, without Prefect."""
    with claim(VERDICT_MODEL, RefreshOrder(VERDICT_MODEL.name, key), flow_run_id=FLOW_RUN) as claimed:
        if claimed.done is not None:
            return claimed.done
        found = published_cases(EVALUATION_SET.name)
        assert found is not None
        vectors = embedder().embed([one.proposed.text for one in found.cases])
        made, withheld, _ = judgement(
            VERDICT_MODEL.name, EVALUATION_SET.name, found, train(found.cases, vectors), vectors
        )
        if withheld:
            return versions.withhold(VERDICT_MODEL, withheld, refresh_id=claimed.refresh_id)
        return versions.publish(VERDICT_MODEL, made, refresh_id=claimed.refresh_id, parameters={}, flow_run_id=FLOW_RUN)


@pytest.mark.usefixtures("database_url")
def test_a_model_is_a_version_and_a_worse_one_is_not(ada: User, client: Client, fake_prefect: FakePrefect) -> None:
    assert published_cases(EVALUATION_SET.name) is None
    publish_cases("e1", rows())
    assert trained("k1").status == "published"
    assert trained("k2").status == "unchanged", "the same cases make the same model"
    confirmed_at = Dataset.objects.get(name=VERDICT_MODEL.name).confirmed_at

    publish_cases("e2", rows(is_misleading=True))
    outcome = trained("k3")
    assert (outcome.status, outcome.version) == ("finished", None) and "not published" in outcome.sentence
    row = Refresh.objects.get(key="k3")
    assert (row.status, row.note, row.error, row.version) == ("finished", outcome.sentence, "", None)
    assert trained("k3").was_done, "the same key is not trained again"
    assert Dataset.objects.get(name=VERDICT_MODEL.name).confirmed_at == confirmed_at, "of no use on these cases either"
    assert selectors.current_version(VERDICT_MODEL.name).version == 1

    version = selectors.version(VERDICT_MODEL.name, 1)
    assert version.inputs == [{"dataset": EVALUATION_SET.name, "version": 1}]
    assert "version:evaluation_set:1" in lineage.of(version).nodes
    (read_whole,) = selectors.read(VERDICT_MODEL.name, {}).items
    assert read_whole["scores"]["held_out_cases"] == len([one for one in cases() if one.split == "test"])

    client.force_login(ada)
    page = client.get(reverse("dataplane:version", args=[VERDICT_MODEL.name, 1])).content.decode()
    for words in ("Model card", "May not be used for", "Calibration", "calibration-dot", "Log loss", "<strong>"):
        assert words in page
    assert "No parts further on" not in page
    told = client.get(reverse("dataplane:data")).content.decode()
    assert "no better than always telling the base rate" in told


@pytest.mark.usefixtures("database_url")
def test_a_tool_with_a_hostile_name_stays_words_in_the_card(ada: User, client: Client) -> None:
    hostile = "<script>alert(1)</script>[x](javascript:alert(2))"
    named = [replace(one, proposed=replace(one.proposed, tool=hostile)) for one in cases()]
    found = CaseSet(1, named)
    vectors = embedder().embed([one.proposed.text for one in named])
    made, _, _ = judgement(VERDICT_MODEL.name, EVALUATION_SET.name, found, train(named, vectors), vectors)
    with claim(VERDICT_MODEL, RefreshOrder(VERDICT_MODEL.name, "k"), flow_run_id=FLOW_RUN) as claimed:
        versions.publish(VERDICT_MODEL, made, refresh_id=claimed.refresh_id, parameters={}, flow_run_id=FLOW_RUN)
    client.force_login(ada)
    page = client.get(reverse("dataplane:version", args=[VERDICT_MODEL.name, 1])).content.decode()
    assert "<script>alert" not in page and 'href="javascript' not in page and "&lt;script&gt;" in page
