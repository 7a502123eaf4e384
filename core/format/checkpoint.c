/* Which files hold a checkpoint, and one list of their tensors. */
#include "format/checkpoint.h"

#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "format/json.h"
#include "format/names.h"
#include "format/safetensors.h"
#include "tensor/backend.h"

struct ma_checkpoint {
  ma_gguf *gguf;
  ma_safetensors **shards;
  size_t n_shards;
  const ma_entry **entries;
  size_t n;
  ma_names names;
};

/* ---- gathering entries ---- */

static ma_status add_entry(ma_checkpoint *c, const ma_entry *e, ma_error *err) {
  bool is_new;
  ma_status st = ma_resize((void **)&c->entries, c->n + 1, sizeof *c->entries, err);
  if (st == MA_OK) st = ma_names_add(&c->names, e->name, &is_new, err);
  if (st != MA_OK) return st;
  if (!is_new)
    return ma_fail(err, MA_BAD_FILE, "%s: tensor '%.200s' is in another shard too", ma_map_path(e->map), e->name);
  c->entries[c->n++] = e;
  return MA_OK;
}

static ma_status add_shard(ma_checkpoint *c, const char *path, ma_error *err) {
  ma_status st = ma_resize((void **)&c->shards, c->n_shards + 1, sizeof *c->shards, err);
  ma_safetensors *shard;
  if (st == MA_OK) st = ma_safetensors_open(&shard, path, err);
  if (st != MA_OK) return st;
  c->shards[c->n_shards++] = shard;
  for (size_t i = 0; i < ma_safetensors_count(shard) && st == MA_OK; i++)
    st = add_entry(c, ma_safetensors_entry(shard, i), err);
  return st;
}

static ma_status add_gguf(ma_checkpoint *c, const char *path, ma_error *err) {
  ma_status st = ma_gguf_open(&c->gguf, path, err);
  for (size_t i = 0; st == MA_OK && i < ma_gguf_n_tensors(c->gguf); i++)
    st = add_entry(c, ma_gguf_tensor(c->gguf, i), err);
  return st;
}

/* ---- folders ---- */

/* "folder/name"; *out is new. */
static ma_status join(char **out, const char *folder, const char *name, ma_error *err) {
  size_t length = strlen(folder) + strlen(name) + 2;
  ma_status st = ma_alloc((void **)out, length, 1, err);
  if (st == MA_OK) snprintf(*out, length, "%s/%s", folder, name);
  return st;
}

/* A shard's name comes from a file: it must stay in the folder. */
static ma_status check_shard_name(const char *index, const json_t *value, ma_error *err) {
  const char *name = json_string_value(value);
  if (name && *name && !strchr(name, '/') && !strchr(name, '\\') && strcmp(name, "..") != 0 && strcmp(name, ".") != 0 &&
      strlen(name) == json_string_length(value))
    return MA_OK;
  return ma_fail(err, MA_BAD_FILE, "%s: weight_map names '%.100s', which is no file of this folder", index,
                 name ? name : "(not a string)");
}

/* Every shard that the index names, each once, and every tensor where the index says. */
static ma_status add_index(ma_checkpoint *c, const char *folder, const char *index, ma_error *err) {
  ma_status st = MA_OK;
  json_t *root = NULL, *value;
  const char *tensor;
  char *path = NULL;
  ma_names shards = {0};
  bool is_new;
  MA_TRY(ma_json_read(&root, index, err));
  json_t *map = json_object_get(root, "weight_map");
  if (!json_is_object(map)) MA_TRY(ma_fail(err, MA_BAD_FILE, "%s: there is no weight_map", index));
  json_object_foreach(map, tensor, value) {
    MA_TRY(check_shard_name(index, value, err));
    MA_TRY(ma_names_add(&shards, json_string_value(value), &is_new, err));
    if (!is_new) continue;
    MA_TRY(join(&path, folder, json_string_value(value), err));
    MA_TRY(add_shard(c, path, err));
    ma_free(path);
    path = NULL;
  }
  json_object_foreach(map, tensor, value) {
    const ma_entry *e = ma_checkpoint_find(c, tensor);
    const char *file = e ? strrchr(ma_map_path(e->map), '/') : NULL;
    if (!e || !file || strcmp(file + 1, json_string_value(value)) != 0)
      MA_TRY(ma_fail(err, MA_BAD_FILE, "%s: tensor '%.200s' is not in %s", index, tensor, json_string_value(value)));
  }
done:
  ma_free(path);
  ma_names_release(&shards);
  json_decref(root);
  return st;
}

