"""Bodies built of layered and nested ellipses: head, thorax, limb, tooth, bottle or disc."""

from __future__ import annotations

import numpy as np

from sciinv.data.phantoms import tissues as T
from sciinv.data.phantoms.cortex import deep_rows, fold
from sciinv.data.phantoms.fields import smooth_field
from sciinv.data.phantoms.frame import Frame, Image, Labels, Part, paint_inside, random_frame
from sciinv.data.phantoms.leaves import BOX, ELLIPSE, SHELL, STAR

LEAF_LABEL = 20  # labels below are tissues


def _layers(
    frame: Frame, rng: np.random.Generator, cuts: list[tuple[int, float]], uneven: float = 0.35
) -> Labels:
    """Label by depth: each ``(tissue, thickness in pixels)`` lies below the one before."""
    depth = frame.depth
    label = np.zeros(depth.shape, dtype=np.int32)
    shape = (depth.shape[0], depth.shape[1])
    bend = smooth_field(shape, rng, frame.pixels * rng.uniform(0.3, 1.2))
    level = np.zeros_like(depth)
    for tissue, thickness in cuts:
        label[depth > level] = tissue
        swell = np.maximum(1 + np.float32(uneven) * bend, 0.15)
        level = level + np.float32(thickness) * swell
        bend = -0.6 * bend + 0.3 * np.sin(frame.u * 3 + frame.v * 2)
    return label


def head(
    shape: tuple[int, int], rng: np.random.Generator, palette: Image, tile: Image, *, folded: bool
) -> Part:
    """Axial head: skin, fat, muscle, skull with marrow, CSF, folded brain, ventricles."""
    frame = random_frame(shape, rng, aspect=(0.7, 0.95), wobble=0.03)
    mm = frame.pixels / 85
    skin, fat = mm * rng.uniform(1, 2.5), mm * np.exp(rng.uniform(np.log(1), np.log(7)))
    skull = mm * rng.uniform(4, 9)
    cuts = [(T.SKIN, skin), (T.FAT, fat)]
    if rng.uniform() < 0.5:
        cuts += [(T.MUSCLE, mm * rng.uniform(0.5, 3)), (T.FAT, mm * rng.uniform(0.3, 1.5))]
    if rng.uniform() < 0.6:
        cuts += [(T.BONE, 0.3 * skull), (T.MARROW, 0.4 * skull), (T.BONE, 0.3 * skull)]
    else:
        cuts += [(T.BONE, skull)]
    total = sum(thickness for _, thickness in cuts)
    cuts.append((T.CSF, 1.0))
    label = _layers(frame, rng, cuts)
    brain = label == T.CSF
    depth = frame.depth - np.float32(total + mm * rng.uniform(0.0, 3.0))
    brain_label = label.copy()
    fold(frame, brain_label, depth, rng, folded=folded)
    np.copyto(label, brain_label, where=brain)
    value = palette[label]
    part = (value, label)
    if rng.uniform() < 0.75:
        deep = brain & (frame.radius < 0.75)
        paint_inside(part, deep_rows(frame, palette, rng), tile, deep, first_label=LEAF_LABEL)
    if rng.uniform() < 0.5:  # vessels cut across: dots of one or two final pixels
        rows = []
        for _ in range(int(rng.integers(2, 25))):
            size = np.exp(rng.uniform(np.log(0.8), np.log(2.5), 2)) / frame.pixels
            at, bright = rng.uniform(-0.8, 0.8, 2).tolist(), rng.uniform() < 0.5
            colour = float(palette[T.BLOOD]) if bright else 0.0
            rows.append(frame.leaf(ELLIPSE, at, size.tolist(), colour, turn=rng.uniform(0, 3)))
        paint_inside(part, rows, tile, brain, first_label=LEAF_LABEL + 40)
    if rng.uniform() < 0.25:  # a lesion or two
        rows = [
            frame.leaf(
                STAR,
                rng.uniform(-0.5, 0.5, 2).tolist(),
                rng.uniform(0.02, 0.15, 2).tolist(),
                float(rng.uniform(0.5, 1.5) * palette[T.WHITE]),
                wobble=0.15,
            )
            for _ in range(int(rng.integers(1, 4)))
        ]
        paint_inside(part, rows, tile, brain, first_label=LEAF_LABEL + 30)
    return part


