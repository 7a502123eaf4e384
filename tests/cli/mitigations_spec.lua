-- experiments/mitigations from outside, at toy size.
package.path = os.getenv "MASSACT_TESTS" .. "/cli/?.lua;" .. package.path
local massact = require "massact"
local shell = require "shell"

local toy = "--layers 2 --width 32 --heads 2 --context 32 --vocab_size 300 --batch 4 --steps 24 --limit 4 --evaluation_windows 4 --calibration_windows 2 "
local function run(words, before) return shell.run(("OMP_NUM_THREADS=1 %s %s run mitigations/%s"):format(before or "", shell.bin, words)) end

describe("experiments/mitigations/train.lua", function()
  local folder = shell.folder()
  teardown(function() os.execute("rm -r " .. folder) end)
  local function train(words, before) return run("train " .. toy .. "--save_dir " .. folder .. " " .. words, before) end
  local function lines_of(path) return select(2, shell.slurp(path):gsub("\n", "")) end

  it("trains a model, measures it, and writes what every experiment takes", function()
    local status, out, err = train "--mitigations kv_bias,tvr --seed 3"
    assert.same({ 0, "" }, { status, err })
    assert.matches("step 24 of 24: loss [%d.]+, %d+ tokens/s, largest [%d.]+ in layer %d", out)
    local base = folder .. "/llama-kv_bias+tvr-3/"
    local r = massact.json.load(base .. "results.json")
    assert.same({ "train", "kv_bias+tvr", 3, 24, 24 * 4 * 31 }, { r.experiment, r.variant, r.seed, r.steps, r.tokens })
    assert.same({ "kv_bias", "tvr" }, table.move(r.mitigations, 1, 2, 1, {}))
    -- What is told agrees with what is kept.
    local e, m = r.existence, r.records[#r.records].magnitudes
    assert.equal(24, r.records[#r.records].step)
    assert.equal(2, #e.mean_max)
    assert.near(e.mean_max[e.largest.layer + 1], e.largest.max, 1e-9)
    assert.near(e.largest.max / e.largest.median, e.largest.ratio, 1e-6)
    for l = 1, 2 do assert(m.top1[l] >= m.top2[l] and m.top2[l] >= m.top3[l] and m.top3[l] > m.median[l]) end
    assert.equal(2, #r.sinks.by_layer.bias)
    assert.equal(r.perplexity, r.quantisation.perplexity.full)
    assert(math.abs(r.quantisation.perplexity.both / r.perplexity - 1) < 0.2)
    assert.same({ "agreement", "endings", "last_words" }, { r.sets[1].name, r.sets[2].name, r.sets[3].name })
    assert.near((r.sets[1].accuracy + r.sets[2].accuracy + r.sets[3].accuracy) / 3, r.accuracy, 1e-9)
    assert.equal(4, r.sets[1].n)
    assert.equal(r.accuracy, r.records[#r.records].score)
    -- The tables hold a row a layer, a row a record and layer.
    assert.equal(1 + 2, lines_of(base .. "by_layer.csv"))
    local n_recorded = 0
    for _, record in ipairs(r.records) do n_recorded = n_recorded + (record.magnitudes and 1 or 0) end
    assert.equal(1 + 2 * n_recorded, lines_of(base .. "magnitudes.csv"))
    assert.equal(25, lines_of(base .. "log.csv"))
    for _, picture in ipairs { "loss.png", "magnitudes.png" } do assert.equal("\137PNG", shell.slurp(base .. picture):sub(1, 4)) end
    -- The model is one: its perplexity is the one that was told.
    local model = massact.load(base)
    assert.is_true(model.spec.kv_bias)
    assert.equal("llama-kv_bias+tvr-3", model.name)
    assert.same({ "lir", "tvr", "kv_bias" }, { "lir", model.config.massact.mitigations.tvr and "tvr", model.config.massact.mitigations.kv_bias and "kv_bias" })
    -- Again from what was saved.
    os.remove(base .. "by_layer.csv")
    local again, same = run("train --redraw " .. base)
    assert.equal(0, again)
    assert.equal(out:match "(llama%-kv_bias%+tvr%-3: .-)\n[^\n]*/: ", same:match "(llama%-kv_bias%+tvr%-3: .-)\n[^\n]*/: ")
    assert.equal(1 + 2, lines_of(base .. "by_layer.csv"))
  end)

  it("makes models that other experiments take, and show the KV bias in", function()
    train "--family gpt2 --mitigations kv_bias,dyt --seed 2 --steps 8"
    for _, name in ipairs { "llama-kv_bias+tvr-3", "gpt2-dyt+kv_bias-2" } do
      local out = folder .. "/others"
      local function experiment(words)
        local status, _, err = shell.massact(("run %s --pretrained %s/%s --calibration_windows 2 --context_length 32 --save_dir %s"):format(words, folder, name, out))
        assert.same({ 0, "" }, { status, err }, words)
        return ("%s/%s/%s_layer_model.layers_self_attn_32_True_%s_42/"):format(out, name, name, words:find "show_logits" and "False" or "True")
      end
      for _, words in ipairs { "existence", "tokens", "intervention --windows 2", "quantisation --windows 2", "choices --limit 2", "attention_trajectory" } do experiment(words) end
      -- Each query's attention is that to the KV bias and to the keys before it.
      local r = massact.json.load(experiment "self_attention --show_logits false" .. "self_attention.json")
      for _, layer in ipairs(r.layers) do
        for q, row in ipairs(layer.rows) do
          local sum = layer.extra_kv[q]
          assert(sum > 0)
          for _, value in ipairs(row) do sum = sum + value end
          assert.near(1, sum, 1e-5)
        end
      end
      local base = experiment "sink_rate"
      assert.matches("attention_to_kv_bias\n0,.-,0%.%d+\n1,.-,0%.%d+\n$", shell.slurp(base .. "sink_rate.csv"))
      -- Where the largest activation is the last token's, none is behind it to look at.
      local trajectory = massact.json.load(base .. "attention_trajectory.json")
      assert.equal(#trajectory.queries > 0, shell.slurp(base .. "attention_trajectory.csv"):find("\n0,extra_kv,,0%.%d+\n") ~= nil)
    end
  end)

  it("is the model that massact.train makes of the same settings", function()
    train "--mitigations none --init none --init_std 0.02 --seed 3 --steps 6"
    local r = massact.json.load(folder .. "/llama-baseline-3/results.json")
    local texts = folder .. "/tokens/calibration+text-300"
    local tokenizer = massact.tokenizer.load(texts)
    local model = massact.create({ architectures = { "LlamaForCausalLM" }, hidden_size = 32, intermediate_size = 88, num_hidden_layers = 2,
      num_attention_heads = 2, max_position_embeddings = 32, vocab_size = 300, rms_norm_eps = 1e-5 }, { seed = 3 })
    local trainer = massact.train { model = model, steps = 6, folder = folder .. "/plain", optimizer = { rate = 3e-3, clip = 1 },
      loader = massact.loader { files = texts .. "/tokens.bin", context = 32, batch = 4, split = "train", bos = true, seed = 3, tokenizer = tokenizer } }
    assert.near(trainer.loss, r.loss, 1e-5)
  end)

  it("begins with the paper's standard deviations, beside its widths", function()
    for words, want in pairs {
      ["--mitigations none"] = { 0.006 * math.sqrt(2048 / 32) }, ["--mitigations tvr"] = { 0.006 * math.sqrt(2048 / 32), 0.01 * math.sqrt(2048 / 32) },
      ["--mitigations dyt,tvr"] = { 0.02 * math.sqrt(2048 / 32), 0.02 * math.sqrt(2048 / 32) },
      ["--mitigations tvr --family gpt2"] = { 0.02 * math.sqrt(768 / 32), 0.01 * math.sqrt(768 / 32) },
      ["--mitigations tvr --init_std 0.5 --tvr_target 0.25"] = { 0.5, 0.25 },
    } do
      local own = shell.folder()
      assert.equal(0, (run("train " .. toy .. "--rate 0 --steps 1 --seed 8 --save_dir " .. own .. " --cache " .. folder .. "/tokens " .. words)))
      local name = massact.system.list(own)[1]
      local model = massact.load(own .. "/" .. name)
      -- Layer 1 has std / sqrt(2) by lir; GPT-2's what writes into the residual stream is another matter.
      local q = model:weight "layers.1.attn.q.weight":std():item() * (words:find "gpt2" and 1 or math.sqrt(2))
      assert.near(want[1], q, 0.08 * want[1], words)
      local tvr = model.config.massact.mitigations.tvr
      assert.equal(want[2] and ("%.9g"):format(want[2]), tvr and ("%.9g"):format(tvr.target))
      os.execute("rm -r " .. own)
    end
  end)

  it("goes on where it was killed, and is not trained again", function()
    local whole = shell.folder()
    local long = "--steps 900 --checkpoint_every 50 "
    run("train " .. toy .. long .. "--save_dir " .. whole)
    local r = massact.json.load(whole .. "/llama-baseline-42/results.json")
    local killed = 0
    for _ = 1, 3 do killed = killed + ((train(long, "timeout -s KILL 0.6") == 137) and 1 or 0) end
    assert(killed > 0 and massact.system.exists(folder .. "/llama-baseline-42/log.jsonl"))
    assert.equal(0, (train(long)))
    local resumed = massact.json.load(folder .. "/llama-baseline-42/results.json")
    for _, key in ipairs { "existence", "perplexity", "records", "sets", "sinks", "quantisation" } do
      assert.equal(massact.json.text(r[key]), massact.json.text(resumed[key]), key)
    end
    local _, out = train(long)
    assert.is_nil(out:find "step 900")
    os.execute("rm -r " .. whole)
  end)

  it("does not mix trainings of different settings", function()
    train "--steps 4 --seed 5"
    local status, _, err = train "--steps 4 --seed 5 --rate 1e-3"
    assert.equal(2, status)
    assert.matches("holds a training with another rate %(0.003, now 0.001%); another %-%-save_dir keeps it, %-%-restart begins anew\n$", err)
    assert.equal(0, (train "--steps 4 --seed 5 --rate 1e-3 --restart"))
    assert.equal(1e-3, massact.json.load(folder .. "/llama-baseline-5/results.json").options.rate)
  end)

  it("says in one line what is wrong", function()
    shell.spit(folder .. "/short.txt", "Once.")
    local vocabulary = massact.tokenizer.load(folder .. "/tokens/calibration+text-300"):size()
    for words, message in pairs {
      ["--mitigations kv_bais"] = "2 %-%-mitigations: there is no mitigation 'kv_bais'; there are dyt, kv_bias, lir, residual_init, tvr",
      ["--batch 400"] = "1 loader: '.-tokens.bin' has %d+ tokens, which are %d+ windows of 32 for split 'train': fewer than one batch of 400; more text, a smaller %-%-context or a smaller %-%-batch",
      ["--context 8192"] = "1 loader: .- are 0 windows of 8192 for split 'train': fewer than one batch of 4; more text, a smaller %-%-context",
      ["--evaluation_data " .. folder .. "/short.txt"] = "1 loader: .-evaluation.bin' has %d tokens, which are 0 windows of 32: fewer than one batch of 1; more text, a smaller %-%-context\n",
      ["--tokenizer " .. folder .. "/tokens/calibration+text-300 --vocab_size 260"] = "2 %-%-tokenizer .- has " .. vocabulary .. " tokens, and %-%-vocab_size says 260; leave %-%-vocab_size out",
      ["--vocab_size 100"] = "2 %-%-vocab_size must be at least 258: 256 bytes, BOS and EOS",
      ["--heads 3"] = "2 %-%-width 32 is not a multiple of %-%-heads 3",
      ["--steps 0"] = "2 %-%-steps must be at least 1, not 0",
      ["--held_out 1"] = "2 %-%-held_out must be between 0 and 1",
      ["--data /no/such.txt"] = "1 .-/no/such.txt",
      ["--items /no/such.jsonl"] = "1 .-/no/such.jsonl",
    } do
      local status, out, err = train("--seed 9 " .. words)
      assert.equal("", out)
      assert.matches("^" .. message:gsub("^([12]) ", "%1 massact: "), status .. " " .. err)
      assert.equal(1, select(2, err:gsub("\n", "")), err)
    end
    -- A checkpoint of another shape under the same settings.
    train "--steps 4 --seed 6"
    os.execute(("cp %s/llama-kv_bias+tvr-3/model.safetensors %s/llama-baseline-6/step-4/"):format(folder, folder))
    massact.safetensors.save(folder .. "/llama-baseline-6/step-4/model.safetensors", { ["lm_head.weight"] = massact.zeros(2, 2) })
    local status, _, err = train "--steps 4 --seed 6"
    assert.equal(1, status)
    assert.matches("^massact: [^\n]*step%-4' [^\n]*: it is a checkpoint of another model\n$", err)
  end)
end)

describe("experiments/mitigations/compare.lua", function()
  local folder = shell.folder()
  teardown(function() os.execute("rm -r " .. folder) end)
  local function compare(words, before) return run("compare " .. toy .. "--variants none,kv_bias+tvr --seeds 1,2 " .. words, before) end
  local function slurp(name) return shell.slurp(folder .. "/" .. name) end
  local function rows_of(name)
    local rows = {}
    for line in slurp(name):gmatch "[^\n]+" do
      local row = {}
      for cell in (line .. ","):gmatch "([^,]*)," do row[#row + 1] = cell end
      if not rows.columns then rows.columns = row
      else
        local named = {}
        for c, column in ipairs(rows.columns) do named[column] = tonumber(row[c]) or row[c] end
        rows[#rows + 1] = named
      end
    end
    return rows
  end

  it("shows what it would train, and trains nothing", function()
    local status, out, err = compare("--dry_run --save_dir " .. folder .. "/plan")
    assert.same({ 0, "" }, { status, err })
    for _, case in ipairs { "baseline_seed=1", "baseline_seed=2", "kv_bias+tvr_seed=1", "kv_bias+tvr_seed=2" } do
      assert(out:find(case .. " +to run +train [^\n]*%-%-steps 24") or out:find(case, 1, true), case)
    end
    assert.matches("4 cases in", out)
    assert.is_false(massact.system.exists(folder .. "/plan"))
  end)

  it("writes the table with mean and spread over seeds, and two figures", function()
    local status, out, err = compare("--jobs 2 --save_dir " .. folder)
    assert.same({ 0, "" }, { status, err })
    local by_case, table_rows, run_rows = {}, rows_of "table.csv", rows_of "runs.csv"
    assert.same({ 2, 4 }, { #table_rows, #run_rows })
    for i, name in ipairs { "baseline", "kv_bias+tvr" } do
      local r = {}
      for seed = 1, 2 do
        r[seed] = massact.json.load(("%s/cases/%s_seed=%d/llama-%s-%d/results.json"):format(folder, name, seed, name, seed))
        by_case[#by_case + 1] = r[seed]
      end
      local row = table_rows[i]
      assert.same({ name, "-", 2, 0 }, { row.variant, row.mitigates, row.seeds, row.massive_seeds })
      for column, get in pairs {
        max_magnitude = function(x) return x.existence.largest.max end, median = function(x) return x.existence.largest.median end,
        ratio = function(x) return x.existence.largest.max / x.existence.largest.median end, perplexity = function(x) return x.perplexity end,
        perplexity_w8a8 = function(x) return x.quantisation.perplexity.both end, sink_rate = function(x) return x.sinks.sink_rate end,
        attention_to_kv_bias = i == 2 and function(x) return (x.sinks.by_layer.bias[1] + x.sinks.by_layer.bias[2]) / 2 end or nil,
        accuracy = function(x) return 100 * x.accuracy end, accuracy_endings = function(x) return 100 * x.sets[2].accuracy end,
      } do
        local a, b = get(r[1]), get(r[2])
        assert.near((a + b) / 2, row[column], 1e-6 * math.abs(a + b), column)
        assert.near(math.abs(a - b) / math.sqrt(2), row[column .. "_std"], 1e-6 * math.abs(a + b), column)
      end
      local e = { r[1].existence.largest.max, r[2].existence.largest.max }
      assert(slurp "table.md":find(("| %s | - | %.4g ± %.2g |"):format(name, (e[1] + e[2]) / 2, math.abs(e[1] - e[2]) / math.sqrt(2)), 1, true))
    end
    -- Seeds and variants make other models; they read the same data.
    assert.is_true(by_case[1].perplexity ~= by_case[2].perplexity and by_case[1].perplexity ~= by_case[3].perplexity)
    assert.same(by_case[1].data_sha256, by_case[4].data_sha256)
    assert.equal(1, #massact.system.list(folder .. "/tokens"))
    assert.matches("| baseline | %- |.*Mean over 2 seeds ± standard deviation.*nothing to mitigate", out)
    for _, picture in ipairs { "magnitude_by_layer.png", "score_over_tokens.png" } do assert.equal("\137PNG", slurp(picture):sub(1, 4)) end
    -- Again from what was gathered, as other pictures.
    local markdown = slurp "table.md"
    os.remove(folder .. "/table.md")
    assert.equal(0, (run("compare --format svg --redraw " .. folder)))
    assert.equal(markdown, slurp "table.md")
    assert.matches("^<%?xml", slurp("magnitude_by_layer.svg"):sub(1, 9))
  end)

  it("killed and started again, ends with the table of one left alone", function()
    local other, killed = folder .. "/other", 0
    for _ = 1, 3 do killed = killed + (compare("--jobs 2 --checkpoint_every 6 --save_dir " .. other, "timeout -s KILL 0.7") == 137 and 1 or 0) end
    assert(killed > 0)
    assert.equal(0, (compare("--jobs 2 --checkpoint_every 6 --save_dir " .. other)))
    assert.equal(slurp "table.csv", slurp "other/table.csv")
    -- Nothing is trained again; what only changes the pictures is not either, and another setting trains anew.
    local changed = select(2, massact.system.stamp(other .. "/cases/baseline_seed=1/llama-baseline-1/model.safetensors"))
    assert.equal(0, (compare("--checkpoint_every 6 --save_dir " .. other)))
    assert.equal(changed, select(2, massact.system.stamp(other .. "/cases/baseline_seed=1/llama-baseline-1/model.safetensors")))
    assert.equal(0, (compare("--checkpoint_every 6 --rate 1e-3 --save_dir " .. other)))
    assert.is_true(slurp "table.csv" ~= slurp "other/table.csv")
  end)

  it("gathers what there is where a training fails, and says what is wrong in one line", function()
    local status, out, err = run("compare " .. toy .. "--variants none --seeds 1 --rate 1e30 --clip 0 --save_dir " .. folder .. "/fails")
    assert.equal(1, status)
    assert.matches("No training is done yet", out)
    assert.matches("massact: case baseline_seed=1: exit status 1: massact: step %d+: the [^\n]* is not finite", err)
    for words, message in pairs {
      ["--variants kv_bais"] = "2 massact: %-%-variants: there is no mitigation 'kv_bais'; there are dyt",
      ["--seeds one"] = "2 massact: %-%-seeds: 'one' is not a whole number", ["--batch 4000"] = "1 massact: loader: .- fewer than one batch of 4000; more text",
      ["--mitigations dyt"] = "2 massact: unknown option '%-%-mitigations'", ["--items /no/such.jsonl"] = "1 massact: [^\n]*/no/such.jsonl",
    } do
      local code, _, complained = compare(words .. " --save_dir " .. folder .. "/bad")
      assert.matches("^" .. message, code .. " " .. complained)
      assert.equal(1, select(2, complained:gsub("\n", "")))
    end
  end)
end)

describe("experiments/mitigations/emergence.lua", function()
  local folder = shell.folder()
  teardown(function() os.execute("rm -r " .. folder) end)
  local function emergence(words) return run("emergence " .. words) end
  local function slurp(name) return shell.slurp(folder .. "/" .. name) end
  local trained = folder .. "/trained/llama-baseline-1"
  setup(function() assert.equal(0, (run("train " .. toy .. "--seed 1 --record_every 4 --score_every 12 --checkpoint_every 4 --keep 0 --save_dir " .. folder .. "/trained"))) end)

  it("follows what a training has recorded, and fits the curve", function()
    local status, out, err = emergence(("--runs %s --save_dir %s/runs"):format(trained, folder))
    assert.same({ 0, "" }, { status, err })
    local r, records = massact.json.load(folder .. "/runs/emergence.json"), massact.json.load(trained .. "/results.json").records
    assert.same({ 1, 2, 4, 8, 12, 16, 20, 24 }, table.move(r.steps, 1, 8, 1, {}))
    local last = records[#records].magnitudes
    assert.near(last.top1[2], r.values.top1.mean[2][8], 1e-9)
    assert.near(last.top1[2] / last.median[2], r.values.ratio.mean[2][8], 1e-6)
    -- The curve is the one that the library fits.
    local fit = require("massact.emergence").fit(table.move(r.steps, 1, 8, 1, {}), table.move(r.values.top1.mean[1], 1, 8, 1, {}))
    assert.same({ "top1", 0 }, { r.fits[1].quantity, r.fits[1].layer })
    assert.near(fit.r2, r.fits[1].r2, 1e-9)
    assert.equal(4, #r.fits)
    assert.matches("8 steps from 1 to 24; at the last the largest magnitude is", out)
    assert(out:find(("at least %.3f"):format(math.min(r.fits[1].r2, r.fits[2].r2)), 1, true), out)
    assert.equal(1 + 8 * 2, select(2, slurp("runs/emergence.csv"):gsub("\n", "")))
    assert.matches("^quantity,layer,A,lambda,gamma,t0,K,R2,peak\ntop1,0,", slurp "runs/fit.csv")
    assert.equal("\137PNG", slurp("runs/emergence.png"):sub(1, 4))
    os.remove(folder .. "/runs/fit.md")
    local again, same = emergence(("--redraw %s/runs"):format(folder))
    assert.same({ 0, out }, { again, same })
    assert.matches("| top1 | 0 |", slurp "runs/fit.md", 1, true)
  end)

  it("measures checkpoints by the steps in their names, each once", function()
    local words = ("--checkpoints %s --data %s --context 32 --record_windows 3 --fit ratio --save_dir %s/checkpoints"):format(trained,
      massact.home .. "/experiments/default/text.txt", folder)
    local status, out, err = emergence(words)
    assert.same({ 0, "" }, { status, err })
    assert.matches("6 of 6 cases done.*6 steps from 4 to 24.*ratio: the curve's R²", out)
    local r = massact.json.load(folder .. "/checkpoints/emergence.json")
    -- By hand: the mean over three windows of the largest magnitude of layer 1 at step 12.
    local model = massact.load(trained .. "/step-12")
    local sum, windows = 0, massact.windows(model.tokenizer, massact.data.text(massact.home .. "/experiments/default/text.txt"), { length = 32, bos = true, limit = 3 })
    for _, ids in ipairs(windows) do sum = sum + model:forward(ids, { capture = { "layers.1.out" } })["layers.1.out"]:abs():max():item() end
    assert.near(sum / 3, r.values.top1.mean[2][3], 1e-5)
    -- Names as Pythia's; what was measured is not measured again.
    local changed = select(2, massact.system.stamp(folder .. "/checkpoints/cases/step-12/results.json"))
    os.execute(("mkdir %s/revisions; for n in 4 8; do cp -r %s/step-$n %s/revisions/step$n; done"):format(folder, trained, folder))
    assert.matches("2 steps are too few for the curve, which has five parameters",
      (select(2, emergence(("--checkpoints %s/revisions/step4,%s/revisions/step8 --context 32 --save_dir %s/few"):format(folder, folder, folder)))))
    assert.equal(0, (emergence(words)))
    assert.equal(changed, select(2, massact.system.stamp(folder .. "/checkpoints/cases/step-12/results.json")))
  end)

  it("trains several seeds itself, and joins them", function()
    local status, out, err = emergence(toy .. "--seeds 1,2 --mitigations kv_bias --record_every 4 --score_every 12 --save_dir " .. folder .. "/own")
    assert.same({ 0, "" }, { status, err })
    assert.matches("8 steps from 1 to 24, mean of 2 seeds", out)
    local r, sum, most = massact.json.load(folder .. "/own/emergence.json"), 0, 0
    assert.same({ "llama-kv_bias-1", "llama-kv_bias-2" }, table.move(r.runs, 1, 2, 1, {}))
    for seed = 1, 2 do
      local records = massact.json.load(("%s/own/cases/seed=%d/llama-kv_bias-%d/results.json"):format(folder, seed, seed)).records
      local value = records[#records].magnitudes.top1[1]
      sum, most = sum + value / 2, math.max(most, value)
    end
    assert.near(sum, r.values.top1.mean[1][8], 1e-9)
    assert.near(most, r.values.top1.high[1][8], 1e-9)
    assert.matches("^step,layer,top1,top1_least,top1_most,top2,", slurp "own/emergence.csv")
  end)

  it("says in one line what is wrong", function()
    os.execute(("cp -r %s/experiments/default/model %s/revisions/step16"):format(massact.home, folder))
    os.execute(("mkdir %s/empty; cp -r %s/step-4 %s/final; cp -r %s/step-4 %s/other-4"):format(folder, trained, folder, trained, folder))
    for words, message in pairs {
      ["--runs /no/such"] = "2 '/no/such' has no log.jsonl: it is no training of mitigations/train.lua",
      ["--checkpoints /no/such"] = "2 %-%-checkpoints: there is no folder '/no/such'",
      ["--checkpoints " .. folder .. "/empty"] = "2 %-%-checkpoints: '.-/empty' holds no checkpoint",
      ["--checkpoints " .. folder .. "/final"] = "2 %-%-checkpoints: the name of '.-/final' tells no step, as step1000 does",
      ["--checkpoints " .. trained .. "," .. folder .. "/other-4"] = "2 %-%-checkpoints: '.-step%-4' and '.-other%-4' are both of step 4",
      ["--context 32 --checkpoints " .. folder .. "/revisions"] = "1 .-: step 16 is of a model with 4 layers, another one has 2: these are not of one training",
      ["--fit top9"] = "2 %-%-fit: 'top9' is none of median, ratio, top1, top2, top3",
    } do
      local status, _, err = emergence(words .. " --save_dir " .. folder .. "/bad")
      assert.matches("^" .. message:gsub("^([12]) ", "%1 massact: "), status .. " " .. err)
      assert.equal(1, select(2, err:gsub("\n", "")), err)
    end
  end)
end)
