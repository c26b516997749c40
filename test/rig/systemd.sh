#!/bin/sh
# Boots systemd as the first process of a PID namespace, on a private copy of /etc and with an empty /run, up to
# multi-user.target and no more than the service under test needs. What it does stays in its namespace, but for the
# modes and groups udev gives to device nodes.
#   unshare --mount --pid --uts --fork --mount-proc --kill-child sh test/rig/systemd.sh PROJECT DIR
# In DIR: `install`, the commands to run before the boot; `files`, copied over /; `up`, a FIFO that says when it is up.
# Needs the kernel's overlay filesystem. Inside, DIR is /mnt, and /run/project is the project whatever leads to it.
set -eu
project=$1
mount --bind "$2" /mnt
mount -t tmpfs run /run
mkdir /run/etc /run/work /run/bin /run/project
mount --bind "$project" /run/project
mount -t overlay -o lowerdir=/etc,upperdir=/run/etc,workdir=/run/work etc /etc
mount --bind /run/bin /usr/local/bin

# As npm installs it.
printf '#!/bin/sh\nexec node /run/project/dist/src/cli/main.js "$@"\n' >/run/bin/scanout
chmod +x /run/bin/scanout

rm -rf /etc/systemd/system/*
cp -r /mnt/files/. /
units=/etc/systemd/system
mkdir -p "$units/multi-user.target.wants"
for unit in /lib/systemd/system/sysinit.target.wants/* /lib/systemd/system/multi-user.target.wants/*; do
  case ${unit##*/} in
    systemd-journald.service | systemd-udevd.service) ;;
    *) ln -sf /dev/null "$units/${unit##*/}" ;;
  esac
done
cat >"$units/devices.service" <<END
[Unit]
DefaultDependencies=no
After=systemd-udevd.service
[Service]
Type=oneshot
ExecStart=udevadm trigger --action=add --subsystem-match=drm --subsystem-match=misc
END
cat >"$units/up.service" <<END
[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=sh -c 'echo up >/mnt/up'
END
ln -s ../devices.service ../up.service "$units/multi-user.target.wants/"
sh -eu /mnt/install
exec /lib/systemd/systemd --system --unit=multi-user.target --show-status=no --log-level=notice
