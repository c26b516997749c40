#!/bin/sh
# Installs what test/host and test/kernel need: QEMU with its C vhost-user-gpu, a Debian kernel to boot in it with
# vkms and sample mediated devices built for it (Debian leaves them out), a newer QEMU on its own libraries for blobs,
# Mesa's GBM, a seat daemon, a Wayland compositor, and small tools.
# Does nothing, quickly, if everything is installed. Without root or apt it prints what is missing; that is a
# failure only under CI=true. Kernel and newer QEMU are only unpacked into the cache; /boot is not changed.
set -eu

packages='busybox-static kmod xz-utils libdrm-tests edid-decode linux-libc-dev libdrm-dev gcc libc6-dev make libelf-dev libpixman-1-0 libpixman-1-dev
  libpangocairo-1.0-0 fonts-dejavu-core mutter dbus-daemon python3-gi libsystemd0 memtest86+ grub-common grub-pc-bin grub-efi-amd64-bin ovmf strace
  kbd console-setup-linux tesseract-ocr seatd libseat1 libseat-dev systemd udev libudev1 libudev-dev libinput10 libinput-dev mmdebstrap wayland-utils evtest libinput-tools
  libvirt-daemon libvirt-daemon-driver-qemu libvirt-clients sway grim imagemagick chromium ffmpeg syslinux mtools python3-yaml groff-base zsh fish
  libspice-protocol-dev spice-vdagent wl-clipboard xclip xvfb xserver-xorg-core x11proto-dev gvncviewer tigervnc-viewer libvncserver-dev xdotool tmux'
# Each of these lists is installed from one suite, because its first package needs exact versions of others.
qemu_packages='qemu-system-gui qemu-system-x86 qemu-utils'
qemu_oldest=9    # virtio-gpu and vhost-user-gpu as the tests expect them
mesa_packages='libgbm-dev libgbm1 libgl1-mesa-dri libegl1'
mesa_oldest=24   # imports and shows udmabufs without a GPU
wayland_packages='wayland-protocols libwayland-dev weston'
wayland_oldest=1.43    # describes every protocol our bindings are generated from
kernel_oldest=6.12
newer_suite=trixie-backports    # its QEMU (11.1) has the generic vhost-user front end, the only one that supports blobs; its D-Bus display is tested too
cache=${XDG_CACHE_HOME:-$HOME/.cache}/scanout-bridge

say() { echo "rig: $*"; }
give_up() {
  say "missing: $*"
  say 'tests that need it will be skipped'
  [ "${CI:-}" = true ] && exit 1
  exit 0
}
installed=$(dpkg-query -W -f '${db:Status-Abbrev}${Package} ${Version}\n' 2>/dev/null | sed -n 's/^ii *//p')
installed_version() { echo "$installed" | sed -n "s/^$1 //p" | head -n 1; }
new_enough() { dpkg --compare-versions "${1#*:}" ge "$2"; }
candidate() { apt-cache policy "$1" | sed -n 's/^ *Candidate: //p' | sed 's/(none)//'; }
# The newest version of package $1 that suite $2 has.
version_in() { apt-cache madison "$1" | awk -v suite="$2/" 'index($6, suite) == 1 && !done { print $3; done = 1 }'; }
# Prints packages $2* if one of them is missing, or the first, whose version stands for all, is older than $1.
lacking() {
  oldest=$1 && shift
  for p in "$@"; do [ -n "$(installed_version "$p")" ] || { echo "$*"; return; }; done
  new_enough "$(installed_version "$1")" "$oldest" || echo "$*"
}

missing=
for p in $packages; do [ -n "$(installed_version "$p")" ] || missing="$missing $p"; done
# shellcheck disable=SC2086
need_qemu=$(lacking "$qemu_oldest" $qemu_packages)
# shellcheck disable=SC2086
need_mesa=$(lacking "$mesa_oldest" $mesa_packages)
# shellcheck disable=SC2086
need_wayland=$(lacking "$wayland_oldest" $wayland_packages)
need_kernel=
[ -e "$cache/linux/complete" ] || need_kernel=linux-image
need_vkms=
for file in vkms.ko vkms-cancels mbochs.ko mdpy.ko mtty.ko; do
  [ -n "$(find "$cache/linux/lib/modules/" -name $file 2>/dev/null)" ] || need_vkms='linux-headers linux-source'
