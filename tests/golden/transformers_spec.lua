-- A checkpoint that training wrote loads in transformers, with every tensor in its place, and gives the logits that it gives here.
-- Needs a Python with torch and transformers: MASSACT_PYTHON, or python3.
local massact = require "massact"
local python = os.getenv "MASSACT_PYTHON" or "python3"
if not os.execute(("%s -c 'import torch, transformers, safetensors' 2>/dev/null"):format(python)) then
  print "skipped: everything (neither MASSACT_PYTHON nor python3 has torch and transformers)"
  os.exit(0, true)
end
local tests = os.getenv "MASSACT_TESTS"
local ids = { 5, 17, 3, 42, 8, 61, 30, 11 }

-- The same batch over and over.
local function same_batch()
  local batch = massact.tensor({ ids }, "i64")
  return { next = function() return batch end, state = function() return {} end, restore = function() end,
    batches = function() return function() return nil end end }
end

local folder
before_each(function()
  folder = os.tmpname()
  os.remove(folder)
end)
after_each(function() os.execute("rm -rf " .. folder) end)

-- Trains a little, and compares the checkpoint there with the model here.
local function check(model)
  massact.train { model = model, loader = same_batch(), steps = 2, folder = folder, optimizer = { rate = 1e-3 } }
  local out = folder .. "/logits.safetensors"
  local pipe = assert(io.popen(("%s %s/tools/read_checkpoint.py %s/step-2 %s %s 2>&1"):format(python, tests, folder, table.concat(ids, ","), out)))
  local said = pipe:read "a"
  assert(pipe:close(), said)
  local theirs = massact.safetensors.load(out).logits
  local ours = model:forward({ ids }, { logits = true }).logits
  local off = (ours - theirs):abs():max():item() / theirs:abs():max():item()
  assert(off < 1e-4, ("off by %g of the largest"):format(off))
end

describe("a checkpoint in transformers", function()
  for _, name in ipairs(massact.system.list(tests .. "/golden/models")) do
    it("is the model that was trained: " .. name, function() check(massact.load(tests .. "/golden/models/" .. name)) end)
  end

  it("is a new model too", function()
    check(massact.create({ model_type = "llama", architectures = { "LlamaForCausalLM" }, num_hidden_layers = 2, hidden_size = 32, intermediate_size = 48,
      num_attention_heads = 4, num_key_value_heads = 2, max_position_embeddings = 64, vocab_size = 70, rms_norm_eps = 1e-5, hidden_act = "silu",
      rope_theta = 10000.0, tie_word_embeddings = true, bos_token_id = 0, eos_token_id = 1 }, { seed = 3 }))
  end)
end)
