#!/usr/bin/env python3
"""Verify an evidence pack of Signalbox. Needs Python 3.9 or newer and nothing else.

    python3 verify.py                     the unpacked folder in which this file lies
    python3 verify.py PACK.zip            an archive, or another folder
    python3 verify.py --manifest DIGEST   also compare with the digest that was told when the pack was made
    python3 verify.py --head DIGEST       also look for a head of the record that was kept elsewhere

What is checked, in this order; the first step that finds a fault ends the check:
1. manifest.json is as it was written, and every file is, byte by byte, what the manifest says.
2. Each entry of chain.jsonl has the digest of its RFC 8785 form, and follows the entry before.
3. What was proposed, shown, decided and executed agree: each decision's digest is that of a version's bytes, the chain
   holds an entry for it, and what was executed is what a decision had approved.

Exit status 0: nothing was changed. 1: something was; each line names the file. A pack whose manifest was made anew
passes step 1: compare the manifest's digest with the record, which keeps it as `evidence.exported`, or with your note.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import zipfile
from typing import Any

MANIFEST = "manifest.json"
CHAIN = "chain.jsonl"


class PackFault(Exception):
    """Something was changed; names the file."""

    def __init__(self, name: str, what: str) -> None:
        super().__init__(f"{name}: {what}")


def main() -> int:
    """Check one pack, say what was found, and return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("pack", nargs="?", default=os.path.dirname(os.path.abspath(__file__)))
    parser.add_argument("--manifest", metavar="DIGEST", help="the digest that was told when the pack was made")
    parser.add_argument("--head", metavar="DIGEST", help="a head of the record that was kept elsewhere")
    options = parser.parse_args()
    faults, told = check(options.pack, options.manifest, options.head)
    for line in faults:
        say(f"CHANGED  {line}")
    for line in told:
        say(line)
    return 1 if faults else 0


def say(line: str) -> None:
    sys.stdout.write(line.encode("ascii", "backslashreplace").decode() + "\n")


def check(pack: str, manifest_digest: str | None = None, head: str | None = None) -> tuple[list[str], list[str]]:
    """Return what is wrong with the pack, each line beginning with a file's name, and what else there is to say."""
    try:
        files = load(pack)
        manifest, digest = read_manifest(files)
    except PackFault as fault:
        return [str(fault)], []
    faults = check_bytes(files, manifest)
    if manifest_digest and manifest_digest != digest:
        faults.append(f"{MANIFEST}: its digest is {digest}, not {manifest_digest}; the pack was made anew")
    if not faults:
        try:
            entries = read_chain(files[CHAIN], manifest["chain"])
            if head and head not in [entry["digest"] for entry in entries]:
                faults.append(f"{CHAIN}: the head {head} is not among its entries")
            for approval_id in manifest["approvals"]:
                check_approval(files, approval_id, entries)
        except PackFault as fault:
            faults.append(str(fault))
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            faults.append(f"{MANIFEST}: the pack lacks something that it must hold ({type(error).__name__}: {error})")
    if faults:
        return faults, []
    told = [f"Nothing was changed: {len(files)} files, {len(entries)} entries of the record."]
    told += [f"Not in the pack: {one['what']}, because {one['why']}" for one in manifest["missing"]]
    told.append(f"The manifest's digest is {digest}. The record keeps it in an entry `evidence.exported`.")
    return [], told


# The files


def load(pack: str) -> dict[str, bytes]:
    """Return every file of a folder or an archive by its name in the pack."""
    if os.path.isdir(pack):
        found = {}
        for folder, _, names in os.walk(pack):
            for name in names:
                path = os.path.join(folder, name)
                inside = os.path.relpath(path, pack).replace(os.sep, "/")
                try:
                    with open(path, "rb") as file:
                        found[inside] = file.read()
                except OSError as error:
                    raise PackFault(inside, f"cannot be read ({error.strerror})") from error
        return found
    found = {}
    try:
        with zipfile.ZipFile(pack) as archive:
            for info in archive.infolist():
                if info.filename in found:
                    raise PackFault(info.filename, "is in the archive twice")
                try:
                    found[info.filename] = archive.read(info)
                except Exception as error:
                    raise PackFault(info.filename, f"is damaged inside the archive ({error})") from error
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise PackFault(os.path.basename(pack), f"is no archive that can be read ({error})") from error
    return found


