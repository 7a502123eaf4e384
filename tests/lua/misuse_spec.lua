-- Scripts that misuse what they hold: errors, never crashes (the sanitizers' builds run this too).
local massact = require "massact"
local home = massact.home .. "/experiments/default/model"

-- A list that calls `f` when somebody looks at it through its metamethods.
local function spying(n, f)
  return setmetatable({}, { __len = function() return n end, __index = function() f() return 1 end })
end

local function fails(pattern, f, ...)
  local fine, message = pcall(f, ...)
  assert.is_false(fine)
  assert.matches(pattern, message)
end

describe("misuse", function()
  it("closes a model while it is in use", function()
    local m = massact.load(home)
    for _, close in ipairs { function() m:close() end, function() getmetatable(m).__gc(m) end } do
      local _ <close> = m:point("layers.0.out"):hook(close)
      fails("cannot be closed during its own pass", m.forward, m, { 1, 2 })
    end
    assert(m:forward({ 1, 2 }, { loss = true }).loss)
    local handle = m:point("layers.*.out"):hook(function() end)
    m:close()
    fails("has been closed", m.forward, m, { 1 })
    handle:remove()
    fails("at least one token", massact.load(home).forward, massact.load(home), spying(3, function() end))
  end)

  it("closes what the arguments are read for, from their metamethods", function()
    local m, tokenizer = massact.load(home), massact.tokenizer.load(home)
    local function close()
      m:close()
      tokenizer:close()
    end
    local options = setmetatable({}, { __index = close })
    pcall(m.forward, m, spying(2, close))
    pcall(m.forward, m, { 1, 2 }, options)
    pcall(tokenizer.decode, tokenizer, spying(1 << 62, close))
    pcall(tokenizer.encode, tokenizer, "x", options)
    local point = m:point "layers.*.out"
    pcall(point.probe, point, spying(2, close))
    pcall(point.patch, point, { positions = spying(2, close), dims = { 1 }, to = 0 })
    pcall(point.patch, point, setmetatable({ positions = { 0 } }, { __index = close }))
    assert(m:forward({ 1, 2 }, { loss = true }).loss)
    assert.equal("x", tokenizer:decode(tokenizer:encode "x"))
  end)

  it("keeps what belongs to a pass, nests passes, yields from them", function()
    local m, kept = massact.load(home), nil
    do
      local _ <close> = m:point("layers.0.out"):hook(function(x) kept = x[0] end)
      m:forward { 1, 2 }
    end
    fails("belongs to a pass that has ended", function() return kept:get(0, 0) end)
    do
      local hooks = {}
      for i = 1, 12 do hooks[i] = m:point("layers.0.out"):hook(function() m:forward { 1, 2 } end) end
      fails("nested more than 8 deep", m.forward, m, { 1, 2 })
      for _, h in ipairs(hooks) do h:remove() end
    end
    local _ <close> = m:point("layers.0.out"):hook(function() coroutine.yield() end)
    fails("attempt to yield", coroutine.wrap(function() m:forward { 1, 2 } end))
  end)

  it("calls every function with nonsense", function()
    local arguments = {
      {}, { 1 }, { {} }, { "x" }, { {}, {}, {}, {} }, { { 1 }, "f32", "cpu", math.huge }, { { 1 << 62 }, "i64", "cpu", 1 }, { "", "", "" },
      { { {} }, { {} } }, { { -1 }, "u8", "cpu", "normal", -1 }, { math.mininteger, math.maxinteger }, { 0 / 0, -1, 1.5 },
    }
    local effects = { write = true, make_folder = true, save = true }
    for part, functions in pairs(require "massact.core") do
      for name, f in pairs(type(functions) == "table" and part ~= "terminal" and functions or {}) do
        if type(f) == "function" and not effects[name] then
          for _, a in ipairs(arguments) do pcall(f, table.unpack(a)) end
        end
      end
    end
    for _, method in pairs(getmetatable(massact.zeros(1)).methods) do
      for _, t in ipairs { massact.zeros(2, 3), massact.zeros(0), massact.tensor(1), massact.zeros({ 2, 2 }, { dtype = "u8" }) } do
        for _, a in ipairs(arguments) do pcall(method, t, table.unpack(a)) end
        pcall(method, t, t, t, t)
      end
    end
  end)
end)
