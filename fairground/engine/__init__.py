"""Generation and scoring.

On a processor with AMX, oneDNN splits the sums of a bfloat16 product by how many rows there are, so a row's bits would
depend on its company. Its AVX-512 kernels do not (tests/models/test_company.py), so it is kept to them wherever the
engine is imported before torch has multiplied anything. Training does not import the engine and uses AMX.
"""

import os

os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")
