"""The retrieval adapter: learned from questions, judged on those held out, and withheld where it does not help."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from django.contrib.auth.models import User
from django.urls import reverse

from console.environment import PROJECT, environment
from dataplane import lineage, selectors, versions
from dataplane.catalogue import RETRIEVAL_ADAPTER
from dataplane.contents.base import Withheld
from dataplane.contracts import RefreshOrder, RefreshOutcome
from dataplane.embedding import Vectors, embedder, unit
from dataplane.flows import adapting
from dataplane.flows.adapter import FOLDS, Searched, by_chance, folds, learn, why_not
from dataplane.flows.verdicts import Numbers
from dataplane.models import Refresh, SearchScore
from dataplane.questions import Question, read_questions
from dataplane.refreshes.claim import claim
from dataplane.search_figures import figures_of

from .conftest import FLOW_RUN, publish
from .fakes import FakePrefect
from .indexing import rebuild
from .test_search_quality import SHIPPED, shipped
from .test_views import page

SIZE = 32
TOPICS = 120


def turned_world(*, noise: float = 0.0) -> tuple[list[Question], Vectors, Searched]:
    """Return questions whose vectors are those of their passages, turned by one rotation: a matrix can undo that."""
    chance = np.random.default_rng(5)
    passages = unit(chance.normal(size=(TOPICS, SIZE)).astype(np.float32))
    rotation, _ = np.linalg.qr(chance.normal(size=(SIZE, SIZE)))
    asked = passages @ rotation + noise * chance.normal(size=passages.shape)
    questions = [Question(f"What is {number}?", (f"{number}.md # H",)) for number in range(TOPICS)]
    return questions, unit(asked.astype(np.float32)), Searched([one.passages[0] for one in questions], passages)


def test_what_one_matrix_can_undo_is_learned_and_found_on_questions_held_out() -> None:
    found = learn(*turned_world())
    assert found.without.recall < 0.3 and found.with_it.recall > found.without.recall + 0.3
    assert why_not(found) == ""


def test_nothing_to_learn_is_not_published() -> None:
    questions, asked, searched = turned_world()
    unrelated = unit(np.random.default_rng(9).normal(size=asked.shape).astype(np.float32))
    assert "is not published" in why_not(learn(questions, unrelated, searched))
    right = learn(questions, searched.vectors, searched)
    assert (right.gained, right.with_it.found) == (0, TOPICS)
    assert why_not(right).endswith("It does not help, so it is not published.")


def test_a_gain_that_chance_gives_as_well_is_none() -> None:
    assert by_chance(1, 0) == 0.5 and by_chance(5, 0) == 1 / 32 and by_chance(0, 0) == 1.0
    assert by_chance(6, 5) == 0.5 and by_chance(12, 2) < 0.05
    found = learn(*turned_world())
    questions = [Question(str(number), ("a",)) for number in range(40)]
    few, more = (figures_of("exact", questions, [["a" if n < right else "b"] for n in range(40)]) for right in (30, 33))
    assert "comes by chance as well" in why_not(replace(found, without=few, with_it=more))


def test_a_question_never_meets_an_adapter_that_has_seen_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its right passages may be named at will, and nothing of its own turned vector changes."""
    questions, asked, searched = turned_world()
    turned: list[list[list[str]]] = []
    answers = Searched.answers

    def kept(self: Searched, vectors: Numbers) -> list[list[str]]:
        turned.append(answers(self, vectors))
        return turned[-1]

    monkeypatch.setattr(Searched, "answers", kept)
    learn(questions, asked, searched)
    before = turned[-2]  # the last but one: the turned questions; the last: as they were
    here = [place for place, one in enumerate(folds(questions)) if one == 0]
    names = [one.passages[0] for one in questions]
    other = searched.targets(questions)
    other[here] = other[here][::-1]
    monkeypatch.setattr(Searched, "targets", lambda self, _: other)
    learn(questions, asked, searched)
    assert 0 < len(here) < len(names)
    assert [before[place] for place in here] == [turned[-2][place] for place in here]
    rest = [place for place in range(TOPICS) if place not in here]
    assert [before[place] for place in rest] != [turned[-2][place] for place in rest], "of the others they are part"


def test_questions_with_a_passage_in_common_are_in_one_fold_and_stay_there() -> None:
    questions = read_questions(SHIPPED)
    fold = folds(questions)
    assert set(fold) == set(range(FOLDS))
    shared = [Question("a", ("x",)), Question("b", ("x", "y")), Question("c", ("y",)), *questions]
    more = folds(shared)
    assert len(set(more[:3])) == 1 and list(more[3:]) == list(fold)


