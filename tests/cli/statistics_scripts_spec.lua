-- sink_rate.lua, kurtosis.lua and overflow.lua as a user runs them, against plain computations from captured probabilities and outputs.
package.path = os.getenv "MASSACT_TESTS" .. "/cli/?.lua;" .. package.path
local massact = require "massact"
local overflow = require "massact.overflow"
local shell = require "shell"
local sinks = require "massact.sinks"
local statistics = massact.statistics

local default = massact.home .. "/experiments/default/model"
local folder = shell.folder()
teardown(function() os.execute("rm -r " .. folder) end)

local function base(context, model)
  return ("%s/%s/%s_layer_model.layers_self_attn_%d_True_True_42/"):format(folder, model or "model", model or "model", context)
end

-- Runs an experiment; what it printed and its results.
local function run(script, context, options, model)
  local status, out, err = shell.massact(("run %s/experiments/%s.lua --save_dir %s %s"):format(massact.home, script, folder, options))
  assert.same({ 0, "" }, { status, err })
  return massact.json.load(base(context, model) .. script .. ".json"), out
end

-- Pictures come out the same from saved results alone.
local function redraws(script, context, pictures)
  local before = {}
  for _, file in ipairs(pictures) do
    before[file] = shell.slurp(base(context) .. file)
    assert.equal("\x89PNG", before[file]:sub(1, 4))
    os.remove(base(context) .. file)
  end
  assert.equal(0, (shell.massact(("run %s/experiments/%s.lua --redraw %s"):format(massact.home, script, base(context)))))
  for file, picture in pairs(before) do assert.is_true(shell.slurp(base(context) .. file) == picture, file) end
end

-- What a figure will have written on it.
local function says(figure, texts)
  local written = {}
  for _, text in ipairs(massact.plot.texts(figure)) do written[text] = true end
  for _, text in ipairs(texts) do assert.is_true(written[text], text) end
end

local function near(got, expected, tolerance, what)
  assert(math.abs(got - expected) <= (tolerance or 1e-5) * math.max(1, math.abs(expected)), ("%s: %.9g instead of %.9g"):format(
    what or "", got, expected))
end

local function mean(list)
  local sum = 0
  for _, v in ipairs(list) do sum = sum + v end
  return sum / #list
end

-- The windows that an experiment looks at.
local function windows_of(model, length, n)
  local data = require "massact.data"
  return data.windows(model.tokenizer, data.text(massact.home .. "/experiments/default/calibration.txt"), { length = length, bos = true, limit = n })
end

-- ---- sinks ----

