-- The Lua in the README runs as it stands there.
local massact = require "massact"

describe("README.md", function()
  it("has examples that run", function()
    local file = io.open(massact.home .. "/README.md")
    if not file then return pending "README.md is not installed" end
    local text = file:read "a"
    file:close()
    local blocks = {}
    for block in text:gmatch "```lua\n(.-)```" do blocks[#blocks + 1] = block end
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