def read_manifest(files: dict[str, bytes]) -> tuple[dict[str, Any], str]:
    """Return the manifest and its digest. It holds a digest of itself, and may be written in one way only."""
    if MANIFEST not in files:
        raise PackFault(MANIFEST, "is missing")
    try:
        manifest = parse(files[MANIFEST])
        content = manifest["content"]
        as_written = write_manifest(content)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise PackFault(MANIFEST, f"cannot be read ({error})") from error
    if as_written != files[MANIFEST]:
        raise PackFault(MANIFEST, "is not as it was written: its own digest does not fit")
    return content, hashlib.sha256(as_written).hexdigest()


def write_manifest(content: dict[str, Any]) -> bytes:
    """Return the only bytes that a manifest with this content may have."""
    digest = hashlib.sha256(canonical(content).encode()).hexdigest()
    return (json.dumps({"content": content, "digest": digest}, indent=1, sort_keys=True) + "\n").encode()


def check_bytes(files: dict[str, bytes], manifest: dict[str, Any]) -> list[str]:
    """Compare every file with the manifest."""
    faults = []
    listed = manifest["files"]
    for name in sorted(listed):
        if name not in files:
            faults.append(f"{name}: is missing")
        elif hashlib.sha256(files[name]).hexdigest() != listed[name]:
            faults.append(f"{name}: its bytes are not those that the manifest lists")
    faults += [f"{name}: is not in the manifest" for name in sorted(set(files) - set(listed) - {MANIFEST})]
    return faults


# The record


