-- massact convert IN OUT: a checkpoint in another form.  Either side is a Hugging Face folder or a .gguf file; what is
-- written is made from the slots that were read, a tensor at a time, so memory stays that of the largest tensor.
local core = require "massact.core"
local families = require "massact.family"
local loading = require "massact.load"
local options = require "massact.options"
local tokenizers = require "massact.gguf_tokenizer"
local writing = require "massact.gguf_write"

local M = {}

local dtypes = { f32 = "float32", f16 = "float16", bf16 = "bfloat16", q8_0 = false, q4_0 = false }

-- llama.cpp's numbers for what most tensors are (general.file_type).
local file_types = { f32 = 0, f16 = 1, q4_0 = 2, q8_0 = 7, bf16 = 32 }

-- The dtype of the embedding, where it is one that both forms have.
local function own_dtype(model)
  local dtype = model.weights["embed.tokens"]:dtype()
  return dtypes[dtype] and dtype or "f32"
end

-- Writes {name, make} one after the other.
local function write_tensors(writer, tensors, label)
  local progress <close> = core.system.progress(label, #tensors)
  for i, tensor in ipairs(tensors) do
    do
      local made <close> = tensor.make()
      writer:add(tensor.name, made)
    end
    -- Intermediate copies of large tensors are not left to the collector's leisure.
    if i % 8 == 0 then collectgarbage() end
    progress:update(i)
  end
  writer:commit()
end

local function announced(tensors)
  local list = {}
  for i, tensor in ipairs(tensors) do list[i] = { tensor.name, tensor.dtype, tensor.shape } end
  return list
end

-- ---- to GGUF ----

local function count_of(tensors, dtype)
  local n = 0
  for _, tensor in ipairs(tensors) do if tensor.dtype == dtype then n = n + 1 end end
  return n
end

local function to_gguf(model, family, path, dtype)
  if not family.gguf then error(("family %s has no GGUF form: llama.cpp has no such architecture"):format(family.name), 0) end
  local tensors = writing.tensors(model, family, dtype)
  local metadata = {
    { "general.architecture", "string", family.gguf.architecture }, { "general.name", "string", model.name },
    { "general.file_type", "u32", file_types[dtype] },
  }
  if not dtypes[dtype] then metadata[#metadata + 1] = { "general.quantization_version", "u32", 2 } end
  table.move(writing.metadata(model, family, tensors), 1, 1000, #metadata + 1, metadata)
  local of_tokenizer, problem = tokenizers.to_gguf(model)
  table.move(of_tokenizer, 1, #of_tokenizer, #metadata + 1, metadata)
  local writer <close> = core.checkpoint.write_gguf(path, metadata, announced(tensors))
  write_tensors(writer, tensors, path)
  local remarks = { problem }
  local n_f16 = count_of(tensors, "f16")
  if not dtypes[dtype] and n_f16 > 0 then
    remarks[#remarks + 1] = ("%d tensors whose rows are not multiples of 32 are f16"):format(n_f16)
  end
  return remarks
end

-- ---- to a Hugging Face folder ----

local function count(t)
  local n = 1
  for _, size in ipairs(t:shape()) do n = n * size end
  return n
end

-- The shape of a checkpoint's tensor: the one of which its views have the slots' sizes.
local function shape_of(parts, model)
  local all, last = 0, nil
  for _, part in ipairs(parts) do
    local t = model.weights[part.slot]
    part.count, last = count(t), t:size(-1)
    part.columns = part.is_vector and part.count or last
    all = all + part.count
  end
  if not parts[1].view then return parts[1].is_vector and { all } or { all // last, last } end
  for _, shape in ipairs(parts[1].is_vector and { { all } } or { { all // last, last }, { last, all // last } }) do
    local whole <close> = core.tensor.full(shape, "f32", "cpu", 0)
    local fits = true
    for _, part in ipairs(parts) do
      local fine, seen = pcall(part.view, whole, part.expert)
      fits = fits and fine and count(seen) == part.count and (part.is_vector or seen:size(-1) == part.columns)
    end
    if fits then return shape end
  end
  error(("the views of tensor '%s' do not tell its shape"):format(parts[1].name), 0)
end

-- What fills a slot, with its norms' weights as `spec` wants them.
local function slot_tensor(model, part, spec)
  local t = model.weights[part.slot]
  local offset = (model.spec.norm_offset or 0) - (spec.norm_offset or 0)
  if offset ~= 0 and part.slot:find "norm" and part.slot:find "%.weight$" then t = t:float() + offset end
  return t
end

-- Fills the checkpoint's tensor through the views that would read it.
local function assemble(model, tensor, spec)
  local first = tensor.parts[1]
  if not first.view then
    return slot_tensor(model, first, spec):reshape(table.unpack(tensor.shape)):to { dtype = tensor.dtype }
  end
  local whole = core.tensor.full(tensor.shape, tensor.dtype, "cpu", 0)
  for _, part in ipairs(tensor.parts) do
    local place = part.view(whole, part.expert)
    place:copy_(slot_tensor(model, part, spec):reshape(table.unpack(place:shape())):to { dtype = tensor.dtype })
  end
  return whole
end

-- The tensors of a family's checkpoint, by name, with the parts that the slots are of each.
local function parts_by_name(model, family, spec, config)
  local names, parts = {}, {}
  for slot, source in pairs(family.weights(spec, config)) do
    for slot_name, name, expert in loading.each_slot(slot, source, spec) do
      if model.weights[slot_name] then
        if not parts[name] then parts[name], names[#names + 1] = {}, name end
        table.insert(parts[name], { slot = slot_name, name = name, pattern = type(source) == "table" and source[1] or source,
          expert = expert, view = type(source) == "table" and source.view,
          is_vector = slot:find "norm" ~= nil or slot:find "%.bias$" ~= nil })
      end
    end
  end
  table.sort(names)
  return names, parts
end

local function hugging_face_tensors(model, family, config, dtype)
  local proxy = families.recording(config, family)
  local spec = family.spec(proxy)
  local names, parts = parts_by_name(model, family, spec, proxy)
  local tensors, shapes = {}, {}
  for i, name in ipairs(names) do
    -- A tied head is written once.
    if not parts[name][1].view then parts[name] = { parts[name][1] } end
    local pattern = parts[name][1].pattern
    shapes[pattern] = shapes[pattern] or shape_of(parts[name], model)
    local tensor = { name = name, dtype = dtype, shape = shapes[pattern], parts = parts[name] }
    tensor.make = function() return assemble(model, tensor, spec) end
    tensors[i] = tensor
  end
  return tensors
end

-- Removes what was made, where the conversion fails.
local function undo(made)
  return setmetatable({}, { __close = function() for i = #made, 1, -1 do os.remove(made[i]) end end })
end

local function to_folder(model, family, folder, dtype)
  if not dtypes[dtype] then
    options.usage_error("convert: a Hugging Face folder holds f32, f16 or bf16, not %s", dtype)
  end
  local made = {}
  local _ <close> = undo(made)
  if not core.system.exists(folder) then
    core.system.make_folder(folder)
    made[1] = folder
  end
  local config = {}
  for key, value in pairs(model.config) do config[key] = value end
  config.torch_dtype, config.dtype = dtypes[dtype], nil
  local tensors = hugging_face_tensors(model, family, config, dtype)
  do
    local writer <close> = core.checkpoint.write_safetensors(folder .. "/model.safetensors", announced(tensors))
    write_tensors(writer, tensors, folder)
  end
  made[#made + 1] = folder .. "/model.safetensors"
  local files, problem = tokenizers.to_folder(model)
  for name, text in pairs(files) do
    core.system.write(folder .. "/" .. name, text)
    made[#made + 1] = folder .. "/" .. name
  end
  core.json.save(folder .. "/config.json", config)
  for i in ipairs(made) do made[i] = nil end
  return { problem }
end

-- ---- the command ----

---Converts a checkpoint.
---@param from string as massact.load takes it
---@param to string a name that ends in .gguf, or a folder
---@param dtype? string "f32", "f16", "bf16"; for GGUF also "q8_0", "q4_0"; default: the embedding's own, or f32
---@return string[] remarks what could not be carried over
function M.convert(from, to, dtype)
  local model = loading.load(from, { device = "cpu" })
  local family = families.registered[model.family]
  local convert = to:find "%.gguf$" and to_gguf or to_folder
  return convert(model, family, to, dtype or own_dtype(model))
end

---massact convert IN OUT [--dtype TYPE]
function M.main(...)
  local paths, dtype, words, i = {}, nil, { ... }, 1
  while i <= #words do
    local word = words[i]
    if word == "--dtype" then
      i = i + 1
      dtype = words[i] or options.usage_error("convert: --dtype wants a value")
    elseif word:match "^%-%-dtype=" then dtype = word:match "=(.*)$"
    elseif word:match "^%-" then options.usage_error("convert: unknown option '%s'", word)
    else paths[#paths + 1] = word end
    i = i + 1
  end
  if #paths ~= 2 then options.usage_error("convert wants two names: what to read, and a .gguf file or a folder to write") end
  if dtype and dtypes[dtype] == nil then
    options.usage_error("convert: no dtype '%s'; there are f32, f16, bf16, q8_0 and q4_0", dtype)
  end
  for _, remark in ipairs(M.convert(paths[1], paths[2], dtype)) do io.stderr:write("massact: ", remark, "\n") end
end

return M
