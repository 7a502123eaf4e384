-- The Lua in the READMEs runs as it stands there.
local massact = require "massact"

local function blocks_of(name)
  local file = assert(io.open(massact.home .. "/" .. name))
  local text = file:read "a"
  file:close()
  local blocks = {}
  for block in text:gmatch "```lua\n(.-)```" do blocks[#blocks + 1] = block end
  return blocks
end

describe("README.md", function()
  it("has examples that run", function()
    local blocks = blocks_of "README.md"
    assert(#blocks >= 3)
    local printed = {}
    local environment = setmetatable({ print = function(...) printed[#printed + 1] = table.concat({ tostring((...)) }) end }, { __index = _G })
    -- The blocks build on each other: one chunk.
    local chunk = assert(load(table.concat(blocks, "\n"), "=README.md", "t", environment))
    chunk()
    assert(#printed >= 4)
    assert.matches("at position 0, dim 9", table.concat(printed, "\n"))
  end)
end)

describe("lua/README.md", function()
  local blocks = blocks_of "lua/README.md"

  it("adds a family that gives what transformers gives", function()
    local folder = os.getenv "MASSACT_TESTS" .. "/golden/stablelm"
    assert.has_error(function() massact.load(folder) end)
    local block
    for _, each in ipairs(blocks) do if each:find("massact.family {", 1, true) then block = each end end
    assert(load(block, "=lua/README.md", "t"))()
    local model, expected = massact.load(folder), massact.safetensors.load(folder .. "/expected.safetensors")
    local out = model:forward(expected.input_ids, { logits = true, loss = true, capture = "layers.0.out" })
    local function near(got, wanted) assert((got - wanted):abs():max():item() <= 1e-5 * wanted:abs():max():item()) end
    near(out.logits[0], expected.logits)
    near(out["layers.0.out"][0], expected.layer0)
    assert.near(expected.loss:get(0), out.loss, 1e-5)
  end)

  it("draws a figure in a few lines", function()
    local path = os.tmpname()
    local block = blocks[1]:gsub('"magnitude.png"', ("%q"):format(path .. ".png"))
    assert(load(block, "=lua/README.md", "t"))()
    assert.is_true(massact.system.exists(path .. ".png"))
    os.remove(path)
    os.remove(path .. ".png")
  end)
end)
