"""What is vendored is what the lock names, byte for byte."""

from __future__ import annotations

from console.environment import PROJECT
from console.management.commands.check_vendor import FOLDERS, check, read_lock


def test_every_vendored_file_is_the_locked_one() -> None:
    assert check() == []


def test_each_package_ships_its_licence() -> None:
    for package in read_lock()["packages"]:
        names = [file["path"].rsplit("/", 1)[-1] for file in package["files"]]
        assert any(name.startswith("LICENSE") for name in names), package["name"]
        assert package["integrity"].startswith("sha512-")


def test_nothing_vendored_is_a_script_from_elsewhere() -> None:
    for folder in FOLDERS:
        for path in (PROJECT / folder).rglob("*.js"):
            assert b"sourceMappingURL" not in path.read_bytes(), path
