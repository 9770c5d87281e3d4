"""Static files under names that say what is in them, and packed: fetched once, then kept by the browser for ever.

They are made once per release into `<SIGNALBOX_HOME>/static` by the first web process that starts, whoever starts it
(`make run`, or uvicorn by hand), and found there by the next. Where they were never made, as in tests, pages name the
files as they lie in the source, and everything works.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.staticfiles import finders
from django.contrib.staticfiles.storage import ManifestStaticFilesStorage, staticfiles_storage
from whitenoise.compress import Compressor

logger = logging.getLogger(__name__)

MADE_OF = "made-of"  # in STATIC_ROOT: names the files that it was made of


class NamedByContent(ManifestStaticFilesStorage):
    """Adds a digest to each name, also where one script imports another. A file that was not made keeps its own."""

    support_js_module_import_aggregation = True
    manifest_strict = False

    def read_manifest(self) -> str | None:  # type: ignore[override]  # Django returns None too
        try:
            return (Path(self.location) / self.manifest_name).read_text()
        except OSError:  # never made, or not readable
            return None

    def stored_name(self, name: str) -> str:
        made: str | None = self.hashed_files.get(self.hash_key(name.replace("\\", "/")))
        return made or name


def make() -> None:
    """Make what pages link to, unless it is there. Safe in any number of processes at once; raises nothing.

    Costs 0.1 s of CPU after a release. A folder that cannot be written leaves the files as they lie in the source.
    """
    try:
        settings.STATIC_ROOT.mkdir(parents=True, exist_ok=True)
        with open(settings.STATIC_ROOT / ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the second process waits, and finds them made
            digest = _digest_of_source()
            if _made_of() != digest:
                _make(settings.STATIC_ROOT, digest)
    except Exception:  # a page without packed files is better than none
        logger.exception("static files are served as they lie in the source")


def _made_of() -> str:
    try:
        return (settings.STATIC_ROOT / MADE_OF).read_text()
    except OSError:
        return ""


def _digest_of_source() -> str:
    """Return what changes with every file that is found: paths, sizes and times, without reading any."""
    digest = hashlib.sha256()
    for name, path in sorted(_found().items()):
        known = path.stat()
        digest.update(f"{name}\0{path}\0{known.st_size}\0{known.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _found() -> dict[str, Path]:
    """Return our own files by name. Those of the packages (the admin site, the API's docs) are seldom asked for."""
    return {name: Path(storage.path(name)) for name, storage in finders.FileSystemFinder().list([])}


def _make(root: Path, digest: str) -> None:
    """Make everything beside its place, then add it: a page of an older process still finds its files."""
    with tempfile.TemporaryDirectory(dir=root.parent) as draft:
        storage = NamedByContent(location=draft)
        paths = {}
        for name, path in _found().items():
            target = Path(draft) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            paths[name] = (storage, name)
        for name, _, outcome in storage.post_process(paths):
            if isinstance(outcome, Exception):
                raise RuntimeError(f"{name} names a file that is not there") from outcome
        for name in paths:
            (Path(draft) / name).unlink()  # those lie in the source
        pack = Compressor(quiet=True)
        for made in [path for path in Path(draft).rglob("*") if path.is_file()]:
            if pack.should_compress(str(made)):
                list(pack.compress(str(made)))
        manifest = storage.manifest_name
        shutil.copytree(draft, root, dirs_exist_ok=True, ignore=lambda _, names: {manifest} & set(names))
        shutil.copyfile(Path(draft) / manifest, root / (manifest + ".new"))
        (root / (manifest + ".new")).replace(root / manifest)
    (root / MADE_OF).write_text(digest)
    known: Any = staticfiles_storage  # Any: stands for the class in settings.STORAGES
    known.hashed_files, known.manifest_hash = known.load_manifest()
