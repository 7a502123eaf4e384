"""Makes tests/golden/blocks.gguf: a tensor of random blocks of every packed type, and what gguf-py reads from it as f32.

    python make_blocks.py tests/golden/blocks.gguf          needs numpy and gguf
"""
import sys
import numpy as np
import gguf
from gguf import GGMLQuantizationType as T

rng = np.random.default_rng(0)
writer = gguf.GGUFWriter(sys.argv[1], "blocks")
# Where the f16 scales of a block lie: random bits there could be infinite.
scales = {T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0], T.Q2_K: [80, 82], T.Q3_K: [108],
          T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208]}
for kind, places in scales.items():
    block, size = gguf.GGML_QUANT_SIZES[kind]
    raw = rng.integers(0, 256, (2, 512 // block, size), dtype=np.uint8)
    for at in places:
        raw[:, :, at:at + 2] = rng.normal(0, 0.1, raw.shape[:2]).astype(np.float16)[..., None].view(np.uint8)
    raw = raw.reshape(2, -1)
    writer.add_tensor(kind.name.lower(), raw, raw_dtype=kind)
    writer.add_tensor(kind.name.lower() + ".expected", gguf.quants.dequantize(raw, kind).astype(np.float32))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
