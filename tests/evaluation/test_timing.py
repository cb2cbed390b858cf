"""What is timed is what is evaluated, and nothing else is set going for it."""

import numpy as np
import pytest
import torch
from torch import nn

import discrete_ae
from discrete_ae.codec import Codec
from discrete_ae.evaluation.timing import time_model, timing_device
from discrete_ae.inference import Runner

AUDIO = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 8000)).astype(np.float32)


@pytest.fixture(scope="module")
def model(ste_run):
    return discrete_ae.load(ste_run / "checkpoints/last.ckpt")


def test_what_is_timed_is_the_exact_codec(model, monkeypatch):
    seen = []
    for name in ("encode", "decode"):
        function = getattr(Codec, name)
        monkeypatch.setattr(Codec, name, lambda *given, of=name, by=function: seen.append(of) or by(*given))
    factors = time_model(model, AUDIO, Runner(4), 2)
    assert seen == ["encode"] * 3 + ["decode"] * 3
    assert factors.audio_s == 0.5
    assert min(factors.encode, factors.decode) > 0


def test_a_model_on_a_cpu_starts_no_gpu(model, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *_: pytest.fail("a GPU was started"))
    assert time_model(model, AUDIO, Runner(1)).encode > 0


def test_threads_are_said_of_a_cpu_alone():
    assert timing_device(nn.Linear(1, 1)) == "cpu, 1 thread"
    assert timing_device(nn.Linear(1, 1, device="meta")) == "meta"  # stands for what is neither CPU nor CUDA
