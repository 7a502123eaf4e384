"""Tokens per second of llama.cpp (llama-cpp-python) for one batch with the logits of every token, and their loss in numpy.

    python forward_llamacpp.py MODEL.gguf [TOKENS]          needs llama-cpp-python and numpy
"""
import statistics, sys, time
import numpy
from llama_cpp import Llama

length = int(sys.argv[2]) if len(sys.argv) > 2 else 512
llm = Llama(sys.argv[1], n_ctx=length, n_batch=length, n_ubatch=length, n_threads=2, n_threads_batch=2, logits_all=True, verbose=False)
ids = [i * 7919 % llm.n_vocab() for i in range(1, length + 1)]
evaluated, times = [], []
for i in range(7):
    llm.reset()
    before = time.perf_counter()
    llm.eval(ids)
    evaluated.append(time.perf_counter() - before)
    logits = llm.scores[:length - 1]
    largest = logits.max(axis=1, keepdims=True)
    log_sum = numpy.log(numpy.exp(logits - largest).sum(axis=1)) + largest[:, 0]
    loss = (log_sum - logits[numpy.arange(length - 1), ids[1:]]).mean()
    times.append(time.perf_counter() - before)
print(f"llama.cpp: {length / statistics.median(evaluated[2:]):.0f} tokens/s, with the loss in numpy {length / statistics.median(times[2:]):.0f} (loss {loss:.4f})")
