#!/bin/sh
# Boots systemd as process 1 of a PID namespace, on a private copy of /etc and with an empty /run, up to
# multi-user.target and with only what the service under test needs. Its effects stay in the namespace, except for
# the modes and groups that udev gives to device nodes.
#   unshare --mount --pid --uts --fork --mount-proc --kill-child sh test/rig/systemd.sh PROJECT DIR
# DIR has `install`, the commands to run before the boot; `files`, copied over /; and `up`, a FIFO that receives a line
# once systemd is up. Needs the kernel's overlay filesystem. Inside, DIR is /mnt and PROJECT is /run/project.
set -eu
project=$1
mount --bind "$2" /mnt
mount -t tmpfs run /run
mkdir /run/etc /run/work /run/bin /run/project
mount --bind "$project" /run/project
mount -t overlay -o lowerdir=/etc,upperdir=/run/etc,workdir=/run/work etc /etc
mount --bind /run/bin /usr/local/bin

# The command as npm installs it.
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
ExecStart=udevadm trigger --action=add --subsystem-match=drm --subsystem-match=misc --subsystem-match=input
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