def thorax(shape: tuple[int, int], rng: np.random.Generator, palette: Image, tile: Image) -> Part:
    """Axial trunk: fat, muscle, ribs, spine, lungs and heart, or abdominal organs and gas."""
    frame = random_frame(shape, rng, aspect=(1.2, 1.6), wobble=0.04)
    mm = frame.pixels / 150
    fat, wall = mm * rng.uniform(3, 30), mm * rng.uniform(8, 20)
    chest = rng.uniform() < 0.6
    label = _layers(
        frame, rng, [(T.SKIN, mm * 2), (T.FAT, fat), (T.MUSCLE, wall), (T.ORGAN, 1.0)], 0.25
    )
    if not chest:
        label[label == T.ORGAN] = T.FAT if rng.uniform() < 0.6 else T.ORGAN
    part = (palette[label], label)
    body = label > 0
    edge = 1 - (fat + 0.6 * wall) / frame.pixels
    colour = palette.astype(float)
    rows = []

    def add(kind: int, u: float, v: float, ru: float, rv: float, tissue: int, turn: float) -> None:
        rows.append(
            frame.leaf(
                kind, (u, v), (ru, rv), colour[tissue] * np.exp(rng.normal(0, 0.06)), turn=turn,
                wobble=float(rng.uniform(0.02, 0.12)), order=int(rng.integers(2, 6)),
                phase=float(rng.uniform(0, 6.3)), thickness=max(1.5, 3 * mm),
                texture=0.04 if rng.uniform() < 0.3 else 0.0,
            )
        )  # fmt: skip

    grow = edge * rng.uniform(0.85, 1.05)
    if chest:
        for side in (-1, 1):
            add(STAR, side * 0.47 * grow, -0.05, 0.33 * grow, 0.62 * grow, T.LUNG, 0.15 * side)
        add(STAR, 0.12, -0.2, 0.27, 0.35, T.MUSCLE, 0.4)  # heart
        for at in ((0.05, -0.28), (0.2, -0.12)):
            add(STAR, *at, 0.09, 0.15, T.BLOOD, 0.4)
    else:
        add(STAR, -0.4, -0.15, 0.4 * grow, 0.55 * grow, T.ORGAN, 0.2)  # liver
        add(STAR, 0.5, 0.1, 0.22, 0.3, T.ORGAN, -0.3)  # spleen
        for side in (-1, 1):
            add(STAR, side * 0.38, 0.4, 0.11, 0.2, T.MUSCLE, 0.4 * side)  # kidneys
            add(STAR, side * 0.36, 0.4, 0.04, 0.1, T.CSF, 0.4 * side)
        for _ in range(int(rng.integers(2, 9))):  # bowel
            u, v = rng.uniform(-0.5, 0.6), rng.uniform(-0.6, 0.1)
            r = rng.uniform(0.06, 0.16)
            add(STAR, u, v, r, 1.4 * r, T.MUSCLE, 0)
            add(STAR, u, v, 0.7 * r, r, T.AIR if rng.uniform() < 0.5 else T.CSF, 0)
    add(ELLIPSE, 0.1, 0.3, 0.07, 0.1, T.BLOOD, 0)  # aorta
    add(STAR, 0, 0.47, 0.13, 0.17, T.BONE, 0)  # vertebra: cortex, marrow, canal, processes
    add(STAR, 0, 0.47, 0.11, 0.145, T.MARROW, 0)
    for turn in (0.0, 0.9, -0.9):
        add(BOX, 0.14 * np.sin(-turn), 0.68, 0.02, 0.12, T.BONE, turn)
    add(ELLIPSE, 0, 0.64, 0.05, 0.06, T.CSF, 0)
    for angle in np.arange(0.35, 2 * np.pi, rng.uniform(0.35, 0.6)):  # ribs along the wall
        at = (edge * np.cos(angle), edge * np.sin(angle))
        size = (0.07 * rng.uniform(0.5, 1.4), 0.022 * rng.uniform(0.8, 1.5))
        # along the border of the ellipse, in the turned frame
        turn = np.arctan2(np.cos(angle) * frame.half[1], -np.sin(angle) * frame.half[0])
        add(ELLIPSE, *at, *size, T.BONE, float(turn))
        add(ELLIPSE, *at, 0.75 * size[0], 0.5 * size[1], T.MARROW, float(turn))
    paint_inside(part, rows, tile, body, first_label=LEAF_LABEL)
    return part


def limb(shape: tuple[int, int], rng: np.random.Generator, palette: Image, tile: Image) -> Part:
    """Cross-section of an arm or leg: fat, muscles with fat between and fibres, bones, vessels."""
    frame = random_frame(shape, rng, aspect=(0.75, 1.3), wobble=0.06)
    mm = frame.pixels / 60
    label = _layers(
        frame, rng, [(T.SKIN, 1.5 * mm), (T.FAT, mm * rng.uniform(2, 15)), (T.MUSCLE, 1.0)]
    )
    part = (palette[label], label)
    muscle = label == T.MUSCLE
    colour = palette.astype(float)
    rows = []
    for _ in range(int(rng.integers(4, 13))):  # bundles, each with a rim of fat
        angle, away = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 0.7)
        at = (away * np.cos(angle), away * np.sin(angle))
        size = rng.uniform(0.15, 0.4, 2)
        look = {"wobble": 0.1, "order": int(rng.integers(2, 5)), "phase": rng.uniform(0, 6)}
        rim = max(0.012, 0.8 / frame.pixels) * rng.uniform(0.5, 2)
        rows.append(frame.leaf(STAR, at, (size + rim).tolist(), colour[T.FAT], turn=angle, **look))
        inner = frame.leaf(
            STAR, at, size.tolist(), colour[T.MUSCLE] * np.exp(rng.normal(0, 0.05)), turn=angle,
            texture=0.05 * colour[T.MUSCLE] * rng.uniform(), **look,
        )  # fmt: skip
        rows.append(inner)
    for _ in range(int(rng.integers(1, 3))):
        at = rng.uniform(-0.35, 0.35, 2).tolist()
        r = rng.uniform(0.1, 0.28)
        wall = rng.uniform(0.15, 0.4)
        look = {"wobble": 0.08, "order": 3, "phase": rng.uniform(0, 6)}
        rows.append(frame.leaf(STAR, at, (r, r), colour[T.BONE], **look))
        marrow = frame.leaf(
            STAR, at, (r * (1 - wall),) * 2, colour[T.MARROW], texture=0.1 * rng.uniform(), **look
        )
        rows.append(marrow)
    for _ in range(int(rng.integers(1, 7))):
        r = rng.uniform(0.02, 0.05)
        at = rng.uniform(-0.6, 0.6, 2).tolist()
        rows.append(frame.leaf(ELLIPSE, at, (r, r), colour[T.BLOOD]))
    paint_inside(part, rows, tile, muscle, first_label=LEAF_LABEL)
    return part


