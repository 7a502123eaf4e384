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

  it("is the model that massact.train makes of the same settings", function()
    train "--mitigations none --init none --seed 3 --steps 6"
    local r = massact.json.load(folder .. "/llama-baseline-3/results.json")
    local texts = folder .. "/tokens/calibration+text-300"
    local tokenizer = massact.tokenizer.load(texts)
    local model = massact.create({ architectures = { "LlamaForCausalLM" }, hidden_size = 32, intermediate_size = 88, num_hidden_layers = 2,
      num_attention_heads = 2, max_position_embeddings = 32, vocab_size = 300, rms_norm_eps = 1e-5 }, { seed = 3 })
    local trainer = massact.train { model = model, steps = 6, folder = folder .. "/plain", optimizer = { rate = 3e-3, clip = 1 },
      loader = massact.loader { files = texts .. "/tokens.bin", context = 32, batch = 4, split = "train", bos = true, seed = 3, tokenizer = tokenizer } }
    assert.near(trainer.loss, r.loss, 1e-5)
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
