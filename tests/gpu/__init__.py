"""What needs an NVIDIA GPU, in one go: ``python -m tests.gpu.check``."""
