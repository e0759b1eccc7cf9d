"""Only finite numbers pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciinv.errors import DataError

__all__ = ["check_finite"]


def check_finite(array: NDArray[Any], where: Path | str, name: str) -> None:
    """Refuse NaN and Inf.

    :raises DataError: with how many there are and the index of the first.
    """
    if array.dtype.kind not in "fc":
        return
    bad = ~np.isfinite(array)
    if bad.any():
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        raise DataError(
            where,
            name,
            found=f"{int(bad.sum())} values NaN or Inf, the first at {first}",
            expected="finite numbers",
        )
