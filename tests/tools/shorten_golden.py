"""Copies a golden model without its long sequence, which makes it small enough for the repository.

    python shorten_golden.py FROM TO          needs safetensors and numpy
"""
import os, shutil, sys
from safetensors.numpy import load_file, save_file

source, target = sys.argv[1:3]
os.makedirs(target, exist_ok=True)
for name in os.listdir(source):
    if name == "expected.safetensors":
        kept = {k: v for k, v in load_file(os.path.join(source, name)).items() if not k.startswith("long.")}
        save_file(kept, os.path.join(target, name))
    else:
        shutil.copy(os.path.join(source, name), target)
