# SPDX-License-Identifier: GPL-2.0
"""Output in the Test Anything Protocol, version 13, as kselftest prints it."""

import sys
import traceback


class Skip(Exception):
    """Ends the running test, which is skipped; its argument says why."""


def diagnose(text):
    """Says in the output, line by line, what explains the result that follows."""
    for line in text.splitlines():
        print(f"# {line}", flush=True)


def run(tests):
    """Runs the tests, pairs of a name and a function that raises if it fails, and ends the program."""
    print(f"TAP version 13\n1..{len(tests)}", flush=True)
    failed = 0
    for number, (name, test) in enumerate(tests, 1):
        try:
            test()
            print(f"ok {number} {name}", flush=True)
        except Skip as reason:
            print(f"ok {number} {name} # SKIP {reason}", flush=True)
        except Exception:  # pylint: disable=broad-except
            failed += 1
            diagnose(traceback.format_exc())
            print(f"not ok {number} {name}", flush=True)
    sys.exit(failed > 0)
