"""The CUDA kernels, run on a CPU that emulates a GPU."""
