-- The command as a user types it: exit codes, one line on stderr, what is printed.
package.path = os.getenv "MASSACT_TESTS" .. "/cli/?.lua;" .. package.path
local massact = require "massact"
local shell = require "shell"
local bin, run, golden = shell.bin, shell.massact, os.getenv "MASSACT_TESTS" .. "/golden/models"

local function script(text)
  local path = os.tmpname()
  shell.spit(path, text)
  return path
end

describe("massact", function()
  it("prints its version and its help", function()
    local code, out = run "--version"
    assert.equal(0, code)
    assert.matches("^massact %d+%.%d+%.%d+\n$", out)
    code, out = run "--help"
    assert.equal(0, code)
    assert.matches("massact run FILE", out)
    for _, command in ipairs { "run", "info", "convert", "list", "new", "sweep", "repl" } do
      local _, own, err = run(command .. " --help")
      assert.matches("^massact " .. command .. " ", own)
      assert.equal("", err)
    end
  end)

  it("runs code, scripts with arguments, and standard input", function()
    assert.same({ 0, "3\n", "" }, { run "-e 'print(1 + 2)'" })
    local path = script "#!/usr/bin/env massact\nprint(arg[0] ~= nil, arg[1], ...)"
    assert.same({ 0, "true\tx\tx\ty\n", "" }, { run("run " .. path .. " x y") })
    assert.same({ 0, "true\tx\tx\ty\n", "" }, { run(path .. " x y") })
    os.remove(path)
    assert.same({ 0, "hi\n", "" }, { run("", "print([[hi]])") })
  end)

  it("fails with status 1 and one line that says where", function()
    local path = script "local x = nil\nprint(x.y)"
    local code, out, err = run("run " .. path)
    assert.equal(1, code)
    assert.equal("", out)
    assert.matches("^massact: .-:2: attempt to index a nil value[^\n]*\n$", err)
    code, _, err = run("--traceback run " .. path)
    assert.equal(1, code)
    assert.matches("stack traceback", err)
    os.remove(path)
    path = script [[
      local model = massact.load(massact.home .. "/experiments/default/model")
      local function look(x) return x.nothing.more end
      model:point "embed":hook(function() look {} end)
      model:forward { 1, 2 }]]
    assert.matches("^massact: embed: .-:2: attempt to index a nil value[^\n]*\n$", select(3, run("run " .. path)))
    _, _, err = run("--traceback run " .. path)
    assert.matches("stack traceback:\n[^\n]*:2: in upvalue 'look'\n[^\n]*:3: in function", err)
    assert.equal(1, select(2, err:gsub("stack traceback", "")))
    os.remove(path)
    code, _, err = run "-e 'x ='"
    assert.equal(1, code)
    assert.matches("^massact: [^\n]*near <eof>\n$", err)
    code, _, err = run "run /no/such/file.lua"
    assert.equal(1, code)
    assert.matches("^massact: there is no script '/no/such/file.lua'\n$", err)
  end)

  it("answers wrong usage with status 2", function()
    for _, words in ipairs { "--nonsense", "run", "nonsense" } do
      local code, _, err = run(words)
      assert.equal(2, code, words)
      assert.matches("^massact: [^\n]*\n$", err)
    end
  end)

  it("stops at Ctrl-C, in Lua and in the middle of a pass", function()
    local endless = "while true do end"
    local pass = "local m = massact.load([[" .. massact.home .. "/experiments/default/model]]) local ids = {} "
      .. "for i = 1, 256 do ids[i] = 1 + i % 200 end while true do m:forward({ids, ids, ids, ids}) end"
    for _, code in ipairs { endless, pass } do
      local err = os.tmpname()
      local _, _, status = os.execute(("timeout --foreground --preserve-status -s INT 1 %s -e '%s' 2>%s"):format(bin, code, err))
      local file = assert(io.open(err))
      assert.equal("massact: interrupted\n", file:read "a")
      file:close()
      os.remove(err)
      assert.equal(130, status)
    end
  end)

  it("names what is wrong with a model", function()
    local code, _, err = run "-e 'massact.load [[/no/such/model]]'"
    assert.equal(1, code)
    assert.matches("there is no model '/no/such/model'", err)
    local folder = os.tmpname()
    os.remove(folder)
    massact.system.make_folder(folder)
    os.execute(("cp %s/gpt2/model.safetensors %s/"):format(golden, folder))
    local config = massact.json.load(golden .. "/gpt2/config.json")
    local function attempt(change, expected)
      local changed = {}
      for key, value in pairs(config) do changed[key] = value end
      change(changed)
      massact.json.save(folder .. "/config.json", changed)
      local status, _, message = run(("-e 'massact.load [[%s]]'"):format(folder))
      assert.equal(1, status)
      assert.matches(expected, message)
    end
    attempt(function(c) c.architectures = { "NoSuchForCausalLM" } end, "unknown architecture 'NoSuchForCausalLM'; massact knows")
    attempt(function(c) c.n_layer = 9 end, "tensor 'h%.%d%.[%w_%.]+' is missing")
    attempt(function(c) c.vocab_size = 17 end, "has shape %[320 x 32%], the config implies %[17 x 32%]")
    attempt(function(c) c.n_layer = 3 end, "is not a weight of family gpt2")
    os.execute("rm -r " .. folder)
  end)
end)
