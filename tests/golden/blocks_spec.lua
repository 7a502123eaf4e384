-- Every packed type of GGUF widens to what gguf-py reads, with each build of the row loops.
local massact = require "massact"
local bin, path = os.getenv "MASSACT_BIN", os.getenv "MASSACT_TESTS" .. "/golden/blocks.gguf"

describe("packed blocks", function()
  local checkpoint = massact.checkpoint.open(path)

  it("are those of every type that massact reads", function()
    local n = 0
    for _, name in ipairs(checkpoint:names()) do
      local packed = name:match "^(.*)%.expected$"
      if packed then
        local t, expected = checkpoint:tensor(packed), checkpoint:tensor(name)
        assert.equal(packed, t:dtype())
        assert.same({ 2, 512 }, t:shape())
        local e = (t:to { dtype = "f32" } - expected):abs():max():item() / expected:abs():max():item()
        assert(e <= 1e-6, ("%s: relative error %g"):format(packed, e))
        n = n + 1
      end
    end
    assert.equal(10, n)
  end)

  it("widen alike in every build", function()
    local code = ("local c = massact.checkpoint.open[[%s]] for _, n in ipairs(c:names()) do io.write(c:tensor(n):to{dtype=[[f32]]}:norm():item(), [[ ]]) end"):format(path)
    local seen = {}
    for _, isa in ipairs { "baseline", "avx2", "avx512" } do
      local pipe = assert(io.popen(("MASSACT_ISA=%s %s -e '%s'"):format(isa, bin, code)))
      for number in pipe:read "a":gmatch "%S+" do seen[isa] = seen[isa] or {}; table.insert(seen[isa], tonumber(number)) end
      pipe:close()
    end
    for _, isa in ipairs { "avx2", "avx512" } do
      assert.equal(20, #seen[isa])
      for i, value in ipairs(seen.baseline) do assert.near(value, seen[isa][i], 1e-5 * math.abs(value)) end
    end
  end)

  it("cannot be cut or written", function()
    local t = checkpoint:tensor "q4_k"
    assert.is_false(pcall(t.narrow, t, 1, 0, 256))
    assert.is_false(pcall(t.set, t, 0, 0, 1))
    assert.is_false(pcall(t.abs, t))
    assert.same({ 1, 512 }, t:narrow(0, 1, 1):shape())
  end)
end)

describe("row loops", function()
  it("compute their functions as libm does, in every build", function()
    local code = [[
      local xs = {} for i = 0, 4000 do xs[i + 1] = (i - 2000) / 150 end
      local t = massact.tensor(xs)
      local function erf(x) local n, s = 2000, 0 local h = x / n for i = 0, n do s = s + ((i == 0 or i == n) and 0.5 or 1) * math.exp(-(i * h) ^ 2) end return 2 / math.sqrt(math.pi) * h * s end
      local function tanh(x) local e = math.exp(2 * x) return (e - 1) / (e + 1) end
      local f = { exp = math.exp, tanh = tanh, sigmoid = function(x) return 1 / (1 + math.exp(-x)) end,
        silu = function(x) return x / (1 + math.exp(-x)) end, gelu = function(x) return x * (1 + erf(x / math.sqrt(2))) / 2 end,
        gelu_tanh = function(x) return x * (1 + tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ^ 3))) / 2 end }
      for name, reference in pairs(f) do
        local got, worst = t[name](t):totable(), 0
        for i = 1, #xs, 3 do local want = reference(xs[i]) worst = math.max(worst, math.abs(got[i] - want) / (math.abs(want) + 1e-1)) end
        assert(worst < 3e-6, name .. " " .. worst)
      end
      local odd = massact.tensor { 1 / 0, -1 / 0, 0 / 0, 200, -200 }
      local e = odd:exp()
      assert(e:get(0) == 1 / 0 and e:get(1) == 0 and e:get(2) ~= e:get(2) and e:get(3) == 1 / 0 and e:get(4) == 0)
    ]]
    local path_of_code = os.tmpname()
    local file = assert(io.open(path_of_code, "w"))
    file:write(code)
    file:close()
    for _, isa in ipairs { "baseline", "avx2", "avx512" } do
      assert(os.execute(("MASSACT_ISA=%s %s run %s"):format(isa, bin, path_of_code)), isa)
    end
    os.remove(path_of_code)
  end)
end)
