"""CPU kernels in Numba: each algorithm file exports the records that `algorithms/registry.py` lists."""