done
need_newer_qemu=
[ -e "$cache/qemu/usr/lib/x86_64-linux-gnu/qemu/ui-dbus.so" ] || need_newer_qemu="QEMU of $newer_suite"

need_tinycv=
[ -e "$cache/tinycv" ] || need_tinycv='tinycv of os-autoinst'

needed=$missing${need_qemu:+ $need_qemu}${need_mesa:+ $need_mesa}${need_wayland:+ $need_wayland}${need_kernel:+ $need_kernel}${need_vkms:+ $need_vkms}${need_newer_qemu:+ $need_newer_qemu}${need_tinycv:+ $need_tinycv}
[ -n "$needed" ] || exit 0
command -v apt-get >/dev/null && [ "$(dpkg --print-architecture)" = amd64 ] || give_up "$needed (an amd64 Debian with apt)"
[ "$(id -u)" = 0 ] || give_up "$needed (run sh test/rig/install.sh as root)"

export DEBIAN_FRONTEND=noninteractive
install() { say "installing $*"; apt-get install -y -qq --no-install-recommends "$@" >"$cache/apt.log" 2>&1 || { cat "$cache/apt.log"; give_up "$*"; }; }

# Prints apt's description of suites $*, as this machine's own sources describe its main suite.
source_of() {
  dir=/etc/apt/sources.list.d
  for file in "$dir"/*.sources; do
    [ -e "$file" ] || continue
    found=$(awk -v RS= -v codename="$codename" -v suites="$*" '
      /(^|\n)Types:[^\n]*deb( |\n|$)/ && /(^|\n)Components:([^\n]* )?main( |\n|$)/ && $0 ~ "(^|\n)Suites:([^\n]* )?" codename "( |\n|$)" && !done {
        sub(/(^|\n)Suites:[^\n]*/, "\nSuites: " suites); print; done = 1
      }' "$file" | sed '/^$/d;/^#/d')
    if [ -n "$found" ]; then echo "$found"; return; fi
  done
  for file in /etc/apt/sources.list "$dir"/*.list; do
    [ -e "$file" ] || continue
    line=$(sed -n "/^deb \(\[[^]]*] *\)\{0,1\}[^ ]* *$codename \(.* \)\{0,1\}main\( \|$\)/p" "$file" | head -n 1)
    if [ -n "$line" ]; then
      for s in "$@"; do echo "$line" | sed "s/ $codename / $s /"; done
      return
    fi
  done
  give_up "a line for $codename main in apt's sources" >&2
}

# Adds the backports of this machine's suite to apt's sources.
add_backports() {
  if apt-cache policy | grep -q "n=$backports,"; then return 0; fi
  source_of "$backports" >"$work/backports"
  file=/etc/apt/sources.list.d/scanout-bridge-backports
  if grep -q '^deb ' "$work/backports"; then cp "$work/backports" $file.list; else cp "$work/backports" $file.sources; fi
  apt-get update -qq
}

# Installs packages $2*, from the backports where the first is older than $1 otherwise.
install_new() {
  oldest=$1 && shift
  if new_enough "$(candidate "$1")" "$oldest"; then install "$@"; return; fi
  add_backports
  new_enough "$(version_in "$1" "$backports")" "$oldest" || give_up "$1 >= $oldest"
  install -t "$backports" "$@"
}

rig=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$cache"
work=$(mktemp -d "$cache/unpack.XXXXXX")
trap 'rm -rf "$work"' EXIT
codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-sid}")
backports=$codename-backports
say 'reading the package lists'
apt-get update -qq

# These need the exact version of libudev1, whichever suite it came from.
udev=$(installed_version libudev1)
with_versions=
for p in $missing; do
  case $p in libudev-dev | udev | systemd) apt-cache madison "$p" | grep -q " ${udev:-none} " && p=$p=$udev ;; esac
  with_versions="$with_versions $p"
done
# shellcheck disable=SC2086
[ -z "$missing" ] || install $with_versions
# shellcheck disable=SC2086
[ -z "$need_qemu" ] || install_new "$qemu_oldest" $qemu_packages
# shellcheck disable=SC2086
[ -z "$need_mesa" ] || install_new "$mesa_oldest" $mesa_packages
# shellcheck disable=SC2086
[ -z "$need_wayland" ] || install_new "$wayland_oldest" $wayland_packages

# apt drops its privileges to _apt for downloads, which may not write into the cache.
download() { apt-get -o APT::Sandbox::User=root -qq download "$@" || give_up "$*"; }
# Prints which package $3* package $1 of version $2 depends on, as NAME=VERSION if it requires a version.
dependency() { apt-cache show "$1=$2" | sed -n "s/^Depends:.*\($3[^ ,]*\)\( (= \([^)]*\))\)\{0,1\}.*/\1=\3/p" | head -n 1 | sed 's/=$//'; }

