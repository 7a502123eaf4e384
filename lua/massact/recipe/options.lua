-- Options of the recipes under experiments/mitigations: the size of a model, its data, how it is trained and what is measured.
local options = require "massact.options"

local M = {}

local home = require("massact").home
local default = home .. "/experiments/default/"

-- What a training is: another value of one of these makes another model.
local training = {
  family = { "choice", default = "llama", choices = { "llama", "gpt2" }, help = "of the model" },
  layers = { "integer", default = 6, help = "of the model" },
  width = { "integer", default = 128, help = "of the residual stream" },
  heads = { "integer", default = 4, help = "of attention" },
  head_dim = { "integer", help = "width of one head of a llama; default: --width over --heads" },
  ffn = { "integer", help = "width inside the MLPs; default: 8/3 of the width in a llama, 4 times in a gpt2" },
  context = { "integer", default = 128, help = "tokens a window" },
  vocab_size = { "integer", default = 1024, help = "of the tokenizer that is trained" },
  tie = { "boolean", default = false, help = "a llama's head has the embedding's weights, as gpt2's always has" },
  init = { "list", help = "how linear weights of all variants begin: lir, residual_init or none; default: lir in a llama, residual_init in a gpt2" },
  init_std = { "number", help = "standard deviation of new weights; default: the paper's beside its width, 0.006 x sqrt(2048 / width), 0.02 with dyt; in a gpt2 0.02 x sqrt(768 / width)" },
  tvr_target = { "number", help = "tvr's; default: the paper's beside its width, 0.01 x sqrt(2048 / width), 0.02 with dyt; in a gpt2 sqrt(768 / width)" },
  tvr_every = { "integer", default = 50, help = "steps between two applications of tvr" },
  tokenizer = { "model", help = "folder or tokenizer.json; default: one is trained on the data" },
  data = { "texts", default = { default .. "calibration.txt", default .. "text.txt" }, help = "training texts: files (.txt, .jsonl, also .gz, .zst) or wikitext, c4, pg19, redpajama" },
  evaluation_data = { "texts", help = "texts to evaluate on; default: windows of --data that are held out" },
  held_out = { "number", default = 0.05, help = "share of the windows that training does not see" },
  bos_windows = { "boolean", default = true, help = "every window begins with BOS; false: only documents do" },
  data_dir = { "folder", help = "where the paper's names (wikitext ...) are looked for; default: $MASSACT_DATA, else ./data" },
  field = { "string", default = "text", help = "what holds the text in a line of a .jsonl file" },
  steps = { "integer", default = 600, help = "of the optimiser" },
  batch = { "integer", default = 8, help = "windows a step" },
  rate = { "number", default = 3e-3, help = "learning rate (AdamW)" },
  warmup = { "integer", help = "steps until the rate is reached; default: a twentieth of the steps" },
  final_rate = { "number", default = 0.1, help = "share of the rate at the end of the cosine" },
  weight_decay = { "number", default = 0.1, help = "of matrices" },
  adam_eps = { "number", default = 1e-8, help = "AdamW's: gradients far below it move a weight in proportion to their size, as in SGD" },
  clip = { "number", default = 1, help = "largest norm of all gradients together; 0: any" },
  record_every = { "integer", help = "steps between two records of magnitudes, besides steps 1, 2, 4, 8 ...; default: a twentieth of the steps" },
  record_windows = { "integer", default = 16, help = "held-out windows of which magnitudes and losses are recorded" },
  score_every = { "integer", help = "steps between two scores of --items; default: an eighth of the steps; 0: only at the end" },
  evaluation_windows = { "integer", default = 64, help = "held-out windows to evaluate on; 0: all" },
  calibration_windows = { "integer", default = 10, help = "training windows that the 8-bit scales are calibrated on" },
  items = { "texts", default = { default .. "choices/agreement.jsonl", default .. "choices/endings.jsonl", default .. "choices/last_words.jsonl" },
    help = "downstream sets: JSON lines {context, choices, answer}, {good, bad} or {text}" },
  limit = { "integer", default = 0, help = "items of each set; 0: all" },
}

