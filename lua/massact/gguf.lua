-- GGUF as llama.cpp lays models out.  Its names of tensors and of metadata are the same for every architecture, so they
-- are here once; a family's `gguf` says only where it differs.  The names serve both ways: reading a file
-- (massact.load) and writing one (massact convert).
local core = require "massact.core"
local families = require "massact.family"

local M = {}

---What a family says of its GGUF files; everything but the architecture is a difference from the usual.
---@class massact.GgufSide
---@field architecture string general.architecture
---@field accepts? fun(c: massact.Metadata): boolean of the families that share an architecture, whether it is this one
---@field keys? table<string, string|false> quantity -> its key in config.json; false: config.json has none
---@field config? fun(config: table, c: massact.Metadata, file: massact.Checkpoint) what `keys` cannot say
---@field metadata? fun(spec: table): table[] {key, type, value}, written besides the usual
---@field fused? table<string, boolean> "attn_qkv", "ffn_up": stacked tensors that llama.cpp expects
---@field names? fun(spec: table): table<string, string> stem of a slot -> stem of its tensor
---@field turns_neighbours? boolean llama.cpp turns dims 2i and 2i + 1 of a head, so the rows of q and k are reordered

-- ---- tensors ----

-- Slot -> tensor, in the order in which they are written.
local global_names = {
  { "embed.tokens", "token_embd.weight" }, { "embed.positions", "position_embd.weight" },
  { "final.norm.weight", "output_norm.weight" }, { "final.norm.bias", "output_norm.bias" },
  { "head.weight", "output.weight" }, { "head.bias", "output.bias" },
}

-- Stem of a slot of each layer -> stem of the tensor; each may have a weight and a bias.  "#" is an expert, of which
-- all lie in one tensor.
local layer_names = {
  { "attn.norm", "attn_norm" }, { "attn.q", "attn_q" }, { "attn.k", "attn_k" }, { "attn.v", "attn_v" },
  { "attn.q_norm", "attn_q_norm" }, { "attn.k_norm", "attn_k_norm" }, { "attn.proj", "attn_output" },
  { "attn.norm_after", "post_attention_norm" }, { "mlp.norm", "ffn_norm" }, { "mlp.gate", "ffn_gate" },
  { "mlp.up", "ffn_up" }, { "mlp.proj", "ffn_down" }, { "mlp.router", "ffn_gate_inp" },
  { "mlp.experts.#.gate", "ffn_gate_exps" }, { "mlp.experts.#.up", "ffn_up_exps" },
  { "mlp.experts.#.proj", "ffn_down_exps" }, { "mlp.norm_after", "post_ffw_norm" },
}

-- Tensors that stack the rows of several slots.
local fusions = {
  { tensor = "attn_qkv", stems = { "attn.q", "attn.k", "attn.v" }, first = "attn_q" },
  { tensor = "ffn_up", stems = { "mlp.gate", "mlp.up" }, first = "ffn_gate" },
}

---Tensors that hold no weights of the decoder; rope_freqs and rope_factors are read with the metadata.
M.ignored = { "^rope_freqs%.weight$", "^rope_factors_%w+%.weight$" }

---@class massact.GgufEntry a tensor and the slots that it fills
---@field name string "blk.*.attn_qkv.weight"
---@field slots string[] "layers.*.attn.q.weight" ..., whose rows it stacks
---@field in_layer boolean
---@field is_stack boolean one slot, of every expert: [n_experts, rows, columns]

