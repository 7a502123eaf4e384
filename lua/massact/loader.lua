-- Batches of token ids from token files (massact.tokens), which are mapped and never read whole.  Windows come in an order that a
-- seed decides, another one each epoch; where a loader is, is one number, so that it resumes exactly.
local core = require "massact.core"
local massact = require "massact"
local permutation = require "massact.permutation"
local settings = require "massact.settings"

local M = {}

---@class massact.LoaderOptions
---@field files string|string[] token files of one tokenizer
---@field context integer tokens a window
---@field batch integer windows a batch
---@field seed? integer of the order (42)
---@field shuffle? boolean (true) false: windows in the files' order
---@field split? "train"|"eval" without the held-out windows, or only them; default: all
---@field held_out? number fraction of the windows that is held out, at least one (0.05); which ones is the same for every seed
---@field targets? boolean windows are [context + 1], so that every one of their first `context` tokens has its next one (false)
---@field bos? boolean every window begins with BOS and has context - 1 tokens of the files (false)
---@field tokenizer? massact.Tokenizer the model's: files made by another are an error
---@field dtype? "i64"|"i32" of the batches ("i64")

local declared = {
  files = { "any", needed = true }, context = { "integer", needed = true, least = 2 }, batch = { "integer", needed = true, least = 1 },
  seed = { "integer", default = 42 }, shuffle = { "boolean", default = true }, split = { "string" },
  held_out = { "number", default = 0.05, least = 0, below = 1 }, targets = { "boolean", default = false }, bos = { "boolean", default = false },
  tokenizer = { "any" }, dtype = { "string", default = "i64" },
}

-- ---- files ----

local function check_file(path, info, first, tokenizer)
  local function refuse(whose, sha256)
    error(("token file '%s' was made by another tokenizer (vocabulary %s...) than %s (%s...): write it again with massact.tokens.write"):format(
      path, info.sha256:sub(1, 12), whose, sha256:sub(1, 12)), 0)
  end
  local sha256 = tokenizer and tokenizer:sha256()
  if tokenizer and sha256 ~= info.sha256 then refuse("the one that is given", sha256) end
  if first and first.info.sha256 ~= info.sha256 then refuse(("'%s'"):format(first.path), first.info.sha256) end
end

