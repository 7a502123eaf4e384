-- The paper's experiments on a real model (SmolLM2-135M, Q4_1): the numbers that the paper's own algorithm gives in
-- PyTorch.  Takes minutes and needs the folder that MASSACT_SHARED names.
local massact = require "massact"
local shared, bin = os.getenv "MASSACT_SHARED", os.getenv "MASSACT_BIN"
if not shared or not massact.system.exists(shared .. "/reference/smollm2/smollm2.json") then
  print "skipped: everything (MASSACT_SHARED names no folder with reference/smollm2)"
  os.exit(0, true)
end
local reference = massact.json.load(shared .. "/reference/smollm2/smollm2.json")

local function plain(list) return table.move(list, 1, #list, 1, {}) end

local function near(expected, got, tolerance, what)
  local e = math.abs(got - expected) / math.abs(expected)
  assert(e <= tolerance, ("%s: %g instead of %g"):format(what, got, expected))
end

-- The results of an experiment, with or without BOS, on the model and texts of the reference.
local function results(experiment, bos, options)
  local folder = os.tmpname()
  os.remove(folder)
  massact.system.make_folder(folder)
  local command = ("%s run %s/experiments/%s.lua --pretrained %s/models/SmolLM2-135M-Instruct.Q4_1.gguf "
    .. "--data %s/data/wikitext-2-raw-test.txt --calibration_data %s/data/tinyshakespeare.txt --context_length 512 "
    .. "--add_bos_token %s --save_dir %s %s >/dev/null"):format(bin, massact.home, experiment, shared, shared, shared,
    tostring(bos == "bos"), folder, options)
  assert(os.execute(command))
  local name = "SmolLM2-135M-Instruct.Q4_1"
  local r = massact.json.load(("%s/%s/%s_layer_model.layers_self_attn_512_%s_True_42/results.json"):format(
    folder, name, name, bos == "bos" and "True" or "False"))
  os.execute("rm -r " .. folder)
  return r
end

for _, bos in ipairs { "bos", "no_bos" } do
  describe("existence on SmolLM2, " .. bos, function()
    local expected, r = reference[bos].existence, results("existence", bos, "")

    it("lists the same layers, with means of maxima and medians within 0.1 %", function()
      assert.same(plain(expected.massive_layers), plain(r.massive_layers))
      assert.equal(#expected.mean_max, #r.mean_max)
      for l, max in ipairs(expected.mean_max) do
        near(max, r.mean_max[l], 1e-3, "maximum of layer " .. l - 1)
        near(expected.mean_median[l], r.mean_median[l], 1e-3, "median of layer " .. l - 1)
      end
    end)
  end)

  describe("top_activation on SmolLM2, " .. bos, function()
    local expected, r = reference.sentence[bos], results("top_activation", bos, "")

    it("has the sentence's ids, loss, largest three and medians", function()
      assert.same(plain(expected.ids), plain(r.sentence.ids))
      near(expected.loss, r.loss, 1e-4, "loss")
      for l, layer in ipairs(expected.layers) do
        near(layer.median, r.layers[l].median, 1e-3, "median of layer " .. l - 1)
        for i, top in ipairs(layer.top3) do
          local got = r.layers[l].top[i]
          assert.same({ top[2], top[3] }, { got.position, got.dim })
          near(top[1], math.abs(got.value), 1e-3, "magnitude in layer " .. l - 1)
        end
      end
    end)
  end)

  describe("intervention on SmolLM2, " .. bos, function()
    local expected = reference[bos]
    local r = results("intervention", bos, "--windows 32 --calibration_windows 16 --mean_windows 32")

    it("finds the same first layer, dims, positions and tokens", function()
      assert.equal(expected.tokens.first_layer, r.first_layer)
      assert.same(plain(expected.tokens.dims), plain(r.dims))
      for i, positions in ipairs(expected.test_positions.positions_first_4_windows) do
        assert.same(plain(positions), plain(r.positions["wikitext-2-raw-test"][i]))
      end
      local starting, others = 0, 0
      for _, positions in ipairs(r.positions["wikitext-2-raw-test"]) do
        local first = positions[1] == 0
        starting = starting + (first and 1 or 0)
        others = others + ((#positions > (first and 1 or 0)) and 1 or 0)
      end
      assert.equal(expected.test_positions.windows_with_starting, starting)
      assert.equal(expected.test_positions.windows_with_nonstarting, others)
      for position, tokens in pairs(expected.tokens.unique_tokens) do
        local got = plain(r.tokens[position])
        table.sort(got)
        local want = plain(tokens)
        table.sort(want)
        assert.same(want, got)
      end
    end)

    it("finds the same layers, positions and dims in each of the first windows", function()
      for i, window in ipairs(expected.tokens.first_windows) do
        local got = {}
        for _, at in ipairs(r.by_window[i]) do
          got[tostring(at.layer)] = { positions = plain(at.positions), dims = plain(at.dims) }
        end
        local want = {}
        for layer, at in pairs(window) do want[layer] = { positions = plain(at.positions), dims = plain(at.dims) } end
        assert.same(want, got)
      end
    end)

    it("finds magnitudes and means within 0.1 %", function()
      for position, dims in pairs(expected.tokens.magnitude_at_first_layer) do
        for dim, m in pairs(dims) do
          near(m.avg, r.magnitude_at_first_layer[position][dim].avg, 1e-3, "magnitude")
          assert.equal(m.n, r.magnitude_at_first_layer[position][dim].n)
        end
      end
      for layer, kinds in pairs(expected.means) do
        for kind, dims in pairs(kinds) do
          for dim, mean in pairs(dims) do near(mean, r.means[layer][kind][dim], 1e-3, "mean") end
        end
      end
    end)

    it("has every perplexity within 0.2 %", function()
      for key, perplexity in pairs(expected.perplexity) do
        near(perplexity, r.perplexity[key]["wikitext-2-raw-test"], 2e-3, key)
      end
      for i, loss in ipairs(expected.loss_per_window_zero) do
        near(loss, r.losses["wikitext-2-raw-test"].set_to_zero[i], 2e-3, "loss of window " .. i)
      end
      assert(r.timings.peak_memory_bytes < 1e9, "peak memory")
    end)
  end)
end
