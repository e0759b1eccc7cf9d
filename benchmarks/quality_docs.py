"""Tables and chosen figures of the quality benchmark into the documentation."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"
# figures of the page, where they were made
SHOWN = (
    "brain_r4_0", "brain_r8_0", "phantom16_r4_0", "phantom2_r4_0", "brain_radial21", "tooth_12",
    "tooth_dose", "disc_12", "crystal2d", "reliability", "convergence",
)  # fmt: skip


def insert(text: str, page: Path, figures: Path) -> None:
    """Put tables between the marks of a page, and figures into ``images`` beside it.

    :param text: Markdown of the tables.
    :param figures: folder of the benchmark's pictures; those that are not there are left out.
    """
    before, mark, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (mark and end):
        raise SystemExit(f"{page}: found no {BEGIN} and {END}")
    parts = [text.strip()]
    for name in SHOWN:
        made = figures / f"{name}.png"
        if made.exists():
            target = page.parent / "images" / f"quality_{name}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            # grey values, two colour scales: 256 colours do not show
            with Image.open(made) as picture:
                picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(
                    target, optimize=True
                )
            parts.append(f"![{name}](images/{target.name})")
    page.write_text(f"{before}{BEGIN}\n\n" + "\n\n".join(parts) + f"\n\n{END}{after}")
