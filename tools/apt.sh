#!/bin/sh
# Installs the Debian packages that the tests need and this machine lacks. $1 = "only-say": name them.
set -eu
missing=
for pair in debootstrap:debootstrap systemd-nspawn:systemd-container ip:iproute2 nsenter:util-linux ssh:openssh-client \
  /usr/sbin/sshd:openssh-server rsync:rsync git:git zstd:zstd xz:xz-utils gcc:gcc /usr/sbin/nginx:nginx-light /usr/sbin/haproxy:haproxy ab:apache2-utils \
  /usr/bin/gunicorn:gunicorn uwsgi:uwsgi-core curl:curl busybox:busybox bsdtar:libarchive-tools \
  /usr/sbin/visudo:sudo groff:groff-base bash:bash openssl:openssl chattr:e2fsprogs strace:strace \
  /usr/sbin/dropbear:dropbear-bin /usr/sbin/tinysshd:tinysshd; do
  command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair##*:}"
done
[ -f /usr/include/stdlib.h ] || missing="$missing libc6-dev"
[ -e /usr/lib/uwsgi/plugins/python3_plugin.so ] || missing="$missing uwsgi-plugin-python3"
[ -d /usr/lib/python3/dist-packages/django ] || missing="$missing python3-django"
[ -e /etc/services ] || missing="$missing netbase"
[ -e /etc/ssl/certs/ca-certificates.crt ] || missing="$missing ca-certificates"
[ -n "$missing" ] || exit 0
echo "missing packages:$missing"
[ "${1:-}" = only-say ] && exit 0
export DEBIAN_FRONTEND=noninteractive
# A server that the tests start themselves must not also be started by its package.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
  trap 'rm -f $policy' EXIT
  printf '#!/bin/sh\nexit 101\n' > $policy
  chmod +x $policy
fi
apt-get update -qq
# shellcheck disable=SC2086 — one word per package
apt-get install -y -qq --no-install-recommends $missing >/dev/null