-- {path, file, info, first = its first window's number, n = how many}
local function open_files(o)
  local files, n = {}, 0
  for i, path in ipairs(type(o.files) == "table" and o.files or { o.files }) do
    local file = core.tokens.open(path)
    local each = { path = path, file = file, info = file:info(), first = n }
    check_file(path, each.info, files[1], o.tokenizer)
    each.n = math.max(0, (each.info.n_tokens - (o.length - o.stride)) // o.stride)
    n, files[i] = n + each.n, each
  end
  return files, n
end

-- ---- the loader ----

---@class massact.Loader
---@field n_windows integer of its split: an epoch
---@field n_tokens integer in the files
---@field position integer windows that have been taken since the beginning
---@field vocab_size integer
local Loader = {}
Loader.__index = Loader

-- The split's windows: held-out ones are the first of an order that depends on nothing but their number.
local function take_split(o, n)
  if not o.split then return n, function(i) return i end end
  if o.split ~= "train" and o.split ~= "eval" then error(("loader: split is train or eval, not '%s'"):format(o.split), 0) end
  local n_held_out = math.min(n, math.max(1, math.floor(o.held_out * n)))
  local order = permutation.of(math.max(1, n), 0)
  if o.split == "eval" then return n_held_out, order end
  return n - n_held_out, function(i) return order(n_held_out + i) end
end

---@param options massact.LoaderOptions
---@return massact.Loader
function M.loader(options)
  local o = settings.take("loader", options, declared)
  o.length = o.targets and o.context + 1 or o.context
  -- Windows whose first token is BOS or the last one's target share a token, and every token of a file is predicted once.
  o.stride = (o.targets or o.bos) and o.length - 1 or o.length
  local files, n = open_files(o)
  if not files[1] then error("loader: no token files are named", 0) end
  local self = setmetatable({ options = o, files = files, position = 0, vocab_size = files[1].info.vocab_size, n_tokens = 0 }, Loader)
  for _, each in ipairs(files) do self.n_tokens = self.n_tokens + each.info.n_tokens end
  if o.bos then self.bos = files[1].info.bos or o.tokenizer and o.tokenizer.bos or error("loader: bos = true, but neither the files nor a tokenizer have a BOS", 0) end
  self.n_windows, self.window = take_split(o, n)
  if self.n_windows < o.batch then
    error(("loader: %s %d tokens, which are %d windows of %d%s: fewer than one batch of %d"):format(
      #files == 1 and ("'%s' has"):format(files[1].path) or ("%d files have"):format(#files), self.n_tokens, self.n_windows, o.context,
      o.split and (" for split '%s'"):format(o.split) or "", o.batch), 0)
  end
  return self
end

-- The file that holds a window (from 0).
local function file_of(files, window)
  local low, high = 1, #files
  while low < high do
    local middle = (low + high + 1) // 2
    if files[middle].first <= window then low = middle else high = middle - 1 end
  end
  return files[low]
end

-- The windows of these numbers as one tensor: neighbours in the list that lie in one file are read together.
local function gather(self, windows)
  local o, parts = self.options, {}
  local file, starts = nil, {}
  local function read()
    if #starts > 0 then parts[#parts + 1] = file.file:gather(starts, o.length, o.dtype, self.bos) end
    starts = {}
  end
  for _, window in ipairs(windows) do
    local of = file_of(self.files, window)
    if of ~= file then read() end
    file = of
    starts[#starts + 1] = (window - of.first) * o.stride
  end
  read()
  return #parts == 1 and parts[1] or massact.cat(parts, 0)
end

-- The order of an epoch.
local function order_of(self, epoch)
  if not self.options.shuffle then return function(i) return i end end
  if self.ordered ~= epoch then
    self.ordered, self.order = epoch, permutation.of(self.n_windows, permutation.key(self.options.seed, epoch))
  end
  return self.order
end

---The next batch, without end: behind an epoch's last window comes the first of the next epoch.
---@return massact.Tensor ids [batch x context], or [batch x context + 1] with targets
function Loader:next()
  local windows = {}
  for b = 1, self.options.batch do
    local at = self.position + b - 1
    windows[b] = self.window(order_of(self, at // self.n_windows)(at % self.n_windows))
  end
  local ids = gather(self, windows)
  self.position = self.position + self.options.batch
  return ids
end

---Epochs that are behind, with the part of the current one.
---@return number
function Loader:epoch() return self.position / self.n_windows end

---Every window of the split once, in a fixed order, as for an evaluation; the last batch may be smaller.
---@return fun(): massact.Tensor?
function Loader:batches()
  local at = 0
  return function()
    if at >= self.n_windows then return nil end
    local windows = {}
    for i = at, math.min(at + self.options.batch, self.n_windows) - 1 do windows[#windows + 1] = self.window(i) end
    at = at + #windows
    return gather(self, windows)
  end
end

-- What has to be the same for a position to mean the same.
local same = { "seed", "shuffle", "split", "held_out", "context", "targets", "bos" }

---Where the loader is: a small table that JSON can hold.
---@return table
function Loader:state()
  local state = { position = self.position, n_windows = self.n_windows, sha256 = self.files[1].info.sha256 }
  for _, name in ipairs(same) do state[name] = self.options[name] end
  return state
end

---Goes on where the loader that gave `state` was.  Of other data or options it is an error; the batch size may differ.
---@param state table
function Loader:restore(state)
  local now = self:state()
  for _, name in ipairs { "n_windows", "sha256", table.unpack(same) } do
    if state[name] ~= now[name] then
      error(("loader: the state is of other data: its %s is %s, here it is %s"):format(name, tostring(state[name]), tostring(now[name])), 0)
    end
  end
  if math.type(state.position) ~= "integer" or state.position < 0 then
    error(("loader: the state's position is no number of windows: %s"):format(tostring(state.position)), 0)
  end
  self.position = state.position
end

---Closes the files.
function Loader:close()
  for _, each in ipairs(self.files) do each.file:close() end
end
Loader.__close = Loader.close

return M
