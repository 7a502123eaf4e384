-- Texts of a recipe as token files, made once for all trainings that share a folder: FOLDER/NAME holds the tokenizer, tokens.bin, and
-- texts.json, which says what they were made of.
local core = require "massact.core"
local data = require "massact.data"
local massact = require "massact"
local options = require "massact.options"

local M = {}

-- ---- what they are made of ----

local function hashes(specs, opt)
  local found = {}
  for _, spec in ipairs(specs or {}) do
    for _, file in ipairs(data.resolve(spec, opt).files) do
      core.text.open(file):close()
      found[file] = core.system.sha256(file)
    end
  end
  return found
end

local function tokenizer_of(opt)
  if not opt.tokenizer then return nil end
  local tokenizer = massact.tokenizer.load(opt.tokenizer)
  if opt.given.vocab_size and opt.vocab_size ~= tokenizer:size() then
    options.usage_error("--tokenizer %s has %d tokens, and --vocab_size says %d; leave --vocab_size out", opt.tokenizer, tokenizer:size(), opt.vocab_size)
  end
  return tokenizer
end

local function names_of(specs)
  local names = {}
  for i, spec in ipairs(specs) do names[i] = data.stem(spec) end
  return table.concat(names, "+")
end

-- ---- making them ----

-- Waits until nobody else makes texts in the folder.
local function locked(folder)
  core.system.make_folder(folder)
  while true do
    local lock = core.process.lock(folder .. "/lock")
    if lock then return lock end
    core.process.sleep(0.1)
  end
end

local function is_made(folder, wanted)
  local path = folder .. "/texts.json"
  return core.system.exists(path) and core.json.text(core.json.load(path)) == core.json.text(core.json.parse(core.json.text(wanted)))
end

local function make(folder, opt, tokenizer, wanted)
  os.remove(folder .. "/texts.json")
  tokenizer = tokenizer or massact.tokenizer.train(opt.data, { vocab_size = opt.vocab_size, field = opt.field, data_dir = opt.data_dir, out = folder })
  local how = { field = opt.field, data_dir = opt.data_dir }
  massact.tokens.write(folder .. "/tokens.bin", tokenizer, opt.data, how)
  if opt.evaluation_data then massact.tokens.write(folder .. "/evaluation.bin", tokenizer, opt.evaluation_data, how) end
  core.json.save(folder .. "/texts.json", wanted)
end

---@class massact.RecipeTexts
---@field tokenizer massact.Tokenizer
---@field path string of the tokenizer
---@field training string token file
---@field evaluation? string another one; nil: windows of the first are held out
---@field sha256 table<string, string> of the texts, by path

---Tokenizer and token files of the options, made where they are not there.
---@param opt table
---@return massact.RecipeTexts
function M.prepare(opt)
  local tokenizer = tokenizer_of(opt)
  local folder = ("%s/%s-%s"):format(opt.cache or opt.save_dir .. "/tokens", names_of(opt.data), tokenizer and "own" or opt.vocab_size)
  local wanted = { data = hashes(opt.data, opt), evaluation_data = hashes(opt.evaluation_data, opt), field = opt.field,
    vocab_size = not tokenizer and opt.vocab_size or nil, tokenizer = tokenizer and tokenizer:sha256() or nil }
  do
    local _ <close> = locked(folder)
    if not is_made(folder, wanted) then make(folder, opt, tokenizer, wanted) end
  end
  local path = tokenizer and opt.tokenizer or folder
  return { tokenizer = tokenizer or massact.tokenizer.load(path), path = path, training = folder .. "/tokens.bin",
    evaluation = opt.evaluation_data and folder .. "/evaluation.bin" or nil, sha256 = require("massact.keyed").merged(wanted.data, wanted.evaluation_data) }
end

-- ---- batches and windows ----

-- A loader; what is too short for one batch is said with what to do.
local function loader(opt, texts, split, batch)
  local is_evaluation = split == "eval"
  local fine, made = pcall(massact.loader, { files = is_evaluation and texts.evaluation or texts.training, context = opt.context, batch = batch,
    split = not texts.evaluation and split or nil, held_out = opt.held_out, bos = opt.bos_windows, seed = opt.seed, tokenizer = texts.tokenizer })
  if fine then return made end
  if tostring(made):find "fewer than one batch" then
    local besides = not is_evaluation and " or a smaller --batch" or texts.evaluation and "" or " or a larger --held_out"
    error(("%s; more text, a smaller --context%s"):format(made, besides), 0)
  end
  error(made, 0)
end

---Batches to train on.
---@return massact.Loader
function M.training(opt, texts) return loader(opt, texts, "train", opt.batch) end

---Batches of what training does not see.
---@return massact.Loader
function M.evaluation(opt, texts)
  return loader(opt, texts, "eval", math.min(opt.batch, loader(opt, texts, "eval", 1).n_windows))
end

---The first windows of a loader, in its fixed order.
---@param batches massact.Loader
---@param limit integer 0: all
---@return integer[][]
function M.windows(batches, limit)
  local windows = {}
  for batch in batches:batches() do
    for _, ids in ipairs(batch:totable()) do
      if limit > 0 and #windows == limit then return windows end
      windows[#windows + 1] = ids
    end
  end
  return windows
end

return M
