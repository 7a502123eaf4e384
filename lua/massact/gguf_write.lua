-- From a model to what a GGUF file of it holds: metadata, made from the spec, and tensors, made from the slots.  What the
-- metadata say is read back before anything is written: a spec that GGUF cannot express is an error, not another model.
local core = require "massact.core"
local families = require "massact.family"
local gguf = require "massact.gguf"

local M = {}

-- ---- tensors ----

local function is_vector(name) return name:find "norm" ~= nil or name:find "%.bias$" ~= nil end

-- As llama.cpp's converter does, vectors, routers and positions stay f32; so do rows that are no whole blocks, as f16.
local function dtype_of(name, columns, dtype)
  if is_vector(name) or name:find "ffn_gate_inp" or name:find "^position_embd" then return "f32" end
  if (dtype == "q8_0" or dtype == "q4_0") and columns % 32 ~= 0 then return "f16" end
  return dtype
end

-- What fills a slot, as [rows, columns] or [n] in llama.cpp's order of rows, with the norms' weights whole.
local function slot_tensor(model, family, slot, name)
  local t = model.weights[slot]
  if is_vector(name) then
    t = t:float():reshape(-1)
    local offset = model.spec.norm_offset or 0
    if offset ~= 0 and name:find "norm[_2]*%.weight$" then t = t + offset end
  else
    t = t:reshape(-1, t:size(-1))
  end
  local reordered = gguf.reordered(t, family, slot, model.spec)
  return reordered == t and t or reordered:reshape(table.unpack(t:shape()))
end

local function as_plain(t)
  local dtype = t:dtype()
  return (dtype == "f32" or dtype == "f16" or dtype == "bf16") and t or t:float()
end

-- Stacks the slots of an entry, and converts.
local function make(model, family, tensor)
  local parts = {}
  for i, slot in ipairs(tensor.slots) do
    parts[i] = slot_tensor(model, family, slot, tensor.name)
    if #tensor.slots > 1 then parts[i] = as_plain(parts[i]) end
  end
  local whole = #parts > 1 and core.tensor.cat(parts, 0) or parts[1]
  whole = whole:reshape(table.unpack(tensor.shape))
  return whole:dtype() == tensor.dtype and whole or whole:to { dtype = tensor.dtype }
end

