"""The fused kernels: C++ sources (``src``), the library built from them, and its loader."""
