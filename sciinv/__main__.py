"""``python -m sciinv``: the command line, as launchers of several processes start it."""

from __future__ import annotations

from sciinv.cli import app

if __name__ == "__main__":
    app(prog_name="sciinv")
