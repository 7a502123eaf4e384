-- How a sweep goes, for whoever watches: on a terminal one table, drawn again in place, with an estimate; else nothing.
local core = require "massact.core"

local M = {}

local Show = {}
Show.__index = Show

local most_rows, redraw_seconds = 12, 0.2

---@param cases massact.SweepCase[]
---@param n_fresh integer cases that are not run again
function M.new(cases, n_fresh)
  return setmetatable({ cases = cases, state = {}, note = {}, since = {}, began = core.system.clock(), n_fresh = n_fresh, done = 0, failed = 0,
    drawn = 0, is_terminal = core.system.is_terminal(2), last = 0 }, Show)
end

local function duration(seconds)
  seconds = math.floor(seconds)
  if seconds < 60 then return seconds .. " s" end
  return seconds < 3600 and ("%d:%02d"):format(seconds // 60, seconds % 60) or ("%d:%02d:%02d"):format(seconds // 3600, seconds // 60 % 60, seconds % 60)
end

local function lines_of(self)
  local now, lines, rest = core.system.clock(), {}, 0
  for _, case in ipairs(self.cases) do
    local state = self.state[case]
    if state == "running" or state == "failed" then
      if #lines < most_rows then
        lines[#lines + 1] = ("  %-10s %8s  %s  %s"):format(state, state == "running" and duration(now - self.since[case]) or "", case.name,
          self.note[case] or "")
      else
        rest = rest + 1
      end
    end
  end
  if rest > 0 then lines[#lines + 1] = ("  and %d more"):format(rest) end
  local ended, all = self.done + self.failed, #self.cases
  local left = ended > 0 and ended < all and (now - self.began) / ended * (all - ended)
  lines[#lines + 1] = ("%d of %d cases done%s%s%s"):format(self.done, all, self.failed > 0 and (", %d failed"):format(self.failed) or "",
    self.n_fresh > 0 and (", %d were before"):format(self.n_fresh) or "", left and ", about " .. duration(left) .. " left" or "")
  return lines
end

local function clear(self)
  if self.drawn > 0 then io.stderr:write(("\27[%dA\27[J"):format(self.drawn)) end
  self.drawn = 0
end

local function draw(self)
  local lines = lines_of(self)
  clear(self)
  for _, line in ipairs(lines) do io.stderr:write(line:sub(1, 118), "\n") end
  self.drawn = #lines
end

---A case has changed; without one, time has passed.
function Show:tell(case, state, note)
  if case and self.state[case] ~= state then
    self.state[case], self.note[case] = state, note
    if state == "running" then self.since[case] = core.system.clock() end
    if state == "done" then self.done = self.done + 1 end
    if state == "failed" then self.failed = self.failed + 1 end
  end
  local now = core.system.clock()
  if not self.is_terminal or now - self.last < redraw_seconds then return end
  self.last = now
  draw(self)
end

---The table goes away.
function Show:close() if self.is_terminal then clear(self) end end

Show.__close = Show.close

return M
