from __future__ import annotations

import numpy as np
import pytest
import torch

from sciinv.errors import GeometryError
from sciinv.operators.nufft import direct_sum
from sciinv.operators.trajectories import (
    GOLDEN_ANGLE,
    check_trajectory,
    density_compensation,
    radial_trajectory,
    spiral_trajectory,
    stack_trajectory,
    trajectory_from,
)


# -- made --------------------------------------------------------------------------------------
def test_radial_spokes_cross_the_centre_and_span_the_grid():
    k = radial_trajectory((64, 48), 10, 96)
    assert k.shape == (10, 96, 2)
    assert np.all(k[:, 48] == 0)
    # spoke 0 along the columns, from -N/2; spoke 5 (a quarter turn) along the rows
    np.testing.assert_allclose(k[0, 0], [0, -24])
    np.testing.assert_allclose(k[5, 0], [-32, 0], atol=1e-12)
    cycles_per_pixel = np.linalg.norm(k / [64, 48], axis=-1)
    np.testing.assert_allclose(np.diff(cycles_per_pixel, axis=1)[:, 48:], 1 / 96)


def test_golden_and_given_angles():
    k = radial_trajectory((32, 32), 5, angles="golden")
    direction = k[:, -1] / np.linalg.norm(k[:, -1], axis=-1, keepdims=True)
    turn = np.arctan2(direction[:, 0], direction[:, 1])
    np.testing.assert_allclose(np.exp(1j * turn), np.exp(1j * GOLDEN_ANGLE * np.arange(5)))
    assert np.rad2deg(GOLDEN_ANGLE) == pytest.approx(111.246, abs=1e-3)
    k = radial_trajectory((32, 32), 2, 8, angles=torch.tensor([0.3, 1.1]))
    np.testing.assert_allclose(np.arctan2(k[:, -1, 0], k[:, -1, 1]), [0.3, 1.1], rtol=1e-6)


@pytest.mark.parametrize("angles", ["uniform", "golden"])
def test_3d_spokes_cover_the_half_sphere_evenly(angles):
    k = radial_trajectory((20, 20, 20), 2000, 4, angles=angles)
    end = k[:, 0] / np.linalg.norm(k[:, 0], axis=-1, keepdims=True)
    # of an even cover of the sphere by axes: E[u u^T] = 1/3 and E[|u_a|] = 1/2
    np.testing.assert_allclose(end.T @ end / len(end), np.eye(3) / 3, atol=0.01)
    np.testing.assert_allclose(np.abs(end).mean(0), 0.5, atol=0.01)


def test_spiral_starts_in_the_centre_and_has_no_gaps():
    k = spiral_trajectory((64, 64), 8, 500)
    assert k.shape == (8, 500, 2)
    assert np.all(k[:, 0] == 0)
    np.testing.assert_allclose(np.linalg.norm(k[:, -1], axis=-1), 32)
    # along any ray, neighbouring arms are one cycle apart
    angle = np.unwrap(np.arctan2(k[..., 0], k[..., 1]), axis=1)[:, 1:]
    radius = np.linalg.norm(k, axis=-1)[:, 1:]
    crossings = np.concatenate(
        [
            [np.interp(2 * np.pi * turn, a, r, left=np.nan, right=np.nan) for turn in range(-2, 9)]
            for a, r in zip(angle, radius, strict=True)
        ]
    )
    crossings = np.sort(crossings[np.isfinite(crossings)])
    np.testing.assert_allclose(np.diff(crossings)[2:-2], 1, atol=0.05)


