"""Take every measurement again, one after the other, and write docs/speed.md: `make bench`.

Wants a machine with nothing else to do for about an hour. One that fails does not keep the others from being taken.
"""

from __future__ import annotations

import subprocess
import sys

from bench.decision import say
from docs.tables import BENCHES


def main() -> None:
    failed = []
    for name in BENCHES:
        say(f"bench.{name}")
        if subprocess.run([sys.executable, "-m", f"bench.{name}", "--record"], check=False).returncode:
            failed.append(name)
    subprocess.run([sys.executable, "manage.py", "write_docs"], check=True)
    if failed:
        raise SystemExit(f"Not taken, for they failed: {', '.join(failed)}.")


if __name__ == "__main__":
    main()
