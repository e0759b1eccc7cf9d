"""``sciinv phantoms``: look at the procedural worlds that priors are trained on."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from numpy.typing import NDArray

BRIGHTEST = 1.2  # value drawn white
GAP = 2  # pixels between images


def phantoms(
    world: str = typer.Option("generic", metavar="NAME", help="generic, mri, ct or objects."),
    size: int = typer.Option(128, min=16, max=1024, metavar="N", help="Pixels along each side."),
    count: int = typer.Option(24, min=1, max=400, metavar="N", help="Number of images."),
    columns: int = typer.Option(6, min=1, max=40, metavar="N", help="Images in a row."),
    seed: int = typer.Option(0, min=0, metavar="N", help="Seed of the images."),
    without: list[str] = typer.Option(
        [], metavar="NAME", help="Ingredient to leave out; may be repeated, or a,b,c."
    ),
    complex_: bool = typer.Option(False, "--complex", help="Complex images of the generic world."),
    output: Path = typer.Option(
        Path("phantoms.png"), "--output", "-o", metavar="PNG", help="File to write."
    ),
    overwrite: bool = typer.Option(False, help="Replace an existing file."),
) -> None:
    """Draw images of a procedural world: magnitude, and beside it the phase if it has one.

    The grey scale is from 0 to 1.2 for all. Leaving an ingredient out keeps the rest of every image
    as it was, so that two grids can be compared picture by picture.
    """
    import numpy as np

    from sciinv.cli.console import phase_line, say
    from sciinv.data.phantoms.world import World
    from sciinv.errors import DataError, SciinvError

    if output.suffix.lower() != ".png":
        raise DataError(output, found=output.suffix or "no suffix", expected=".png")
    if output.is_dir() or (output.exists() and not overwrite):
        found = "a folder" if output.is_dir() else "an existing file"
        raise DataError(output, found=found, expected="none", hint="use --overwrite or -o")
    if not output.absolute().parent.is_dir():
        raise DataError(output, found="no such folder", expected="an existing folder")
    left_out = [name.strip() for item in without for name in item.split(",") if name.strip()]
    try:
        source = World(world, without=left_out)
        rng = np.random.default_rng(seed)
        images = [
            source.draw((size, size), rng, complex_=True if complex_ else None)
            for _ in range(count)
        ]
    except ValueError as error:
        raise SciinvError(str(error)) from error
    data = to_png(mosaic(images, columns))
    try:
        output.write_bytes(data)
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(output, found=reason, expected="a file that can be written") from error
    say(phase_line("world", f"{world}: {', '.join(source.ingredients)}"))
    if source.without:
        say(phase_line("without", ", ".join(source.without)))
    say(str(output))


def mosaic(images: list[NDArray[Any]], columns: int) -> NDArray[Any]:
    """Put images side by side.

    :param images: ``(H, W)`` each, real or complex; complex ones get their phase to the right of
        the magnitude, in cyclic colours (0 is white), black below 2 % of the brightest.
    :param columns: images in a row.
    :return: ``(rows, columns, 3)`` uint8; magnitudes from 0 (black) to ``BRIGHTEST`` (white).
    """
    import numpy as np

    tiles = [_tile(image) for image in images]
    columns = min(columns, len(tiles))
    height, width = tiles[0].shape[:2]
    rows = -(-len(tiles) // columns)
    shape = (rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3)
    canvas = np.full(shape, 70, dtype=np.uint8)
    for index, tile in enumerate(tiles):
        top = (index // columns) * (height + GAP)
        left = (index % columns) * (width + GAP)
        canvas[top : top + height, left : left + width] = tile
    return canvas


def _tile(image: NDArray[Any]) -> NDArray[Any]:
    import numpy as np

    magnitude = np.abs(image)
    grey = np.round(np.clip(magnitude / BRIGHTEST, 0, 1) * 255).astype(np.uint8)
    tile = np.repeat(grey[:, :, None], 3, axis=2)
    if not np.iscomplexobj(image):
        return tile
    from matplotlib import colormaps

    turn = np.angle(image) / (2 * np.pi) % 1  # 0 is white, pi dark
    colour = np.asarray(colormaps["twilight"](turn)[:, :, :3])
    colour[magnitude < 0.02 * max(float(magnitude.max()), 1e-12)] = 0
    return np.concatenate([tile, np.round(colour * 255).astype(np.uint8)], axis=1)


def to_png(pixels: NDArray[Any]) -> bytes:
    """Encode ``(rows, columns, 3)`` uint8 as PNG, grey if it has no colours."""
    import numpy as np
    from PIL import Image

    grey = np.array_equal(pixels[..., 0], pixels[..., 1]) and np.array_equal(
        pixels[..., 0], pixels[..., 2]
    )
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if grey else pixels).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
