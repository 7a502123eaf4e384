-- Families: how a config.json (or GGUF metadata) becomes a spec, and which tensor of the checkpoint fills which
-- slot of the decoder.  A family is data; massact.family{...} registers one, from lua/massact/families or from
-- a user's script.
local core = require "massact.core"

---@class massact.Family
---@field name string
---@field architectures string[] what config.json calls it
---@field model_types? string[]
---@field gguf? string general.architecture of its GGUF files
---@field spec fun(config: table): table config.json -> fields of core/model/spec.def
---@field weights fun(spec: table, config: table): table<string, massact.Source> slot -> where it comes from
---@field paths table<string, string> the checkpoint's own module paths -> points
---@field prefixes? string[] what may stand before every tensor's name
---@field ignored? string[] patterns of tensors that hold no weights
---@field unused? string[] config keys that change nothing in a forward pass
---@field gguf_config? fun(metadata: table): table metadata -> what config.json would say
---@field gguf_weights? fun(spec: table, config: table): table<string, massact.Source>

---A tensor's name, or {name, view = function(tensor) ... end} for a part of one.
---@alias massact.Source string|{[1]: string, view?: fun(t: massact.Tensor): massact.Tensor, optional?: boolean}

local M = { registered = {} }

-- Keys of a config.json that say nothing about the forward pass of any family.
local harmless = {}
for key in ([[
  architectures model_type torch_dtype dtype transformers_version use_cache initializer_range bos_token_id
  eos_token_id pad_token_id attention_dropout pretraining_tp output_hidden_states output_attentions return_dict
  chunk_size_feed_forward is_encoder_decoder id2label label2id problem_type task_specific_params _name_or_path
  cache_implementation embd_pdrop attn_pdrop resid_pdrop summary_activation summary_first_dropout
  summary_proj_to_labels summary_type summary_use_proj tie_word_embeddings rope_interleaved is_llama_config
  transformers.js_config unk_token_id sep_token_id cls_token_id tokenizer_class auto_map add_cross_attention
  tie_encoder_decoder torchscript pruned_heads name_or_path quantization_config massact
]]):gmatch "%S+" do harmless[key] = true end

-- What sizes may be, so that a hostile file is refused before tables are made for it: core/model/spec.c has the last word.
local limits = {}
for key, limit in pairs {
  num_hidden_layers = 2 ^ 16, n_layer = 2 ^ 16, n_layers = 2 ^ 16, num_layers = 2 ^ 16,
  num_attention_heads = 2 ^ 16, n_head = 2 ^ 16, n_heads = 2 ^ 16, num_key_value_heads = 2 ^ 16, head_dim = 2 ^ 16,
  hidden_size = 2 ^ 24, n_embd = 2 ^ 24, d_model = 2 ^ 24, intermediate_size = 2 ^ 26, n_inner = 2 ^ 26, ffn_dim = 2 ^ 26,
  vocab_size = 2 ^ 31 - 1, max_position_embeddings = 2 ^ 31 - 1, n_positions = 2 ^ 31 - 1, n_ctx = 2 ^ 31 - 1,
} do limits[key] = limit // 1 | 0 end

local function check_size(key, value, where)
  local limit = limits[key]
  if not limit or value == nil or (math.type(value) == "integer" and value >= 1 and value <= limit) then return value end
  local shown = type(value) == "table" and "(a list)" or type(value) == "string" and ("%q"):format(value):gsub("%c", "?") or tostring(value)
  error(("%s: '%s' = %s must be a whole number from 1 to %d"):format(where or "config", key, shown, limit), 0)
end

