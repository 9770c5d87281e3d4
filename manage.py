#!/usr/bin/env python
"""Run Signalbox's commands: `manage.py up` starts everything, `manage.py help` lists the rest."""

from __future__ import annotations

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "console.settings")
    if sys.argv[1:2] == ["up"]:  # it starts processes and needs no app: two seconds sooner than behind all of them
        from stack.management.commands.up import Command

        return Command().run_from_argv(sys.argv)
    from django.core.management import execute_from_command_line

    return execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