-- Mean attention to each key, from one head's probabilities: rows of queries.
local function alpha_of(rows)
  local alpha = {}
  for k = 1, #rows do
    local sum = 0
    for q = k, #rows do sum = sum + rows[q][k + #rows[q] - #rows] end -- behind the KV bias's column
    alpha[k] = sum / (#rows - k + 1)
  end
  return alpha
end

describe("experiments/sink_rate.lua", function()
  local r, out

  it("has the heads' attention to key 0, and the share above epsilon, of probabilities", function()
    r, out = run("sink_rate", 64, "--calibration_windows 3 --epsilon 0.2")
    local model = massact.load(default)
    local windows, above = windows_of(model, 64, 3), {}
    for l = 1, model.n_layers do
      local first, entropies = { {}, {}, {}, {} }, { {}, {}, {}, {} }
      above[l] = 0
      for w, ids in ipairs(windows) do
        local probs = model:forward(ids, { capture = ("layers.%d.attn.probs"):format(l - 1) })[("layers.%d.attn.probs"):format(l - 1)][0]
        for h, rows in ipairs(probs:totable()) do
          first[h][w], entropies[h][w] = alpha_of(rows)[1], 0
          if first[h][w] > 0.2 then above[l] = above[l] + 1 / 12 end
          for _, row in ipairs(rows) do
            for _, p in ipairs(row) do if p > 0 then entropies[h][w] = entropies[h][w] - p * math.log(p) / 64 end end
          end
        end
      end
      for h = 1, 4 do
        near(r.by_head.attention[l][h], mean(first[h]), 1e-6, "attention")
        near(r.by_head.entropy[l][h], mean(entropies[h]), 1e-6, "entropy")
      end
      near(r.by_layer.sink_rate[l], above[l], 1e-9, "sink rate")
      near(r.by_layer.attention[l], mean(r.by_head.attention[l]), 1e-6)
      near(r.by_layer.entropy[l], mean(r.by_head.entropy[l]), 1e-6)
    end
    near(r.sink_rate, mean(above), 1e-9)
    assert(r.sink_rate > 0 and r.sink_rate < 1)
    assert.matches(("^sink rate %.4f: "):format(r.sink_rate):gsub("%.", "%%."), out)
    near(mean { r.windows[1].sink_rate, r.windows[2].sink_rate, r.windows[3].sink_rate }, r.sink_rate, 1e-9)
    near(r.by_key.sink_rate[1], r.sink_rate, 1e-6)
    near(r.by_key.attention[1], mean(r.by_layer.attention), 1e-6)
    assert.equal(64, #r.by_key.attention)
  end)

  it("names the massive tokens, with their share of attention and the norm of their values", function()
    local model = massact.load(default)
    local windows, share, ratio = windows_of(model, 64, 3), {}, {}
    for l = 1, model.n_layers do share[l], ratio[l] = 0, 0 end
    for w, ids in ipairs(windows) do
      local massive = r.windows[w].massive
      local found = require("massact.detect").detect(model, { ids })
      assert.equal(found.tokens[0] and 1 or 0, #massive)
      assert.same({ position = 0, id = model.tokenizer.bos, token = "<s>" }, massive[1])
      assert.same(massive[1], r.windows[w].first)
      local out_of = model:forward(ids, { capture = { "layers.*.attn.probs", "layers.*.attn.v" } })
      for l = 1, model.n_layers do
        local probs, v = out_of[("layers.%d.attn.probs"):format(l - 1)], out_of[("layers.%d.attn.v"):format(l - 1)]
        share[l] = share[l] + probs:select(-1, 0):mean():item() / 3
        local norms = v[0]:square():sum(-1):sqrt():t():totable() -- [G][T]
        for _, of_head in ipairs(norms) do
          local own = table.remove(of_head, 1)
          ratio[l] = ratio[l] + own / mean(of_head) / #norms / 3
        end
      end
    end
    for l = 1, model.n_layers do
      near(r.by_layer.massive_share[l], share[l], 1e-6, "share")
      near(r.by_layer.massive_value_ratio[l], ratio[l], 1e-5, "value ratio")
      near(r.by_layer.value_ratio[l], ratio[l], 1e-5, "value ratio of key 0")
    end
    assert.matches("massive: '<s>' at position 0, in 3 windows", out)
  end)

  it("writes tables and draws pictures, again without the model", function()
    local csv = shell.slurp(base(64) .. "sink_rate_by_head.csv")
    assert.equal(1 + r.n_layers * 4, select(2, csv:gsub("\n", "")))
    local layer, head, attention = csv:match "\n(%d+),(%d+),([^,]+),"
    assert.same({ "0", "0" }, { layer, head })
    near(tonumber(attention), r.by_head.attention[1][1], 1e-8)
    assert.equal(1 + 64, select(2, shell.slurp(base(64) .. "sink_rate_by_key.csv"):gsub("\n", "")))
    redraws("sink_rate", 64, { "sink_rate.png", "sink_rate_by_head.png" })
    says(sinks.figure(r), { "sink rate", "massive tokens", "Entropy of attention (nats)", "Key", "model" })
    says(sinks.heads_figure(r), { "Head", "Layer Number", "Mean attention to key 0", ("model: sink rate %.1f %%"):format(100 * r.sink_rate) })
  end)

  it("answers mistakes with one clear line", function()
    local status, _, err = shell.massact(("run %s/experiments/sink_rate.lua --epsilon 1 --save_dir %s"):format(massact.home, folder))
    assert.same({ 2, "massact: --epsilon must be between 0 and 1\n" }, { status, err })
  end)
end)

it("sinks leave a KV bias out of the keys, and say what it gets", function()
  local model = massact.create({ architectures = { "LlamaForCausalLM" }, hidden_size = 32, num_hidden_layers = 2, num_attention_heads = 4,
    num_key_value_heads = 2, intermediate_size = 48, vocab_size = 50, max_position_embeddings = 64, rms_norm_eps = 1e-5 },
    { std = 0.4, mitigations = { "kv_bias" } })
  local ids = {}
  for i = 1, 20 do ids[i] = i * 7 % 50 end
  local window = sinks.windows(model, { ids }, { label = "test" })[1]
  for l = 1, 2 do
    local probs, bias = model:forward(ids, { capture = "layers.*.attn.probs" })[("layers.%d.attn.probs"):format(l - 1)][0]:totable(), 0
    for h, rows in ipairs(probs) do
      assert.equal(21, #rows[1])
      near(window.first[l][h], alpha_of(rows)[1], 1e-6)
      for _, row in ipairs(rows) do bias = bias + row[1] / 80 end
    end
    near(window.bias[l], bias, 1e-6)
  end
  assert.equal(20, #window.by_key.attention)
end)

-- ---- kurtosis ----

describe("experiments/kurtosis.lua", function()
  local r

  it("has each layer's kurtoses, as whole tensors give them", function()
    r = run("kurtosis", 48, "--context_length 48 --calibration_windows 5")
    local model = massact.load(default)
    local windows = windows_of(model, 48, 5)
    local out = model:forward(windows, { capture = { "layers.*.out", "layers.*.attn.norm", "layers.*.mlp.norm" } })
    local counts = {}
    for l = 1, model.n_layers do
      local x = out[("layers.%d.out"):format(l - 1)]
      local rest, got = x:narrow(1, 1, 47), r.by_layer[l]
      local function moments(t) local rows = t:reshape(-1, t:size(-1)); return rows:square():mean(0), rows:mean(0) end
      near(got.token_first, statistics.token_kurtosis(x:narrow(1, 0, 1)):mean():item())
      near(got.token_rest, statistics.token_kurtosis(rest):mean():item())
      near(got.token, statistics.token_kurtosis(x):mean():item())
      near(got.sequence, statistics.token_kurtosis(x:reshape(5, -1)):mean():item())
      near(got.inf_norm, x:reshape(5, -1):abs():max(-1):mean():item())
      local squares, means = moments(x)
      near(got.neuron_rms, statistics.neuron_rms_kurtosis(squares))
      near(got.mean_activation, statistics.mean_activation_kurtosis(means), 1e-4)
      squares, means = moments(rest)
      near(got.neuron_rms_rest, statistics.neuron_rms_kurtosis(squares))
      near(got.mean_activation_rest, statistics.mean_activation_kurtosis(means), 1e-4)
      counts[l] = statistics.count_large(out[("layers.%d.attn.norm"):format(l - 1)]) + statistics.count_large(out[("layers.%d.mlp.norm"):format(l - 1)])
    end
    local function plain(list) return table.move(list, 1, #list, 1, {}) end
    assert.same(statistics.int8_outliers(counts, 2 * 5 * 48), plain(r.int8_outliers))
    local rows = out[("layers.%d.out"):format(model.n_layers - 1)]:narrow(1, 1, 47):reshape(5 * 47, -1)
    local dims, threshold = statistics.median_outliers(rows)
    assert.equal(5 * 47, r.median_outliers.positions)
    near(r.median_outliers.threshold, threshold)
    assert.equal(#dims, #r.median_outliers.dims)
    -- The planted model's first token is massive in one dim of 64.
    assert(r.by_layer[3].token_first > 50 and r.by_layer[3].token_rest < 5)
  end)

  it("writes tables and draws pictures, again without the model", function()
    local csv = shell.slurp(base(48) .. "kurtosis.csv")
    assert.matches("^layer,token,token_first,token_rest,sequence,neuron_rms,", csv)
    near(tonumber(csv:match "\n0,([^,]+),"), r.by_layer[1].token, 1e-8)
    assert.matches("^rule,dim,layers,positions,median\n", shell.slurp(base(48) .. "outlier_dims.csv"))
    redraws("kurtosis", 48, { "kurtosis.png" })
    says(require("massact.kurtosis").figure(r), { "token kurtosis, first token", "neuron-RMS kurtosis", "Without the first", "Kurtosis" })
  end)

  it("looks inside the layers where asked", function()
    local status, out, err = shell.massact(("run %s/experiments/kurtosis.lua --module_name mlp.act --context_length 48 --calibration_windows 2 --save_dir %s")
      :format(massact.home, folder))
    assert.same({ 0, "" }, { status, err })
    local inside = massact.json.load(folder .. "/model/model_mlp.act_model.layers_self_attn_48_True_True_42/kurtosis.json")
    local model = massact.load(default)
    local x = model:forward(windows_of(model, 48, 2), { capture = "layers.1.mlp.act" })["layers.1.mlp.act"]
    near(inside.by_layer[2].token, statistics.token_kurtosis(x):mean():item())
    assert.matches("token kurtosis", out)
  end)
end)

-- ---- overflow ----

-- A model whose massive activations are beyond f16: the last weight on their way times 200.
local function beyond()
  local path = folder .. "/beyond"
  os.execute(("mkdir -p %s && cp %s/*.json %s"):format(path, default, path))
  local tensors = massact.safetensors.load(default)
  tensors["model.layers.1.mlp.down_proj.weight"] = tensors["model.layers.1.mlp.down_proj.weight"]:float() * 200
  massact.safetensors.save(path .. "/model.safetensors", tensors)
  return path
end

describe("experiments/overflow.lua", function()
  it("has the largest magnitudes of each layer and point, and their tokens", function()
    local r, out = run("overflow", 64, "--context_length 64 --calibration_windows 3")
    local model = massact.load(default)
    local windows = windows_of(model, 64, 3)
    local captured = model:forward(windows, { capture = { "layers.*.out", "layers.*.mlp.act", "layers.*.attn.scores" } })
    for l = 0, model.n_layers - 1 do
      for _, point in ipairs { "out", "mlp.act", "attn.scores" } do
        local x, here = captured[("layers.%d.%s"):format(l, point)], r.by_point[point][l + 1]
        local most, at = 0, nil
        for i, v in ipairs(x:reshape(-1):totable()) do if v > -math.huge and math.abs(v) > most then most, at = math.abs(v), i - 1 end end
        near(math.abs(here.value), most, 1e-5, point)
        near(here.share, most / 65504, 1e-6)
        local shape = x:shape()
        if point ~= "attn.scores" then
          assert.same({ at // (64 * shape[3]), at // shape[3] % 64, at % shape[3] }, { here.window, here.position, here.dim })
        else
          assert.same({ at // (4 * 64 * 64), at // 64 % 64, at % 64 }, { here.window, here.position, here.dim })
        end
        assert.equal(windows[here.window + 1][here.position + 1], here.id)
        assert.same({ 0, 0 }, { here.over_f16, here.nonfinite })
      end
    end
    assert.equal("<s>", r.by_point.out[3].token)
    assert.matches("nothing would overflow", out)
    assert.equal(9 * r.n_layers, select(2, shell.slurp(base(64) .. "overflow.csv"):gsub("\n%d+,[%a._]+,", "")))
    redraws("overflow", 64, { "overflow.png", "overflow_by_layer.png" })
    says(overflow.shares_figure(r), { "mlp.act", "attn.scores", "Largest magnitude / 65504", "3" })
    says(overflow.figure(r), { "mlp.act", "f16", "Largest magnitude" })
  end)

  it("counts what would overflow, and what does in f16", function()
    local path = beyond()
    local r, out = run("overflow", 32, "--context_length 32 --calibration_windows 3 --points out,mlp.proj --pretrained " .. path, "beyond")
    local here = r.by_point.out[2]
    assert(math.abs(here.value) > 1e5 and here.share > 1)
    local model = massact.load(path)
    local x = model:forward(windows_of(model, 32, 3), { capture = "layers.1.out" })["layers.1.out"]
    assert.equal(statistics.overflows_f16(x), here.over_f16)
    assert(here.over_f16 >= 3)
    assert.same({ 0, 0 }, { r.by_point.out[1].over_f16, here.nonfinite })
    assert.matches(("layer 1: %d elements would overflow\n"):format(here.over_f16), out)
    r, out = run("overflow", 32, "--context_length 32 --calibration_windows 2 --points out --dtype f16 --pretrained " .. path, "beyond")
    here = r.by_point.out[2]
    assert.equal(nil, here.value)
    assert(here.nonfinite >= 2)
    assert.matches("out%s+not finite at layer", out)
    assert.matches("are not finite as it is", out)
  end)

  it("counts scores that no mask hides", function()
    local model = massact.load(default)
    local patch <close> = model:point("layers.1.attn.scores"):hook(function(x) x:set(0, 2, 5, 3, -7e4) end)
    local here = overflow.windows(model, windows_of(model, 32, 1), { "attn.scores" }, { label = "test" })[1]["layers.1.attn.scores"]
    assert.same({ -7e4, 5, 3, 1, 0 }, { here.value, here.position, here.dim, here.over_f16, here.nonfinite })
  end)

  it("answers mistakes with one clear line", function()
    local status, _, err = shell.massact(("run %s/experiments/overflow.lua --points out,mlp.atc --save_dir %s"):format(massact.home, folder))
    assert.same({ 2, "massact: --points mlp.atc: the layers of model have no such point; massact info lists them\n" }, { status, err })
  end)
end)
