-- Training from outside: it learns, goes on bit for bit where it was, keeps whole checkpoints, and says what went wrong.
package.path = os.getenv "MASSACT_TESTS" .. "/cli/?.lua;" .. package.path
local massact = require "massact"
local shell = require "shell"
local optimizers = require "massact.train.optimizer"
local schedules = require "massact.train.schedule"

local config = { architectures = { "LlamaForCausalLM" }, hidden_size = 32, num_hidden_layers = 2, num_attention_heads = 4, num_key_value_heads = 2,
  intermediate_size = 48, vocab_size = 50, max_position_embeddings = 32, rms_norm_eps = 1e-5, tie_word_embeddings = false }

-- Five batches of counting, again and again.
local function counting()
  local self = { n = 0 }
  local function batch(k)
    local rows = {}
    for b = 1, 2 do
      rows[b] = {}
      for t = 1, 16 do rows[b][t] = (k * 7 + b * 3 + t * (b + 1)) % 50 end
    end
    return massact.tensor(rows, "i64")
  end
  function self.next()
    self.n = self.n + 1
    return batch(self.n % 5)
  end
  function self.state() return { n = self.n } end
  function self.restore(_, state) self.n = state.n end
  function self.batches()
    local k = 0
    return function()
      k = k + 1
      if k <= 3 then return batch(k) end
    end
  end
  return self
end