def tooth(shape: tuple[int, int], rng: np.random.Generator, palette: Image, tile: Image) -> Part:
    """Tooth, shell or bone: a dense rim of uneven thickness, a lighter core, canals, a bay."""
    frame = random_frame(shape, rng, aspect=(0.6, 1.6), wobble=0.2, size=(0.45, 1.0))
    rim = frame.pixels * np.exp(rng.uniform(np.log(0.05), np.log(0.4)))
    label = _layers(frame, rng, [(T.ENAMEL, rim), (T.DENTINE, 1.0)], 0.6)
    body = label > 0
    part = (palette[label], label)
    colour = palette.astype(float)
    look = {"wobble": float(rng.uniform(0.03, 0.25)), "order": int(rng.integers(2, 5))}
    rows = []
    if rng.uniform() < 0.4:  # layers seen from inside: the dense tissue lines a bay as well
        angle = rng.uniform(0, 2 * np.pi)
        away = rng.uniform(0.2, 1.0)
        at = (away * np.cos(angle), away * np.sin(angle))
        bay = rng.uniform(0.15, 0.5, 2)
        thick = rng.uniform(0.05, 0.25)
        phase = rng.uniform(0, 6)
        outer = (bay + thick).tolist()
        rows.append(frame.leaf(STAR, at, outer, colour[T.ENAMEL], turn=angle, phase=phase, **look))
        rows.append(frame.leaf(STAR, at, bay.tolist(), 0.0, turn=angle, phase=phase, **look))
    for _ in range(int(rng.integers(0, 4))):  # pulp and canals
        at = rng.uniform(-0.5, 0.5, 2).tolist()
        size = np.exp(rng.uniform(np.log(0.02), np.log(0.25), 2)).tolist()
        fill = 0.0 if rng.uniform() < 0.6 else float(colour[T.CSF])
        rows.append(frame.leaf(STAR, at, size, fill, turn=rng.uniform(0, 3), **look))
    paint_inside(part, rows, tile, body, first_label=LEAF_LABEL)
    return part


def disc(shape: tuple[int, int], rng: np.random.Generator, palette: Image, tile: Image) -> Part:
    """Bottle or acrylic disc: one flat value with sharp round, oval or angular holes in it."""
    frame = random_frame(shape, rng, aspect=(0.92, 1.08), wobble=0.004, close_up=0.2)
    label = np.zeros(shape, dtype=np.int32)
    body = frame.radius < 1
    if rng.uniform() < 0.3:  # not quite full: a flat side
        body &= frame.v < rng.uniform(0.4, 0.95)
    label[body] = T.CSF
    flat = float(rng.uniform(0.5, 1.0))
    value = np.where(body, np.float32(flat), np.float32(0))
    if rng.uniform() < 0.5:  # a wall
        wall = 1 - rng.uniform(0.01, 0.08)
        shell = body & (frame.radius > wall)
        value[shell] = rng.uniform(0, 1.3) * flat
        label[shell] = T.SKIN
    part = (value, label)
    rows = []
    for _ in range(int(rng.choice([0, 1, 3, 8, 14]))):
        angle, away = rng.uniform(0, 2 * np.pi), 0.85 * np.sqrt(rng.uniform())
        at = (away * np.cos(angle), away * np.sin(angle))
        size = np.exp(rng.uniform(np.log(0.02), np.log(0.3)))
        stretch = np.exp(rng.normal(0, 0.4))
        fill = 0.0 if rng.uniform() < 0.6 else float(rng.uniform(0.2, 1.3) * flat)
        row = frame.leaf(
            int(rng.choice([ELLIPSE, BOX, STAR, SHELL], p=[0.55, 0.2, 0.15, 0.1])),
            at, (size * stretch, size / stretch), fill, turn=angle, wobble=0.15,
            order=int(rng.integers(2, 6)), thickness=rng.uniform(2, 8),
        )  # fmt: skip
        rows.append(row)
    paint_inside(part, rows, tile, body, first_label=LEAF_LABEL)
    return part
