"""The code of this worker's workflows as it was when the worker started, whatever is on the disk since.

Temporal's sandbox imports a workflow's module anew for each workflow, so a deploy in place would reach running workers
half: the module from the disk, and what it passes through from memory. Here those modules are kept in memory and given
to the sandbox from there. Whoever looks is told when the disk holds other code, so that the worker is started again.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Final

WORKFLOWS: Final = "orchestration.workflows"
#: what workflow code imports besides, passed through; a change of these asks for a new start as well
BESIDES: Final = ("orchestration.contracts", "console.backoff", "console.contracts")


class PinnedCode(MetaPathFinder, Loader):
    """The modules of a package and their sources, read once. `fingerprint`: of them and of what they need besides."""

    def __init__(self, package: str = WORKFLOWS, besides: Sequence[str] = BESIDES) -> None:
        home = Path(str(import_module(package).__file__)).parent
        files = {package: home / "__init__.py"}
        files |= {f"{package}.{path.stem}": path for path in sorted(home.glob("*.py")) if path.stem != "__init__"}
        self._sources = {name: path.read_bytes() for name, path in files.items()}
        self._codes = {name: compile(self._sources[name], str(path), "exec") for name, path in files.items()}
        self._files = files
        self._besides = [Path(str(import_module(name).__file__)) for name in besides]
        self.fingerprint = self._on_disk()

    def is_on_disk(self) -> bool:
        """Return whether the files still hold what this process runs; a file that cannot be read holds another."""
        try:
            return self._on_disk() == self.fingerprint
        except OSError:
            return False

    def _on_disk(self) -> str:
        found = hashlib.sha256()
        homes = {path.parent for path in self._files.values()}
        files = sorted({*self._besides, *(path for home in homes for path in home.glob("*.py"))})
        for path in files:
            found.update(path.name.encode() + b"\0" + path.read_bytes())
        return found.hexdigest()[:12]

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self._codes:
            return None
        file = self._files[fullname]
        spec = ModuleSpec(fullname, self, origin=str(file), is_package=file.name == "__init__.py")
        spec.has_location = True
        if spec.submodule_search_locations is not None:
            spec.submodule_search_locations.append(str(file.parent))
        return spec

    def exec_module(self, module: ModuleType) -> None:
        exec(self._codes[module.__name__], module.__dict__)

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Let every import of these modules, also the sandbox's, get what was read."""
        sys.meta_path.insert(0, self)
        try:
            yield
        finally:
            sys.meta_path.remove(self)
