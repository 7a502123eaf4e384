/* Sorting lines, and the first of them.  Tiles are sorted in shared memory, and merged in passes: an item's place is its own in
 * its run and that which binary search gives it in the other one.  The first k of a long line are in the k tiles whose own first
 * items are first: one look at each element finds these. */
#include "backend/cuda/sort.cuh"

namespace {

constexpr int64_t TILE = MA_IS_EMULATED ? 64 : 1024;
constexpr int64_t FEW = TILE / 8;  /* first items of a line that are found without sorting all of it */
constexpr int64_t BATCH = 1 << 24; /* items that lines are sorted in at a time: 256 MiB, and as many to merge to */

/* ---- where items are read ---- */

struct item_source {
  ma_lines lines;
  bool is_descending;
  int64_t first;        /* the first line that is read */
  const ma_item *items; /* [n length], in place of the elements of lines; or NULL */
  int64_t length;
};

__device__ int64_t start_of(const item_source &s, int64_t line) {
  return s.items ? 0 : ma_line_start(s.lines, s.first + line);
}

/* `start` is that of the line. */
__device__ ma_item item_at(const item_source &s, int64_t line, int64_t start, int64_t e) {
  if (s.items) return s.items[line * s.length + e];
  return {ma_key_at(s.lines, start + e * s.lines.step, s.is_descending), e};
}

/* ---- tiles ---- */

struct tile_job {
  item_source from;
  int64_t size;     /* of a tile, a power of 2 */
  int64_t n_tiles;  /* of a line */
  ma_sorted chosen; /* the tiles are those that these elements are in; or, where it has no items, one after the other */
  int64_t keep;     /* as many items of each tile are written */
  ma_sorted to;     /* `step` items a line */
};

/* A block for each tile. */
__global__ void sort_tiles_kernel(const tile_job j) {
  MA_SHARED_BYTES(bytes);
  ma_item *tile = reinterpret_cast<ma_item *>(bytes);
  const int64_t line = blockIdx.x / j.n_tiles, place = blockIdx.x % j.n_tiles, start = start_of(j.from, line);
  const int64_t number = j.chosen.items ? j.chosen.items[line * j.chosen.step + place].index / j.size : place;
  for (int64_t i = threadIdx.x; i < j.size; i += blockDim.x) {
    const int64_t e = number * j.size + i;
    tile[i] = e < j.from.length ? item_at(j.from, line, start, e) : ma_last_item();
  }
  ma_block_sort(tile, static_cast<unsigned>(j.size));
  for (int64_t i = threadIdx.x; i < j.keep && place * j.keep + i < j.to.step; i += blockDim.x)
    j.to.items[line * j.to.step + place * j.keep + i] = tile[i];
}

ma_status sort_tiles(ma_device *device, const tile_job &j, int64_t n, ma_error *err) {
  const unsigned threads = j.size / 2 < MA_WARP ? MA_WARP : static_cast<unsigned>(j.size / 2);
  const size_t shared = static_cast<size_t>(j.size) * sizeof(ma_item);
  return ma_launch("sort", sort_tiles_kernel, ma_grid_rows(device, n * j.n_tiles, threads, shared), err, j);
}

/* The key of each tile's first item, and where it is, by a warp.  Items that are read are in the order of their indices. */
__global__ void first_of_tiles_kernel(ma_item *to, const item_source from, int64_t n, int64_t n_tiles) {
  const int64_t lane = threadIdx.x % MA_WARP;
  for (int64_t task = ma_thread() / MA_WARP; task < n * n_tiles; task += ma_n_threads() / MA_WARP) {
    const int64_t line = task / n_tiles, first = task % n_tiles * TILE, start = start_of(from, line);
    const int64_t end = first + TILE < from.length ? first + TILE : from.length;
    ma_item best = ma_last_item();
    for (int64_t e = first + lane; e < end; e += MA_WARP) {
      const ma_item x = {item_at(from, line, start, e).key, e};
      if (ma_comes_before(x, best)) best = x;
    }
    for (unsigned offset = MA_WARP / 2; offset > 0; offset /= 2) {
      const ma_item other = ma_item_of_lane(best, static_cast<unsigned>(lane) ^ offset);
      if (ma_comes_before(other, best)) best = other;
    }
    if (lane == 0) to[task] = best;
  }
}

/* Of each line, neighbouring runs of `run` items become one. */
__global__ void merge_kernel(ma_item *to, const ma_item *from, int64_t n, int64_t length, int64_t run) {
  for
    MA_EACH(i, n * length) {
      const int64_t place = i % length, pair = place / (2 * run) * 2 * run;
      const int64_t middle = pair + run < length ? pair + run : length,
                    end = pair + 2 * run < length ? pair + 2 * run : length;
      const int64_t own = place < middle ? pair : middle, others = place < middle ? middle : pair;
      const ma_item *line = from + (i - place), item = line[place];
      int64_t low = others, high = place < middle ? end : middle;
      while (low < high) {
        const int64_t half = low + (high - low) / 2;
        if (ma_comes_before(line[half], item)) low = half + 1;
        else high = half;
      }
      to[i - place + pair + (place - own) + (low - others)] = item;
    }
}

/* ---- whole lines, and the first of them ---- */

ma_status take_items(ma_sorted *out, ma_scratch *memory, int64_t n, int64_t step, ma_error *err) {
  MA_CUDA_TRY(memory->take(static_cast<size_t>(n * step) * sizeof(ma_item), err));
  *out = {memory->as<ma_item>(), step};
  return MA_OK;
}

void swap(ma_scratch *a, ma_scratch *b) {
  void *data = a->data;
  a->data = b->data;
  b->data = data;
}

ma_status sort_all(ma_sorted *out, ma_scratch *memory, const item_source &s, int64_t n, ma_error *err) {
  ma_device *device = memory->device;
  ma_scratch spare(device);
  ma_sorted merged;
  int64_t size = MA_WARP;
  while (size < TILE && size < s.length) size *= 2;
  MA_CUDA_TRY(take_items(out, memory, n, s.length, err));
  MA_CUDA_TRY(sort_tiles(device, {s, size, (s.length + size - 1) / size, {nullptr, 0}, size, *out}, n, err));
  if (size < s.length) MA_CUDA_TRY(take_items(&merged, &spare, n, s.length, err));
  for (int64_t run = size; run < s.length; run *= 2) {
    MA_CUDA_TRY(ma_launch("sort", merge_kernel, ma_grid_over(device, n * s.length), err, spare.as<ma_item>(),
                          memory->as<ma_item>(), n, s.length, run));
    swap(memory, &spare);
  }
  out->items = memory->as<ma_item>();
  return MA_OK;
}

/* Rounds: each leaves k items of each tile, or of each of the k tiles that matter. */
ma_status find_first(ma_sorted *out, ma_scratch *memory, const item_source &s, int64_t n, int64_t k, ma_error *err) {
  ma_device *device = memory->device;
  const int64_t n_tiles = (s.length + TILE - 1) / TILE, of_last = s.length - (n_tiles - 1) * TILE;
  if (n_tiles <= 1 || k > FEW) return sort_all(out, memory, s, n, err);
  ma_scratch bests(device), chosen(device), kept(device);
  ma_sorted left;
  item_source next = s;
  tile_job j{s, TILE, n_tiles, {nullptr, 0}, k, {nullptr, 0}};
  int64_t n_left = (n_tiles - 1) * k + (of_last < k ? of_last : k);
  if (n_tiles > k) {
    MA_CUDA_TRY(take_items(&left, &bests, n, n_tiles, err));
    MA_CUDA_TRY(ma_launch("topk", first_of_tiles_kernel, ma_grid_over(device, n * n_tiles * MA_WARP), err, left.items,
                          s, n, n_tiles));
    next.items = left.items, next.length = n_tiles;
    MA_CUDA_TRY(find_first(&j.chosen, &chosen, next, n, k, err));
    j.n_tiles = k, n_left = k * k;
  }
  MA_CUDA_TRY(take_items(&j.to, &kept, n, n_left, err));
  MA_CUDA_TRY(sort_tiles(device, j, n, err));
  next.items = j.to.items, next.length = n_left;
  return find_first(out, memory, next, n, k, err);
}

/* ---- what tensors get of it ---- */

struct put_job {
  ma_sorted from;
  ma_lines in, out, index; /* `index` has no data where none is wanted */
  int64_t first;           /* line */
};

__global__ void put_kernel(const put_job j, int64_t n) {
  for
    MA_EACH(i, n * j.out.length) {
      const int64_t line = i / j.out.length, e = i % j.out.length, from = j.from.items[line * j.from.step + e].index;
      const double x = ma_load_double(j.in.data, j.in.dtype, ma_line_start(j.in, j.first + line) + from * j.in.step);
      ma_store_double(j.out.data, j.out.dtype, ma_line_start(j.out, j.first + line) + e * j.out.step, x);
      if (j.index.data)
        static_cast<int64_t *>(j.index.data)[ma_line_start(j.index, j.first + line) + e * j.index.step] = from;
    }
}

/* As many of each line as `out` has. */
ma_status put_first(ma_tensor *out, ma_tensor *index, const ma_tensor *a, int dim, bool is_descending, ma_error *err) {
  ma_device *device = ma_tensor_device(out);
  put_job j{};
  j.in = ma_lines_along(a, dim), j.out = ma_lines_along(out, dim);
  if (index) j.index = ma_lines_along(index, dim);
  if (j.out.length == 0) return MA_OK;
  const int64_t each = j.in.length < BATCH ? BATCH / j.in.length : 1;
  for (; j.first < j.in.n; j.first += each) {
    const int64_t n = j.in.n - j.first < each ? j.in.n - j.first : each;
    ma_scratch memory(device);
    MA_CUDA_TRY(ma_cuda_first_items(&j.from, &memory, j.in, j.first, n, is_descending, j.out.length, err));
    MA_CUDA_TRY(ma_launch("sort", put_kernel, ma_grid_over(device, n * j.out.length), err, j, n));
  }
  return MA_OK;
}

} // namespace

ma_status ma_cuda_first_items(ma_sorted *out, ma_scratch *memory, const ma_lines &lines, int64_t first, int64_t n,
                              bool is_descending, int64_t k, ma_error *err) {
  return find_first(out, memory, {lines, is_descending, first, nullptr, lines.length}, n, k, err);
}

ma_status ma_cuda_sort(ma_tensor *out, ma_tensor *index, const ma_tensor *a, int dim, bool descending, ma_error *err) {
  if (dim == MA_ALL) return ma_fail(err, MA_UNSUPPORTED, "sort: along one dim");
  return put_first(out, index, a, dim, descending, err);
}

ma_status ma_cuda_topk(ma_tensor *out, ma_tensor *index, const ma_tensor *a, int64_t, bool largest, ma_error *err) {
  return put_first(out, index, a, a->n_dims - 1, largest, err);
}
