#!/bin/sh
# Installs what test/host and test/kernel need: QEMU with its C vhost-user-gpu, a Debian kernel to boot in it with
# a vkms.ko built for it (Debian leaves that one out), and small tools.
# Does nothing, quickly, when all is there. Without root or apt it says what is missing: no failure for a
# developer, a failure under CI=true. The kernel is only unpacked into the cache; /boot stays as it is.
set -eu

packages='busybox-static kmod xz-utils libdrm-tests edid-decode linux-libc-dev libdrm-dev gcc libc6-dev make libelf-dev libpixman-1-0 strace'
qemu_packages='qemu-system-x86 qemu-system-gui'
qemu_oldest=9    # virtio-gpu and vhost-user-gpu as the tests expect them
kernel_oldest=6.12
cache=${XDG_CACHE_HOME:-$HOME/.cache}/scanout-bridge

say() { echo "rig: $*"; }
give_up() {
  say "missing: $*"
  say 'tests that need it will be skipped'
  [ "${CI:-}" = true ] && exit 1
  exit 0
}
installed_version() { dpkg-query -W -f '${db:Status-Abbrev}${Version}\n' "$1" 2>/dev/null | sed -n 's/^ii *//p'; }
new_enough() { dpkg --compare-versions "${1#*:}" ge "$2"; }
candidate() { apt-cache policy "$1" | sed -n 's/^ *Candidate: //p' | sed 's/(none)//'; }
# The newest version of package $1 that suite $2 has.
version_in() { apt-cache madison "$1" | awk -v suite="$2/" 'index($6, suite) == 1 && !done { print $3; done = 1 }'; }

missing=
for p in $packages; do [ -n "$(installed_version "$p" || true)" ] || missing="$missing $p"; done
need_qemu=
for p in $qemu_packages; do
  v=$(installed_version "$p" || true)
  { [ -n "$v" ] && new_enough "$v" "$qemu_oldest"; } || need_qemu=$qemu_packages
done
need_kernel=
[ -e "$cache/linux/complete" ] || need_kernel=linux-image
need_vkms=
[ -n "$(find "$cache/linux/lib/modules/" -name vkms.ko 2>/dev/null)" ] || need_vkms='linux-headers linux-source'

[ -n "$missing$need_qemu$need_kernel$need_vkms" ] || exit 0
command -v apt-get >/dev/null && [ "$(dpkg --print-architecture)" = amd64 ] || give_up "$missing $need_qemu $need_kernel $need_vkms (an amd64 Debian with apt)"
[ "$(id -u)" = 0 ] || give_up "$missing $need_qemu $need_kernel $need_vkms (run sh test/rig/install.sh as root)"

export DEBIAN_FRONTEND=noninteractive
install() { say "installing $*"; apt-get install -y -qq --no-install-recommends "$@" >"$cache/apt.log" 2>&1 || { cat "$cache/apt.log"; give_up "$*"; }; }

