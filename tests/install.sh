#!/bin/bash
# Installs a build into a fresh prefix and uses it as a newcomer would: the quickstart example is
# compiled once through pkg-config and once through find_package, and both train a tiny run.
#   install.sh BUILD SOURCE COMPILER [SANITIZERS]
set -euo pipefail
build=$1 source=$2 compiler=$3 sanitizers=${4:-}
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
say() { echo "$*" && false; }

cmake --install "$build" --prefix "$place/prefix" >"$place/log" || say "the installation failed"
pc=$(find "$place/prefix" -name fedlane.pc)
lib=$(dirname "$(dirname "$pc")")

# Of the library's own names only the public ones may be seen.
shown=$(nm -D --defined-only "$lib/libfedlane.so" | awk '{ print $3 }')
echo "$shown" | grep -qx fedlane_open || say "fedlane_open is not exported"
hidden=$(echo "$shown" | grep -v '^fedlane_' | grep '^fl_' || true)
[ -z "$hidden" ] || say "names that should be hidden are exported: $hidden"
"$place/prefix/bin/fedlane" --version | grep -q "$(awk '/^Version:/ { print $2 }' "$pc")" ||
  say "the program and the library differ in version"

cat >"$place/tiny.yaml" <<'YAML'
name: tiny
data: {format: synthetic, partition: {kind: iid, clients: 4}}
model: {name: logistic}
algorithm: {name: fedavg}
train: {rounds: 2, cohort: 2, batch: 10, lr: 0.1}
output: ""
YAML
flags=(-Wall -Wextra -Werror)
[ -z "$sanitizers" ] || flags+=("-fsanitize=$sanitizers")
cd "$place"

PKG_CONFIG_PATH=$(dirname "$pc") "$compiler" "${flags[@]}" -o with_pkgconfig \
  "$source/examples/quickstart.c" -Wl,-rpath,"$lib" \
  $(PKG_CONFIG_PATH=$(dirname "$pc") pkg-config --cflags --libs fedlane)

mkdir user
cat >user/CMakeLists.txt <<'CMAKE'
cmake_minimum_required(VERSION 3.25)
project(user LANGUAGES C)
find_package(fedlane 0.1 REQUIRED)
add_executable(with_cmake quickstart.c)
target_link_libraries(with_cmake PRIVATE fedlane::fedlane)
CMAKE
cp "$source/examples/quickstart.c" user/
cmake -S user -B user/build -G Ninja -DCMAKE_C_COMPILER="$compiler" \
  -DCMAKE_C_FLAGS="${flags[*]}" -DCMAKE_PREFIX_PATH="$place/prefix" >log
cmake --build user/build >log || { cat log; say "the example does not build with find_package"; }

for program in ./with_pkgconfig user/build/with_cmake; do
  "$program" tiny.yaml train.rounds=3 >out || say "$program failed"
  [ "$(grep -c '^round . of 3: loss' out)" -eq 3 ] || { cat out; say "$program: three rounds expected"; }
  [ -s quickstart.safetensors ] || say "$program wrote no model"
  rm quickstart.safetensors
done
PKG_CONFIG_PATH=$(dirname "$pc") "$compiler" "${flags[@]}" -o client "$source/examples/client.c" \
  -Wl,-rpath,"$lib" $(PKG_CONFIG_PATH=$(dirname "$pc") pkg-config --cflags --libs fedlane) -lm
if ./client 2>error; then say "the client takes part without an address"; fi
if "./with_pkgconfig" tiny.yaml train.lr=-1 2>error; then say "a negative rate was accepted"; fi
grep -q 'lr' error || say "the message does not name lr: $(cat error)"
echo "installed, compiled and run through pkg-config and find_package"
