-- The paper's experiments from outside, on the embedded default model: their command line, files, results and messages.
package.path = os.getenv "MASSACT_TESTS" .. "/cli/?.lua;" .. package.path
local massact = require "massact"
local shell = require "shell"

local function slurp(path) return shell.slurp(path) end

local function experiment(name, options) return shell.massact(("run %s/experiments/%s.lua %s"):format(massact.home, name, options)) end

describe("the paper's experiments", function()
  local folder = shell.folder()
  local base = folder .. "/model/model_layer_model.layers_self_attn_%d_%s_%s_%d/"
  teardown(function() os.execute("rm -r " .. folder) end)

  it("existence: the layers whose mean maximum is massive, as the model was planted", function()
    local status, out = experiment("existence", "--save_dir " .. folder)
    assert.equal(0, status)
    assert.matches("layers 1, 2", out)
    local at = base:format(256, "True", "True", 42)
    local r = massact.json.load(at .. "results.json")
    assert.same({ 1, 2 }, { table.unpack(r.massive_layers) })
    assert.equal(10, r.calibration_windows)
    assert.equal(r.n_layers, #r.mean_max)
    -- Against one pass of our own over the same windows.
    local model = massact.load(massact.home .. "/experiments/default/model")
    local text = massact.data.read(massact.home .. "/experiments/default/calibration.txt")
    local windows = massact.data.windows(model.tokenizer, text, { length = 256, bos = true, limit = 10 })
    local max = 0
    for _, window in ipairs(windows) do
      local seen = model:forward(window, { capture = { "layers.1.out" } })
      max = max + seen["layers.1.out"]:abs():max():item() / #windows
    end
    assert.near(max, r.mean_max[2], 1e-6 * max)
    assert.matches("Massive activations: yes\nLayer 1: mean max 900%.", slurp(at .. "check_has_massive_activations.txt"))
    assert.equal(1 + r.n_layers, select(2, slurp(at .. "existence.csv"):gsub("\n", "")))
    assert.equal(slurp(at .. "results.json"), slurp(at .. "existence.json"))
    assert.equal(1, r.bos.id)
    assert.equal(1, r.first_ids.calibration[1])
  end)

  it("tokens: position, dim and token of what is massive", function()
    local status, out = experiment("tokens", "--calibration_windows 4 --save_dir " .. folder)
    assert.equal(0, status)
    assert.matches("position 0, dim 9: 900.0", out, 1, true)
    local at = base:format(256, "True", "True", 42)
    local r = massact.json.load(at .. "tokens.json")
    assert.equal(4, #r.by_window)
    assert.same({ 9 }, { table.unpack(r.by_window[1][1].dims) })
    assert.equal("<s>", r.tokens["0"][1])
    local text = slurp(at .. "verify_massive_activations_location_and_magnitude_and_tokens.txt")
    assert.matches("Sample 3\n  Layer 1: positions %[0%], tokens %['<s>'%], dims %[9%]", text)
    assert.matches("First layer: 1\nDims: %[9%]", text)
  end)

  it("top_activation: the largest of a sentence by layer, with the ids that were looked at", function()
    assert.equal(0, (experiment("top_activation", "--top 2 --sentence 'A cat' --add-bos-token False --save_dir " .. folder)))
    local r = massact.json.load(base:format(256, "False", "True", 42) .. "top_activation.json")
    assert.same({ "A", " ", "c", "a", "t" }, { table.unpack(r.sentence.tokens) })
    assert.is_false(r.sentence.bos)
    assert.equal(massact.null, r.bos)
    assert.equal(2, #r.layers[1].top)
    local model = massact.load(massact.home .. "/experiments/default/model")
    local x = model:forward({ table.unpack(r.sentence.ids) }, { capture = { "layers.2.out" } })["layers.2.out"]
    local top = r.layers[3].top[1]
    assert.near(x:abs():max():item(), math.abs(top.value), 1e-6)
    assert.near(x:get(0, top.position, top.dim), top.value, 1e-6)
    assert.equal(r.sentence.tokens[top.position + 1], top.token)
  end)

  it("BOS is never doubled", function()
    assert.equal(0, (experiment("top_activation", "--sentence '<s>A cat' --save_dir " .. folder)))
    local r = massact.json.load(base:format(256, "True", "True", 42) .. "top_activation.json")
    assert.same({ "<s>", "A", " ", "c", "a", "t" }, { table.unpack(r.sentence.tokens) })
  end)

  it("pictures are drawn again from saved results, without the model", function()
    local at = base:format(256, "True", "True", 42)
    local before = slurp(at .. "existence.png")
    os.remove(at .. "existence.png")
    local results = massact.json.load(at .. "existence.json")
    results.options.pretrained = "/nowhere"
    massact.json.save(at .. "existence.json", results)
    assert.equal(0, (experiment("existence", "--redraw " .. at)))
    -- The file says what it was made from, and that has changed; the picture has not.
    assert.near(#before, #slurp(at .. "existence.png"), 200)
    assert.equal(0, (experiment("existence", "--format svg --redraw " .. at .. "existence.json")))
    assert.matches("<svg", slurp(at .. "existence.svg"), 1, true)
    local status, _, complained = experiment("tokens", "--redraw " .. at .. "existence.json")
    assert.equal(2, status)
    assert.matches("not the results of tokens", complained)
  end)

  it("main.lua takes the paper's command lines", function()
    local options = "--exp_type %s --pretrained %s/experiments/default/model --layer_path model.layers --attn_path self_attn "
      .. "--show_logits True --add_bos_token True --context_length 64 --dtype torch.bfloat16 --seed 7 --save_dir %s"
    local default = massact.home .. "/experiments/default/"
    local texts = (" --data %stext.txt --calibration_data %scalibration.txt"):format(default, default)
    local files = { existence_validation = "check_has_massive_activations.txt",
      tokens_analysis = "verify_massive_activations_location_and_magnitude_and_tokens.txt",
      intervention_analysis = "intervention_analysis/results_ppl.txt", top_activation_magnitude = "top_activation_magnitude.png",
      self_attention = "self_attention.png" }
    for name, file in pairs(files) do
      local words = options:format(name, massact.home, folder) .. texts
      local status, _, complained = experiment("main", words .. " --device cpu")
      assert.same({ 0, "" }, { status, complained })
      assert.is_true(massact.system.exists(base:format(64, "True", "True", 7) .. file), file)
    end
    assert.equal("bf16", massact.json.load(base:format(64, "True", "True", 7) .. "existence.json").dtype)
    assert.equal("Model: model\nModel Path: " .. massact.home .. "/experiments/default/model\nModule Name: layer\n"
      .. "Layer Path: model.layers\nAttention Path: self_attn\nContext Length: 64\nAdd BOS Token: True\nShow Logits: True\nSeed: 7\n",
      slurp(base:format(64, "True", "True", 7) .. "config.txt"))
  end)

  it("main.lua takes the paper's texts from the data folder, and says where it has to do without", function()
    local texts = folder .. "/texts"
    massact.system.make_folder(texts)
    local line = massact.json.text { text = ("a king and a queen "):rep(40) }:gsub("\n%s*", "")
    for _, name in ipairs { "c4", "pg19", "redpajama" } do shell.spit(("%s/%s.jsonl"):format(texts, name), (line .. "\n"):rep(20)) end
    shell.spit(texts .. "/wikitext.txt", ("once upon a time "):rep(200))
    local words = "--exp_type intervention_analysis --context_length 128 --windows 2 --device cpu --save_dir " .. folder
    local status, _, complained = experiment("main", words .. " --data_dir " .. texts)
    assert.same({ 0, "" }, { status, complained })
    local r = massact.json.load(base:format(128, "True", "True", 42) .. "results.json")
    assert.same({ c4 = 2, pg19 = 2, wikitext = 2 }, r.windows)
    status, _, complained = experiment("main", words .. " --data_dir " .. folder)
    assert.equal(0, status)
    assert.matches("no file for 'redpajama' in '.-': put redpajama.txt or redpajama.jsonl .*without %-%-calibration_data", complained)
    r = massact.json.load(base:format(128, "True", "True", 42) .. "results.json")
    assert.same({ text = 2 }, r.windows)
  end)

  it("says what is wrong with a command line", function()
    for words, message in pairs {
      ["main --exp_type existence"] = "^massact: %-%-exp_type existence: wants one of existence_validation, ",
      ["main --pretrained x"] = "^massact: %-%-exp_type wants one of ",
      ["existence --attn_path attn"] = "^massact: %-%-attn_path attn: family llama has no attention there",
      ["existence --layer_path transformer.h"] = "^massact: %-%-layer_path transformer.h: the layers of family llama are at model.layers",
      ["existence --format jpg"] = "^massact: %-%-format is one of png, svg, pdf, not 'jpg'",
      ["existence --context_length 1000000"] = "^massact: %-%-context_length 1000000 is more than the",
    } do
      local name, options = words:match "^(%S+) (.*)$"
      local status, _, complained = experiment(name, options)
      assert.equal(2, status, words)
      assert.matches(message, complained)
    end
    if pcall(massact.zeros, { 1 }, { device = "cuda" }) then return end -- a GPU is here
    local status, _, complained = experiment("main", "--exp_type tokens_analysis")
    assert.equal(1, status)
    assert.matches("massact: %-%-device cuda: .*use %-%-device cpu\n$", complained)
  end)
end)
