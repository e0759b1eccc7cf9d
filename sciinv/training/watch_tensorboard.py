"""TensorBoard: scalars and sample grids of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from sciinv.errors import SciinvError
from sciinv.training.config import TrainingConfig
from sciinv.training.curve import Curve, contact_sheet
from sciinv.training.watch import Progress, Watcher


class TensorBoard(Watcher):
    """Writes loss, gradient norm, rate, speed, denoising and examples into a folder.

    A resumed run writes into the same folder and withdraws the steps that were lost, so that none
    is shown twice.

    :param folder: for ``tensorboard --logdir``.
    :raises SciinvError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise SciinvError(
                "training needs Lightning Fabric and TensorBoard: pip install 'sciinv[train]'"
            ) from None
        self.folder = folder
        self._make = SummaryWriter
        self._writer: Any = None

    def begin(self, config: TrainingConfig, parameters: int, first: int, batch: int) -> None:
        """Open the folder; what an earlier process wrote after step ``first`` is withdrawn."""
        purge = first + 1 if first else None
        self._writer = self._make(str(self.folder), purge_step=purge)

    def progress(self, state: Progress) -> None:
        """Write the scalars."""
        values = {
            "loss": state.loss, "gradient norm": state.gradient, "learning rate": state.rate,
            "images per second": state.images_per_second,
        }  # fmt: skip
        for name, value in values.items():
            self._writer.add_scalar(f"training/{name}", value, state.step)

    def curve(self, step: int, curve: Curve, grid: Tensor) -> None:
        """Write PSNR and error over sigma, and a picture of clean, noisy and denoised images."""
        for sigma, row in curve.items():
            for name, key in (("psnr (dB)", "psnr"), ("error over noise", "error_over_sigma")):
                self._writer.add_scalar(f"{name}/noise {sigma}", row[key], step)
        self._writer.add_image("clean, noisy, denoised", contact_sheet(grid)[None], step)
        self._writer.flush()

    def stopped(self, step: int, checkpoint: Path) -> None:
        """Close the folder."""
        self._writer.close()

    def end(self, path: Path, card: dict[str, Any]) -> None:
        """Close the folder."""
        self._writer.close()
