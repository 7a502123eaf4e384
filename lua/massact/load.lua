-- massact.load: from files to a model.  Checks both ways: every slot of the decoder filled, every tensor of the
-- checkpoint used or known to be none.
local core = require "massact.core"
local devices = require "massact.device"
local dtypes = require "massact.dtype"
local families = require "massact.family"
local gguf = require "massact.gguf"
local memory = require "massact.memory"
local mitigations = require "massact.mitigation"
require "massact.model"

local M = {}

local mib = 2 ^ 20

---@class massact.LoadOptions
---@field device? string "auto" (default: a GPU where there is one), "cpu", "cuda", "cuda:1"; weights lie there, packed ones packed
---@field dtype? string "f32" (default), "bf16" or "f16", also under PyTorch's names ("torch.bfloat16", "half").  The
---16-bit ones give what transformers gives in that dtype with eager attention: arithmetic stays in f32, and everything
---that PyTorch would store is rounded to nearest even (f16: infinite above 65504).  Points show f32 tensors of values
---that the dtype holds, and what is written to them is rounded (but for shares of experts and for scores with an ALiBi
---bias, which are f32 there too)
---@field cache? number MiB that widened copies of weights may take (default 1024); larger models are widened a
---layer at a time in every pass

-- ---- where things are ----

-- A name of the hub ("openai-community/gpt2") in its local cache; massact downloads nothing.
local function in_hub_cache(name)
  local owner, repository = name:match "^([%w%-%._]+)/([%w%-%._]+)$"
  if not owner then return nil end
  local hub = os.getenv "HF_HUB_CACHE"
    or (os.getenv "HF_HOME" and os.getenv "HF_HOME" .. "/hub")
    or (os.getenv "HOME" or "") .. "/.cache/huggingface/hub"
  local folder = ("%s/models--%s--%s"):format(hub, owner, repository)
  local ref = io.open(folder .. "/refs/main")
  if not ref then return nil end
  local commit = ref:read "l"
  ref:close()
  local snapshot = ("%s/snapshots/%s"):format(folder, commit)
  return core.system.is_folder(snapshot) and snapshot or nil
end

local function resolve(path)
  if core.system.exists(path) then return path end
  local cached = in_hub_cache(path)
  if cached then return cached end
  if path:match "^[%w%-%._]+/[%w%-%._]+$" then
    error(("there is no '%s' here and none in the local hub cache; download it first "
      .. "(huggingface-cli download %s) or name a folder or a .gguf file"):format(path, path), 0)
  end
  error(("there is no model '%s'"):format(path), 0)
end

-- ---- weights ----

---Every slot that `slot` stands for ("*": layers, "#": experts), with the tensor's name and the expert.
---@return fun(): string?, string?, integer?
function M.each_slot(slot, source, spec)
  local name = type(source) == "table" and source[1] or source
  local n_layers = slot:find("*", 1, true) and spec.n_layers or 1
  local n_experts = slot:find("#", 1, true) and spec.n_experts or 1
  local at = -1
  return function()
    at = at + 1
    if at == n_layers * n_experts then return nil end
    local layer, expert = at // n_experts, at % n_experts
    return slot:gsub("%*", layer):gsub("#", expert), name:gsub("%*", layer):gsub("#", expert), expert
  end
end

