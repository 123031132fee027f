# Sourced by scripts/run and scripts/test: installs packages, builds, and keeps both quiet.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# Without AVX-512 gcc keeps vectors of 16 floats in memory: what clang makes trains 7 times faster, or more.
# Presets that name a compiler keep it.
more=()
if ! grep -qs avx512f /proc/cpuinfo; then
  more=(plain)
  export CC=${CC:-clang}
fi

# The packages of the given groups of scripts/packages.
packages() {
  awk -v groups=" $* " '!/^#/ && NF == 2 && index(groups, " " $1 " ") { print $2 }' "$root/scripts/packages"
}

missing() {
  local name
  for name in $(packages "$@"); do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || echo "$name"
  done
}

is_debian_12() {
  (. /etc/os-release 2>/dev/null && [ "${ID:-}" = debian ] && [ "${VERSION_ID:-}" = 12 ])
}

# Says what a system other than Debian 12 needs, and stops.
refuse() {
  echo "fedlane: this script installs packages on Debian 12 only; install what corresponds to" \
    "$(packages "$@" "${more[@]}" | paste -sd ' ') and run it again." >&2
  exit 1
}

# quietly LOG COMMAND...: output goes to LOG, which is shown if the command fails.
quietly() {
  local log=$1
  shift
  mkdir -p "$(dirname "$log")"
  "$@" >"$log" 2>&1 </dev/null && return
  tail -n 60 "$log" >&2
  echo "fedlane: failed: $* (all of its output: $log)" >&2
  return 1
}

# install_packages GROUP...: what is missing of these groups. On other systems it leaves everything to the
# build, which finds out what is there.
install_packages() {
  local lack sudo=()
  is_debian_12 || return 0
  lack=$(missing "$@" "${more[@]}")
  [ -n "$lack" ] || return 0
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || {
      echo "fedlane: as root, run: apt-get install" $lack >&2
      exit 1
    }
    sudo=(sudo)
  fi
  echo "fedlane: installing Debian packages:" $lack
  [ ${#sudo[@]} -eq 0 ] || sudo true
  local apt=("${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y)
  quietly "$root/build/apt.log" "${apt[@]}" update
  quietly "$root/build/apt.log" "${apt[@]}" install --no-install-recommends $lack
}

# configure PRESET GROUP...: once for a build folder; ninja repeats it when CMake files change.
configure() {
  local preset=$1
  shift
  [ ! -f "$root/build/$preset/build.ninja" ] || return 0
  if ! is_debian_12 && ! { command -v cmake && command -v ninja; } >/dev/null; then refuse "$@"; fi
  quietly "$root/build/$preset.log" cmake -S "$root" --preset "$preset" || {
    rm -f "$root/build/$preset/CMakeCache.txt"
    is_debian_12 || refuse "$@"
    return 1
  }
}

# build PRESET [TARGET...]
build() {
  local preset=$1
  shift
  quietly "$root/build/$preset.log" ninja --quiet -C "$root/build/$preset" "$@"
}
