-- A checkpoint of Llama-2-7B's shape in bf16: mapped, not read, and widened a panel at a time, so that the first layers'
-- outputs cost little memory of the process's own, at once.  Writes up to 13.5 GB; part of the larger suites.
local massact = require "massact"
local bin = os.getenv "MASSACT_BIN"
if not os.getenv "MASSACT_SHARED" then
  print "skipped: everything (a larger suite; MASSACT_SHARED is not set)"
  os.exit(0, true)
end

local d_model, d_ff, vocab, context = 4096, 11008, 32000, 512

local folder = os.tmpname()
os.remove(folder)
massact.system.make_folder(folder)

local function free_bytes()
  local pipe = assert(io.popen(("df -Pk %s"):format(folder)))
  local text = pipe:read "a"
  pipe:close()
  return tonumber(text:match "\n%S+%s+%d+%s+%d+%s+(%d+)") * 1024
end

-- As many of the 32 layers as the disk has room for.
local layer_bytes = 2 * (4 * d_model * d_model + 3 * d_model * d_ff)
local n_layers = math.min(32, math.max(1, math.floor((free_bytes() - 4e9) / layer_bytes)))

-- The layers share their numbers, which is all the same to whoever reads them.
local function write_checkpoint()
  local function random(...) return massact.randn(..., { dtype = "bf16", seed = 1 }) end
  local square, wide, tall = random { d_model, d_model }, random { d_ff, d_model }, random { d_model, d_ff }
  local ones = massact.ones({ d_model }, { dtype = "bf16" })
  local tensors = { ["model.norm.weight"] = ones, ["model.embed_tokens.weight"] = random { vocab, d_model } }
  tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
  for l = 0, n_layers - 1 do
    local layer = ("model.layers.%d."):format(l)
    for _, letter in ipairs { "q", "k", "v", "o" } do tensors[layer .. "self_attn." .. letter .. "_proj.weight"] = square end
    tensors[layer .. "mlp.gate_proj.weight"], tensors[layer .. "mlp.up_proj.weight"] = wide, wide
    tensors[layer .. "mlp.down_proj.weight"] = tall
    tensors[layer .. "input_layernorm.weight"], tensors[layer .. "post_attention_layernorm.weight"] = ones, ones
  end
  massact.safetensors.save(folder .. "/model.safetensors", tensors)
  massact.json.save(folder .. "/config.json", {
    architectures = { "LlamaForCausalLM" }, model_type = "llama", hidden_size = d_model, intermediate_size = d_ff,
    num_hidden_layers = n_layers, num_attention_heads = 32, num_key_value_heads = 32, vocab_size = vocab,
    max_position_embeddings = 4096, rms_norm_eps = 1e-5, tie_word_embeddings = false, torch_dtype = "bfloat16",
  })
end

-- Prints when the first point is reached, then the most anonymous memory seen at any point.
local script = [[
local massact = require "massact"
local began, most
local function anonymous()
  for line in io.lines "/proc/self/status" do
    local kib = line:match "^RssAnon:%s+(%d+)"
    if kib then return tonumber(kib) * 1024 end
  end
end
local model = massact.load(arg[1])
local ids = {}
for i = 1, ]] .. context .. [[ do ids[i] = i * 7919 % model.vocab_size end
local function look() began, most = began or massact.system.clock(), math.max(most or 0, anonymous()) end
local embed <close> = model:point "embed":hook(look)
local layers <close> = model:point "layers.{0,1}.**":hook(look)
local out = model:forward(ids, { capture = { "layers.0.out", "layers.1.out" }, stop_at = "layers.1.out" })
assert(out["layers.1.out"]:isfinite():all():item() == 1)
print(began, math.max(most, anonymous()))
]]

describe(("a llama of 7B's width, %d of 32 layers, %.1f GB"):format(n_layers, n_layers * layer_bytes / 1e9), function()
  setup(write_checkpoint)
  teardown(function() os.execute("rm -r " .. folder) end)

  it("gives its first layers' outputs within 1.5 GB, starting within 2 s", function()
    massact.system.write(folder .. "/first.lua", script)
    local before = massact.system.clock()
    local pipe = assert(io.popen(("%s %s/first.lua %s"):format(bin, folder, folder)))
    local began, bytes = pipe:read("n", "n")
    assert(pipe:close() and began and bytes)
    print(("  %.2f s to the first point, %.2f GB of private memory at most"):format(began - before, bytes / 1e9))
    assert(bytes < 1.5e9, bytes)
    assert(began - before < 2, began - before)
  end)
end)