local function lines_of(folder)
  local lines = {}
  for line in shell.slurp(folder .. "/log.jsonl"):gmatch "[^\n]+" do
    local record = massact.json.parse(line)
    record.tokens_per_second = nil
    lines[#lines + 1] = massact.json.text(record)
  end
  return lines
end

describe("massact.train", function()
  local folder
  before_each(function() folder = shell.folder() end)
  after_each(function() os.execute("rm -r " .. folder) end)

  local function train(options, name)
    local all = { model = massact.create(config), loader = counting(), steps = 12, folder = folder .. "/" .. (name or "run"),
      optimizer = { rate = 3e-3, clip = 1 }, schedule = { warmup = 3 }, checkpoint_every = 4 }
    for key, value in pairs(options or {}) do all[key] = value end
    return massact.train(all), all
  end

  it("learns, and logs how", function()
    local trainer = train({ steps = 60, evaluation = counting(), evaluate_every = 20, checkpoint_every = 30 })
    assert(trainer.loss < 2.6 and trainer.evaluation_loss < 2.6, trainer.loss)
    assert.equal(60 * 2 * 15, trainer.tokens)
    local first, last = massact.json.parse(lines_of(folder .. "/run")[1]), massact.json.parse(lines_of(folder .. "/run")[60])
    assert.near(math.log(50), first.loss, 0.2)
    assert.near(3e-3 / 3, first.rate, 1e-9)
    assert.near(0.1 * 3e-3, last.rate, 1e-9)
    assert.near(trainer.evaluation_loss, last.evaluation_loss, 1e-9)
    assert.equal(61, select(2, shell.slurp(folder .. "/run/log.csv"):gsub("\n", "")))
    assert.equal("\137PNG", shell.slurp(folder .. "/run/loss.png"):sub(1, 4))
    -- Two checkpoints are kept; each is a Hugging Face folder.
    assert.is_true(massact.system.exists(folder .. "/run/step-30"))
    local again = massact.load(folder .. "/run/step-60")
    assert.is_true(again:param "lm_head.weight" == trainer.model:param "lm_head.weight":detach())
  end)

  it("takes plain steps of AdamW", function()
    local _, options = train({ steps = 1, optimizer = { rate = 0.01, eps = 1e-6, weight_decay = 0.3 }, schedule = { kind = "constant" } })
    local plain = massact.create(config)
    plain:loss(counting():next()):backward()
    for _, name in ipairs { "model.layers.0.mlp.up_proj.weight", "model.norm.weight", "model.embed_tokens.weight" } do
      local w, g = plain:param(name):detach(), plain:param(name).grad
      local decay = name:find "norm" and 0 or 0.3
      -- The first step is the gradient's sign, softened by eps.
      local want = w * (1 - 0.01 * decay) - (g / (g:abs() + 1e-6)) * 0.01
      assert((options.model:param(name):detach() - want):abs():max():item() < 2e-6, name)
    end
  end)

  it("goes on where it was, bit for bit, also after being killed", function()
    local whole = train(nil, "whole")
    -- Stopped by an error in step 7: the checkpoint of step 4 is the last whole one.
    local fine, problem = pcall(train, { callbacks = { before_step = function(t) if t.step == 6 then error("stop here", 0) end end } })
    assert.same({ false, "stop here" }, { fine, problem })
    -- A checkpoint that was being written does not count.
    massact.system.make_folder(folder .. "/run/step-8.unfinished")
    massact.system.make_folder(folder .. "/run/step-9")
    local resumed = train()
    assert.equal(12, resumed.step)
    assert.same(lines_of(folder .. "/whole"), lines_of(folder .. "/run"))
    for name, tensor in whole.model:params() do assert.is_true(tensor:detach() == resumed.model:param(name):detach(), name) end
    -- A finished run is not run again.
    local steps = 0
    train({ callbacks = { after_step = function() steps = steps + 1 end } })
    assert.equal(0, steps)
  end)

  it("adds up the gradients of several batches", function()
    local one = massact.create(config)
    local loader = counting()
    local first, second = loader:next(), loader:next()
    local both = massact.cat({ first, second }, 0)
    one:loss(both):backward()
    local norm
    train({ steps = 1, accumulate = 2, callbacks = { after_step = function(t) norm = t.gradient_norm end } })
    assert.near(optimizers.new(one):gradient_norm(), norm, 1e-5 * norm)
  end)

  it("calls back at its moments, mitigations' own too", function()
    local seen = {}
    local function note(name) return function(t) seen[#seen + 1] = name .. t.step end end
    local callbacks = {}
    for _, name in ipairs { "before_step", "after_step", "after_evaluation", "after_checkpoint", "at_end" } do callbacks[name] = note(name .. " ") end
    local model = massact.create(config, { std = 0.1, mitigations = { tvr = { every = 2, target = 0.05 } } })
    train({ model = model, steps = 2, evaluation = counting(), evaluate_every = 2, checkpoint_every = 2, callbacks = callbacks, optimizer = { rate = 1e-5 } })
    assert.same({ "before_step 0", "after_step 1", "before_step 1", "after_step 2", "after_evaluation 2", "after_checkpoint 2", "at_end 2" }, seen)
    assert.near(0.05, model:param("model.layers.0.mlp.up_proj.weight"):detach():std():item(), 1e-5)
    assert.near(0.1, model:param("lm_head.weight"):detach():std():item(), 0.01)
  end)

  it("trains 16-bit weights over master copies, which follow what a callback writes", function()
    massact.create(config, { std = 0.1, mitigations = { tvr = { every = 2, target = 0.05 } } }):save(folder .. "/m")
    local short = {}
    for name, tensor in pairs(massact.safetensors.load(folder .. "/m/model.safetensors")) do short[name] = tensor:to { dtype = "bf16" } end
    massact.safetensors.save(folder .. "/m/model.safetensors", short)
    local function deviation(model) return model:param("model.layers.0.mlp.up_proj.weight"):detach():float():std():item() end
    local function trained(steps) return train({ model = massact.load(folder .. "/m"), steps = steps, optimizer = { rate = 1e-5, weight_decay = 0 },
      schedule = { kind = "constant" } }, "run" .. steps) end
    local model = trained(3).model -- rescaled after step 2, one step after that
    assert.equal("bf16", model:param("lm_head.weight"):dtype())
    assert.near(0.05, deviation(model), 2e-4)
    assert.near(0.1, deviation(massact.load(folder .. "/m")), 5e-3)
    -- A rate far below bf16's resolution adds up in the masters alone.
    local state = massact.safetensors.load(folder .. "/run3/step-3/optimizer.safetensors")
    local master, param = state["master.lm_head.weight"], model:param("lm_head.weight"):detach()
    assert.is_false(master == param:float())
    assert.is_true(master:to { dtype = "bf16" } == param)
  end)

  it("trains by SGD with momentum, and leaves frozen parameters alone", function()
    local model = massact.create(config)
    local before = model:param("model.embed_tokens.weight"):detach():clone()
    local trainer = train({ model = model, steps = 30, schedule = { kind = "constant" }, optimizer = { kind = "sgd", rate = 0.3, momentum = 0.9,
      weight_decay = 0, clip = 1, groups = function(name) return { frozen = name:find "embed" ~= nil } end } })
    assert(trainer.loss < 3.6, trainer.loss)
    assert.is_true(before == model:param("model.embed_tokens.weight"):detach())
  end)

  it("stops when the loss is not finite, names the step and the place, and keeps the checkpoint", function()
    local callbacks = { after_step = function(t)
      if t.step == 5 then
        massact.no_grad(function() t.model:param("model.layers.1.mlp.down_proj.weight"):set(0, 0, 0 / 0) end)
      end
    end }
    local fine, problem = pcall(train, { callbacks = callbacks })
    assert.is_false(fine)
    assert.matches("^step 6: the loss is not finite, from 'layers%.1%.mlp%.proj' on; the checkpoint of step 4 is kept; a lower learning rate", problem)
    assert.is_true(massact.system.exists(folder .. "/run/step-4/trainer.json"))
  end)

  it("refuses a checkpoint of another model", function()
    train({ steps = 4 })
    local other = {}
    for key, value in pairs(config) do other[key] = value end
    other.intermediate_size = 64
    local fine, problem = pcall(train, { model = massact.create(other) })
    assert.is_false(fine)
    assert.matches("step%-4' holds 'model%.layers%.0%.mlp%.[a-z_]+%.weight' as %[[%d x]+%], the model has it as %[[%d x]+%]", problem)
  end)

  it("keeps the last whole checkpoint when the disk is full", function()
    train({ steps = 4 })
    local script = folder .. "/go_on.lua"
    shell.spit(script, ([[
      local counting = { n = 4, next = function() return massact.tensor({ { 1, 2, 3 } }, "i64") end, state = function() return {} end, restore = function() end }
      massact.train { model = massact.load %q, loader = counting, steps = 8, folder = %q, checkpoint_every = 4 }]]):format(folder .. "/run/step-4", folder .. "/run"))
    -- 40 blocks of 512 or 1024 bytes: the log fits, a checkpoint does not.
    local _, told = shell.run(("((ulimit -f 40; exec %s %s 2>&1) | cat)"):format(shell.bin, script))
    assert.matches("^massact: [^\n]*cannot write '[^\n]*step%-8%.unfinished/model%.safetensors': File too large\n$", told)
    assert.is_true(massact.system.exists(folder .. "/run/step-4/trainer.json"))
    assert.is_false(massact.system.exists(folder .. "/run/step-8"))
    assert.is_false(massact.system.exists(folder .. "/run/step-8.unfinished"))
    assert.equal(0, (shell.massact(script)))
    assert.is_true(massact.system.exists(folder .. "/run/step-8/trainer.json"))
  end)

  it("says which option it does not have", function()
    local function says(message, f, ...)
      local fine, problem = pcall(f, ...)
      assert.is_false(fine)
      assert.equal(message, problem:sub(1, #message))
    end
    says("train: there is no option 'batch'; there are accumulate, callbacks,", train, { batch = 3 })
    says("train: steps is a whole number of at least 0, not 1.5", train, { steps = 1.5 })
    says("train: loader is a loader, not 3", train, { loader = 3 })
    says("train: folder is missing; it is a string", massact.train, { model = 1, loader = {}, steps = 1 })
    says("optimizer: there is no option 'lr'; there are beta1,", train, { optimizer = { lr = 1 } })
    says("create: there is no option 'mitigation'; there are", massact.create, config, { mitigation = "tvr" })
    assert.has_error(function() train({ optimizer = { kind = "adam" } }) end, "optimizer: there are adamw and sgd, not 'adam'")
    assert.has_error(function() train({ schedule = { kind = "step" } }) end, "schedule: there are constant, cosine, linear and wsd, not 'step'")
  end)
end)

describe("schedules", function()
  it("warm up, hold and fall as their papers say", function()
    local cosine = schedules.schedule({ warmup = 10, final = 0.1 }, 110)
    assert.near(0.1, cosine(1), 1e-12)
    assert.near(1, cosine(10), 1e-12)
    assert.near(0.55, cosine(60), 1e-12)
    assert.near(0.1, cosine(110), 1e-12)
    local linear = schedules.schedule({ kind = "linear", warmup = 10, final = 0 }, 110)
    assert.near(0.25, linear(85), 1e-12)
    local wsd = schedules.schedule({ kind = "wsd", warmup = 10, final = 0, decay = 20 }, 100)
    assert.near(1, wsd(50), 1e-12)
    assert.near(1, wsd(80), 1e-12)
    assert.near(0.5, wsd(90), 1e-12)
    assert.near(0, wsd(100), 1e-12)
    assert.near(1, schedules.schedule({ kind = "constant" }, 5)(5), 1e-12)
  end)
end)