---Turns a family's name of a tensor into this checkpoint's, which may put a prefix before it.
---@param checkpoint massact.Checkpoint
---@param family massact.Family
---@return fun(name: string): string
function M.naming(checkpoint, family)
  for _, prefix in ipairs(family.prefixes or {}) do
    local theirs, ours = prefix[1], prefix[2]
    for _, name in ipairs(checkpoint:names()) do
      if name:sub(1, #theirs) == theirs then
        return function(wanted)
          if checkpoint:has(wanted) or wanted:sub(1, #ours) ~= ours then return wanted end
          return theirs .. wanted:sub(#ours + 1)
        end
      end
    end
  end
  return function(wanted) return wanted end
end

local function is_ignored(name, patterns)
  for _, pattern in ipairs(patterns or {}) do
    if name:find(pattern) then return true end
  end
  return false
end

-- Binds every slot; returns the names that were used, and by slot the views and what they are views of.
local function bind_weights(model, checkpoint, parameter, weights, spec, full_name, where)
  local used, bound, sources = {}, {}, {}
  for slot, source in pairs(weights) do
    for slot_name, name, expert in M.each_slot(slot, source, spec) do
      local full = full_name(name)
      if checkpoint:has(full) then
        local tensor = parameter(full)
        if type(source) == "table" and source.view then tensor = source.view(tensor, expert) end
        local fine, problem = pcall(model.bind, model, slot_name, tensor)
        if not fine then
          error(("%s: tensor '%s': %s"):format(where, full, (tostring(problem):gsub("^.-:%d+: ", ""))), 0)
        end
        used[full], bound[slot_name] = true, tensor
        sources[slot_name] = { name = full, view = type(source) == "table" and source.view or nil, expert = expert }
      elseif not (type(source) == "table" and source.optional) then
        error(("%s: tensor '%s' is missing"):format(where, full), 0)
      end
    end
  end
  return used, bound, sources
end

local function check_all_used(checkpoint, used, family, is_tied, where)
  local ignored = checkpoint:format() == "gguf" and gguf.ignored or family.ignored
  for _, name in ipairs(checkpoint:names()) do
    -- Some checkpoints store a tied head a second time.
    if not used[name] and not is_ignored(name, ignored) and not (is_tied and name:find "lm_head%.weight$") then
      error(("%s: tensor '%s' is not a weight of family %s"):format(where, name, family.name), 0)
    end
  end
end

-- ---- configs ----

local function read_config(path)
  local file = path .. "/config.json"
  if not core.system.exists(file) then error(("'%s' has no config.json"):format(path), 0) end
  local config = core.json.load(file)
  if type(config) ~= "table" then error(("%s: not an object"):format(file), 0) end
  return config, file
end

-- Multimodal configs keep the decoder's part in text_config.
local function text_part(config)
  if type(config.text_config) ~= "table" then return config end
  local part = {}
  for key, value in pairs(config.text_config) do part[key] = value end
  part.architectures = part.architectures or config.architectures
  return part
end

local function warn_unread(unread, family, where)
  local unused = {}
  for _, key in ipairs(family.unused or {}) do unused[key] = true end
  for _, key in ipairs(unread) do
    if not unused[key] then
      io.stderr:write(("massact: %s: '%s' is not used by family %s\n"):format(where, key, family.name))
    end
  end
end

-- ---- the model ----

local function base_name(path) return (path:gsub("/+$", ""):gsub("%.gguf$", ""):gsub("%.safetensors$", ""):match "([^/]+)$") end

local function describe(path, checkpoint)
  if checkpoint:format() == "gguf" then
    local family, config = gguf.describe(checkpoint, path)
    return family, config, path
  end
  local folder = core.system.is_folder(path) and path or path:match "^(.*)/[^/]*$" or "."
  local config, file = read_config(folder)
  config = text_part(config)
  return mitigations.applied(families.of_config(config, file), config), config, file
end

---@class massact.Parts what a model is put together from
---@field family massact.Family
---@field spec table
---@field config table
---@field proxy table the config as the family reads it
---@field checkpoint massact.Checkpoint
---@field device? string
---@field dtype string
---@field cache? number MiB
---@field name string
---@field path? string
---@field where string for messages

---A model from its parts.
---@param parts massact.Parts
---@return massact.Model
function M.assemble(parts)
  local family, spec, checkpoint = parts.family, parts.spec, parts.checkpoint
  local model = core.model.new(spec, parts.device or "auto", family.paths or {}, parts.dtype)
  local weights = family.weights(spec, parts.proxy)
  local is_tied = weights["head.weight"] == weights["embed.tokens"]
  if checkpoint:format() == "gguf" then weights = gguf.weights(family, spec, weights, checkpoint) end
  local parameters = {}
  -- One tensor a name, on the model's device, so that gradients gather in it whoever asks for it.
  local function parameter(tensor_name)
    parameters[tensor_name] = parameters[tensor_name] or devices.moved(checkpoint:tensor(tensor_name), model:device())
    return parameters[tensor_name]
  end
  local used, bound, sources = bind_weights(model, checkpoint, parameter, weights, spec, M.naming(checkpoint, family), parts.where)
  check_all_used(checkpoint, used, family, is_tied, parts.where)
  model:finish((parts.cache or 1024) * mib)
  local fields = model:fields()
  fields.name, fields.path, fields.family, fields.dtype = parts.name, parts.path, family.name, parts.dtype
  fields.spec, fields.config, fields.checkpoint = spec, parts.config, checkpoint
  fields.parameter = parameter
  fields.weights, fields.sources, fields.is_tied = bound, sources, is_tied
  fields.paths = family.paths or {}
  fields.n_layers, fields.d_model, fields.vocab_size = spec.n_layers, spec.d_model, spec.vocab_size
  fields.max_positions = spec.max_positions
  return model
end

---Loads a model: a Hugging Face folder, a .safetensors or .gguf file, or a name of the hub whose files are in
---the local cache.  Weights are mapped, not read; a GPU gets a copy.
---@param path string
---@param options? massact.LoadOptions
---@return massact.Model
function M.load(path, options)
  options = options or {}
  local dtype, problem = dtypes.parse(options.dtype)
  if not dtype then error(problem, 0) end
  local resolved = resolve(path)
  local checkpoint = core.checkpoint.open(resolved)
  local family, config, where = describe(resolved, checkpoint)
  local is_gguf = checkpoint:format() == "gguf"
  memory.check_weights(checkpoint, core.system.machine(options.device or "auto").device, resolved)
  local proxy, unread = families.recording(config, family, where)
  local model = M.assemble {
    family = family, spec = is_gguf and gguf.spec(family, proxy) or family.spec(proxy), config = config, proxy = proxy,
    checkpoint = checkpoint, device = options.device, dtype = dtype, cache = options.cache, name = base_name(path),
    path = resolved, where = resolved,
  }
  if not is_gguf then warn_unread(unread(), family, where) end
  return model
end

return M