---The tensors that hold the slots `wanted` (keys of a family's weights).
---@param family massact.Family
---@param spec table
---@param wanted table<string, any>
---@param is_fused fun(fusion: table, part: string): boolean
---@return massact.GgufEntry[]
function M.entries(family, spec, wanted, is_fused)
  local own = family.gguf.names and family.gguf.names(spec) or {}
  local entries, placed = {}, {}
  local function add(name, slots, in_layer)
    for _, slot in ipairs(slots) do placed[slot] = true end
    entries[#entries + 1] = { name = name, slots = slots, in_layer = in_layer, is_stack = slots[1]:find("#", 1, true) ~= nil }
  end
  for _, row in ipairs(global_names) do
    if wanted[row[1]] then add(row[2], { row[1] }, false) end
  end
  for _, row in ipairs(layer_names) do
    for _, part in ipairs { "weight", "bias" } do
      local slot = ("layers.*.%s.%s"):format(row[1], part)
      local name, slots = own[row[1]] or row[2], { slot }
      for _, fusion in ipairs(fusions) do
        if row[1] == fusion.stems[1] and wanted[slot] and is_fused(fusion, part) then
          name = fusion.tensor
          for i, stem in ipairs(fusion.stems) do slots[i] = ("layers.*.%s.%s"):format(stem, part) end
        end
      end
      if wanted[slot] and not placed[slot] then add(("blk.*.%s.%s"):format(name, part), slots, true) end
    end
  end
  for slot in pairs(wanted) do
    if not placed[slot] then error(("family %s: GGUF has no tensor for weight '%s'"):format(family.name, slot), 0) end
  end
  return entries
end

local function is_reordered(family, slot)
  return family.gguf.turns_neighbours and (slot:find "%.attn%.q%.[wb]" or slot:find "%.attn%.k%.[wb]") ~= nil
end

local function heads_of(slot, spec) return slot:find "%.attn%.q%." and spec.n_heads or spec.n_kv_heads end

-- Rows [head][a][b] as [head][b][a], where a counts to n.
local function swapped(t, heads, n)
  local rows = t:size(0)
  if t:dim() == 1 then return t:reshape(heads, n, rows // heads // n):permute(0, 2, 1) end
  return t:reshape(heads, n, rows // heads // n, t:size(1)):permute(0, 2, 1, 3)
end

---Rows of q or k as [head][half][i] <-> [head][i][half], where llama.cpp wants neighbours side by side.
function M.reordered(t, family, slot, spec)
  return is_reordered(family, slot) and swapped(t, heads_of(slot, spec), 2) or t
end

-- Rows of each slot of a fused tensor.
local function rows_of(slot, spec)
  if slot:find "%.attn%.q%." then return spec.n_heads * spec.d_head end
  return slot:find "%.attn%." and spec.n_kv_heads * spec.d_head or spec.d_ff
end

-- The source of one slot in an entry's tensor.
local function source(entry, i, family, spec)
  local slot, first = entry.slots[i], 0
  for j = 1, i - 1 do first = first + rows_of(entry.slots[j], spec) end
  return { entry.name, view = function(t, expert)
    if entry.is_stack then return t:select(0, expert) end
    if #entry.slots > 1 then t = t:narrow(0, first, rows_of(slot, spec)) end
    -- A head's rows lie as [i][half] here: seen with its d_head / 2 pairs outermost and permuted, as [half][i].
    return is_reordered(family, slot) and swapped(t, heads_of(slot, spec), spec.d_head // 2) or t
  end }
end

---Where each slot lies in a file.
---@param family massact.Family
---@param spec table
---@param wanted table<string, any> the slots, as keys
---@param file massact.Checkpoint
---@return table<string, massact.Source>
function M.weights(family, spec, wanted, file)
  local sources = {}
  local function is_fused(fusion, part)
    return file:has(("blk.0.%s.%s"):format(fusion.tensor, part)) and not file:has(("blk.0.%s.%s"):format(fusion.first, part))
  end
  for _, entry in ipairs(M.entries(family, spec, wanted, is_fused)) do
    if entry.slots[1] == "head.weight" and not file:has(entry.name) then
      sources["head.weight"] = "token_embd.weight"
    elseif entry.is_stack and not file:has((entry.name:gsub("%*", "0"))) then
      -- Files from before 2024-04 have a tensor an expert.
      sources[entry.slots[1]] = entry.name:gsub("_exps", ".#")
    else
      for i, slot in ipairs(entry.slots) do sources[slot] = source(entry, i, family, spec) end
    end
  end
  return sources
end

-- ---- metadata ----

---@class massact.Metadata the keys of one architecture, checked as they are read
---@field file massact.Checkpoint
---@field where string
---@field prefix string "llama."
local Metadata = {}
Metadata.__index = Metadata

-- f32 holds about seven digits: the shortest decimal that a reader would round to the same value.
local function shortest(x, is_right)
  for digits = 1, 17 do
    local short = tonumber(("%." .. digits .. "g"):format(x))
    if is_right(short) then return math.tointeger(short) or short end
  end
  return x
end
M.shortest = shortest

local function f32(x) return (string.unpack("<f", string.pack("<f", x))) end

local readers = {
  integer = function(value) return math.type(value) == "integer" and value >= 0 and value or nil, "a whole number" end,
  number = function(value, kind)
    if type(value) ~= "number" or value ~= value or value - value ~= 0 then return nil, "a number" end
    if kind == "f32" then return shortest(value, function(short) return f32(short) == value end) end
    return value
  end,
  boolean = function(value) if type(value) == "boolean" then return value end return nil, "a bool" end,
  string = function(value) return type(value) == "string" and value or nil, "a string" end,
  list = function(value) return type(value) == "table" and value or nil, "a list" end,
}

---The value of a key of the architecture, or nil; a wrong type is an error.
---@param type "integer"|"number"|"boolean"|"string"|"list"
---@param key string without the architecture
function Metadata:maybe(type, key)
  local raw, kind = self.file:value(self.prefix .. key)
  if raw == nil then return nil end
  local value, expected = readers[type](raw, kind)
  if value == nil then error(("%s: key '%s%s' is not %s"):format(self.where, self.prefix, key, expected), 0) end
  return value
end

---A size that lists are made of: one above `most` is an error before they are.
function Metadata:size(key, most)
  local value = self:maybe("integer", key)
  if value and value > most then
    error(("%s: key '%s%s' is %d, more than the %d that there may be"):format(self.where, self.prefix, key, value, most), 0)
  end
  return value
end

---The same as `maybe`; absence is an error too.
function Metadata:need(type, key)
  local value = self:maybe(type, key)
  if value == nil then error(("%s: key '%s%s' is missing"):format(self.where, self.prefix, key), 0) end
  return value
end

-- Hugging Face's usual keys for what a spec calls so.
local usual_keys = {
  n_layers = "num_hidden_layers", d_model = "hidden_size", n_heads = "num_attention_heads",
  n_kv_heads = "num_key_value_heads", d_head = "head_dim", d_ff = "intermediate_size",
  max_positions = "max_position_embeddings", vocab_size = "vocab_size", is_tied = "tie_word_embeddings",
  norm_eps = "rms_norm_eps", rope_theta = "rope_theta", rope_scaling = "rope_scaling",
  window = "sliding_window", layer_types = "layer_types", attn_softcap = "attn_logit_softcapping",
  logit_softcap = "final_logit_softcapping", qkv_clip = "clip_qkv",
  n_experts = "num_local_experts", n_experts_used = "num_experts_per_tok",
}

-- Factors by which the frequencies are divided, as the llama3 parameters that make them (low 1, high 4, as in every
-- such model) or, where none do, as the lists that "longrope" has room for.
local function scaling_of_factors(factors, theta, max_positions)
  local plain = families.rope(2 * #factors, theta).frequencies
  local largest = math.max(table.unpack(factors))
  for power = 4, 24 do
    local scaling = { rope_type = "llama3", factor = shortest(largest, function(x) return f32(x) == f32(largest) end),
      low_freq_factor = 1.0, high_freq_factor = 4.0, original_max_position_embeddings = 1 << power }
    local fits = true
    for i, f in ipairs(families.rope(2 * #factors, theta, scaling).frequencies) do
      fits = fits and math.abs(plain[i] / f - factors[i]) <= 1e-6 * factors[i]
    end
    if fits then return scaling end
  end
  return { rope_type = "longrope", short_factor = factors, long_factor = factors, attention_factor = 1.0,
    original_max_position_embeddings = max_positions }
end

-- As core/model/spec.h has them.
local max_layers, max_width, max_experts = 4096, 1 << 16, 1024

-- A tensor with a factor for each of `n` frequencies.
local function factors_of(c, name, n)
  local t = c.file:tensor(name):float():reshape(-1)
  if t:size(0) ~= n or t:gt(0):all():item() == 0 or t:isfinite():all():item() == 0 then
    error(("%s: tensor '%s' does not hold a positive factor for each of %d frequencies"):format(c.where, name, n), 0)
  end
  return t:totable()
end

local function rope_scaling(c, q, dims)
  local kind = c:maybe("string", "rope.scaling.type") or "none"
  if kind == "linear" then return { rope_type = "linear", factor = c:need("number", "rope.scaling.factor") } end
  if kind ~= "none" and kind ~= "longrope" then return { rope_type = kind } end
  if c.file:has "rope_freqs.weight" then
    return scaling_of_factors(factors_of(c, "rope_freqs.weight", dims // 2), q.rope_theta, q.max_positions)
  end
  if not (c.file:has "rope_factors_short.weight" and c.file:has "rope_factors_long.weight") then return nil end
  return {
    rope_type = "longrope", short_factor = factors_of(c, "rope_factors_short.weight", dims // 2),
    long_factor = factors_of(c, "rope_factors_long.weight", dims // 2),
    attention_factor = c:maybe("number", "rope.scaling.attn_factor"),
    original_max_position_embeddings = c:maybe("integer", "rope.scaling.original_context_length"),
  }
end

-- llama.cpp's list of which layers slide.
local function layer_types(c)
  local slides = c:maybe("list", "attention.sliding_window_pattern")
  if not slides then return nil end
  local types = {}
  for i, is_sliding in ipairs(slides) do types[i] = is_sliding and "sliding_attention" or "full_attention" end
  return types
end

-- What the metadata say, by a spec's names.
local function quantities(c)
  local function need(type, key) return c:need(type, key) end
  local function maybe(type, key) return c:maybe(type, key) end
  c:size("block_count", max_layers)
  local q = {
    n_layers = need("integer", "block_count"), d_model = need("integer", "embedding_length"),
    n_heads = need("integer", "attention.head_count"), d_ff = need("integer", "feed_forward_length"),
    max_positions = need("integer", "context_length"),
    norm_eps = maybe("number", "attention.layer_norm_rms_epsilon") or need("number", "attention.layer_norm_epsilon"),
    attn_softcap = maybe("number", "attn_logit_softcapping"), logit_softcap = maybe("number", "final_logit_softcapping"),
    qkv_clip = maybe("number", "attention.clamp_kqv"), layer_types = layer_types(c),
  }
  if q.n_heads == 0 then error(("%s: key '%sattention.head_count' is 0"):format(c.where, c.prefix), 0) end
  q.n_kv_heads = maybe("integer", "attention.head_count_kv") or q.n_heads
  q.d_head = c:size("attention.key_length", max_width) or q.d_model // q.n_heads
  if not c.file:has "token_embd.weight" then error(("%s: tensor 'token_embd.weight' is missing"):format(c.where), 0) end
  q.vocab_size = c.file:shape "token_embd.weight"[1]
  q.is_tied = not c.file:has "output.weight"
  local dims = c:size("rope.dimension_count", math.min(q.d_head, max_width))
  q.rope_theta = maybe("number", "rope.freq_base") or (dims and 10000)
  if q.rope_theta then q.rope_scaling = rope_scaling(c, q, dims or q.d_head) end
  if dims then
    q.rotary_share = shortest(dims / q.d_head, function(share) return q.d_head * share // 1 == dims end)
  end
  local window = maybe("integer", "attention.sliding_window")
  q.window = window and window > 0 and window or nil
  local n_experts = c:size("expert_count", max_experts) or 0
  if n_experts > 0 then q.n_experts, q.n_experts_used = n_experts, need("integer", "expert_used_count") end
  return q
end

---The config.json that a file's metadata amount to.
---@param family massact.Family
---@param c massact.Metadata
---@return table
function M.config(family, c)
  local config, own = {
    architectures = { family.architectures[1] }, model_type = family.model_types and family.model_types[1],
    bos_token_id = c.file:value "tokenizer.ggml.bos_token_id", eos_token_id = c.file:value "tokenizer.ggml.eos_token_id",
  }, family.gguf.keys or {}
  for quantity, value in pairs(quantities(c)) do
    local key = own[quantity]
    if key == nil then key = usual_keys[quantity] end
    if key then config[key] = value
    elseif quantity == "rotary_share" and value ~= 1 then
      error(("%s: key '%srope.dimension_count': family %s turns whole heads"):format(c.where, c.prefix, family.name), 0)
    end
  end
  if family.gguf.config then family.gguf.config(config, c, c.file) end
  -- A file without the key has no window; a config.json says so with a null where its class has one by default.
  if (family.defaults or {}).sliding_window and not config.sliding_window then config.sliding_window = core.json.null end
  return config
end

---The keys of one architecture in a file.
---@return massact.Metadata
function M.metadata(file, where, architecture)
  return setmetatable({ file = file, where = where, prefix = architecture .. "." }, Metadata)
end

---The family of a file, and its config.
---@param file massact.Checkpoint
---@param where string
---@return massact.Family family, table config
function M.describe(file, where)
  local architecture = file:value "general.architecture"
  if type(architecture) ~= "string" then
    error(("%s: key 'general.architecture' is %s"):format(where, architecture == nil and "missing" or "not a string"), 0)
  end
  local c = M.metadata(file, where, architecture)
  local family = families.of_gguf(architecture, where, c)
  return family, M.config(family, c)
end

---gemma's query_pre_attn_scalar: llama.cpp knows it by the size of the model, massact writes it too.
---@param c massact.Metadata
---@param large integer layers of the model whose heads are scaled by d_model / n_heads, not by their width
---@return number
function M.query_scalar(c, large)
  local scale, q = c:maybe("number", "attention.scale"), quantities(c)
  if scale then return shortest(scale ^ -2, function(x) return f32(x ^ -0.5) == f32(scale) end) end
  return q.n_layers == large and q.d_model // q.n_heads or q.d_head
end

---The width of the sliding windows of a spec, which are all of one width; nil: none.
---@param spec table
---@return integer?
function M.window(spec)
  local widest = 0
  for _, window in ipairs(spec.windows or {}) do widest = math.max(widest, window) end
  return widest > 0 and widest or nil
end

---The spec of a file: llama.cpp keeps the norms' weights whole.
---@param family massact.Family
---@param config table
---@return table
function M.spec(family, config)
  local spec = family.spec(config)
  spec.norm_offset = 0
  return spec
end

return M
