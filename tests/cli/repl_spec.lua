-- The prompt, fed from a pipe: expressions print, statements may span lines, errors leave it usable.
local bin = os.getenv "MASSACT_BIN"
local repl = require "massact.repl"

local function typed(text)
  local path = os.tmpname()
  local file = assert(io.open(path, "w"))
  file:write(text)
  file:close()
  local pipe = assert(io.popen(("XDG_STATE_HOME=%s.state %s repl <%s 2>&1"):format(path, bin, path)))
  local out = pipe:read "a"
  pipe:close()
  os.execute(("rm -r %s %s.state"):format(path, path))
  return out
end

describe("the prompt", function()
  it("prints expressions and goes on over lines and errors", function()
    local out = typed 'x = {\n1,\n2}\nx\nerror "no"\n6 * 7\nmassact.tensor { 1 }\n'
    assert.matches("{1, 2}", out, 1, true)
    assert.matches("massact: stdin:1: no", out, 1, true)
    assert.matches("> 42\n", out, 1, true)
    assert.matches("f32 [1] cpu", out, 1, true)
  end)

  it("completes globals, fields, methods and points", function()
    local massact = require "massact"
    _G.model_here = massact.load(massact.home .. "/experiments/default/model")
    local function candidates(text)
      local _, list = repl.complete(text)
      return list
    end
    assert.same({ "tostring" }, candidates "print(tostr")
    assert.same({ "safetensors" }, (function() _G.massact = massact return candidates "massact.safe" end)())
    assert.same({ "forward" }, candidates "model_here:forw")
    assert.same({ "layers.1.attn.probs", "layers.1.attn.proj" }, candidates 'model_here:point "layers.1.attn.pro')
    _G.model_here = nil
  end)
end)