def trained(key: str) -> RefreshOutcome:
    """Do what the flow does, without Prefect."""
    with claim(RETRIEVAL_ADAPTER, RefreshOrder(RETRIEVAL_ADAPTER.name, key), flow_run_id=FLOW_RUN) as claimed:
        if claimed.done is not None:
            return claimed.done
        found = adapting.pairs_of("handbook")
        if not isinstance(found, Withheld):
            learned = adapting.learned_from(found)
            sentence = why_not(learned)
            made = Withheld(sentence) if sentence else adapting.model_of(found, learned)
        else:
            made = found
        if isinstance(made, Withheld):
            return versions.withhold(RETRIEVAL_ADAPTER, made, refresh_id=claimed.refresh_id)
        return versions.publish(
            RETRIEVAL_ADAPTER, made, refresh_id=claimed.refresh_id, parameters={}, flow_run_id=FLOW_RUN
        )


@pytest.fixture
def _handbook(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGNALBOX_HANDBOOK", str(PROJECT / "examples" / "handbook"))
    environment.cache_clear()


@pytest.mark.usefixtures("_handbook")
def test_on_the_shipped_handbook_it_does_not_help_so_it_is_withheld_and_the_pages_say_so(
    ada: User, fake_prefect: FakePrefect
) -> None:
    address = reverse("dataplane:search", args=["handbook"])
    assert "no version yet" in trained("k0").sentence
    publish("k1", shipped())
    rebuild("i1", read_questions(SHIPPED), least_rows=1)
    assert "no version yet" in page(ada, address)
    outcome = trained("k1")
    assert (outcome.status, outcome.version) == ("finished", None)
    assert "questions that it had not seen" in outcome.sentence and "is not published" in outcome.sentence
    assert Refresh.objects.get(key="k1", dataset=RETRIEVAL_ADAPTER.name).note == outcome.sentence
    scores = {row.method: row for row in SearchScore.objects.all()}
    assert set(scores) == {"exact", "index", "adapter"}
    assert len({(row.questions_digest, row.questions) for row in scores.values()}) == 1, "all are asked the same"
    assert scores["adapter"].found <= scores["exact"].found
    shown = page(ada, address)
    assert "Exact, with a trained adapter" in shown and outcome.sentence.split(" (")[0] in shown
    assert "is not published" in page(ada, reverse("dataplane:data"))


@pytest.mark.usefixtures("_handbook")
def test_one_that_helps_is_a_version_with_a_card_lineage_and_a_matrix(
    ada: User, fake_prefect: FakePrefect, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = shipped()
    asked = embedder()
    texts = {one.ask: one for one in read_questions(SHIPPED)}
    names = [f"{row.document} # {row.heading}" for row in made.passages]

    class Turned:
        """A model that asks for the right passage, but pulls every question to the first one as well."""

        name = asked.name

        def embed(self, wanted: list[str]) -> Vectors:
            places = [names.index(texts[one].passages[0]) for one in wanted]
            return unit((0.3 * made.vectors[places] + made.vectors[0]).astype(np.float32))

    monkeypatch.setattr(adapting, "embedder_named", lambda name, whose: Turned())
    publish("k1", made)
    assert trained("k1").status == "published"
    assert "Version 1 is published: with it" in page(ada, reverse("dataplane:search", args=["handbook"]))
    assert trained("k2").status == "unchanged", "the same questions and passages make the same adapter"
    version = selectors.version(RETRIEVAL_ADAPTER.name, 1)
    assert version.inputs == [{"dataset": "handbook", "version": 1}] and version.embedder == asked.name
    assert "version:handbook:1" in lineage.of(version).nodes
    (read_whole,) = selectors.read(RETRIEVAL_ADAPTER.name, {}).items
    assert read_whole["scores"]["recall_at_5"] > read_whole["scores"]["recall_at_5_without"]
    kept = np.load(io.BytesIO(bytes(version.records.get(name="numbers").file or b"")), allow_pickle=False)
    assert kept.shape == (256, 256) and kept.dtype == np.float32
    shown = page(ada, reverse("dataplane:version", args=[RETRIEVAL_ADAPTER.name, 1]))
    assert "Retrieval adapter" in shown and "May not be used for" in shown and "Recall at 5" in shown
