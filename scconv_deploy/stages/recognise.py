"""User's module -> Recognition: certified SCConv blocks, and look-alikes left as they are, with reasons."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import nn

from scconv_deploy.artifacts import Recognition
from scconv_deploy.recognition.walk import recognise


def run(module: nn.Module, *, seed: int = 0) -> Recognition:
    """Propose and certify, without leaving a trace in the module or in any global state.

    Args:
        module: the user's module; never modified.
        seed: of the probes' inputs and redrawn weights; recorded in every certificate.
    """
    python_state, numpy_state = random.getstate(), np.random.get_state()  # user code may draw from them
    threads = torch.get_num_threads()
    try:
        # Probes are a few thousand numbers: on a busy machine handing them to a second thread cost ten times
        # the work itself (ResNet-50: 1.1 s with one thread, 15 s with two on two loaded cores).
        torch.set_num_threads(1)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return recognise(module, seed=seed)
    finally:
        torch.set_num_threads(threads)
        random.setstate(python_state)
        np.random.set_state(numpy_state)
