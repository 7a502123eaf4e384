"""Makes tests/golden/packed.gguf: numbers as f32, and what gguf-py's quantizer makes of them.

    python make_packed.py tests/golden/packed.gguf          needs numpy and gguf
"""
import sys
import numpy as np
import gguf
from gguf import GGMLQuantizationType as T

rng = np.random.default_rng(0)
x = rng.normal(0, 1, (8, 256)).astype(np.float32)
x[1] *= 1e-7                                         # scales that are subnormal as f16
x[2] *= 1e4
x[3, :32] = 0                                        # a block without a scale
x[3, 32:64] = rng.choice([-2, 2], 32)                # equal extremes of either sign
x[4] = np.round(x[4] * 4) / 4                        # quotients that lie between two levels
x[5, ::32], x[6] = 127, rng.integers(-127, 128, 256) + 0.5 * (np.arange(256) % 2)
x[7, ::32] = -8
writer = gguf.GGUFWriter(sys.argv[1], "packed")
writer.add_tensor("x", x)
for kind in (T.Q8_0, T.Q4_0):
    writer.add_tensor(kind.name.lower(), gguf.quants.quantize(x, kind), raw_dtype=kind)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
