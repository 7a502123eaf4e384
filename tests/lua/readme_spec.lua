-- The Lua in the READMEs runs as it stands there.
package.path = os.getenv "MASSACT_TESTS" .. "/cli/?.lua;" .. package.path
local massact = require "massact"
local shell = require "shell"

-- Code that draws does so in `folder`.
local function drawn_in(folder, code) return (code:gsub('save "([%w_]+%.png)"', function(file) return ("save %q"):format(folder .. "/" .. file) end)) end

local function blocks_of(name)
  local file = assert(io.open(massact.home .. "/" .. name))
  local text = file:read "a"
  file:close()
  local blocks = {}
  for block in text:gmatch "```lua\n(.-)```" do blocks[#blocks + 1] = block end
  return blocks
end

describe("README.md", function()
  it("goes from nothing to an own experiment in ten lines, whose numbers are an ablation's", function()
    local own
    for _, block in ipairs(blocks_of "README.md") do if block:find "ablation" then own = block end end
    assert.equal(10, select(2, own:gsub("\n", "")))
    local folder, environment = shell.folder(), setmetatable({}, { __index = _G })
    assert(load(drawn_in(folder, own:gsub("local whole, heads, effect", "whole, heads, effect"):gsub("local (%w+) = ", "%1 = ")),
      "=README.md", "t", environment))()
    local model, windows = environment.model, environment.windows
    -- The same head, silenced where its values enter the output projection, by a hook.
    local hook <close> = model:point("layers.3.attn.z"):hook(function(z)
      local B, T, _, d = table.unpack(z:shape())
      for b = 0, B - 1 do for t = 0, T - 1 do for i = 0, d - 1 do z:set(b, t, 1, i, 0) end end end
    end)
    assert.near(model:forward(windows, { loss = true }).loss - environment.whole, environment.effect[2], 1e-6)
    assert(environment.effect[1] > 0.1, environment.effect[1])
    assert.same({ "head 0", "head 1", "head 2", "head 3" }, environment.heads)
    os.execute("rm -r " .. folder)
  end)

  it("has examples that run", function()
    local blocks = blocks_of "README.md"
    assert(#blocks >= 3)
    local printed = {}
    local environment = setmetatable({ print = function(...) printed[#printed + 1] = table.concat({ tostring((...)) }) end }, { __index = _G })
    -- The blocks build on each other: one chunk.
    local folder = shell.folder()
    local chunk = assert(load(drawn_in(folder, table.concat(blocks, "\n")), "=README.md", "t", environment))
    chunk()
    assert.equal("\137PNG", shell.slurp(folder .. "/heads.png"):sub(1, 4))
    os.execute("rm -r " .. folder)
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

  it("trains a model", function()
    local folder, block = shell.folder(), nil
    for _, each in ipairs(blocks) do if each:find("massact.train {", 1, true) then block = each end end
    block = block:gsub('"tokens.bin"', ("%q"):format(folder .. "/tokens.bin")):gsub('"run"', ("%q"):format(folder .. "/run"))
    local printed
    assert(load(block, "=lua/README.md", "t", setmetatable({ print = function(...) printed = { ... } end }, { __index = _G })))()
    assert(printed[1] < 4 and printed[2] < 4, table.concat(printed, " "))
    assert.is_true(massact.system.exists(folder .. "/run/step-30/model.safetensors"))
    os.execute("rm -r " .. folder)
  end)

  it("draws a figure in a few lines", function()
    local folder = shell.folder()
    assert(load(drawn_in(folder, blocks[1]), "=lua/README.md", "t"))()
    assert.equal("\137PNG", shell.slurp(folder .. "/magnitude.png"):sub(1, 4))
    os.execute("rm -r " .. folder)
  end)

  it("draws every kind of mark", function()
    local folder = shell.folder()
    local code = blocks[2]:gsub('"kinds.png"', ("%q"):format(folder .. "/kinds.png"))
    assert(load(code, "=lua/README.md", "t"))()
    local picture = massact.plot.read(folder .. "/kinds.png")
    assert(picture.width > 1000 and picture.height > 800)
    for name in pairs(getmetatable(massact.plot.figure {}).__index) do
      assert(name == "save" or name == "vline" or name == "__index" or blocks[1]:find(":" .. name, 1, true) or code:find(":" .. name, 1, true), name)
    end
    os.execute("rm -r " .. folder)
  end)
end)

describe("experiments/README.md", function()
  it("has a sweep that runs as it stands there", function()
    local folder = shell.folder()
    shell.spit(folder .. "/bos.lua", blocks_of("experiments/README.md")[1])
    local status, out, complained = shell.run(("(cd %s && %s sweep bos.lua)"):format(folder, shell.bin))
    assert.same({ 0, "" }, { status, complained })
    assert.matches("3 of 3 cases done", out)
    assert.matches("\nadd_bos_token=true_context_length=128,done,true,128,1,%d", shell.slurp(folder .. "/sweeps/bos/summary.csv"))
    os.execute("rm -r " .. folder)
  end)
end)
