-- What a GPU does of what it could: massact run gpu.lua [DEVICE [SIZE [MODEL...]]].  Its peak in products and its bandwidth, measured;
-- then forward passes of models of three shapes, what looking costs, and a training step, each as a share of that peak.  SIZE is
-- "full" (default), or "small": the same in a second, to see that it runs.  MODEL picks shapes.  Weights are random, in bf16.
local massact = require "massact"
local optimizers = require "massact.train.optimizer"

local device, is_small = massact.system.machine(arg[1] or "cuda").device, arg[2] == "small"
local lengths = is_small and { 8, 32 } or { 512, 4096 }
local repeats = is_small and 3 or 15

local function llama(layers, width, heads, kv_heads, ffn, vocabulary)
  return { model_type = "llama", architectures = { "LlamaForCausalLM" }, num_hidden_layers = layers, hidden_size = width,
    num_attention_heads = heads, num_key_value_heads = kv_heads, intermediate_size = ffn, vocab_size = vocabulary,
    max_position_embeddings = lengths[2], rms_norm_eps = 1e-5, hidden_act = "silu", rope_theta = 10000.0, tie_word_embeddings = false,
    bos_token_id = 1, eos_token_id = 2 }
end

local function gpt2(layers, width, heads, vocabulary)
  return { model_type = "gpt2", architectures = { "GPT2LMHeadModel" }, n_layer = layers, n_embd = width, n_head = heads,
    n_positions = lengths[2], n_ctx = lengths[2], vocab_size = vocabulary, layer_norm_epsilon = 1e-5, activation_function = "gelu_new",
    bos_token_id = 0, eos_token_id = 0 }
end

local shapes = is_small and {
  { name = "GPT-2-124M", config = gpt2(2, 32, 2, 96) },
  { name = "Llama-1B", config = llama(2, 32, 4, 1, 64, 96) },
  { name = "7B", config = llama(2, 64, 2, 2, 96, 96) },
} or {
  { name = "GPT-2-124M", config = gpt2(12, 768, 12, 50257) },
  { name = "Llama-1B", config = llama(16, 2048, 32, 8, 8192, 128256) },
  { name = "7B", config = llama(32, 4096, 32, 32, 11008, 32000) },
}

local wanted = {}
for i = 3, #arg do wanted[arg[i]] = true end

-- ---- clocks ----

local function seconds_of(work)
  massact.system.wait(device)
  local before = massact.system.clock()
  work()
  massact.system.wait(device)
  return massact.system.clock() - before
end

local function median(list)
  table.sort(list)
  return list[(#list + 1) // 2]
end

-- The median of each kind of work, in turns: a warm GPU slows down.
local function medians(kinds)
  local times = {}
  for turn = 1, repeats + 2 do
    for i, work in ipairs(kinds) do
      local seconds = seconds_of(work)
      times[i] = times[i] or {}
      if turn > 2 then table.insert(times[i], seconds) end -- the first ones find their memory
    end
  end
  for i, list in ipairs(times) do times[i] = median(list) end
  return times
end

-- ---- what the device can do ----

local side = is_small and 64 or 8192
local a, b = massact.randn(side, side):to { dtype = "bf16", device = device }, massact.randn(side, side):to { dtype = "bf16", device = device }
local block = massact.zeros({ is_small and 1 << 12 or 1 << 28 }, { device = device })
local of_product, of_copy = table.unpack(medians { function() a:matmul(b) end, function() block:clone() end })
local peak = 2 * side ^ 3 / of_product
local machine = massact.system.machine(device)
print(("%s (%s): bf16 products %.1f TFLOP/s, copies %.0f GB/s"):format(device, machine.device_hardware or machine.blas, peak / 1e12,
  8 * block:size() / of_copy / 1e9))
a, b, block = nil, nil, nil
collectgarbage()

-- ---- models ----

-- Operations of a pass over `rows` sequences of `length` tokens: two a weight and token, and causal attention's half square.
local function flops_of(model, rows, length)
  local s = model.spec
  local layer = s.d_model * s.d_head * (2 * s.n_heads + 2 * s.n_kv_heads) + s.d_model * s.d_ff * (s.gated and 3 or 2)
  local weights = s.n_layers * layer + s.d_model * s.vocab_size
  return rows * length * (2 * weights + s.n_layers * 2 * length * s.n_heads * s.d_head)
end

local function ids_of(model, rows, length)
  local ids = {}
  for row = 1, rows do
    ids[row] = {}
    for i = 1, length do ids[row][i] = (row * 7919 + i * 104729) % model.vocab_size end
  end
  return massact.tensor(ids, "i64")
end

local function share(flops, seconds) return ("%5.1f %% of the peak"):format(100 * flops / seconds / peak) end

local function forward(name, model)
  for _, length in ipairs(lengths) do
    local ids = ids_of(model, 1, length)
    local seconds = medians { function() model:forward(ids, { loss = true }) end }[1]
    print(("forward, %s, %d tokens: %8.0f tokens/s, %.4f s, %s"):format(name, length, length / seconds, seconds,
      share(flops_of(model, 1, length), seconds)))
  end
end

local function looking(name, model)
  local ids = ids_of(model, 1, lengths[2])
  local function pass() model:forward(ids, { loss = true }) end
  local plain, probed, hooked = table.unpack(medians {
    pass,
    function() local handle <close> = model:point("layers.*.out"):probe { "top3", "median" } pass() end,
    function() local hook <close> = model:point("layers.*.out"):hook(function() end) pass() end,
  })
  print(("looking, %s, %d tokens: top 3 and median of every layer %+.1f %%, an empty hook on every layer %+.1f %%"):format(name, lengths[2],
    100 * (probed / plain - 1), 100 * (hooked / plain - 1)))
end

local function training(name, model)
  local rows, length = is_small and 2 or 8, is_small and 16 or 1024
  local ids, optimizer = ids_of(model, rows, length), optimizers.new(model, { rate = 1e-4 })
  local seconds = medians { function()
    model:loss(ids):backward()
    optimizer:step(1, optimizer:gradient_norm())
  end }[1]
  print(("training, %s, %d x %d tokens: %.0f tokens/s, %.4f s a step, %s"):format(name, rows, length, rows * length / seconds, seconds,
    share(3 * flops_of(model, rows, length), seconds)))
end

for i, shape in ipairs(shapes) do
  if next(wanted) == nil or wanted[shape.name] then
    local model <close> = massact.create(shape.config, { device = device, dtype = "bf16" })
    forward(shape.name, model)
    looking(shape.name, model)
    if i == 1 then training(shape.name, model) end
  end
  collectgarbage()
end
