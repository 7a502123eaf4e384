-- What it costs to stand on attn.received and attn.entropy, beside attn.probs: massact run tallies.lua MODEL [TOKENS [REPEATS]].
-- Seconds of processor time, so that a busy machine can tell; with OMP_NUM_THREADS=1, since threads that wait spin.
local massact = require "massact"
local path, length, repeats = arg[1], tonumber(arg[2] or 2048), tonumber(arg[3] or 7)
local model = massact.load(path)
local ids = {}
for i = 1, length do ids[i] = i * 7919 % model.vocab_size end
local last = ("layers.%d.out"):format(model.n_layers - 1)

-- Median of a pass through the layers; interleaved, since machines drift.
local kinds = { { "nobody" }, { "attn.received", "received" }, { "attn.entropy", "entropy" }, { "both", "{received,entropy}" }, { "attn.probs", "probs" } }
local times = {}
model:forward(ids, { stop_at = last })
for _ = 1, repeats do
  for i, kind in ipairs(kinds) do
    local hook <close> = kind[2] and model:point("layers.*.attn." .. kind[2]):hook(function() end) or nil
    local before = os.clock()
    model:forward(ids, { stop_at = last })
    times[i] = times[i] or {}
    table.insert(times[i], os.clock() - before)
  end
end
for i, kind in ipairs(kinds) do
  table.sort(times[i])
  local median = times[i][(#times[i] + 1) // 2]
  print(("%d tokens, on every layer's %-14s %.3f s (%+.1f %%), %.3f at best (%+.1f %%)"):format(length, kind[1], median,
    100 * (median / times[1][(#times[1] + 1) // 2] - 1), times[i][1], 100 * (times[i][1] / times[1][1] - 1)))
end
