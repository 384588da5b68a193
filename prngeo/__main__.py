"""The command `prngeo`: errors become one paragraph on stderr and an exit code."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line."""
    from prngeo.cli.app import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
