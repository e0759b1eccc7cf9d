"""The command line: ``sciinv.cli:app``. Commands import what they need when they run."""

from sciinv.cli.app import app

__all__ = ["app"]
