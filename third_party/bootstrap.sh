#!/bin/sh
# Sets massact up on Debian 12 (or a relative of it): packages, build, then a job.
#   bootstrap.sh packages       install what is missing
#   bootstrap.sh checkers       install what only .ci/run wants
#   bootstrap.sh build [PRESET] configure and build (release)
#   bootstrap.sh demo           all that, then the main experiment on the embedded default model
#   bootstrap.sh test           all that, then the tests
set -eu
cd "$(dirname "$0")/.."

PACKAGES="build-essential cmake ninja-build pkg-config git ca-certificates lua5.4 liblua5.4-dev libopenblas0-openmp
  libopenblas-openmp-dev libpng-dev libcairo2-dev libpango1.0-dev libpcre2-dev libutf8proc-dev libjansson-dev zlib1g-dev libzstd-dev libedit-dev
  libssl-dev libcmocka-dev lua-busted fonts-dejavu-core"

packages() {
  missing=""
  for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $package"
  done
  [ -n "$missing" ] || return 0
  sudo=""
  [ "$(id -u)" = 0 ] || sudo=sudo
  $sudo apt-get update -qq
  # sudo drops the environment, so it is set behind it.
  # shellcheck disable=SC2086
  $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
}

build() {
  cmake --preset "$1" >/dev/null
  cmake --build --preset "$1"
}

case "${1:-}" in
  # shellcheck disable=SC2086
  packages) packages $PACKAGES ;;
  checkers) packages lua-check clang-format gcc-aarch64-linux-gnu libc6-dev-arm64-cross ;;
  build) build "${2:-release}" ;;
  demo)
    packages $PACKAGES
    build release
    build/release/massact run experiments/intervention.lua
    ;;
  test)
    packages $PACKAGES
    build release
    ctest --test-dir build/release --output-on-failure
    ;;
  *)
    sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