def read_chain(lines: bytes, told: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the entries, once each was found to fit."""
    entries: list[dict[str, Any]] = []
    previous = told["follows"]
    for number, line in enumerate(lines.splitlines(), start=1):
        entry = parse(line)
        fields = {name: entry[name] for name in ("at", "actor", "kind", "subject", "body", "previous")}
        if hashlib.sha256(canonical(fields).encode()).hexdigest() != entry["digest"]:
            raise PackFault(CHAIN, f"line {number}, entry {entry['seq']}: its digest is not that of what it says")
        if entry["previous"] != previous:
            raise PackFault(CHAIN, f"line {number}, entry {entry['seq']}: does not follow the entry before it")
        if entries and entry["seq"] <= entries[-1]["seq"]:
            raise PackFault(CHAIN, f"line {number}, entry {entry['seq']}: its number is not after the one before it")
        previous = entry["digest"]
        entries.append(entry)
    if previous != told["last"] or len(entries) != told["entries"]:
        raise PackFault(CHAIN, "does not end with the entry that the manifest names")
    return entries


# Proposed, shown, decided, executed


def check_approval(files: dict[str, bytes], approval_id: str, entries: list[dict[str, Any]]) -> None:
    """Compare the four records of one approval with each other and with the chain."""
    folder = f"approvals/{approval_id}"
    about = [entry for entry in entries if entry["subject"] == approval_id]
    digests = version_digests(files, folder, about)
    agreed = check_decisions(files, f"{folder}/decisions.json", digests, about)
    check_comments(files, f"{folder}/comments.json", about)
    approval = parse(files[f"{folder}/approval.json"])
    if digests.get(approval["version"]) != approval["digest"]:
        raise PackFault(f"{folder}/approval.json", "its digest is not that of its current version's bytes")
    effect = parse(files[f"{folder}/effect.json"])
    if effect is not None and effect["digest"] not in agreed:
        raise PackFault(f"{folder}/effect.json", "what was executed is not what a decision had approved")


def version_digests(files: dict[str, bytes], folder: str, about: list[dict[str, Any]]) -> dict[int, str]:
    """Return the digest of each version's bytes; the first is the one that the chain saw opened."""
    digests = {}
    for version in parse(files[f"{folder}/versions.json"]):
        name = f"{folder}/versions/{version['version']}.json"
        digests[version["version"]] = hashlib.sha256(files[name]).hexdigest()
        if digests[version["version"]] != version["digest"]:
            raise PackFault(name, "its bytes do not have the digest under which it was shown")
    opened = [entry["body"]["digest"] for entry in about if entry["kind"] == "approval.opened"]
    if opened != [digests[1]]:
        raise PackFault(f"{folder}/versions/1.json", "is not what the chain says was proposed")
    return digests


def check_decisions(
    files: dict[str, bytes], name: str, digests: dict[int, str], about: list[dict[str, Any]]
) -> set[str]:
    """Return the digest that people, or the policy, agreed to in the end, if they did."""
    recorded = {}
    for entry in about:
        if entry["kind"] in ("approval.decided", "approval.voted"):
            recorded[entry["body"]["decision"]] = entry
    decisions = parse(files[name])
    agreed = set()
    for one in decisions:
        which = f"decision {one['id']}"
        if digests.get(one["version"]) != one["digest"]:
            raise PackFault(name, f"{which}: what was shown is not the version that it names")
        if digests.get(one["for_version"]) != one["for_digest"]:
            raise PackFault(name, f"{which}: what it speaks for is not the version that it names")
        if one["id"] not in recorded:
            raise PackFault(name, f"{which}: the chain has no entry for it")
        entry = recorded.pop(one["id"])
        told = (entry["body"]["verdict"], entry["body"]["digest"], entry["body"]["version"])
        if told != (one["verdict"], one["for_digest"], one["for_version"]):
            raise PackFault(name, f"{which}: the chain tells another verdict or another digest")
        if entry["actor"] != (one["by"] or "policy"):
            raise PackFault(name, f"{which}: the chain tells that {entry['actor']} decided")
        how = tuple(entry["body"].get(field) or None for field in ("on_behalf_of", "source", "channel"))
        if how != tuple(one[field] or None for field in ("on_behalf_of", "source", "channel")):
            raise PackFault(name, f"{which}: the chain tells of another right, source or way")
        if entry["body"].get("words") not in (None, digest_of_words(one["note"], one["answer"])):
            raise PackFault(name, f"{which}: the chain tells of another comment or answer")
        if entry["kind"] == "approval.decided" and one["verdict"] in ("approve", "edit"):
            agreed.add(one["for_digest"])
    if recorded:
        raise PackFault(name, f"decision {min(recorded)}, which the chain tells of, is not in it")
    return agreed


def check_comments(files: dict[str, bytes], name: str, about: list[dict[str, Any]]) -> None:
    """Compare what was said with the digests that the chain holds of it."""
    recorded = {}
    for entry in about:
        if entry["kind"] == "approval.commented":
            recorded[entry["body"]["comment"]] = (entry["actor"], entry["body"]["digest"])
    for one in parse(files[name]):
        if recorded.pop(one["id"], None) != (one["by"], hashlib.sha256(one["text"].encode()).hexdigest()):
            raise PackFault(name, f"comment {one['id']}: the chain does not tell that {one['by']} said this")
    if recorded:
        raise PackFault(name, f"comment {min(recorded)}, which the chain tells of, is not in it")


def digest_of_words(*words: Any) -> str:
    """Return the digest by which the chain holds a comment and an answer."""
    return hashlib.sha256(json.dumps(without_zeros(words), sort_keys=True).encode()).hexdigest()


def without_zeros(value: Any) -> Any:
    """Return the JSON value with 2.0 as 2: the database does not keep that difference."""
    if isinstance(value, dict):
        return {key: without_zeros(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_zeros(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


# JSON


def canonical(value: Any) -> str:
    """Return RFC 8785 JSON of texts, whole numbers, truth values, nulls, lists and objects; no fractions."""
    if isinstance(value, dict):
        names = sorted(value, key=lambda name: name.encode("utf-16-be", "surrogatepass"))
        return "{" + ",".join(f"{canonical(name)}:{canonical(value[name])}" for name in names) + "}"
    if isinstance(value, list):
        return "[" + ",".join(canonical(item) for item in value) + "]"
    if isinstance(value, float):
        raise ValueError(f"{value} is a fraction, which no entry of the record holds")
    return json.dumps(value, ensure_ascii=False)


def parse(text: bytes) -> Any:
    """Return the JSON; a name that stands twice in an object would be read differently by different readers."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a name stands twice in an object")
        return found

    return json.loads(text.decode("utf-8"), object_pairs_hook=once)


if __name__ == "__main__":
    sys.exit(main())
