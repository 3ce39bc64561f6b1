package overssh

import (
	"strings"
	"time"
)

// tools is what a host without the helper has to work with. The zero value is a host that runs nothing:
// an account for files alone.
type tools struct {
	shell bool     // commands run at all
	tar   string   // "gnu", "bsd", "busybox" or ""
	unzip []string // the program that undoes the compression, zstd or gzip; nil: neither is there
	sum   []string // the program that hashes files; nil: none
	find  bool     // find knows -printf
	cp    bool     // cp and rm are there
}

// toolProbe says in one line which programs are there. busybox's tar of old knows no --version, but names
// itself when it complains.
const toolProbe = `t=tools:
case $(tar --version 2>&1 </dev/null) in *"GNU tar"*) t="$t tar=gnu";; *bsdtar*) t="$t tar=bsd";; *usy[Bb]ox*) t="$t tar=busybox";; esac
for c in zstd gzip sha256sum shasum openssl xargs cp rm; do command -v $c >/dev/null 2>&1 && t="$t $c"; done
[ "$(find / -maxdepth 0 -printf x 2>/dev/null)" = x ] && t="$t find"
echo "$t"`

// parseTools reads the line that toolProbe says; a word it does not know is passed over.
func parseTools(line string) (tools, bool) {
	list, ok := strings.CutPrefix(line, "tools:")
	if !ok {
		return tools{}, false
	}
	has := map[string]bool{}
	t := tools{shell: true}
	for _, word := range strings.Fields(list) {
		has[word] = true
		if kind, ok := strings.CutPrefix(word, "tar="); ok {
			t.tar = kind
		}
	}
	switch {
	case has["zstd"]:
		t.unzip = []string{"zstd", "-dcq"}
	case has["gzip"]:
		t.unzip = []string{"gzip", "-dc"}
	}
	switch {
	case !has["xargs"]:
	case has["sha256sum"]:
		t.sum = []string{"sha256sum"}
	case has["shasum"]:
		t.sum = []string{"shasum", "-a", "256"}
	case has["openssl"]:
		t.sum = []string{"openssl", "dgst", "-sha256", "-r"}
	}
	t.find = has["find"]
	t.cp = has["cp"] && has["rm"]
	return t, true
}

// extract is the command line that unpacks in the current folder. Owners are never taken from the
// archive, permission bits always.
func (t tools) extract() []string {
	switch t.tar {
	case "gnu":
		// An old or a future time is nothing to warn of. Absolute names there are none; without the word
		// links that lead up or out are made last, after the folders' times are set.
		return []string{"tar", "--extract", "--file=-", "--same-permissions", "--no-same-owner", "--absolute-names", "--warning=no-timestamp"}
	case "bsd", "busybox":
		return []string{"tar", "-xpof", "-"}
	}
	return nil
}

// closes reports whether tar gives a folder that is named twice what the second entry says, when all else
// is done. busybox makes some links after that, and bsdtar takes whichever of the two it likes.
func (t tools) closes() bool { return t.tar == "gnu" }

// nanos reports whether tar sets this time finer than to the second. bsdtar takes the fraction of a
// time before 1970 for one after the second.
func (t tools) nanos(when time.Time) bool {
	return when.Nanosecond() != 0 && (t.tar == "gnu" || t.tar == "bsd" && when.Unix() >= 0)
}
