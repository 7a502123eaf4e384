-- massact sweep from outside: plans, bad configs, failing and killed cases, resuming, shards, locks.
package.path = os.getenv "MASSACT_TESTS" .. "/cli/?.lua;" .. package.path
local massact = require "massact"
local core = require "massact.core"
local shell = require "shell"

-- A script of a user's: quick, and as wilful as its options say.
local script = [[
local massact = require "massact"
local opt = massact.options({
  n = { "integer", default = 1 }, square = { "boolean", default = true }, how = { "choice", default = "well", choices = { "well", "badly", "killed" } },
  text = { "texts", default = {} }, save_dir = { "folder", default = "." },
}, "A number, squared.")
local runs = io.open(opt.save_dir .. "/runs.txt", "a")
runs:write "x"
runs:close()
if opt.how == "badly" then error("this went wrong", 0) end
if opt.how == "killed" then os.execute "kill -9 $PPID" end
massact.json.save(opt.save_dir .. "/results.json", { value = opt.square and opt.n ^ 2 or opt.n, nested = { n = opt.n }, timings = { total = os.clock() } })
]]

describe("massact sweep", function()
  local folder
  before_each(function()
    folder = shell.folder()
    shell.spit(folder .. "/square.lua", script)
  end)
  after_each(function() os.execute("rm -r " .. folder) end)

  local function spit(name, text) shell.spit(folder .. "/" .. name, text) end
  local function slurp(name) return shell.slurp(folder .. "/" .. name) end
  local function sweep(words, before) return shell.run(("cd %s && %s %s sweep %s"):format(folder, before or "", shell.bin, words)) end
  local function config(text) spit("c.lua", "return { experiment = 'square.lua', out = 'out', " .. text .. " }") end
  -- How often a case has been run.
  local function n_runs(case) return #slurp("out/cases/" .. case .. "/runs.txt") end

  it("plans every combination, named cases and exclusions, and runs nothing", function()
    config "cross = { n = { 1, 2, 3 }, square = { true, false } }, exclude = { { n = 2, square = false } }"
    local status, out = sweep "c.lua --dry-run"
    assert.equal(0, status)
    assert.matches("5 cases in out", out)
    assert.matches("n=3_square=false +to run +square +%-%-n 3 %-%-square false", out)
    assert.is_nil(out:find("n=2_square=false", 1, true))
    assert.is_false(massact.system.exists(folder .. "/out"))
    config "cases = { { name = 'big', n = 100 }, { name = 'small' } }, cross = { square = { true, false } }"
    local _, plan = sweep "c.lua --dry-run"
    for _, case in ipairs { "big_square=true", "big_square=false", "small_square=true", "small_square=false" } do
      assert(plan:find(case, 1, true), case)
    end
    spit("c.json", [[{"experiment": "square.lua", "out": "out", "cross": {"n": [1, 2]}}]])
    assert.matches("2 cases in out", select(2, sweep "c.json --dry-run"))
    spit("set.lua", "local set = ... return { experiment = 'square.lua', cross = { n = { tonumber(set.n) } } }")
    assert.matches("%-%-n 7\n1 cases in sweeps/set", select(2, sweep "set.lua --dry-run --set n=7"))
  end)

  it("runs cases and gathers what they found", function()
    config "cross = { n = { 1, 2, 3 } }, fixed = { square = true }"
    local status, out, complained = sweep "c.lua --jobs 2"
    assert.same({ 0, "" }, { status, complained })
    assert.matches("^3 of 3 cases done; out/summary.md", out)
    assert.equal("case,state,n,nested.n,value\nn=1,done,1,1,1\nn=2,done,2,2,4\nn=3,done,3,3,9\n", slurp "out/summary.csv")
    assert.matches("| n=3 | done | 3 | 3 | 9 |", slurp "out/summary.md", 1, true)
    local entries = massact.json.load(folder .. "/out/summary.json")
    assert.equal(4, entries[2].results.value)
    assert.equal("2", entries[2].options.n)
    config "cross = { n = { 1, 2, 3 } }, fixed = { square = true }, results = { 'value' }, report = function(cases) return { ['r.txt'] = #cases .. cases[3].results.value } end"
    assert.equal(0, (sweep "c.lua"))
    assert.equal("case,state,n,value\nn=1,done,1,1\nn=2,done,2,4\nn=3,done,3,9\n", slurp "out/summary.csv")
    assert.matches("^39", slurp "out/r.txt")
    assert.equal(1, n_runs "n=1")
  end)

  it("goes on behind failing and killed cases, says so, and runs only these again", function()
    config "cases = { { name = 'a', n = 2 }, { name = 'b', how = 'badly' }, { name = 'c', how = 'killed' }, { name = 'd', n = 3 } }, results = { 'value' }"
    local status, out, complained = sweep "c.lua --jobs 1"
    assert.equal(1, status)
    assert.matches("2 of 4 cases done", out)
    assert.matches("massact: case b: exit status 1: massact: this went wrong %(out/cases/b/log.txt%)\n", complained)
    assert.matches("massact: case c: killed by signal 9 %(Killed%)", complained)
    assert.matches("massact: 2 of 4 cases failed; the same command runs them again\n$", complained)
    assert.equal("case,state,how,n,value\na,done,,2,4\nb,failed,badly,,\nc,failed,killed,,\nd,done,,3,9\n", slurp "out/summary.csv")
    assert.equal("massact: this went wrong\n", slurp "out/cases/b/log.txt")
    sweep "c.lua"
    assert.same({ 1, 2, 2, 1 }, { n_runs "a", n_runs "b", n_runs "c", n_runs "d" })
  end)

  it("runs a finished case again when its options, script or texts change, and only then", function()
    spit("text.txt", "one")
    config "cases = { { name = 'a', n = 2, text = 'text.txt' }, { name = 'b', n = 3 } }"
    sweep "c.lua"
    sweep "c.lua"
    assert.same({ 1, 1 }, { n_runs "a", n_runs "b" })
    os.execute("touch " .. folder .. "/text.txt") -- the same bytes
    sweep "c.lua"
    assert.same({ 1, 1 }, { n_runs "a", n_runs "b" })
    spit("text.txt", "two")
    sweep "c.lua"
    assert.same({ 2, 1 }, { n_runs "a", n_runs "b" })
    config "cases = { { name = 'a', n = 2, text = 'text.txt' }, { name = 'b', n = 4 } }"
    sweep "c.lua"
    assert.same({ 2, 2 }, { n_runs "a", n_runs "b" })
    spit("square.lua", script .. "\n-- changed")
    sweep "c.lua"
    assert.same({ 3, 3 }, { n_runs "a", n_runs "b" })
  end)

  it("runs a case again when its model changes", function()
    os.execute(("cp -r %s/experiments/default/model %s/model"):format(massact.home, folder))
    spit("c.lua", "return { experiment = 'top_activation', out = 'out', fixed = { pretrained = 'model', context_length = 32 } }")
    assert.equal(0, (sweep "c.lua"))
    assert.matches("done", select(2, sweep "c.lua --dry-run"))
    local json = slurp "model/config.json"
    spit("model/config.json", (json:gsub('"rope_theta": [%d.]+', '"rope_theta": 20000.0')))
    assert.matches("to run", select(2, sweep "c.lua --dry-run"))
  end)

  it("splits cases over machines that share the folder", function()
    config "cross = { n = { 1, 2, 3, 4, 5 } }, results = { 'value' }"
    assert.equal(0, (sweep "c.lua --shard 2/2"))
    assert.equal("case,state,n,value\nn=1,waiting,1,\nn=2,done,2,4\nn=3,waiting,3,\nn=4,done,4,16\nn=5,waiting,5,\n", slurp "out/summary.csv")
    assert.equal(0, (sweep "c.lua --shard 1/2"))
    assert.equal("case,state,n,value\nn=1,done,1,1\nn=2,done,2,4\nn=3,done,3,9\nn=4,done,4,16\nn=5,done,5,25\n", slurp "out/summary.csv")
    for n = 1, 5 do assert.equal(1, n_runs("n=" .. n)) end
  end)

  it("never runs a case twice at the same time", function()
    config "cross = { n = { 1, 2, 3, 4, 5, 6 } }"
    local both = ("(cd %s; %s sweep c.lua --jobs 2 >a.txt 2>&1 & %s sweep c.lua --jobs 2 >b.txt 2>&1; wait)"):format(folder, shell.bin, shell.bin)
    assert(os.execute(both))
    for n = 1, 6 do assert.equal(1, n_runs("n=" .. n)) end
    -- A lock that is held keeps the case waiting, one whose holder is gone does not.
    config "cases = { { name = 'z', n = 7 } }"
    massact.system.make_folder(folder .. "/out/cases/z")
    local lock = core.process.lock(folder .. "/out/cases/z/lock")
    assert.equal(137, (sweep("c.lua", "timeout -s KILL 1")))
    assert.is_false(massact.system.exists(folder .. "/out/cases/z/runs.txt"))
    lock:close()
    assert.equal(0, (sweep "c.lua"))
    assert.equal(1, n_runs "z")
  end)

  it("ends its cases with it, on Ctrl-C and when it is killed", function()
    spit("slow.lua", "local massact = require 'massact' massact.options { save_dir = { 'folder' } } local f = io.open('pid', 'w') f:write(require('massact.core').process.id()) f:close() require('massact.core').process.sleep(30)")
    spit("c.lua", "return { experiment = 'slow.lua', out = 'out' }")
    for signal, expected in pairs { INT = 130, KILL = 137 } do
      os.remove(folder .. "/pid")
      local status = sweep("c.lua", ("timeout -s %s 1"):format(signal))
      assert.equal(signal == "INT" and 124 or expected, status)
      local pid = slurp "pid"
      for _ = 1, 100 do
        if not massact.system.exists("/proc/" .. pid) then break end
        core.process.sleep(0.05)
      end
      assert.is_false(massact.system.exists("/proc/" .. pid), signal)
    end
    assert.equal(130, select(1, shell.run(("(cd %s; %s sweep c.lua & pid=$!; sleep 1; kill -INT $pid; wait $pid)"):format(folder, shell.bin))))
  end)

  it("killed ten times at random moments and resumed, ends with the summary of one left alone", function()
    spit("c.lua", [[return { experiment = "existence", out = arg and "out", fixed = { calibration_windows = 2 }, results = nil,
      cross = { context_length = { 32, 40, 48, 56, 64, 72, 80, 88, 96, 104 }, add_bos_token = { true, false }, seed = { 1, 2 } } }]])
    assert.equal(0, (sweep "c.lua --out alone --jobs 2"))
    local random, killed = math.random, 0
    math.randomseed(7)
    for _ = 1, 10 do
      local status = sweep("c.lua --out out --jobs 2", ("timeout -s KILL %.2f"):format(0.05 + 0.35 * random()))
      killed = killed + (status == 137 and 1 or 0)
    end
    assert(killed >= 5, killed .. " were killed")
    local status, _, complained = sweep "c.lua --out out --jobs 2"
    assert.same({ 0, "" }, { status, complained })
    for _, file in ipairs { "summary.csv", "summary.json", "summary.md" } do assert.equal(slurp("alone/" .. file), slurp("out/" .. file)) end
    assert.equal(41, select(2, slurp("out/summary.csv"):gsub("\n", "")))
  end)

  it("runs from a script, too", function()
    spit("mine.lua", [[local massact = require "massact"
      massact.sweep({ experiment = "square.lua", cross = { n = { 2, 3 } }, results = { "value" } }, { out = "out", jobs = 2 })
      massact.sweep({ experiment = "square.lua", cross = { n = { 2, 3, 4 } } }, { out = "out", dry_run = true })
      massact.sweep({ experiment = "square.lua", fixed = { sqare = true } }, { out = "out" }, "mine")]])
    local status, out, complained = shell.run(("cd %s && %s mine.lua"):format(folder, shell.bin))
    assert.same({ 2, "massact: mine: case: unknown option '--sqare'; did you mean '--square'?\n" }, { status, complained })
    assert.matches("^2 of 2 cases done; out/summary.md.*n=2 +done.*n=3 +done.*n=4 +to run.*3 cases in out\n$", out)
    assert.equal("case,state,n,value\nn=2,done,2,4\nn=3,done,3,9\n", slurp "out/summary.csv")
  end)

  it("says in one line what is wrong with a config", function()
    local cases = {
      ["return 3"] = "c.lua: a config is a table; this is a number",
      ["return { experiment = 'square.lua', crss = {} }"] = "c.lua: there is no 'crss' in a config; there are cases, cross,",
      ["return { cross = { n = {} } }"] = "c.lua: cross: 'n' has to be a list of values",
      ["return { fixed = 3 }"] = "c.lua: 'fixed' has to be a table",
      ["return { cases = { 3 } }"] = "c.lua: cases: entry 1 has to be a table of options",
      ["return { fixed = { n = 1 } }"] = "c.lua: no experiment is named",
      ["return { experiment = 'squar' }"] = "there is no script 'squar'",
      ["return { experiment = 'existance' }"] = "there is no script 'existance'; did you mean 'existence'?",
      ["return { experiment = 'square.lua', fixed = { sqare = true } }"] = "c.lua: case: unknown option '--sqare'; did you mean '--square'?",
      ["return { experiment = 'square.lua', fixed = { n = 'x' } }"] = "c.lua: case: --n: 'x' is not a whole number",
      ["return { experiment = 'square.lua', fixed = { how = 'x' } }"] = "c.lua: case: --how is one of well, badly, killed, not 'x'",
      ["return { experiment = 'square.lua', fixed = { save_dir = 'x' } }"] = "c.lua: a sweep sets --save_dir itself",
      ["return { experiment = 'square.lua', cross = { n = { 1 } }, exclude = { { n = 1 } } }"] = "c.lua: it has no case",
    }
    for text, message in pairs(cases) do
      spit("c.lua", text)
      local status, out, complained = sweep "c.lua"
      assert.same({ 2, "" }, { status, out }, text)
      assert.equal("massact: " .. message, complained:sub(1, 9 + #message))
      assert.equal(1, select(2, complained:gsub("\n", "")))
    end
    spit("c.lua", "return {")
    assert.matches("^massact: c.lua:1: .*\n$", select(3, sweep "c.lua"))
    spit("c.json", "{")
    assert.matches("^massact: .*c.json.*\n$", select(3, sweep "c.json"))
    for words, message in pairs { [""] = "sweep wants a config", ["none.lua"] = "there is no config 'none.lua'", ["c.lua --job 2"] = "did you mean '%-%-jobs'",
      ["c.lua --shard 3/2"] = "%-%-shard: '3/2' is not like 1/4", ["c.lua --jobs many"] = "%-%-jobs: 'many'", ["c.lua --set x"] = "%-%-set: 'x'" } do
      local status, _, complained = sweep(words)
      assert.equal(2, status)
      assert.matches(message, complained)
    end
  end)

  it("says in one line that its folder cannot be written, or that the disk is full", function()
    config "cross = { n = { 1, 2 } }"
    spit("out", "a file in the way")
    local status, _, complained = sweep "c.lua"
    assert.equal(1, status)
    assert.matches("^massact: [^\n]*out[^\n]*\n$", complained)
    os.remove(folder .. "/out")
    -- Through a pipe: the limit is for every file, where messages go too.
    local _, told = shell.run(("(cd %s && (ulimit -f 0; exec %s sweep c.lua 2>&1) | cat)"):format(folder, shell.bin))
    assert.matches("^massact: cannot write 'out/[^\n]*: File too large\n$", told)
    assert.equal(0, (sweep "c.lua"))
  end)
end)

describe("massact list and new", function()
  local folder = shell.folder()
  teardown(function() os.execute("rm -r " .. folder) end)

  it("lists every experiment with what it does", function()
    local status, out = shell.massact "list"
    assert.equal(0, status)
    for _, name in ipairs { "existence", "tokens", "intervention", "top_activation", "main", "sweeps/table1" } do
      assert.matches("\n" .. name .. " +%u[^\n]*%.\n", "\n" .. out)
    end
    for _, listed in ipairs(massact.json.parse((select(2, shell.massact "list --json")))) do
      assert.is_true(massact.system.exists(listed.path))
      if not listed.name:match "^sweeps/" then
        local help_status, help = shell.massact(("run %s --help"):format(listed.name))
        assert.equal(0, help_status, listed.name)
        assert(#help > 60, listed.name)
      end
    end
  end)

  it("runs an experiment by its name", function()
    assert.equal(0, (shell.massact("run existence --calibration_windows 1 --save_dir " .. folder)))
    local status, _, complained = shell.massact "run exitsence"
    assert.same({ 2, "massact: there is no script 'exitsence'; did you mean 'existence'?; massact list shows the experiments\n" }, { status, complained })
  end)

  it("writes a script that runs as it is, over nothing that is there", function()
    assert.equal(0, (shell.massact(("new %s/mine"):format(folder))))
    local status, out, complained = shell.run(("cd %s && %s run mine.lua --context_length 64 --windows 2"):format(folder, shell.bin))
    assert.same({ 0, "" }, { status, complained })
    assert.matches("perplexity ", out)
    local base = folder .. "/massactivation_outputs/model/model_layer_model.layers_self_attn_64_True_True_42/"
    assert.equal(4, #massact.json.load(base .. "mine.json").without)
    assert.is_true(massact.system.exists(base .. "mine.png"))
    assert.same({ 1, "massact: '" .. folder .. "/mine.lua' is there already; massact new writes over nothing\n" },
      { (function(s, _, c) return s, c end)(shell.massact(("new %s/mine"):format(folder))) })
    assert.equal(2, (shell.massact "new"))
    assert.equal(2, (shell.massact "new 'a b'"))
  end)
end)
