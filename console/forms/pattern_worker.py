"""Look for patterns of strangers' schemas, in a process of its own that may be killed: see `console.forms.patterns`.

A request is a line `{"pattern": text, "texts": [text], "seconds": float}`, its answer a line `{"found": [bool],
"spent": seconds}` or `{"fault": "unreadable" | "late" | "memory", "spent": seconds}`. The system ends this process when
it takes more time than the request has, or more memory than MEMORY_BYTES. It imports nothing of ours.
"""

from __future__ import annotations

import json
import math
import resource
import sys
import time
from typing import Any

import regex

MEMORY_BYTES = 256 * 1024 * 1024  # of address space
_READING_SECONDS = 1.0  # of reading a pattern, which the library does without a deadline; RLIMIT_CPU counts in seconds


def main() -> None:
    """Answer requests until there are no more."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    for line in sys.stdin:
        began = time.process_time()
        request = json.loads(line)
        _allow(began + request["seconds"] + _READING_SECONDS)
        answer = _answer(request)
        sys.stdout.write(json.dumps({**answer, "spent": time.process_time() - began}) + "\n")
        sys.stdout.flush()


def _allow(until: float) -> None:
    """Have the system end this process when it has worked for so long since it began."""
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(until), hard))


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    ends = time.process_time() + request["seconds"]
    found = []
    try:
        pattern = regex.compile(request["pattern"])
        for text in request["texts"]:
            left = max(ends - time.process_time(), 0.001)
            found.append(pattern.search(text, timeout=left) is not None)
    except TimeoutError:
        return {"fault": "late"}
    except MemoryError:
        return {"fault": "memory"}
    except (regex.error, OverflowError, RecursionError, ValueError):
        return {"fault": "unreadable"}
    return {"found": found}


if __name__ == "__main__":
    main()
