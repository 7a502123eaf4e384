/* What scripts need from the operating system and from the machine, beyond Lua's own libraries. */
#include <dirent.h>
#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backend/cpu/blas.h"
#include "backend/cpu/rows.h"
#include "base/file.h"
#include "base/log.h"
#include "base/threads.h"
#include "base/utf8.h"
#include "bind/bind.h"
#include "tensor/backend.h"

#define BIND_PROGRESS "massact.Progress"
#define BIND_FOLDER   "massact.Folder"

static int clock_(lua_State *L) {
  lua_pushnumber(L, ma_clock());
  return 1;
}

static int exists(lua_State *L) {
  lua_pushboolean(L, ma_file_exists(luaL_checkstring(L, 1)));
  return 1;
}

/* stamp(path): size in bytes, time of the last change in seconds since 1970; nothing where there is no file. */
static int stamp(lua_State *L) {
  struct stat about;
  if (stat(luaL_checkstring(L, 1), &about) != 0) return 0;
  lua_pushinteger(L, (lua_Integer)about.st_size);
  lua_pushnumber(L, (lua_Number)about.st_mtim.tv_sec + 1e-9 * (lua_Number)about.st_mtim.tv_nsec);
  return 2;
}

static int is_folder(lua_State *L) {
  lua_pushboolean(L, ma_file_is_folder(luaL_checkstring(L, 1)));
  return 1;
}

static int make_folder(lua_State *L) {
  ma_error err;
  if (ma_folder_make(luaL_checkstring(L, 1), &err) != MA_OK) return bind_raise(L, &err);
  return 0;
}

static int folder_gc(lua_State *L) {
  DIR **box = luaL_checkudata(L, 1, BIND_FOLDER);
  if (*box) closedir(*box);
  *box = NULL;
  return 0;
}

/* Names in a folder, in no order. */
static int list(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  DIR **box = bind_new(L, BIND_FOLDER, sizeof *box, 0);
  *box = opendir(path);
  if (!*box) return bind_error(L, "cannot list '%s': %s", path, strerror(errno));
  lua_newtable(L);
  lua_Integer n = 0;
  for (struct dirent *entry; (entry = readdir(*box));) {
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    lua_pushstring(L, entry->d_name);
    lua_rawseti(L, -2, ++n);
  }
  return 1;
}

/* write(path, text): beside, then renamed. */
static int write_file(lua_State *L) {
  ma_error err;
  size_t length;
  const char *path = luaL_checkstring(L, 1), *text = luaL_checklstring(L, 2, &length);
  ma_writer *writer;
  ma_status st = ma_writer_open(&writer, path, &err);
  if (st == MA_OK) {
    st = ma_writer_write(writer, text, length, &err);
    if (st == MA_OK) st = ma_writer_commit(writer, &err);
    ma_writer_close(writer);
  }
  return st == MA_OK ? 0 : bind_raise(L, &err);
}

/* SHA-256 of a file, in hexadecimal. */
static int sha256(lua_State *L) {
  ma_error err;
  ma_map *map;
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int length = 0;
  char text[2 * EVP_MAX_MD_SIZE + 1];
  if (ma_map_open(&map, luaL_checkstring(L, 1), &err) != MA_OK) return bind_raise(L, &err);
  int made = EVP_Digest(ma_map_data(map), ma_map_size(map), digest, &length, EVP_sha256(), NULL);
  ma_status st = ma_map_check(map, &err);
  ma_map_release(map);
  if (st != MA_OK) return bind_raise(L, &err);
  if (!made) return bind_error(L, "SHA-256 is not available");
  for (unsigned int i = 0; i < length; i++) snprintf(text + 2 * i, 3, "%02x", digest[i]);
  lua_pushlstring(L, text, 2 * (size_t)length);
  return 1;
}

/* Whether text is UTF-8: true, or false and the offset of the first byte that is not. */
static int check_utf8(lua_State *L) {
  size_t length;
  const char *text = luaL_checklstring(L, 1, &length);
  size_t bad = ma_utf8_bad_byte(text, length);
  lua_pushboolean(L, bad == length);
  lua_pushinteger(L, (lua_Integer)bad);
  return 2;
}

static void set_text(lua_State *L, const char *key, const char *value) {
  lua_pushstring(L, value);
  lua_setfield(L, -2, key);
}

/* The device that the text at `index` names; none: the CPU. */
static ma_device *opt_device(lua_State *L, int index) {
  ma_error err;
  ma_device *device;
  if (ma_device_find(&device, luaL_optstring(L, index, "cpu"), &err) != MA_OK) bind_raise(L, &err);
  return device;
}

/* What a machine's record says about the device that computed. */
static void set_device(lua_State *L, ma_device *device) {
  uint64_t free_bytes = 0, total_bytes = 0;
  set_text(L, "device", device->name);
  if (device == ma_device_cpu()) return;
  set_text(L, "device_hardware", device->hardware);
  lua_pushboolean(L, device->allows_tf32);
  lua_setfield(L, -2, "tf32");
  if (device->backend->memory(device, &free_bytes, &total_bytes, NULL) != MA_OK) return;
  lua_pushinteger(L, (lua_Integer)total_bytes);
  lua_setfield(L, -2, "device_memory_bytes");
}

