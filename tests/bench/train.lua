-- Tokens per second of a training step (loss, way back, AdamW) of a GPT-2 of 6 layers, 384 wide, at context 256, and the memory at the
-- peak: massact run train.lua [BATCH [VOCABULARY [STEPS]]].  train.py does the same in PyTorch.
local massact = require "massact"
local optimizers = require "massact.train.optimizer"

local batch, vocabulary, steps = tonumber(arg[1] or 8), tonumber(arg[2] or 50257), tonumber(arg[3] or 12)
local context = 256
local clock = os.getenv "CPU_TIME" and os.clock or massact.system.clock
local model = massact.create({ model_type = "gpt2", architectures = { "GPT2LMHeadModel" }, n_layer = 6, n_head = 6, n_embd = 384,
  n_positions = context, n_ctx = context, vocab_size = vocabulary, layer_norm_epsilon = 1e-5, activation_function = "gelu_new",
  bos_token_id = 0, eos_token_id = 0 }, {})
local optimizer = optimizers.new(model, { rate = 1e-4 })

local ids = {}
for b = 1, batch do
  ids[b] = {}
  for t = 1, context do ids[b][t] = (b * 7919 + t * 104729) % vocabulary end
end
ids = massact.tensor(ids, "i64")

local parts, seconds = { forward = {}, backward = {}, step = {} }, {}
local function timed(part, f)
  local before = clock()
  local result = f()
  table.insert(parts[part], clock() - before)
  return result
end
local loss
for i = 1, steps + 2 do
  local before = clock()
  loss = timed("forward", function() return model:loss(ids) end)
  timed("backward", function() loss:backward() end)
  timed("step", function() optimizer:step(1, optimizer:gradient_norm()) end)
  if i > 2 then seconds[i - 2] = clock() - before end -- the first ones find their memory
end

local function median(list)
  table.sort(list)
  return list[(#list + 1) // 2]
end
print(("massact: %.0f tokens/s, best %.0f (median %.3f s a step: forward %.3f, backward %.3f, AdamW %.3f); peak %.0f MB; loss %.4f"):format(
  batch * context / median(seconds), batch * context / seconds[1], median(seconds), median(parts.forward), median(parts.backward),
  median(parts.step), massact.system.peak_memory() / 1e6, loss:item()))
