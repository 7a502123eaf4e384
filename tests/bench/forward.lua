-- Tokens per second of a forward pass with loss, and what looking costs: massact run forward.lua MODEL [TOKENS [REPEATS]],
-- beside what sgemm alone gives for the same products (weights as [in, out], f32, as they lie).
local massact = require "massact"
local path, length, repeats = arg[1], tonumber(arg[2] or 512), tonumber(arg[3] or 15)
local model = massact.load(path)
local ids = {}
for i = 1, length do ids[i] = i * 7919 % model.vocab_size end

-- Median seconds of a pass; interleaved, since machines drift.
local kinds = {
  { "plain" },
  { "probe of every layer", function(p) return p:probe { "top3", "median" } end },
  { "empty hook on every layer", function(p) return p:hook(function() end) end },
}
for _ = 1, 2 do model:forward(ids, { loss = true }) end
local times = {}
for _ = 1, repeats do
  for i, kind in ipairs(kinds) do
    local handle = kind[2] and kind[2](model:point "layers.*.out")
    local before = massact.system.clock()
    model:forward(ids, { loss = true })
    times[i] = times[i] or {}
    table.insert(times[i], massact.system.clock() - before)
    if handle then handle:remove() end
  end
end
for i, kind in ipairs(kinds) do
  table.sort(times[i])
  local seconds = times[i][(#times[i] + 1) // 2]
  print(("massact, %s: %.0f tokens/s (%+.1f %%)"):format(kind[1], length / seconds, 100 * (seconds / times[1][(#times[1] + 1) // 2] - 1)))
end

-- ---- bare sgemm, for models without experts ----

local spec = model.spec
local q, kv, d, f = spec.n_heads * spec.d_head, spec.n_kv_heads * spec.d_head, spec.d_model, spec.d_ff
local products = { { d, q, spec.n_layers }, { d, kv, 2 * spec.n_layers }, { q, d, spec.n_layers }, { f, d, spec.n_layers },
  { d, f, (spec.gated and 2 or 1) * spec.n_layers }, { d, spec.vocab_size, 1 } }
local bare, flops = 0, 0
for _, product in ipairs(products) do
  local k, n, count = table.unpack(product)
  local x, w, seconds = massact.randn(length, k), massact.randn(k, n), {}
  for i = 1, repeats do
    local before = massact.system.clock()
    x:matmul(w)
    seconds[i] = massact.system.clock() - before
  end
  table.sort(seconds)
  bare, flops = bare + count * seconds[(repeats + 1) // 2], flops + 2 * count * length * k * n
end
local plain = times[1][(#times[1] + 1) // 2]
print(("products alone: %.3f s, %.0f GFLOP/s; the pass: %.3f s, %.0f GFLOP/s in them, %.0f %% of bare sgemm"):format(
  bare, flops / bare / 1e9, plain, flops / plain / 1e9, 100 * bare / plain))
print(massact.system.machine().blas)
