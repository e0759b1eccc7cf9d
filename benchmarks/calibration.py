"""Whether the stated uncertainty is true: on simulated scans and on real ones with a reference.

    python benchmarks/calibration.py --out DIR [--real FOLDER] [--prior NAME] [--images N]

Simulated scans are those of procedural images that no training has seen (the worlds ``mri`` and
``ct``, 64 x 64). ``known`` gives the reconstruction the true coil maps, noise level and intensity
scale, so that only prior and sampler can be wrong; ``estimated`` gives it nothing. ``local`` is the
default (samples around a point estimate), ``noise`` is MMT from noise. With 19 samples the smallest
and the largest enclose exactly 90 %.

Real scans: see ``calibration_real.py``. ``DIR/calibration.json`` keeps every case as it is done, so
that a run that was broken off goes on there; ``DIR/calibration.png`` shows the reliability curves.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from calibration_real import real_cases
from numpy.typing import NDArray
from torch import Tensor

from sciinv import Scan, reconstruct
from sciinv.data.phantoms import World
from sciinv.data.scale import object_mask
from sciinv.data.simulate import simulate_ct, simulate_mri, simulate_noncartesian
from sciinv.metrics import calibration_curve, coverage, error_over_std, normal_curve
from sciinv.priors import load as load_prior
from sciinv.reconstruction.build import build_model
from sciinv.reconstruction.model import Model, middle

SAMPLES = 19
SIZE = 64
FIRST_SEED = 10_000_000  # far from those of any training
ATTENUATION = 0.02  # 1/mm at an image value of 1
NOISE = 0.02
# local sampling of radial scans is the slow one, from noise even more so
CASES = (("mri", "local"), ("mri", "noise"), ("ct", "local"), ("ct", "noise"), ("radial", "local"))
Case = dict[str, Any]


def prior_of(kind: str, name: str) -> Any:  # noqa: ANN401
    """Shipped prior with bfloat16 convolutions: three times as fast where there are such units."""
    channels = 1 if kind == "ct" else 2
    if name == "own":
        name = "ct" if kind == "ct" else "mri"
    prior = load_prior(name, channels=channels)
    prior.inference_dtype = torch.bfloat16
    return prior


def simulated(kind: str, index: int, known: bool) -> tuple[Scan, NDArray[Any], float]:
    """Scan, true image and the intensity that is 1 for the prior."""
    rng = np.random.default_rng(FIRST_SEED + index)
    shape = (SIZE, SIZE)
    if kind == "ct":
        image = ATTENUATION * World("ct").draw(shape, rng).astype(np.float64)
        scan = simulate_ct(
            image, num_angles=SIZE // 3, dose=2e4, rng=rng, supersample=1 if known else 2
        )
        return scan, image, ATTENUATION
    image = World("mri").draw(shape, rng)
    shared: dict[str, Any] = {
        "coils": 8, "noise_std": NOISE, "rng": rng, "include_maps": known, "state_noise": known,
    }  # fmt: skip
    if kind == "radial":
        return simulate_noncartesian(image, acceleration=2, **shared), image, 1.0
    return simulate_mri(image, acceleration=4, calibration_lines=10, **shared), image, 1.0


def simulated_case(kind: str, solver: str, model: str, index: int, prior: str) -> Case:
    """Reconstruct one simulated scan and measure its calibration."""
    known = model == "known"
    scan, truth, unit = simulated(kind, index, known)
    effort: Case = {"steps": 12, "krylov": 6 if kind == "mri" else 16}
    if solver == "noise":
        effort |= {"solver": "MMT", "steps": 20}
    begin = time.perf_counter()
    result = reconstruct(
        scan, prior_of(kind, prior), num_samples=SAMPLES, seed=index, calibrate=False,
        scale=unit if known else None, time_budget=1e6, **effort,
    )  # fmt: skip
    seconds = time.perf_counter() - begin
    mask = object_mask(np.abs(truth)) & result.visible[0]
    # chi-squared is told in units of the noise that was used; here in those of the true one
    used = result.provenance["noise_used"] / result.provenance["noise"]
    stated = result.provenance["noise"] / NOISE if kind != "ct" else 1.0
    found = measure(result.magnitude[:, 0], np.abs(truth), mask) | {
        "chi_squared": float(result.chi_squared) * (used * stated) ** 2,
        "noise_used_over_true": used * stated,
        "seconds": seconds,
    }
    if known:
        built = build_model(scan, 0, scale=unit)
        found |= in_data(built, [as_seen(s, built) for s in result.samples[:, 0]],
                         as_seen(truth, built))  # fmt: skip
    return found


def as_seen(image: NDArray[Any], model: Model) -> Tensor:
    """Physical image as a model with maps of the file sees it, ``(1, C, *image_shape)``."""
    x = torch.from_numpy(np.ascontiguousarray(image))[
        middle(image.shape, model.physics.image_shape)
    ]
    x = x / model.scale
    parts = [x.real, x.imag] if x.is_complex() else [x]
    return torch.stack(parts)[None].float()


def in_data(model: Model, samples: list[Tensor], truth: Tensor) -> Case:
    """Chi-squared of the mean, and the posterior's share of it by the samples and by the truth."""
    x = torch.cat(samples)
    mean = x.mean(0, keepdim=True)
    count = model.physics.measurement_count() * model.sigma**2
    spread = float(model.physics.A(x - mean).double().square().sum()) / (len(x) - 1) / count
    error = float(model.physics.A(mean - truth).double().square().sum()) / count
    residual = model.misfit(mean) ** 2
    # the mean of S samples errs by 1/S of the posterior's variance
    return {
        "chi_squared_of_mean": residual,
        "chi_squared_of_mean_expected": 1 - spread * (1 - 1 / len(x)),
        "share_of_posterior": spread,
        "share_from_error": error / (1 + 1 / len(x)),
    }