static ma_status add_folder(ma_checkpoint *c, const char *folder, ma_error *err) {
  ma_status st = MA_OK;
  char *index = NULL, *single = NULL;
  MA_TRY(join(&index, folder, "model.safetensors.index.json", err));
  MA_TRY(join(&single, folder, "model.safetensors", err));
  if (ma_file_exists(single)) MA_TRY(add_shard(c, single, err));
  else if (ma_file_exists(index)) MA_TRY(add_index(c, folder, index, err));
  else MA_TRY(ma_fail(err, MA_IO, "'%s' has neither model.safetensors nor model.safetensors.index.json", folder));
done:
  ma_free(index);
  ma_free(single);
  return st;
}

/* ---- opening ---- */

static bool ends_with(const char *text, const char *end) {
  size_t n = strlen(text), m = strlen(end);
  return n >= m && strcmp(text + n - m, end) == 0;
}

ma_status ma_checkpoint_open(ma_checkpoint **out, const char *path, ma_error *err) {
  ma_status st = MA_OK;
  ma_checkpoint *c = NULL;
  *out = NULL;
  MA_TRY(MA_NEW(&c, 1, err));
  if (!ma_file_exists(path)) MA_TRY(ma_fail(err, MA_IO, "there is no '%s'", path));
  if (ma_file_is_folder(path)) MA_TRY(add_folder(c, path, err));
  else if (ends_with(path, ".safetensors")) MA_TRY(add_shard(c, path, err));
  else MA_TRY(add_gguf(c, path, err));
  *out = c;
  c = NULL;
done:
  ma_checkpoint_close(c);
  return st;
}

void ma_checkpoint_close(ma_checkpoint *c) {
  if (!c) return;
  ma_gguf_close(c->gguf);
  for (size_t i = 0; i < c->n_shards; i++) ma_safetensors_close(c->shards[i]);
  ma_free(c->shards);
  ma_free((void *)c->entries);
  ma_names_release(&c->names);
  ma_free(c);
}

size_t ma_checkpoint_count(const ma_checkpoint *c) { return c->n; }
const ma_entry *ma_checkpoint_entry(const ma_checkpoint *c, size_t i) { return c->entries[i]; }
const ma_gguf *ma_checkpoint_gguf(const ma_checkpoint *c) { return c->gguf; }

const ma_entry *ma_checkpoint_find(const ma_checkpoint *c, const char *name) {
  size_t i = ma_names_find(&c->names, name);
  return i < c->n ? c->entries[i] : NULL;
}

/* Kernels read elements at their natural alignment; safetensors files owe us none. */
static ma_status aligned_copy(ma_tensor *out, const ma_entry *e, ma_error *err) {
  ma_status st = ma_tensor_new(out, ma_device_cpu(), e->dtype, e->n_dims, e->shape, err);
  if (st == MA_OK) memcpy(ma_tensor_data(out), ma_map_data(e->map) + e->offset, (size_t)e->bytes);
  return st;
}

ma_status ma_checkpoint_tensor(ma_tensor *out, const ma_checkpoint *c, const char *name, ma_error *err) {
  const ma_entry *e = ma_checkpoint_find(c, name);
  ma_storage *storage;
  *out = (ma_tensor){0};
  if (!e) return ma_fail(err, MA_BAD_FILE, "the checkpoint has no tensor '%.200s'", name);
  if (!e->is_readable)
    return ma_fail(err, MA_UNSUPPORTED, "tensor '%.200s' is %s, which massact does not compute with", name,
                   e->dtype_name);
  const ma_dtype_info *info = ma_dtype_describe(e->dtype);
  if (!ma_dtype_is_block(e->dtype) && e->offset % info->bytes != 0) return aligned_copy(out, e, err);
  ma_status st = ma_storage_of_map(&storage, e->map, ma_map_data(e->map) + e->offset, (size_t)e->bytes, err);
  if (st != MA_OK) return st;
  st = ma_tensor_over(out, storage, 0, e->dtype, e->n_dims, e->shape, err);
  ma_storage_release(storage);
  return st;
}

ma_status ma_checkpoint_check(const ma_checkpoint *c, ma_error *err) {
  ma_status st = MA_OK;
  for (size_t i = 0; i < c->n && st == MA_OK; i++) st = ma_map_check(c->entries[i]->map, err);
  return st;
}
