-- massact sweep CONFIG: many runs of experiments, described by one table; massact.sweep(config, { out = folder }) from a script.
local core = require "massact.core"
local case_files = require "massact.sweep.case"
local configs = require "massact.sweep.config"
local data = require "massact.data"
local keyed = require "massact.keyed"
local options = require "massact.options"
local pools = require "massact.sweep.pool"
local show = require "massact.sweep.show"
local summary = require "massact.sweep.summary"
local tables = require "massact.tables"

local M = {}

local usage = [[
massact sweep CONFIG [--option value ...]: runs the cases of a config in parallel; started again, it goes on where it was.

CONFIG is a Lua file that returns a table, or JSON:
  experiment = "existence"          a script's name or path; a list of them may be in cross
  fixed   = { windows = 8 }         options of every case
  cross   = { dtype = { "f32", "bf16" }, add_bos_token = { true, false } }     every combination is a case
  cases   = { { name = "long", context_length = 512 }, ... }                   named cases, each with every combination
  exclude = { { dtype = "bf16", add_bos_token = false } }                      combinations to leave out
  results = { "first_layer", "perplexity.original.text" }                      columns of the summary; default: all
  report  = function(cases) ... end  Lua: files to write beside, { ["table.md"] = text }, from each case's options and results
  out, threads, memory              folder; threads of a case; GB that a case needs
Paths in it are as from the folder where the command is typed.

Options:
  --dry-run            show the plan, run nothing
  --jobs N             cases at a time (cores / threads)
  --out FOLDER         where cases and summaries go (sweeps/CONFIG)
  --shard I/N          only every N-th case from the I-th on, I from 1; several machines may share the folder
  --set NAME=VALUE     a value for a Lua config, which gets them as its argument
]]

-- ---- the command line ----

local function whole(text, name)
  local n = math.tointeger(tonumber(text))
  if not n or n < 1 then options.usage_error("--%s: '%s' is no number of things", name, text) end
  return n
end

local parse = {}
function parse.jobs(o, text) o.jobs = whole(text, "jobs") end
function parse.out(o, text) o.out = text end
function parse.shard(o, text)
  local i, n = text:match "^(%d+)/(%d+)$"
  o.shard, o.n_shards = math.tointeger(i), math.tointeger(n)
  if not i or o.shard < 1 or o.shard > o.n_shards then options.usage_error("--shard: '%s' is not like 1/4", text) end
end
function parse.set(o, text)
  local name, value = text:match "^([%w_]+)=(.*)$"
  if not name then options.usage_error("--set: '%s' is not like NAME=VALUE", text) end
  o.set[name] = value
end

local function command_line(words)
  local o, i = { set = {} }, 1
  while i <= #words do
    local name, value = words[i]:match "^%-%-([^=]+)=(.*)$"
    name = (name or words[i]:match "^%-%-(.+)$" or ""):gsub("_", "-")
    if words[i] == "-h" then name = "help" end
    if name == "help" or name == "dry-run" then
      o[name] = true
    elseif parse[name] then
      if not value then i, value = i + 1, words[i + 1] end
      parse[name](o, value or options.usage_error("--%s wants a value", name))
    elseif words[i]:match "^%-" then
      local near = options.nearest(name, { "dry-run", "jobs", "out", "shard", "set", "help" })
      options.usage_error("sweep: unknown option '%s'%s", words[i], near and "; did you mean '--" .. near .. "'?" or "")
    elseif o.config then
      options.usage_error("sweep takes one config, not also '%s'", words[i])
    else
      o.config = words[i]
    end
    i = i + 1
  end
  return o
end

-- ---- the plan ----

local function print_plan(cases, out, fresh)
  local rows = {}
  for i, case in ipairs(cases) do
    local words = {}
    for k, name in ipairs(keyed.keys(case.options)) do words[k] = ("--%s %s"):format(name, case.options[name]) end
    rows[i] = { case.name, fresh[case] and "done" or "to run", data.stem(case.script), table.concat(words, " ") }
  end
  io.write(tables.plain({ "case", "state", "experiment", "options" }, rows))
  print(("%d cases in %s"):format(#cases, out))
end

-- ---- running ----

local function run(cases, todo, o)
  local shown <close> = show.new(todo, #cases - #todo)
  local pool <close> = pools.new { out = o.out, jobs = o.jobs, threads = o.threads, memory = o.memory, hash = o.hash }
  pool:run(todo, function(...) shown:tell(...) end)
end

local function report(cases, out)
  local failed = {}
  for _, case in ipairs(cases) do
    local record = case_files.read(out, case)
    if record and record.state == "failed" then failed[#failed + 1] = { case = case, note = record.note } end
  end
  print(("%d of %d cases done; %s/summary.md, .csv and .json"):format(#cases - #failed, #cases, out))
  for _, each in ipairs(failed) do
    io.stderr:write(("massact: case %s: %s (%s/log.txt)\n"):format(each.case.name, each.note, case_files.folder(out, each.case)))
  end
  if #failed > 0 then error(("%d of %d cases failed; the same command runs them again"):format(#failed, #cases), 0) end
end

-- ---- a sweep from a script ----

---@class massact.SweepOptions
---@field out string folder of cases and summaries
---@field jobs? integer cases at a time (cores / threads)
---@field dry_run? boolean show the plan, run nothing
---@field shard? integer with n_shards: only every n-th case from the i-th on, from 1
---@field n_shards? integer

---Runs the cases of a config that are not done, and gathers what all found.  Where cases fail, the others are run and gathered; then it is an
---error.
---@param config massact.SweepConfig
---@param how massact.SweepOptions
---@param where? string what messages call the config
function M.sweep(config, how, where)
  local all, o = configs.cases(config, where or "sweep"), keyed.merged(how)
  local cores = core.system.machine().threads
  o.jobs = o.jobs or math.max(1, cores // (config.threads or 1))
  o.threads = config.threads or math.max(1, cores // o.jobs)
  o.memory, o.hash = config.memory and config.memory * 1e9, case_files.hasher()

  local cases, todo, fresh = {}, {}, {}
  for i, case in ipairs(all) do
    if not o.shard or i % o.n_shards == o.shard % o.n_shards then
      cases[#cases + 1] = case
      fresh[case] = case_files.is_fresh(o.out, case, o.hash)
      if not fresh[case] then todo[#todo + 1] = case end
    end
  end
  if o.dry_run then return print_plan(cases, o.out, fresh) end
  core.system.make_folder(o.out .. "/cases")
  run(cases, todo, o)
  summary.write(o.out, all, config)
  report(cases, o.out)
end

---The command.
function M.main(...)
  local o = command_line { ... }
  if o.help then return io.write(usage) end
  if not o.config then options.usage_error("sweep wants a config; see massact sweep --help") end
  local config = configs.read(o.config, o.set)
  local out = (o.out or config.out or "sweeps/" .. data.stem(o.config)):gsub("(.)/+$", "%1")
  M.sweep(config, { out = out, jobs = o.jobs, dry_run = o["dry-run"], shard = o.shard, n_shards = o.n_shards }, o.config)
end

return M
