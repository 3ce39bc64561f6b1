package balance

// The commands that need root on a HAProxy host, as in scripts.go.

// haproxyLiveScript lets HAProxy test what it would load now.
const haproxyLiveScript = `for s; do shift; set -- "$@" -f "$s"; done
cd / && exec haproxy -c "$@" 2>&1`

// haproxyTryScript lets HAProxy test the staged file in the place of the live one, with the others that it
// reads; 96 when it refuses.
const haproxyTryScript = `file=$1 n=0; shift
new=${file%/*}/.${file##*/}.godeploy-new
t=$(mktemp -d) || exit
trap 'rm -rf -- "$t"' EXIT
for s; do
  shift
  if [ "$s" = "$file" ]; then
    s=$new
  elif [ -d "$s" ]; then
    n=$((n + 1)) && mkdir -- "$t/$n" || exit
    for c in "$s"/*.cfg; do if [ -e "$c" ]; then ln -s -- "$c" "$t/$n/" || exit; fi; done
    if [ "${s%/}" = "${file%/*}" ]; then ln -sf -- "$new" "$t/$n/${file##*/}" || exit; fi
    s=$t/$n
  fi
  set -- "$@" -f "$s"
done
cd / && haproxy -c "$@" 2>&1 || exit 96`

// haproxySocketScript sends its input to a socket and prints what comes; 45 when nothing there can do it. Perl
// is a part of every Debian.
const haproxySocketScript = `if command -v perl >/dev/null 2>&1; then
  exec perl -MIO::Socket::UNIX -e 'alarm 20; $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die "connect: $!\n";
    local $/; print $s scalar <STDIN>; $s->flush; shutdown $s, 1; print while <$s>' "$1"
elif command -v python3 >/dev/null 2>&1; then
  exec python3 -c 'import shutil, socket, sys
s = socket.socket(socket.AF_UNIX); s.settimeout(20); s.connect(sys.argv[1]); s.sendall(sys.stdin.buffer.read()); s.shutdown(1)
shutil.copyfileobj(s.makefile("rb"), sys.stdout.buffer)' "$1"
fi
exit 45`

// haproxyLogScript gives what HAProxy said last of a reload that failed.
const haproxyLogScript = `journalctl -q -n 50 -o cat _COMM=haproxy 2>/dev/null | grep -a '\[ALERT\]' | tail -n 3
exit 0`
