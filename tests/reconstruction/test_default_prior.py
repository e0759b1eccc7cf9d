"""Which prior a scan gets when none is named, and the precision of its network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sciinv.data.simulate import simulate_diffraction
from sciinv.errors import SciinvError
from sciinv.priors import SliceWise, available, load, store
from sciinv.priors.network import UNet
from sciinv.priors.precondition import EDMDenoiser
from sciinv.priors.store import save
from sciinv.reconstruction.choices import DEFAULT_PRIORS
from sciinv.reconstruction.provenance import describe_prior
from sciinv.reconstruction.run import plan_run, reconstruct
from sciinv.result import Result

from .conftest import FAST, disc, mri

ONE = {**FAST, "num_samples": 1, "seed": 5}


def recorded(result: Result) -> object:
    """What the provenance says about the precision; nothing where weights and network agree."""
    return result.provenance["prior"].get("inference_dtype")


@pytest.fixture(scope="module")
def weighty(tmp_path_factory):
    """A prior whose network does answer, so that rounding can be seen."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = UNet(2, widths=(4, 6), features=8)
        torch.nn.init.normal_(net.tail.weight, std=0.1)
    path = tmp_path_factory.mktemp("prior") / "weighty.safetensors"
    save(EDMDenoiser(net, sigma_min=0.01, sigma_max=10.0, channels=2), path)
    return path


def test_each_kind_of_scan_has_its_prior(mri_scan, ct_scan):
    assert set(DEFAULT_PRIORS) == {"mri", "ct", "diffraction"}
    crystal = simulate_diffraction(disc(24, radius=5), photons=1e6, rng=1)
    for scan in (mri_scan, ct_scan, crystal):
        plan = plan_run(scan, num_samples=1)
        assert plan.prior == DEFAULT_PRIORS[scan.kind]
    assert plan_run(mri_scan, prior="generic", num_samples=1).prior == "generic"


def test_the_default_priors_are_shipped_with_the_channels_of_their_scans(monkeypatch):
    # instead of the small ones of this folder
    monkeypatch.setattr(store, "SHIPPED", Path(store.__file__).parent / "shipped")
    for kind, name in DEFAULT_PRIORS.items():
        channels = 1 if kind == "ct" else 2
        assert load(name, channels=channels).channels == channels
    assert {"mri", "ct"} <= set(available())


def test_a_prior_of_other_channels_is_refused(ct_scan):
    with pytest.raises(SciinvError, match="channels: found 2, expected 1"):
        plan_run(ct_scan, prior="mri", num_samples=1)


def test_precision_is_used_and_recorded(mri_scan, weighty):
    options = {**ONE, "prior": weighty, "calibrate": False}
    full, half = (reconstruct(mri_scan, precision=p, **options) for p in ("32", "bf16"))
    assert recorded(full) is None
    assert recorded(half) == "bfloat16"
    difference = np.abs(full.samples - half.samples).max() / np.abs(full.samples).max()
    # 8 bits of the network's part: to be seen, and no more than that
    assert 1e-6 < difference < 0.05


@pytest.mark.parametrize("found", [None, torch.bfloat16])
def test_auto_asks_the_processor(mri_scan, monkeypatch, found):
    monkeypatch.setattr("sciinv.reconstruction.choices.fast_dtype", lambda: found)
    result = reconstruct(mri_scan, calibrate=False, **ONE)
    assert recorded(result) == (None if found is None else "bfloat16")


def test_volumes_record_the_precision_too():
    prior = load("mri")
    prior.inference_dtype = torch.bfloat16
    assert describe_prior("mri", SliceWise(prior))["inference_dtype"] == "bfloat16"


@pytest.mark.parametrize("job", [reconstruct, plan_run])
@pytest.mark.parametrize("value", ["64", "", "fp16", 32, None])
def test_an_unknown_precision_is_one_clear_error(mri_scan, job, value):
    with pytest.raises(SciinvError, match=r"^precision: found .*'auto', '32' or 'bf16'$") as error:
        job(mri_scan, precision=value)
    assert repr(value) in str(error.value)


def test_samples_keep_the_estimate_they_start_from():
    image = np.stack([disc(16, radius=5), disc(16, centre=(2, 1), radius=4)])
    scan = mri(image, calibration_lines=8)
    result = reconstruct(scan, calibrate=False, **ONE)
    assert result.estimate.shape == result.samples.shape[1:] == (2, 16, 16)
    assert result.estimate.dtype == np.complex64
    # in the units of the image: that of the same slice, nearer than that of the other
    for index in range(2):
        errors = [np.linalg.norm(np.abs(result.estimate[index]) - truth) for truth in image]
        assert errors[index] < 0.5 * errors[1 - index]
    named = reconstruct(scan, solver="MMT", calibrate=False, **ONE)
    assert named.estimate is None