-- One layer's tensor of an entry: its slots, with experts spelled out, and its shape.
local function tensor_of(entry, layer, model, dtype)
  local name, slots = entry.name:gsub("%*", layer), {}
  for _, slot in ipairs(entry.slots) do
    slot = slot:gsub("%*", layer)
    if not entry.is_stack then
      slots[#slots + 1] = slot
    else
      for e = 0, model.spec.n_experts - 1 do slots[#slots + 1] = slot:gsub("#", e) end
    end
  end
  local rows, columns = 0, nil
  for _, slot in ipairs(slots) do
    local t = model.weights[slot]
    local count = 1
    for _, size in ipairs(t:shape()) do count = count * size end
    columns = is_vector(name) and 1 or t:size(-1)
    rows = rows + count // columns
  end
  local shape = is_vector(name) and { rows } or { rows, columns }
  if entry.is_stack then shape = { #slots, rows // #slots, columns } end
  return { name = name, slots = slots, shape = shape, dtype = dtype_of(name, columns, dtype) }
end

---The tensors of a model's file, in order: {name, dtype, shape, make = function() -> tensor}.
---@param model massact.Model
---@param family massact.Family
---@param dtype string
---@return table[]
function M.tensors(model, family, dtype)
  local wanted, tensors = {}, {}
  for slot in pairs(model.weights) do
    wanted[slot:gsub("^layers%.%d+%.", "layers.*."):gsub("experts%.%d+%.", "experts.#.")] = true
  end
  if model.is_tied then wanted["head.weight"] = nil end
  local function is_fused(fusion) return family.gguf.fused and family.gguf.fused[fusion.tensor] end
  local entries = gguf.entries(family, model.spec, wanted, is_fused)
  local function add(entry, layer)
    local tensor = tensor_of(entry, layer, model, dtype)
    tensor.make = function() return make(model, family, tensor) end
    tensors[#tensors + 1] = tensor
  end
  for _, entry in ipairs(entries) do if not entry.in_layer then add(entry, 0) end end
  for layer = 0, model.spec.n_layers - 1 do
    for _, entry in ipairs(entries) do if entry.in_layer then add(entry, layer) end end
  end
  local factors = M.rope_factors(model.spec)
  if factors then
    tensors[#tensors + 1] = { name = "rope_freqs.weight", dtype = "f32", shape = { #factors },
      make = function() return core.tensor.tensor(factors, "f32") end }
  end
  return tensors
end

-- ---- metadata ----

-- The rotation of the layers that see everything: the last one.
local function main_rope(spec) return spec.position == "rope" and spec.ropes[#spec.ropes] or nil end

local function scaling_kind(rope) return rope.scaling and (rope.scaling.rope_type or rope.scaling.type) or "none" end

---What llama.cpp divides the frequencies by, where that is not one number for all.
---@param spec table
---@return number[]?
function M.rope_factors(spec)
  local rope = main_rope(spec)
  if not rope or scaling_kind(rope) == "none" or scaling_kind(rope) == "linear" then return nil end
  local factors = {}
  for i, f in ipairs(families.rope(rope.dims, rope.theta).frequencies) do factors[i] = f / rope.frequencies[i] end
  return factors
end

-- The metadata of a spec, as {key, type, value}; `lists_windows`: which layers slide is said too.
local function metadata(family, spec, lists_windows)
  local pairs_, prefix = {}, family.gguf.architecture .. "."
  local function put(key, type, value)
    if value ~= nil then pairs_[#pairs_ + 1] = { prefix .. key, type, value } end
  end
  local function unless(default, value) if value ~= nil and value ~= default then return value end end
  put("context_length", "u32", spec.max_positions)
  put("embedding_length", "u32", spec.d_model)
  put("block_count", "u32", spec.n_layers)
  put("feed_forward_length", "u32", spec.d_ff)
  put("vocab_size", "u32", spec.vocab_size)
  put("attention.head_count", "u32", spec.n_heads)
  put("attention.head_count_kv", "u32", spec.n_kv_heads)
  put("attention.key_length", "u32", spec.d_head)
  put("attention.value_length", "u32", spec.d_head)
  put(spec.norm == "layer" and "attention.layer_norm_epsilon" or "attention.layer_norm_rms_epsilon", "f32", spec.norm_eps)
  put("attention.scale", "f32", unless(0, spec.attn_scale))
  put("attn_logit_softcapping", "f32", unless(0, spec.attn_softcap))
  put("final_logit_softcapping", "f32", unless(0, spec.logit_softcap))
  put("attention.clamp_kqv", "f32", unless(0, spec.qkv_clip))
  put("attention.max_alibi_bias", "f32", spec.position == "alibi" and (spec.alibi_max or 8) or nil)
  put("expert_count", "u32", unless(0, spec.n_experts))
  put("expert_used_count", "u32", unless(0, spec.n_experts_used))
  put("attention.sliding_window", "u32", gguf.window(spec))
  if lists_windows then
    local slides = {}
    for i = 1, spec.n_layers do slides[i] = spec.windows[i] > 0 end
    put("attention.sliding_window_pattern", "bool", slides)
  end
  local rope = main_rope(spec)
  if rope then
    put("rope.dimension_count", "u32", rope.dims)
    put("rope.freq_base", "f32", rope.theta)
    if #spec.ropes > 1 then put("rope.freq_base_swa", "f32", spec.ropes[1].theta) end
    if scaling_kind(rope) == "linear" then
      put("rope.scaling.type", "string", "linear")
      put("rope.scaling.factor", "f32", rope.scaling.factor)
    end
  end
  for _, pair in ipairs(family.gguf.metadata and family.gguf.metadata(spec) or {}) do put(table.unpack(pair)) end
  return pairs_
end

-- ---- reading back ----

-- What gguf.lua reads from a file, from the lists that would make it.
local function imagined(pairs_, tensors)
  local values, by_name = {}, {}
  for _, pair in ipairs(pairs_) do
    -- As the file will hold it.
    local value = pair[3]
    if pair[2] == "f32" then value = string.unpack("<f", string.pack("<f", value)) end
    values[pair[1]] = { value, pair[2] }
  end
  for _, tensor in ipairs(tensors) do by_name[tensor.name] = tensor end
  return {
    value = function(_, key) if values[key] then return table.unpack(values[key]) end end,
    has = function(_, name) return by_name[name] ~= nil end,
    shape = function(_, name) return by_name[name].shape end,
    tensor = function(_, name) return by_name[name].make() end,
  }
end

local function are_near(a, b)
  if type(a) ~= "number" or type(b) ~= "number" then return a == b end
  return math.abs(a - b) <= 1e-6 * math.abs(a)
end

local function are_equal_lists(a, b, n, default)
  for i = 1, n do
    if not are_near(a and a[i] or default, b and b[i] or default) then return false end
  end
  return true
end

-- The first field in which two specs differ, or nil.
local function difference(a, b)
  for _, field in ipairs(core.model.fields()) do
    local x, y = a[field.name], b[field.name]
    if x == nil then x = field.default end
    if y == nil then y = field.default end
    if field.name ~= "norm_offset" and not are_near(x, y) then return field.name, x end
  end
  if not are_equal_lists(a.windows, b.windows, a.n_layers, 0) then return "windows", "(a list)" end
  if not are_equal_lists(a.rope_of_layer, b.rope_of_layer, a.n_layers, 0) then return "rope_of_layer", "(a list)" end
  if #(a.ropes or {}) ~= #(b.ropes or {}) then return "ropes", "(a list)" end
  for i, rope in ipairs(a.ropes or {}) do
    local other = b.ropes[i]
    if #rope.frequencies ~= #other.frequencies or not are_near(rope.scale or 1, other.scale or 1)
      or not are_equal_lists(rope.frequencies, other.frequencies, #rope.frequencies) then
      return "ropes", "(a list)"
    end
  end
end

---The metadata that describe a model, which read back as its spec.
---@param model massact.Model
---@param family massact.Family
---@param tensors table[] of M.tensors
---@return table[] {key, type, value}
function M.metadata(model, family, tensors)
  local rope, field, value = main_rope(model.spec), nil, nil
  if rope and rope.dims % 2 == 1 then
    error(("family %s: %d dims of a head turn, an odd number, which llama.cpp cannot"):format(family.name, rope.dims), 0)
  end
  for _, lists_windows in ipairs { false, true } do
    local found = metadata(family, model.spec, lists_windows)
    local c = gguf.metadata(imagined(found, tensors), "the new file", family.gguf.architecture)
    local spec = gguf.spec(family, (families.recording(gguf.config(family, c), family)))
    field, value = difference(model.spec, spec)
    if not field then return found end
    if not gguf.window(model.spec) then break end
  end
  error(("family %s: GGUF cannot say that %s is %s"):format(family.name, field, tostring(value)), 0)
end

return M
