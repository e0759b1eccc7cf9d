"""What to do when memory ends: fewer images at a time, which changes no sample."""

from __future__ import annotations

import gc

import torch

__all__ = ["free", "is_out_of_memory"]

# what the allocators of the CPU say; that of a GPU has an error class of its own
_WORDS = ("not enough memory", "can't allocate memory", "cannot allocate memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory, of the host or of a device, is used up."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _WORDS)


def free() -> None:
    """Give back what nobody refers to any more, also to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
