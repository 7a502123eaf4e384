-- Tensors from Lua, against what plain loops give.
local massact = require "massact"

describe("a tensor", function()
  it("is made of nested tables and becomes one again", function()
    local data = { { 1, 2, 3 }, { 4, 5, 6 } }
    local t = massact.tensor(data)
    assert.same({ 2, 3 }, t:shape())
    assert.same(data, t:totable())
    assert.equal(6, t:get(1, 2))
    assert.equal(2, #t)
    assert.equal("f32", t:dtype())
    assert.equal(7, massact.tensor(7):item())
    assert.is_false(pcall(massact.tensor, { { 1, 2 }, { 3 } }))
  end)

  it("computes with broadcasting, in every dtype", function()
    local a = massact.tensor { { 1, 2, 3 }, { 4, 5, 6 } }
    assert.same({ { 11, 22, 33 }, { 14, 25, 36 } }, (a + massact.tensor { 10, 20, 30 }):totable())
    assert.same({ { 2, 4, 6 }, { 8, 10, 12 } }, (2 * a):totable())
    assert.same({ { 0, 0, 1 }, { 1, 1, 1 } }, a:gt(2):totable())
    for _, dtype in ipairs { "f16", "bf16", "i32", "i64" } do
      local b = a:to { dtype = dtype }
      assert.equal(dtype, (b + b):dtype())
      assert.same({ { 2, 4, 6 }, { 8, 10, 12 } }, (b + b):totable())
    end
    assert.is_false(pcall(function() return a + massact.tensor { 1, 2 } end))
  end)

  it("reduces", function()
    local a = massact.tensor { { 3, -7, 2 }, { 4, 5, -6 } }
    assert.equal(1, a:sum():item())
    assert.same({ 7, -2, -4 }, a:sum(0):totable())
    assert.same({ { -2 }, { 3 } }, a:sum(1, { keep = true }):totable())
    local values, index = a:max(1)
    assert.same({ 3, 5 }, values:totable())
    assert.same({ 0, 1 }, index:totable())
    assert.equal(2, a:median():item())
    assert.equal(4, massact.tensor({ 1, 2, 3, 4, 5, 6, 7 }):quantile(0.5):item())
    assert.near(math.sqrt(2.5), massact.tensor({ 1, 2, 3, 4, 5 }):std():item(), 1e-6)
    local nan = massact.tensor { 1, 0 / 0, 3 }
    assert(nan:max():item() ~= nan:max():item())
  end)

  it("sorts, selects and multiplies", function()
    local a = massact.tensor { 3, 1, 2 }
    local values, index = a:sort(0, { descending = true })
    assert.same({ 3, 2, 1 }, values:totable())
    assert.same({ 0, 2, 1 }, index:totable())
    local top, where = massact.tensor({ 5, 9, 9, 1 }):topk(2)
    assert.same({ 9, 9 }, top:totable())
    assert.same({ 1, 2 }, where:totable())
    local m = massact.tensor { { 1, 2 }, { 3, 4 } }
    assert.same({ { 7, 10 }, { 15, 22 } }, m:matmul(m):totable())
    assert.near(1, m:softmax():sum(1):get(0), 1e-6)
  end)

  it("has views that share storage", function()
    local a = massact.zeros(2, 3)
    a:t():set(2, 1, 5)
    assert.equal(5, a:get(1, 2))
    a[0]:fill_(1)
    assert.same({ { 1, 1, 1 }, { 0, 0, 5 } }, a:totable())
    assert.same({ 3, 2 }, a:reshape(3, -1):shape())
    assert.is_false(pcall(a.reshape, a, 4, -1))
    assert.is_false(pcall(a.get, a, 2, 0))
  end)

  it("is equal by value, prints for a person, and names its errors", function()
    local a = massact.tensor { 1, 2 }
    assert.is_true(a == massact.tensor { 1, 2 })
    assert.is_false(a == massact.tensor { 1, 3 })
    local text = tostring(massact.zeros(100, 100))
    assert.matches("^f32 %[100 x 100%] " .. (os.getenv "MASSACT_DEVICE" or "cpu"), text)
    for line in text:gmatch "[^\n]+" do assert(#line <= 80) end
    local _, message = pcall(a.get, a, 9)
    assert.matches("index 9 of dim 0 is outside %[2%]", message)
  end)

  it("draws the same numbers from the same seed", function()
    local a, b = massact.randn(1000, { seed = 3 }), massact.randn(1000, { seed = 3 })
    assert.is_true(a == b)
    assert.is_false(a == massact.randn(1000, { seed = 4 }))
    assert.near(0, a:mean():item(), 0.15)
    assert.near(1, a:std():item(), 0.15)
  end)

  it("does not pile up memory that the collector cannot see", function()
    local before = massact.system.peak_memory()
    for _ = 1, 400 do local _ = massact.zeros(1024, 1024) end
    assert(massact.system.peak_memory() - before < 400 * 2 ^ 20)
  end)
end)

describe("safetensors", function()
  it("gives back what was saved", function()
    local path = os.tmpname()
    local saved = { a = massact.tensor { { 1, 2 }, { 3, 4 } }, b = massact.tensor({ 5 }, "i64"), c = massact.tensor({ 0.5 }, "bf16") }
    massact.safetensors.save(path .. ".safetensors", saved, { made = "here" })
    local loaded = massact.safetensors.load(path .. ".safetensors")
    for name, t in pairs(saved) do assert.is_true(loaded[name] == t, name) end
    os.remove(path)
    os.remove(path .. ".safetensors")
  end)
end)
