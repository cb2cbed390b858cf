"""What is timed is what is evaluated, and nothing else is set going for it."""

import numpy as np
import pytest
import torch
from torch import nn

import discrete_ae
from discrete_ae.evaluation.timing import time_model, timing_device
from discrete_ae.inference import Runner

AUDIO = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 8000)).astype(np.float32)


@pytest.fixture(scope="module")
def model(ste_run):
    return discrete_ae.load(ste_run / "checkpoints/last.ckpt")


@pytest.mark.parametrize("num_codebooks", [1, None])
def test_so_many_codebooks_are_timed(model, monkeypatch, num_codebooks):
    encode, decode, seen = model.quantizer.encode, model.quantizer.decode, set()

    # As a residual quantizer of as many codebooks has it.
    def encode_some(latents, count=None):
        seen.add(("encode", count))
        return encode(latents)[:, :count]

    def decode_some(codes):
        seen.add(("decode", codes.shape[1]))
        return decode(codes.expand(-1, 2, -1))

    monkeypatch.setattr(model.quantizer, "encode", encode_some)
    monkeypatch.setattr(model.quantizer, "decode", decode_some)
    factors = time_model(model, AUDIO, Runner(1), num_codebooks)
    assert seen == {("encode", num_codebooks), ("decode", num_codebooks or 2)}
    assert factors.audio_s == 0.5
    assert min(factors.encode, factors.decode) > 0


def test_a_model_on_a_cpu_starts_no_gpu(model, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *_: pytest.fail("a GPU was started"))
    assert time_model(model, AUDIO, Runner(1)).encode > 0


def test_threads_are_said_of_a_cpu_alone():
    assert timing_device(nn.Linear(1, 1)) == "cpu, 1 thread"
    assert timing_device(nn.Linear(1, 1, device="meta")) == "meta"  # stands for what is neither CPU nor CUDA