---A view of `config` that remembers which keys were read; null reads as nil.  Reading a size that cannot be one is an error.
---@param config table
---@param where? string for messages
---@return table proxy, fun(): string[] unread
function M.recording(config, where)
  local read = {}
  local proxy = setmetatable({}, {
    __index = function(_, key)
      read[key] = true
      local value = config[key]
      if value == core.json.null then return nil end
      return check_size(key, value, where)
    end,
  })
  local function unread()
    local keys = {}
    for key, value in pairs(config) do
      if not read[key] and not harmless[key] and value ~= core.json.null then keys[#keys + 1] = key end
    end
    table.sort(keys)
    return keys
  end
  return proxy, unread
end

---Registers a family and returns it.
---@param family massact.Family
---@return massact.Family
function M.family(family)
  for _, field in ipairs { "name", "architectures", "spec", "weights" } do
    if not family[field] then error("family: '" .. field .. "' is missing", 2) end
  end
  M.registered[family.name] = family
  return family
end

local function load_all()
  if M.is_loaded then return end
  local folder = require("massact").home .. "/lua/massact/families"
  local files = core.system.list(folder)
  table.sort(files)
  for _, file in ipairs(files) do
    local name = file:match "^(.*)%.lua$"
    if name then require("massact.families." .. name) end
  end
  M.is_loaded = true -- not before: what failed is tried again
end

local function contains(list, value)
  for _, each in ipairs(list or {}) do if each == value then return true end end
  return false
end

local function names_of_families()
  local names = {}
  for name in pairs(M.registered) do names[#names + 1] = name end
  table.sort(names)
  return table.concat(names, ", ")
end

---The family that a config.json names.
---@param config table
---@param where string for messages
---@return massact.Family
function M.of_config(config, where)
  load_all()
  local architecture = type(config.architectures) == "table" and config.architectures[1]
  for _, family in pairs(M.registered) do
    if architecture and contains(family.architectures, architecture) then return family end
  end
  for _, family in pairs(M.registered) do
    if not architecture and contains(family.model_types, config.model_type) then return family end
  end
  local named = tostring(architecture or config.model_type or "(none)"):gsub("%c", "?")
  error(("%s: unknown architecture '%s'; massact knows %s, and massact.family{...} adds one"):format(
    where, named, names_of_families()), 0)
end

---The family of a GGUF's general.architecture.
---@param name string
---@param where string
---@return massact.Family
function M.of_gguf(name, where)
  load_all()
  for _, family in pairs(M.registered) do
    if family.gguf == name then return family end
  end
  error(("%s: unknown architecture '%s'; massact knows %s, and massact.family{...} adds one"):format(
    where, tostring(name), names_of_families()), 0)
end

---Inverse frequencies of RoPE with the scaling that config.json asks for, and the factor on cosine and sine.
---Kinds: default, linear (Chen et al. 2023), llama3 (Llama 3.1 report, and transformers' _compute_llama3_parameters).
---@param dims integer dims of a head that turn
---@param theta number
---@param scaling? table rope_scaling or rope_parameters
---@return table rope {frequencies =, scale =}
function M.rope(dims, theta, scaling)
  local frequencies = {}
  for i = 0, dims // 2 - 1 do frequencies[i + 1] = theta ^ (-2 * i / dims) end
  local kind = scaling and (scaling.rope_type or scaling.type) or "default"
  if kind == "linear" then
    for i, f in ipairs(frequencies) do frequencies[i] = f / scaling.factor end
  elseif kind == "llama3" then
    local low, high = scaling.low_freq_factor, scaling.high_freq_factor
    local old = scaling.original_max_position_embeddings
    for i, f in ipairs(frequencies) do
      -- Wave lengths above old / low are stretched whole, those below old / high not at all.
      local smooth = (old * f / (2 * math.pi) - low) / (high - low)
      smooth = math.max(0, math.min(1, smooth))
      frequencies[i] = (1 - smooth) * f / scaling.factor + smooth * f
    end
  elseif kind ~= "default" then
    error(("rope scaling '%s' is not supported; there are default, linear and llama3"):format(kind), 0)
  end
  return { frequencies = frequencies, scale = 1 }
end

---theta and scaling, as transformers 4 (rope_theta, rope_scaling) or 5 (rope_parameters) spells them.
---@param config table
---@param default_theta number
---@return number theta, table? scaling
function M.rope_settings(config, default_theta)
  local parameters = config.rope_parameters
  if parameters then return parameters.rope_theta or default_theta, parameters end
  return config.rope_theta or default_theta, config.rope_scaling
end

---transformers' names of activations -> the spec's.
---@param name string
---@return string
function M.activation(name)
  local known = {
    gelu = "gelu", gelu_new = "gelu_tanh", gelu_pytorch_tanh = "gelu_tanh", gelu_fast = "gelu_tanh",
    silu = "silu", swish = "silu", relu = "relu",
  }
  return known[name] or error(("activation '%s' is not supported"):format(tostring(name)), 0)
end

return M
