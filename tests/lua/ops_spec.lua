-- Every operation against plain loops over Lua numbers (f64), on odd shapes, on views of every kind, in every dtype that it
-- takes, with NaN, infinities and -0.  The last tests walk core/tensor/ops.def and the methods: one without a case fails.
local massact = require "massact"

local nan, inf = 0 / 0, math.huge

-- ---- rounding, as IEEE 754 has it ----

local function round_f32(x) return (string.unpack("<f", string.pack("<f", x))) end

-- To `bits` significant bits (ties to even), exponents from `least` on, infinity from `limit` on.
local function round_to(x, bits, least, limit)
  if x ~= x or x == 0 or x == inf or x == -inf then return x end
  local magnitude = math.abs(x)
  local exponent = math.max(math.floor(math.log(magnitude, 2)), least)
  if exponent > least and 2.0 ^ exponent > magnitude then exponent = exponent - 1 end
  if 2.0 ^ (exponent + 1) <= magnitude then exponent = exponent + 1 end
  local step = 2.0 ^ (exponent - bits + 1)
  local units = magnitude / step
  local whole = math.floor(units)
  if units - whole > 0.5 or (units - whole == 0.5 and whole % 2 == 1) then whole = whole + 1 end
  local rounded = whole * step
  if rounded >= limit then rounded = inf end
  return x < 0 and -rounded or rounded
end

local function saturate(low, high)
  return function(x)
    if x ~= x then return 0 end
    x = math.max(low, math.min(high, x))
    return x < 0 and math.ceil(x) or math.floor(x)
  end
end

local rounding = {
  f32 = round_f32,
  f16 = function(x) return round_to(round_f32(x), 11, -14, 65536) end,
  bf16 = function(x) return round_to(round_f32(x), 8, -126, 2.0 ^ 128) end,
  i32 = saturate(-2 ^ 31, 2 ^ 31 - 1), i64 = saturate(-2.0 ^ 63, 2.0 ^ 63 - 1024), u8 = saturate(0, 255),
}
local smallest_normal = { f32 = 2e-38, f16 = 6.2e-5, bf16 = 2e-38, i32 = 0, i64 = 0, u8 = 0 }
local unit = { f32 = 2 ^ -23, f16 = 2 ^ -10, bf16 = 2 ^ -7, i32 = 0, i64 = 0, u8 = 0 }
local floats = { "f32", "f16", "bf16" }
local all = { "f32", "f16", "bf16", "i32", "i64", "u8" }
local is_float = { f32 = true, f16 = true, bf16 = true }

-- ---- data ----