def test_stack_has_cartesian_partitions():
    plane = radial_trajectory((16, 12), 3, 5)
    k = stack_trajectory(plane, (7, 16, 12))
    assert k.shape == (7, 3, 5, 3)
    np.testing.assert_array_equal(k[..., 0], np.broadcast_to(np.arange(-3, 4)[:, None, None],
                                                             (7, 3, 5)))  # fmt: skip
    np.testing.assert_array_equal(k[4, ..., 1:], plane)
    check_trajectory(k, (7, 16, 12))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: radial_trajectory((8, 8), 0), "spokes: found 0"),
        (lambda: radial_trajectory((8, 8), 3, angles="silver"), "found 'silver'"),
        (lambda: radial_trajectory((8, 8), 3, angles=[0.0]), r"found shape \(1,\), expected \(3,"),
        (lambda: radial_trajectory((8, 8, 8), 2, angles=[0.0, 1.0]), "expected none"),
        (lambda: radial_trajectory((8,), 3), r"image_shape: found \(8,\)"),
        (lambda: spiral_trajectory((8, 8), 2, 9, turns=-1), "turns=-1"),
        (lambda: spiral_trajectory((8, 8, 8), 2, 9), r"expected \(H, W\)"),
        (lambda: stack_trajectory(np.zeros((4, 3)), (2, 8, 8)), r"expected \(..., 2\)"),
    ],
)
def test_makers_refuse_nonsense(call, message):
    with pytest.raises(GeometryError, match=message):
        call()


# -- converted ---------------------------------------------------------------------------------
def test_units():
    k = radial_trajectory((192, 160), 9, 20)
    shape = (192, 160)
    fov = (384.0, 320.0)
    per_metre = k / (np.array(fov) / 1000)
    for values, unit in (
        (k, "cycles/fov"),
        (per_metre, "1/m"),
        (2 * np.pi * k / shape, "rad/pixel"),
        (k / shape, "normalised"),
        (torch.from_numpy(k / shape), "normalised"),
    ):
        np.testing.assert_allclose(trajectory_from(values, unit, fov, shape), k, atol=1e-12)
    # 384 mm and 192 pixels: 250 1/m is the edge, 96 cycles
    edge = trajectory_from(np.array([[250.0, -250.0]]), "1/m", 384.0, (192, 192))
    np.testing.assert_allclose(edge, [[96, -96]])


def test_complex_values_are_kx_along_the_columns():
    found = trajectory_from(np.array([[3 + 1j, -2j]]), "cycles/fov", None, (8, 8))
    np.testing.assert_array_equal(found, [[[1, 3], [-2, 0]]])


@pytest.mark.parametrize(
    ("values", "unit", "fov", "message"),
    [
        ([[1.0, 2.0]], "1/cm", 100.0, "found '1/cm', expected one of cycles/fov, 1/m"),
        ([[1.0, 2.0]], "1/m", None, "fov_mm: found None"),
        ([[1.0, 2.0]], "1/m", -3.0, "fov_mm: found -3"),
        ([[1.0, 2.0]], "1/m", (1.0, 2.0, 3.0), "or 2 of them"),
        ([[1.0, 2.0, 3.0]], "1/m", 100.0, r"found float64 \(1, 3\), expected real \(..., 2\)"),
    ],
)
def test_trajectory_from_refuses(values, unit, fov, message):
    with pytest.raises(GeometryError, match=message):
        trajectory_from(np.array(values), unit, fov, (64, 64))


# -- checked -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("factor", "hint"),
    [
        (1 / 192, 'normalised to -0.5..0.5.*"normalised"'),
        (2 / 192, "normalised to -1..1.*values / 2"),
        (2 * np.pi / 192, 'radians per pixel.*"rad/pixel"'),
        (1 / 0.384, "1/m.*trajectory_from"),
        (2.0, "image is larger than 192x192"),
    ],
)
def test_wrong_units_are_named(factor, hint):
    k = radial_trajectory((192, 192), 30, 64)
    np.testing.assert_array_equal(check_trajectory(k, (192, 192)), k)
    with pytest.raises(GeometryError, match=hint) as caught:
        check_trajectory(factor * k, (192, 192))
    assert "found |k| up to" in str(caught.value) and "N/2 = 96 x 96" in str(caught.value)


