-- The experiments on components from outside: their numbers against plain loops over captured points, on models that have massive
-- activations, parallel blocks, a learned key and value, and none of these.
package.path = os.getenv "MASSACT_TESTS" .. "/cli/?.lua;" .. package.path
local massact = require "massact"
local plot = require "massact.plot"
local shell = require "shell"

local root = os.getenv "MASSACT_TESTS"
local default = massact.home .. "/experiments/default/model"
local sentence = "A cat sat. It ran."

describe("the experiments on components", function()
  local folder = shell.folder()
  teardown(function() os.execute("rm -r " .. folder) end)

  -- A golden model with the default model's tokenizer, whose ids are those of bytes plus 3.
  local function with_tokenizer(name)
    local path = folder .. "/" .. name
    massact.system.make_folder(path)
    os.execute(("ln -s %s/golden/models/%s/config.json %s/golden/models/%s/model* %s/tokenizer*.json %s"):format(root, name, root, name, default, path))
    return path
  end

  -- The default model with one more key and value a head in each layer.
  local function with_learned_key()
    local path = folder .. "/learned"
    massact.system.make_folder(path)
    os.execute(("ln -s %s/tokenizer*.json %s"):format(default, path))
    local config, tensors = massact.json.load(default .. "/config.json"), massact.safetensors.load(default .. "/model.safetensors")
    config.attention_kv_bias = true
    local heads = config.num_attention_heads
    for l = 0, config.num_hidden_layers - 1 do
      for i, name in ipairs { "k_bias", "v_bias" } do
        tensors[("model.layers.%d.self_attn.%s"):format(l, name)] = massact.randn(1, heads, 1, config.hidden_size // heads, { seed = 10 * l + i })
      end
    end
    massact.json.save(path .. "/config.json", config)
    massact.safetensors.save(path .. "/model.safetensors", tensors)
    return path
  end

  local paths = { model = default, learned = with_learned_key() }
  for _, name in ipairs { "falcon-11b", "pythia", "olmo-2", "opt-350m", "mixtral", "gpt2", "gemma-3" } do paths[name] = with_tokenizer(name) end

  -- Runs an experiment: its results, the loaded model, a function that gives a point of a layer as nested tables, and what was printed.
  local function run(experiment, name, options)
    local status, out, complained = shell.run(("OMP_NUM_THREADS=1 %s run %s/experiments/%s.lua --pretrained %s --sentence '%s' --format pdf --save_dir %s/out %s"):format(
      shell.bin, massact.home, experiment, paths[name], sentence, folder, options or ""))
    assert.same({ 0, "" }, { status, complained }, experiment .. " on " .. name)
    local at = out:match "\n([^\n]*)/: [^\n]*\n$" or out:match "^([^\n]*)/: [^\n]*\n$"
    local r, model = massact.json.load(("%s/%s.json"):format(at, experiment)), massact.load(paths[name])
    local seen = {}
    local function point(layer, which)
      seen[which] = seen[which] or model:forward({ table.unpack(r.focus.sentence.ids) }, { capture = { "layers.*." .. which } })
      return seen[which][("layers.%d.%s"):format(layer, which)][0]:totable()
    end
    return r, model, point, out, at
  end

  -- ---- plain definitions ----

  local function in_set(list, x)
    for _, y in ipairs(list) do if x == y then return true end end
    return false
  end

  local function flat(t, into)
    into = into or {}
    for _, v in ipairs(t) do
      if type(v) == "table" then flat(v, into) else into[#into + 1] = v end
    end
    return into
  end

  local function length(v)
    local sum = 0
    for _, x in ipairs(v) do sum = sum + x * x end
    return math.sqrt(sum)
  end

  -- Largest and lower median |x| and mean length of some rows.
  local function size_of(rows, positions)
    local all, lengths = {}, 0
    for _, p in ipairs(positions) do
      local row = flat(rows[p + 1])
      lengths = lengths + length(row) / #positions
      for _, x in ipairs(row) do all[#all + 1] = math.abs(x) end
    end
    table.sort(all)
    return { max = all[#all], median = all[(#all + 1) // 2], norm = lengths }
  end

  local function near(want, got, what) assert.near(want, got, 2e-5 * math.max(1, math.abs(want)), what) end

  local function same_sizes(rows, focus, got, what)
    for kind, positions in pairs { massive = focus.positions, ordinary = focus.ordinary } do
      local want = size_of(rows, positions)
      for key, value in pairs(want) do near(value, got[kind][key], ("%s %s %s"):format(what, kind, key)) end
    end
  end

  -- What a close-up shows of a point: |x| at its dims, heads side by side, the largest entry among them.
  local function same_bars(rows, panel, what)
    local largest = 0
    for p, row in ipairs(rows) do
      row = flat(row)
      for i, dim in ipairs(panel.dims) do near(math.abs(row[dim + 1]), panel.values[p][i], what) end
      for _, x in ipairs(row) do largest = math.max(largest, math.abs(x)) end
    end
    near(largest, math.max(table.unpack(flat(panel.values))), what)
  end

  -- ---- which tokens ----

  it("look at the massive tokens and dims, and say so", function()
    local r, _, point, out = run("tokenwise", "model")
    assert.is_true(r.focus.is_massive)
    assert.same({ 0 }, { table.unpack(r.focus.positions) })
    assert.same({ 9 }, { table.unpack(r.focus.dims) })
    assert.same({ 1, 2 }, { table.unpack(r.focus.layers) })
    assert.equal("<s>", r.focus.sentence.tokens[1])
    assert.equal(r.bos.id, r.focus.sentence.ids[1])
    assert.near(point(1, "out")[1][10], r.focus.largest.value, 1e-3)
    assert.matches("massive activations in layers 1, 2, at positions [0] ['<s>'], in dims 9", out, 1, true)
  end)

  it("take the largest activation where none is massive, and say so", function()
    local r, model, point, out = run("tokenwise", "falcon-11b")
    local most = { value = 0 }
    for l = 0, model.n_layers - 1 do
      for p, row in ipairs(point(l, "out")) do
        for d, x in ipairs(row) do
          if math.abs(x) > math.abs(most.value) then most = { value = x, layer = l, position = p - 1, dim = d - 1 } end
        end
      end
    end
    assert.is_false(r.focus.is_massive)
    for _, key in ipairs { "layer", "position", "dim" } do assert.equal(most[key], r.focus.largest[key]) end
    assert.same({ { most.position }, { most.dim }, most.layer },
      { { table.unpack(r.focus.positions) }, { table.unpack(r.focus.dims) }, r.focus.first_layer })
    assert.matches("no massive activations in this sentence; its largest activation stands in", out, 1, true)
  end)

  -- ---- each experiment ----

  it("tokenwise: magnitudes by token and dim, the massive dims and each layer's largest among them", function()
    local r, _, point, _, at = run("tokenwise", "model", "--dims 12")
    assert.equal(12, #r.dims)
    assert.is_true(in_set(r.dims, 9))
    for l, values in ipairs(r.layers) do
      local x, largest = point(l - 1, "out"), 0
      for p, row in ipairs(values) do
        for i, value in ipairs(row) do
          near(math.abs(x[p][r.dims[i] + 1]), value)
          largest = math.max(largest, value)
        end
      end
      near(size_of(x, { 0, table.unpack(r.focus.ordinary) }).max, largest)
    end
    assert.equal(1 + r.n_layers * #r.focus.sentence.ids * 12, select(2, shell.slurp(at .. "/tokenwise.csv"):gsub("\n", "")))
    local mlp = run("tokenwise", "model", "--module_name mlp --dims 0")
    assert.equal("mlp.proj", mlp.point)
    assert.equal(64, #mlp.dims)
  end)

  it("self_attention: the mean over heads of scores or probabilities, of a learned key too", function()
    for name, has_extra in pairs { model = false, learned = true, ["gemma-3"] = false } do
      for flag, which in pairs { True = "attn.scores", False = "attn.probs" } do
        local r, model, point = run("self_attention", name, "--show_logits " .. flag)
        for l, layer in ipairs(r.layers) do
          local x = point(l - 1, which)
          local sum
          for q, row in ipairs(layer.rows) do
            assert.equal(q, #row)
            sum = has_extra and layer.extra_kv[q] or 0
            for k, value in ipairs(row) do
              local want = 0
              for h = 1, model.spec.n_heads do want = want + x[h][q][k + (has_extra and 1 or 0)] / model.spec.n_heads end
              if want == -math.huge then assert.equal(massact.null, value) else near(want, value); sum = sum + value end
            end
            if flag == "False" then near(1, sum) end
          end
        end
      end
    end
  end)

  it("attention_trajectory: what the tokens behind give to the massive ones", function()
    for name, first in pairs { model = 0, learned = 1, pythia = 0 } do
      local r, model, point = run("attention_trajectory", name)
      local T, heads, focus = #r.focus.sentence.ids, model.spec.n_heads, r.focus
      for l, layer in ipairs(r.layers) do
        local x = point(l - 1, "attn.probs")
        for p = 0, T - 1 do
          local sum = 0
          for h = 1, heads do
            for q = p + 1, T - 1 do sum = sum + x[h][q + 1][first + p + 1] / heads / (T - 1 - p) end
          end
          if p == T - 1 then assert.equal(massact.null, layer.tokens[T]) else near(sum, layer.tokens[p + 1]) end
        end
        local massive, extra = 0, 0
        for h = 1, heads do
          for _, q in ipairs(r.queries) do
            assert.is_true(q > focus.positions[1])
            for _, p in ipairs(focus.positions) do massive = massive + x[h][q + 1][first + p + 1] / heads / #r.queries end
            extra = extra + x[h][q + 1][1] / heads / #r.queries
          end
        end
        near(massive, layer.massive.mean)
        if first == 1 then near(extra, layer.extra_kv) end
        near(1, layer.massive.mean + layer.others + (layer.extra_kv or 0))
      end
    end
  end)

  it("attention_decomposition: value updates of the massive tokens, of the learned key and of the rest, which sum to the output", function()
    for _, name in ipairs { "model", "learned", "falcon-11b", "pythia", "gpt2", "opt-350m" } do
      local r, model, point = run("attention_decomposition", name)
      local heads, groups = model.spec.n_heads, model.spec.n_kv_heads
      for l, layer in ipairs(r.layers) do
        assert.is_true(layer.error < 1e-5, name)
        local probs, values = point(l - 1, "attn.probs"), point(l - 1, "attn.v")
        local weight = model:weight(("layers.%d.attn.proj.weight"):format(l - 1)):float():reshape(model.d_model, heads, -1):totable()
        local first, d_head = name == "learned" and 1 or 0, #values[1][1]
        -- The value update of some keys at a query: W sum p v.
        local function update(q, keys)
          local z, term = {}, {}
          for h = 1, heads do
            local g = (h - 1) // (heads // groups) + 1
            z[h] = {}
            for j = 1, d_head do
              z[h][j] = 0
              for _, p in ipairs(keys) do z[h][j] = z[h][j] + probs[h][q + 1][first + p + 1] * values[p + 1][g][j] end
            end
          end
          for d = 1, model.d_model do
            term[d] = 0
            for h = 1, heads do
              for j = 1, d_head do term[d] = term[d] + weight[d][h][j] * z[h][j] end
            end
          end
          return term
        end
        local constant, lengths = {}, 0
        for i, q in ipairs(r.queries) do
          local massive, rest = update(q, r.focus.positions), update(q, r.focus.ordinary)
          for d, x in ipairs(massive) do constant[d] = (constant[d] or 0) + x / #r.queries end
          near(length(massive), layer.massive.by_query[i], name)
          near(length(rest), layer.rest.by_query[i], name)
          lengths = lengths + length(massive) / #r.queries
        end
        near(lengths, layer.massive.norm)
        if #r.queries > 1 then near(length(constant) / lengths, layer.massive.constancy) else assert.equal(massact.null, layer.massive.constancy) end
        local shares = 0
        for _, term in ipairs { "massive", "rest", "extra_kv", "bias" } do shares = shares + (layer[term] and layer[term].share or 0) end
        near(1, shares)
        assert.equal(name == "learned", layer.extra_kv ~= nil)
      end
    end
  end)

  it("layernorm: sizes before each norm, and after it as the norm's formula has them", function()
    for _, name in ipairs { "model", "falcon-11b", "pythia", "olmo-2", "opt-350m", "gpt2" } do
      local r, model, point = run("layernorm", name)
      local s = model.spec
      for l, layer in ipairs(r.layers) do
        for i, norm in ipairs(r.norms) do
          local x = point(l - 1, norm.into[1])
          for k = 2, #norm.into do
            for p, row in ipairs(point(l - 1, norm.into[k])) do
              for d, value in ipairs(row) do x[p][d] = x[p][d] + value end
            end
          end
          same_sizes(x, r.focus, layer.norms[i].before, name .. " before " .. norm.name)
          local after = (norm.out == "mid" and "attn.norm" or norm.out == "out" and "mlp.norm"
            or norm.out:gsub("%.out$", ".norm_after")):gsub("^mlp.norm$", s.shared_norm and "attn.norm" or "mlp.norm")
          local slot = ("layers.%d.%s"):format(l - 1, after)
          local weight = model:weight(slot .. ".weight"):float():totable()
          local bias = model.weights[slot .. ".bias"] and model.weights[slot .. ".bias"]:float():totable()
          for _, row in ipairs(x) do
            local mean, variance = 0, 0
            if s.norm == "layer" then for _, value in ipairs(row) do mean = mean + value / #row end end
            for _, value in ipairs(row) do variance = variance + (value - mean) ^ 2 / #row end
            for d, value in ipairs(row) do
              row[d] = (value - mean) / math.sqrt(variance + (s.norm_eps or 1e-5)) * (weight[d] + (s.norm_offset or 0)) + (bias and bias[d] or 0)
            end
          end
          same_sizes(x, r.focus, layer.norms[i].after, name .. " after " .. norm.name)
        end
      end
    end
    -- What the planted model is for: a norm flattens the massive token.
    local r, _, point = run("layernorm", "model")
    local norm = r.layers[3].norms[1]
    for i, which in ipairs { "in", "attn.norm", "mid", "mlp.norm" } do same_bars(point(2, which), r.close_up.panels[i], which) end
    assert.is_true(norm.before.massive.max > 100 * norm.after.massive.max)
    assert.equal(2, r.close_up.layer)
    assert.equal(4, #r.close_up.panels)
    assert.equal(0, run("layernorm", "model", "--layer 0").close_up.layer)
  end)

  it("mlp: what attention and MLP add to the massive entry, and the sizes inside", function()
    for _, name in ipairs { "model", "falcon-11b", "mixtral", "olmo-2" } do
      local r, _, point, out = run("mlp", name)
      local steps = {}
      for l, layer in ipairs(r.layers) do
        for key, sizes in pairs(layer.sizes) do same_sizes(point(l - 1, key), r.focus, sizes, name .. " " .. key) end
        assert.equal(name == "mixtral", layer.sizes["mlp.act"] == nil)
        assert.equal(#r.focus.positions * #r.focus.dims, #layer.writes)
        for _, w in ipairs(layer.writes) do
          near(w.out, w["in"] + w.attention + w.mlp)
          near(point(l - 1, "mlp.out")[w.position + 1][w.dim + 1], w.mlp)
          near(point(l - 1, "out")[w.position + 1][w.dim + 1], w.out)
          for _, part in ipairs { "attention", "mlp" } do steps[#steps + 1] = { l - 1, part, w[part] } end
        end
      end
      table.sort(steps, function(a, b) return math.abs(a[3]) > math.abs(b[3]) end)
      local panels = name == "mixtral" and { "mlp.norm", "mlp.out" } or { "mlp.norm", "mlp.act", "mlp.out" }
      assert.equal(#panels, #r.close_up.panels)
      for i, which in ipairs(panels) do same_bars(point(r.close_up.layer, which), r.close_up.panels[i], name .. " " .. which) end
      assert.matches(("the largest step is %s's in layer %d: %.4g"):format(steps[1][2] == "mlp" and "the MLP" or "attention", steps[1][1], steps[1][3]), out, 1, true)
    end
  end)

  it("qkv: sizes of queries, keys and values, and the scores that keys get", function()
    for name, first in pairs { model = 0, learned = 1, pythia = 0, ["gemma-3"] = 0 } do
      local r, model, point = run("qkv", name)
      for l, layer in ipairs(r.layers) do
        for key, sizes in pairs(layer.sizes) do same_sizes(point(l - 1, key), r.focus, sizes, name .. " " .. key) end
        assert.is_truthy(layer.sizes["attn.q"] and layer.sizes["attn.k"] and layer.sizes["attn.v"] and layer.sizes["attn.norm"])
        local x = point(l - 1, "attn.scores")
        for kind, keys in pairs { massive = r.focus.positions, ordinary = r.focus.ordinary } do
          local sum, n = 0, 0
          for h = 1, model.spec.n_heads do
            for _, q in ipairs(r.focus.ordinary) do
              for _, k in ipairs(q > r.focus.positions[1] and keys or {}) do
                local score = x[h][q + 1][first + k + 1]
                if score > -math.huge then sum, n = sum + score, n + 1 end
              end
            end
          end
          near(sum / n, layer.scores[kind], name .. " " .. kind)
        end
      end
      for i, which in ipairs { "attn.norm", "attn.q", "attn.k", "attn.v" } do
        same_bars(point(r.close_up.layer, which), r.close_up.panels[i], name .. " " .. which)
      end
    end
  end)

  it("write the same numbers as tables", function()
    local wanted = {
      self_attention = { "self_attention", "layer,query,key,value,query_token,key_token", function(r)
        return ("1,2,1,%.9g,%s,%s"):format(r.layers[2].rows[3][2], r.focus.sentence.tokens[3], r.focus.sentence.tokens[2]) end },
      tokenwise = { "tokenwise", "layer,position,dim,magnitude,token", function(r) return ("1,0,%d,%.9g,<s>"):format(r.dims[3], r.layers[2][1][3]) end },
      attention_trajectory = { "attention_trajectory", "layer,position,token,received", function(r) return ("1,extra_kv,,%.9g"):format(r.layers[2].extra_kv) end },
      attention_decomposition = { "attention_decomposition", "layer,term,mean_length,share,constancy", function(r)
        local term = r.layers[2].rest
        return ("1,rest,%.9g,%.9g,%.9g"):format(term.norm, term.share, term.constancy) end },
      layernorm = { "layernorm", "layer,norm,point,tokens,max,median,mean_length", function(r)
        local size = r.layers[2].norms[2].after.massive
        return ("1,MLP norm,after,massive,%.9g,%.9g,%.9g"):format(size.max, size.median, size.norm) end },
      mlp = { "mlp_writes", "layer,position,dim,in,attention,mlp,out", function(r)
        local w = r.layers[2].writes[1]
        return ("1,%d,%d,%.9g,%.9g,%.9g,%.9g"):format(w.position, w.dim, w["in"], w.attention, w.mlp, w.out) end },
      qkv = { "qkv_scores", "layer,massive,ordinary,extra_kv", function(r)
        local scores = r.layers[2].scores
        return ("1,%.9g,%.9g,%.9g"):format(scores.massive, scores.ordinary, scores.extra_kv) end },
    }
    for experiment, want in pairs(wanted) do
      local r, _, _, out, at = run(experiment, "learned")
      local text = shell.slurp(("%s/%s.csv"):format(at, want[1]))
      assert.equal(want[2], text:match "^[^\n]*")
      assert.matches("\n" .. want[3](r) .. "\n", text, 1, true)
      assert.matches(want[1] .. ".csv", out, 1, true)
    end
  end)

  -- ---- pictures, messages ----

  it("are drawn again in another format without the model, with the tokens as labels", function()
    local pictures = { self_attention = { "self_attention" }, tokenwise = { "output_feature_tokenwise" }, attention_trajectory = { "attention_trajec" },
      attention_decomposition = { "attention_output_decomposition" }, layernorm = { "layernorm", "layernorm_by_layer" }, mlp = { "mlp", "mlp_by_layer" },
      qkv = { "qkv", "qkv_by_layer" } }
    for experiment, names in pairs(pictures) do
      local _, _, _, _, at = run(experiment, "learned")
      for format, begins in pairs { svg = "^<%?xml", pdf = "^%%PDF", png = "^\137PNG" } do
        if format ~= "pdf" then assert.equal(0, (shell.massact(("run %s/experiments/%s.lua --format %s --redraw %s"):format(massact.home, experiment, format, at)))) end
        for _, name in ipairs(names) do assert.matches(begins, shell.slurp(("%s/%s.%s"):format(at, name, format)), name) end
      end
    end
    local r = run("self_attention", "learned")
    local texts = table.concat(plot.texts(require("massact.component_plots").attention(r)), "\n")
    for _, text in ipairs { "<s>", "extra_kv", "Layer 0", "Layer 3", "Query", "Key" } do assert.matches(text, texts, 1, true) end
  end)

  it("compute in 16 bits as well, for sentences of a token or two", function()
    sentence = "A"
    for _, experiment in ipairs { "self_attention", "tokenwise", "attention_trajectory", "attention_decomposition", "layernorm", "mlp", "qkv" } do
      run(experiment, "model", "--dtype bf16")
      if experiment ~= "attention_decomposition" then run(experiment, "model", "--add_bos_token False") end
    end
    sentence = "A cat sat. It ran."
  end)

  it("say what is wrong with a command line", function()
    for words, message in pairs {
      ["qkv --layer 4"] = "^massact: %-%-layer 4: model has layers 0 to 3\n$",
      ["mlp --module_name mlp.act"] = "^massact: %-%-module_name mlp.act: .*residual stream",
      ["tokenwise --dims -1"] = "^massact: %-%-dims ",
    } do
      local name, options = words:match "^(%S+) (.*)$"
      local status, _, complained = shell.massact(("run %s/experiments/%s.lua --save_dir %s/out %s"):format(massact.home, name, folder, options))
      assert.equal(2, status, words)
      assert.matches(message, complained)
    end
    local status, _, complained = shell.massact(("run %s/experiments/attention_decomposition.lua --sentence A --add_bos_token False --save_dir %s/out"):format(
      massact.home, folder))
    assert.equal(1, status)
    assert.matches("^massact: .*%-%-sentence: no token stands behind", complained)
  end)
end)
