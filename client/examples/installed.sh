#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Is what `make install` puts down enough for somebody who only has pkg-config?
# Installs the client into a directory of its own, builds an example against it
# outside the tree, and runs that.
#   installed.sh CMAKE BUILD_DIR SOURCE_DIR LETHE_STORE CC
set -e
cmake=$1 build=$2 source=$3 store=$4 cc=$5
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"$cmake" --install "$build" --component client --prefix "$dir/usr" >"$dir/log" 2>&1 || { cat "$dir/log"; exit 1; }
PKG_CONFIG_PATH=$(dirname "$(find "$dir/usr" -name lethe.pc)")
export PKG_CONFIG_PATH
cp "$source/01_get_and_insert.c" "$dir/mine.c"
cd "$dir"
# shellcheck disable=SC2046
"$cc" -Wall -Wextra -Werror -Wno-unused-parameter mine.c -o mine $(pkg-config --cflags --libs lethe)
"$source/run.sh" "$store" ./mine
