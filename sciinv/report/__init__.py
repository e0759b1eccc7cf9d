"""Figures and the self-contained HTML page of a result."""

from __future__ import annotations

from sciinv.report.verdict import verdict

__all__ = ["verdict"]
