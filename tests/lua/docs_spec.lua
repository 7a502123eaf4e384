-- Every bound method has an entry in lua/massact/meta, and every entry a method; so do the rows of the core's tables.
local massact = require "massact"
local core = require "massact.core"

-- "Tensor:abs" for every function that the meta files declare.
local function declared()
  local names = {}
  local folder = massact.home .. "/lua/massact/meta"
  for _, file in ipairs(massact.system.list(folder)) do
    local handle = assert(io.open(folder .. "/" .. file))
    local text = handle:read "a"
    handle:close()
    for class, method in text:gmatch "\nfunction (%w+)[:%.]([%w_]+)%(" do names[class .. ":" .. method] = true end
  end
  -- What lua/massact adds to models is annotated where it is written.
  local file <close> = assert(io.open(massact.home .. "/lua/massact/model.lua"))
  for method in file:read "a":gmatch "\n%-%-%-[^\n]*\nfunction methods:([%w_]+)" do names["Model:" .. method] = true end
  return names
end

describe("documentation", function()
  local entries = declared()
  local model = massact.load(massact.home .. "/experiments/default/model")
  local objects = { Tensor = massact.tensor(1), Model = model, Point = model:point "embed", Handle = model:point("embed"):hook(print),
    Checkpoint = model.checkpoint, Tokenizer = model.tokenizer, Cache = model:cache(1), TextFile = core.text.open(massact.home .. "/README.md"), Writer = core.checkpoint.write_safetensors(os.tmpname(), {}),
    Process = core.process.start({ "true" }, {}, "/dev/null"), Lock = core.process.lock(os.tmpname()),
    TokenizerTrainer = core.tokenizer.trainer "gpt2", TokenWriter = core.tokens.write(os.tmpname(), model.tokenizer, {}) }
  local token_file = os.tmpname()
  core.tokens.write(token_file, model.tokenizer, {}):commit()
  objects.TokenFile = core.tokens.open(token_file)

  it("has an entry for every method, and a method for every entry", function()
    local bound, missing, extra = {}, {}, {}
    for class, object in pairs(objects) do
      for method in pairs(debug.getmetatable(object).methods) do bound[class .. ":" .. method] = true end
    end
    for name in pairs(massact.system) do bound["system:" .. name] = true end
    for name in pairs(core.process) do bound["process:" .. name] = true end
    for name in pairs(bound) do
      if not entries[name] then missing[#missing + 1] = name end
    end
    for name in pairs(entries) do if not bound[name] then extra[#extra + 1] = name end end
    table.sort(missing)
    table.sort(extra)
    assert.same({}, missing)
    assert.same({}, extra)
  end)

  it("is in the core's tables of points, spec fields and slots", function()
    for _, point in ipairs(core.model.points()) do assert(#point.meaning > 3 and #point.shape > 0, point.name) end
    for _, field in ipairs(core.model.fields()) do assert(#field.doc > 3, field.name) end
    for _, slot in ipairs(core.model.slots()) do assert(#slot.shape > 0, slot.name) end
  end)
end)
