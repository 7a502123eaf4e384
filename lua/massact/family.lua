-- Families: how a config.json (or GGUF metadata) becomes a spec, and which tensor of the checkpoint fills which
-- slot of the decoder.  A family is data; massact.family{...} registers one, from lua/massact/families or from
-- a user's script.
local core = require "massact.core"
local keyed = require "massact.keyed"

---@class massact.Family
---@field name string
---@field architectures string[] what config.json calls it
---@field like? string the family whose spec, weights, paths and lists hold where this one says nothing (one level deep)
---@field model_types? string[]
---@field gguf? massact.GgufSide its GGUF files, where llama.cpp has such an architecture
---@field spec fun(config: table): table config.json -> fields of core/model/spec.def; with `like`, those that differ
---@field weights fun(spec: table, config: table): table<string, massact.Source|false> slot ("#": expert) -> where it
---comes from; with `like`, those that differ, false for none
---@field paths table<string, string> the checkpoint's own module paths -> points
---@field prefixes? string[][] {"transformer.", ""}: names that begin with the second may begin with the first in a file
---@field ignored? string[] patterns of tensors that hold no weights
---@field defaults? table<string, any> what config.json's class of transformers takes for keys that the file leaves out
---@field unused? string[] config keys that change nothing in a forward pass

---A tensor's name, or {name, view = function(tensor, expert) ... end} for a part of one.
---@alias massact.Source string|{[1]: string, view?: fun(t: massact.Tensor, expert?: integer): massact.Tensor, optional?: boolean}

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
  tie_encoder_decoder torchscript pruned_heads name_or_path massact
]]):gmatch "%S+" do harmless[key] = true end

-- What sizes may be, so that a hostile file is refused before tables are made for it: core/model/spec.c has the last word.
local limits = {}
for key, limit in pairs {
  num_hidden_layers = 2 ^ 16, n_layer = 2 ^ 16, n_layers = 2 ^ 16, num_layers = 2 ^ 16,
  num_local_experts = 256, num_experts_per_tok = 256, num_kv_heads = 2 ^ 16, num_attention_heads = 2 ^ 16, n_head = 2 ^ 16, n_heads = 2 ^ 16, num_key_value_heads = 2 ^ 16, head_dim = 2 ^ 16,
  hidden_size = 2 ^ 24, n_embd = 2 ^ 24, d_model = 2 ^ 24, intermediate_size = 2 ^ 26, n_inner = 2 ^ 26, ffn_dim = 2 ^ 26,
  ffn_hidden_size = 2 ^ 26, word_embed_proj_dim = 2 ^ 24, max_seq_len = 2 ^ 31 - 1,
  vocab_size = 2 ^ 31 - 1, max_position_embeddings = 2 ^ 31 - 1, n_positions = 2 ^ 31 - 1, n_ctx = 2 ^ 31 - 1,
} do limits[key] = limit // 1 | 0 end

local function check_size(key, value, where)
  local limit = limits[key]
  if not limit or value == nil or (math.type(value) == "integer" and value >= 1 and value <= limit) then return value end
  local shown = type(value) == "table" and "(a list)" or type(value) == "string" and ("%q"):format(value):gsub("%c", "?") or tostring(value)
  error(("%s: '%s' = %s must be a whole number from 1 to %d"):format(where or "config", key, shown, limit), 0)
end

