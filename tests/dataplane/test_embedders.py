"""Several models behind one interface: chosen by a setting, named by each version, asked by the version's own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from console.environment import environment
from dataplane import selectors
from dataplane.contents.passages import PassageContent
from dataplane.embedding import DIMENSIONS, Embedder, WordLlamaEmbedder, embedder, embedder_named
from dataplane.errors import EmbedderAway, EmbedderChanged, EmbedderInvalid

from .conftest import passage, publish

WORDS = ["[UNK]", "damaged", "goods", "gift", "cards", "days"]


@pytest.fixture
def choose(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    def choose(names: str) -> None:
        monkeypatch.setenv("SIGNALBOX_EMBEDDER", names)
        environment.cache_clear()

    yield choose
    monkeypatch.undo()
    environment.cache_clear()


def folder(path: Path, *, dimensions: int = DIMENSIONS, seed: int = 1, **more: Any) -> Path:
    """Write a model as model2vec writes it: a vector for each word."""
    path.mkdir(parents=True)
    vectors = np.random.default_rng(seed).normal(size=(len(WORDS), dimensions)).astype(np.float32)
    save_file({"embeddings": vectors, **more}, path / "model.safetensors")
    tokenizer: Any = Tokenizer(WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(path / "tokenizer.json"))
    (path / "config.json").write_text(json.dumps({"model_type": "model2vec", "normalize": True}))
    return path


def made_with(model: Embedder, *texts: str) -> PassageContent:
    rows = [passage(text) for text in texts]
    return PassageContent(rows, model.embed(list(texts)), model.name)


def test_without_a_setting_it_is_the_model_that_ships(choose: Callable[[str], None]) -> None:
    for names in ("", "wordllama", " , "):
        choose(names)
        assert embedder().name == WordLlamaEmbedder.name
    assert np.allclose(np.linalg.norm(embedder().embed(["Thirty days."]), axis=1), 1, atol=1e-5)


def test_a_folder_gives_the_mean_of_its_words(tmp_path: Path, choose: Callable[[str], None]) -> None:
    choose(f"model2vec:{folder(tmp_path / 'small')}")
    model = embedder()
    assert model.name.startswith("model2vec:small@") and len(model.name) <= 100
    damaged, goods, both, unknown = model.embed(["damaged", "goods", "damaged zzz goods", "zzz"])
    table = np.random.default_rng(1).normal(size=(len(WORDS), DIMENSIONS)).astype(np.float32)
    assert np.allclose(damaged, table[1] / np.linalg.norm(table[1]), atol=1e-6)
    mean = (table[1] + table[2]) / 2
    assert np.allclose(both, mean / np.linalg.norm(mean), atol=1e-6) and not unknown.any()
    assert model.embed([]).shape == (0, DIMENSIONS) and not np.allclose(damaged, goods)


def test_the_same_folder_elsewhere_has_the_same_name_and_another_model_another(
    tmp_path: Path, choose: Callable[[str], None]
) -> None:
    names = []
    for place, seed in (("a/small", 1), ("b/small", 1), ("c/small", 2)):
        choose(f"model2vec:{folder(tmp_path / place, seed=seed)}")
        names.append(embedder().name)
    assert names[0] == names[1] != names[2]


def test_weights_and_shared_rows_of_a_folder_count(tmp_path: Path, choose: Callable[[str], None]) -> None:
    mapping = np.array([0, 1, 1, 3, 4, 5], dtype=np.int64)
    weights = np.array([1, 2, 1, 1, 1, 1], dtype=np.float32)
    choose(f"model2vec:{folder(tmp_path / 'm', mapping=mapping, weights=weights)}")
    damaged, goods, pair = embedder().embed(["damaged", "goods", "damaged gift"])
    assert np.allclose(damaged, goods, atol=1e-6)
    table = np.random.default_rng(1).normal(size=(len(WORDS), DIMENSIONS)).astype(np.float32)
    mean = (2 * table[1] + table[3]) / 2
    assert np.allclose(pair, mean / np.linalg.norm(mean), atol=1e-6)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("model2vec:/not/there", r"has no model\.safetensors"),
        ("something", "Write wordllama, model2vec:/a/folder, or provider:model"),
        ("nobody:a-model", "The embedding model nobody:a-model cannot be used"),
    ],
)
def test_what_cannot_be_used_is_told_in_a_sentence(names: str, words: str, choose: Callable[[str], None]) -> None:
    choose(names)
    with pytest.raises(EmbedderInvalid, match=words):
        embedder()


def test_vectors_of_another_length_are_told_before_anything_is_written(
    tmp_path: Path, choose: Callable[[str], None]
) -> None:
    choose(f"model2vec:{folder(tmp_path / 'short', dimensions=64)}")
    with pytest.raises(EmbedderInvalid, match="makes vectors of 64 numbers; the column of passages holds 256"):
        embedder()


@pytest.mark.usefixtures("database_url")
def test_a_search_asks_with_the_model_of_the_version_it_reads(tmp_path: Path, choose: Callable[[str], None]) -> None:
    small = folder(tmp_path / "small")
    choose(f"model2vec:{small}")
    publish("k1", made_with(embedder(), "damaged goods", "gift cards"))
    assert selectors.current_version("handbook").embedder == embedder().name
    choose(f"wordllama,model2vec:{small}")  # new ones are made by another; this version is asked by its own
    assert embedder().name == WordLlamaEmbedder.name
    assert selectors.nearest_passages(query="cards gift", limit=1).passages[0].text == "gift cards"
    publish("k2", made_with(embedder(), "damaged goods", "gift cards"))
    assert selectors.current_version("handbook").version == 2, "the same words by another model are another version"
    old, new = (selectors.version("handbook", number) for number in (1, 2))
    for version in (old, new):
        assert selectors.search(version, "damaged", limit=1).hits[0].text == "damaged goods"
    choose("wordllama")
    with pytest.raises(EmbedderChanged, match=r"Version 1 of handbook was embedded with model2vec:small@.*Refresh"):
        selectors.search(old, "damaged", limit=1)


class _Hosted(BaseHTTPRequestHandler):
    """Answers as OpenAI does, with vectors as long as was asked for, or as long as `length` says."""

    length = 0
    status = 200
    asked: list[dict[str, Any]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        _Hosted.asked.append(body)
        length = _Hosted.length or body.get("dimensions", 1536)
        data = [
            {"object": "embedding", "index": n, "embedding": [1.0] + [0.5] * (length - 1)}
            for n in range(len(body["input"]))
        ]
        answer = json.dumps(
            {"object": "list", "data": data, "model": body["model"], "usage": {"prompt_tokens": 1, "total_tokens": 1}}
        )
        self.send_response(_Hosted.status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(answer.encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def hosted(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_Hosted]]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hosted)
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "not a key")
    _Hosted.length, _Hosted.status = 0, 200
    _Hosted.asked.clear()
    yield _Hosted
    server.shutdown()
    server.server_close()


def test_a_hosted_model_is_asked_for_vectors_that_fit(hosted: type[_Hosted], choose: Callable[[str], None]) -> None:
    choose("openai:text-embedding-3-small")
    vectors = embedder().embed(["Thirty days.", "Gift cards."])
    assert vectors.shape == (2, DIMENSIONS) and np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert hosted.asked[-1]["dimensions"] == DIMENSIONS
    named = embedder_named("openai:text-embedding-3-small", whose="Version 1 of handbook")
    assert named is embedder()
    hosted.length = 1536
    with pytest.raises(EmbedderInvalid, match="makes vectors of 1536 numbers"):
        embedder().embed(["Thirty days."])
    hosted.status = 401
    with pytest.raises(EmbedderAway, match="openai:text-embedding-3-small gave no vectors"):
        embedder().embed(["Thirty days."])