# Writes the backports suite as this machine's own sources describe their main suite.
add_backports() {
  codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
  suite=$codename-backports
  [ -n "$codename" ] || return 0
  if apt-cache policy | grep -q "n=$suite,"; then return 0; fi
  dir=/etc/apt/sources.list.d
  for file in "$dir"/*.sources; do
    [ -e "$file" ] || continue
    awk -v RS= -v codename="$codename" -v suite="$suite" '
      /(^|\n)Types:[^\n]*deb( |\n|$)/ && $0 ~ "(^|\n)Suites:([^\n]* )?" codename "( |\n|$)" && !done {
        sub(/(^|\n)Suites:[^\n]*/, "\nSuites: " suite); print; done = 1
      }' "$file" | sed '/^$/d;/^#/d' >"$cache/backports"
    if [ -s "$cache/backports" ]; then cp "$cache/backports" "$dir/scanout-bridge-backports.sources"; return 0; fi
  done
  for file in /etc/apt/sources.list "$dir"/*.list; do
    [ -e "$file" ] || continue
    sed -n "s/^\(deb \(\[[^]]*] *\)\{0,1\}[^ ]* *\)$codename /\1$suite /p" "$file" | head -n 1 >"$cache/backports"
    if [ -s "$cache/backports" ]; then cp "$cache/backports" "$dir/scanout-bridge-backports.list"; return 0; fi
  done
}

mkdir -p "$cache"
say 'reading the package lists'
apt-get update -qq
# shellcheck disable=SC2086
[ -z "$missing" ] || install $missing

# A suite keeps the headers of its newest kernel only.
if [ -n "$need_vkms" ] && [ -z "$need_kernel" ] && [ -z "$(candidate "linux-headers-$(ls "$cache/linux/lib/modules")")" ]; then need_kernel=linux-image; fi

suite=
if { [ -n "$need_qemu" ] && ! new_enough "$(candidate qemu-system-x86)" "$qemu_oldest"; } ||
   { [ -n "$need_kernel" ] && ! new_enough "$(candidate linux-image-amd64)" "$kernel_oldest"; }; then
  add_backports
  apt-get update -qq
fi

if [ -n "$need_qemu" ]; then
  v=$(candidate qemu-system-x86)
  new_enough "$v" "$qemu_oldest" || v=$(version_in qemu-system-x86 "${suite:-backports}")
  { [ -n "$v" ] && new_enough "$v" "$qemu_oldest"; } || give_up "qemu-system-x86 >= $qemu_oldest"
  # The whole of QEMU from one suite: its packages depend on one another's exact version.
  # shellcheck disable=SC2086
  if [ -n "$suite" ]; then install -t "$suite" $qemu_packages; else install $qemu_packages; fi
fi

# apt drops its privileges to _apt for downloads, which may not write into the cache.
download() { apt-get -o APT::Sandbox::User=root -qq download "$@" || give_up "$*"; }
# The package of dependency $3* that package $1 of version $2 names, as NAME=VERSION where it says a version.
dependency() { apt-cache show "$1=$2" | sed -n "s/^Depends:.*\($3[^ ,]*\)\( (= \([^)]*\))\)\{0,1\}.*/\1=\3/p" | head -n 1 | sed 's/=$//'; }

work=$(mktemp -d "$cache/unpack.XXXXXX")
trap 'rm -rf "$work"' EXIT

if [ -n "$need_kernel" ]; then
  v=$(candidate linux-image-amd64)
  new_enough "$v" "$kernel_oldest" || v=$(version_in linux-image-amd64 "${suite:-backports}")
  { [ -n "$v" ] && new_enough "$v" "$kernel_oldest"; } || give_up "linux-image-amd64 >= $kernel_oldest"
  image=$(dependency linux-image-amd64 "$v" linux-image-)
  say "unpacking $image into $cache"
  (cd "$work" && download "$image")
  mkdir "$work/linux"
  dpkg-deb -x "$work"/*.deb "$work/linux"
  # Debian of late keeps modules in /usr/lib.
  [ -e "$work/linux/lib" ] || ln -s usr/lib "$work/linux/lib"
  depmod -b "$work/linux" "$(ls "$work/linux/lib/modules")"
  touch "$work/linux/complete"
  rm -rf "$cache/linux" "$cache/backports"
  mv "$work/linux" "$cache/linux"
  need_vkms='linux-headers linux-source'
fi

if [ -n "$need_vkms" ]; then
  release=$(ls "$cache/linux/lib/modules")
  headers=linux-headers-$release
  v=$(candidate "$headers")
  [ -n "$v" ] || give_up "$headers"
  source=linux-source-$(echo "$release" | cut -d. -f1,2)
  say "building vkms for $release"
  mkdir "$work/build" && cd "$work/build"
  download "$headers=$v" "$(dependency "$headers" "$v" linux-headers-)" "$(dependency "$headers" "$v" linux-kbuild-)" "$source=$v"
  for deb in linux-headers-*.deb linux-kbuild-*.deb; do dpkg-deb -x "$deb" .; done
  # The headers expect their common part at its installed place.
  sed -i "s, /usr/src/, $PWD/usr/src/," "usr/src/$headers/Makefile"
  dpkg-deb --fsys-tarfile "$source"_*.deb | tar -xO --wildcards '*/linux-source-*.tar.xz' | xz -dc -T0 | tar -x --strip-components=1 --wildcards '*/drivers/gpu/drm/vkms/*'
  make -s -C "usr/src/$headers" M="$PWD/drivers/gpu/drm/vkms" CONFIG_DRM_VKMS=m CONFIG_DEBUG_INFO_BTF_MODULES= modules >"$cache/vkms.log" 2>&1 || { cat "$cache/vkms.log"; give_up 'vkms'; }
  mkdir -p "$cache/linux/lib/modules/$release/extra"
  cp drivers/gpu/drm/vkms/vkms.ko "$cache/linux/lib/modules/$release/extra"
  depmod -b "$cache/linux" "$release"
fi
say 'ready'
