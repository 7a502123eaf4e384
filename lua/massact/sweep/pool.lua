-- Runs cases in processes of their own, as many at a time as cores and memory allow; whatever happens to one, the others
-- go on.  Closing the pool ends what still runs: first as Ctrl-C does, so that runs keep what they have, then for good.
local core = require "massact.core"
local case_files = require "massact.sweep.case"
local keyed = require "massact.keyed"

local M = {}

local poll_seconds, grace_seconds = 0.05, 5

local Pool = {}
Pool.__index = Pool

---@class massact.PoolOptions
---@field out string
---@field jobs integer cases at a time
---@field threads integer of each
---@field memory? number bytes that a case needs
---@field hash fun(path: string): table?

---@param options massact.PoolOptions
function M.new(options) return setmetatable({ options = options, running = {} }, Pool) end

-- ---- one case ----

local function command_of(case, folder)
  local words = { core.system.executable(), "run", case.script }
  for _, name in ipairs(keyed.keys(case.options)) do
    words[#words + 1] = ("--%s=%s"):format(name, case.options[name])
  end
  if not case.declared or case.declared.save_dir then words[#words + 1] = "--save_dir=" .. folder end
  return words
end

-- Bytes that a case needs at most: its model's files and half a gigabyte.
local function estimate(case)
  local model = case.options.pretrained
  local bytes = 2 ^ 29
  if not model or not core.system.exists(model) then return bytes end
  if not core.system.is_folder(model) then return bytes + core.system.stamp(model) end
  for _, file in ipairs(core.system.list(model)) do
    if file:match "%.safetensors$" then bytes = bytes + core.system.stamp(model .. "/" .. file) end
  end
  return bytes
end

-- Starts a case; false where another sweep holds it, or memory is short.
local function start(self, case)
  local o, folder = self.options, case_files.folder(self.options.out, case)
  if #self.running > 0 and core.system.memory() < (o.memory or estimate(case)) then return false, "waits for memory" end
  core.system.make_folder(folder)
  local lock = core.process.lock(folder .. "/lock")
  if not lock then return false, "runs in another sweep" end
  if case_files.is_fresh(o.out, case, o.hash) then -- another sweep has finished it meanwhile
    lock:close()
    return true
  end
  local made_by = case_files.made_by(case, o.hash)
  core.system.write(folder .. "/log.txt", "")
  local process = core.process.start(command_of(case, folder),
    -- Threads that wait leave the processors to the other cases.
    { "MASSACT_PARENT=" .. core.process.id(), "OMP_NUM_THREADS=" .. o.threads, "OMP_WAIT_POLICY=passive" }, folder .. "/log.txt", lock)
  self.running[#self.running + 1] = { case = case, folder = folder, lock = lock, process = process, made_by = made_by,
    since = core.system.clock() }
  return true
end

-- What became of a process that has ended.
local function finish(self, job, status, signal, signal_name)
  local record = job.made_by
  record.state = status == 0 and "done" or "failed"
  if status == 0 then
    record.results = case_files.results(job.folder)
  elseif signal then
    record.note = ("killed by signal %d (%s)"):format(signal, signal_name)
  else
    record.note = ("exit status %d: %s"):format(status, case_files.last_line(job.folder) or "it says nothing")
  end
  record.note = record.note or ""
  case_files.write(self.options.out, job.case, record)
  job.lock:close()
  return record
end

-- ---- all of them ----

---Runs the cases.  `tell(case, state, note)` hears of each change: "running", "done", "failed", "waiting".
---@param cases massact.SweepCase[]
---@param tell fun(case: massact.SweepCase, state: string, note?: string)
function Pool:run(cases, tell)
  local waiting = table.move(cases, 1, #cases, 1, {})
  while #waiting > 0 or #self.running > 0 do
    local i = 1
    while i <= #waiting and #self.running < self.options.jobs do
      local case = waiting[i]
      local started, why = start(self, case)
      if started then
        table.remove(waiting, i)
        local runs = #self.running > 0 and self.running[#self.running].case == case
        tell(case, runs and "running" or "done")
      else
        tell(case, "waiting", why)
        i = i + 1
      end
    end
    for k = #self.running, 1, -1 do
      local job = self.running[k]
      local status, signal, signal_name = job.process:poll()
      if status or signal then
        table.remove(self.running, k)
        local record = finish(self, job, status, signal, signal_name)
        tell(job.case, record.state, record.note)
      end
    end
    tell()
    core.process.sleep(poll_seconds)
  end
end

-- Ends what still runs.
function Pool:close()
  for _, job in ipairs(self.running) do job.process:interrupt() end
  local until_then = core.system.clock() + grace_seconds
  while #self.running > 0 do
    for k = #self.running, 1, -1 do
      local job = self.running[k]
      if core.system.clock() > until_then then job.process:close() end
      local status, signal = job.process:poll()
      if status or signal then
        job.lock:close()
        table.remove(self.running, k)
      end
    end
    core.process.sleep(poll_seconds)
  end
end

Pool.__close = Pool.close

return M
