#!/usr/bin/env bash
# Builds the C library and installs it: headers, libringmain.a, libringmain.so, ringmain.pc, the CMake package.
#
#   capi/install.sh PREFIX        for example /usr/local, or any directory of your own
#
# Needs cargo and a C linker. DESTDIR is put before PREFIX, as usual; CARGO_TARGET_DIR is heeded.
set -euo pipefail
[ $# -eq 1 ] || { sed -n '2,6p' "$0" | cut -c3-; exit 2; }
case $1 in /*) prefix=${1%/} ;; *) prefix=$PWD/${1%/} ;; esac
cd "$(dirname "$0")/.."
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
so=libringmain.so.$version

# Both libraries in one go. The ABI is not stable yet, so the whole version is the library's name at run time.
messages=$(cargo rustc --quiet --release --lib --features capi --crate-type cdylib,staticlib --message-format json -- \
  -C "link-arg=-Wl,-soname,$so" -C link-arg=-Wl,-z,defs)
# A library is what the last message names that has one.
library() { grep -o "\"[^\"]*libringmain[^\"]*\.$1\"" <<<"$messages" | tail -n 1 | tr -d "\""; }

root=${DESTDIR:-}$prefix
install -d "$root/include" "$root/lib/pkgconfig" "$root/lib/cmake/ringmain"
install -m 644 include/ringmain.h include/ringmain.hpp "$root/include/"
install -m 644 "$(library a)" "$root/lib/libringmain.a"
install -m 755 "$(library so)" "$root/lib/$so"
ln -sf "$so" "$root/lib/libringmain.so"
# Line tables of the whole standard library would take most of the space.
strip --strip-debug "$root/lib/libringmain.a" "$root/lib/$so"
sed -e "s|@PREFIX@|$prefix|" -e "s|@VERSION@|$version|" capi/ringmain.pc.in >"$root/lib/pkgconfig/ringmain.pc"
sed "s|@VERSION@|$version|" capi/ringmainConfig.cmake.in >"$root/lib/cmake/ringmain/ringmainConfig.cmake"
sed "s|@VERSION@|$version|" capi/ringmainConfigVersion.cmake.in >"$root/lib/cmake/ringmain/ringmainConfigVersion.cmake"
echo "ringmain $version is installed in $root"
