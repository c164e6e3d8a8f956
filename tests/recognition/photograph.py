"""A module -> everything that a careless tool could change in it or around it, comparable with ==."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import nn


def photograph(module: nn.Module) -> dict[str, object]:
    """Everything that a careless tool could change."""
    tensors = [
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ]
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
    return {
        "objects": [(n, id(t), t._version, t.requires_grad, t.dtype, t.grad is None) for n, t in tensors],
        "bytes": [t.detach().reshape(-1).view(torch.uint8).tolist() for _, t in tensors],
        "modules": [(n, id(m), m.training, type(m)) for n, m in module.named_modules(remove_duplicate=False)],
        "hooks": [[list(getattr(m, table)) for table in hooks] for m in module.modules()],
        "attributes": [sorted(vars(m)) for m in module.modules()],
        "random": (torch.get_rng_state().tolist(), random.getstate(), str(np.random.get_state())),
        "grad": torch.is_grad_enabled(),
        "threads": torch.get_num_threads(),
        "default": torch.get_default_dtype(),
    }
