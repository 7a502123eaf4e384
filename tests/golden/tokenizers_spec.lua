-- Every tokenizer under tests/golden/tokenizers gives the ids and the texts that Hugging Face's gives.
local massact = require "massact"
local folder = os.getenv "MASSACT_TESTS" .. "/golden/tokenizers"

for _, name in ipairs(massact.system.list(folder)) do
  describe("golden tokenizer " .. name, function()
    local tokenizer = massact.tokenizer.load(folder .. "/" .. name)
    local data = massact.json.load(folder .. "/" .. name .. "/cases.json")

    it("encodes and decodes every text", function()
      local n = 0
      for _, case in ipairs(data.cases or data) do
        assert.same(case.ids, setmetatable(tokenizer:encode(case.text), getmetatable(case.ids)), case.text)
        assert.same(case.ids_special, setmetatable(tokenizer:encode(case.text, { special = true }), getmetatable(case.ids_special)))
        assert.equal(case.decoded, tokenizer:decode(case.ids))
        assert.equal(case.decoded_skip, tokenizer:decode(case.ids_special, { skip_special = true }))
        if case.decoded_special then assert.equal(case.decoded_special, tokenizer:decode(case.ids_special)) end
        n = n + 1
      end
      assert(n > 50)
    end)

    it("decodes ids that no text gives", function()
      for _, case in ipairs(data.decode or {}) do
        assert.equal(case.decoded, tokenizer:decode(case.ids))
        assert.equal(case.decoded_skip, tokenizer:decode(case.ids, { skip_special = true }))
      end
    end)
  end)
end

describe("a tokenizer", function()
  local tokenizer = massact.tokenizer.load(folder .. "/gpt2")

  it("refuses text that is not UTF-8, with the place", function()
    local fine, message = pcall(tokenizer.encode, tokenizer, "good \xFF bad")
    assert.is_false(fine)
    assert.matches("not UTF%-8: byte 0xFF at offset 5", message)
  end)

  it("takes empty text and a megabyte without a blank", function()
    assert.equal(0, #tokenizer:encode "")
    assert.equal(1 << 20, #tokenizer:decode(tokenizer:encode(("x"):rep(1 << 20))))
  end)

  it("refuses ids outside the vocabulary", function()
    assert.is_false(pcall(tokenizer.decode, tokenizer, { 1 << 20 }))
  end)
end)
