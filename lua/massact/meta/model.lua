---@meta

-- Models, points and what stands on them, as editors see them.

---@class massact.Model
---@field name string
---@field path string
---@field family string
---@field dtype "f32"|"bf16"|"f16" what it computes in; tensors shown at points are f32 and hold values of this dtype
---@field n_layers integer
---@field d_model integer
---@field vocab_size integer
---@field max_positions integer
---@field spec table the fields of core/model/spec.def
---@field config table config.json, or what GGUF's metadata says in its words
---@field tokenizer massact.Tokenizer loaded when first used
---@field checkpoint massact.Checkpoint
local Model = {}

---@return string "cpu", "cuda:0"
function Model:device() end

---Keys and values of the tokens of earlier passes: model:forward(ids, {cache = cache}) goes on behind them.
---@class massact.Cache
---@operator len: integer tokens held
local Cache = {}

---@return integer tokens it has room for
function Cache:capacity() end

---Forgets all but the first n tokens.
---@param n integer
function Cache:rewind(n) end

function Cache:close() end

---An empty cache.
---@param capacity integer tokens a sequence
---@param n_sequences? integer 1
---@return massact.Cache
function Model:cache(capacity, n_sequences) end

---@class massact.Forward
---@field capture? string|string[] patterns of points to copy: out["layers.3.out"]
---@field logits? boolean out.logits [B T V]
---@field loss? boolean out.loss: mean of -log p(next token) over all predictions, in nats
---@field token_losses? boolean out.token_losses [B T-1]
---@field start_at? {point: string, value: massact.Tensor} embed, layers.n.in, .mid, .out or final.norm; nothing before it is computed
---@field stop_at? string the last point that is computed
---@field cache? massact.Cache positions go on behind the tokens that it holds, and these are added to it
---@field grad? boolean|"points" the pass is recorded (not within no_grad), and out.loss is a tensor: after out.loss:backward() captured
---tensors have their `.grad`, and so have weights that require one (model:parameters); with "points" weights are left out, which
---costs half.  Captured tensors are then the pass's own: what is computed from them goes back, too
---@field checkpoint? boolean of a recorded pass: layers keep their input only, and run again on the way back (nobody is shown
---anything then); layers inside which somebody stands are recorded as ever

---Runs the decoder once.
---@param ids integer[]|integer[][]|massact.Tensor
---@param options? massact.Forward
---@return table out
function Model:forward(ids, options) end

---The places that a name ("layers.3.mlp.act"), a pattern (`*` but for dots, `**`, `{2..9}`, `{1,4}`) or the checkpoint's own module
---path ("model.layers.3.self_attn") means.
---@param pattern string
---@return massact.Point
function Model:point(pattern) end

---Names of all points, in the order of the pass.
---@return string[]
function Model:point_names() end

---Bytes of copies of weights that passes keep.
---@return integer
function Model:wide_bytes() end

---The most bytes that a pass has taken so far, beyond weights.
---@return integer
function Model:pass_bytes() end

---Frees everything now; using the model afterwards is an error.
function Model:close() end

---Binds a slot of core/model/slots.def to a tensor (for lua/massact/load.lua).
---@param slot string "layers.3.attn.q.weight"
---@param tensor massact.Tensor
function Model:bind(slot, tensor) end

---Ends binding: every slot that the spec needs is filled.
---@param budget number bytes that widened copies may take
function Model:finish(budget) end

---The table behind model.NAME (for lua/massact).
---@return table
function Model:fields() end

---@class massact.Point
---@operator len: integer
local Point = {}

---Names of the places.
---@return string[]
function Point:names() end

---Calls a function with the live tensor and where it is, in every pass, until removed.  It may write to the tensor, which dies
---with the visit; clone() what is to stay.  In a recorded pass the tensor is on the tape and lives on: what the hook writes and
---computes goes back, too, and what earlier operations need of the old values stays.
---With `grad` the function sees gradients instead: on the way back from recorded passes, f32, shaped as the tensor at the point.
---What it writes to them flows on.
---@param visit fun(x: massact.Tensor, at: {name: string, layer?: integer})
---@param options? {grad?: boolean}
---@return massact.Handle
function Point:hook(visit, options) end

---Statistics of |x|, computed where the tensor is: max, median, topN (signed values), mean, std, kurtosis, l1, l2, min, nonfinite,
---over_f16 (of x).  After a pass probe["layers.3.out"][b] has those of sequence b (from 1).
---@param statistics string[]
---@param options? {entries?: {above?: number, ratio?: number}} list what exceeds above and ratio x median (100, 1000)
---@return massact.Handle
function Point:probe(statistics, options) end

---A write described as data: one of to, add, scale at the picked sequences, positions, heads and dims (all where absent).
---@param patch {sequences?: integer[], positions?: integer[], heads?: integer[], dims?: integer[], to?: number|number[], add?: number|number[], scale?: number|number[]}
---@return massact.Handle
function Point:patch(patch) end

---What stands on points; `local h <close> = ...` removes it at the end of the block.
---@class massact.Handle
local Handle = {}

function Handle:remove() end
