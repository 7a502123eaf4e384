-- Tokens as a reader sees them.
local massact = require "massact"
local token_text = require "massact.token_text"

-- A tokenizer as far as the texts need it.
local function tokenizer(spelled, decoded, special)
  return { token = function() return spelled end, decode = function() return decoded end, is_special = function() return special end }
end

describe("token_text", function()
  it("keeps the leading space, whichever way the vocabulary spells it", function()
    assert.equal(" Winter", token_text.text(tokenizer("▁Winter", "Winter"), 0))
    assert.equal(" Winter", token_text.text(tokenizer("ĠWinter", " Winter"), 0))
  end)

  it("shows bytes that are no character by their numbers, and the others as what they are", function()
    assert.equal("<0xE4><0xBD>", token_text.text(tokenizer("ä½", "\u{FFFD}"), 0))
    assert.equal("<0xE4>", token_text.text(tokenizer("<0xE4>", "\u{FFFD}"), 0))
    assert.equal("A", token_text.text(tokenizer("<0x41>", "A"), 0))
    assert.equal("你", token_text.text(tokenizer("ä½ł", "你"), 0))
  end)

  it("spells control characters, which a terminal would obey", function()
    assert.equal("a\\n\\t\\x00\\x1b[2J\\x7f é", token_text.escaped "a\n\t\0\27[2J\127 é")
    assert.equal("['\\\\n', '\\n', '\\x1b']", require("massact.paper").quoted { "\\n", "\n", "\27" })
  end)

  it("spells special tokens as the vocabulary does, and unused ids by number", function()
    assert.equal("<s>", token_text.text(tokenizer("<s>", "", true), 1))
    assert.equal("<7>", token_text.text(tokenizer(nil, ""), 7))
  end)

  it("reads the default model's tokens", function()
    local t = massact.tokenizer.load(massact.home .. "/experiments/default/model")
    assert.same({ "<s>", "a", "\n", "<0xC3>" }, token_text.list(t, { 1, t:id "<0x61>", t:id "<0x0A>", t:id "<0xC3>" }))
  end)
end)
