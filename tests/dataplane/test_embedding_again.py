"""Only what changed is embedded again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from dataplane.embedding import DIMENSIONS, Vectors, embed_changed, embedder
from dataplane.flows.tasks import earlier_vectors
from dataplane.flows.transforms import embedded_text

from .conftest import content, publish


class Counting:
    """Embeds with the real model, and keeps what it was asked for."""

    name = embedder().name

    def __init__(self) -> None:
        self.asked: list[str] = []

    def embed(self, texts: Sequence[str]) -> Vectors:
        self.asked += texts
        return embedder().embed(texts)


def test_a_text_that_is_known_keeps_its_vector_and_the_others_are_made_once() -> None:
    model, texts = Counting(), [f"Rule {number}" for number in range(100)]
    before, made = embed_changed(texts, {}, model)
    assert (before.shape, made) == ((100, DIMENSIONS), 100)
    model.asked.clear()
    changed = ["Rule 0 as it is now", *texts[1:], "Rule 7", "Rule 0 as it is now"]
    after, made = embed_changed(changed, dict(zip(texts, before, strict=True)), model)
    assert (made, model.asked) == (1, ["Rule 0 as it is now"]), "1 % changed embeds 1 %"
    assert np.array_equal(after[1:100], before[1:]) and np.array_equal(after[100], before[7])
    assert np.array_equal(after[0], after[101]) and np.array_equal(after[0], embedder().embed([changed[0]])[0])


def test_no_text_needs_no_vector() -> None:
    vectors, made = embed_changed([], {}, Counting())
    assert (vectors.shape, made) == ((0, DIMENSIONS), 0)


@pytest.mark.usefixtures("database_url")
def test_the_current_versions_vectors_come_back_bit_by_bit_and_another_models_do_not() -> None:
    assert earlier_vectors("handbook", embedder().name) == {}
    old, new = content("Thirty days.", "No gift cards."), content("Thirty days.", "Gift cards too.")
    publish("k1", old)
    publish("k2", new)
    known = earlier_vectors("handbook", embedder().name)
    assert list(known) == [embedded_text(row) for row in new.passages], "of the current version alone"
    assert np.array_equal(np.array(list(known.values())), new.vectors)
    assert earlier_vectors("handbook", "another model") == {}
