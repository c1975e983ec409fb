"""Algorithms for CUDA arrays, one file each; `cuda.py` alone knows CuPy, imported when the first CUDA array arrives."""
