"""User's module -> Recognition: certified SCConv blocks, and look-alikes left as they are, with reasons."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import nn

from scconv_deploy.artifacts import Recognition
from scconv_deploy.recognition.walk import recognise


def run(module: nn.Module, *, seed: int = 0) -> Recognition:
    """Propose and certify, without leaving a trace in the module or in any global random state.

    Args:
        module: the user's module; never modified.
        seed: of the probes' inputs and redrawn weights.
    """
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return recognise(module, seed=seed)
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
