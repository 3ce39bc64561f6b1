# Turns a fresh debootstrap tree into a server image. $1: the tree. Runs once, as root.
set -eu
root=$1
inside() { chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/root "$@"; }

rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/usr/share/doc/* "$root"/usr/share/man/*
# Each host gets its own: shared keys or a shared machine id would make two hosts look like one.
rm -f "$root"/etc/ssh/ssh_host_* "$root"/etc/machine-id "$root"/var/lib/dbus/machine-id
# There is no name server to ask; /etc/hosts knows the fleet.
rm -f "$root"/etc/resolv.conf
: > "$root"/etc/resolv.conf

# Only what a role needs is started; nothing fetches, nothing waits for a network that is there already.
inside systemctl -q disable nginx.service haproxy.service postgresql.service e2scrub_reap.service systemd-pstore.service
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer \
  systemd-networkd.service systemd-networkd-wait-online.service systemd-resolved.service systemd-timesyncd.service \
  systemd-update-utmp.service console-getty.service getty.target; do
  ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
rm -f "$root"/etc/nginx/sites-enabled/default

for user in deploy swiper; do
  inside useradd --create-home --shell /bin/bash "$user"
done
echo 'deploy ALL=(ALL) NOPASSWD: ALL' > "$root/etc/sudoers.d/deploy"
chmod 0440 "$root/etc/sudoers.d/deploy"
echo 'PermitRootLogin prohibit-password' > "$root/etc/ssh/sshd_config.d/fleet.conf"

# The database listens to the private network only where it is started. Its cluster gets the role and
# the database now, over a unix socket, so that a fresh host has them without a first-boot step.
conf=$root/etc/postgresql/15/main
printf "listen_addresses = '*'\nfsync = off\n" > "$conf/conf.d/fleet.conf"
echo 'host swiper swiper 10.0.0.0/24 scram-sha-256' >> "$conf/pg_hba.conf"
inside su postgres -s /bin/sh -c '
  set -eu
  bin=/usr/lib/postgresql/15/bin
  $bin/pg_ctl -s -w -D /var/lib/postgresql/15/main -o "-c config_file=/etc/postgresql/15/main/postgresql.conf -c listen_addresses= -c unix_socket_directories=/tmp" start >/dev/null
  trap "$bin/pg_ctl -s -w -D /var/lib/postgresql/15/main -m fast stop" EXIT
  psql -q -h /tmp -c "CREATE ROLE swiper LOGIN PASSWORD '"'swiper'"'" -c "CREATE DATABASE swiper OWNER swiper" </dev/null
'
