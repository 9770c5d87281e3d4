"""Check the vendored files against vendor.lock.json, or fetch them anew (`--fetch`, with npm)."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import tarfile
import tempfile
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from console.environment import PROJECT

LOCK = PROJECT / "vendor.lock.json"
FOLDERS = ("static/vendor", "tests/vendor")
_SOURCE_MAP = re.compile(rb"\n?(//|/\*)# sourceMappingURL=\S+( \*/)?\s*$")  # the maps are not shipped
_SVG_BODY = re.compile(r"<svg[^>]*>(.*)</svg>", re.DOTALL)


class Command(BaseCommand):
    help = "Check that the vendored files are exactly those of vendor.lock.json."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--fetch", action="store_true", help="pack the packages again with npm and rewrite the files"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["fetch"]:
            fetch(self.stdout.write)
        faults = check()
        if faults:
            raise CommandError("\n".join(faults))
        self.stdout.write("All vendored files are as locked.")


def read_lock() -> dict[str, Any]:
    """Return the lock: for each package name, version, integrity of the tarball, and its files."""
    lock: dict[str, Any] = json.loads(LOCK.read_text())
    return lock


def check(project: Path = PROJECT) -> list[str]:
    """Return one sentence for each file that is missing, changed, or not in the lock."""
    locked = {file["path"]: file["sha256"] for package in read_lock()["packages"] for file in package["files"]}
    present = {
        str(path.relative_to(project)) for folder in FOLDERS for path in (project / folder).rglob("*") if path.is_file()
    }
    faults = [f"{path} is missing" for path in sorted(locked.keys() - present)]
    faults += [f"{path} is not in vendor.lock.json" for path in sorted(present - locked.keys())]
    for path in sorted(locked.keys() & present):
        content = (project / path).read_bytes()
        if hashlib.sha256(content).hexdigest() != locked[path]:
            faults.append(f"{path} differs from vendor.lock.json")
        if _SOURCE_MAP.search(content):
            faults.append(f"{path} names a source map that is not shipped")
    return faults


def fetch(say: Any) -> None:
    """Pack every package with npm, compare the tarball with the lock, write the files and their hashes."""
    lock = read_lock()
    with tempfile.TemporaryDirectory() as folder:
        for package in lock["packages"]:
            name = f"{package['name']}@{package['version']}"
            packed = subprocess.run(
                ["npm", "pack", "--silent", name], cwd=folder, check=True, capture_output=True, text=True
            )
            tarball = Path(folder) / packed.stdout.strip().splitlines()[-1]
            digest = base64.b64encode(hashlib.sha512(tarball.read_bytes()).digest()).decode()
            if f"sha512-{digest}" != package["integrity"]:
                raise CommandError(f"{name}: the tarball is not the one that was locked")
            with tarfile.open(tarball) as archive:
                for file in package["files"]:
                    _write(archive, file)
            say(f"{name}: {len(package['files'])} files")
    LOCK.write_text(json.dumps(lock, indent=2, ensure_ascii=False) + "\n")


def _write(archive: tarfile.TarFile, file: dict[str, Any]) -> None:
    content = _sprite(archive, file["icons"]) if "icons" in file else _member(archive, file["from"])
    content = _SOURCE_MAP.sub(b"\n", content)
    path = PROJECT / file["path"]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    file["sha256"] = hashlib.sha256(content).hexdigest()


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    member = archive.extractfile(f"package/{name}")
    if member is None:
        raise CommandError(f"{name} is not a file in the tarball")
    return member.read()


def _sprite(archive: tarfile.TarFile, icons: list[str]) -> bytes:
    """Return one SVG with a symbol per icon; `<use href="icons.svg#name">` draws it."""
    symbols = []
    for icon in icons:
        body = _SVG_BODY.search(_member(archive, f"icons/{icon}.svg").decode())
        if body is None:
            raise CommandError(f"the icon {icon} has no drawing")
        shape = re.sub(r"\s+", " ", body[1]).replace("> <", "><").strip()
        symbols.append(
            f'<symbol id="{icon}" viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2"'
            f' stroke-linecap="round" stroke-linejoin="round">{shape}</symbol>'
        )
    return ('<svg xmlns="http://www.w3.org/2000/svg">' + "\n".join(symbols) + "</svg>\n").encode()
