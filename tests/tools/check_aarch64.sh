#!/bin/sh
# Compiles every file of core/ for aarch64, warnings as errors: what is written for x86-64 alone does not pass.  Nothing is linked,
# so that this machine's headers of the dependencies do.  Says so and succeeds where there is no cross compiler.
set -eu
cd "$(dirname "$0")/../.."
compiler=${1:-aarch64-linux-gnu-gcc}
if ! command -v "$compiler" >/dev/null; then
  echo "check_aarch64: no $compiler (Debian: gcc-aarch64-linux-gnu), nothing checked"
  exit 0
fi

# The dependencies' headers alone: beside them lie those of this machine's C library.
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/common" "$folder/native"
link_headers() { # FROM TO
  for header in "$1"/lua5.4* "$1"/cairo "$1"/png*.h "$1"/libpng* "$1"/pcre2.h "$1"/utf8proc.h "$1"/jansson*.h "$1"/openssl "$1"/histedit.h \
    "$1"/editline "$1"/freetype2 "$1"/pixman-1 "$1"/pango-1.0 "$1"/glib-2.0 "$1"/harfbuzz "$1"/fribidi; do
    [ ! -e "$header" ] || ln -s "$header" "$2/"
  done
}
link_headers /usr/include "$folder/common"
native=$(cc -print-multiarch 2>/dev/null || true)
[ -z "$native" ] || link_headers "/usr/include/$native" "$folder/native"
flags=$(pkg-config --cflags lua5.4 pangocairo cairo libpng libpcre2-8 libutf8proc jansson libedit libcrypto |
  sed "s|-I/usr/include/|-isystem $folder/common/|g; s|-I/|-isystem /|g")

failed=0
n=0
for file in $(find core -name '*.c' | sort); do
  n=$((n + 1))
  case $file in
    core/backend/cpu/rows.c) extra="-DMA_ISA=baseline -O3 -fopenmp-simd -fno-trapping-math -ffp-contract=fast" ;;
    core/main.c) extra='-DMASSACT_VERSION="0" -DMASSACT_SOURCE="."' ;;
    core/backend/cuda/*) extra='-DMASSACT_CUDA -DMASSACT_CUDA_LIBRARIES="." -Itests/cuda/emulation' ;; # the toolkit's headers are this machine's
    *) extra="" ;;
  esac
  # shellcheck disable=SC2086
  "$compiler" -std=c11 -D_GNU_SOURCE -O2 -fopenmp -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror -fno-math-errno -Icore $extra \
    $flags -isystem "$folder/common" -isystem "$folder/native" -c "$file" -o "$folder/out.o" || failed=$((failed + 1))
done
if [ "$failed" -gt 0 ]; then
  echo "check_aarch64: $failed of $n files do not compile" >&2
  exit 1
fi
echo "check_aarch64: $n files compile"
