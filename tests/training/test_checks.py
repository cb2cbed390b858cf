"""Settings of the trainer that are refused in a line."""

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from discrete_ae.errors import UsageError
from discrete_ae.training.run import check_run, resolved_precision


def config(seed: object = 0, **trainer: object) -> DictConfig:
    """Of a run on a CPU that nothing is wrong with, but for the settings that are given."""
    given = {"accelerator": "cpu", "precision": "auto", "val_check_interval": 200} | trainer
    root = {"ckpt_path": None, "init_from": None, "seed": seed, "float32_matmul_precision": "high", "compile": False}
    return OmegaConf.create({**root, "trainer": given})


@pytest.mark.parametrize("precision", ["auto", "32", 32, "bf16-mixed", 16])
def test_precision_and_its_aliases_are_taken(precision: object) -> None:
    check_run(config(precision=precision))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("trainer.precision", value) for value in ("bf16-true", 64, "transformer-engine", None)),
        *(("trainer.val_check_interval", value) for value in (0, 1.0, True, "00:00:05:00", None)),
        *(("seed", value) for value in (-1, 2**32, 1.5, None)),
    ],
)
def test_settings_that_do_not_fit_are_refused_by_name_in_a_line(key: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"^{key}: .*(should|must)") as refused:
        check_run(config(**{key.removeprefix("trainer."): value}))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("accelerator", "has_gpu", "has_bf16", "expected"),
    [
        ("auto", True, True, "bf16-mixed"),
        ("gpu", True, True, "bf16-mixed"),
        ("auto", True, False, "32-true"),
        ("auto", False, False, "32-true"),
        ("cpu", True, True, "32-true"),
    ],
)
def test_auto_is_bfloat16_only_on_a_gpu_that_computes_in_it(
    accelerator: str, has_gpu: bool, has_bf16: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    # A GPU that emulates bfloat16 says that it supports it, unless it is asked for more.
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or has_bf16
    )
    assert resolved_precision(config(accelerator=accelerator)) == expected
    assert resolved_precision(config(accelerator=accelerator, precision="16-mixed")) == "16-mixed"