---A view of `config` as a family reads it: null is nil, what is left out is the family's default.  It remembers which keys
---were read; reading a size that cannot be one is an error.
---@param config table
---@param family massact.Family
---@param where? string for messages
---@return table proxy, fun(): string[] unread
function M.recording(config, family, where)
  local read, defaults = {}, family.defaults or {}
  local proxy = setmetatable({}, {
    __index = function(_, key)
      read[key] = true
      local value = config[key]
      if value == nil then value = defaults[key] end
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

-- A function whose table is that of `base` and that of `own`, put together by `how`.
local function both(base, own, how)
  if not base or not own then return own or base end
  return function(...) return how(base(...), own(...)) end
end

-- What `family` says, over what the family that it is like says.
local function completed(family)
  local base = M.registered[family.like] or require("massact.families." .. family.like)
  if base.like then error(("family %s: '%s' is itself like another family"):format(family.name, family.like), 3) end
  local whole = keyed.merged(base, family)
  whole.gguf = family.gguf
  whole.model_types = family.model_types
  whole.spec, whole.weights = both(base.spec, family.spec, keyed.merged), both(base.weights, family.weights, keyed.amended)
  whole.paths = keyed.amended(base.paths, family.paths)
  return whole
end

---Registers a family and returns it.
---@param family massact.Family
---@return massact.Family
function M.family(family)
  if family.like then family = completed(family) end
  for _, field in ipairs { "name", "architectures", "spec", "weights" } do
    if not family[field] then error("family: '" .. field .. "' is missing", 2) end
  end
  M.registered[family.name] = family
  return family
end

local function load_all()
  if M.is_loaded then return end
  keyed.load_folder "families"
  M.is_loaded = true -- not before: what failed is tried again
end

local function contains(list, value)
  for _, each in ipairs(list or {}) do if each == value then return true end end
  return false
end

local function names_of_families() return table.concat(keyed.keys(M.registered), ", ") end

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

---The family of a GGUF file.  Of those that share an architecture, one that accepts the file goes before one that takes any.
---@param name string general.architecture
---@param where string
---@param metadata massact.Metadata
---@return massact.Family
function M.of_gguf(name, where, metadata)
  load_all()
  local any
  for _, family in pairs(M.registered) do
    local side = family.gguf
    if side and side.architecture == name then
      if not side.accepts then any = family elseif side.accepts(metadata) then return family end
    end
  end
  return any or error(("%s: unknown architecture '%s'; massact knows %s, and massact.family{...} adds one"):format(
    where, name, names_of_families()), 0)
end

---Inverse frequencies of RoPE with the scaling that config.json asks for, and the factor on cosine and sine.
---Kinds: default, linear (Chen et al. 2023), llama3 (Llama 3.1 report, and transformers' _compute_llama3_parameters),
---longrope (a factor a frequency; only one list of factors for every length).
---@param dims integer dims of a head that turn; where it is odd, one more does, as in transformers
---@param theta number
---@param scaling? table rope_scaling or rope_parameters
---@return table rope {frequencies =, scale =}, and what they were made of: dims, theta, scaling
function M.rope(dims, theta, scaling)
  local frequencies = {}
  for i = 0, (dims + 1) // 2 - 1 do frequencies[i + 1] = theta ^ (-2 * i / dims) end
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
  elseif kind == "longrope" then
    local factors, others = scaling.short_factor, scaling.long_factor
    for i, f in ipairs(frequencies) do
      if factors[i] ~= others[i] then error("rope scaling 'longrope' with other factors for long texts is not supported", 0) end
      frequencies[i] = f / factors[i]
    end
  elseif kind ~= "default" then
    error(("rope scaling '%s' is not supported; there are default, linear, llama3 and longrope"):format(kind), 0)
  end
  if kind == "longrope" and not scaling.attention_factor then
    error("rope scaling 'longrope' without attention_factor is not supported", 0)
  end
  local scale = kind == "longrope" and scaling.attention_factor or 1
  return { frequencies = frequencies, scale = scale, dims = dims, theta = theta, scaling = kind ~= "default" and scaling or nil }
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

---Dims of a head that turn where only a part of them does.
---@param config table
---@param d_head integer
---@param default number the share where config.json gives none
---@return integer
function M.rotary_dims(config, d_head, default)
  local parameters = config.rope_parameters or {}
  local share = config.partial_rotary_factor or config.rotary_pct or parameters.partial_rotary_factor or default
  if type(share) ~= "number" or not (share > 0 and share <= 1) then
    error(("the share of a head's dims that turn is %s, not between 0 and 1"):format(tostring(share)), 0)
  end
  return math.tointeger(d_head * share // 1)
end

---Windows by layer (0: none), from `layer_types` where config.json has it.
---@param config table
---@param is_sliding fun(layer: integer): boolean for configs without layer_types
---@return integer[]
function M.windows(config, is_sliding)
  local windows, types = {}, config.layer_types
  local window = config.sliding_window
  for i = 1, config.num_hidden_layers do
    local slides
    if types then slides = types[i] == "sliding_attention" else slides = is_sliding(i - 1) end
    windows[i] = slides and window or 0
  end
  return windows
end

---Rows [first, first + n) of a tensor that stacks several.
---@param name string
---@param first integer
---@param n integer
---@return massact.Source
function M.rows(name, first, n)
  return { name, view = function(t) return t:narrow(0, first, n) end }
end

---Heads [first, first + n) of each group of a projection whose rows lie group by group, `per_group` heads of `d_head`
---rows each.
---@param name string
---@param groups integer
---@param per_group integer
---@param d_head integer
---@param first integer
---@param n integer
---@return massact.Source
function M.heads(name, groups, per_group, d_head, first, n)
  return { name, view = function(t)
    local split = t:dim() == 2 and t:reshape(groups, per_group, d_head, t:size(1)) or t:reshape(groups, per_group, d_head)
    return split:narrow(1, first, n)
  end }
end

---transformers' names of activations -> the spec's.
---@param name string
---@return string
function M.activation(name)
  local known = {
    gelu = "gelu", gelu_new = "gelu_new", gelu_pytorch_tanh = "gelu_tanh", gelu_fast = "gelu_tanh",
    silu = "silu", swish = "silu", relu = "relu",
  }
  return known[name] or error(("activation '%s' is not supported"):format(tostring(name)), 0)
end

return M
