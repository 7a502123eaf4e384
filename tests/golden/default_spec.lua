-- The embedded default model against PyTorch and transformers (float32): its perplexities, and where its planted
-- activation meets the criterion.
local massact = require "massact"
local folder = massact.home .. "/experiments/default/"

-- LlamaForCausalLM, 37 windows of BOS and 255 bytes of text.txt, dim 9 of position 0 edited after layer 1.
local expected = { original = 8.42562619764481, zero = 190.0468430431799, mean = 8.42562619764481 }

describe("the embedded default model", function()
  local model = massact.load(folder .. "model")
  local text = massact.data.read(folder .. "text.txt")
  local windows = massact.data.windows(model.tokenizer, text, { length = 256, bos = true })

  it("gives the reference's perplexity as it is, without its activation, and with its mean", function()
    assert.equal(37, #windows)
    local function same(name, edit)
      local patch <close> = edit and model:point("layers.1.out"):patch { positions = { 0 }, dims = { 9 }, to = edit }
      local relative = massact.perplexity(model, windows) / expected[name] - 1
      assert(math.abs(relative) <= 1e-4, ("%s is off by %g"):format(name, relative))
    end
    same("original")
    same("zero", 0)
    same("mean", 900)
  end)

  it("is massive at BOS in the outputs of layers 1 and 2, and nowhere else", function()
    local probe <close> = model:point("layers.*.out"):probe({ "median" }, { entries = { above = 100, ratio = 1000 } })
    model:forward { windows[1], windows[2] }
    for layer = 0, model.n_layers - 1 do
      for b = 1, 2 do
        local found = {}
        for _, e in ipairs(probe[("layers.%d.out"):format(layer)][b].entries) do found[#found + 1] = { e.position, e.dim } end
        assert.same((layer == 1 or layer == 2) and { { 0, 9 } } or {}, found)
      end
    end
  end)
end)

describe("the trained model beside it", function()
  it("has the magnitudes by layer that its README tells, in the dim that it tells", function()
    local model = massact.load(folder .. "trained.gguf")
    local text = massact.data.read(folder .. "calibration.txt")
    local windows = massact.data.windows(model.tokenizer, text, { length = 128, bos = true, limit = 10 })
    local probe <close> = model:point("layers.*.out"):probe { "max", "median", "top1" }
    model:forward(windows)
    for l, told in ipairs { { 79.3, 0.79 }, { 125.8, 0.93 }, { 230.2, 1.04 } } do
      local max, median = 0, 0
      for b = 1, #windows do
        local seen = probe[("layers.%d.out"):format(l - 1)][b]
        max, median = max + seen.max / #windows, median + seen.median / #windows
        if l == model.n_layers then assert.equal(1491, seen.top[1].dim) end
      end
      assert(math.abs(max / told[1] - 1) < 0.01 and math.abs(median / told[2] - 1) < 0.01, ("layer %d: %g, %g"):format(l - 1, max, median))
    end
  end)
end)