-- Where and how, which leaves a model as it is.
local running = {
  save_dir = { "folder", default = "./massactivation_outputs", help = "where results go" },
  cache = { "folder", help = "where the trained tokenizer and the token files are kept; default: SAVE_DIR/tokens" },
  checkpoint_every = { "integer", help = "steps between two checkpoints; default: an eighth of the steps" },
  keep = { "integer", default = 1, help = "checkpoints that are kept, the last ones; 0: all" },
  restart = { "boolean", default = false, help = "begin anew where the folder holds a training with other settings" },
  format = { "choice", default = "png", choices = { "png", "svg", "pdf" }, help = "of pictures" },
  redraw = { "string", help = "a folder of results: write its tables and pictures again, without training" },
}

---The options of a recipe; `extra` adds to them, replaces some, or takes some away (false).
---@param extra? table<string, massact.Option|false>
---@return table<string, massact.Option>
function M.declared(extra) return require("massact.keyed").amended(training, running, extra) end

---What makes a model, of all options.
---@param opt table
---@return table
function M.of_training(opt)
  local own = {}
  for name in pairs(training) do own[name] = opt[name] end
  return own
end

---What a sweep of trainings gives each of them: the options that were given, but for a script's own; texts are kept in one place.
---@param opt table
---@param own table<string, any> by name
---@param folder string of the sweep
---@return table<string, any>
function M.fixed(opt, own, folder)
  local fixed = { cache = opt.cache or folder .. "/tokens", restart = true, format = opt.format }
  for name in pairs(opt.given) do if own[name] == nil then fixed[name] = opt[name] end end
  return fixed
end

---Seeds as numbers.
---@param opt table
---@return integer[]
function M.seeds(opt)
  local seeds = {}
  for i, text in ipairs(opt.seeds) do
    seeds[i] = math.tointeger(tonumber(text)) or options.usage_error("--seeds: '%s' is not a whole number", text)
  end
  return seeds
end

-- What has to be at least 1, or at least 0.
local least = {
  [1] = { "layers", "width", "heads", "head_dim", "ffn", "steps", "batch", "tvr_every", "record_every", "record_windows", "calibration_windows" },
  [0] = { "warmup", "score_every", "evaluation_windows", "limit", "checkpoint_every", "keep", "rate", "weight_decay", "adam_eps", "clip", "init_std", "final_rate" },
}

local function check(opt)
  for bound, names in pairs(least) do
    for _, name in ipairs(names) do
      if opt[name] and opt[name] < bound then options.usage_error("--%s must be at least %d, not %s", name, bound, tostring(opt[name])) end
    end
  end
  if opt.vocab_size < 258 then options.usage_error("--vocab_size must be at least 258: 256 bytes, BOS and EOS") end
  if opt.context < 8 then options.usage_error("--context must be at least 8, not %d", opt.context) end
  if opt.width % opt.heads ~= 0 and not opt.head_dim then options.usage_error("--width %d is not a multiple of --heads %d", opt.width, opt.heads) end
  if opt.head_dim and opt.family ~= "llama" then options.usage_error("--head_dim is for --family llama") end
  if opt.family == "llama" and (opt.head_dim or opt.width // opt.heads) % 2 == 1 then
    options.usage_error("a head of %d dims is odd, and a llama turns pairs; --head_dim or --heads sets it", opt.head_dim or opt.width // opt.heads)
  end
  if opt.held_out <= 0 or opt.held_out >= 1 then options.usage_error("--held_out must be between 0 and 1") end
  if opt.tvr_target and opt.tvr_target <= 0 then options.usage_error("--tvr_target must be above 0") end
end

---Checks the options and fills in those whose default depends on others.
---@param opt table
---@return table opt
function M.settled(opt)
  check(opt)
  local llama = opt.family == "llama"
  opt.ffn = opt.ffn or (llama and (opt.width * 8 // 3 + 7) // 8 * 8 or 4 * opt.width)
  opt.init = opt.init or { llama and "lir" or "residual_init" }
  opt.warmup = opt.warmup or opt.steps // 20
  opt.record_every = opt.record_every or math.max(1, opt.steps // 20)
  opt.score_every = opt.score_every or math.max(1, opt.steps // 8)
  opt.checkpoint_every = opt.checkpoint_every or math.max(1, opt.steps // 8)
  return opt
end

return M
