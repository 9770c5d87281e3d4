"""The Pythons that are promised are those that everything has a wheel for, and that the Makefile looks for."""

from __future__ import annotations

import tomllib

import pytest

from console.environment import PROJECT

LOCK = tomllib.loads((PROJECT / "uv.lock").read_text())
NEEDED = [package for package in LOCK["package"] if "registry" in package["source"]]


def wheels_for(tag: str) -> set[str]:
    """Return which packages can be installed on that CPython, on Linux, without being built."""
    found = set()
    for package in NEEDED:
        for wheel in package.get("wheels", []):
            python, abi, platform = wheel["url"].rpartition("/")[2].removesuffix(".whl").split("-")[-3:]
            runs_there = abi == "abi3" and int(python.split(".")[0].removeprefix("cp3")) <= int(tag.removeprefix("cp3"))
            pure = platform == "any" and "py3" in python
            native = tag in python.split(".") or runs_there or (abi == "none" and "py3" in python)
            if pure or (native and ("manylinux" in platform or "linux" in platform)):
                found.add(package["name"])
    return found


@pytest.mark.parametrize("tag", ["cp311", "cp312", "cp313"])
def test_each_promised_python_has_a_wheel_of_everything(tag: str) -> None:
    without = {package["name"] for package in NEEDED} - wheels_for(tag)
    markers = {"colorama", "pywin32", "pendulum", "whenever", "tzdata", "win32-setctime", "backports-tarfile"}
    assert without <= markers


def test_the_makefile_looks_for_the_pythons_that_the_project_takes() -> None:
    assert LOCK["requires-python"] == ">=3.11, <3.14"
    makefile = (PROJECT / "Makefile").read_text()
    for version in ("3.11", "3.12", "3.13"):
        assert f"python{version}" in makefile
    assert "(3, 11) <= sys.version_info < (3, 14)" in makefile
    assert "Python 3.11, 3.12 or 3.13" in (PROJECT / "README.md").read_text()
