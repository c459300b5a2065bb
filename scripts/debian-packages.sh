#!/usr/bin/env bash
# Install the Debian packages that some tests compare with; those tests skip by name without them.
#
#   gdal-bin      ogrinfo reads the GeoPackages
#   python3-qgis  QGIS opens them with their styles (Debian's own interpreter, headless)
#
# Installs only what is missing, so a second run takes no time. Needs root and apt-get; without them, or
# without a network, it says what is missing and succeeds.
set -eu

packages=(gdal-bin python3-qgis)

missing=()
for package in "${packages[@]}"; do
  status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$status" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

give_up() {
  echo "debian packages: ${missing[*]} not installed ($1); the tests that need them are skipped" >&2
  exit 0
}

command -v apt-get >/dev/null || give_up "no apt-get here"
[ "$(id -u)" -eq 0 ] || give_up "not root; as root: apt-get install ${missing[*]}"

echo "debian packages: installing ${missing[*]} (about two minutes)" >&2
export DEBIAN_FRONTEND=noninteractive
options=(-qq -o Acquire::Retries=2 -o Acquire::http::Timeout=30 -o DPkg::Lock::Timeout=300)
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { apt-get "${options[@]}" update &&
  apt-get "${options[@]}" install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 </dev/null; then
  tail -n 5 "$log" >&2
  give_up "apt-get failed, see above"
fi
