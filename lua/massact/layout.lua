-- The tensors of a family's checkpoint: their names and shapes, and which slots of the decoder are parts of each.
local core = require "massact.core"
local loading = require "massact.load"

local M = {}

---@class massact.Part a slot of the decoder in a checkpoint's tensor
---@field slot string "layers.3.attn.q.weight"
---@field shape integer[] the slot's
---@field is_vector boolean
---@field view? fun(t: massact.Tensor, expert?: integer): massact.Tensor where in the tensor; nil: the whole
---@field expert? integer

---@class massact.CheckpointTensor
---@field name string
---@field pattern string the name with * for the layer
---@field shape integer[]
---@field parts massact.Part[]

-- ---- shapes of slots ----

-- The letters of core/model/slots.def.
local function sizes_of(spec)
  local heads = spec.n_heads * spec.d_head
  return {
    V = spec.vocab_size, E = (spec.d_embed or 0) > 0 and spec.d_embed or spec.d_model, D = spec.d_model, Q = heads,
    K = spec.n_kv_heads * spec.d_head, d = spec.d_head, H = spec.n_heads, F = spec.d_ff, X = spec.n_experts,
    P = spec.max_positions + (spec.position_offset or 0), ["1"] = 1,
  }
end

local function width_of_qk_norm(slot, spec)
  if spec.qk_norm ~= "row" then return spec.d_head end
  return spec.d_head * (slot:find "k_norm" and spec.n_kv_heads or spec.n_heads)
end

local letters_of -- a row's name in core/model/slots.def -> letters

-- "layers.3.attn.proj.bias" -> "attn.proj.bias", "layers.3.mlp.experts.1.up.weight" -> "up.weight"
local function row_of(slot) return (slot:gsub("^layers%.%d+%.", ""):gsub("^mlp%.experts%.%d+%.", "")) end

---The shape that a spec gives a slot.
---@param slot string
---@param spec table
---@return integer[]
function M.slot_shape(slot, spec)
  if not letters_of then
    letters_of = {}
    for _, row in ipairs(core.model.slots()) do letters_of[row.name] = row.shape end
  end
  local letters = letters_of[row_of(slot)] or error("there is no slot '" .. slot .. "'", 2)
  local shape, sizes = {}, sizes_of(spec)
  for letter in letters:gmatch "%S+" do
    shape[#shape + 1] = letter == "N" and width_of_qk_norm(slot, spec) or sizes[letter]
  end
  return shape
end

-- ---- tensors ----

local function product(shape)
  local n = 1
  for _, size in ipairs(shape) do n = n * size end
  return n
end

-- Shapes that a tensor with these parts may have: a matrix as its slots have it, or transposed; extra keys and values of heads
-- as [1, H, 1, d].
local function candidates(parts)
  local all = 0
  for _, part in ipairs(parts) do all = all + product(part.shape) end
  local first = parts[1]
  if first.is_vector then return { { all } } end
  local columns = first.shape[#first.shape]
  if not first.view then return { { all // columns, columns } } end
  if first.slot:find "extra_" then return { { 1, first.shape[1], 1, columns } } end
  return { { all // columns, columns }, { columns, all // columns } }
end

-- Whether each part's view of a tensor has the slot's size.
local function fits(shape, parts)
  local whole <close> = core.tensor.full(shape, "f32", "cpu", 0)
  for _, part in ipairs(parts) do
    local fine, seen = pcall(part.view, whole, part.expert)
    if not fine or product(seen:shape()) ~= product(part.shape) then return false end
    if not part.is_vector and seen:size(-1) ~= part.shape[#part.shape] then return false end
  end
  return true
end

local function shape_of(name, parts)
  local shapes = candidates(parts)
  if not parts[1].view then return shapes[1] end
  for _, shape in ipairs(shapes) do if fits(shape, parts) then return shape end end
  error(("the views of tensor '%s' do not tell its shape"):format(name), 0)
end

-- The parts of each tensor, by name.
local function parts_by_name(family, spec, config, has)
  local names, parts, patterns = {}, {}, {}
  for slot, source in pairs(family.weights(spec, config)) do
    for slot_name, name, expert in loading.each_slot(slot, source, spec) do
      if not has or has(slot_name) then
        if not parts[name] then parts[name], names[#names + 1] = {}, name end
        patterns[name] = type(source) == "table" and source[1] or source
        local shape = M.slot_shape(slot_name, spec)
        table.insert(parts[name], { slot = slot_name, expert = expert, view = type(source) == "table" and source.view or nil,
          shape = shape, is_vector = #shape == 1 })
      end
    end
  end
  table.sort(names)
  return names, parts, patterns
end

---The tensors of a checkpoint, by name.
---@param family massact.Family
---@param spec table
---@param config table as the family reads it
---@param has? fun(slot: string): boolean slots to leave out
---@return massact.CheckpointTensor[]
function M.tensors(family, spec, config, has)
  local names, parts, patterns = parts_by_name(family, spec, config, has)
  local tensors, shapes = {}, {}
  for i, name in ipairs(names) do
    table.sort(parts[name], function(a, b) return a.slot < b.slot end)
    -- A tied head is the embedding; the one that is the whole tensor says it all.
    if not parts[name][1].view then parts[name] = { parts[name][1] } end
    local pattern = patterns[name]
    shapes[pattern] = shapes[pattern] or shape_of(name, parts[name])
    tensors[i] = { name = name, pattern = pattern, shape = shapes[pattern], parts = parts[name] }
  end
  return tensors
end

---The tensors of a model's Hugging Face checkpoint, by the names that they have there.
---@param model massact.Model
---@return massact.CheckpointTensor[]
function M.of(model)
  local families, mitigations = require "massact.family", require "massact.mitigation"
  local family = mitigations.applied(families.registered[model.family], model.config)
  local full_name = loading.naming(model.checkpoint, family)
  local tensors = M.tensors(family, model.spec, families.recording(model.config, family), function(slot) return model.weights[slot] ~= nil end)
  for _, tensor in ipairs(tensors) do tensor.name = full_name(tensor.name) end
  return tensors
end

return M
