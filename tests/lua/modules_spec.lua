-- What a file calls in another module is there: a function that moved is found before a user meets it.
local massact = require "massact"

local function each_file(folder, visit)
  for _, name in ipairs(massact.system.list(folder)) do
    local path = folder .. "/" .. name
    if name:find "%.lua$" then visit(path) elseif not name:find "%." then each_file(path, visit) end
  end
end

-- "path: module.field" for each field that a file uses of a module that it requires and that the module lacks.
local function missing(path, source)
  local code = source:gsub("%-%-[^\n]*", ""):gsub('"[^"\n]*"', function(text) return text:find "^\"massact" and text or '""' end)
  local lacking = {}
  for name, module, rest in code:gmatch 'local ([%w_]+) = require%(?%s*"(massact[%w_.]*)"%)?([^\n]*)' do
    local api = rest == "" and require(module)
    for _, field in code:gmatch("([^%w_.:\"/])" .. name .. "%.([%a_][%w_]*)") do
      if type(api) == "table" and api[field] == nil then lacking[#lacking + 1] = ("%s: %s.%s"):format(path, module, field) end
    end
  end
  return lacking
end

describe("modules", function()
  it("have what other files call", function()
    local seen = 0
    for _, folder in ipairs { "/lua/massact", "/experiments" } do
      each_file(massact.home .. folder, function(path)
        if path:find "/meta/" then return end
        local file <close> = assert(io.open(path))
        seen = seen + 1
        assert.same({}, missing(path, file:read "a"))
      end)
    end
    assert(seen > 80, seen)
  end)

  it("are looked through by a check that finds what is not there", function()
    assert.same({ "x.lua: massact.keyed.sorted" },
      missing("x.lua", 'local keyed = require "massact.keyed"\nfor _, k in ipairs(keyed.sorted(t)) do end -- keyed.gone'))
  end)
end)