def measure(samples: NDArray[Any], truth: NDArray[Any], mask: NDArray[np.bool_]) -> Case:
    """Coverage by ranks and by the normal distribution, spread and error inside a mask."""
    nominal, observed = calibration_curve(samples, truth, mask=mask)
    levels, by_normal = normal_curve(samples, truth, mask=mask)
    s = samples[:, mask].astype(np.float64)
    error, std = s.mean(0) - truth[mask], s.std(0, ddof=1)
    return {
        "pixels": int(mask.sum()),
        "nominal": nominal.tolist(),
        "observed": observed.tolist(),
        "normal_nominal": levels.tolist(),
        "normal_observed": by_normal.tolist(),
        "coverage_90": coverage(samples, truth, level=0.9, mask=mask),
        "rms_std": float(np.sqrt(np.mean(std**2))),
        "rms_error": float(np.sqrt(np.mean(error**2))),
        "error_over_std": error_over_std(samples, truth, mask=mask),
        "correlation": float(np.corrcoef(np.abs(error), std)[0, 1]),
    }


@dataclass
class Store:
    """What is done, in a JSON file."""

    path: Path

    def __post_init__(self) -> None:
        """Read what an earlier run left."""
        self.cases: dict[str, Case] = (
            json.loads(self.path.read_text()) if self.path.exists() else {}
        )

    def get(self, key: str, make: Callable[[], Case]) -> None:
        """Make a case if it is not there, and print its numbers."""
        if key not in self.cases:
            self.cases[key] = make()
            self.path.write_text(json.dumps(self.cases, indent=1))
        shown = {k: v for k, v in self.cases[key].items() if isinstance(v, float)}
        print(key, ", ".join(f"{k} {v:.3f}" for k, v in shown.items()), flush=True)

    def summary(self) -> None:
        """Print pixel-weighted means over the images of each kind of case."""
        print("\n| scan | model | solver | images | 90 % covers | error/std | chi-squared |")
        print("|---|---|---|---|---|---|---|")
        for group, cases in groups(self.cases).items():
            weights = [c["pixels"] for c in cases]
            cover = np.average([c["coverage_90"] for c in cases], weights=weights)
            ratio = np.sqrt(np.average([c["error_over_std"] ** 2 for c in cases], weights=weights))
            chi = np.mean([c["chi_squared"] for c in cases])
            print(f"| {' | '.join(group)} | {len(cases)} | {cover:.3f} | {ratio:.2f} | {chi:.3f} |")


def groups(cases: dict[str, Case]) -> dict[tuple[str, ...], list[Case]]:
    """Cases that differ by the image alone."""
    found: dict[tuple[str, ...], list[Case]] = {}
    for key, case in cases.items():
        if not key.startswith("real/"):
            found.setdefault(tuple(key.split("/")[:3]), []).append(case)
    return found


def draw_curves(store: Store, path: Path) -> None:
    """Reliability curves, one panel for each kind of scan."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    found = groups(store.cases)
    kinds = list(dict.fromkeys(group[0] for group in found))
    figure, axes = plt.subplots(1, len(kinds), figsize=(4 * len(kinds), 4), squeeze=False, dpi=120)
    colours = {"local": "#0868ac", "noise": "#d95f02"}
    for axis, kind in zip(axes[0], kinds, strict=True):
        axis.plot([0, 1], [0, 1], color="grey", linewidth=1)
        for (k, model, solver), cases in found.items():
            if k != kind:
                continue
            weights = [c["pixels"] for c in cases]
            style = {"color": colours[solver], "linestyle": "-" if model == "known" else "--"}
            for x, y, more in (
                ("nominal", "observed", {"marker": "o", "label": f"{solver}, {model}: ranks"}),
                ("normal_nominal", "normal_observed", {"marker": "x", "alpha": 0.5,
                                                       "label": f"{solver}, {model}: normal"}),
            ):  # fmt: skip
                mean = np.average([c[y] for c in cases], axis=0, weights=weights)
                axis.plot(cases[0][x], mean, markersize=4, linewidth=1, **style, **more)
        axis.set(title=kind, xlabel="nominal", ylabel="covered", xlim=(0, 1), ylim=(0, 1))
        axis.set_aspect("equal")
        axis.legend(fontsize=7, frameon=False)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def main() -> None:
    """Read the arguments and run what is not done yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of JSON and figure")
    parser.add_argument("--real", type=Path, help="folder of the real scans")
    parser.add_argument("--scans", nargs="*", default=["phantom", "disc"], help="which of them")
    parser.add_argument("--prior", default="own", help="name, or 'own': mri and ct, the defaults")
    parser.add_argument("--images", type=int, default=2, help="simulated images of each kind")
    parser.add_argument("--models", nargs="*", default=["known", "estimated"])
    parser.add_argument(
        "--cases", nargs="*", default=["/".join(case) for case in CASES], help="scan/sampling"
    )
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    store = Store(options.out / "calibration.json")
    for index in range(options.images):
        for model in options.models:
            for kind, solver in (case for case in CASES if "/".join(case) in options.cases):
                store.get(
                    f"{kind}/{model}/{solver}/{index}",
                    lambda a=(kind, solver, model, index): simulated_case(*a, options.prior),
                )
    if options.real is not None:
        for key, make in real_cases(options.real, options.scans, options.prior, prior_of).items():
            store.get(key, make)
    store.summary()
    if groups(store.cases):
        draw_curves(store, options.out / "calibration.png")


if __name__ == "__main__":
    main()