def test_small_images_and_low_resolution_are_not_suspected():
    check_trajectory(radial_trajectory((6, 6), 4, 6), (6, 6))  # |k| up to 3
    check_trajectory(0.3 * radial_trajectory((64, 64), 4), (64, 64))
    check_trajectory(np.zeros((1, 2)), (64, 64))
    check_trajectory(torch.tensor([[32.0, -32.0]]), (64, 64))
    check_trajectory(np.array([[32.0 * (1 + 5e-5), 0.0]]), (64, 64))  # rounding in a file


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((5, 3)), r"found float64 \(5, 3\), expected real \(..., 2\) for image 16x16"),
        (np.zeros(4), "expected real"),
        (np.zeros((0, 2)), "expected real"),
        (np.zeros((4, 2), complex), "complex128"),
        (np.array([["a", "b"]]), "expected real"),
        (np.array([[1.0, np.nan], [2.0, 1.0], [np.inf, 0.0]]), "NaN or Inf in 2 of 3 samples"),
    ],
)
def test_check_refuses(values, message):
    with pytest.raises(GeometryError, match=message):
        check_trajectory(values, (16, 16))


# -- weighted ----------------------------------------------------------------------------------
def gridded_flat(k, shape, density):
    """``A^H D A 1`` by the definition, ``(samples of A) * density`` and the conjugate sum."""
    points = k.reshape(-1, len(shape))
    y = direct_sum(np.ones((1, *shape)), points)[0] * density.ravel()
    axes = [(np.arange(n) - n // 2) / n for n in shape]
    first = np.exp(2j * np.pi * np.outer(axes[0], points[:, 0])) * y
    second = np.exp(2j * np.pi * np.outer(points[:, 1], axes[1]))
    return (first @ second).real / np.sqrt(np.prod(shape))


@pytest.mark.parametrize(
    ("k", "shape", "methods"),
    [
        (radial_trajectory((48, 48), 80), (48, 48), ("radial", "pipe-menon")),
        (radial_trajectory((48, 40), 80, angles="golden"), (48, 40), ("radial", "pipe-menon")),
        (radial_trajectory((41, 41), 70), (41, 41), ("radial", "pipe-menon")),
        # a third more turns than Nyquist: with none to spare the spiral itself aliases by 13 %
        (spiral_trajectory((48, 48), 8, 500, turns=4), (48, 48), ("pipe-menon",)),
    ],
)
def test_density_returns_a_flat_image_at_its_value(k, shape, methods):
    for method in methods:
        density = density_compensation(k, shape, method=method)
        assert density.shape == k.shape[:-1] and (density >= 0).all()
        middle = tuple(slice(n // 4, n - n // 4) for n in shape)
        flat = gridded_flat(k, shape, density)[middle]
        assert flat.mean() == pytest.approx(1, abs=1e-6)
        assert np.abs(flat - 1).max() < 0.04  # ripples: no weights make a finite scan perfect


def test_pipe_menon_agrees_with_the_rings_of_a_radial_scan():
    k = radial_trajectory((64, 64), 110)
    rings = density_compensation(k, (64, 64), method="radial")
    found = density_compensation(k, (64, 64))
    inner = slice(8, -8)  # the ends of the spokes have one neighbour less
    ratio = found[:, inner].mean(0) / rings[:, inner].mean(0)
    away = np.abs(np.arange(8, 120) - 64) > 6
    assert np.abs(ratio[away] / np.median(ratio) - 1).max() < 0.1


def test_rings_add_up_to_the_area_of_k_space():
    shape = (64, 64)
    from sciinv.operators.trajectories import _radial_density

    # a disc of diameter one cycle per pixel; in 3D a ball
    assert _radial_density(radial_trajectory(shape, 40, 400), shape).sum() == pytest.approx(
        np.pi / 4, rel=0.01
    )
    uneven = radial_trajectory(shape, 3, 400, angles=[0.1, 0.2, 1.5])
    assert _radial_density(uneven, shape).sum() == pytest.approx(np.pi / 4, rel=0.01)
    ball = radial_trajectory((20, 20, 20), 40, 400)
    assert _radial_density(ball, (20, 20, 20)).sum() == pytest.approx(np.pi / 6, rel=0.01)


def test_density_refuses():
    with pytest.raises(GeometryError, match="bent or miss the centre.*pipe-menon"):
        density_compensation(spiral_trajectory((16, 16), 3, 40), (16, 16), method="radial")
    with pytest.raises(GeometryError, match="spokes, samples, 2"):
        density_compensation(np.zeros((4, 2)), (16, 16), method="radial")
    with pytest.raises(GeometryError, match="method: found 'voronoi'"):
        density_compensation(np.zeros((4, 2)), (16, 16), method="voronoi")