/* machine(device?): what a run's record says about where it ran. */
static int machine(lua_State *L) {
  char text[256] = "";
  ma_device *device = opt_device(L, 1);
  uint64_t free_bytes = 0, total_bytes = 0;
  ma_device *cpu = ma_device_cpu();
  lua_newtable(L);
  gethostname(text, sizeof text - 1);
  set_text(L, "host", text);
  ma_blas_describe(text, sizeof text);
  set_text(L, "blas", text);
  set_text(L, "row_kernels", ma_rows_get()->name);
  lua_pushinteger(L, ma_threads());
  lua_setfield(L, -2, "threads");
  if (cpu->backend->memory(cpu, &free_bytes, &total_bytes, NULL) == MA_OK) {
    lua_pushinteger(L, (lua_Integer)total_bytes);
    lua_setfield(L, -2, "memory_bytes");
  }
  set_device(L, device);
  return 1;
}

/* memory(device?): bytes that are free, and in all. */
static int memory(lua_State *L) {
  ma_error err;
  uint64_t free_bytes = 0, total_bytes = 0;
  ma_device *device = opt_device(L, 1);
  if (device->backend->memory(device, &free_bytes, &total_bytes, &err) != MA_OK) return bind_raise(L, &err);
  lua_pushinteger(L, (lua_Integer)free_bytes);
  lua_pushinteger(L, (lua_Integer)total_bytes);
  return 2;
}

/* allow_tf32(device, allowed): whether products of f32 may be in TF32 there. */
static int allow_tf32(lua_State *L) {
  ma_device *device = opt_device(L, 1);
  luaL_checktype(L, 2, LUA_TBOOLEAN);
  if (device == ma_device_cpu()) return bind_error(L, "allow_tf32: the CPU has no TF32; name a GPU");
  device->allows_tf32 = lua_toboolean(L, 2);
  return 0;
}

/* wait(device?): until a device has done what it was asked to. */
static int wait_(lua_State *L) {
  ma_error err;
  ma_device *device = opt_device(L, 1);
  return device->backend->sync(device, &err) == MA_OK ? 0 : bind_raise(L, &err);
}

/* The path of the running massact. */
static int executable(lua_State *L) {
  char path[4096];
  ssize_t length = readlink("/proc/self/exe", path, sizeof path);
  if (length < 0) return bind_error(L, "cannot tell which program runs: %s", strerror(errno));
  lua_pushlstring(L, path, (size_t)length);
  return 1;
}

static int peak_memory(lua_State *L) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  lua_pushinteger(L, (lua_Integer)usage.ru_maxrss * 1024);
  return 1;
}

static int set_threads(lua_State *L) {
  ma_threads_set((int)luaL_checkinteger(L, 1));
  return 0;
}

static int is_terminal(lua_State *L) {
  lua_pushboolean(L, isatty((int)luaL_optinteger(L, 1, STDOUT_FILENO)));
  return 1;
}

static int clear_interrupt(lua_State *L) {
  (void)L;
  ma_interrupt_clear();
  return 0;
}

/* ---- progress ---- */

static int progress_new(lua_State *L) {
  const char *label = luaL_checkstring(L, 1);
  lua_Integer total = luaL_checkinteger(L, 2);
  ma_progress *p = bind_new(L, BIND_PROGRESS, sizeof *p, 0);
  ma_progress_start(p, label, total > 0 ? (size_t)total : 0);
  return 1;
}

static int progress_update(lua_State *L) {
  ma_progress *p = luaL_checkudata(L, 1, BIND_PROGRESS);
  lua_Integer done = luaL_optinteger(L, 2, (lua_Integer)p->done + 1);
  ma_progress_update(p, done > 0 ? (size_t)done : 0);
  return 0;
}

static int progress_end(lua_State *L) {
  ma_progress_end(luaL_checkudata(L, 1, BIND_PROGRESS));
  return 0;
}

int bind_open_system(lua_State *L) {
  static const luaL_Reg meta[] = {{"__gc", progress_end}, {"__close", progress_end}, {NULL, NULL}};
  static const luaL_Reg methods[] = {{"update", progress_update}, {"done", progress_end}, {NULL, NULL}};
  static const luaL_Reg functions[] = {{"clock", clock_},
                                       {"exists", exists},
                                       {"is_folder", is_folder},
                                       {"stamp", stamp},
                                       {"make_folder", make_folder},
                                       {"list", list},
                                       {"write", write_file},
                                       {"sha256", sha256},
                                       {"check_utf8", check_utf8},
                                       {"machine", machine},
                                       {"peak_memory", peak_memory},
                                       {"set_threads", set_threads},
                                       {"is_terminal", is_terminal},
                                       {"clear_interrupt", clear_interrupt},
                                       {"progress", progress_new},
                                       {"memory", memory},
                                       {"executable", executable},
                                       {"allow_tf32", allow_tf32},
                                       {"wait", wait_},
                                       {NULL, NULL}};
  static const luaL_Reg folder_meta[] = {{"__gc", folder_gc}, {NULL, NULL}};
  bind_class(L, BIND_PROGRESS, meta, methods);
  bind_class(L, BIND_FOLDER, folder_meta, NULL);
  luaL_newlib(L, functions);
  return 1;
}