-- Entries by name, so that every run draws the same numbers for the same case.
local function in_order(t)
  local names, i = {}, 0
  for name in pairs(t) do names[#names + 1] = name end
  table.sort(names)
  return function()
    i = i + 1
    return names[i], t[names[i]]
  end
end

-- A reproducible stream of numbers in [-1, 1).
local seed = tonumber(os.getenv "SEED" or 1) -- another one tries other numbers
local function uniform()
  seed = (seed * 1103515245 + 12345) % 2 ^ 31
  return seed / 2 ^ 30 - 1
end

local specials = { 0, -0.0, nan, inf, -inf, 1, -1, 0.5, 1e-3, -2.5, 65504, 3.5 }

local function product(shape)
  local n = 1
  for _, size in ipairs(shape) do n = n * size end
  return n
end

-- Flat values for a shape: numbers of moderate size, in `with_specials` also the odd ones.
local function numbers(shape, dtype, with_specials)
  local values = {}
  for i = 1, product(shape) do
    local x = uniform() * 4
    if not is_float[dtype] then
      x = dtype == "u8" and math.floor(math.abs(x) * 60) or math.floor(x * 50)
    elseif with_specials and i % 3 == 0 then
      x = specials[i // 3 % #specials + 1]
    end
    values[i] = rounding[dtype](x)
  end
  return values
end

local function nest(values, shape, dim, at)
  if #shape == 0 then return values[1] end
  dim, at = dim or 1, at or { 0 }
  local list = {}
  for i = 1, shape[dim] do
    if dim == #shape then
      at[1] = at[1] + 1
      list[i] = values[at[1]]
    else
      list[i] = nest(values, shape, dim + 1, at)
    end
  end
  return list
end

local function flatten(value, flat)
  flat = flat or {}
  if type(value) ~= "table" then flat[#flat + 1] = value
  else for _, item in ipairs(value) do flatten(item, flat) end end
  return flat
end

local function contiguous(values, shape, dtype)
  if product(shape) == 0 then return massact.zeros(shape, { dtype = dtype }) end
  return massact.tensor(nest(values, shape), dtype)
end

local function reversed(list)
  local out = {}
  for i = #list, 1, -1 do out[#out + 1] = list[i] end
  return out
end

-- Ways to lay the same elements out in memory; each gives a tensor of `shape`, or nil where it cannot.
local layouts = {
  contiguous = function(values, shape, dtype) return contiguous(values, shape, dtype) end,
  transposed = function(values, shape, dtype)
    if #shape < 2 then return nil end
    local order = {}
    for i = 1, #shape do order[i] = #shape - i end
    return massact.zeros(reversed(shape), { dtype = dtype }):permute(order):copy_(contiguous(values, shape, dtype))
  end,
  narrowed = function(values, shape, dtype)
    if #shape == 0 then return nil end
    local larger = {}
    for i, size in ipairs(shape) do larger[i] = size + 3 end
    local t = massact.full(larger, 77, { dtype = dtype })
    for i, size in ipairs(shape) do t = t:narrow(i - 1, 2, size) end
    return t:copy_(contiguous(values, shape, dtype))
  end,
  stepped = function(values, shape, dtype)
    local larger = { table.unpack(shape) }
    larger[#larger + 1] = 3
    return massact.full(larger, 77, { dtype = dtype }):select(-1, 1):copy_(contiguous(values, shape, dtype))
  end,
}

-- The same first row everywhere (stride 0), and the same first column.
local function broadcast(t, dim)
  return t:narrow(dim, 0, 1):expand(t:shape())
end

-- ---- comparing ----

local function show(shape) return "[" .. table.concat(shape, " x ") .. "]" end

-- Compares elements: bit for bit where tolerance is 0 (NaN equals NaN, 0 differs from -0), else relative to the larger of
-- the expected value and `scale`.
local function check(what, got, expected, shape, dtype, tolerance, scale)
  assert(got:dtype() == dtype, ("%s gives %s, not %s"):format(what, got:dtype(), dtype))
  assert.same(shape, got:shape(), what)
  local values = flatten(got:totable())
  assert(#values == #expected, what)
  for i, x in ipairs(values) do
    local e = expected[i]
    local fits = x == e or (x ~= x and e ~= e)
    if fits and x == 0 and tolerance == 0 and is_float[dtype] then fits = 1 / x == 1 / e end
    if not fits and tolerance > 0 then
      fits = math.abs(x - e) <= tolerance * math.max(math.abs(e), scale or smallest_normal[dtype]) + (dtype == "f32" and 1e-36 or 0)
    end
    if not fits then error(("%s: element %d of %s is %.9g, expected %.9g"):format(what, i - 1, show(shape), x, e)) end
  end
end

local shapes = { {}, { 1 }, { 17 }, { 0 }, { 3, 0, 2 }, { 2, 33 }, { 65, 1 }, { 3, 1, 5 }, { 2, 3, 17 }, { 1, 2, 1, 3, 2 } }

-- Calls test(tensor, flat values, shape, dtype, name) for each shape, layout and dtype.
local function each_tensor(dtypes, with_specials, test)
  for _, dtype in ipairs(dtypes) do
    for _, shape in ipairs(shapes) do
      for name, layout in in_order(layouts) do
        local values = numbers(shape, dtype, with_specials)
        local t = layout(values, shape, dtype)
        if t then test(t, values, shape, dtype, ("%s %s %s"):format(dtype, show(shape), name)) end
      end
    end
  end
end

local function map(values, f)
  local out = {}
  for i, x in ipairs(values) do out[i] = f(x) end
  return out
end

-- ---- functions of one number ----

local function sigmoid(x) return 1 / (1 + math.exp(-x)) end
-- erf by its series and continued fraction (Abramowitz and Stegun 7.1.6, 7.1.14).
local function erf(x)
  local a = math.abs(x)
  if a > 6 then return x < 0 and -1 or x > 0 and 1 or x end
  if a < 2.5 then
    local term, sum = x, x
    for n = 1, 100 do
      term = term * 2 * x * x / (2 * n + 1)
      sum = sum + term
    end
    return 2 / math.sqrt(math.pi) * math.exp(-x * x) * sum
  end
  local f = 0
  for n = 80, 1, -1 do f = n / 2 / (a + f) end
  local e = 1 - math.exp(-a * a) / math.sqrt(math.pi) / (a + f)
  return x < 0 and -e or e
end
local function tanh(x)
  if math.abs(x) > 20 then return x > 0 and 1 or -1 end
  local e = math.exp(2 * x)
  return math.abs(x) < 1e-4 and x or (e - 1) / (e + 1)
end
local function round_even(x)
  if x ~= x or math.abs(x) >= 2 ^ 52 then return x end
  local low = math.floor(x)
  local up = x - low > 0.5 or (x - low == 0.5 and low % 2 == 1)
  local whole = (up and low + 1 or low) + 0.0
  return whole == 0 and x < 0 and -0.0 or whole == 0 and 1 / x < 0 and -0.0 or whole
end
local function floor(x) return (x ~= x or math.abs(x) == inf or x == 0) and x or math.floor(x) + 0.0 end
local function ceil(x)
  if x ~= x or math.abs(x) == inf or x == 0 then return x end
  local whole = math.ceil(x) + 0.0
  return whole == 0 and x < 0 and -0.0 or whole
end

-- {f, relative tolerance in units of the dtype's last place (0: exact), integer = what integers give: "same" or "f32"}
local unaries = {
  neg = { function(x) return -x end, 0, "same" },
  abs = { math.abs, 0, "same" },
  sign = { function(x) return x > 0 and 1 or x < 0 and -1 or x end, 0, "same" },
  exp = { math.exp, 4 }, log = { function(x) return x ~= x and x or x < 0 and nan or math.log(x) end, 4 },
  sqrt = { function(x) return x == 0 and x or x < 0 and nan or math.sqrt(x) end, 0 },
  rsqrt = { function(x) return x < 0 and nan or x == 0 and 1 / x or 1 / math.sqrt(x) end, 2 },
  square = { function(x) return x * x end, 0, "same" },
  reciprocal = { function(x) return 1 / x end, 0 },
  sin = { function(x) return math.abs(x) == inf and nan or math.sin(x) end, 8 },
  cos = { function(x) return math.abs(x) == inf and nan or math.cos(x) end, 8 },
  tanh = { tanh, 8 }, sigmoid = { sigmoid, 8 },
  relu = { function(x) return x < 0 and 0.0 or x end, 0, "same" },
  silu = { function(x) return x == -inf and nan or x * sigmoid(x) end, 8 },
  gelu = { function(x) return x == -inf and nan or 0.5 * x * (1 + erf(x / math.sqrt(2))) end, 8, scale = 1 },
  gelu_tanh = { function(x)
    return x == -inf and nan or 0.5 * x * (1 + tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ^ 3)))
  end, 8, scale = 1 },
  floor = { floor, 0, "same" }, ceil = { ceil, 0, "same" }, round = { round_even, 0, "same" },
  isnan = { function(x) return x ~= x and 1 or 0 end, 0, "u8" },
  isinf = { function(x) return math.abs(x) == inf and 1 or 0 end, 0, "u8" },
  isfinite = { function(x) return math.abs(x) < inf and 1 or 0 end, 0, "u8" },
}

-- ---- functions of two numbers ----

local function as_flag(f) return function(a, b) return f(a, b) and 1 or 0 end end
local function modulo(a, b)
  if b == 0 or a ~= a or b ~= b or math.abs(a) == inf then return nan end
  -- Where a is nearly a multiple of b, the quotient's rounding to f32 decides between 0 and b, and may.
  local quotient = string.unpack("f", string.pack("f", a / b))
  return a - b * math.floor(quotient)
end
local binaries = {
  add = { function(a, b) return a + b end, 0 }, sub = { function(a, b) return a - b end, 0 },
  mul = { function(a, b) return a * b end, 0 }, div = { function(a, b) return a / b end, 0 },
  pow = { function(a, b)
    if b == 0 or a == 1 then return 1 end
    if a == -1 and math.abs(b) == inf then return 1 end
    return a ^ b
  end, 8 },
  mod = { modulo, 8, scale = 70000 },
  minimum = { function(a, b) return a ~= a and a or b ~= b and b or (a < b and a or b) end, 0 },
  maximum = { function(a, b) return a ~= a and a or b ~= b and b or (a > b and a or b) end, 0 },
  gt = { as_flag(function(a, b) return a > b end), 0, flag = true }, ge = { as_flag(function(a, b) return a >= b end), 0, flag = true },
  lt = { as_flag(function(a, b) return a < b end), 0, flag = true }, le = { as_flag(function(a, b) return a <= b end), 0, flag = true },
  eq = { as_flag(function(a, b) return a == b end), 0, flag = true }, ne = { as_flag(function(a, b) return a ~= b end), 0, flag = true },
}

-- Shape of a result, and for each of its elements the elements of a and b that meet there.
local function pairs_of(shape_a, shape_b)
  local n, shape = math.max(#shape_a, #shape_b), {}
  local function size(s, i) return s[i - (n - #s)] or 1 end
  for i = 1, n do shape[i] = size(shape_a, i) == 1 and size(shape_b, i) or size(shape_a, i) end
  local meets = {}
  for flat = 0, product(shape) - 1 do
    local rest, at_a, at_b, step_a, step_b = flat, 0, 0, 1, 1
    for i = n, 1, -1 do
      local index = rest % shape[i]
      rest = rest // shape[i]
      if size(shape_a, i) ~= 1 then at_a = at_a + index * step_a end
      if size(shape_b, i) ~= 1 then at_b = at_b + index * step_b end
      step_a, step_b = step_a * size(shape_a, i), step_b * size(shape_b, i)
    end
    meets[flat + 1] = { at_a + 1, at_b + 1 }
  end
  return shape, meets
end

local pairs_of_shapes = {
  { {}, {} }, { { 17 }, { 17 } }, { { 2, 33 }, { 33 } }, { { 2, 33 }, { 2, 1 } }, { { 65, 1 }, { 1, 3 } }, { { 3, 1, 5 }, { 4, 1 } },
  { { 0 }, { 1 } }, { { 3, 0, 2 }, { 2 } }, { {}, { 2, 3 } }, { { 2, 3, 17 }, { 2, 3, 17 } },
}

local function common(a, b)
  if a == b then return a end
  if is_float[a] ~= is_float[b] then return is_float[a] and a or b end
  if is_float[a] then return "f32" end
  return (a == "i64" or b == "i64") and "i64" or "i32"
end

-- ---- reductions ----

local function sum(list)
  local s = 0
  for _, x in ipairs(list) do s = s + x end
  return s
end
local function deviation(list)
  local mean, s = sum(list) / #list, 0
  for _, x in ipairs(list) do s = s + (x - mean) ^ 2 end
  return s / (#list - 1)
end
local function extreme(better)
  return function(list)
    local at
    for i, x in ipairs(list) do
      if not at or (list[at] == list[at] and (x ~= x or better(x, list[at]))) then at = i end
    end
    return list[at], at and at - 1
  end
end
local largest, smallest = extreme(function(a, b) return a > b end), extreme(function(a, b) return a < b end)
local reduces = {
  sum = { sum, 4, integer = "i64" }, mean = { function(l) return sum(l) / #l end, 4 },
  prod = { function(l) local p = 1.0 for _, x in ipairs(l) do p = p * x end return p end, 4, integer = "i64" },
  max = { function(l) return (largest(l)) end, 0, integer = "same", needs_one = true },
  min = { function(l) return (smallest(l)) end, 0, integer = "same", needs_one = true },
  argmax = { function(l) return (select(2, largest(l))) end, 0, gives = "i64", needs_one = true },
  argmin = { function(l) return (select(2, smallest(l))) end, 0, gives = "i64", needs_one = true },
  var = { deviation, 8 }, std = { function(l) return math.sqrt(deviation(l)) end, 8 },
  norm = { function(l) local s = 0 for _, x in ipairs(l) do s = s + x * x end return math.sqrt(s) end, 4 },
  any = { function(l) for _, x in ipairs(l) do if x ~= 0 then return 1 end end return 0 end, 0, gives = "u8" },
  all = { function(l) for _, x in ipairs(l) do if x == 0 then return 0 end end return 1 end, 0, gives = "u8" },
}

-- The lines along dim (from 0), in the order of the result's elements; nil: one line of everything.
local function lines_of(values, shape, dim)
  if not dim then return { values }, {} end
  local inner, out_shape = 1, {}
  for i, size in ipairs(shape) do
    if i - 1 > dim then inner = inner * size end
    if i - 1 ~= dim then out_shape[#out_shape + 1] = size end
  end
  local lines, length = {}, shape[dim + 1]
  for i = 0, product(out_shape) - 1 do
    local start, line = i // inner * inner * length + i % inner, {}
    for e = 0, length - 1 do line[e + 1] = values[start + e * inner + 1] end
    lines[i + 1] = line
  end
  return lines, out_shape
end

local function each_dim(shape, test)
  test(nil)
  for dim = 0, #shape - 1 do test(dim) end
end

-- NaN behind everything, equals in their order.
local function order(list, descending)
  local at = {}
  for i = 1, #list do at[i] = i end
  table.sort(at, function(i, j)
    local a, b = list[i], list[j]
    if (a ~= a) ~= (b ~= b) then return b ~= b end
    if a ~= b and a == a then
      if descending then return a > b end
      return a < b
    end
    return i < j
  end)
  return at
end

-- Rows of the last dim, mapped whole.
local function map_rows(values, shape, f)
  local width, out = shape[#shape], {}
  for first = 1, #values, math.max(width, 1) do
    for _, y in ipairs(f({ table.unpack(values, first, first + width - 1) })) do out[#out + 1] = y end
  end
  return out
end

local function softmax(row)
  local most = (largest(row))
  local e = map(row, function(x) return math.exp(x - most) end)
  local total = sum(e)
  return map(e, function(x) return x / total end)
end

local function fails(pattern, f, ...)
  local fine, message = pcall(f, ...)
  assert(not fine, "expected an error like " .. pattern)
  assert.matches(pattern, message)
  assert(not message:find "\n", message)
end

-- ---- the cases: one for each row of ops.def that Lua reaches ----

local cases = {}

function cases.unary()
  for name, row in in_order(unaries) do
    each_tensor(all, true, function(t, values, shape, dtype, where)
      local gives = row[3] == "u8" and "u8" or (is_float[dtype] or row[3] == "same") and dtype or "f32"
      check(name .. " of " .. where, t[name](t), map(values, function(x) return rounding[gives](row[1](x)) end), shape, gives,
        row[2] * unit[gives], row.scale)
    end)
    local t = massact.zeros(3, 1):expand(3, 2000)
    local one = t[name](t)
    assert.same({ 3, 2000 }, one:shape())
    assert.equal(tostring(one:get(0, 0)), tostring(one:get(2, 1999)))
  end
end

function cases.binary()
  for name, row in in_order(binaries) do
    for _, dtypes in ipairs { { "f32", "f32" }, { "f16", "f16" }, { "bf16", "f32" }, { "f16", "bf16" }, { "i32", "i32" }, { "i64", "u8" },
      { "i32", "f16" }, { "u8", "u8" } } do
      for i, shapes_of in ipairs(pairs_of_shapes) do
        local wanted, meets = pairs_of(shapes_of[1], shapes_of[2])
        local va, vb = numbers(shapes_of[1], dtypes[1], true), numbers(shapes_of[2], dtypes[2], true)
        local names = { "contiguous", "transposed", "narrowed", "stepped" }
        local a = (layouts[names[i % 4 + 1]](va, shapes_of[1], dtypes[1]) or contiguous(va, shapes_of[1], dtypes[1]))
        local b = (layouts[names[(i + 2) % 4 + 1]](vb, shapes_of[2], dtypes[2]) or contiguous(vb, shapes_of[2], dtypes[2]))
        local gives = common(dtypes[1], dtypes[2])
        if row.flag then gives = "u8" elseif name == "div" and not is_float[gives] then gives = "f32" end
        local expected = {}
        for e, at in ipairs(meets) do expected[e] = rounding[gives](row[1](va[at[1]], vb[at[2]])) end
        check(("%s %s %s with %s %s"):format(name, dtypes[1], show(shapes_of[1]), dtypes[2], show(shapes_of[2])), a[name](a, b), expected,
          wanted, gives, row[2] * unit[gives], row.scale)
      end
    end
    fails(name .. ": %[2 x 3%] and %[4%] do not fit", function()
      local a = massact.zeros(2, 3)
      return a[name](a, massact.zeros(4))
    end)
  end
  -- A number takes the tensor's dtype where it has room; beside integers a wider one.
  assert.same({ 0, 1 }, massact.tensor({ 255, 0 }, "u8"):lt(255):totable())
  assert.same({ 1, 1 }, massact.tensor({ 255, 0 }, "u8"):lt(300):totable())
  assert.same({ 0, 0 }, massact.tensor({ 255, 0 }, "u8"):eq(-1):totable())
  assert.same({ 1, 0 }, massact.tensor({ 2 ^ 31 - 1 | 0, 5 }, "i32"):lt(inf):sub(massact.tensor({ 0, 1 }, "u8")):totable())
  assert.equal("i64", (massact.tensor({ 255 }, "u8") + 1000):dtype())
  assert.same({ 1255 }, (massact.tensor({ 255 }, "u8") + 1000):totable())
  assert.equal("f32", (massact.tensor({ 1 }, "i32") + 0.5):dtype())
  assert.same({ 3 }, (5 - massact.tensor({ 2 }, "i64")):totable())
end

-- In place: on a; and on a where b is another view of it.
function cases.binary_in_place()
  for name, row in in_order(binaries) do
    if not row.flag then
      local method = name .. "_"
      for _, dtype in ipairs(floats) do
        for layout_name, layout in in_order(layouts) do
          local shape = { 3, 17 }
          local va, vb = numbers(shape, dtype, false), numbers({ 17 }, dtype, false)
          local a, b = layout(va, shape, dtype), contiguous(vb, { 17 }, dtype)
          local expected = {}
          for i = 1, #va do expected[i] = rounding[dtype](row[1](va[i], vb[(i - 1) % 17 + 1])) end
          local same = a[method](a, b)
          assert(rawequal(same, a))
          check(("%s %s %s"):format(method, dtype, layout_name), a, expected, shape, dtype, row[2] * unit[dtype], row.scale)
        end
      end
      local values = numbers({ 40, 40 }, "f32", false)
      for view, index in pairs {
        t = function(i, j) return j * 40 + i end, first_row = function(_, j) return j end, itself = function(i, j) return i * 40 + j end,
      } do
        local a = contiguous(values, { 40, 40 }, "f32")
        local b = view == "t" and a:t() or view == "first_row" and a[0] or a
        local expected = {}
        for i = 0, 39 do
          for j = 0, 39 do expected[#expected + 1] = round_f32(row[1](values[i * 40 + j + 1], values[index(i, j) + 1])) end
        end
        check(method .. " with its own " .. view, a[method](a, b), expected, { 40, 40 }, "f32", row[2] * unit.f32, row.scale)
      end
      fails("cannot write to the broadcast view %[3 x 4%]", function()
        local a = massact.ones(1, 4):expand(3, 4)
        return a[method](a, 1)
      end)
      fails("%[2 x 3%], not the %[3%] of its output", function()
        local a = massact.ones(3)
        return a[method](a, massact.ones(2, 3))
      end)
    end
  end
  fails("add gives f32, not the i32", function() return massact.tensor({ 1 }, "i32"):add_(0.5) end)
end

function cases.quantize()
  for _, case in ipairs { { 0.25, 127 }, { 0.3, 7 }, { 1e-3, 1 }, { 700, 127 } } do
    local scale, levels = round_f32(case[1]), case[2]
    each_tensor(floats, true, function(t, values, shape, dtype, where)
      local expected = map(values, function(x)
        local whole = round_even(round_f32(x / scale))
        if whole == whole then whole = math.max(-levels, math.min(levels, whole)) end
        return rounding[dtype](round_f32(scale * whole))
      end)
      check("quantize of " .. where, t:quantize(case[1], levels), expected, shape, dtype, 0)
      if product(shape) > 0 then
        assert(rawequal(t, t:quantize_(case[1], levels)))
        check("quantize_ of " .. where, t, expected, shape, dtype, 0)
      end
    end)
  end
  assert.same({ { 1.5, 1.5, 1.5 }, { -2, -2, -2 } }, massact.tensor { { 1.6 }, { -2.1 } }:expand(2, 3):quantize(0.5):totable())
  assert.same({ 127, -127, 2, -2, 0 }, massact.tensor { 1e9, -127.5, 2.5, -1.5, 0.5 }:quantize(1):totable())
  local t = massact.ones(2, 3)
  for _, scale in ipairs { 0, -1, nan, inf, 1e-60, 1e60 } do fails("it should be finite and above 0", t.quantize, t, scale) end
  for _, levels in ipairs { 0, -3, 2 ^ 23 + 1 | 0 } do fails("1 to 8388608 are possible", t.quantize, t, 1, levels) end
  fails("takes floats, not i32", function() massact.tensor({ 1 }, "i32"):quantize(1) end)
  fails("cannot write to the broadcast view", function() massact.ones(1, 4):expand(3, 4):quantize_(1) end)
end

function cases.fill()
  each_tensor(all, false, function(t, values, shape, dtype, where)
    for _, x in ipairs { 3, 0, -0.0, 300.7, -5, nan, inf } do
      check("fill_ of " .. where, t:fill_(x), map(values, function() return rounding[dtype](x) end), shape, dtype, 0)
    end
  end)
  local whole = massact.zeros(3, 5)
  whole:narrow(1, 1, 2):fill_(7)
  assert.same({ { 0, 7, 7, 0, 0 }, { 0, 7, 7, 0, 0 }, { 0, 7, 7, 0, 0 } }, whole:totable())
end

function cases.copy()
  for _, from in ipairs(all) do
    for _, to in ipairs(all) do
      for _, shape in ipairs { {}, { 17 }, { 2, 33 }, { 3, 0 } } do
        for name, layout in in_order(layouts) do
          local values = numbers(shape, from, true)
          local t = layout(values, shape, from)
          if t then
            local expected = map(values, rounding[to])
            local where = ("%s to %s %s %s"):format(from, to, show(shape), name)
            check("to " .. where, t:to { dtype = to }, expected, shape, to, 0)
            check("copy_ " .. where, massact.zeros(shape, { dtype = to }):copy_(t), expected, shape, to, 0)
            if from == to then check("clone " .. where, t:clone(), values, shape, to, 0) end
            if to == "f32" then check("float " .. where, t:float(), expected, shape, to, 0) end
          end
        end
      end
    end
  end
  -- Over itself, and from fewer dims.
  local a = massact.tensor { { 1, 2 }, { 3, 4 } }
  assert.same({ { 1, 3 }, { 2, 4 } }, a:copy_(a:t()):totable())
  assert.same({ { 9, 8 }, { 9, 8 } }, a:copy_(massact.tensor { 9, 8 }):totable())
  local b = massact.tensor { 1, 2, 3, 4 }
  b:narrow(0, 1, 3):copy_(b:narrow(0, 0, 3))
  assert.same({ 1, 1, 2, 3 }, b:totable())
  fails("%[2%] does not broadcast to %[3%]", function() massact.zeros(3):copy_(massact.zeros(2)) end)
  fails("broadcast view", function() massact.zeros(1):expand(3):copy_(massact.zeros(3)) end)
end

function cases.where()
  for _, dtype in ipairs(all) do
    for _, shape in ipairs { {}, { 17 }, { 2, 33 }, { 3, 0 } } do
      local va, vb, vc = numbers(shape, dtype, true), numbers(shape, dtype, true), numbers(shape, "u8")
      for i in ipairs(vc) do vc[i] = vc[i] % 2 end
      local expected = {}
      for i in ipairs(va) do expected[i] = vc[i] ~= 0 and va[i] or vb[i] end
      for name, layout in in_order(layouts) do
        local condition, a = layout(vc, shape, "u8"), layout(va, shape, dtype)
        if a then
          check(("where %s %s %s"):format(dtype, show(shape), name), condition:where(a, contiguous(vb, shape, dtype)), expected, shape, dtype, 0)
        end
      end
    end
  end
  local condition = massact.tensor({ { 1 }, { 0 } }, "u8")
  assert.same({ { 5, 5, 5 }, { 1, 2, 3 } }, condition:where(5, massact.tensor { 1, 2, 3 }):totable())
  fails("where: %[2%] and %[3%] do not fit", function() massact.zeros(1):where(massact.zeros(2), massact.zeros(3)) end)
end

function cases.randomize()
  for _, dtype in ipairs(floats) do
    local u, v = massact.rand(65, 33, { seed = 5, dtype = dtype }), massact.rand(65, 33, { seed = 5, dtype = dtype })
    assert.is_true(u == v)
    assert(u:min():item() >= 0 and u:max():item() <= 1)
    assert.near(0.5, u:mean():item(), 0.02)
    local n = massact.randn(65, 33, { seed = 6, dtype = dtype })
    assert.near(0, n:mean():item(), 0.1)
    assert.near(1, n:float():std():item(), 0.05)
  end
  assert.same({ 0, 3 }, massact.randn(0, 3):shape())
end

function cases.gather()
  for _, dtype in ipairs(all) do
    for _, index_dtype in ipairs { "i64", "i32" } do
      for name, layout in in_order(layouts) do
        local shape = { 3, 5, 2 }
        local values = numbers(shape, dtype, true)
        local t = layout(values, shape, dtype)
        for dim, picks in pairs { [0] = { 2, 0, 2, 1 }, [1] = { 4 }, [2] = {} } do
          local out_shape, expected = { 3, 5, 2 }, {}
          out_shape[dim + 1] = #picks
          for i = 0, out_shape[1] - 1 do
            for j = 0, out_shape[2] - 1 do
              for k = 0, out_shape[3] - 1 do
                local at = { i, j, k }
                at[dim + 1] = picks[at[dim + 1] + 1]
                expected[#expected + 1] = values[at[1] * 10 + at[2] * 2 + at[3] + 1]
              end
            end
          end
          check(("gather %s %s along %d"):format(dtype, name, dim), t:gather(dim, contiguous(picks, { #picks }, index_dtype)), expected, out_shape, dtype, 0)
        end
      end
    end
  end
  local t = massact.zeros(3, 2)
  -- A GPU says so when its numbers are read.
  fails("outside", function() t:gather(0, massact.tensor({ 3 }, "i64")):totable() end)
  fails("outside", function() t:gather(0, massact.tensor({ -1 }, "i64")):totable() end)
  fails("index is a list of i64 or i32", function() t:gather(0, massact.tensor { 1 }) end)
  fails("index is a list", function() t:gather(0, massact.tensor({ { 1 } }, "i64")) end)
end

function cases.concat()
  for _, dtype in ipairs(all) do
    for name, layout in in_order(layouts) do
      local va, vb = numbers({ 2, 3 }, dtype, true), numbers({ 2, 1 }, dtype, true)
      local a, b, none = layout(va, { 2, 3 }, dtype), layout(vb, { 2, 1 }, dtype), massact.zeros({ 2, 0 }, { dtype = dtype })
      check(("cat %s %s"):format(dtype, name), massact.cat({ a, none, b }, -1),
        { va[1], va[2], va[3], vb[1], va[4], va[5], va[6], vb[2] }, { 2, 4 }, dtype, 0)
      check(("cat %s %s"):format(dtype, name), massact.cat { a, a }, { va[1], va[2], va[3], va[4], va[5], va[6], table.unpack(va) },
        { 4, 3 }, dtype, 0)
    end
  end
  fails("cat: %[2 x 3%] and %[2 x 2%] do not fit", function() massact.cat { massact.zeros(2, 3), massact.zeros(2, 2) } end)
  fails("do not fit", function() massact.cat { massact.zeros(2), massact.zeros({ 2 }, { dtype = "f16" }) } end)
  fails("dim 0", function() massact.cat { massact.tensor(1) } end)
  fails("at least one", function() massact.cat {} end)
  fails("at least one", function()
    massact.cat(setmetatable({}, { __len = function() return 1 << 61 | 1 end, __index = function() return massact.zeros(1) end }))
  end)
end

function cases.reduce()
  for name, row in in_order(reduces) do
    for _, with_specials in ipairs { false, true } do
      each_tensor(all, with_specials, function(t, values, shape, dtype, where)
        each_dim(shape, function(dim)
          local lines, out_shape = lines_of(values, shape, dim)
          local length = dim and shape[dim + 1] or #values
          local what = ("%s of %s over %s"):format(name, where, dim or "all")
          if row.needs_one and length == 0 then
            fails(name .. " of no elements", t[name], t, dim)
            return
          end
          local gives = row.gives or is_float[dtype] and dtype or row.integer == "same" and dtype or row.integer or "f32"
          local expected = {}
          for i, line in ipairs(lines) do
            local y = row[1](line)
            expected[i] = rounding[gives](y)
          end
          local tolerance = row[2] * unit[gives]
          check(what, t[name](t, dim), expected, out_shape, gives, tolerance, 1e-6)
          local kept = { table.unpack(shape) }
          if dim then kept[dim + 1] = 1 else for i = 1, #shape do kept[i] = 1 end end
          check(what .. ", kept", t[name](t, dim, { keep = true }), expected, kept, gives, tolerance, 1e-6)
          if dim and (name == "max" or name == "min") then
            local places = {}
            for i, line in ipairs(lines) do places[i] = reduces["arg" .. name][1](line) end
            check(what .. ", places", (select(2, t[name](t, dim))), places, out_shape, "i64", 0)
          end
        end)
      end)
    end
    fails("dim 2 does not exist", massact.zeros(2, 3)[name], massact.zeros(2, 3), 2)
    fails("unknown option", massact.zeros(2, 3)[name], massact.zeros(2, 3), 1, { kepp = true })
  end
  -- Long rows: sums in double, wherever threads cut them.
  local long = massact.full({ 3, 100001 }, 0.1)
  assert.near(10000.1 * 1.0000000149, long:sum(1):get(2), 1e-2)
  assert.same({ 3 }, broadcast(massact.ones(3, 4), 1):sum(1):shape())
  assert.same({ 4, 4, 4 }, broadcast(massact.ones(3, 4), 1):sum(1):totable())
end

function cases.sort()
  for _, with_specials in ipairs { false, true } do
    each_tensor(all, with_specials, function(t, values, shape, dtype, where)
      if #shape == 0 then
        fails("scalar", t.sort, t)
        return
      end
      for dim = 0, #shape - 1 do
        for _, descending in ipairs { false, true } do
          local lines, inner = lines_of(values, shape, dim), 1
          for i = dim + 2, #shape do inner = inner * shape[i] end
          local sorted, places, length = {}, {}, shape[dim + 1]
          for i, line in ipairs(lines) do
            local start = (i - 1) // inner * inner * length + (i - 1) % inner
            for e, from in ipairs(order(line, descending)) do
              sorted[start + (e - 1) * inner + 1] = line[from]
              places[start + (e - 1) * inner + 1] = from - 1
            end
          end
          local v, p = t:sort(dim, { descending = descending })
          check("sort of " .. where, v, sorted, shape, dtype, 0)
          check("places of sort of " .. where, p, places, shape, "i64", 0)
        end
      end
    end)
  end
end

function cases.topk()
  each_tensor(all, true, function(t, values, shape, dtype, where)
    if #shape == 0 then
      fails("topk", t.topk, t, 1)
      return
    end
    local width = shape[#shape]
    for _, k in ipairs { 0, 1, width // 2, width } do
      if k <= width then
        local lines = lines_of(values, shape, #shape - 1)
        local expected, places, out_shape = {}, {}, { table.unpack(shape) }
        out_shape[#shape] = k
        for _, line in ipairs(lines) do
          local at = order(line, true)
          for e = 1, k do
            expected[#expected + 1] = line[at[e]]
            places[#places + 1] = at[e] - 1
          end
        end
        local v, p = t:topk(k)
        check("topk of " .. where, v, expected, out_shape, dtype, 0)
        check("places of topk of " .. where, p, places, out_shape, "i64", 0)
      end
    end
    fails("topk: " .. width + 1 .. " of the last dim, which has " .. width, t.topk, t, width + 1)
    fails("topk: %-1", t.topk, t, -1)
  end)
end

function cases.quantile()
  each_tensor(all, true, function(t, values, shape, dtype, where)
    each_dim(shape, function(dim)
      local lines, out_shape = lines_of(values, shape, dim)
      for _, q in ipairs { 0, 0.25, 0.5, 1 } do
        if (dim and shape[dim + 1] or #values) == 0 then
          fails("quantile of no elements", t.quantile, t, q, dim)
        else
          local expected = {}
          for i, line in ipairs(lines) do expected[i] = line[order(line)[1 + math.floor(q * (#line - 1))]] end
          check("quantile of " .. where, t:quantile(q, dim), expected, out_shape, dtype, 0)
          if q == 0.5 then check("median of " .. where, t:median(dim), expected, out_shape, dtype, 0) end
        end
      end
    end)
  end)
  for _, q in ipairs { -0.1, 1.5, nan } do fails("is not within 0 and 1", massact.ones(3).quantile, massact.ones(3), q) end
end

function cases.matmul()
  local sizes = {
    { { 2, 3 }, { 3, 4 } }, { { 1, 65 }, { 65, 1 } }, { { 33, 17 }, { 17, 33 } }, { { 2, 0 }, { 0, 3 } }, { { 0, 3 }, { 3, 2 } }, { { 2, 3 }, { 3, 0 } },
    { { 2, 3, 5 }, { 5, 4 } }, { { 2, 1, 3, 5 }, { 4, 5, 2 } }, { { 0, 2, 3 }, { 3, 2 } },
  }
  for _, dtype in ipairs { "f32", "f16", "bf16", "i32" } do
    for _, pair in ipairs(sizes) do
      local sa, sb = pair[1], pair[2]
      local m, k, n = sa[#sa - 1], sa[#sa], sb[#sb]
      local batch, meets = pairs_of({ table.unpack(sa, 1, #sa - 2) }, { table.unpack(sb, 1, #sb - 2) })
      local va, vb = numbers(sa, dtype), numbers(sb, dtype)
      local expected = {}
      for _, at in ipairs(meets) do
        for i = 0, m - 1 do
          for j = 0, n - 1 do
            local s = 0
            for e = 0, k - 1 do s = s + va[(at[1] - 1) * m * k + i * k + e + 1] * vb[(at[2] - 1) * k * n + e * n + j + 1] end
            expected[#expected + 1] = s
          end
        end
      end
      local shape = { table.unpack(batch) }
      shape[#shape + 1], shape[#shape + 2] = m, n
      for name, layout in in_order(layouts) do
        check(("matmul %s %s %s %s"):format(dtype, show(sa), show(sb), name), layout(va, sa, dtype):matmul(layout(vb, sb, dtype)), expected, shape,
          "f32", 1e-5, k * 8 * (dtype == "i32" and 5000 or 1))
      end
    end
  end
  fails("matmul: %[2 x 3%] and %[4 x 2%] do not fit", function() massact.zeros(2, 3):matmul(massact.zeros(4, 2)) end)
  fails("matmul: %[3%] and %[3 x 2%] do not fit", function() massact.zeros(3):matmul(massact.zeros(3, 2)) end)
  fails("do not fit", function() massact.zeros(2, 2, 3):matmul(massact.zeros(3, 3, 2)) end)
end

-- Rows of every layout, broadcast ones too.
local function each_row_tensor(test)
  each_tensor(floats, false, function(t, values, shape, dtype, where)
    if #shape > 0 then test(t, values, shape, dtype, where) end
  end)
  for _, dtype in ipairs(floats) do
    local values = numbers({ 3, 1 }, dtype)
    local spread = {}
    for i = 0, 3 * 1500 - 1 do spread[i + 1] = values[i // 1500 + 1] end
    test(contiguous(values, { 3, 1 }, dtype):expand(3, 1500), spread, { 3, 1500 }, dtype, dtype .. " broadcast columns")
    local row = numbers({ 1, 40 }, dtype)
    local rows = {}
    for i = 0, 119 do rows[i + 1] = row[i % 40 + 1] end
    test(contiguous(row, { 1, 40 }, dtype):expand(3, 40), rows, { 3, 40 }, dtype, dtype .. " broadcast rows")
  end
end

function cases.softmax()
  each_row_tensor(function(t, values, shape, dtype, where)
    local expected = map_rows(values, shape, softmax)
    check("softmax of " .. where, t:softmax(), map(expected, rounding[dtype]), shape, dtype, 8 * unit[dtype])
    check("log_softmax of " .. where, t:log_softmax(), map(expected, function(p) return rounding[dtype](math.log(p)) end), shape, dtype,
      8 * unit[dtype], 1)
  end)
  assert.same({ 0, 1, 0 }, massact.tensor({ -inf, 5, -inf }):softmax():totable())
  assert.same({ 0.5, 0.5 }, massact.tensor({ 3e38, 3e38 }):softmax():totable())
  for _, row in ipairs { { -inf, -inf }, { 1, nan } } do
    local p = massact.tensor(row):softmax():get(0)
    assert(p ~= p)
  end
  fails("softmax works on floats", massact.zeros(2).softmax, massact.zeros({ 2 }, { dtype = "i32" }))
  fails("at least one dim", massact.zeros(2).softmax, massact.tensor(1))
end

function cases.rms_norm()
  each_row_tensor(function(t, values, shape, dtype, where)
    local width = shape[#shape]
    local weight = numbers({ width }, "f32")
    for _, weighted in ipairs { false, true } do
      local expected = map_rows(values, shape, function(row)
        local squares = 0
        for _, x in ipairs(row) do squares = squares + x * x end
        local scale = 1 / math.sqrt(squares / #row + 1e-3)
        local out = {}
        for i, x in ipairs(row) do out[i] = rounding[dtype](x * scale * (weighted and weight[i] or 1)) end
        return out
      end)
      check("rms_norm of " .. where, t:rms_norm(weighted and contiguous(weight, { width }, "f32") or nil, 1e-3), expected, shape, dtype,
        8 * unit[dtype] + width / 4 * unit.f32, 0.1) -- a plain sum of equal squares loses up to half a place an addition
    end
  end)
  fails("rms_norm: %[2 x 3%] and %[4%] do not fit", function() massact.zeros(2, 3):rms_norm(massact.ones(4)) end)
  fails("rms_norm works on floats", function() massact.zeros({ 2 }, { dtype = "i64" }):rms_norm() end)
end

function cases.layer_norm()
  each_row_tensor(function(t, values, shape, dtype, where)
    local width = shape[#shape]
    local weight, bias = numbers({ width }, "f32"), numbers({ width }, "f32")
    -- A row of equal numbers has deviation 0, and what rounding leaves of it is divided by the root of eps.
    for _, with in ipairs { { false, false }, { true, false }, { true, true }, { false, true } } do
      local expected = map_rows(values, shape, function(row)
        local mean, squares = sum(row) / #row, 0
        for _, x in ipairs(row) do squares = squares + (x - mean) ^ 2 end
        local scale = 1 / math.sqrt(squares / #row + 1e-3)
        local out = {}
        for i, x in ipairs(row) do
          out[i] = rounding[dtype]((x - mean) * scale * (with[1] and weight[i] or 1) + (with[2] and bias[i] or 0))
        end
        return out
      end)
      check("layer_norm of " .. where, t:layer_norm(with[1] and contiguous(weight, { width }, "f32") or nil,
        with[2] and contiguous(bias, { width }, "f32") or nil, 1e-3), expected, shape, dtype, 16 * unit[dtype], where:find "columns" and 25000 or 256)
    end
  end)
  fails("layer_norm: %[2 x 3%] and %[4%] do not fit", function() massact.zeros(2, 3):layer_norm(massact.ones(3), massact.ones(4)) end)
end

-- Loshchilov & Hutter 2019, algorithm 2, in f64.
function cases.adamw()
  for _, n in ipairs { 1, 7, 70001 } do
    local start, mean, square = numbers({ n }, "f32"), {}, {}
    for i = 1, n do mean[i], square[i] = 0, 0 end
    local t, m, v = contiguous(start, { n }, "f32"), massact.zeros(n), massact.zeros(n)
    local how = { rate = 0.01, beta1 = 0.8, beta2 = 0.95, eps = 1e-6, weight_decay = 0.1, scale = 0.5 }
    for step = 1, 3 do
      local gradient = numbers({ n }, "f32")
      how.step = step
      assert.is_true(rawequal(t, t:adamw_(contiguous(gradient, { n }, "f32"), m, v, how)))
      for i, g in ipairs(gradient) do
        g = g * how.scale
        mean[i] = 0.8 * mean[i] + 0.2 * g
        square[i] = 0.95 * square[i] + 0.05 * g * g
        local root = math.sqrt(square[i] / (1 - 0.95 ^ step)) + 1e-6
        start[i] = start[i] * (1 - 0.01 * 0.1) - 0.01 * mean[i] / (1 - 0.8 ^ step) / root
      end
    end
    check("adamw", t, start, { n }, "f32", 1e-5, 1)
    check("adamw's mean", m, mean, { n }, "f32", 1e-5, 1)
    check("adamw's square", v, square, { n }, "f32", 1e-5, 1)
  end
  local t = massact.zeros(2, 3)
  fails("adamw: %[2 x 3%] and %[3 x 2%] do not fit", t.adamw_, t, t, t, massact.zeros(3, 2), { step = 1 })
  fails("adamw: %[3 x 2%] and %[3 x 2%] do not fit", t.adamw_, t:t(), t:t(), t:t(), t:t(), { step = 1 })
  fails("steps count from 1", t.adamw_, t, t, t, t, {})
  fails("momentum", t.adamw_, t, t, t, t, { momentum = 1 })
end

-- ---- what is no operation: views, elements, questions ----

local plain = {}

function plain.views()
  local a = massact.tensor { { { 0, 1 }, { 2, 3 }, { 4, 5 } }, { { 6, 7 }, { 8, 9 }, { 10, 11 } } }
  assert.same({ 3, 2, 2 }, a:transpose(0, 1):shape())
  assert.equal(8, a:transpose(0, -2):get(1, 1, 0))
  assert.equal(7, a:permute(2, 0, 1):get(1, 1, 0))
  assert.same({ { 0, 1 }, { 6, 7 } }, a:select(1, 0):totable())
  assert.same({ { 6, 7 }, { 8, 9 }, { 10, 11 } }, a[-1]:totable())
  assert.same({ 2, 1, 2 }, a:narrow(1, 2, 1):shape())
  assert.same({ 2, 1, 3, 2 }, a:unsqueeze(1):shape())
  assert.same({ 2, 3, 2 }, a:unsqueeze(-1):squeeze():shape())
  assert.same({ 2, 3, 2 }, a:unsqueeze(0):squeeze(0):shape())
  assert.same({ 2, 3, 2 }, a:squeeze(0):shape())
  assert.same({ 4, 2, 3, 2 }, a:expand(4, 2, 3, 2):shape())
  assert.same({ 0, 2, 4, 6, 8, 10 }, flatten(a:select(2, 0):reshape(6):totable()))
  assert.same({ 6, 2 }, a:view(-1, 2):shape())
  assert.same({ 2, 0 }, massact.zeros(0, 2):t():shape())
  assert.same({ 0, 7 }, massact.zeros(0, 2):reshape(0, 7):shape())
  local seen = {}
  for i, row in a:rows() do seen[i] = row:get(0, 0) end
  assert.same({ [0] = 0, [1] = 6 }, seen)
  assert.same({ {}, 7 }, { massact.tensor(7):shape(), massact.tensor(7):item() })
  local b = massact.zeros(2, 2)
  b:t():reshape(4):fill_(1) -- a copy where a view cannot be
  assert.same({ { 0, 0 }, { 0, 0 } }, b:totable())
end

function plain.view_errors()
  local a, huge = massact.zeros(2, 3), 1 << 40
  fails("%[2 x 3%] cannot become %[4 x %-1%]", a.reshape, a, 4, -1)
  fails("%[2 x 3%] cannot become %[7%]", a.view, a, 7)
  fails("cannot become", a.reshape, a, -1, -1)
  fails("dim 2 does not exist", a.transpose, a, 0, 2)
  fails("permute names dim 0 twice", a.permute, a, 0, 0)
  fails("permute names 1 of 2 dims", a.permute, a, 0)
  fails("outside %[2 x 3%]", a.permute, a, 0, 5)
  fails("2 elements from 2 on of dim 1 are outside %[2 x 3%]", a.narrow, a, 1, 2, 2)
  fails("are outside %[2 x 3%]", a.narrow, a, 1, math.maxinteger, math.maxinteger)
  fails("are outside", a.narrow, a, 1, -1, 1)
  fails("index 3 of dim 1 is outside %[2 x 3%]", a.select, a, 1, 3)
  fails("%[2 x 3%] does not broadcast to %[2 x 4%]", a.expand, a, 2, 4)
  fails("does not broadcast", a.expand, a, 3)
  fails("does not broadcast", massact.zeros(1).expand, massact.zeros(1), huge, huge)
  fails("cannot have shape", massact.zeros, huge, huge)
  fails("cannot have shape", massact.zeros, 0, huge, huge)
  fails("cannot have shape", massact.zeros, -1)
  fails("cannot become", massact.zeros(0).reshape, massact.zeros(0), 0, huge, huge)
  fails("at most 8 dims", massact.zeros, 1, 1, 1, 1, 1, 1, 1, 1, 1)
  fails("at most 8 dims", massact.zeros(1, 1, 1, 1, 1, 1, 1, 1).unsqueeze, massact.zeros(1, 1, 1, 1, 1, 1, 1, 1), 0)
  fails("made of integers", massact.zeros, 1.5)
  fails("turns a matrix", massact.zeros(3).t, massact.zeros(3))
  fails("a scalar has no rows", massact.tensor(1).rows, massact.tensor(1))
  fails("no dtype 'f8'", massact.zeros, 2, { dtype = "f8" })
end

function plain.elements()
  for _, dtype in ipairs(all) do
    local t = massact.zeros({ 2, 3 }, { dtype = dtype })
    assert(rawequal(t, t:set(1, -1, 7)))
    assert.equal(7, t:get(-1, 2))
    assert.equal(is_float[dtype] and "float" or "integer", math.type(t:get(1, 2)))
    assert.equal(dtype, t:dtype())
    assert.matches(os.getenv "MASSACT_DEVICE" or "cpu", t:device())
    assert.same({ 2, 6, 2, 3 }, { t:dim(), t:size(), #t, t:size(-1) })
    for _, bad in ipairs(is_float[dtype] and {} or { 0.5, nan, inf, 1e30 }) do fails("cannot be an element", t.set, t, 0, 0, bad) end
  end
  fails("cannot be an element of a u8", massact.zeros(1).set, massact.zeros({ 1 }, { dtype = "u8" }), 0, 256)
  fails("cannot be an element of a u8", massact.tensor, { -1 }, "u8")
  fails("get wants 2 indices", massact.zeros(2, 2).get, massact.zeros(2, 2), 1)
  fails("set wants 1 indices", massact.zeros(2).set, massact.zeros(2), 1)
  fails("item%(%) wants one element, this tensor has 2", massact.zeros(2).item, massact.zeros(2))
  fails("made of numbers, not of a string", massact.tensor, { "x" })
  fails("ragged", massact.tensor, { { 1 }, 2 })
  fails("ragged", massact.tensor, { { 1 }, {} })
  local closed = massact.zeros(2)
  do local _ <close> = closed end
  fails("has been closed", closed.abs, closed)
  fails("has been closed", function() return closed + 1 end)
end

-- Which test covers a method that is none of the rows above.
local covered_by = {
  reshape = "views", view = "views", transpose = "views", t = "views", permute = "views", narrow = "views", select = "views", expand = "views",
  unsqueeze = "views", squeeze = "views", rows = "views", shape = "elements", size = "elements", dim = "elements", dtype = "elements",
  device = "elements", get = "elements", set = "elements", item = "elements", totable = "elements", where = "where", fill_ = "fill",
  copy_ = "copy", clone = "copy", to = "copy", float = "copy", median = "quantile", quantile = "quantile", sort = "sort", topk = "topk",
  matmul = "matmul", softmax = "softmax", log_softmax = "softmax", rms_norm = "rms_norm", layer_norm = "layer_norm", gather = "gather",
  adamw_ = "adamw", quantize = "quantize", quantize_ = "quantize",
}

describe("operation", function()
  -- In order, since all draw from one generator.
  for _, tests in ipairs { cases, plain } do
    for name, test in in_order(tests) do it(name, test) end
  end

  it("has a case for each row of ops.def, here or in tests/c", function()
    local function read(path)
      local file = assert(io.open(massact.home .. path))
      local text = file:read "a"
      file:close()
      return text
    end
    local in_c = read "/tests/c/ops_test.c" .. read "/tests/c/attention_test.c"
    -- Rows of gradients are run by the gradients of what they belong to.
    local gradients = read "/tests/lua/gradients_spec.lua"
    local function has_gradient(name)
      if gradients:find("case(\"" .. name .. "\"", 1, true) then return true end
      local base = name:match "^(.-)_grad" or ({ scatter_add = "gather", sum_rows = "linear" })[name]
      return base and (gradients:find('"' .. base, 1, true) or ({ unary = 1, binary = 1, reduce = 1 })[base])
    end
    local rows = 0
    for name in read("/core/tensor/ops.def"):gmatch "\nMA_OP%(([%w_]+)," do
      rows = rows + 1
      assert(cases[name] or has_gradient(name) or in_c:find("ma_" .. name .. "(&", 1, true), "ops.def: row '" .. name .. "' has no case")
    end
    assert(rows > 20)
  end)

  it("has a case for each method", function()
    local gradients <close> = assert(io.open(massact.home .. "/tests/lua/gradients_spec.lua"))
    local text = gradients:read "a"
    for name in pairs(getmetatable(massact.zeros(1)).methods) do
      local base = name:match "^(.*)_$"
      assert(unaries[name] or binaries[name] or reduces[name] or (base and binaries[base]) or cases[covered_by[name]] or plain[covered_by[name]]
        or text:find(":" .. name .. "[%({]") or text:find(":" .. name .. " {", 1, true),
        "method '" .. name .. "' has no case")
    end
  end)
end)