# A suite keeps the headers of its newest kernel only: without those of this kernel, unpack the newest.
if [ -n "$need_vkms" ] && [ -z "$need_kernel" ] && [ -z "$(candidate "linux-headers-$(ls "$cache/linux/lib/modules")")" ]; then need_kernel=linux-image; fi

if [ -n "$need_kernel" ]; then
  v=$(candidate linux-image-amd64)
  if ! new_enough "$v" "$kernel_oldest"; then
    add_backports
    v=$(version_in linux-image-amd64 "$backports")
    new_enough "$v" "$kernel_oldest" || give_up "linux-image-amd64 >= $kernel_oldest"
  fi
  image=$(dependency linux-image-amd64 "$v" linux-image-)
  say "unpacking $image into $cache"
  (cd "$work" && download "$image")
  mkdir "$work/linux"
  dpkg-deb -x "$work"/*.deb "$work/linux"
  # Recent Debian kernels have their modules in /usr/lib.
  [ -e "$work/linux/lib" ] || ln -s usr/lib "$work/linux/lib"
  depmod -b "$work/linux" "$(ls "$work/linux/lib/modules")"
  touch "$work/linux/complete"
  rm -rf "$cache/linux"
  mv "$work/linux" "$cache/linux"
  need_vkms='linux-headers linux-source'
fi

if [ -n "$need_vkms" ]; then
  release=$(ls "$cache/linux/lib/modules")
  headers=linux-headers-$release
  v=$(candidate "$headers")
  [ -n "$v" ] || give_up "$headers"
  source=linux-source-$(echo "$release" | cut -d. -f1,2)
  say "building vkms and vfio-mdev for $release"
  mkdir "$work/build" && cd "$work/build"
  download "$headers=$v" "$(dependency "$headers" "$v" linux-headers-)" "$(dependency "$headers" "$v" linux-kbuild-)" "$source=$v"
  for deb in linux-headers-*.deb linux-kbuild-*.deb; do dpkg-deb -x "$deb" .; done
  # The headers refer to their common part by its installed path.
  sed -i "s, /usr/src/, $PWD/usr/src/," "usr/src/$headers/Makefile"
  dpkg-deb --fsys-tarfile "$source"_*.deb | tar -xO --wildcards '*/linux-source-*.tar.xz' | xz -dc -T0 | tar -x --strip-components=1 --wildcards '*/drivers/gpu/drm/vkms/*' '*/samples/vfio-mdev/*'
  sample=CONFIG_SAMPLE_VFIO_MDEV
  sed -i -e "s,^static struct dma_buf_ops,#include \"$rig/mbochs-vmap.h\"\n&," -e 's/^\t\.mmap.*_dmabuf,/&\n\t.vmap = mbochs_vmap,\n\t.vunmap = mbochs_vunmap,/' \
    -e 's/^\texp_info\.priv.*/&\n\texp_info.flags = O_RDWR;/' samples/vfio-mdev/mbochs.c
  # vkms of this kernel waits for the end of its timer's function with a lock that the function may be waiting for, which
  # stops the machine (Linux commit 74afeb812850, "drm/vblank: Add vblank timer", tells of it). Here a timer that cannot be
  # cancelled ends itself. That a timer is late is no news on a busy machine.
  sed -i -e 's/hrtimer_cancel(/hrtimer_try_to_cancel(/' -e 's/^\thrtimer_init(/\tif (!out->vblank_hrtimer.function)\n\t&/' \
    -e 's/pr_warn("%s: vblank timer overrun/pr_debug("%s: vblank timer overrun/' \
    -e '/DRM_ERROR("vkms failure on handling vblank");/c\\t{ spin_unlock(\&output->lock); dma_fence_end_signalling(fence_cookie); return HRTIMER_NORESTART; }' \
    drivers/gpu/drm/vkms/vkms_crtc.c
  for folder in drivers/gpu/drm/vkms samples/vfio-mdev; do
    make -s -C "usr/src/$headers" M="$PWD/$folder" CONFIG_DRM_VKMS=m ${sample}_MBOCHS=m ${sample}_MDPY=m ${sample}_MTTY=m CONFIG_DEBUG_INFO_BTF_MODULES= modules >"$cache/vkms.log" 2>&1 || { cat "$cache/vkms.log"; give_up "$folder"; }
  done
  mkdir -p "$cache/linux/lib/modules/$release/extra"
  cp drivers/gpu/drm/vkms/vkms.ko samples/vfio-mdev/*.ko "$cache/linux/lib/modules/$release/extra"
  touch "$cache/linux/lib/modules/$release/extra/vkms-cancels"
  depmod -b "$cache/linux" "$release"
fi

if [ -n "$need_newer_qemu" ]; then
  say "unpacking the QEMU of $newer_suite into $cache"
  # shellcheck disable=SC2086
  source_of ${newer_suite%-backports} $newer_suite >"$work/sources"
  # The packages are only extracted, so only QEMU has to run from there.
  mmdebstrap --quiet --variant=extract --include=qemu-system-x86,qemu-system-modules-opengl --aptopt="APT::Default-Release \"$newer_suite\"" \
    --dpkgopt='path-exclude=/*' --dpkgopt='path-include=/usr/lib64/*' --dpkgopt='path-include=/usr/lib/x86_64-linux-gnu/*' --dpkgopt='path-exclude=/usr/lib/x86_64-linux-gnu/libLLVM*' \
    --dpkgopt='path-include=/usr/bin/qemu-system-x86_64' --dpkgopt='path-include=/usr/share/seabios/*' --dpkgopt='path-include=/usr/share/qemu/*.bin' \
    "${newer_suite%-backports}" "$work/qemu" "$work/sources" >"$cache/qemu.log" 2>&1 || { cat "$cache/qemu.log"; give_up "$need_newer_qemu"; }
  cat >"$work/qemu/qemu-system-x86_64" <<'EOF'
#!/bin/sh
# Runs the QEMU in this folder on the libraries in this folder.
usr=$(dirname "$0")/usr
export QEMU_MODULE_DIR="$usr/lib/x86_64-linux-gnu/qemu"
exec "$usr/lib64/ld-linux-x86-64.so.2" --library-path "$usr/lib/x86_64-linux-gnu" "$usr/bin/qemu-system-x86_64" -L "$usr/share/seabios" -L "$usr/share/qemu" "$@"
EOF
  chmod +x "$work/qemu/qemu-system-x86_64"
  "$work/qemu/qemu-system-x86_64" -device vhost-user-test-device-pci,help >/dev/null || give_up "$need_newer_qemu with vhost-user-test-device-pci"
  rm -rf "$cache/qemu"
  mv "$work/qemu" "$cache/qemu"
fi
if [ -n "$need_tinycv" ]; then
  mkdir "$work/tinycv"
  v=$(candidate os-autoinst)
  # Only a benchmark wants it: where this suite has none, the folder stays empty.
  if [ -n "$v" ]; then
    # The module and its OpenCV, without the rest of what os-autoinst depends on.
    # shellcheck disable=SC2046
    install perl $(apt-cache show "os-autoinst=$v" | sed -n 's/^Depends: //p' | grep -o 'libopencv-img[a-z]*[0-9]*[a-z0-9]*')
    cd "$work" && download "os-autoinst=$v"
    dpkg-deb -x os-autoinst_*.deb os-autoinst
    mv "$(find os-autoinst -path '*/auto/tinycv' | sed 's,/tinycv$,,')" "$work/tinycv"
  fi
  rm -rf "$cache/tinycv"
  mv "$work/tinycv" "$cache/tinycv"
fi
say 'ready'
